"""Batches as a pure function of a key."""

from __future__ import annotations

from collections.abc import Iterator

from fconv import random
from fconv.arrays import Array


def batches(
    *arrays: Array, batch_size: int, key: Array | None = None, drop_last: bool = False, start: int = 0
) -> Iterator[tuple[Array, ...]]:
    """Iterate once over arrays in batches.

    Parameters
    ----------
    *arrays : array
        Of one length, such as pictures and labels.
    batch_size : int
        Samples of a batch.
    key : array of uint64, shape (2,), optional
        Shuffle by this key, for instance ``fold_in(key, epoch)``; without it the order is kept.
    drop_last : bool
        Leave out a last batch that is smaller.
    start : int
        Begin with this batch, as a run does that goes on in the middle of an epoch.

    Yields
    ------
    tuple of array
        One batch of each array.

    Raises
    ------
    ValueError, TypeError
        No arrays, different lengths, a batch size below 1, a start below 0, or `key` is no key.

    Examples
    --------
    >>> import numpy as np
    >>> [x.tolist() for (x,) in batches(np.arange(5), batch_size=2)]
    [[0, 1], [2, 3], [4]]
    >>> [x.tolist() for (x,) in batches(np.arange(5), batch_size=2, start=1)]
    [[2, 3], [4]]
    """
    if not arrays or len({len(x) for x in arrays}) != 1:
        raise ValueError(f"batches: expected arrays of one length, got lengths {[len(x) for x in arrays]}")
    if batch_size < 1:
        raise ValueError(f"batches: expected a batch_size of 1 or more, got {batch_size}")
    if start < 0:
        raise ValueError(f"batches: expected a start of 0 or more, got {start}")
    order = None if key is None else random.permutation(key, len(arrays[0]))
    return _walk(arrays, batch_size, order, drop_last, start)


def _walk(
    arrays: tuple[Array, ...], batch_size: int, order: Array | None, drop_last: bool, first: int
) -> Iterator[tuple[Array, ...]]:
    count = len(arrays[0])
    for start in range(first * batch_size, count - count % batch_size if drop_last else count, batch_size):
        part = slice(start, start + batch_size)
        yield tuple(x[part] if order is None else x[order[part]] for x in arrays)
