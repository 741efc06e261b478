"""Modules that symbolic tracing could not follow, read through torch.export."""

from __future__ import annotations

import runpy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fconv as fc
from tests.parity.obstacles import KINDS, PICTURE, OneSided, Scores
from tests.parity.traced import Of, check_both_ways, check_network, drawn, same_bits, shaken
from tests.spending import processor_time


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_obstacles_are_read(kind):
    module, shape = KINDS[kind]
    check_both_ways(module, PICTURE, shape, back=kind != "norms with one parameter")


def test_a_parameter_that_a_module_would_apply_too_is_refused():
    net, params = fc.from_torch(OneSided(), PICTURE)
    with pytest.raises(ValueError, match=r"a\.weight: the BatchNorm2d at a would apply it once more"):
        fc.to_torch_module(net, params, PICTURE)


def test_tied_weights_are_one_parameter():
    module = Scores().double()
    net, params = fc.from_torch(module, (2, None))
    assert list(fc.to_state_dict(params)) == ["table.weight"]
    tokens = np.array([[0, 2, 8], [1, 1, 4]])
    y, _, pullback = net.forward(params, tokens)
    torch_y = module(torch.from_numpy(tokens))
    np.testing.assert_allclose(y, torch_y.detach().numpy(), rtol=1e-12)
    torch_y.square().sum().backward()
    grads, _ = pullback(2 * y)
    np.testing.assert_allclose(grads["table.weight"], module.table.weight.grad.numpy(), rtol=1e-10)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(9, 6), nn.Embedding(7, 6)
        self.register_buffer("ids", torch.arange(7)[None])

    def forward(self, tokens):
        return self.words(tokens) + self.places(self.ids[:, : tokens.shape[1]])


def test_embeddings_of_constant_places():
    module = Positions()
    net, params = fc.from_torch(module, (2, 4))
    assert list(fc.to_state_dict(params)) == ["words.weight", "places.weight"]  # no buffer of integers
    tokens = np.array([[0, 2, 8, 1], [1, 1, 4, 0]])
    expected = module(torch.from_numpy(tokens)).detach().numpy()
    np.testing.assert_allclose(net.apply(params, tokens), expected, rtol=1e-6)


class Drop(nn.Module):
    def __init__(self, how, p=0.5):
        super().__init__()
        self.how, self.p = how, p

    def forward(self, x):
        if not self.training:
            return x
        keep, shape = 1 - self.p, (x.shape[0],) + (1,) * (x.ndim - 1)
        if self.how == "uniform":
            return x.div(keep) * (keep + torch.rand(shape, dtype=x.dtype)).floor_()
        noise = torch.empty(shape if self.how == "row" else (1,) * x.ndim, dtype=x.dtype).bernoulli_(keep)
        return x * noise.div_(keep)


@pytest.mark.parametrize("how", ["row", "batch", "uniform"])
def test_stochastic_depth_is_a_layer(how):
    module = shaken(nn.Sequential(nn.Linear(3, 3), Drop(how), nn.Linear(3, 3))).double()
    net, params = fc.from_torch(module, (2, 3))
    layer = next(c for c in net.children.values() if c.name == "stochastic_depth")
    assert layer.options == {"p": 0.5, "mode": "batch" if how == "batch" else "row"}
    check_network(net, params, module, drawn((5, 3)), False)
    with pytest.raises(ValueError, match="key"):
        net.apply(params, drawn((5, 3)), train=True)
    dropped = net.apply(params, np.ones((64, 3)), train=True, key=fc.random.key(0))
    assert len(np.unique(dropped.round(9), axis=0)) == (1 if how == "batch" else 2)


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(self.body(x))
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def test_what_only_training_returns_is_left_out_and_said():
    module = Auxiliary().eval()
    with pytest.warns(UserWarning, match=r"in training its forward returns 1 further output.* of aux$"):
        net, params = fc.from_torch(module)
    assert sorted(fc.to_state_dict(params)) == ["body.bias", "body.weight", "head.bias", "head.weight"]
    x = torch.randn(2, 3)
    np.testing.assert_allclose(net.apply(params, x.numpy()), module(x).detach().numpy(), rtol=1e-5)


def test_other_things_in_training_are_read_as_in_inference_where_that_is_asked_for():
    module = Of(lambda m, x: m.norm(x).relu() if m.training else m.norm(x).tanh(), norm=nn.BatchNorm1d(3))
    with pytest.raises(
        ValueError, match=r"other things in training than in inference, first aten\.relu in Of"
    ):
        fc.from_torch(module, (2, 3))
    net, params = fc.from_torch(module, (2, 3), strict=False)
    assert [layer.name for layer in net.children.values()] == ["batch_norm", "tanh"]
    x = torch.randn(4, 3)
    expected = module.eval()(x).detach().numpy()
    np.testing.assert_allclose(net.apply(params, x.numpy()), expected, rtol=1e-5, atol=1e-6)
    net.apply(params, x.numpy(), train=True)


