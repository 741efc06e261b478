"""Networks through ONNX files and back, against what else runs such files."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv.onnx.operators import WRITINGS
from tests.test_layers import LAYERS

onnx = pytest.importorskip("onnx")
from onnx.reference import ReferenceEvaluator  # noqa: E402

try:
    import onnxruntime
except ImportError:  # a second opinion where it is installed
    onnxruntime = None

NO_OPERATOR = {
    "call of a loss": (fc.call("l1_loss", ("x", "target")), ((2, 3), (2, 3)), "call of l1_loss has no"),
}
"""Layers that are refused, and what the refusal says."""

REFERENCE_FAILS = {
    "conv_transpose2d grouped": "its transposed convolution does not know groups",
    "local_response_norm": "its LRN goes over as many channels as there are samples",
    "gather": "it wants an index as large as the input",
    "pad": "it does not crop by negative widths",
    "pad by reflection": "it does not crop by negative widths",
}
"""What onnx's evaluator gets wrong; onnxruntime has the say there."""

FLOAT32_INSIDE = {
    "elu", "leaky_relu", "hardshrink", "softshrink", "gelu exact", "erf", "upsample bicubically",
}  # fmt: skip
"""Layers whose numbers the file or the evaluator holds in float32."""

PAIR = ((2, 3, 4, 5), (3, 1, 5))

