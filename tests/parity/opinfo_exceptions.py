"""Samples of PyTorch's own operator tests that cannot apply to fconv, by name, each with the reason.

A rule takes (args, kwargs) of our call, NumPy arrays for tensors, and tells whether it is meant.
"""

from __future__ import annotations

import numpy as np

# Operators of torch.nn.functional that fconv does not have.
ABSENT: dict[str, str] = {}

# Whole variants of an operator.
VARIANTS = {
    "with_dtype": "dtype= casts the input first; here arrays are cast with astype",
}

SAMPLES = {}

# Error samples, by a part of the message that PyTorch gives.
ERRORS = {}


def array(x, *, ndim=None, empty=False):
    """Tell whether `x` is an array with these traits."""
    return isinstance(x, np.ndarray) and (ndim is None or x.ndim == ndim) and (not empty or x.size == 0)
