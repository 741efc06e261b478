"""Reading between pixels: from PyTorch and back, and through ONNX files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fconv as fc
from tests.parity.onnx_evaluators import by_runtime

X = fc.random.normal(fc.random.key(0), (2, 4, 6, 7))
GRID = 1.3 * np.tanh(fc.random.normal(fc.random.key(1), (2, 3, 5, 2)))


class Transformer(nn.Module):
    """A spatial transformer: positions by an affine map that a small network finds."""

    def __init__(self, mode, padding, align):
        super().__init__()
        self.options = {"mode": mode, "padding_mode": padding, "align_corners": align}
        self.find = nn.Sequential(nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6))
        ys, xs = torch.meshgrid(torch.linspace(-1, 1, 5), torch.linspace(-1.1, 0.9, 6), indexing="ij")
        self.register_buffer("base", torch.stack([xs.ravel(), ys.ravel(), torch.ones(30)]), persistent=False)

    def forward(self, x):
        grid = (self.find(x).view(-1, 2, 3) @ self.base).transpose(1, 2).reshape(-1, 5, 6, 2)
        return nn.functional.grid_sample(x, grid, **self.options)


@pytest.mark.parametrize(
    ("mode", "padding", "align"),
    [("bilinear", "zeros", False), ("nearest", "border", True), ("bicubic", "reflection", False)],
)
def test_spatial_transformers_go_all_ways(mode, padding, align, tmp_path):
    module = Transformer(mode, padding, align).eval()
    net, params = fc.from_torch(module, X.shape)
    y = net.apply(params, X)
    np.testing.assert_allclose(y, module(torch.tensor(X)).detach().numpy(), 1e-4, 1e-5)
    again = fc.to_torch_module(net, params)
    np.testing.assert_allclose(y, again(torch.tensor(X)).detach().numpy(), 1e-4, 1e-5)
    fc.to_onnx(net, params, X.shape, tmp_path / "net.onnx")
    np.testing.assert_allclose(by_runtime(tmp_path / "net.onnx", {"x": X})[0], y, 1e-4, 1e-5)
    read, held = fc.from_onnx(tmp_path / "net.onnx")
    np.testing.assert_array_equal(read.apply(held, X), y)
    assert fc.to_state_dict(held).keys() == fc.to_state_dict(params).keys()


@pytest.mark.parametrize("opset", [16, 20])
def test_older_names_of_the_modes_are_read(opset, tmp_path):
    from onnx import TensorProto, helper, save

    mode = "bicubic" if opset == 16 else "cubic"
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], mode=mode, padding_mode="border")
    entries = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape)
        for name, x in (("x", X), ("grid", GRID))
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 4, 3, 5))
    made = helper.make_graph([node], "g", entries, [out])
    save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8),
        tmp_path / "g.onnx",
    )
    net, params = fc.from_onnx(tmp_path / "g.onnx")
    expected = nn.functional.grid_sample(
        torch.tensor(X), torch.tensor(GRID), mode="bicubic", padding_mode="border", align_corners=False
    )
    np.testing.assert_allclose(net.apply(params, {"x": X, "grid": GRID}), expected, 1e-4, 1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_deformed_convolutions_go_through_files(masked, tmp_path):
    arrays = ("x", "offset", "weight", *(["mask"] if masked else []))
    parts = {
        "moved": (fc.conv2d(2 * 2 * 9, 3, padding=1), "x"),
        "scaled": (fc.compose(fc.conv2d(2 * 9, 3, padding=1), fc.sigmoid()), "x"),
        "weight": (fc.parameter(6, 2, 3, 3, init=fc.initializers.normal(0.3)),),
        "y": (
            fc.call("deform_conv2d", arrays, padding=1),
            "x",
            "moved",
            "weight",
            *(["scaled"] if masked else []),
        ),
    }
    if not masked:
        del parts["scaled"]
    net = fc.graph(parts)
    params = net.init(fc.random.key(2), X.shape)
    y = net.apply(params, X)
    fc.to_onnx(net, params, X.shape, tmp_path / "net.onnx")
    read, held = fc.from_onnx(tmp_path / "net.onnx")
    np.testing.assert_allclose(read.apply(held, X), y, 1e-5, 1e-5)
    assert fc.to_state_dict(held).keys() == fc.to_state_dict(params).keys()
    with pytest.raises(ValueError, match="deform_conv2d"):
        fc.to_torch_module(net, params)


def test_deformed_convolution_without_offsets_is_convolution():
    weight, bias = fc.random.normal(fc.random.key(3), (6, 2, 3, 3)), np.arange(6, dtype=np.float32)
    offset = np.zeros((2, 18, 3, 4), np.float32)
    y = fc.functional.deform_conv2d(X, offset, weight, bias, 2, 1)
    np.testing.assert_allclose(y, fc.functional.conv2d(X, weight, bias, 2, 1, groups=2), 1e-5, 1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda F: F.grid_sample(X, GRID[:1]), "expected x .N, C, H, W. and a grid"),
        (lambda F: F.grid_sample(X, GRID, "cubic"), "expected a mode of nearest, bilinear, bicubic"),
        (lambda F: F.grid_sample(X, GRID, padding_mode="zero"), "padding_mode of zeros, border, reflection"),
        (lambda F: F.grid_sample(X[:, :, :0], GRID), "at least one pixel"),
        (
            lambda F: F.deform_conv2d(
                X, np.zeros((2, 17, 4, 5), np.float32), np.ones((6, 2, 3, 3), np.float32)
            ),
            "expected an offset of shape .2, 18 D, 4, 5. where D divides the 4 channels",
        ),
    ],
    ids=["grid", "mode", "padding", "empty", "offset"],
)
def test_what_does_not_fit_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call(fc.functional)


@pytest.mark.filterwarnings("ignore:Since version 1.3.0")
@pytest.mark.parametrize("size", [(2, 4, 3, 5), (1, 4, 1, 5), (2, 1, 2, 3, 4)])
@pytest.mark.parametrize("align", [False, True])
def test_grids_that_a_file_makes_of_maps_are_read(size, align, tmp_path):
    from onnx import TensorProto, helper, numpy_helper, save

    n = len(size) - 2
    theta = fc.random.normal(fc.random.key(5), (size[0], n, n + 1))
    node = helper.make_node("AffineGrid", ["theta", "size"], ["y"], align_corners=int(align))
    entry = helper.make_tensor_value_info("theta", TensorProto.FLOAT, theta.shape)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_model(
        helper.make_graph([node], "g", [entry], [out], [numpy_helper.from_array(np.array(size), "size")]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    save(made, tmp_path / "g.onnx")
    net, params = fc.from_onnx(tmp_path / "g.onnx")
    expected = nn.functional.affine_grid(torch.tensor(theta), list(size), align_corners=align)
    np.testing.assert_allclose(net.apply(params, theta), expected, 1e-5, 1e-6)
