"""Reading pictures between their pixels, at positions that are arrays themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import product
from math import prod
from operator import add
from typing import Any, NamedTuple

import numpy as np

from fconv.arrays import Array, xp_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.indexing import added_at

__all__ = ["grid_sample", "grid_sample_jvp", "grid_sample_vjp"]

_MODES = ("nearest", "bilinear", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")
_CUBIC = -0.75
_BEYOND = 3.0  # pixels outside of a picture of zeros, at which no kernel reaches it


class _Tap(NamedTuple):
    """One read of each position along an axis: an element, its weight, and the weight's slope."""

    element: Array
    weight: Array
    slope: Array
    valid: Array | None


def _inside(c: Array, size: int, padding: str, align_corners: bool) -> tuple[Array, Array | float]:
    """Bring positions into a picture; return them, and the derivative by the positions that were."""
    xp, factor = xp_of(c), 1.0
    if padding == "reflection":
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if span == 0:
            return c * 0, c * 0
        c = xp.where(xp.isfinite(c), c, xp.asarray(np.nan, c.dtype)) - low
        away = abs(c)
        extra, odd = xp.fmod(away, span), xp.floor(away / span) % 2 == 1
        factor = xp.where((c < 0) != odd, -1, 1)
        c = xp.where(odd, span - extra, extra) + low
    return xp.clip(c, 0, size - 1), (factor * ((c > 0) & (c < size - 1))).astype(c.dtype)


def _cubic(t: Array) -> list[tuple[Array, Array]]:
    """Return Keys' kernel and its slope at the distances 1 + t, t, 1 - t and 2 - t."""
    a, found = _CUBIC, []
    for s, near in ((1 + t, False), (t, True), (1 - t, True), (2 - t, False)):
        if near:
            found.append((((a + 2) * s - (a + 3)) * s * s + 1, (3 * (a + 2) * s - 2 * (a + 3)) * s))
        else:
            found.append((a * (((s - 5) * s + 8) * s - 4), a * ((3 * s - 10) * s + 8)))
    return found


def _taps(c: Array, size: int, mode: str, padding: str, align_corners: bool) -> list[_Tap]:
    """List what each position reads along an axis of `size` pixels, counted from the first one's centre."""
    xp, cubic = xp_of(c), mode == "bicubic"
    factor: Array | float = 1.0
    if padding == "zeros":
        c = xp.clip(c, -_BEYOND, size - 1 + _BEYOND)
    elif not cubic:
        c, factor = _inside(c, size, padding, align_corners)
    known = xp.where(xp.isfinite(c), c, xp.zeros((), c.dtype))
    low = xp.rint(known) if mode == "nearest" else xp.floor(known)
    t = c - low  # NaN where the position is
    still = t * 0
    if mode == "nearest":
        kernel = [(0, 1 + still, still)]
    elif not cubic:
        kernel = [(0, 1 - t, still - 1), (1, t, still + 1)]
    else:
        # Keys' kernel at the distances 1 + t, t, 1 - t and 2 - t, of which the last two fall with t.
        kernel = [(step, w, -d if step > 0 else d) for step, (w, d) in enumerate(_cubic(t), -1)]
    taps = []
    for step, weight, slope in kernel:
        at, valid = low + step, None
        if padding == "zeros":
            valid = (at >= 0) & (at <= size - 1)
        elif cubic:
            at, _ = _inside(at, size, padding, align_corners)
        at = xp.clip(xp.where(xp.isfinite(at), at, 0), 0, size - 1)
        taps.append(_Tap(at.astype(np.int64), weight, slope * factor, valid))
    return taps


class Reader:
    """Reads pictures x (B, C, ...) at positions (B, P) along each axis, in pixels."""

    def __init__(self, x: Array, at: Sequence[Array], mode: str, padding: str, align_corners: bool) -> None:
        self._shape, self._sizes = x.shape, x.shape[2:]
        self._x = x.reshape(*x.shape[:2], prod(self._sizes))
        each = [_taps(c, n, mode, padding, align_corners) for c, n in zip(at, self._sizes, strict=True)]
        self._reads = list(product(*each))

    def _element(self, taps: tuple[_Tap, ...]) -> tuple[Array, Array | None]:
        """Return where a combination of taps reads, and whether that is in the picture."""
        index, valid = taps[0].element, taps[0].valid
        for tap, size in zip(taps[1:], self._sizes[1:], strict=True):
            index = index * size + tap.element
            valid = valid if valid is None else valid & tap.valid
        return index, valid

    def _values(self, taps: tuple[_Tap, ...], x: Array | None = None) -> Array:
        xp, (index, valid) = xp_of(self._x), self._element(taps)
        read = xp.take_along_axis(self._x if x is None else x, index[:, None], 2)
        return read if valid is None else xp.where(valid[:, None], read, xp.zeros((), read.dtype))

    def values(self, pictures: Array | None = None) -> Array:
        """Return what is read, (B, C, P), of the pictures or of others in their place."""
        x = None if pictures is None else pictures.reshape(self._x.shape)
        return _total(
            _product([tap.weight for tap in taps])[:, None] * self._values(taps, x) for taps in self._reads
        )

    def along(self, moves: Sequence[Array]) -> Array:
        """Return the derivative of what is read as the positions move along each axis."""
        return _total(
            _total(_sloped(taps, axis) * move for axis, move in enumerate(moves))[:, None]
            * self._values(taps)
            for taps in self._reads
        )

    def by_pictures(self, g: Array) -> Array:
        """Return the gradient of the pictures from that of what is read."""
        xp, (b, c, size) = xp_of(g), self._x.shape
        first = xp.arange(b)[:, None] * size
        dx = xp.zeros((b * size, c), g.dtype)
        for taps in self._reads:
            index, valid = self._element(taps)
            share = g * _product([tap.weight for tap in taps])[:, None]
            if valid is not None:
                share = xp.where(valid[:, None], share, xp.zeros((), g.dtype))
            rows = xp.moveaxis(share, 1, 2).reshape(-1, c)
            dx = dx + added_at(rows, (index + first).reshape(-1), b * size)
        return xp.ascontiguousarray(xp.moveaxis(dx.reshape(b, size, c), 1, 2)).reshape(self._shape)

    def by_positions(self, g: Array) -> list[Array]:
        """Return the gradient of the positions along each axis."""
        grads: list[Any] = [0] * len(self._sizes)
        for taps in self._reads:
            along = (g * self._values(taps)).sum(1)
            for axis in range(len(taps)):
                share = _sloped(taps, axis) * along
                if taps[0].valid is not None:
                    share = xp_of(g).where(self._element(taps)[1], share, share * 0)
                grads[axis] = grads[axis] + share
        return grads


