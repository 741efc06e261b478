"""Layers through ONNX files and back, against what else runs such files."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv.onnx.operators import WRITINGS
from tests.test_layers import LAYERS

onnx = pytest.importorskip("onnx")
from tests.parity.onnx_evaluators import as_network, by_runtime, entries, evaluators, feed  # noqa: E402

NO_OPERATOR = {
    "call of a loss": (fc.call("l1_loss", ("x", "target")), ((2, 3), (2, 3)), "call of l1_loss has no"),
}
"""Layers that are refused, and what the refusal says."""

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
