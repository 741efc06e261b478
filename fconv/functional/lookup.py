"""Looking rows up in a table."""

from __future__ import annotations

import numpy as np

from fconv.arrays import Array, any_of, describe, narrowed, widened, xp_of
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.options import whole

__all__ = [
    "embedding", "embedding_jvp", "embedding_vjp",
]  # fmt: skip


@differentiable("x", "weight", constants=("x",), widens=False)
def embedding(
    x: Array, weight: Array, padding_idx: int | None = None, *, scale_grad_by_freq: bool = False
) -> Definition:
    """Rows of a table, ``y[...] = weight[x[...]]``.

    PyTorch's `max_norm`, which rewrites the table, has no place in a pure function.

    Parameters
    ----------
    x : array of integers, any shape
        Numbers of rows, from 0.
    weight : array, shape (num_embeddings, embedding_dim)
        The table.
    padding_idx : int, optional
        A row whose gradient is 0; counted from the end where it is negative.
    scale_grad_by_freq : bool
        Divide the gradient of each row by how often it is looked up.

    Returns
    -------
    array, shape ``(*x.shape, embedding_dim)``
        In the dtype of `weight`. The gradient of a row is summed pairwise, in an order that
        depends on `x` alone, so that its bits are the same each time.

    Raises
    ------
    ValueError
        Numbers out of range, or a table that has not two axes.
    TypeError
        `x` does not hold integers, or `weight` is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> table = np.array([[0.0, 0.0], [1.0, 2.0]])
    >>> embedding(np.array([1, 0, 1]), table)
    array([[1., 2.],
           [0., 0.],
           [1., 2.]])
    >>> embedding_vjp(np.ones((3, 2)), np.array([1, 0, 1]), table)[1]
    array([[1., 1.],
           [2., 2.]])
    """
    if x.dtype.kind not in "iu":
        raise TypeError(f"embedding: expected integers from 0, got {describe(x)}")
    if weight.ndim != 2:
        raise ValueError(
            f"embedding: expected a weight of shape (num_embeddings, embedding_dim), got {weight.shape}"
        )
    rows = weight.shape[0]
    padding = check_padding("embedding", padding_idx, rows)
    outside = (x < 0) | (x >= rows)
    if any_of(outside, unseen=False):
        raise ValueError(
            f"embedding: expected numbers of rows from 0 to {rows - 1}, got {int(x[outside].ravel()[0])}"
        )
    xp = xp_of(weight)

    def dweight(g: Array, samples: int = 1) -> Array:
        """Return the gradient of a table, or of one for each sample: each has `rows` numbers of its own."""
        numbers = x
        if samples != 1:
            numbers = x.astype(np.int64) + rows * xp.arange(samples).reshape(samples, *(1,) * (x.ndim - 1))
        number, total, count = segment_sums(numbers.ravel(), g.reshape(x.size, weight.shape[1]))
        if scale_grad_by_freq:
            total = total / count[:, None].astype(total.dtype)
        if padding is not None:
            total = xp.where((number % rows == padding)[:, None], xp.zeros((), total.dtype), total)
        out = xp.zeros((samples * rows, weight.shape[1]), weight.dtype)
        out[number] = narrowed(total, weight.dtype)  # each number is there once
        return out

    def pullback(g: Array) -> Thunks:
        return {
            "weight": lambda: dweight(g),
            "weight of each": lambda: dweight(g, x.shape[0]).reshape(x.shape[0], *weight.shape),
        }

    def read(weight: Array) -> Array:
        if xp is np:
            return weight[x]
        # On a GPU numbers are not looked at beforehand: those out of range give NaN.
        missing = xp.full((), xp.nan, weight.dtype)
        return xp.where(outside[..., None], missing, weight[xp.clip(x, 0, max(0, rows - 1))])

    def push(t: Array) -> Array:
        dy = read(t)
        if scale_grad_by_freq:  # the adjoint of what the pullback does
            dy = dy / xp.bincount(x.ravel(), minlength=rows)[x][..., None].astype(dy.dtype)
        return dy if padding is None else xp.where((x == padding)[..., None], xp.zeros((), dy.dtype), dy)

    return (*x.shape, weight.shape[1]), once(lambda: read(weight)), pullback, {"weight": push}


def check_padding(name: str, padding_idx: int | None, rows: int) -> int | None:
    """Return the padding row counted from the front."""
    if padding_idx is None:
        return None
    padding = whole(name, "padding_idx", padding_idx, -rows)
    if padding >= rows:
        raise ValueError(f"{name}: expected a padding_idx from {-rows} to {rows - 1}, got {padding}")
    return padding % rows


def segment_sums(number: Array, rows: Array) -> tuple[Array, Array, Array]:
    """Sum the rows of each number: (numbers in order, sums, counts).

    Rows are sorted by number, and neighbours of one number are added pair by pair, until every
    number has one row left. That takes as many rounds as the largest count has binary digits,
    and loses as little as a pairwise sum does.
    """
    xp = xp_of(rows)
    order = xp.argsort(number, kind="stable")
    number, rows = number[order], widened(rows[order])
    count = xp.ones(number.shape, np.int64)
    while True:
        place = xp.arange(number.size) - xp.searchsorted(number, number)  # within its own segment
        if not (place > 0).any():
            return number, rows, count
        even = xp.flatnonzero(place % 2 == 0)
        odd = xp.flatnonzero(place % 2 == 1)
        # An odd row's partner is the row before it; where it lands is counted by the even rows.
        target = xp.searchsorted(even, odd - 1)
        halved, counted = rows[even], count[even]
        halved[target] += rows[odd]
        counted[target] += count[odd]
        number, rows, count = number[even], halved, counted


embedding_jvp, embedding_vjp = embedding.jvp, embedding.vjp
