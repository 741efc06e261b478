"""Random masks."""

from __future__ import annotations

from fconv import random
from fconv.arrays import Array, xp_of
from fconv.functional.core import Definition, differentiable, once

__all__ = [
    "dropout",
    "dropout_vjp",
]


@differentiable("x")
def dropout(x: Array, p: float = 0.5, training: bool = True, key: Array | None = None) -> Definition:
    """Set entries to 0 with probability `p`, and scale the others by ``1 / (1 - p)``.

    Parameters
    ----------
    x : array
        Any shape, floating-point.
    p : float
        Probability that an entry is dropped (torch's meaning: not the share that is kept).
    training : bool
        Outside training the result is `x` itself.
    key : array of uint64, shape (2,)
        The mask is a function of the key and the shape; needed in training.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    ValueError
        `p` is outside [0, 1], or training has no key.
    TypeError
        `x` is not floating-point, or `key` is no key.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(set(dropout(np.ones(100), 0.5, key=random.key(0)).tolist()))
    [0.0, 2.0]
    """
    check_probability("dropout", p)
    if not training or p == 0:
        return x.shape, lambda: x, lambda g: g
    if key is None:
        raise ValueError("dropout: a key is needed in training (train=True); pass key=fconv.random.key(seed)")
    random.check_key("dropout", key)
    xp = xp_of(x)

    @once
    def mask() -> Array:
        # A product, not a selection, so that NaN passes through.
        kept = xp.asarray(random.bernoulli(key, 1.0 - p, x.shape))
        return kept.astype(x.dtype) * xp.asarray(1.0 / (1.0 - p) if p < 1 else 0.0, dtype=x.dtype)

    return x.shape, once(lambda: x * mask()), lambda g: g * mask()


def check_probability(name: str, p: float) -> None:
    """Require a probability."""
    if isinstance(p, bool) or not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: expected a probability p from 0 to 1, got {p}")


dropout_vjp = dropout.vjp
