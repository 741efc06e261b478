"""Wrong layers, each a kind of mistake that people make in a right layer.

Each value of `KINDS` is `Centred` with one mistake, and each of `OF_TWO` is `Ratio` with one.
"""

from __future__ import annotations

import numpy as np

from fconv import random
from tests.right_layers import Centred, Ratio

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
