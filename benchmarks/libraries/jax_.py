"""JAX, compiled by XLA for the CPU. It takes as many threads as the process has processors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.libraries import CHANNELS_LAST
from benchmarks.libraries.jax_networks import inference, step

__all__ = ["VERSIONS", "convolution", "inference", "numpy", "set_threads", "step"]
VERSIONS = ("jax", "jaxlib")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")


def _dimension_numbers(ndim, layout):
    axes = "DHW"[-ndim:]
    if layout == CHANNELS_LAST:
        return f"N{axes}C", f"{axes}IO", f"N{axes}C"
    return f"NC{axes}", f"OI{axes}", f"NC{axes}"


def _function(case, layout):
    numbers = _dimension_numbers(case.ndim, layout)
    spatial = range(1, case.ndim + 1) if layout == CHANNELS_LAST else range(2, case.ndim + 2)
    bias_shape = (1, *(1,) * case.ndim, -1) if layout == CHANNELS_LAST else (1, -1, *(1,) * case.ndim)
    reach = case.dilation * (case.kernel - 1)
    if case.transposed:
        stride, spread, pad = 1, case.stride, reach - case.padding
    else:
        stride, spread, pad = case.stride, 1, case.padding

    def convolve(x, w, b):
        if case.transposed:  # in OI order the weight is IO: another reading of its first two axes
            w = lax.rev(w, [i - 1 for i in spatial] if layout == CHANNELS_LAST else list(spatial))
            names = numbers[1].replace("O", "-").replace("I", "O").replace("-", "I")
        else:
            names = numbers[1]
        y = lax.conv_general_dilated(
            x, w, (stride,) * case.ndim, [(pad, pad)] * case.ndim, (spread,) * case.ndim,
            (case.dilation,) * case.ndim, (numbers[0], names, numbers[2]), case.groups,
        )  # fmt: skip
        return y + b.reshape(bias_shape)

    return convolve


def convolution(case, what, layout):
    x, w, b, g = case.arrays()
    if layout == CHANNELS_LAST:
        x, g = np.moveaxis(x, 1, -1), np.moveaxis(g, 1, -1)
        w = np.moveaxis(w, (0, 1), (-1, -2))
    x, w, b, g = (jnp.asarray(np.ascontiguousarray(a)) for a in (x, w, b, g))
    convolve = _function(case, layout)

    @jax.jit
    def forward(x, w, b):
        return (convolve(x, w, b),)

    @jax.jit
    def gradients(g, x, w, b):
        return jax.vjp(convolve, x, w, b)[1](g)

    @jax.jit
    def weight_gradient(g, x, w, b):
        return jax.vjp(lambda w: convolve(x, w, b), w)[1](g)

    def run():
        if what == "forward":
            y = forward(x, w, b)
        else:
            y = gradients(g, x, w, b) if what == "vjp" else weight_gradient(g, x, w, b)
        return jax.block_until_ready(y)

    def channels_first():
        """Return the results in the order of the other libraries."""
        y = [np.asarray(a) for a in run()]
        if layout != CHANNELS_LAST:
            return y
        back = {"forward": ["x"], "vjp": ["x", "w", "b"], "weight": ["w"]}[what]
        moves = {
            "x": lambda a: np.moveaxis(a, -1, 1), "w": lambda a: np.moveaxis(a, (-1, -2), (0, 1)),
            "b": lambda a: a,
        }  # fmt: skip
        return [moves[kind](a) for kind, a in zip(back, y, strict=True)]

    run.channels_first = channels_first
    return run


def numpy(results):
    return [np.asarray(y) for y in results]


def set_threads(n):
    if jax.local_device_count() != 1:
        raise RuntimeError("expected JAX to see one CPU device")
