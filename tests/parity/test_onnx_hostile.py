"""Files that are damaged, that lie, or that reach for what is not theirs."""

from __future__ import annotations

import os

import numpy as np
import pytest

import fconv as fc

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402


def model(weight, extra=()):
    nodes = [helper.make_node("Conv", ["x", "c.weight"], ["y"], name="c"), *extra]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 1, 6, 6))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "test", inputs, outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def tensor(**fields):
    return TensorProto(**{"name": "c.weight", "dims": [1, 1, 3, 3], "data_type": TensorProto.FLOAT, **fields})


NINE = np.arange(9, dtype="<f4")


def test_a_tensor_is_read_from_each_of_its_fields(tmp_path):
    """The honest file, so that the others fail for what is wrong with them."""
    forms = [
        tensor(raw_data=NINE.tobytes()),
        tensor(float_data=NINE),
        tensor(data_location=TensorProto.EXTERNAL, external_data=entries(location="w.bin", offset="4")),
        tensor(data_location=TensorProto.EXTERNAL, external_data=entries(location="sub/w.bin")),
    ]
    (tmp_path / "sub").mkdir()
    (tmp_path / "w.bin").write_bytes(b"0000" + NINE.tobytes())
    (tmp_path / "sub" / "w.bin").write_bytes(NINE.tobytes())
    for form in forms:
        (tmp_path / "net.onnx").write_bytes(model(form).SerializeToString())
        net, params = fc.from_onnx(tmp_path / "net.onnx")
        np.testing.assert_array_equal(params["c"]["weight"].ravel(), NINE)
        assert net.out_shape((2, 1, 6, 6)) == (2, 1, 4, 4)


def entries(**pairs):
    return [onnx.StringStringEntryProto(key=key, value=value) for key, value in pairs.items()]


def external(**pairs):
    return tensor(data_location=TensorProto.EXTERNAL, external_data=entries(**pairs))


LIES = {
    "too few bytes": (tensor(raw_data=b"123"), "expected 36 bytes for float32 of shape .*, got 3"),
    "too many bytes": (tensor(raw_data=bytes(40)), "expected 36 bytes for .*, got 40"),
    "no bytes": (tensor(), "expected 9 elements for shape .*, got 0"),
    "another field": (tensor(int64_data=range(9)), "expected 9 elements for shape .*, got 0"),
    "a negative size": (tensor(dims=[1, 1, -3, -3], raw_data=NINE.tobytes()), "expected sizes of 0 or more"),
    "sizes beyond memory": (
        tensor(dims=[1 << 31] * 4, raw_data=NINE.tobytes()),
        "expected .* bytes for float32",
    ),
    "no such type": (tensor(data_type=77, raw_data=NINE.tobytes()), "got ONNX's type 77"),
    "strings": (tensor(data_type=TensorProto.STRING), "that NumPy has, got ONNX's type 8"),
    "float16 of 17 bits": (tensor(data_type=10, int32_data=[1 << 17] * 9), "as numbers of 16 bits"),
    "an absolute path": (external(location="/etc/hostname"), "outside the model's folder is not read"),
    "a path upwards": (external(location="../secret.bin"), "outside the model's folder is not read"),
    "a path down and up": (
        external(location="sub/../../secret.bin"),
        "outside the model's folder is not read",
    ),
    "a link out": (external(location="link.bin"), "outside the model's folder is not read"),
    "a linked folder": (external(location="linked/secret.bin"), "outside the model's folder is not read"),
    "the folder itself": (external(location="."), "outside the model's folder is not read"),
    "a folder": (external(location="sub"), "expected 36 bytes at 0 of a file"),
    "a pipe": (external(location="pipe"), "expected 36 bytes at 0 of a file"),
    "no file": (external(location="nothing.bin"), "cannot be read: No such file"),
    "no place": (external(offset="0"), "has no location"),
    "a zero byte": (external(location="w\0.bin"), "has no location"),
    "a file too short": (
        external(location="short.bin"),
        "expected 36 bytes at 0 of a file, got 'short.bin' of 8",
    ),
    "an offset beyond": (external(location="w.bin", offset="8"), "expected 36 bytes at 8 of a file"),
    "a negative offset": (external(location="w.bin", offset="-4"), "got length 36 at offset -4"),
    "another length": (external(location="w.bin", length="4"), "got length 4 at offset 0"),
    "a length in words": (external(location="w.bin", length="all"), "expected offset and length as integers"),
}


