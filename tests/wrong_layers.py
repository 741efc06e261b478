"""Wrong layers, each a kind of mistake that people make in a right layer, and layers that are right.

`Centred` is the right one: it scales, keeps a running mean, and drops elements in training. Each element of
`KINDS` is a class with one mistake.
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


KINDS = {}


def kind(text):
    def enter(made):
        KINDS[text] = made
        return made

    return enter


@kind("a wrong out_shape")
class _(Centred):
    def out_shape(self, shape):
        return (*shape, 1)


@kind("an out_shape right for this batch alone")
class _(Centred):
    def out_shape(self, shape):
        return (2, *shape[1:])


@kind("x written to")
class _(Centred):
    def apply(self, params, x, *, train=False, key=None):
        x -= self.of(self.mean(params, x, train), x)
        return (x * self.of(params["weight"], x) + self.of(params["bias"], x)) * self.mask(x, train, key)


@kind("parameters written to by vjp")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        found = super().vjp(params, x, g, train=train, key=key)
        params["bias"] += 1
        return found


@kind("a float64 output for float32")
class _(Centred):
    def apply(self, params, x, *, train=False, key=None):
        return super().apply(params, x, train=train, key=key).astype(np.float64)


@kind("init takes no notice of the dtype")
class _(Centred):
    def init(self, key, shape, dtype=np.float32):
        return super().init(key, shape, np.float64)


@kind("init draws from the global generator")
class _(Centred):
    def init(self, key, shape, dtype=np.float32):
        return {**super().init(key, shape, dtype), "weight": np.random.random(shape[1]).astype(dtype)}  # noqa: NPY002


@kind("init gives numbers in place of arrays")
class _(Centred):
    def init(self, key, shape, dtype=np.float32):
        return {**super().init(key, shape, dtype), "bias": 0.0}


@kind("gradients of another structure")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g, train=train, key=key)
        return (dparams["weight"], dparams["bias"], None), dx


@kind("the input's gradient alone")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        return super().vjp(params, x, g, train=train, key=key)[1]


@kind("a gradient of another shape")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g, train=train, key=key)
        return {**dparams, "bias": dparams["bias"][:, None]}, dx


@kind("the gradient of evaluation in training")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        mask = self.mask(x, train, key)
        dparams, _ = super().vjp(params, x, g, train=train, key=key)
        return dparams, g * mask * self.of(params["weight"], x)


@kind("a gradient wrong for float32 alone")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g, train=train, key=key)
        return dparams, dx * 2 if x.dtype == np.float32 else dx


@kind("a float64 gradient for float32")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g, train=train, key=key)
        return {**dparams, "weight": dparams["weight"].astype(np.float64)}, dx


@kind("wrong for other memory orders of x")
class _(Centred):
    def apply(self, params, x, *, train=False, key=None):
        return super().apply(params, x.ravel(order="K").reshape(x.shape), train=train, key=key)


@kind("a gradient wrong for other memory orders of x")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        return super().vjp(params, x.ravel(order="K").reshape(x.shape), g, train=train, key=key)


@kind("a gradient wrong for a g that broadcasts")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        return super().vjp(params, x, g if min(map(abs, g.strides)) else g / g.size, train=train, key=key)


@kind("a pullback alone wrong for a g that broadcasts")
class _(Centred):
    def forward(self, params, x, *, train=False, key=None):
        y, refreshed, pullback = super().forward(params, x, train=train, key=key)
        return (
            y,
            refreshed,
            lambda g, input_grad=True: pullback(g if min(map(abs, g.strides)) else 0 * g, input_grad),
        )


@kind("None for a trained parameter")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g, train=train, key=key)
        return {**dparams, "bias": None}, dx


@kind("None for the input")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        return super().vjp(params, x, g, train=train, key=key)[0], None


@kind("a statistic with a gradient of zeros")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g, train=train, key=key)
        return {**dparams, "running_mean": np.zeros_like(params["running_mean"])}, dx


@kind("a stale x, that of the last apply")
class _(Centred):
    def apply(self, params, x, *, train=False, key=None):
        self.x = x
        return super().apply(params, x, train=train, key=key)

    def vjp(self, params, x, g, *, train=False, key=None):
        kept = self.x if self.x.shape == x.shape and self.x.dtype == x.dtype else x
        return super().vjp(params, kept, g, train=train, key=key)


@kind("a stale x in the pullback, that of the last forward")
class _(Centred):
    def forward(self, params, x, *, train=False, key=None):
        self.x = x
        y = self.apply(params, x, train=train, key=key)

        def pullback(g, input_grad=True):
            dparams, dx = self.vjp(params, self.x, g, train=train, key=key)
            return dparams, dx if input_grad else None

        return y, self.refreshed(params, x, train), pullback


@kind("a pullback wrong at its second call")
class _(Centred):
    def forward(self, params, x, *, train=False, key=None):
        y, refreshed, pullback = super().forward(params, x, train=train, key=key)
        calls = []

        def counting(g, input_grad=True):
            calls.append(1)
            dparams, dx = pullback(g, input_grad)
            if len(calls) > 1:
                dparams = {**dparams, "weight": 0 * dparams["weight"]}
            return dparams, dx

        return y, refreshed, counting


@kind("a pullback that can be called once")
class _(Centred):
    def forward(self, params, x, *, train=False, key=None):
        y, refreshed, pullback = super().forward(params, x, train=train, key=key)
        kept = [pullback]
        return y, refreshed, lambda g, input_grad=True: kept.pop()(g, input_grad)


@kind("other parameter gradients with input_grad=False")
class _(Centred):
    def forward(self, params, x, *, train=False, key=None):
        y, refreshed, pullback = super().forward(params, x, train=train, key=key)

        def other(g, input_grad=True):
            dparams, dx = pullback(g, input_grad)
            return dparams if input_grad else {**dparams, "bias": 0 * dparams["bias"]}, dx

        return y, refreshed, other


@kind("input_grad=False ignored")
class _(Centred):
    def forward(self, params, x, *, train=False, key=None):
        y, refreshed, pullback = super().forward(params, x, train=train, key=key)
        return y, refreshed, lambda g, input_grad=True: pullback(g)


@kind("a refreshed statistic of another shape")
class _(Centred):
    def refreshed(self, params, x, train):
        found = super().refreshed(params, x, train)
        return {**found, "running_mean": found["running_mean"][None]} if train else found


@kind("a refreshed statistic of another dtype")
class _(Centred):
    def refreshed(self, params, x, train):
        found = super().refreshed(params, x, train)
        return {**found, "running_mean": found["running_mean"].astype(np.float64)} if train else found


@kind("a refreshed statistic that is lost")
class _(Centred):
    def refreshed(self, params, x, train):
        return {"weight": params["weight"], "bias": params["bias"]}


@kind("a forward that changes trained parameters")
class _(Centred):
    def refreshed(self, params, x, train):
        found = super().refreshed(params, x, train)
        return {**found, "weight": params["weight"] * x.dtype.type(0.99)} if train else found


@kind("a forward that refreshes outside training")
class _(Centred):
    def refreshed(self, params, x, train):
        return super().refreshed(params, x, True)


@kind("a forward that takes no notice of train")
class _(Centred):
    def forward(self, params, x, *, train=False, key=None):
        return super().forward(params, x)


@kind("a forward of two things")
class _(Centred):
    def forward(self, params, x, *, train=False, key=None):
        return super().forward(params, x, train=train, key=key)[::2]


@kind("training by default")
class _(Centred):
    def apply(self, params, x, *, train=True, key=None):
        centred = x - self.of(self.mean(params, x, train), x)
        return centred * self.of(params["weight"], x) + self.of(params["bias"], x)

    def mask(self, x, train, key):
        return np.ones(x.shape, x.dtype)


@kind("nothing dropped, without a word, where the key is missing")
class _(Centred):
    def mask(self, x, train, key):
        return super().mask(x, train and key is not None, key)


@kind("another mask in the gradient")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        return super().vjp(params, x, g, train=train, key=random.fold_in(key, 1) if train else key)


@kind("a mask from the global generator")
class _(Centred):
    def mask(self, x, train, key):
        return (np.random.random(x.shape) > 0.5).astype(x.dtype) if train else np.ones(x.shape, x.dtype)  # noqa: NPY002


@kind("a gradient right for this batch alone")
class _(Centred):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g, train=train, key=key)
        return {**dparams, "weight": dparams["weight"] * x.dtype.type(2 / len(x))}, dx


@kind("results in one memory")
class _(Centred):
    memory = None

    def apply(self, params, x, *, train=False, key=None):
        y = super().apply(params, x, train=train, key=key)
        if self.memory is None or self.memory.shape != y.shape or self.memory.dtype != y.dtype:
            self.memory = np.empty_like(y)
        self.memory[...] = y
        return self.memory


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


OF_TWO = {}


def kind_of_two(text):
    def enter(made):
        OF_TWO[text] = made
        return made

    return enter


@kind_of_two("gradients of two inputs exchanged")
class _(Ratio):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g)
        return dparams, dx[::-1]


@kind_of_two("None for one of two inputs")
class _(Ratio):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g)
        return dparams, (dx[0], None)


@kind_of_two("one gradient for two inputs")
class _(Ratio):
    def vjp(self, params, x, g, *, train=False, key=None):
        dparams, dx = super().vjp(params, x, g)
        return dparams, dx[0]


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
