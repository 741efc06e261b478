"""Layers that are right, which the checks of gradients must let pass: ours, and some written here.

`Centred` scales, keeps a running mean, and drops elements in training.
"""

from __future__ import annotations

import numpy as np

import fconv as fc
from fconv import random

BUFFERS = ("running_mean",)


class Centred:
    """Take away the mean over the batch (outside training: the running mean), scale, drop elements."""

    name, buffers = "centred", BUFFERS

    def init(self, key, shape, dtype=np.float32):
        channels = shape[1]
        weight = random.uniform(key, (channels,), dtype, 0.5, 1.5)
        return {
            "weight": weight,
            "bias": np.zeros(channels, dtype),
            "running_mean": np.zeros(channels, dtype),
        }

    def out_shape(self, shape):
        return tuple(shape)

    def of(self, p, x):
        """Return an array of the channels the shape that it is multiplied in."""
        return p.reshape((-1,) + (1,) * (x.ndim - 2))

    def mean(self, params, x, train):
        return x.mean(self.axes(x)) if train else params["running_mean"]

    def axes(self, x):
        return (0, *range(2, x.ndim))

    def mask(self, x, train, key):
        if not train:
            return np.ones(x.shape, x.dtype)
        if key is None:
            raise ValueError("centred: needs a key in training")
        return random.bernoulli(key, 0.5, x.shape).astype(x.dtype) * x.dtype.type(2)

    def apply(self, params, x, *, train=False, key=None):
        centred = x - self.of(self.mean(params, x, train), x)
        y = centred * self.of(params["weight"], x) + self.of(params["bias"], x)
        return y * self.mask(x, train, key)

    def vjp(self, params, x, g, *, train=False, key=None):
        g = g * self.mask(x, train, key)
        centred = x - self.of(self.mean(params, x, train), x)
        dweight, dbias = (g * centred).sum(self.axes(x)), g.sum(self.axes(x))
        dx = g * self.of(params["weight"], x)
        if train:
            dx = dx - self.of(dx.mean(self.axes(x)), x)
        return {"weight": dweight, "bias": dbias, "running_mean": None}, dx

    def refreshed(self, params, x, train):
        if not train:
            return params
        return {
            **params,
            "running_mean": params["running_mean"] * x.dtype.type(0.9)
            + self.mean(params, x, True) * x.dtype.type(0.1),
        }

    def forward(self, params, x, *, train=False, key=None):
        y = self.apply(params, x, train=train, key=key)

        def pullback(g, input_grad=True):
            dparams, dx = self.vjp(params, x, g, train=train, key=key)
            return dparams, dx if input_grad else None

        return y, self.refreshed(params, x, train), pullback


class Ratio:
    """Two inputs: the first over the second, scaled."""

    name = "ratio"

    def init(self, key, shape, dtype=np.float32):
        return {"weight": np.ones(shape[0][-1], dtype)}

    def out_shape(self, shape):
        return tuple(shape[0])

    def apply(self, params, x, *, train=False, key=None):
        return params["weight"] * x[0] / x[1]

    def vjp(self, params, x, g, *, train=False, key=None):
        a, b = x
        da, db = g * params["weight"] / b, -g * params["weight"] * a / b**2
        return {"weight": (g * a / b).sum(tuple(range(g.ndim - 1)))}, (da, db)


class Powers:
    """Two outputs by name, of two inputs by name."""

    name = "powers"

    def init(self, key, shape, dtype=np.float32):
        return ()

    def out_shape(self, shape):
        return {"sum": shape["a"], "square": shape["b"]}

    def apply(self, params, x, *, train=False, key=None):
        return {"sum": x["a"] + x["b"], "square": x["b"] ** 2}

    def vjp(self, params, x, g, *, train=False, key=None):
        return (), {"a": g["sum"], "b": g["sum"] + 2 * x["b"] * g["square"]}


