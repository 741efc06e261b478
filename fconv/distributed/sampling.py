"""The examples that a rank computes: a function of key, epoch, rank and size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fconv import random
from fconv.arrays import Array
from fconv.distributed.tree import bounds
from fconv.options import whole


def rows(
    count: int, *, batch_size: int, key: Array | None, epoch: int, rank: int, size: int, start: int = 0
) -> Iterator[Array]:
    """Go once through the numbers of the examples that a rank computes, batch by batch.

    The global batches and their order follow from key and epoch alone, so that a run that goes on with
    another number of ranks meets the same batches.

    Parameters
    ----------
    count : int
        Examples in all.
    batch_size : int
        Examples of a global batch.
    key : array of uint64, shape (2,), optional
        The order of an epoch is drawn by ``fold_in(key, epoch)``; without a key the order is kept.
    epoch : int
        The number of the epoch, from 0.
    rank, size : int
        The rank's number and how many there are.
    start : int
        Begin with this batch.

    Yields
    ------
    array of int64
        What `value_and_grad` takes with ``sharded=True``.

    Raises
    ------
    ValueError
        A batch, the last one included, has fewer examples than there are ranks; an invalid rank.

    Examples
    --------
    >>> [part.tolist() for part in rows(7, batch_size=4, key=None, epoch=0, rank=1, size=2)]
    [[2, 3], [5, 6]]
    """
    name = "distributed.rows"
    whole(name, "count", count)
    whole(name, "batch_size", batch_size)
    whole(name, "epoch", epoch, 0)
    whole(name, "start", start, 0)
    whole(name, "size", size)
    if whole(name, "rank", rank, 0) >= size:
        raise ValueError(f"{name}: expected a rank below {size}, got {rank}")
    check_batches(name, count, batch_size, size, "ranks")
    order = np.arange(count) if key is None else random.permutation(random.fold_in(key, epoch), count)
    return _walk(order, batch_size, rank, size, start)


def check_batches(name: str, count: int, batch_size: int, least: int, what: str) -> None:
    """Require that every batch, the last one too, has enough examples."""
    smallest = min(batch_size, count, count % batch_size or batch_size)
    if smallest < least:
        raise ValueError(
            f"{name}: expected at least as many examples in a batch as {what}, {least}, got one of "
            f"{smallest} ({count} examples in batches of {batch_size}); choose another batch_size or "
            f"fewer {what}"
        )


def _walk(order: Array, batch_size: int, rank: int, size: int, start: int) -> Iterator[Array]:
    for begin in range(start * batch_size, len(order), batch_size):
        batch = order[begin : begin + batch_size]
        yield batch[slice(*bounds(len(batch), size, rank))]