@pytest.mark.parametrize("lie", LIES)
def test_tensors_that_lie_are_refused(lie, tmp_path):
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(NINE.tobytes())
    (folder / "w.bin").write_bytes(NINE.tobytes())
    (folder / "short.bin").write_bytes(bytes(8))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    form, message = LIES[lie]
    (folder / "net.onnx").write_bytes(model(form).SerializeToString())
    with pytest.raises(ValueError, match=rf"from_onnx: .*net\.onnx: .*{message}"):
        fc.from_onnx(folder / "net.onnx")


def test_truncation_at_every_byte_is_refused_or_a_smaller_whole(tmp_path):
    """A protobuf may end between two fields; what is left then lacks what the graph needs."""
    data, path = model(tensor(raw_data=NINE.tobytes())).SerializeToString(), tmp_path / "net.onnx"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"from_onnx: .*net\.onnx: "):
            fc.from_onnx(path)


def test_flipped_bytes_give_a_network_or_a_value_error(tmp_path):
    data, path = model(tensor(raw_data=NINE.tobytes())).SerializeToString(), tmp_path / "net.onnx"
    refused = 0
    for i in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            path.write_bytes(data[:i] + bytes([data[i] ^ flip]) + data[i + 1 :])
            try:
                fc.from_onnx(path)
            except ValueError as error:
                assert str(error).startswith(f"from_onnx: {path}: ")  # noqa: PT017 - it need not raise
                refused += 1
    assert refused > len(data)  # most of a file is structure; the weight's bytes are free


def field(number, content):
    """Encode one field of a message: its number, its length, and what it holds."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size % 128 + 128]), size // 128
    return bytes([number * 8 + 2]) + length + bytes([size]) + content


def nested(depth):
    """Encode a model whose graph has a node whose attribute is a graph, and so on."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


STRANGERS = {
    "nothing": (b"", "with a graph and its opsets"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), "got a PNG picture"),
    "a length of 2 GB": (b"\x3a\xff\xff\xff\xff\x07", "bytes that are none"),
    "groups without end": (b"\x0b" * 100_000, "bytes that are none"),
    "a graph in a graph": (nested(2000), "bytes that are none"),
}


@pytest.mark.parametrize("what", STRANGERS)
def test_what_is_no_model_is_refused(what, tmp_path):
    data, message = STRANGERS[what]
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=rf"from_onnx: .*net\.onnx: .*({message})"):
        fc.from_onnx(tmp_path / "net.onnx")


def test_functions_of_the_files_own_and_sparse_weights_are_refused(tmp_path):
    built = model(tensor(raw_data=NINE.tobytes()))
    built.functions.append(helper.make_function("own", "f", ["x"], ["y"], [], [helper.make_opsetid("", 21)]))
    (tmp_path / "net.onnx").write_bytes(built.SerializeToString())
    with pytest.raises(ValueError, match="functions of the file's own are not read"):
        fc.from_onnx(tmp_path / "net.onnx")


def test_a_long_chain_is_read_without_recursion(tmp_path):
    n = 3000
    extra = [helper.make_node("Relu", ["y" if i == 0 else f"r{i}"], [f"r{i + 1}"]) for i in range(n)]
    built = model(tensor(raw_data=NINE.tobytes()), extra)
    built.graph.output[0].name = f"r{n}"
    (tmp_path / "net.onnx").write_bytes(built.SerializeToString())
    net, params = fc.from_onnx(tmp_path / "net.onnx")
    assert net.apply(params, np.ones((1, 1, 6, 6), np.float32)).shape == (1, 1, 4, 4)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fc.from_onnx(tmp_path / "net.onnx")
