"""Files that others wrote, read as networks: onnx's own cases, and what PyTorch exports."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as TF

import fconv as fc

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tests.parity.onnx_cases import CASES, outcome  # noqa: E402

SOME = CASES[::5]
"""The rest takes a minute: ``python -m tests.parity.onnx_cases`` runs all, and says what stops the others."""


@pytest.mark.filterwarnings("ignore")
def test_cases_that_define_the_operators(tmp_path):
    """Compare each operator that is read with the value of its case; the others are refused by name."""
    read, refused = Counter(), Counter()
    for case in SOME:
        operator = case.model.graph.node[0].op_type
        found = outcome(case, tmp_path)
        assert not found.wrong, (case.name, found.text)
        (refused if found.text else read)[operator] += 1
    assert len(read) > 60, read
    assert sum(read.values()) > 0.7 * len(SOME), (read, refused)


# What PyTorch exports.


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 120), nn.Linear(120, 10)

    def forward(self, x):
        x = TF.max_pool2d(torch.tanh(self.conv1(x)), 2)
        x = TF.max_pool2d(TF.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        return TF.log_softmax(self.fc2(TF.relu(self.fc1(x))), 1)


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(after), nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(Block(3, 3, 1), Block(3, 4, 2))
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(torch.flatten(TF.adaptive_avg_pool2d(self.layer1(x), 1), 1))


class MobileBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4),
        )  # fmt: skip

    def forward(self, x):
        return (x + self.conv(x)).mean([2, 3])


class Mixture(nn.Module):
    """Shape arithmetic, pieces, several outputs, and most kinds of layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect")
        self.norm, self.groups, self.each = nn.LayerNorm(8), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)
        self.scale = nn.Parameter(torch.randn(4, 1, 1))
        self.lin, self.slope, self.up = nn.Linear(8, 6), nn.PReLU(4), nn.ConvTranspose2d(4, 4, 2, 2)

    def forward(self, x):
        a, b = self.conv(x).chunk(2, 1)
        y = torch.cat([self.groups(a) * torch.sigmoid(b), self.slope(b) * self.scale], 1)
        y = TF.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)[:, :, 1:-1, ::2]
        z = TF.gelu(self.lin(self.norm(y.permute(0, 2, 3, 1))))
        z = TF.silu(z) + TF.hardswish(z) * 0.5 - z**2
        w = self.each(self.up(a))
        return z.flatten(1).softmax(-1), w.amax((2, 3)) + TF.pixel_shuffle(w, 2).mean((2, 3))


EXPORTED = {
    "lenet": (LeNet, (2, 1, 28, 28)),
    "resnet": (ResNet, (2, 3, 16, 16)),
    "mobilenet": (MobileBlock, (2, 4, 9, 9)),
    "mixture": (Mixture, (2, 4, 8, 8)),
}


def module_of(name):
    torch.manual_seed(0)
    make, shape = EXPORTED[name]
    module = make().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return module, torch.randn(*shape)


def exported(module, x, path, new):
    """Export with a batch axis that is left open, by PyTorch's new exporter or its old one."""
    logging.disable(logging.CRITICAL)
    try:
        if new:
            pytest.importorskip("onnxscript")
            shapes = ({0: torch.export.Dim("batch", min=2, max=100)},)
            torch.onnx.export(
                module, (x,), path, dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False
            )
        else:
            options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
            torch.onnx.export(module, (x,), path, dynamo=False, **options)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("name", EXPORTED)
def test_what_pytorch_exports_is_read(name, new, tmp_path):
    module, x = module_of(name)
    exported(module, x, tmp_path / "net.onnx", new)
    net, params = fc.from_onnx(tmp_path / "net.onnx")
    for given in (x, torch.randn(5, *x.shape[1:])):
        expected, found = module(given), net.apply(params, given.numpy())
        expected = [expected] if torch.is_tensor(expected) else expected
        found = list(found.values()) if isinstance(found, dict) else [found]
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), 1e-5, 1e-6)
    held, theirs = fc.to_state_dict(params), module.state_dict()
    if name == "lenet":  # the others have batch norms, which the exporters merge into convolutions
        assert held.keys() == theirs.keys()
        assert all(np.array_equal(held[leaf], array.numpy()) for leaf, array in theirs.items())
    if name == "resnet":
        convolutions = {leaf for leaf in theirs if leaf.endswith("weight") and "bn" not in leaf}
        assert convolutions - {"layer1.1.downsample.1.weight"} <= held.keys()


@pytest.mark.filterwarnings("ignore")
def test_batch_norms_that_were_kept_have_their_statistics(tmp_path):
    """Exported as in training, a module keeps its batch norms; they are then written for inference."""
    module, x = module_of("resnet")
    logging.disable(logging.CRITICAL)
    kept = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    torch.onnx.export(module, (x,), tmp_path / "net.onnx", dynamo=False, **kept)
    logging.disable(logging.NOTSET)
    net, params = fc.from_onnx(tmp_path / "net.onnx")
    np.testing.assert_allclose(net.apply(params, x.numpy()), module(x).detach().numpy(), 1e-5, 1e-6)
    held = fc.to_state_dict(params)
    assert held.keys() == module.state_dict().keys()
    for name, array in module.state_dict().items():
        np.testing.assert_array_equal(held[name], array.numpy(), err_msg=name)


