"""The memory order of filters: (*kernel, C, O) under the shape (O, C, *kernel) needs no copying.

The engine multiplies matrices of windows with matrices of filters, one row for each kernel element
and input channel, and the gradient of the filters comes as such a matrix. Layers therefore draw
their weights in this memory order. In any other they serve as well, but are copied at each call,
which for wide layers on small pictures takes as long as the arithmetic.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array, Shape
from fconv.engine.threads import run

_BLOCK = 1 << 18  # numbers that a thread copies at once


def laid_out(weight: Array) -> Array:
    """Return a weight (O, C, *kernel) the engine's memory order.

    Examples
    --------
    >>> laid_out(np.zeros((4, 3, 5, 5))).strides
    (8, 32, 480, 96)
    """
    return _back(np.ascontiguousarray(_kernel_first(weight)))


def is_laid_out(weight: Array) -> bool:
    """Return whether a weight has the engine's memory order."""
    return bool(_kernel_first(weight).flags.c_contiguous)


def matrix(weight: Array, outputs: slice = slice(None)) -> Array:
    """Return filters as a matrix, one row for each kernel element and input channel.

    Parameters
    ----------
    weight : array, shape (O, C, *kernel)
        Any strides.
    outputs : slice
        The output channels that are wanted.

    Returns
    -------
    array, shape (prod(kernel) * C, outputs)
        C-contiguous, since BLAS may round differently where an operand is transposed in memory: a
        view of a weight in the engine's memory order, else a copy.
    """
    rows = prod(weight.shape[1:])
    chosen = _kernel_first(weight[outputs])
    return (chosen if chosen.flags.c_contiguous else _copied(chosen)).reshape(rows, -1)


def from_matrices(parts: list[Array], shape: Shape, like: Array | None) -> Array:
    """Return gradients of the filters of each group, as `matrix` has them, the shape of the weight.

    Parameters
    ----------
    parts : list of array, shape (prod(kernel) * C, O / groups)
        One for each group.
    shape : tuple of int
        (O, C, *kernel).
    like : array, optional
        The weight, whose memory order the gradient takes.
    """
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    found = _back(joined.reshape(*shape[2:], shape[1], shape[0]))
    return found if like is not None and is_laid_out(like) else _copied(found)


def _copied(view: Array) -> Array:
    """Copy into C order, on all threads."""
    out = np.empty(view.shape, view.dtype)
    step = max(1, _BLOCK // max(1, prod(view.shape[1:])))
    run(
        lambda i: np.copyto(out[i * step : (i + 1) * step], view[i * step : (i + 1) * step]),
        -(-len(out) // step),
    )
    return out


def _kernel_first(weight: Array) -> Array:
    return weight.transpose(*range(2, weight.ndim), 1, 0)


def _back(rows: Array) -> Array:
    return rows.transpose(rows.ndim - 1, rows.ndim - 2, *range(rows.ndim - 2))
