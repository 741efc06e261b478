"""Large arrays in pieces, on all threads.

The pieces are large too: the threads need the GIL between one ufunc and the next, and
that costs as much as a hundred thousand additions.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from fconv.arrays import Array, from_order, memory_order
from fconv.engine.threads import run

_PIECE_BYTES = 1 << 20
_LEAST_BYTES = 1 << 21  # below, handing pieces out costs more than it saves


class Pieces:
    """Division of an array into pieces: one where it is small, on a GPU, or not contiguous.

    Parameters
    ----------
    x : array
        It is not kept.

    Examples
    --------
    >>> x = np.ones((512, 2, 1024), np.float32)
    >>> pieces = Pieces(x)
    >>> [part.shape for part in pieces.of(x)][:2]
    [(262144,), (262144,)]
    >>> pieces.joined(lambda i: np.full(262144, i)).shape
    (512, 2, 1024)
    """

    __slots__ = ("_dtype", "_order", "_shape", "_slices")

    def __init__(self, x: Array) -> None:
        self._shape, self._dtype = x.shape, x.dtype
        self._order = memory_order(x)
        self._slices: list[slice] | None = None
        if isinstance(x, np.ndarray) and x.size and x.transpose(self._order).flags.c_contiguous:
            step = _PIECE_BYTES // x.itemsize if x.nbytes >= _LEAST_BYTES else x.size
            self._slices = [slice(i, min(i + step, x.size)) for i in range(0, x.size, step)]

    def of(self, x: Array) -> list[Array]:
        """Divide an array of the same shape; it is copied where it lies otherwise in memory."""
        if self._slices is None:
            return [x]
        flat = x.transpose(self._order).reshape(-1)
        return [flat[some] for some in self._slices]

    def joined(self, compute: Callable[[int], Array]) -> Array:
        """Compute each piece of a new array, or all of it as piece 0."""
        slices = self._slices
        if slices is None:
            return compute(0)
        if len(slices) == 1:
            return self._shaped(compute(0))
        flat = np.empty(prod(self._shape), self._dtype)

        def work(i: int) -> None:
            flat[slices[i]] = compute(i)

        run(work, len(slices))
        return self._shaped(flat)

    def _shaped(self, flat: Array) -> Array:
        return from_order(flat.reshape([self._shape[axis] for axis in self._order]), self._order)


def over_batch(x: Array, work: Callable[[slice], None]) -> None:
    """Call `work` for runs of samples of `x` (N, ...), on all threads where it is large and on the CPU."""
    if not isinstance(x, np.ndarray) or x.nbytes < _LEAST_BYTES:
        work(slice(None))
        return
    step = max(1, _PIECE_BYTES * x.shape[0] // x.nbytes)
    run(lambda i: work(slice(i * step, (i + 1) * step)), -(-x.shape[0] // step))
