"""Bad input: a ValueError or TypeError that names the layer, what was expected and what came."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F

KEY = fc.random.key(0)
X = np.ones((2, 3, 8, 8), np.float32)
W = np.ones((4, 3, 3, 3), np.float32)
B = np.ones(4, np.float32)

FUNCTIONS = [
    (lambda: F.conv2d(X[0, 0], W), ValueError, "conv2d: expected an input of 4 axes (N, C, H, W), got shape (8, 8)"),
    (lambda: F.conv2d(X, W[0]), ValueError, "conv2d: expected a weight of 4 axes"),
    (lambda: F.conv2d(X[:, :2], W), ValueError, "conv2d: expected 3 input channels, got 2 (input shape (2, 2, 8, 8))"),
    (lambda: F.conv2d(X, W, B[:3]), ValueError, "conv2d: expected a bias of shape (4,)"),
    (lambda: F.conv2d(X[..., :2], W), ValueError, "conv2d: a window of 3 (kernel_size 3, dilation 1) is larger than the padded input of 2"),
    (lambda: F.conv2d(X, W, dilation=4), ValueError, "conv2d: a window of 9"),
    (lambda: F.conv2d(X, W, stride=0), ValueError, "conv2d: stride must be at least 1, got 0"),
    (lambda: F.conv2d(X, W, stride=-1), ValueError, "conv2d: stride must be at least 1, got -1"),
    (lambda: F.conv2d(X, W, stride=(1, 2, 3)), ValueError, "conv2d: stride must be one integer or 2, got 3"),
    (lambda: F.conv2d(X, W, stride=1.5), TypeError, "conv2d: stride must be an integer, got 1.5"),
    (lambda: F.conv2d(X, W, stride=True), TypeError, "conv2d: stride must be an integer, got True"),
    (lambda: F.conv2d(X, W, dilation=0), ValueError, "conv2d: dilation must be at least 1, got 0"),
    (lambda: F.conv2d(X, W, padding=-1), ValueError, "conv2d: padding must be at least 0, got -1"),
    (lambda: F.conv2d(X, W, padding="sane"), ValueError, "conv2d: padding must be a number, \"same\" or \"valid\", got 'sane'"),
    (lambda: F.conv2d(X, W, padding="same", stride=2), ValueError, 'conv2d: padding="same" needs stride 1'),
    (lambda: F.conv2d(X, W, groups=0), ValueError, "conv2d: groups must be at least 1, got 0"),
    (lambda: F.conv2d(X, W[:, :1], groups=3), ValueError, "conv2d: groups must divide out_channels, got groups=3 and out_channels=4"),
    (lambda: F.conv2d(X.astype(np.int64), W), TypeError, "conv2d: x must be a real floating-point array, got int64"),
    (lambda: F.conv2d(X.astype(complex), W), TypeError, "conv2d: x must be a real floating-point array, got complex128"),
    (lambda: F.conv2d(X, W.astype(np.float64)), TypeError, "conv2d: x is float32 but weight is float64"),
    (lambda: F.conv2d(X, W, B.astype(np.float16)), TypeError, "conv2d: x is float32 but bias is float16"),
    (lambda: F.linear(X, W[0, 0]), ValueError, "linear: expected 3 input features on the last axis, got input shape (2, 3, 8, 8)"),
    (lambda: F.linear(X, W), ValueError, "linear: expected a weight of shape (out_features, in_features)"),
    (lambda: F.linear(X, W[0, 0, :, :1].repeat(8, 1), B), ValueError, "linear: expected a bias of shape (3,)"),
    (lambda: F.max_pool2d(X, 0), ValueError, "max_pool2d: kernel_size must be at least 1, got 0"),
    (lambda: F.max_pool2d(X, 9), ValueError, "max_pool2d: a window of 9"),
    (lambda: F.max_pool2d(X, 2, padding=2), ValueError, "max_pool2d: padding must be at most half the kernel_size"),
    (lambda: F.max_pool2d(X[0, 0], 2), ValueError, "max_pool2d: expected an input of 4 axes"),
    (lambda: F.avg_pool2d(X, 2, divisor_override=0), ValueError, "avg_pool2d: divisor_override must not be 0"),
    (lambda: F.batch_norm(X[0, 0, 0]), ValueError, "batch_norm: expected an input of shape (N, C, ...)"),
    (lambda: F.batch_norm(X, B, B), ValueError, "batch_norm: expected a running_mean of shape (3,) for 3 channels"),
    (lambda: F.batch_norm(X[:1, :, :1, :1], training=True), ValueError, "batch_norm: expected more than one value per channel"),
    (lambda: F.softmax(X, dim=4), ValueError, "softmax: expected an axis of an array of shape (2, 3, 8, 8), got dim=4"),
    (lambda: F.log_softmax(X, dim=1.0), TypeError, "log_softmax: dim must be an integer, got 1.0"),
    (lambda: F.interpolate(X), ValueError, "interpolate: give either size or scale_factor"),
    (lambda: F.interpolate(X, 3, 2.0), ValueError, "interpolate: give either size or scale_factor"),
    (lambda: F.interpolate(X, scale_factor=0), ValueError, "interpolate: scale_factor must be positive and finite"),
    (lambda: F.interpolate(X, scale_factor=0.01), ValueError, "interpolate: scale_factor 0.01 leaves no pixel"),
    (lambda: F.interpolate(X, scale_factor="2"), TypeError, "interpolate: scale_factor must be a number"),
    (lambda: F.interpolate(X, scale_factor=(1, 2, 3)), ValueError, "interpolate: scale_factor must be one number or 2"),
    (lambda: F.interpolate(X, 0), ValueError, "interpolate: size must be at least 1, got 0"),
    (lambda: F.interpolate(X, 3, mode="cubist"), ValueError, "interpolate: expected mode"),
    (lambda: F.interpolate(X[0, 0], 3), ValueError, "interpolate: expected an input of 3 to 5 axes"),
    (lambda: F.interpolate(X[:, :, :0], 3), ValueError, "interpolate: expected at least one pixel"),
    (lambda: F.pixel_shuffle(X, 2), ValueError, "pixel_shuffle: expected channels that 2**2 = 4 divides, got 3"),
    (lambda: F.pixel_unshuffle(X, 3), ValueError, "pixel_unshuffle: expected a height and width that 3 divides"),
    (lambda: F.pixel_shuffle(X[0, 0], 2), ValueError, "pixel_shuffle: expected an input of 3 axes or more"),
    (lambda: F.dropout(X, 1.5), ValueError, "dropout: expected a probability p from 0 to 1, got 1.5"),
    (lambda: F.dropout(X), ValueError, "dropout: a key is needed in training"),
    (lambda: F.dropout(X, key=7), TypeError, "dropout: expected a key made by fconv.random.key"),
    (lambda: F.flatten(X, 3, 2), ValueError, "flatten: start_dim comes after end_dim"),
    (lambda: F.flatten(X, 5), ValueError, "flatten: expected an axis"),
    (lambda: F.reshape(X, (5, -1)), ValueError, "reshape: cannot reshape an input of shape (2, 3, 8, 8) to (5, -1)"),
    (lambda: F.reshape(X, (-1, -1)), ValueError, "reshape: cannot reshape"),
    (lambda: F.mse_loss(X, X[0]), ValueError, "mse_loss: expected a target of the input's shape"),
    (lambda: F.mse_loss(X, X, "average"), ValueError, "mse_loss: expected reduction"),
    (lambda: F.cross_entropy(X[:, :, 0, 0], np.array([0, 3])), ValueError, "cross_entropy: expected labels from 0 to 2 (or ignore_index -100), got 3"),
    (lambda: F.cross_entropy(X[:, :, 0, 0], np.array([0, -1])), ValueError, "cross_entropy: expected labels from 0 to 2"),
    (lambda: F.cross_entropy(X[:, :, 0, 0], np.array([0.0, 1.0], "f4")), TypeError, "cross_entropy: expected integer class labels"),
    (lambda: F.cross_entropy(X[:, :, 0, 0], np.array([0])), ValueError, "cross_entropy: expected labels of shape (2,)"),
    (lambda: F.cross_entropy(X[:, :, 0, 0], np.array([0, 1]), B), ValueError, "cross_entropy: expected a weight of shape (3,)"),
    (lambda: F.cross_entropy(X[:, :, 0, 0], np.array([0, 1]), B[:3].astype(float)), TypeError, "cross_entropy: x is float32 but weight is float64"),
    (lambda: F.cross_entropy(X[:, :, 0, 0], np.array([0, 1]), label_smoothing=2), ValueError, "cross_entropy: expected label_smoothing from 0 to 1, got 2"),
    (lambda: F.nll_loss(X[0, 0, 0, 0].reshape(()), np.array(0)), ValueError, "nll_loss: expected an input of shape"),
]  # fmt: skip

LAYERS = [
    (lambda: fc.conv2d(0, 3), ValueError, "conv2d: out_channels must be at least 1, got 0"),
    (lambda: fc.conv2d(4, 0), ValueError, "conv2d: kernel_size must be at least 1, got 0"),
    (lambda: fc.conv2d(4, 3, groups=3), ValueError, "conv2d: groups must divide out_channels"),
    (lambda: fc.conv2d(4, 3, stride=-1), ValueError, "conv2d: stride must be at least 1, got -1"),
    (lambda: fc.conv2d(4, 3, paddding=1), TypeError, "unexpected keyword argument 'paddding'"),
    (lambda: fc.conv2d(4, 3, groups=2).init(KEY, (1, 3, 8, 8)), ValueError, "conv2d: groups must divide in_channels"),
    (lambda: fc.conv2d(4, 3).init(KEY, (8, 8)), ValueError, "conv2d: expected an input of 4 axes"),
    (lambda: fc.conv2d(4, 3).init(KEY, 8), TypeError, "conv2d: expected the input shape"),
    (lambda: fc.conv2d(4, 3).init(7, X.shape), TypeError, "conv2d.init: expected a key"),
    (lambda: fc.conv2d(4, 3).init(KEY, X.shape, np.int32), TypeError, "conv2d.init: expected a real floating-point dtype"),
    (lambda: fc.conv2d(4, 3).apply((), X), TypeError, "conv2d: expected a dict of parameters weight, bias, got tuple"),
    (lambda: fc.conv2d(4, 3).apply({"weight": W}, X), ValueError, "conv2d: expected parameters weight, bias, got weight"),
    (lambda: fc.relu().apply({"weight": W}, X), TypeError, "relu: expected no parameters, (), got dict"),
    (lambda: fc.linear(0), ValueError, "linear: out_features must be at least 1"),
    (lambda: fc.linear(2).out_shape(()), ValueError, "linear: expected an input of shape"),
    (lambda: fc.dropout(-0.1), ValueError, "dropout: expected a probability"),
    (lambda: fc.dropout().apply((), X, train=True), ValueError, "dropout: a key is needed in training"),
    (lambda: fc.batch_norm().apply({}, X), ValueError, "batch_norm: expected parameters weight, bias, running_mean"),
    (lambda: fc.batch_norm().init(KEY, (3,)), ValueError, "batch_norm: expected an input of shape (N, C, ...)"),
    (lambda: fc.layer_norm(4, eps="a"), TypeError, "layer_norm: expected eps to be a number, got 'a'"),
    (lambda: fc.group_norm(2, eps=-1.0), ValueError, "group_norm: expected eps from 0 to 1, got -1.0"),
    (lambda: fc.max_pool2d(2, stride=0), ValueError, "max_pool2d: stride must be at least 1, got 0"),
    (lambda: fc.upsample(), ValueError, "upsample: give either size or scale_factor"),
    (lambda: fc.pixel_shuffle(2).out_shape(X.shape), ValueError, "pixel_shuffle: expected channels that 2**2 = 4 divides"),
    (lambda: fc.max_pool2d(2, padding=3), ValueError, "max_pool2d: padding must be at most half"),
    (lambda: fc.flatten(9).out_shape(X.shape), ValueError, "flatten: an input of shape (2, 3, 8, 8) lacks"),
    (lambda: fc.reshape(5, 5).out_shape(X.shape), ValueError, "reshape: cannot reshape"),
    (lambda: fc.compose(fc.relu(), fc.relu), TypeError, "compose[1]: expected a layer, got function relu; was it meant to be called?"),
    (lambda: fc.compose(fc.relu(), 3), TypeError, "compose[1]: expected a layer, got int"),
    (lambda: fc.compose(fc.relu(), a=fc.relu()), TypeError, "compose: give layers either by position or by name"),
    (lambda: fc.compose(fc.relu()).apply((), X), ValueError, "compose: expected parameters for 1 layers, got 0"),
    (lambda: fc.compose(fc.relu()).apply({}, X), TypeError, "compose: expected a tuple of parameters"),
    (lambda: fc.compose(a=fc.relu()).apply((), X), TypeError, "compose: expected a dict of parameters for a"),
    (lambda: fc.compose(a=fc.relu()).apply({"b": ()}, X), ValueError, "compose: expected parameters for a, got b"),
    (lambda: fc.compose(fc.relu()).init(0, X.shape), TypeError, "compose.init: expected a key"),
    (lambda: fc.value_and_grad(fc.relu(), fc.mse_loss), TypeError, "value_and_grad: expected a loss with apply and vjp"),
    (lambda: fc.value_and_grad(fc.relu, fc.mse_loss()), TypeError, "value_and_grad: expected a layer, got function relu"),
    (lambda: fc.mse_loss(reduction="average"), ValueError, "mse_loss: expected reduction"),
    (lambda: fc.sgd(-1), ValueError, "sgd: expected lr of 0 or more, got -1"),
    (lambda: fc.sgd(1, momentum=-1), ValueError, "sgd: expected momentum from 0 to 1, got -1"),
    (lambda: fc.sgd(1, nesterov=True), ValueError, "sgd: nesterov needs a momentum and no dampening"),
    (lambda: fc.sgd(lambda i: -1.0).step(W, W, fc.sgd(1).init(W)), ValueError, "sgd: expected a learning rate of 0 or more, got -1.0 at step 0"),
    (lambda: fc.sgd(1).step({"w": W}, {"w": B}, fc.sgd(1).init({"w": W})), ValueError, "sgd: expected a gradient of float32 and shape (4, 3, 3, 3) for w, got float32 of shape (4,)"),
    (lambda: fc.sgd(1).step({"w": W}, {"v": W}, fc.sgd(1).init({"w": W})), ValueError, "trees differ at the root: expected a dict with 'w', got a dict with 'v'"),
    (lambda: fc.to_device(X, "tpu"), ValueError, 'to_device: expected "cpu", "cuda" or "cuda:N", got \'tpu\''),
    (lambda: fc.to_device(X, "cuda:x"), ValueError, "to_device: expected"),
    (lambda: fc.metrics.accuracy(X, np.array([1, 2])), ValueError, "accuracy: expected scores (N, C)"),
    (lambda: fc.metrics.accuracy(X[:, :, 0, 0], B), TypeError, "accuracy: expected integer class labels"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "text"), FUNCTIONS + LAYERS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_bad_input_is_named(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()


def test_errors_say_where_the_layer_stands():
    inner = fc.compose(fc.relu(), fc.conv2d(4, 3))
    net = fc.compose(fc.conv2d(2, 3), inner)
    params = net.init(KEY, X.shape)
    wrong = (params[0], ((), {**params[1][1], "weight": W}))
    text = (
        r"^compose\[1\] compose\[1\] conv2d: expected 3 input channels, got 2 \(input shape \(2, 2, 6, 6\)\)$"
    )
    for call in (net.apply, net.forward):
        with pytest.raises(ValueError, match=text):
            call(wrong, X)
    with pytest.raises(ValueError, match=r"^compose\[1\] compose\[1\] conv2d: a window of 3"):
        net.init(KEY, (2, 3, 4, 4))
    named = fc.compose(first=fc.conv2d(2, 3), drop=fc.dropout())
    with pytest.raises(ValueError, match=r"^compose\[drop\] dropout: a key is needed in training"):
        named.apply(named.init(KEY, X.shape), X, train=True)


def test_errors_of_users_own_layers_are_located_too():
    def broken(params, x, *, train=False, key=None):
        raise ValueError("no such thing")

    own = fc.Layer(
        init=lambda k, s, dtype=None: (), apply=broken, vjp=broken, out_shape=lambda s: s, name="own"
    )
    with pytest.raises(ValueError, match=r"^compose\[1\] own: no such thing$"):
        fc.compose(fc.relu(), own).apply(((), ()), X)


def test_a_gradient_of_the_wrong_shape_is_located():
    net = fc.compose(fc.relu(), fc.flatten())
    with pytest.raises(
        ValueError, match=r"^compose\[1\] flatten_vjp: expected a gradient of the output's shape"
    ):
        net.vjp(((), ()), X, X)


def test_nan_is_never_masked():
    x = X.copy()
    x[0, 0, 0, 0] = np.nan
    assert np.isnan(F.conv2d(x, W)[0, :, 0, 0]).all()
    assert np.isnan(F.relu(x)[0, 0, 0, 0])
    assert np.isnan(F.max_pool2d(x, 2)[0, 0, 0, 0])
    assert np.isnan(F.avg_pool2d(x, 2)[0, 0, 0, 0])
    assert np.isnan(F.dropout(x, 1.0, key=KEY)[0, 0, 0, 0])
    assert np.isnan(F.batch_norm(x, training=True)[:, 0]).all()
    assert np.isnan(F.interpolate(x, scale_factor=2)[0, 0, 0, 0])
    assert np.isfinite(F.interpolate(x, scale_factor=2)[0, 0, 2:]).all()
    assert np.isnan(F.mse_loss(x, X))


def test_no_argument_is_written_to_before_an_error():
    x = X.copy()
    with pytest.raises(ValueError, match="conv2d"):
        F.conv2d(x, W, stride=0)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("make", [fc.cumsum, fc.cumprod, fc.softmax, fc.log_softmax, fc.glu])
def test_layers_along_an_axis_refuse_a_shape_without_it(make):
    with pytest.raises(ValueError, match=r"shape \(2, 3\)|of 2 axes"):
        make(3).init(fc.random.key(0), (2, 3))
