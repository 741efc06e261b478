"""Contraction of arrays through opt_einsum, each expression built once per shape."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fconv.arrays import Array, Shape


@lru_cache(maxsize=1024)
def _expression(subscripts: str, *shapes: Shape) -> Any:
    import opt_einsum  # imported late: a program that never contracts does not wait for it

    return opt_einsum.contract_expression(subscripts, *shapes)


def contract(subscripts: str, *operands: Array) -> Array:
    """Contract `operands` as numpy.einsum does, over BLAS where the contraction allows it.

    Parameters
    ----------
    subscripts : str
        Einstein summation, output included, such as ``"nk,ok->no"``.
    *operands : array
        NumPy or CuPy arrays.

    Returns
    -------
    array
        Possibly a transposed view of the memory that BLAS wrote.

    Examples
    --------
    >>> import numpy as np
    >>> contract("nk,ok->no", np.ones((2, 3)), np.ones((4, 3))).shape
    (2, 4)
    """
    return _expression(subscripts, *(operand.shape for operand in operands))(*operands)