# Single graphs.


def model(nodes, inputs, outputs, initializers=(), opset=21, domain=""):
    def info(entry):
        name, shape, *kind = entry
        return helper.make_tensor_value_info(name, kind[0] if kind else TensorProto.FLOAT, shape)

    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(initializers).items()]
    graph = helper.make_graph(nodes, "test", [info(i) for i in inputs], [info(o) for o in outputs], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)], ir_version=8)


def read(built, tmp_path):
    (tmp_path / "net.onnx").write_bytes(built.SerializeToString())
    return fc.from_onnx(tmp_path / "net.onnx")


X = fc.random.normal(fc.random.key(0), (3, 4, 6, 6))


def test_shape_arithmetic_is_followed(tmp_path):
    """``x.reshape(x.shape[0], -1)`` and ``interpolate(x, size=2 * x.shape[2:])`` as exporters write them."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "two", "four"], ["hw"]),
        helper.make_node("Mul", ["hw", "two"], ["twice"]),
        helper.make_node("Slice", ["s", "zero", "two"], ["nc"]),
        helper.make_node("Concat", ["nc", "twice"], ["size"], axis=0),
        helper.make_node(
            "Resize", ["x", "", "", "size"], ["y"], mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("Gather", ["s", "index"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "zero"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["y", "flat"], ["z"]),
    ]  # fmt: skip
    sizes = {"two": [2], "four": [4], "zero": [0], "rest": [-1], "index": 0}
    initializers = {name: np.asarray(value, np.int64) for name, value in sizes.items()}
    for batch, height in (("n", 6), ("n", "h")):
        built = model(nodes, [("x", (batch, 4, height, 6))], [("z", ("n", None))], initializers)
        net, params = read(built, tmp_path)
        y = net.apply(params, X)
        np.testing.assert_array_equal(y, X.repeat(2, 2).repeat(2, 3).reshape(3, -1))
        assert net.out_shape((7, 4, 6, 6)) == (7, 4 * 144)
    assert [layer.name for layer in net.children.values()] == ["upsample", "flatten"]


def test_older_operators_have_their_attributes(tmp_path):
    nodes = [
        helper.make_node("Unsqueeze", ["x"], ["a"], axes=[0]),
        helper.make_node("Squeeze", ["a"], ["b"], axes=[0]),
        helper.make_node("Clip", ["b"], ["c"], min=-1.0, max=0.5),
        helper.make_node("Pad", ["c"], ["d"], pads=[0, 0, 1, 0, 0, 0, 0, 2]),
        helper.make_node("Upsample", ["d", "scales"], ["e"], mode="nearest"),
        helper.make_node("Slice", ["e"], ["f"], starts=[1], ends=[1 << 40], axes=[2]),
        helper.make_node("ReduceMean", ["f"], ["g"], axes=[3], keepdims=0),
        helper.make_node("Dropout", ["g"], ["h"], ratio=0.25),
        helper.make_node("Softmax", ["h"], ["y"], axis=2),
    ]
    held = {"scales": np.asarray([1, 1, 2, 2], np.float32)}
    net, params = read(model(nodes, [("x", ("n", 4, 6, 6))], [("y", None)], held, opset=9), tmp_path)
    padded = np.pad(X.clip(-1, 0.5), ((0, 0), (0, 0), (1, 0), (0, 2)))
    mean = padded.repeat(2, 2).repeat(2, 3)[:, :, 1:].mean(3)
    np.testing.assert_allclose(net.apply(params, X), torch.softmax(torch.from_numpy(mean), 2).numpy(), 1e-5)


def test_names_weights_used_twice_and_dead_ends(tmp_path):
    weight = fc.random.normal(fc.random.key(1), (4, 4, 3, 3))
    nodes = [
        helper.make_node("Conv", ["x", "a.conv.weight"], ["1"], pads=[1, 1, 1, 1], name="/a/conv/Conv"),
        helper.make_node("Relu", ["1"], ["2"], name="/a/conv/Relu"),
        helper.make_node("Conv", ["2", "a.conv.weight"], ["3"], pads=[1, 1, 1, 1], name="/a/conv/Conv_1"),
        helper.make_node("Conv", ["3", "a.conv.weight"], ["4"], strides=[2, 2], name="other"),
        helper.make_node("NonZero", ["x"], ["unused"]),
    ]
    built = model(nodes, [("x", ("n", 4, 6, 6))], [("4", None)], {"a.conv.weight": weight})
    net, params = read(built, tmp_path)
    # The same layer shares its weight; with another stride it is another layer, with a copy.
    assert list(fc.to_state_dict(params)) == ["a.conv.weight", "a.conv_2.weight"]
    assert net.apply(params, X).shape == (3, 4, 2, 2)
    assert "a.conv.relu" in net.children


REFUSALS = [
    ([helper.make_node("NonZero", ["x"], ["y"], name="odd")], {}, 21, r"node 'odd' \(NonZero, domain ai.onnx, opset 21\): there is no layer for this operator"),
    ([helper.make_node("Relu", ["x"], ["y"], domain="com.microsoft", name="m")], {}, 21, r"node 'm' \(Relu, domain com.microsoft, opset 21\): only the default domain is read"),
    ([helper.make_node("Relu", ["x"], ["y"])], {}, 6, "expected operators of opset 7 to .*, got 6"),
    ([helper.make_node("Relu", ["x"], ["y"])], {}, 99, "expected operators of opset 7 to .*, got 99"),
    ([helper.make_node("Relu", ["z"], ["y"])], {}, 21, "'y' .*its input 'z' is given by nothing before it"),
    ([helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Add", ["x", "b"], ["y"])], {}, 21, "is in a cycle, or depends on one"),
    ([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Tanh", ["x"], ["y"])], {}, 21, "two nodes give a value 'y'"),
    ([helper.make_node("ConvTranspose", ["x", "x"], ["y"])], {}, 21, r"its input 1 \('x'\) is computed; it has to be an initializer"),
    ([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": np.ones((2, 5, 3, 3), np.float32)}, 21, "expected 5 channels for its weight, got 4"),
    ([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": np.ones((2, 4, 3, 3))}, 21, "its weight is float64 and its input float32"),
    ([helper.make_node("Conv", ["x", "w"], ["y"], strides=[0, 1])], {"w": np.ones((2, 4, 3, 3), np.float32)}, 21, "must be 1 or more"),
    ([helper.make_node("Conv", ["x", "w"], ["y"], strides="two")], {"w": np.ones((2, 4, 3, 3), np.float32)}, 21, "its attribute strides is not of the kind 'ints'"),
    ([helper.make_node("Conv", ["x", "w"], ["y"], group=1 << 62)], {"w": np.ones((2, 4, 3, 3), np.float32)}, 21, "channels for its weight, got 4"),
    ([helper.make_node("MaxPool", ["x"], ["v", "y"], kernel_shape=[2, 2])], {}, 21, r"its output 1 \('y'\) is used, and no layer gives it"),
    ([helper.make_node("BatchNormalization", ["x", "c", "c", "c", "c"], ["y"], training_mode=1)], {"c": np.ones(4, np.float32)}, 21, "training_mode=1"),
    ([helper.make_node("BatchNormalization", ["x", "c", "c", "c", "c"], ["y"])], {"c": np.ones(3, np.float32)}, 21, r"input 1 \('c'\) of shape \(4,\), got \(3,\)"),
    ([helper.make_node("LRN", ["x"], ["y"], size=0)], {}, 21, "expected a size of 1 or more, got 0"),
    ([helper.make_node("Reshape", ["x", "s"], ["y"])], {"s": np.asarray([5, -1])}, 21, r"cannot reshape an input of shape \(3, 4, 6, 6\) to \(5, -1\)"),
    ([helper.make_node("Gather", ["x", "i"], ["y"])], {"i": np.asarray([0, 3])}, 21, "index from -3 to 2, got 0 to 3"),
    ([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)], {}, 21, "this casts float32 to float64"),
    ([helper.make_node("Div", ["x", "c"], ["y"])], {"c": np.zeros((), np.float32)}, 21, "division by 0"),
    ([helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])], {"s": np.asarray([1 << 40])}, 21, "would come to more than 48 MB"),
    ([helper.make_node("Expand", ["c", "s"], ["d"]), helper.make_node("Add", ["x", "d"], ["y"])], {"c": np.ones(1, np.float32), "s": np.asarray([1 << 20, 1 << 20])}, 21, "would come to more than 48 MB"),
    ([helper.make_node("Range", ["a", "b", "one"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])], {"a": np.asarray(0.0), "b": np.asarray(1e9), "one": np.asarray(1e-3)}, 21, "would come to more than 48 MB"),
    ([helper.make_node("Identity", ["c"], ["y"])], {"c": np.ones(3, np.float32)}, 21, "output 'y': expected a value that depends on the input"),
    ([helper.make_node("Add", ["x", "c"], ["y"])], {"c": np.ones(5, np.float32)}, 21, r"add: .*\(5,\)"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "initializers", "opset", "message"), REFUSALS)
def test_refusals_name_the_file_the_node_and_what_is_in_the_way(
    nodes, initializers, opset, message, tmp_path
):
    built = model(nodes, [("x", (3, 4, 6, 6))], [("y", None)], initializers, opset)
    with pytest.raises(ValueError, match=rf"from_onnx: .*net\.onnx: .*{message}"):
        read(built, tmp_path)
