"""Random masks."""

from __future__ import annotations

from fconv import functional as F
from fconv.functional.masking import check_probability
from fconv.layer import Layer
from fconv.layers.from_function import from_function

__all__ = ["dropout"]


def dropout(p: float = 0.5) -> Layer:
    """In training, set entries to 0 with probability `p`; see `fconv.functional.dropout`.

    Raises
    ------
    ValueError
        `p` is outside [0, 1]; when used in training, no key is given.

    Examples
    --------
    >>> import numpy as np
    >>> dropout(0.5).apply((), np.ones(3), train=True)
    Traceback (most recent call last):
    ValueError: dropout: a key is needed in training (train=True); pass key=fconv.random.key(seed)
    """
    check_probability("dropout", p)
    return from_function(F.dropout, call={"p": p}, random_key=True)
