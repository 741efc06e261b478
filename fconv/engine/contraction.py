"""Contraction of arrays through opt_einsum, each expression built once per shape."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fconv.arrays import Array, Shape, in_c_order, narrowed, widened, xp_of


@lru_cache(maxsize=1024)
def _expression(subscripts: str, *shapes: Shape) -> Any:
    import opt_einsum  # imported late: a program that never contracts does not wait for it

    return opt_einsum.contract_expression(subscripts, *shapes)


def contract(subscripts: str, *operands: Array) -> Array:
    """Contract `operands` as numpy.einsum does, over BLAS where the contraction allows it.

    NumPy operands are contracted in C order, copied where they are not: BLAS may round the same
    product differently where an operand is transposed in memory (OpenBLAS's kernels for AVX-512
    do), and the same values shall give the same bits in any memory order.

    Products of float16 are accumulated in float32: by cuBLAS of itself, and NumPy, which would sum
    them in float16, is given float32.

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
    return contract_views(subscripts, *map(in_c_order, operands))


def contract_views(subscripts: str, *operands: Array) -> Array:
    """Contract `operands` in the memory orders they have, which must follow from their shapes alone."""
    dtype = operands[0].dtype
    if xp_of(operands[0]) is np:
        operands = tuple(map(widened, operands))
    contracted = _expression(subscripts, *(operand.shape for operand in operands))(*operands)
    return narrowed(contracted, dtype)
