"""fconv."""

from __future__ import annotations

from importlib import metadata
from itertools import count

import numpy as np

import fconv as fc
from benchmarks.libraries import CHANNELS_LAST, device
from benchmarks.networks import in_fconv
from fconv import functional as F
from fconv.engine import compiled

VERSIONS = ("fconv-nn", "numpy", "scipy")
LOSSES = {"mse": fc.mse_loss, "nll": fc.nll_loss, "cross_entropy": fc.cross_entropy_loss}
set_device = device.choose


def laid(x, layout):
    """Put an array into a memory order, under its channels-first shape."""
    if layout != CHANNELS_LAST:
        return x
    xp = fc.arrays.xp_of(x)
    return xp.moveaxis(xp.ascontiguousarray(xp.moveaxis(x, 1, -1)), -1, 1)


def convolution(case, what, layout):
    x, w, b, g = device.there(case.arrays())
    x, g = laid(x, layout), laid(g, layout)
    function = getattr(F, f"conv{'_transpose' * case.transposed}{case.ndim}d")
    options = {name: getattr(case, name) for name in ("stride", "padding", "dilation", "groups")}
    if what == "forward":
        return device.finished(lambda: (function(x, w, b, **options),))
    if what == "vjp":
        return device.finished(lambda: function.vjp(g, x, w, b, **options))
    return device.finished(lambda: (function.vjp(g, x, w, b, **options, wrt="weight")[1],))


def passing(case, what, layout):
    """Return a function of large arrays that computes little, or its gradient, without arguments."""
    x, g = (laid(a, layout) for a in device.there(case.arrays()))
    if case.function == "copy":
        return device.finished(lambda: (x.copy(order="K"),))
    function = getattr(F, case.function)
    before = (device.there(a) if isinstance(a, np.ndarray) else a for a in case.before())
    args = (x, *before, *(device.there(a) for a in case.weights()))
    if what == "forward":
        return device.finished(lambda: (function(*args, **case.options),))
    _, pullback = function.forward(*args, **case.options)
    return device.finished(lambda: tuple(a for a in as_tuple(pullback(g)) if a is not None))


def as_tuple(grads):
    return grads if isinstance(grads, tuple) else (grads,)


def step(case, weights, layout, dropout, dtype):
    """Return a function that trains one step and returns its loss, and one that returns the momentum."""
    x, target = device.there(case.batch(dtype))
    x = laid(x, layout)
    net = in_fconv(case.network, dropout=dropout)
    opt = fc.sgd(lr=0.01, momentum=0.9)
    params = device.there(fc.from_state_dict(net.init(fc.random.key(1), case.shape, dtype), weights))
    state, key = opt.init(params), fc.random.key(2)
    loss_and_grad = fc.value_and_grad(net, LOSSES[case.loss]())
    numbers = count()

    def take():
        nonlocal params, state
        loss, grads, params = loss_and_grad(params, x, target, key=fc.random.fold_in(key, next(numbers)))
        params, state = opt.step(params, grads, state)
        return float(loss)

    def momentum():
        leaves = fc.trees.leaves_with_path(fc.to_device(state["leaves"], "cpu"))
        return {".".join(path[:-1]): leaf for path, leaf in leaves if path[-1] == "momentum_buffer"}

    return device.finished(take), momentum


def inference(case, weights, layout):
    x = laid(device.there(case.pictures()), layout)
    net = in_fconv(case.network, dropout=0.0)
    params = fc.from_state_dict(net.init(fc.random.key(1), case.shape), weights)
    net, params = fc.for_inference(net, device.there(params))  # as who only infers would
    return device.finished(lambda: (net.apply(params, x),))


def numpy(results):
    return list(fc.to_device(results, "cpu"))


def details():
    """Name the GPU, or what compiles loops on the CPU."""
    return device.details() or (
        "kernels by llvmlite " + metadata.version("llvmlite")
        if compiled.wished() and not compiled.problem()
        else ""
    )


def set_threads(n):
    fc.set_num_threads(n)
