"""Dividing a convolution's output into tiles, and the piece of input that each tile sees.

Inside the engine arrays are channels-last, (N, *size, C): a row of a window is then one run of
numbers, and a tile of the output one matrix of positions by channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

from fconv.arrays import Array, Shape
from fconv.engine.cpu.scratch import scratch
from fconv.geometry import Windows


@dataclass(frozen=True, slots=True)
class Correlation:
    """Windows of a correlation; as `Windows`, but the padding before may be negative.

    Attributes
    ----------
    in_size, out_size, kernel, stride, dilation : tuple of int
        As in `Windows`.
    before : tuple of int
        Zeros added before each axis; a negative number leaves elements out. After the end there
        are as many as the last window reaches.
    """

    in_size: Shape
    out_size: Shape
    kernel: Shape
    stride: Shape
    dilation: Shape
    before: Shape

    @classmethod
    def of(cls, windows: Windows) -> Correlation:
        """Take over where the windows of a convolution lie."""
        before = tuple(lo for lo, _ in windows.padding)
        return cls(
            windows.in_size, windows.out_size, windows.kernel, windows.stride, windows.dilation, before
        )

    def back(self) -> Correlation:
        """Return the correlation that undoes this one, of stride 1: it is its input gradient."""
        before = tuple(
            d * (k - 1) - b for d, k, b in zip(self.dilation, self.kernel, self.before, strict=True)
        )
        return replace(self, in_size=self.out_size, out_size=self.in_size, before=before)

    def box(self, size: Shape) -> Shape:
        """Return the size of the input that `size` neighbouring windows see."""
        return tuple(
            (n - 1) * s + (k - 1) * d + 1
            for n, s, k, d in zip(size, self.stride, self.kernel, self.dilation, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """A box of the output: its images, and where it starts and how large it is along each axis."""

    images: slice
    start: Shape
    size: Shape

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.images.stop - self.images.start)

    @property
    def positions(self) -> int:
        """Output positions in it, over all its images."""
        return self.count * prod(self.size)

    @property
    def index(self) -> tuple[slice, ...]:
        """Its place in a channels-last output."""
        return (self.images, *(slice(a, a + n) for a, n in zip(self.start, self.size, strict=True)))


def tiles(batch: int, size: Shape, target: int, multiple: int = 1) -> list[Tile]:
    """Divide images of `size` into tiles of about `target` positions.

    Whole images are put together where they are small; large ones are cut along their first
    axes, and only a row that is longer than `target` along its last. The pieces depend on
    nothing but these numbers, so that results do not depend on the number of threads.

    Parameters
    ----------
    batch : int
        Number of images.
    size : tuple of int
        Their size.
    target : int
        Positions of a tile.
    multiple : int
        Cuts are made at multiples of this.

    Returns
    -------
    list of Tile
        They cover everything once.

    Examples
    --------
    >>> [(t.start, t.size) for t in tiles(1, (5, 4), 8)]
    [((0, 0), (2, 4)), ((2, 0), (2, 4)), ((4, 0), (1, 4))]
    >>> [t.images for t in tiles(5, (2, 2), 8)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    room, steps = target, []
    for n in reversed(size):
        step = _even(n, max(1, room), multiple)
        steps.append(step)
        room = room // step if step == n else 1
    steps.reverse()
    images = _even(batch, max(1, room), 1) if steps[0] == size[0] else 1
    corners = product(*(range(0, n, step) for n, step in zip(size, steps, strict=True)))
    boxes = [
        (start, tuple(min(step, n - a) for a, step, n in zip(start, steps, size, strict=True)))
        for start in corners
    ]
    return [
        Tile(slice(i, min(i + images, batch)), start, extent)
        for i in range(0, batch, images)
        for start, extent in boxes
    ]


def _even(n: int, most: int, multiple: int) -> int:
    """Divide `n` into pieces of nearly the same size, at most about `most`."""
    pieces = -(-n // max(most, 1))
    if pieces > 1:
        pieces = min(n, pieces + pieces % 2)  # an even number, as the threads mostly are
    step = -(-n // pieces)
    return min(n, -(-step // multiple) * multiple)


def piece(x: Array, tile: Tile, at: Correlation, size: Shape | None = None) -> Array:
    """Return the input that a tile's windows see, zeros included.

    Parameters
    ----------
    x : array, shape (N, *in_size, C)
        Any strides.
    tile : Tile
        Of the output.
    at : Correlation
        Where the windows lie.
    size : tuple of int, optional
        Size of the piece along each axis, if more than the windows need.

    Returns
    -------
    array, shape (images, *size, C)
        C-contiguous work space, or a view of `x` where that lies in memory the same way.
    """
    size = size or at.box(tile.size)
    found = _seen(x, tile, at, size)[0]
    if found.shape[1:-1] == size and x.flags.c_contiguous:
        return found
    out = scratch("piece", (tile.count, *size, x.shape[-1]), x.dtype)
    _fill(out, x, tile, at)
    return out


def planes(x: Array, tile: Tile, at: Correlation) -> Array:
    """Return what `piece` gives, channels first.

    Returns
    -------
    array, shape (C, images, *size)
        Work space whose last axes are contiguous, or a view of `x` where its planes are.
    """
    size = at.box(tile.size)
    found = _seen(x, tile, at, size)[0]
    if found.shape[1:-1] == size and found.strides[-2] == x.itemsize and min(found.strides) >= 0:
        return np.moveaxis(found, -1, 0)
    out = scratch("piece", (x.shape[-1], tile.count, *size), x.dtype)
    _fill(np.moveaxis(out, 0, -1), x, tile, at)
    return out


def _seen(x: Array, tile: Tile, at: Correlation, size: Shape) -> tuple[Array, Shape, tuple[slice, ...]]:
    """Find what of `x` lies in a tile's box, where the box starts, and the part of `x` along each axis."""
    starts = tuple(a * s - b for a, s, b in zip(tile.start, at.stride, at.before, strict=True))
    inside = tuple(
        slice(max(a, 0), max(0, min(a + n, full)))
        for a, n, full in zip(starts, size, at.in_size, strict=True)
    )
    return x[(tile.images, *inside)], starts, inside


def _fill(out: Array, x: Array, tile: Tile, at: Correlation) -> None:
    """Write a tile's box into `out` (images, *size, C), zeros included."""
    size = out.shape[1:-1]
    found, starts, inside = _seen(x, tile, at, size)
    lead: tuple[slice, ...] = (slice(None),)
    for a, n, within in zip(starts, size, inside, strict=True):
        first = min(n, within.start - a if within.stop > within.start else n)
        last = max(first, within.stop - a)
        if first > 0:
            out[(*lead, slice(0, first))] = 0
        if last < n:
            out[(*lead, slice(last, n))] = 0
        lead = (*lead, slice(first, last))
    if found.size:
        out[lead] = found


def windows(part: Array, size: Shape, at: Correlation) -> Array:
    """See the windows in a piece: (images, *size, *kernel, C).

    NumPy itself proves that the strides stay inside the memory of `part`: `numpy.ndarray` refuses
    a buffer that is too small for them.
    """
    spatial = part.strides[1:-1]
    steps = tuple(stride * s for stride, s in zip(spatial, at.stride, strict=True))
    inner = tuple(stride * d for stride, d in zip(spatial, at.dilation, strict=True))
    shape = (part.shape[0], *size, *at.kernel, part.shape[-1])
    strides = (part.strides[0], *steps, *inner, part.strides[-1])
    return view(part, shape, strides)


def view(part: Array, shape: Shape, strides: Shape) -> Array:
    """Return a view with other strides, which are checked to stay inside the array's memory."""
    if part.flags.c_contiguous:
        return np.ndarray(shape, part.dtype, part, 0, strides)
    # A view of the caller's array: bounds are proved against its own extent by hand.
    reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    extent = sum((n - 1) * s for n, s in zip(part.shape, part.strides, strict=True))
    if reach > extent or min(strides) < 0:
        raise ValueError(
            f"windows of shape {shape} and strides {strides} leave an array of shape {part.shape}"
        )
    return np.lib.stride_tricks.as_strided(part, shape, strides, writeable=False)