class Obstinate(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Sorted()

    def forward(self, x):
        return self.inner(x) + torch.special.erfcx(x) + torch.sort(x, -1)[0]


class Sorted(nn.Module):
    def forward(self, x):
        return torch.sort(x, -1)[0]


def test_all_obstacles_are_told_at_once():
    with pytest.raises(ValueError, match="2 operators have no layer") as caught:
        fc.from_torch(Obstinate(), (2, 4))
    text = str(caught.value)
    assert "aten.sort in inner (Sorted), test_exported.py, line" in text
    assert "(return torch.sort(x, -1)[0]) and 1 more: it has no layer" in text
    assert "aten.special_erfcx in Obstinate, test_exported.py, line" in text
    assert text.endswith("a layer of your own takes the place of an operator: layers={'aten.sort': my_layer}")


def test_lines_of_a_folder_called_torch_are_told(tmp_path):
    path = tmp_path / "torch" / "parts.py"
    path.parent.mkdir()
    lines = (
        "import torch",
        "class Sort(torch.nn.Module):",
        "    def forward(self, x):",
        "        return x.sort(1)[0]",
    )
    path.write_text("\n".join(lines) + "\n")
    found = runpy.run_path(str(path))["Sort"]()
    with pytest.raises(
        ValueError, match=r"aten\.sort in Sort, parts\.py, line 4 \(return x\.sort\(1\)\[0\]\)"
    ):
        fc.from_torch(found, (2, 4))


def test_a_layer_of_ones_own_takes_the_place_of_an_operator():
    double = fc.scale_shift(2.0)
    module = Of(lambda m, x: m.fc(torch.special.erfcx(x)), fc=nn.Linear(3, 2))
    net, params = fc.from_torch(module, (2, 3), layers={"aten.special_erfcx": double})
    x = np.ones((2, 3), np.float32)
    expected = module.fc(torch.from_numpy(2 * x)).detach().numpy()
    np.testing.assert_allclose(net.apply(params, x), expected, rtol=1e-6, atol=1e-6)
    module = Of(lambda m, x: torch.special.polygamma(2, x))
    net, params = fc.from_torch(
        module, (2, 3), layers={"aten.special_polygamma": lambda n, **_: fc.scale_shift(float(n))}
    )
    assert net.apply(params, x).tolist() == (2 * x).tolist()
    with pytest.raises(ValueError, match=r"layers\['aten\.special_polygamma'\]: expected a layer"):
        fc.from_torch(module, (2, 3), layers={"aten.special_polygamma": lambda n, **_: n})
    with pytest.raises(TypeError, match=r"polygamma'\]: expected a layer or a function"):
        fc.from_torch(module, (2, 3), layers={"aten.special_polygamma": 3})


def test_wrappers_are_taken_off():
    inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.compile's own imports
        compiled = torch.compile(inner)
    for wrapped in (nn.DataParallel(inner), compiled, nn.DataParallel(compiled)):
        net, params = fc.from_torch(wrapped)
        same_bits(fc.to_torch(params), inner.state_dict())
        assert net.name == "compose"


def test_sizes_stay_open_where_the_forward_allows_it():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            n, _, h, w = x.shape
            y = F.avg_pool2d(self.conv(x), 3, 1, 1) if h else x
            return y.flatten(2).transpose(1, 2).reshape(n, h * w, 2, 2).mean(1)

    module = Net().eval()
    net, params = fc.from_torch(module, shape=(None, 3, None, None))
    for size in ((2, 3, 8, 6), (1, 3, 12, 4), (3, 3, 2, 2)):
        x = torch.randn(size)
        np.testing.assert_allclose(
            net.apply(params, x.numpy()), module(x).detach().numpy(), rtol=1e-5, atol=1e-6
        )
    with pytest.raises(ValueError, match=r"expected an input of shape \(None, 3, None, None\)"):
        net.apply(params, np.ones((1, 4, 8, 8), np.float32))


def test_an_axis_that_the_forward_fixes_is_no_open_one():
    module = Of(lambda m, x: x * torch.linspace(0, 1, x.shape[-1]).expand(x.shape))
    with pytest.raises(ValueError, match=r"its forward fixes axis 3 of x, which shape= leaves open"):
        fc.from_torch(module, (None, 4, 8, None))
    fc.from_torch(module, (None, 4, None, 8))


def test_attention_with_a_mask_of_truth():
    def forward(m, x):
        keep = torch.ones(5, 5, dtype=torch.bool).tril()
        return F.scaled_dot_product_attention(x, x, x, attn_mask=keep)

    module, x = Of(forward), torch.randn(2, 5, 8)
    net, params = fc.from_torch(module, (2, 5, 8))
    np.testing.assert_allclose(net.apply(params, x.numpy()), module(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_batch_that_the_forward_fixes():
    module = Of(lambda m, x: x.reshape(6, -1))
    net, params = fc.from_torch(module, (2, 3, 4))
    assert net.out_shape((2, 3, 4)) == (6, 4)
    module = Of(lambda m, x: x * torch.arange(2.0)[:, None])
    net, params = fc.from_torch(module, (2, 3))
    assert net.apply(params, np.ones((2, 3), np.float32)).tolist() == [[0.0] * 3, [1.0] * 3]
    with pytest.raises(ValueError, match=r"expected an input of shape \(2, 3\)"):
        net.apply(params, np.ones((4, 3), np.float32))


def test_a_norm_that_is_held_in_inference():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    module = nn.Sequential(nn.Conv2d(4, 3, 1), Frozen(3), nn.ReLU()).double()
    shaken(module)
    net, params = fc.from_torch(module, PICTURE)
    x = drawn(PICTURE)
    y, refreshed, pullback = net.forward(params, x, train=True)
    expected = module.train()(torch.from_numpy(x))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10)
    expected.sum().backward()
    grads, _ = pullback(np.ones_like(y))
    found = {".".join(path): g for path, _, g in fc.trees.aligned(params, grads) if g is not None}
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad.numpy(), rtol=1e-8)
    np.testing.assert_array_equal(refreshed["1.running_mean"], params["1.running_mean"])


def test_shapes_that_do_not_fit_are_refused():
    two = Of(lambda m, x: x)
    for shape, text in (
        ((2, -3), r"expected shape= of x to be a tuple of sizes, None for an open one, got \(2, -3\)"),
        ("abc", r"expected shape= of x to be a tuple of sizes"),
        ([(2, 3), (2, 3)], r"several inputs are a dict by the names of forward's arguments"),
        ({"y": (2, 3)}, r"its output depends on no input"),
    ):
        with pytest.raises(ValueError, match=text):
            fc.from_torch(two, shape)
    with pytest.raises(
        ValueError,
        match=r"torch\.export refuses it at test_exported.py, line .*: a and b must have same reduction dim",
    ):
        fc.from_torch(Of(lambda m, x: m.fc(x), fc=nn.Linear(3, 2)), (2, 4))


class Image(nn.Module):
    def forward(self, image, mask):
        return image * mask


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((2, 3), r"its forward takes image, mask: give shape= as a dict of their shapes"),
        ({"image": (2, 3)}, r"shape= says nothing of the input mask"),
        (
            {"image": (2, 3), "mask": (2, 3), "z": (2,)},
            r"shape= names z, which its forward does not take: image, mask",
        ),
    ],
)
def test_shapes_of_several_inputs_that_do_not_fit_are_refused(shape, text):
    with pytest.raises(ValueError, match=f"^from_torch: Image: {text}$"):
        fc.from_torch(Image(), shape)