X = random.normal(random.key(0), (2, 3, 8, 8))
P = abs(random.normal(random.key(2), (2, 3, 4, 4))) + np.float32(0.5)
SMALL = random.normal(random.key(3), (2, 3, 4))


def conv_block():
    return fc.compose(
        fc.conv2d(4, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2), fc.dropout(0.3)
    )


RIGHT = {
    "centred": (Centred(), X), "centred in float64": (Centred(), X.astype(np.float64)),
    "centred in float16": (Centred(), SMALL.astype(np.float16)), "ratio": (Ratio(), (SMALL, P[..., 0])),
    "powers": (Powers(), {"a": SMALL, "b": SMALL[::-1]}), "conv2d": (fc.conv2d(4, 3, padding=1), X),
    "conv2d reflect": (fc.conv2d(2, 3, padding=1, padding_mode="reflect"), X),
    "conv2d grouped": (fc.conv2d(6, 3, groups=3, stride=2), X), "conv_transpose2d": (fc.conv_transpose2d(2, 3, stride=2), P),
    "linear": (fc.linear(5), SMALL), "linear of a vector": (fc.linear(5), SMALL[0, 0]),
    "batch_norm": (fc.batch_norm(), X), "batch_norm without affine": (fc.batch_norm(affine=False), SMALL),
    "instance_norm": (fc.instance_norm(track_running_stats=True), X), "group_norm": (fc.group_norm(3), P),
    "layer_norm": (fc.layer_norm((3, 4)), SMALL), "dropout": (fc.dropout(0.4), X), "dropout2d": (fc.dropout2d(0.4), X),
    "embedding": (fc.embedding(7, 3), np.array([[0, 3, 6], [2, 2, 1]])), "max_pool2d": (fc.max_pool2d(2), X),
    "max_pool2d of ties": (fc.max_pool2d(2), np.ones((2, 3, 4, 4))), "relu of zeros": (fc.relu(), np.zeros((2, 3))),
    "log": (fc.layers.log(), P), "sqrt": (fc.layers.sqrt(), P), "upsample": (fc.upsample(scale_factor=2, mode="bilinear"), P),
    "bilinear": (fc.bilinear(2), (SMALL, P[:, :, 0, :3])), "add": (fc.add(), (SMALL, SMALL, SMALL[:1])),
    "divide": (fc.divide(), (SMALL, P[..., 0])), "concat": (fc.concat(), (X, X[:, :2])), "matmul": (fc.matmul(), (P, P)),
    "parameter": (fc.parameter(2, 3), ()), "a buffer": (fc.graph({
        "b": (fc.parameter(3, 1, 1, trained=False, init=fc.initializers.ones()),), "y": (fc.multiply(), "x", "b")}), P),
    "call": (fc.call("conv2d", padding=1), (P, P[:, :, :3, :3])), "flatten": (fc.flatten(), X),
    "block": (conv_block(), X), "residual": (fc.residual(fc.compose(fc.conv2d(3, 3, padding=1), fc.batch_norm())), X),
    "parallel": (fc.parallel(fc.conv2d(2, 1), fc.identity(), merge="concat"), X),
    "shared": (fc.repeat(fc.compose(fc.conv2d(3, 3, padding=1), fc.batch_norm(), fc.tanh()), 2, shared=True), P),
    "shared in a graph": (fc.graph({"a": (fc.linear(4), "x"), "b": ("a", "a"), "c": (fc.add(), "a", "b")}), SMALL),
    "several inputs and outputs": (fc.graph(
        {"a": (fc.linear(4), "p"), "b": (fc.add(), "a", "q"), "c": (fc.tanh(), "q")}, inputs=["p", "q"],
        outputs=["b", "c"]), {"p": SMALL, "q": SMALL[::-1]}),
    "squeeze_excitation": (fc.squeeze_excitation(1), P), "user's in a network": (fc.compose(Centred(), fc.relu()), X),
    "constant input": (conv_block(), np.ones((2, 3, 8, 8), np.float32)),
}  # fmt: skip
