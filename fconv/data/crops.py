"""Random crops and flips as pure functions of a key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fconv import random
from fconv.arrays import Array, Shape, describe
from fconv.options import whole

__all__ = ["random_crops", "random_flips"]


def random_crops(key: Array, *pictures: Sequence[Array], count: int, size: int) -> tuple[Array, ...]:
    """Cut squares out of pictures, at places that a key draws.

    A picture is drawn with a probability proportional to the number of squares in it, so that all squares of
    all pictures are equally likely.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key cuts the same squares.
    *pictures : sequence of array, each (C, H, W)
        Pictures of one or more kinds, such as small and large ones of the same scenes: the i-th
        ones of all kinds belong together, and their sides are whole multiples of the first kind's.
    count : int
        How many squares.
    size : int
        Height and width of a square of the first kind, in pixels; the other kinds' are as many
        times larger as their pictures are.

    Returns
    -------
    tuple of array, each (count, C, size, size)
        Squares of each kind. Whole-numbered pixels of 8 bits are divided by 255, to float32.

    Raises
    ------
    ValueError
        No pictures, kinds of different lengths, a picture smaller than a square (named by its
        number), or sides that are no multiples.
    TypeError
        `key` is no key; a picture is no array of three axes.

    Examples
    --------
    >>> small = [np.arange(16, dtype=np.float32).reshape(1, 4, 4)]
    >>> large = [small[0].repeat(2, axis=1).repeat(2, axis=2)]
    >>> x, y = random_crops(random.key(0), small, large, count=3, size=2)
    >>> x.shape, y.shape, bool((y[:, :, ::2, ::2] == x).all())
    ((3, 1, 2, 2), (3, 1, 4, 4), True)
    """
    count, size = whole("random_crops", "count", count, 1), whole("random_crops", "size", size, 1)
    factors = [_factor(pictures[0], kind) for kind in pictures] if pictures else []
    if not pictures or not len(pictures[0]):
        raise ValueError("random_crops: expected at least one picture, got none")
    held = np.array([_squares(i, picture.shape, size) for i, picture in enumerate(pictures[0])])
    last = np.cumsum(held)
    drawn = random.uniform(key, (count,), np.float64) * last[-1]
    which = np.minimum(np.searchsorted(last, drawn, side="right"), len(held) - 1)
    within = np.clip(drawn - (last - held)[which], 0, held[which] - 1).astype(np.int64)
    cut: list[list[Array]] = [[] for _ in pictures]
    for i, place in zip(which.tolist(), within.tolist(), strict=True):
        top, left = divmod(place, pictures[0][i].shape[2] - size + 1)
        for squares, kind, factor in zip(cut, pictures, factors, strict=True):
            rows, columns = (slice(at * factor, (at + size) * factor) for at in (top, left))
            squares.append(_from_0_to_1(kind[i][:, rows, columns]))
    return tuple(np.stack(squares) for squares in cut)


def random_flips(key: Array, *batches: Array, vertical: bool = False) -> tuple[Array, ...]:
    """Flip the samples of batches, each as a key draws, and alike in all batches.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key flips the same samples.
    *batches : array, each (N, C, H, W)
        Batches of one length, such as inputs and targets.
    vertical : bool
        Turn them upside down too, half of them and apart from left and right.

    Returns
    -------
    tuple of array
        New batches.

    Raises
    ------
    ValueError, TypeError
        No batches, different lengths, or `key` is no key.

    Examples
    --------
    >>> x = np.arange(2.0).reshape(1, 1, 1, 2)
    >>> [random_flips(random.key(seed), x)[0].tolist() for seed in (0, 3)]
    [[[[[1.0, 0.0]]]], [[[[0.0, 1.0]]]]]
    """
    if not batches or len({len(x) for x in batches}) != 1:
        raise ValueError(f"random_flips: expected batches of one length, got {[len(x) for x in batches]}")
    across, down = random.bernoulli(key, 0.5, (2, len(batches[0])))
    flipped = []
    for x in batches:
        y = x.copy()
        y[across] = x[across][..., ::-1]
        if vertical:
            y[down] = y[down][..., ::-1, :]
        flipped.append(y)
    return tuple(flipped)


def _factor(first: Sequence[Array], kind: Sequence[Array]) -> int:
    if len(kind) != len(first):
        raise ValueError(
            f"random_crops: expected as many pictures of each kind, got {len(first)}, {len(kind)}"
        )
    factors = set()
    for i, (a, b) in enumerate(zip(first, kind, strict=True)):
        for picture in (a, b):
            if getattr(picture, "ndim", 0) != 3:
                raise TypeError(f"random_crops: picture {i}: expected (C, H, W), got {describe(picture)}")
        factor = b.shape[1] // max(a.shape[1], 1)
        if b.shape[1:] != (a.shape[1] * factor, a.shape[2] * factor) or factor < 1:
            raise ValueError(
                f"random_crops: picture {i}: expected sides that are a multiple of {a.shape[1:]}, "
                f"got {b.shape[1:]}"
            )
        factors.add(factor)
    if len(factors) > 1:
        raise ValueError(f"random_crops: expected one factor of size for all pictures, got {sorted(factors)}")
    return next(iter(factors), 1)


def _squares(i: int, shape: Shape, size: int) -> int:
    height, width = shape[1:]
    if min(height, width) < size:
        raise ValueError(
            f"random_crops: picture {i} of {height}x{width} is smaller than a crop of {size}x{size}"
        )
    return int((height - size + 1) * (width - size + 1))


def _from_0_to_1(x: Array) -> Array:
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x