def test_an_older_torch_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.5.1"))
    with pytest.raises(
        ValueError, match=r"^from_torch: expected PyTorch 2\.6 or newer, got 2\.5\.1: pip install"
    ):
        fc.from_torch(nn.Linear(3, 2))


class Bottleneck(nn.Module):
    def __init__(self, channels, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def test_a_network_as_large_as_resnet50_is_read_in_seconds():
    layers, channels = (
        [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)],
        64,
    )
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            layers.append(Bottleneck(channels, width, stride if i == 0 else 1))
            channels = 4 * width
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))
    fc.from_torch(nn.Sequential(nn.Linear(2, 2), Drop("row")), (2, 2))  # torch.export's own imports
    with processor_time() as spent, warnings.catch_warnings():
        warnings.simplefilter("error")
        fc.from_torch(module, (1, 3, 224, 224))
    assert spent.seconds < 60  # it takes 3


def test_constants_of_one_element_are_numbers():
    """They become options of one layer, not arrays that a layer of several inputs takes."""
    parts = {"low": torch.tensor(-0.5), "high": torch.tensor(0.25), "power": torch.tensor(3.0)}
    module = Of(lambda m, x: x.clamp(m.low, m.high) ** m.power, **parts)
    net, params = fc.from_torch(module, (2, 3))
    assert [layer.name for layer in net.children.values()] == ["clamp", "power"]
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(net.apply(params, x), module(torch.from_numpy(x)).numpy(), rtol=1e-6)
