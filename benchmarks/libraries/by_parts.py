"""Parts that the simple ways share: a convolution, its two gradients, and their roles when transposed.

Each of them brings ``forward(x, w, at)``, ``input_gradient(g, w, at)`` and ``weight_gradient(g, x, at)``
of a plain convolution without bias.
"""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

from benchmarks.libraries import device
from fconv.arrays import xp_of


def geometry(case):
    """Return the plain convolution that a case is, or that it is the transpose of."""
    sizes = (case.out_size, case.in_size) if case.transposed else (case.in_size, case.out_size)
    channels = (case.out, case.channels) if case.transposed else (case.channels, case.out)
    return SimpleNamespace(
        batch=case.batch, in_size=sizes[0], out_size=sizes[1], channels=channels[0], out=channels[1],
        kernel=case.kernel, stride=case.stride, padding=case.padding, dilation=case.dilation,
        groups=case.groups, ndim=case.ndim, weight_shape=case.weight_shape,
    )  # fmt: skip


def convolution(module, case, what):
    x, w, b, g = device.there(case.arrays())
    at = geometry(case)
    axes = (0, *range(2, 2 + case.ndim))
    bias = b.reshape(-1, *(1,) * case.ndim)
    forward, back = module.forward, module.input_gradient
    if case.transposed:
        forward, back = back, forward

    def weight_gradient():
        return module.weight_gradient(*((x, g) if case.transposed else (g, x)), at)

    if what == "forward":
        return device.finished(lambda: (forward(x, w, at) + bias,))
    if what == "vjp":
        return device.finished(lambda: (back(g, w, at), weight_gradient(), g.sum(axes)))
    return device.finished(lambda: (weight_gradient(),))


def padded(x, at):
    """Surround pictures with zeros."""
    return xp_of(x).pad(x, [(0, 0), (0, 0), *[(at.padding, at.padding)] * at.ndim])


def empty_padded(g, at):
    """Make zeros of the shape of the padded input."""
    return xp_of(g).zeros((at.batch, at.channels, *(n + 2 * at.padding for n in at.in_size)), g.dtype)


def inner(xp, at):
    """Take the padding away."""
    return xp[(..., *(slice(at.padding, at.padding + n) for n in at.in_size))]


def offsets(at):
    """Give, for each element of the kernel, its index and the padded input's positions that meet it."""
    for k in product(range(at.kernel), repeat=at.ndim):
        yield (
            k,
            (
                ...,
                *(
                    slice(i * at.dilation, i * at.dilation + (n - 1) * at.stride + 1, at.stride)
                    for i, n in zip(k, at.out_size, strict=True)
                ),
            ),
        )
