"""Modules read and made: state kept, tensors shared, names."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fconv as fc
from tests.fuzz.__main__ import Memory
from tests.parity.traced import Of, check_both_ways, check_network, drawn, same_bits, shaken

# Names, kinds and sharing.


def test_a_sequential_is_a_compose_and_a_single_module_a_layer():
    net, params = fc.from_torch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)))
    assert net.name == "compose"
    assert [layer.name for layer in net.children.values()] == ["conv2d", "relu", "flatten", "linear"]
    assert isinstance(params, tuple)
    assert list(fc.to_state_dict(params)) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert repr(fc.to_torch_module(net, params)).startswith("Sequential(\n  (0): Conv2d(3, 8")
    net, params = fc.from_torch(nn.Linear(3, 2))
    assert (net.name, list(params)) == ("linear", ["weight", "bias"])


def test_parts_that_are_sequentials_stay_composes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(4, 3, 3), nn.Sequential(nn.ReLU(True)))
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.features(x).mean((2, 3)))

    net = check_both_ways(Net(), (2, 4, 5, 5))
    assert [layer.name for layer in net.children.values()] == ["compose", "mean", "linear"]
    back = fc.to_torch_module(*fc.from_torch(Net()))
    assert isinstance(back.features, nn.Sequential)


def test_a_sequential_of_which_parts_are_used_is_taken_apart():
    def forward(m, x):
        return m.features(x) + m.features[0](x)

    net = check_both_ways(Of(forward, features=nn.Sequential(nn.Conv2d(4, 3, 1), nn.Tanh())), (2, 4, 5, 5))
    assert "features.0" in net.children


def test_a_sequential_that_starts_in_place_changes_its_input():
    module = Of(lambda m, x: m.act(x) * 2 + x, act=nn.Sequential(nn.ReLU(inplace=True), nn.Tanh()))
    check_both_ways(module, (3, 4), (3, 4))


def test_one_module_at_two_places_has_one_set_of_parameters():
    shared = nn.Linear(4, 4)
    module = nn.Sequential(shared, nn.Tanh(), shared).double()
    net, params = fc.from_torch(module)
    # PyTorch lists such a module at each place; the first names it here.
    assert list(fc.to_state_dict(params)) == ["0.weight", "0.bias"]
    check_network(net, params, module, drawn((3, 4)), True)
    back = fc.to_torch_module(net, params)
    assert set(back.state_dict()) == {"0.weight", "0.bias"}
    check_network(net, params, back, drawn((3, 4)), True)


def test_a_shared_repetition_is_one_module():
    net = fc.compose(stem=fc.linear(4), again=fc.repeat(fc.linear(4), 3, shared=True))
    params = net.init(fc.random.key(0), (2, 4), np.float64)
    module = fc.to_torch_module(net, params)
    same_bits(module.state_dict(), fc.to_torch(params))
    check_network(net, params, module, drawn((2, 4)), True)


def test_several_inputs_and_outputs_are_dicts():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(3, 4), nn.Linear(5, 4)

        def forward(self, left, other, scale=None, flag=True):
            y = self.left(left) + self.right(other)
            if scale is not None or not flag:
                y = y * scale
            return y, torch.tanh(y)

    net = check_both_ways(Two(), {"left_input": (2, 3), "other": (2, 5)}, call=lambda m, x: m(*x.values()))
    assert net.out_shape({"left_input": (2, 3), "other": (2, 5)}) == {"output0": (2, 4), "output1": (2, 4)}


def test_dicts_of_inputs_and_outputs():
    module = Of(lambda m, x: {"sum": m.a(x["a"]) + x["b"], "b": x["b"].relu()}, a=nn.Linear(3, 4))
    module = module.double()
    with pytest.raises(ValueError, match=r"its forward takes no tensor .*; give shape= as a dict"):
        fc.from_torch(module)
    with pytest.raises(ValueError, match=r"the output 'b' is called as an input, a module or a parameter is"):
        fc.from_torch(module, {"a": (2, 3), "b": (2, 4)})
    module.function = lambda m, x: {"sum": m.a(x["first"]) + x["b"], "act": x["b"].relu()}
    net, params = fc.from_torch(module, {"first": (2, 3), "b": (2, 4)})
    x = drawn({"first": (2, 3), "b": (2, 4)})
    check_network(net, params, module, x, True, call=lambda m, x: m(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_copies(dtype):
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(dtype)
    _, params = fc.from_torch(module)
    wide = torch.float32 if dtype is torch.bfloat16 else dtype
    assert params[0]["weight"].dtype == str(wide).removeprefix("torch.")
    assert params[1]["num_batches_tracked"].dtype == np.int64
    before = copy.deepcopy(module.state_dict())
    params[0]["weight"][...] = 7
    same_bits(module.state_dict(), before)
    back = fc.to_torch_module(*fc.from_torch(module), shape=(1, 3))
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, before[name].to(tensor.dtype)), name
    same_bits(back.to(dtype).state_dict(), before)


def test_the_module_is_left_as_it_is():
    module = Of(lambda m, x: F.dropout(m.fc(x), 0.5, m.training), fc=nn.Linear(3, 2))
    module.fc.eval()
    net, _ = fc.from_torch(module)
    assert module.training
    assert not module.fc.training
    assert net.children["dropout"].options == {"p": 0.5}


def test_what_the_forward_does_not_use():
    module = Of(lambda m, x: m.a(x), a=nn.Linear(3, 2), b=nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"Of: its forward does not use b\.weight, b\.bias; strict=False"):
        fc.from_torch(module)
    _, params = fc.from_torch(module, strict=False)
    assert list(fc.to_state_dict(params)) == ["a.weight", "a.bias"]


def test_a_module_made_of_a_network_trains_and_is_saved(tmp_path):
    net = fc.residual(fc.compose(fc.conv2d(3, 3, padding=1), fc.batch_norm(), fc.relu()))
    params = net.init(fc.random.key(0), (2, 3, 5, 5))
    module = fc.to_torch_module(net, params)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(2, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    assert not np.array_equal(module.state_dict()["body.0.weight"].numpy(), params["body"][0]["weight"])
    assert module.state_dict()["body.1.num_batches_tracked"] == 1
    torch.save(module.state_dict(), tmp_path / "net.pt")
    again = fc.to_torch_module(net, params)
    again.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(again.eval()(x), module.eval()(x))
    # What PyTorch changed comes back.
    _, trained = fc.from_torch(module)
    same_bits(fc.to_torch(trained), module.state_dict())


def test_blocks_that_depend_on_the_shape():
    net = fc.compose(
        fc.depthwise_separable_conv2d(6, 3, padding=1), fc.squeeze_excitation(2), fc.global_avg_pool()
    )
    params = net.init(fc.random.key(0), (2, 4, 5, 5), np.float64)
    with pytest.raises(ValueError, match="give the input shape"):
        fc.to_torch_module(net, params)
    module = fc.to_torch_module(net, params, (2, 4, 5, 5))
    same_bits(module.state_dict(), fc.to_torch(params))
    check_network(net, params, module, drawn((2, 4, 5, 5)), True)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (fc.parallel(fc.conv2d(2, 1), fc.identity()), (2, 3, 4, 4)),
        (fc.compose(fc.reshape(2, -1), fc.batch_norm(), fc.linear(3)), (2, 6)),
        (fc.compose(fc.conv2d(4, 3), fc.batch_norm(), fc.global_max_pool(), fc.flatten(), fc.batch_norm()), (3, 2, 5, 5)),
        (fc.compose(fc.unflatten(1, (2, -1)), fc.pad((1, 0, 0, 2, 1, 1)), fc.layer_norm()), (2, 6)),
        (fc.graph({"a": (fc.linear(4), "x"), "b": (fc.linear(4), "y"), "m": (fc.multiply(), "a", "b")}, inputs=("x", "y"), outputs=("m", "a")),
         {"x": (2, 3), "y": (2, 5)}),
        (fc.repeat(fc.compose(fc.linear(4), fc.tanh()), 2), (2, 4)),
    ],
)  # fmt: skip
def test_networks_become_modules(net, shape):
    params = net.init(fc.random.key(0), shape, np.float64)
    given = shape if net.name == "compose" and "unflatten" in repr(net) else None
    module = fc.to_torch_module(net, params, given)
    same_bits(module.state_dict(), fc.to_torch(params))
    for train in (False, True):
        check_network(net, params, module, drawn(shape), train)


def test_the_page_on_torch_runs():
    page = (Path(__file__).parents[2] / "docs" / "torch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/torch.md", "exec"), {"__name__": "page"})


def squared(m, x):
    y = z = x * 1
    y **= 2
    return z + y


MEANINGS = {
    "unfold, apart": lambda m, x: x.unfold(2, 4, 4).mean(-1),
    "unfold, overlapping": lambda m, x: x.unfold(-1, 3, 2),
    "unfold, one window": lambda m, x: x.unfold(dimension=3, size=7, step=1).relu(),
    "unfold of windows": lambda m, x: x.unfold(2, 3, 1).unfold(3, 2, 2),
    "unfold as a function": lambda m, x: F.unfold(x, 3),
    "T": lambda m, x: x.mean((2, 3)).T,
    "power in place": squared,
}


@pytest.mark.parametrize("case", MEANINGS)
def test_methods_that_mean_something_else_than_functions(case):
    module, x = Of(MEANINGS[case]), torch.randn(2, 3, 8, 7)
    shape = {"shape": tuple(x.shape)} if case == "T" else {}
    net, params = fc.from_torch(module, **shape)
    expected = module(x).detach().numpy()
    y = net.apply(params, x.numpy())
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


def test_a_module_of_random_layers_is_compared_in_inference():
    module = shaken(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.AlphaDropout(0.2))).double()
    net, params = fc.from_torch(module)
    check_network(net, params, module, drawn((3, 4)), False)
    assert fc.to_torch_module(net, params)[1].p == 0.5


class _Sizes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        h, w = x.shape[2:]
        return x.sum((2, 3)) / (h * w)


def test_a_network_holds_for_the_sizes_it_was_read_with():
    module = _Sizes().eval()
    net, params = fc.from_torch(module, shape=(1, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    np.testing.assert_allclose(net.apply(params, x.numpy()), module(x).detach().numpy(), atol=1e-6)
    pickled = pickle.loads(pickle.dumps(net))
    assert pickled == net
    np.testing.assert_array_equal(pickled.apply(params, x.numpy()), net.apply(params, x.numpy()))
    for each in (net, pickled):
        with pytest.raises(
            ValueError, match=r"expected an input of shape \(None, 3, 8, 8\), which the module"
        ):
            each.apply(params, torch.randn(2, 3, 16, 16).numpy())


def test_normalize_is_called():
    class Normalized(nn.Module):
        def forward(self, x):
            return nn.functional.normalize(x, dim=1)

    net, params = fc.from_torch(Normalized(), (2, 3, 4))
    x = torch.randn(2, 3, 4)
    np.testing.assert_allclose(
        net.apply(params, x.numpy()), nn.functional.normalize(x, dim=1).numpy(), atol=1e-6
    )


@pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_the_first_shape_that_is_tried_has_as_many_axes_as_the_modules_say(conv):
    seen = []

    class Seeing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv(2, 3, 1)

        def forward(self, x):
            seen.append(x.shape)
            return self.conv(x)

    net, params = fc.from_torch(Seeing())
    assert len(seen[0]) == params["conv"]["weight"].ndim
    assert seen[0][1] == 2
    assert net.apply(params, np.ones((1, 2, *[3] * (len(seen[0]) - 2)), np.float32)).shape[1] == 3


@pytest.mark.skipif(not Memory().known, reason="needs Linux's /proc")
def test_shapes_are_tried_without_memory_for_them():
    seen = []

    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(4, 3, 1)

        def forward(self, x):
            seen.append(x.shape)
            if x.shape[-1] > 3:
                raise ValueError("few columns alone")
            return self.conv(x)

    fc.from_torch(nn.Conv3d(4, 3, 1))  # torch.export's own imports
    memory = Memory()
    memory.begin()
    fc.from_torch(Picky())
    taken = memory.taken()
    assert max(np.prod(shape) for shape in seen if all(isinstance(n, int) for n in shape)) > 1e8
    assert taken < 300e6  # some 100 MB are torch.export's