def _sloped(taps: Sequence[_Tap], axis: int) -> Array:
    """Return the derivative of a combination's weight by the position along an axis."""
    return _product([tap.slope if i == axis else tap.weight for i, tap in enumerate(taps)])


def _total(parts: Iterable[Array]) -> Array:
    return reduce(add, parts)


def _product(factors: Sequence[Array]) -> Array:
    found = factors[0]
    for factor in factors[1:]:
        found = found * factor
    return found


@differentiable("x", "grid")
def grid_sample(
    x: Array, grid: Array, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool = False
) -> Definition:
    """Read pictures at the positions of a grid, as torch.nn.functional.grid_sample.

    ``y[n, c, p] = sum over pixels q of k(u(grid[n, p]) - q) x[n, c, q]`` with the kernel k of the mode and
    ``u(z) = ((z + 1) size - 1) / 2``, or ``(z + 1) (size - 1) / 2`` with `align_corners`.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (N, C, D, H, W)
        Floating-point.
    grid : array, shape (N, Ho, Wo, 2) or (N, Do, Ho, Wo, 3)
        Positions, x before y before z, from -1 to 1 in the picture.
    mode : {"bilinear", "nearest", "bicubic"}
        The kernel; "bilinear" is trilinear in a volume, and "bicubic" is for pictures alone. The gradient
        of the grid is 0 for "nearest".
    padding_mode : {"zeros", "border", "reflection"}
        What is outside: zeros, the nearest pixel of the border, or the picture's reflection, at the pixels'
        outer edges, or with `align_corners` at their centres.
    align_corners : bool
        -1 and 1 are the centres of the outermost pixels instead of their outer edges.

    Returns
    -------
    array, shape (N, C, Ho, Wo) or (N, C, Do, Ho, Wo)
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Shapes that do not belong together, an unknown mode, or arrays that are not floating-point.

    References
    ----------
    Jaderberg et al., "Spatial transformer networks", 2015.

    Examples
    --------
    >>> x = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> grid_sample(x, np.zeros((1, 1, 1, 2)))
    array([[[[1.5]]]])
    """
    n = x.ndim - 2
    if n not in (2, 3) or grid.ndim != x.ndim or grid.shape[-1] != n or grid.shape[0] != x.shape[0]:
        raise ValueError(
            f"grid_sample: expected x (N, C, H, W) and a grid (N, Ho, Wo, 2), or (N, C, D, H, W) and "
            f"(N, Do, Ho, Wo, 3), got shapes {x.shape} and {grid.shape}"
        )
    if mode not in _MODES or padding_mode not in _PADDINGS:
        raise ValueError(
            f"grid_sample: expected a mode of {', '.join(_MODES)}, and a padding_mode of "
            f"{', '.join(_PADDINGS)}, got {mode!r} and {padding_mode!r}"
        )
    if mode == "bicubic" and n == 3:
        raise ValueError(f"grid_sample: the mode bicubic is for pictures (N, C, H, W), got shape {x.shape}")
    sizes, out = x.shape[2:], grid.shape[1:-1]
    if 0 in sizes:
        raise ValueError(f"grid_sample: expected pictures of at least one pixel, got shape {x.shape}")
    scales = [(size - 1) / 2 if align_corners else size / 2 for size in sizes]

    def read() -> Reader:
        flat = grid.reshape(x.shape[0], prod(out), n)
        at = [
            (flat[..., n - 1 - axis] + 1) * scale - (0 if align_corners else 0.5)
            for axis, scale in enumerate(scales)
        ]
        return Reader(x, at, mode, padding_mode, bool(align_corners))

    reader = once(read)

    def by_grid(g: Array) -> Array:
        each = reader().by_positions(g)
        parts = [part * scale for part, scale in zip(each, scales, strict=True)]
        return xp_of(g).stack(parts[::-1], -1).reshape(grid.shape)

    def pullback(g: Array) -> dict[str, Callable[[], Array]]:
        flat = g.reshape(*x.shape[:2], prod(out))
        return {"x": lambda: reader().by_pictures(flat), "grid": lambda: by_grid(flat)}

    def along_grid(t: Array) -> Array:
        flat = t.reshape(x.shape[0], prod(out), n)
        moves = [flat[..., n - 1 - axis] * scale for axis, scale in enumerate(scales)]
        return reader().along(moves).reshape(shape)

    shape = (*x.shape[:2], *out)
    push: dict[str, Callable[[Array], Array]]
    push = {"x": lambda t: reader().values(t).reshape(shape), "grid": along_grid}
    return shape, once(lambda: reader().values().reshape(shape)), pullback, push


grid_sample_jvp, grid_sample_vjp = grid_sample.jvp, grid_sample.vjp