MORE = {
    "adaptive_avg_pool1d of one size": (fc.adaptive_avg_pool1d(3), (2, 3, 6)),
    "adaptive_avg_pool3d of one size": (fc.adaptive_avg_pool3d((2, 1, 3)), (2, 3, 4, 5, 6)),
    "adaptive_max_pool1d of one size": (fc.adaptive_max_pool1d(3), (2, 3, 6)),
    "adaptive_max_pool3d of one size": (fc.adaptive_max_pool3d((2, 1, 3)), (2, 3, 4, 5, 6)),
    "adaptive_avg_pool2d to one": (fc.adaptive_avg_pool2d(1), (2, 3, 4, 5)),
    "lp_pool1d of even power": (fc.lp_pool1d(4, 3, stride=2), (2, 3, 7)),
    "lp_pool3d of even power": (fc.lp_pool3d(2, 2), (2, 1, 5, 4, 3)),
    "avg_pool3d plain": (
        fc.avg_pool3d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        (2, 3, 5, 6, 7),
    ),
    "upsample by whole areas": (fc.upsample(size=(2, 5), mode="area"), (2, 3, 4, 5)),
    "upsample exactly": (fc.upsample(scale_factor=1.5, mode="nearest-exact"), (2, 3, 4, 6)),
    "upsample by corners": (fc.upsample(size=(7, 9), mode="bilinear", align_corners=True), (2, 3, 4, 5)),
    "upsample in three axes": (fc.upsample(scale_factor=(2.0, 1.5, 0.5), mode="trilinear"), (2, 3, 4, 4, 4)),
    "conv2d without padding, by rows": (
        fc.conv2d(4, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False),
        (2, 3, 9, 8),
    ),
    "softplus plain": (fc.softplus(), (2, 3)),
    "threshold to 0": (fc.threshold(0.25, 0.0), (2, 3)),
    "clamp from below": (fc.clamp(0.25), (2, 3)),
    "clamp from above": (fc.clamp(None, 0.25), (2, 3)),
    "power": (fc.power(2.0), (2, 3)),
    "exp": (fc.exp(), (2, 3)),
    "log": (fc.compose(fc.abs(), fc.log()), (2, 3)),
    "sqrt": (fc.compose(fc.abs(), fc.sqrt()), (2, 3)),
    "reciprocal": (fc.reciprocal(), (2, 3)),
    "scale alone": (fc.scale_shift(2.0), (2, 3)),
    "split into sizes": (fc.split((1, 2, 1), 1, dim=1), (2, 4, 3)),
    "split by one size": (fc.split(3, 1, dim=1), (2, 4, 3)),
    "chunk": (fc.chunk(3, 1, dim=-1), (2, 4, 8)),
    "slice by steps": (fc.slice_along(1, -5, None, 2), (2, 6, 3)),
    "slice of the batch": (fc.slice_along(0, 1), (3, 2)),
    "squeeze some": (fc.squeeze((1, -1)), (2, 1, 3, 1)),
    "view": (fc.view(-1, 6), (2, 4, 3)),
    "unflatten": (fc.unflatten(1, (2, -1)), (2, 6, 3)),
    "flatten all": (fc.flatten(0), (2, 4, 3)),
    "mean of all": (fc.mean(), (2, 4, 3)),
    "amax kept": (fc.amax((1, 2), keepdim=True), (2, 4, 3)),
    "add": (fc.add(), (*PAIR, (5,))),
    "subtract": (fc.subtract(), PAIR),
    "multiply": (fc.multiply(), PAIR),
    "divide": (fc.divide(), PAIR),
    "maximum": (fc.maximum(), PAIR),
    "minimum": (fc.minimum(), PAIR),
    "matmul": (fc.matmul(), ((2, 3, 4), (4, 5))),
    "matmul with a vector": (fc.matmul(), ((2, 3, 4), (4,))),
    "concat": (fc.concat(), ((2, 3, 4), (2, 1, 4))),
    "stack": (fc.stack(1), ((2, 3, 4), (2, 3, 4))),
    "bilinear": (fc.bilinear(3), ((4, 5), (4, 2))),
    "bilinear without bias": (fc.bilinear(2, bias=False), ((2, 3, 4), (2, 3, 2))),
    "compare": (fc.compare("less"), ((2, 3), (2, 3))),
    "compare for difference": (fc.compare("not_equal"), ((2, 3), (2, 3))),
    "choose": (fc.choose(), ((2, 3), (2, 3), (3,))),
    "call of a convolution": (fc.call("conv2d", padding=1), ((2, 3, 4, 4), (4, 3, 3, 3))),
    "batch_norm of one axis plain": (fc.batch_norm(track_running_stats=False, affine=False), (4, 3)),
    "batch_norm without affine": (fc.batch_norm(affine=False), (2, 3, 4, 5)),
    "local_response_norm of even size": (fc.local_response_norm(4, beta=0.5), (2, 5, 3, 4)),
    "unflatten of the batch": (fc.unflatten(0, (2, -1)), (4, 3)),
    "attention of grouped queries": (
        fc.scaled_dot_product_attention(enable_gqa=True),
        ((2, 4, 5, 4), (2, 2, 6, 4), (2, 2, 6, 3)),
    ),
    "upsample by corners without aliasing": (
        fc.upsample(size=(2, 3), mode="bicubic", antialias=True, align_corners=True),
        (2, 3, 7, 8),
    ),
    "pixel_shuffle with more axes": (fc.pixel_shuffle(2), (2, 3, 8, 3, 2)),
    "pixel_unshuffle with more axes": (fc.pixel_unshuffle(2), (2, 3, 2, 4, 6)),
    "flip of one axis, named twice": (fc.flip(1, -1), (2, 3)),
    "cumprod of the batch": (fc.cumprod(0), (2, 3)),
    "var of the batch": (fc.var(0), (3, 2)),
    "roll of the batch by more": (fc.roll(7, 0), (3, 4)),
    "pow": (fc.pow(), ((2, 3), (2, 3))),
    "einsum": (fc.einsum("bij,bkj->bik"), ((2, 3, 4), (2, 5, 4))),
    "einsum of a diagonal": (fc.einsum("bii->bi"), (2, 3, 3)),
    "where": (fc.where([True, False, True]), ((2, 3), (2, 1))),
    "attention": (fc.scaled_dot_product_attention(), ((2, 2, 5, 4), (2, 2, 6, 4), (2, 2, 6, 3))),
    "attention with a mask": (
        fc.scaled_dot_product_attention(scale=0.3),
        ((2, 5, 4), (2, 6, 4), (2, 6, 3), (5, 6)),
    ),
    "causal attention": (
        fc.scaled_dot_product_attention(is_causal=True),
        ((2, 5, 4), (2, 6, 4), (2, 6, 3)),
    ),
    "flip of the batch": (fc.flip(0), (2, 3)),
    "index_select of two axes": (fc.index((None, [[1, 0], [2, 2]])), (2, 3, 4)),
    "index apart": (fc.index(([0, 1, 1], None, [1, 1, 0])), (2, 3, 4)),
    "index behind": (fc.index((None, None, [0, 2, 2], [1, 1, 0])), (2, 3, 4, 5)),
    "roll of all": (fc.roll(5), (2, 3, 4)),
    "roll of the batch": (fc.roll(1, 0), (3, 4)),
    "std of a sample": (fc.std((1, 2)), (2, 3, 4)),
    "tile with more axes": (fc.tile(2, 1, 1), (2, 3)),
    "norm of power 3": (fc.vector_norm(3, 1), (2, 3, 4)),
    "largest norm": (fc.vector_norm(np.inf, 1), (2, 3, 4)),
    "smallest norm": (fc.vector_norm(-np.inf, 1, keepdim=True), (2, 3, 4)),
}
"""Cases beside those of the table that all tests share."""

