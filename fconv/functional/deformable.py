"""Convolution of pictures that are read beside their pixels, by offsets that are arrays themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from fconv.arrays import Array, xp_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.sampling import Reader
from fconv.geometry import whole_tuple, window_geometry

__all__ = ["deform_conv2d", "deform_conv2d_jvp", "deform_conv2d_vjp"]


@differentiable("x", "offset", "weight", "bias", "mask")
def deform_conv2d(
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    mask: Array | None = None,
) -> Definition:
    """Convolve pictures that are read beside the pixels, as torchvision.ops.deform_conv2d.

    ``y[n, o, p] = bias[o] + sum over c, k of weight[o, c, k] mask[n, k, p] x[n, c, u]`` at the positions
    ``u = p stride + k dilation - padding + offset[n, k, p]``; x is bilinear between pixels and 0 outside.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating-point.
    offset : array, shape (N, 2 D kH kW, Ho, Wo)
        For each of D groups of channels and each kernel position, the offset, down and to the right, of the
        position that is read.
    weight : array, shape (O, C / groups, kH, kW)
        The number of groups follows from it.
    bias : array, shape (O,), optional
        Added to each output channel.
    stride, padding, dilation : int or sequence of int
        As of `conv2d`.
    mask : array, shape (N, D kH kW, Ho, Wo), optional
        Factors of what is read.

    Returns
    -------
    array, shape (N, O, Ho, Wo)
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Shapes that do not belong together, or arrays that are not floating-point.

    References
    ----------
    Dai et al., "Deformable convolutional networks", 2017; Zhu et al., "Deformable ConvNets v2", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> half = np.full((1, 2, 3, 3), 0.5)
    >>> deform_conv2d(x, half, np.ones((1, 1, 1, 1)))[0, 0, 0]
    array([2. , 3. , 1.75])
    """
    name = "deform_conv2d"
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] % max(weight.shape[1], 1) or 0 in weight.shape:
        raise ValueError(
            f"{name}: expected x (N, C, H, W) and a weight (O, C / groups, kH, kW), got shapes {x.shape} and "
            f"{weight.shape}"
        )
    (b, c, *_), (o, _, *kernel) = x.shape, weight.shape
    stride, dilation = (
        whole_tuple(name, what, v, 2, 1) for what, v in (("stride", stride), ("dilation", dilation))
    )
    around = whole_tuple(name, "padding", padding, 2, 0)
    out = window_geometry(name, x.shape[2:], kernel, stride, around, dilation).out_size
    taps, positions = prod(kernel), prod(out)
    groups, parts = c // weight.shape[1], offset.shape[1] // (2 * taps) if offset.ndim == 4 else 0
    for what, given, each in (("an offset", offset, 2), ("a mask", mask, 1)):
        if given is not None and (given.shape != (b, each * parts * taps, *out) or c % max(parts, 1)):
            raise ValueError(
                f"{name}: expected {what} of shape ({b}, {each * taps} D, {out[0]}, {out[1]}) where D "
                f"divides the {c} channels, got {given.shape}"
            )
    if o % groups or not parts or (bias is not None and bias.shape != (o,)):
        got = "none" if bias is None else bias.shape
        raise ValueError(
            f"{name}: expected {groups} groups to divide {o} outputs, and a bias ({o},), got {got}"
        )
    xp = xp_of(x)
    w = xp.ascontiguousarray(weight).reshape(groups, o // groups, -1)
    factors = None if mask is None else mask.reshape(b * parts, 1, taps, positions)

    def read() -> Reader:
        moved = offset.reshape(b * parts, taps, 2, *out)
        at = []
        for axis in range(2):
            steps = xp.arange(kernel[axis]) * dilation[axis] - around[axis]
            first = xp.arange(out[axis]) * stride[axis]
            steps = steps.reshape((-1, 1) if axis == 0 else (1, -1)) + xp.zeros(kernel, int)
            base = steps.reshape(-1, 1, 1) + first.reshape((-1, 1) if axis == 0 else (1, -1))
            at.append((moved[:, :, axis] + base.astype(x.dtype)).reshape(b * parts, taps * positions))
        return Reader(x.reshape(b * parts, c // parts, *x.shape[2:]), at, "bilinear", "zeros", False)

    reader = once(read)
    plain = once(lambda: reader().values().reshape(b * parts, c // parts, taps, positions))

    def weighed(reads: Array) -> Array:
        reads = reads.reshape(b * parts, c // parts, taps, positions)
        found = reads if factors is None else reads * factors
        return xp.ascontiguousarray(found).reshape(b, groups, -1, positions)

    def columns() -> Array:
        return weighed(plain())

    def convolved(weights: Array, columns: Array) -> Array:
        return xp.matmul(weights, columns).reshape(b, o, *out)

    def value() -> Array:
        y = convolved(w, columns())
        return y if bias is None else y + bias.reshape(-1, 1, 1)

    def pullback(g: Array) -> dict[str, Callable[[], Array]]:
        gs = xp.ascontiguousarray(g).reshape(b, groups, o // groups, positions)
        by_columns = once(
            lambda: xp.matmul(xp.ascontiguousarray(w.swapaxes(1, 2)), gs).reshape(
                b * parts, c // parts, taps, positions
            )
        )
        by_reads = once(
            lambda: (by_columns() if factors is None else by_columns() * factors).reshape(
                b * parts, c // parts, taps * positions
            )
        )

        def by_offset() -> Array:
            each = [d.reshape(b * parts, taps, positions) for d in reader().by_positions(by_reads())]
            return xp.stack(each, 2).reshape(offset.shape)

        def by_weight() -> Array:
            turned = xp.ascontiguousarray(columns().swapaxes(2, 3))
            return xp.matmul(gs, turned).sum(0).reshape(weight.shape)

        return {
            "x": lambda: reader().by_pictures(by_reads()).reshape(x.shape),
            "offset": by_offset,
            "weight": by_weight,
            "bias": lambda: g.sum((0, 2, 3)),
            "mask": lambda: (by_columns() * plain()).sum(1).reshape(b, parts * taps, *out),
        }

    def along_offset(t: Array) -> Array:
        moved = t.reshape(b * parts, taps, 2, positions)
        moves = [moved[:, :, axis].reshape(b * parts, -1) for axis in range(2)]
        return convolved(w, weighed(reader().along(moves)))

    def along_mask(t: Array) -> Array:
        found = plain() * t.reshape(b * parts, 1, taps, positions)
        return convolved(w, xp.ascontiguousarray(found).reshape(b, groups, -1, positions))

    push: dict[str, Callable[[Array], Array]] = {
        "x": lambda t: convolved(w, weighed(reader().values(t))),
        "offset": along_offset,
        "weight": lambda t: convolved(xp.ascontiguousarray(t).reshape(w.shape), columns()),
        "bias": lambda t: t.reshape(-1, 1, 1),
        "mask": along_mask,
    }
    return (b, o, *out), once(value), pullback, push


deform_conv2d_jvp, deform_conv2d_vjp = deform_conv2d.jvp, deform_conv2d.vjp
