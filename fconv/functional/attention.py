"""Attention."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from fconv import random
from fconv.arrays import Array, Shape, describe, in_c_order, xp_of
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.masking import check_probability
from fconv.functional.sums import sum_to

__all__ = [
    "scaled_dot_product_attention", "scaled_dot_product_attention_jvp", "scaled_dot_product_attention_vjp",
]  # fmt: skip

NAME = "scaled_dot_product_attention"


@differentiable("query", "key", "value", "attn_mask", sometimes=("attn_mask",))
def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    rng: Array | None = None,
) -> Definition:
    """Averages of the values, weighted by how well keys match queries: ``softmax(q @ k.T * scale) @ v``.

    Parameters
    ----------
    query : array, shape (..., L, E)
        Floating-point.
    key : array, shape (..., S, E)
        Of the dtype of `query`; the leading axes broadcast.
    value : array, shape (..., S, Ev)
        Of the dtype of `query`; the leading axes broadcast.
    attn_mask : array, optional
        Broadcasts to (..., L, S). Boolean: a query sees the keys at True. Floating-point: added
        to the scores, with a gradient of its own. A query that sees no key at all gives 0.
    dropout_p : float
        Probability that a weight is dropped; the others are scaled by ``1 / (1 - dropout_p)``.
        As in PyTorch this holds whether there is training or not.
    is_causal : bool
        Query i sees keys 0 to i; not together with `attn_mask`.
    scale : float, optional
        Factor of the scores; ``1 / sqrt(E)`` by default.
    enable_gqa : bool
        Grouped queries: axis -3 of `query` has a multiple of the heads of `key` and `value`,
        each of which serves several neighbouring heads.
    rng : array of uint64, shape (2,)
        The random key of the dropout (`key` is taken here); needed where `dropout_p` is not 0.

    Returns
    -------
    array, shape (..., L, Ev)
        In the dtype of `query`.

    Raises
    ------
    ValueError
        Shapes that do not fit each other, a mask besides `is_causal`, or dropout without `rng`.
    TypeError
        Arrays that are not floating-point, or that differ in dtype or library.

    References
    ----------
    Vaswani et al., "Attention is all you need", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> q, k, v = np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]])
    >>> scaled_dot_product_attention(q, k, v)
    array([[2.]])
    >>> scaled_dot_product_attention(q, k, v, np.array([[False, True]]))
    array([[3.]])
    """
    repeats = _check(query, key, value, enable_gqa)
    scores_shape, out_shape = _shapes(query, key, value, repeats)
    _check_mask(attn_mask, scores_shape, is_causal)
    check_probability(NAME, dropout_p)
    if dropout_p and rng is None:
        raise ValueError(f"{NAME}: dropout_p={dropout_p} needs rng=fconv.random.key(seed)")
    if dropout_p:
        random.check_key(NAME, rng)
    xp = xp_of(query)
    # Without features all scores are 0, whatever they are scaled by.
    factor = 1 / sqrt(max(1, query.shape[-1])) if scale is None else float(scale)

    # BLAS may round differently where an operand is transposed in memory.
    query, key, value = map(in_c_order, (query, key, value))

    def spread(v: Array) -> Array:
        """Repeat keys or values, one for each head of queries."""
        return xp.repeat(v, repeats, axis=-3) if repeats > 1 else v

    def scored(query: Array, key: Array) -> Array:
        return (query * factor) @ _transposed(spread(key))

    @once
    def weights() -> Array:
        return _softmax(_masked(scored(query, key), attn_mask, is_causal))

    @once
    def kept() -> Array:
        drawn = xp.asarray(random.bernoulli(rng, 1.0 - dropout_p, scores_shape))  # type: ignore[arg-type]
        return drawn.astype(query.dtype) * (1.0 / (1.0 - dropout_p) if dropout_p < 1 else 0.0)

    def dropped(p: Array) -> Array:
        return p * kept() if dropout_p else p

    def averaged(p: Array) -> Array:
        return dropped(p) @ spread(value)

    def through_softmax(t: Array) -> Array:
        """Derive the softmax along `t`; gradients take the same way back, as its matrix is symmetric."""
        p = weights()
        return p * (t - (p * t).sum(axis=-1, keepdims=True))

    def pullback(g: Array) -> Thunks:
        g = in_c_order(g)

        @once
        def dscores() -> Array:
            return through_softmax(dropped(sum_to(g @ _transposed(spread(value)), scores_shape)))

        return {
            "query": lambda: sum_to((dscores() @ spread(key)) * factor, query.shape),
            "key": lambda: _gathered(_transposed(dscores()) @ query * factor, key.shape, repeats),
            "value": lambda: _gathered(_transposed(dropped(weights())) @ g, value.shape, repeats),
            "attn_mask": lambda: sum_to(dscores(), attn_mask.shape),  # type: ignore[union-attr]
        }

    push: dict[str, Callable[[Array], Array]] = {
        "query": lambda t: averaged(through_softmax(scored(t, key))),
        "key": lambda t: averaged(through_softmax(scored(query, t))),
        "value": lambda t: dropped(weights()) @ spread(t),
        "attn_mask": lambda t: averaged(through_softmax(xp.broadcast_to(t, scores_shape))),
    }
    return out_shape, once(lambda: averaged(weights())), pullback, push


def _masked(scores: Array, attn_mask: Array | None, is_causal: bool) -> Array:
    """Add a mask to the scores, -inf where a query does not see a key."""
    xp = xp_of(scores)
    if is_causal:
        hidden = xp.arange(scores.shape[-2])[:, None] < xp.arange(scores.shape[-1])
    elif attn_mask is None or attn_mask.dtype.kind != "b":
        return scores if attn_mask is None else scores + attn_mask
    else:
        hidden = ~attn_mask
    return xp.where(hidden, xp.asarray(-np.inf, dtype=scores.dtype), scores)


def _softmax(scores: Array) -> Array:
    """Return the softmax over the last axis; 0 throughout where a query sees no key."""
    xp = xp_of(scores)
    if scores.shape[-1] == 0:
        return scores
    top = scores.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite scores give NaN, as in PyTorch
        powers = xp.exp(scores - xp.where(top == -np.inf, xp.zeros((), top.dtype), top))
        summed = powers.sum(axis=-1, keepdims=True)
        return powers / xp.where(summed == 0, xp.ones((), summed.dtype), summed)


def _transposed(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _repeated(shape: Shape, repeats: int) -> Shape:
    """Return the shape of an array whose heads on axis -3 are repeated."""
    return shape if repeats == 1 else (*shape[:-3], shape[-3] * repeats, *shape[-2:])


def _gathered(g: Array, shape: Shape, repeats: int) -> Array:
    """Take a gradient back to keys or values of `shape`, which were broadcast and their heads repeated."""
    g = sum_to(g, _repeated(shape, repeats))
    return g if repeats == 1 else g.reshape(*shape[:-2], repeats, *shape[-2:]).sum(axis=-3)


def _shapes(query: Array, key: Array, value: Array, repeats: int) -> tuple[Shape, Shape]:
    """Return the shape of the scores, (..., L, S), and of the result, (..., L, Ev)."""
    of_queries, of_keys, of_values = (
        shape[:-2] for shape in (query.shape, _repeated(key.shape, repeats), _repeated(value.shape, repeats))
    )
    try:
        batch = np.broadcast_shapes(of_queries, of_keys, of_values)
    except ValueError:
        raise ValueError(
            f"{NAME}: the leading axes do not broadcast: query {query.shape}, key {key.shape}, "
            f"value {value.shape}"
        ) from None
    scored = np.broadcast_shapes(of_queries, of_keys)
    rows = query.shape[-2]
    return (*scored, rows, key.shape[-2]), (*batch, rows, value.shape[-1])


def _check(query: Array, key: Array, value: Array, enable_gqa: bool) -> int:
    """Require shapes that fit each other, and count the heads of queries for each head of keys."""
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ValueError(f"{NAME}: expected arrays of two axes or more, got {shapes}")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"{NAME}: expected the features of query and key to be as many, got {shapes}")
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"{NAME}: expected a value for each key, got {shapes}")
    if not enable_gqa:
        return 1
    if min(query.ndim, key.ndim, value.ndim) < 3:
        raise ValueError(f"{NAME}: enable_gqa needs arrays with heads on axis -3, got {shapes}")
    heads, shared = query.shape[-3], key.shape[-3]
    if value.shape[-3] != shared or shared == 0 or heads % shared:
        raise ValueError(
            f"{NAME}: enable_gqa needs as many heads of values as of keys, and a multiple of queries, "
            f"got {shapes}"
        )
    return heads // shared


def _check_mask(attn_mask: Array | None, scores: Shape, is_causal: bool) -> None:
    if attn_mask is None:
        return
    if attn_mask.dtype.kind not in "bf":
        raise TypeError(f"{NAME}: expected a boolean or floating-point attn_mask, got {describe(attn_mask)}")
    if is_causal:
        raise ValueError(f"{NAME}: give either attn_mask or is_causal=True, not both")
    try:
        fits = np.broadcast_shapes(attn_mask.shape, scores) == scores
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{NAME}: expected an attn_mask that broadcasts to {scores}, got one of shape {attn_mask.shape}"
        )


scaled_dot_product_attention_jvp = scaled_dot_product_attention.jvp
scaled_dot_product_attention_vjp = scaled_dot_product_attention.vjp
