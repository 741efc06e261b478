"""Networks through ONNX files and back, against what else runs such files."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc

onnx = pytest.importorskip("onnx")
from onnx.reference import ReferenceEvaluator  # noqa: E402

from tests.parity.onnx_evaluators import by_runtime, entries, evaluators, feed, onnxruntime  # noqa: E402


def residual():
    body = fc.compose(
        fc.conv2d(6, 3, stride=2, padding=1, bias=False),
        fc.batch_norm(),
        fc.relu(),
        fc.conv2d(6, 3, stride=1, padding=1, bias=False),
    )
    return fc.residual(body, fc.conv2d(6, 1, stride=2, bias=False))


def unet():
    return fc.graph(
        {
            "stem": (fc.conv2d(5, 3, padding=1), "x"),
            "mix": (fc.compose(fc.conv2d(5, 3, padding=1), fc.tanh()), "stem"),
            "down": (fc.conv2d(5, 3, stride=2, padding=1), "mix"),
            "bottom": ("mix", "down"),
            "up": (fc.upsample(scale_factor=2), "bottom"),
            "cat": (fc.concat(), "up", "mix"),
            "head": (fc.conv2d(2, 1), "cat"),
        }
    )


def gated():
    """Pieces, a parameter by itself, arithmetic with numbers, an axis moved."""
    return fc.graph(
        {
            "wide": (fc.conv2d(8, 1), "x"),
            "a": (fc.chunk(2, 0, dim=1), "wide"),
            "b": (fc.chunk(2, 1, dim=1), "wide"),
            "gate": (fc.sigmoid(), "b"),
            "product": (fc.multiply(), "a", "gate"),
            "layer.scale": (fc.parameter(4, 1, 1, init=fc.initializers.uniform(0.5, 2)),),
            "scaled": (fc.multiply(), "product", "layer.scale"),
            "moved": (fc.scale_shift(0.5, -1.0), "scaled"),
            "last": (fc.permute(0, 2, 3, 1), "moved"),
            "norm": (fc.layer_norm(), "last"),
            "out": (fc.linear(3), "norm"),
        }
    )


def several():
    return fc.graph(
        {
            "sum": (fc.add(), "left", "right"),
            "trunk": (fc.compose(fc.conv2d(4, 3, padding=1), fc.relu()), "sum"),
            "score": (fc.compose(fc.global_avg_pool(), fc.flatten(), fc.linear(2)), "trunk"),
            "map": (fc.conv2d(1, 1), "trunk"),
        },
        inputs=("left", "right"),
        outputs=("score", "map"),
    )


SHAPE = (2, 4, 8, 8)
NETWORKS = {
    "residual": (residual(), SHAPE),
    "unet": (unet(), SHAPE),
    "gated": (gated(), SHAPE),
    "several": (several(), {"left": SHAPE, "right": SHAPE}),
    "squeeze_excitation": (fc.compose(fc.squeeze_excitation(2), fc.depthwise_separable_conv2d(3, 3)), SHAPE),
    "repeat": (fc.repeat(fc.conv2d(4, 3, padding=1), 3, shared=True), SHAPE),
    "nothing but an input": (fc.compose(), SHAPE),
}


def batch_of(shape, n):
    if isinstance(shape, dict):
        return {name: batch_of(each, n) for name, each in shape.items()}
    return (n, *shape[1:])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_go_there_and_back_for_any_batch(name, tmp_path):
    net, shape = NETWORKS[name]
    params, path = net.init(fc.random.key(0), shape), tmp_path / "net.onnx"
    fc.to_onnx(net, params, shape, path)
    again, read = fc.from_onnx(path)
    ours, theirs = fc.to_state_dict(params), fc.to_state_dict(read)
    prefix = "0." if name == "repeat" else ""  # shared at the root, its names have no module's
    assert {f"{prefix}{leaf}" for leaf in ours} == set(theirs)
    for leaf, array in ours.items():
        np.testing.assert_array_equal(theirs[prefix + leaf], array, err_msg=leaf)
    for n in (2, 5):
        wide = batch_of(shape, n)
        x = (
            {s: entries("", each) for s, each in wide.items()}
            if isinstance(wide, dict)
            else entries("", wide)
        )
        y, z = net.apply(params, x), again.apply(read, x)
        each = y if isinstance(y, dict) else {"": y}
        z = z if isinstance(z, dict) else {"": z}
        assert each.keys() == z.keys()
        for run in evaluators(name, np.float32):
            found = dict(zip(each, run(path, feed(net, x)), strict=True))
            for key, expected in each.items():
                np.testing.assert_allclose(found[key], expected, 1e-5, 1e-5)
                np.testing.assert_allclose(z[key], expected, 1e-6, 1e-6)


def test_shared_weights_stay_shared(tmp_path):
    net, shape = NETWORKS["unet"]
    fc.to_onnx(net, net.init(fc.random.key(0), shape), shape, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert sum(node.op_type == "Conv" and "mix.0.weight" in node.input for node in model.graph.node) == 2
    again, read = fc.from_onnx(tmp_path / "net.onnx")
    x = entries("", shape)
    y, _, pull = again.forward(read, x)
    gradient = pull(np.ones_like(y))[0]
    _, _, theirs = net.forward(params := net.init(fc.random.key(0), shape), x)
    expected = theirs(np.ones_like(y))[0]
    np.testing.assert_allclose(gradient["mix.0"]["weight"], expected["mix"][0]["weight"], 1e-4, 1e-5)
    assert len(fc.to_state_dict(read)) == len(fc.to_state_dict(params))


def test_batch_axis_is_open_and_names_are_the_state_dicts(tmp_path):
    net, shape = NETWORKS["residual"]
    params = net.init(fc.random.key(0), shape)
    params = {
        **params,
        "body": (
            params["body"][0],
            {**params["body"][1], "num_batches_tracked": np.int64(7)[()] + np.zeros((), np.int64)},
            *params["body"][2:],
        ),
    }
    fc.to_onnx(net, params, shape, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert model.opset_import[0].version == 21
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "N"
    held = {tensor.name for tensor in model.graph.initializer}
    assert held == {name for name in fc.to_state_dict(params) if "num_batches" not in name}
    _, read = fc.from_onnx(tmp_path / "net.onnx")
    assert read["body.1"]["num_batches_tracked"] == 7


def test_mixed_types_and_strangers_are_refused(tmp_path):
    net = fc.compose(fc.linear(2), fc.linear(2))
    params = (
        fc.linear(2).init(fc.random.key(0), (1, 3)),
        fc.linear(2).init(fc.random.key(0), (1, 2), np.float64),
    )
    with pytest.raises(TypeError, match="to_onnx: expected parameters of one type, got float32, float64"):
        fc.to_onnx(net, params, (1, 3), tmp_path / "net.onnx")
    stranger = fc.Layer(
        init=lambda key, shape, dtype=None: (),
        apply=lambda params, x, **_: x,
        vjp=lambda params, x, g, **_: ((), g),
        out_shape=lambda shape: shape, name="conv2d",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"conv2d.*it has no option 'kernel_size'; is it a layer of fconv"):
        fc.to_onnx(stranger, (), (1, 3), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


MODELS = [
    name for name in fc.models.MODELS if not name.startswith(("vgg16", "resnet34", "resnet50", "vgg11_bn"))
]
"""One of each kind; the others are larger of the same make."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_models_go_there_and_back(name, tmp_path):
    model = fc.models.MODELS[name]
    net, shape = model.build(), model.input_shape
    params, path = net.init(fc.random.key(0), shape), tmp_path / "net.onnx"
    fc.to_onnx(net, params, shape, path)
    again, read = fc.from_onnx(path)
    ours, theirs = fc.to_state_dict(params), fc.to_state_dict(read)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(theirs[leaf], array) for leaf, array in ours.items())
    x = entries("", shape)
    y = net.apply(params, x)
    np.testing.assert_array_equal(again.apply(read, x), y)
    if onnxruntime is not None:
        (found,) = by_runtime(path, feed(net, x))
        np.testing.assert_allclose(found, y, 1e-4, 1e-5 * abs(y).max())


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (fc.squeeze(), (1, 2, 1, 3)),
        (fc.squeeze(0), (1, 2, 1, 3)),
        (fc.compose(fc.conv2d(2, 1), fc.squeeze(0), fc.relu()), (1, 2, 4, 3)),
        (fc.compose(fc.squeeze(), fc.flatten()), (1, 2, 1, 3)),
    ],
)
def test_a_batch_axis_that_is_squeezed_away_is_fixed_at_1(net, shape, tmp_path):
    params = net.init(fc.random.key(0), shape)
    fc.to_onnx(net, params, shape, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == list(shape)
    x = fc.random.normal(fc.random.key(1), shape)
    (found,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})
    np.testing.assert_allclose(found, net.apply(params, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [fc.layer_norm(last_axes=2), fc.rms_norm(last_axes=2)])
def test_a_batch_whose_size_parameters_have_is_fixed(layer, tmp_path):
    params, x = layer.init(fc.random.key(0), (2, 3)), entries("", (2, 3))
    fc.to_onnx(layer, params, (2, 3), tmp_path / "net.onnx")
    assert onnx.load(tmp_path / "net.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    again, read = fc.from_onnx(tmp_path / "net.onnx")
    np.testing.assert_allclose(again.apply(read, x), layer.apply(params, x), 1e-5, 1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(onnxruntime is None, reason="onnxruntime is not installed")
@pytest.mark.parametrize("number", range(1000, 1012))
def test_random_networks_go_there_and_back(number, tmp_path):
    """A few; ``python -m tests.parity.onnx_random 200`` checks as many as are wanted."""
    from tests.parity.onnx_random import check

    check(number, tmp_path)
