"""fconv."""

from __future__ import annotations

from itertools import count

import numpy as np

import fconv as fc
from benchmarks.libraries import CHANNELS_LAST
from benchmarks.networks import in_fconv
from fconv import functional as F

VERSIONS = ("fconv", "numpy", "scipy")
LOSSES = {"mse": fc.mse_loss, "nll": fc.nll_loss, "cross_entropy": fc.cross_entropy_loss}


def laid(x, layout):
    """Put an array into a memory order, under its channels-first shape."""
    if layout != CHANNELS_LAST:
        return x
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def convolution(case, what, layout):
    x, w, b, g = case.arrays()
    x, g = laid(x, layout), laid(g, layout)
    function = getattr(F, f"conv{'_transpose' * case.transposed}{case.ndim}d")
    options = {name: getattr(case, name) for name in ("stride", "padding", "dilation", "groups")}
    if what == "forward":
        return lambda: (function(x, w, b, **options),)
    if what == "vjp":
        return lambda: function.vjp(g, x, w, b, **options)
    return lambda: (function.vjp(g, x, w, b, **options, wrt="weight")[1],)


def step(case, weights, layout, dropout, dtype):
    """Give a function that takes one step after the last and returns its loss, and one for the momentum."""
    x, target = case.batch(dtype)
    x = laid(x, layout)
    net = in_fconv(case.network, dropout=dropout)
    opt = fc.sgd(lr=0.01, momentum=0.9)
    params = fc.from_state_dict(net.init(fc.random.key(1), case.shape, dtype), weights)
    state, key = opt.init(params), fc.random.key(2)
    loss_and_grad = fc.value_and_grad(net, LOSSES[case.loss]())
    numbers = count()

    def take():
        nonlocal params, state
        loss, grads, params = loss_and_grad(params, x, target, key=fc.random.fold_in(key, next(numbers)))
        params, state = opt.step(params, grads, state)
        return float(loss)

    def momentum():
        leaves = fc.trees.leaves_with_path(state["leaves"])
        return {".".join(path[:-1]): leaf for path, leaf in leaves if path[-1] == "momentum_buffer"}

    return take, momentum


def inference(case, weights, layout):
    x = laid(case.pictures(), layout)
    net = in_fconv(case.network, dropout=0.0)
    params = fc.from_state_dict(net.init(fc.random.key(1), case.shape), weights)
    return lambda: (net.apply(params, x),)


def numpy(results):
    return [np.asarray(y) for y in results]


def set_threads(n):
    fc.threads.set_num_threads(n)
