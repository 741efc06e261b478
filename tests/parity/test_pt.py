"""PyTorch's files against PyTorch: what it writes is read here, what is written here it reads."""

from __future__ import annotations

import argparse
import collections
import copy
import io
from pathlib import Path

import numpy as np
import pytest
import torch

import fconv as fc
from fconv.files.formats.pt.files import write_pt

WIDER = {torch.bfloat16: torch.float32, torch.complex32: torch.complex64} | {
    getattr(torch, name): torch.float32
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
}
PLAIN = [torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8,
         torch.uint8, torch.bool, torch.complex64, torch.complex128]  # fmt: skip
UNTYPED = [torch.uint16, torch.uint32, torch.uint64]  # without a storage class; zip format only
DATA = Path(__file__).parents[2].parent / "shared" / "data" / "checkpoints"


def bits(dtype, shape=(3, 5)):
    """Draw a tensor whose bits are anything that its dtype holds."""
    generator = torch.Generator().manual_seed(3)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    size = torch.empty(0, dtype=dtype).element_size()
    raw = torch.randint(0, 256, (*shape[:-1], shape[-1] * size), generator=generator, dtype=torch.uint8)
    return raw.view(dtype)


def same(found, expected):
    """Require an array to be a tensor's numbers, bit for bit, once both have a dtype of NumPy's."""
    if isinstance(expected, torch.Tensor):
        expected = expected.detach().resolve_conj().resolve_neg()
        wide = expected.to(WIDER.get(expected.dtype, expected.dtype)).contiguous().numpy()
        assert (found.dtype, found.shape) == (wide.dtype, wide.shape)
        np.testing.assert_array_equal(found, wide)
        if expected.dtype not in WIDER:
            assert found.tobytes() == wide.tobytes()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
    else:
        assert found == expected


def saved(tmp_path, held, zipped=True):
    path = tmp_path / "x.pt"
    torch.save(held, path, _use_new_zipfile_serialization=zipped)
    return fc.load(path)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", [*PLAIN, *UNTYPED, *WIDER], ids=str)
def test_every_dtype_of_the_zip_format(tmp_path, dtype):
    x = bits(dtype)
    same(saved(tmp_path, x), x)
    same(saved(tmp_path, {"t": x.t(), "row": x[1], "none": x[:0]}), {"t": x.t(), "row": x[1], "none": x[:0]})


@pytest.mark.parametrize("dtype", [*PLAIN, torch.bfloat16], ids=str)
def test_every_dtype_of_the_older_format(tmp_path, dtype):
    x = bits(dtype)
    same(saved(tmp_path, {"x": x, "t": x.t()}, zipped=False), {"x": x, "t": x.t()})


@pytest.mark.parametrize("dtype", [*PLAIN, *UNTYPED], ids=str)
def test_every_dtype_written_here_is_read_there(tmp_path, dtype):
    x = bits(dtype)
    path = tmp_path / "x.pt"
    write_pt(path, {"x": x.numpy(), "t": x.t().numpy(), "none": x[:0].numpy(), "one": x[0, 0].numpy()})
    for mmap in (False, True):
        found = torch.load(path, weights_only=True, mmap=mmap)
        for name, expected in {"x": x, "t": x.t(), "none": x[:0], "one": x[0, 0]}.items():
            assert found[name].dtype == dtype
            assert found[name].contiguous().numpy().tobytes() == expected.contiguous().numpy().tobytes()
        assert found["x"].untyped_storage().data_ptr() == found["t"].untyped_storage().data_ptr()


@pytest.mark.parametrize("zipped", [True, False])
def test_containers_views_and_parameters(tmp_path, zipped):
    base = torch.arange(24.0).reshape(4, 6)
    held = {
        "base": base, "view": base[1:3, ::2], "turned": base.t(), "expanded": torch.ones(3, 1).expand(3, 5),
        "number": torch.tensor(3.0), "parameter": torch.nn.Parameter(torch.randn(3)),
        "frozen": torch.nn.Parameter(torch.randn(3), requires_grad=False),
        "ordered": collections.OrderedDict(a=1, b=[1, 2, (3, "x", None, True, 2.5)]),
        "size": torch.Size([1, 2]), "set": {1, 2}, "big": 2**70, 0: {1: torch.ones(2)}, "bytes": b"abc",
        "conjugated": torch.randn(3, dtype=torch.complex64).conj(),
        "negated": torch.randn(3, dtype=torch.complex64).conj().imag,
        "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "counter": collections.Counter("aab"),
    }  # fmt: skip
    found = saved(tmp_path, held, zipped)
    same(found, held)
    assert np.shares_memory(found["base"], found["view"])
    assert found["last"].strides == tuple(4 * s for s in held["last"].stride())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("attribute", [False, True])
def test_a_parameter_with_attributes(tmp_path, zipped, attribute):
    p = torch.nn.Parameter(torch.randn(3))
    if attribute:
        p.note = "x"
    same(saved(tmp_path, p, zipped), p)