WRITTEN = LAYERS | MORE


def entries(name, shape, dtype=np.float32):
    if shape and isinstance(shape[0], tuple):
        return tuple(entries(name, s, dtype) for s in shape)
    x = fc.random.normal(fc.random.key(1), shape, dtype)
    return (abs(4 * x) % 4).astype(np.int64) if name.startswith("embedding") else x


def as_network(layer, shape):
    """Return a layer a name in a network; one of several inputs becomes a graph of them."""
    if shape and isinstance(shape[0], tuple):
        names = [f"x{i}" for i in range(len(shape))]
        return fc.graph({"0": (layer, *names)}, inputs=names), dict(zip(names, shape, strict=True))
    return fc.compose(layer), shape


def feed(net, x):
    return x if isinstance(x, dict) else {net.wiring(x.shape).inputs[0]: x}


def by_reference(path, inputs):
    return ReferenceEvaluator(str(path)).run(None, inputs)


def by_runtime(path, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def evaluators(name, dtype):
    """List those that run a layer's file; onnxruntime knows few operators of float64."""
    runs = [] if name in REFERENCE_FAILS else [by_reference]
    return [*runs, by_runtime] if onnxruntime is not None and dtype == np.float32 else runs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", WRITTEN)
def test_every_layer_goes_there_and_back(name, dtype, tmp_path):
    net, shape = as_network(*WRITTEN[name])
    params, path = net.init(fc.random.key(0), shape, dtype), tmp_path / "net.onnx"
    fc.to_onnx(net, params, shape, path, dtype=dtype)
    x = entries(name, shape, dtype) if not isinstance(shape, dict) else {
        source: entries(name, s, dtype) for source, s in shape.items()
    }  # fmt: skip
    y = net.apply(params, x)
    tolerance = 1e-5 if dtype == np.float32 else 1e-6 if name in FLOAT32_INSIDE else 1e-9
    for run in evaluators(name, dtype):
        (found,) = run(path, feed(net, x))
        assert found.dtype == y.dtype
        np.testing.assert_allclose(found, y, tolerance, tolerance, err_msg=f"{name} by {run.__name__}")
    again, read = fc.from_onnx(path)
    np.testing.assert_allclose(again.apply(read, x), y, tolerance, tolerance, err_msg=f"{name} read again")
    ours, theirs = fc.to_state_dict(params), fc.to_state_dict(read)
    assert ours.keys() == theirs.keys()
    for leaf, array in ours.items():
        assert theirs[leaf].dtype == array.dtype
        np.testing.assert_array_equal(theirs[leaf], array, err_msg=leaf)


@pytest.mark.parametrize("name", NO_OPERATOR)
def test_what_has_no_operator_is_refused_before_a_file_is_there(name, tmp_path):
    layer, shape, text = NO_OPERATOR[name]
    net, shape = as_network(layer, shape)
    params = net.init(fc.random.key(0), shape)
    with pytest.raises(ValueError, match=rf"to_onnx.*\n  0 \(.*{text}"):
        fc.to_onnx(net, params, shape, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_every_layer_that_is_written_is_tested():
    tested = {layer.name for layer, _ in WRITTEN.values()}
    tested |= {each.name for layer, _ in WRITTEN.values() for each in layer.children.values()}
    tested |= {"constant", "expand_like", "parameter"}  # inside networks below
    assert set(WRITINGS) == tested - {"compose"}


def test_a_token_for_every_example_is_written(tmp_path):
    nodes = {
        "token": (fc.parameter(1, 1, 4, init=fc.initializers.normal()),),
        "tokens": (fc.expand_like(None, -1, -1), "token", "x"),
        "all": (fc.concat(1), "tokens", "x"),
    }
    net, x = fc.graph(nodes), entries("tokens", (3, 5, 4))
    params = net.init(fc.random.key(0), x.shape)
    path = tmp_path / "net.onnx"
    fc.to_onnx(net, params, x.shape, path)
    for batch in (x, x[:2]):
        (found,) = by_runtime(path, {"x": batch})
        np.testing.assert_array_equal(found, net.apply(params, batch))


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