def trained(optimizer):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.LazyLinear(2)
    )
    module(torch.randn(2, 3, 6, 6))
    opt = optimizer(module.parameters())
    for _ in range(2):
        module(torch.randn(2, 3, 6, 6)).sum().backward()
        opt.step()
    return module, opt


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.AdamW(p, 0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_checkpoint_goes_through_and_back(tmp_path, name, zipped):
    module, opt = trained(OPTIMIZERS[name])
    held = {"state_dict": module.state_dict(), "optimizer": opt.state_dict(), "epoch": 3}
    found = saved(tmp_path, held, zipped)
    same(found, held)
    fc.save(tmp_path / "back.pth", found)
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back["epoch"] == 3
    again, other = trained(OPTIMIZERS[name])
    again.load_state_dict(back["state_dict"])
    other.load_state_dict(back["optimizer"])
    for a, b in zip(again.state_dict().values(), module.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    x = torch.randn(2, 3, 6, 6)
    for m, o in ((module, opt), (again, other)):
        o.zero_grad()
        m(x).sum().backward()
        o.step()
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), module.parameters(), strict=True))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path, protocol, zipped):
    held = {"x": torch.eye(2), "bytes": b"", "more": b"abc", "array": bytearray(b"x"), "sets": {1},
            "z": 1 - 2j,
            "one": torch.tensor(1 + 2j).conj(), 3: None}  # fmt: skip
    torch.save(held, tmp_path / "x.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    same(fc.load(tmp_path / "x.pt"), held)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("zipped", [True, False])
def test_storages_by_themselves(tmp_path, zipped):
    x = torch.arange(6.0)
    same(saved(tmp_path, x.storage(), zipped), x)


def test_a_big_endian_file(tmp_path):
    import zipfile

    x = np.arange(6, dtype=np.float32)
    buffer = io.BytesIO()
    torch.save({"x": torch.from_numpy(x)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / "x.pt", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("/byteorder"):
                data = b"big"
            elif "/data/" in name:
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            new.writestr(name, data)
    same(torch.load(tmp_path / "x.pt", weights_only=True)["x"].numpy(), torch.from_numpy(x))
    same(fc.load(tmp_path / "x.pt")["x"], torch.from_numpy(x))


def test_a_file_without_checksums(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(3.0)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    for mmap in (True, False):
        same(fc.load(tmp_path / "x.pt", mmap=mmap)["a"], torch.arange(3.0))


def test_our_params_load_into_a_module(tmp_path):
    net = fc.compose(fc.conv2d(4, 3), fc.batch_norm(), fc.relu(), fc.flatten(), fc.linear(2))
    params = net.init(fc.random.key(0), (2, 3, 6, 6))
    fc.save(tmp_path / "net.pt", params, metadata={"note": "x"})
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 2),
    )
    module.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    for name, value in fc.to_state_dict(params).items():
        assert module.state_dict()[name].numpy().tobytes() == value.tobytes()


def test_data_parallel_names(tmp_path):
    module = torch.nn.DataParallel(torch.nn.Linear(2, 3))
    torch.save({"state_dict": module.state_dict(), "epoch": 1}, tmp_path / "x.pt")
    found = fc.rename(fc.find_state_dict(fc.load(tmp_path / "x.pt")), {"module.": ""})
    same(found, module.module.state_dict())


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (lambda: torch.nn.Linear(1, 1), "it asks for 'torch.nn.modules.linear.Linear'"),
        (lambda: torch.eye(2).to_sparse(), "it asks for 'torch._utils._rebuild_sparse_tensor'"),
        (lambda: {"f": copy.copy}, "it asks for 'copy.copy'"),
        (lambda: {"x": np.float64(1.0)}, r"it asks for 'numpy\._?core\.multiarray\.scalar'"),
        (lambda: {"x": torch.empty(2, device="meta")}, "it asks for 'torch._utils._rebuild_meta_tensor"),
    ],
    ids=["module", "sparse", "function", "numpy", "meta"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_weights_only_refuses_is_refused(tmp_path, held, text, zipped):
    torch.save(held(), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=text):
        fc.load(tmp_path / "x.pt", strict=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
def test_the_weights_come_out_whatever_stands_beside_them(tmp_path, zipped):
    """As training scripts save: the module and optimizer themselves, and tensors of other kinds."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    opt = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 1, 5, 5)).sum().backward()
    opt.step()
    beside = {
        "module": net, "optimizer": opt, "schedule": torch.optim.lr_scheduler.StepLR(opt, 2),
        "sparse": torch.eye(2).to_sparse(), "meta": torch.empty(2, device="meta"), "function": copy.copy,
        "random": np.random.default_rng(0), "generator": torch.get_rng_state(),
        "old random": np.random.get_state(),  # noqa: NPY002 - as training scripts save it
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu")), "loss": np.float32(0.5),
    }  # fmt: skip
    if zipped:
        beside["quantized"] = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    torch.save(
        {"state_dict": net.state_dict(), **beside}, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped
    )
    found = fc.load(tmp_path / "x.ckpt")
    same(fc.find_state_dict(found), net.state_dict())
    kinds = {name for name in beside if type(found[name]) is fc.Placeholder}
    assert kinds == set(beside) - {"generator", "loss", "old random"}
    assert found["loss"] == 0.5
    np.testing.assert_array_equal(found["old random"][1], beside["old random"][1])
    assert found["args"].state == {"lr": 0.1, "device": "cpu"}
    weight = found["module"].state["_modules"]["0"].state["_parameters"]["weight"]
    np.testing.assert_array_equal(weight, net[0].weight.detach().numpy())
    assert len(repr(found)) < 20_000
    torch.save(net, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"it is a whole module, torch\.nn\.modules\.container\.Sequential"):
        fc.load(tmp_path / "net.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.script(torch.nn.ReLU()).save(str(tmp_path / "x.pt"))
    with pytest.raises(ValueError, match="it is a TorchScript program"):
        fc.load(tmp_path / "x.pt")


@pytest.mark.skipif(not DATA.is_dir(), reason="the published checkpoints lie outside of this repository")
def test_published_checkpoints_are_what_pytorch_reads():
    paths = sorted(path for path in DATA.rglob("*") if path.suffix in (".pt", ".pth"))
    assert paths
    for path in paths:
        same(fc.load(path), torch.load(path, map_location="cpu", weights_only=True))
