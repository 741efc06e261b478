"""The matrices of Winograd's minimal filtering F(4x4, 3x3).

The outputs are the transpose of a product of polynomials, which is known from its values at some points and
at infinity: A and G evaluate the two factors, and B, the transpose of Lagrange's interpolation, holds the
coefficients of ``prod_{j != i} (t - p_j)``, whose divisors stand in G.
"""

from __future__ import annotations

from typing import Any

import numpy as np

STEP, SIDE = 4, 6
# The usual points 0, 1, -1, 2, -2 err three times as much; these are exact in binary too.
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)


def _matrices(points: tuple[float, ...]) -> tuple[np.ndarray[Any, Any], ...]:
    inputs: list[list[Any]] = []
    filters: list[list[Any]] = []
    for p in points:
        others = [q for q in points if q != p]
        inputs.append([*np.poly(others)[::-1], 0.0])
        filters.append([p**k / np.prod([p - q for q in others]) for k in range(3)])
    inputs.append(list(np.poly(points)[::-1]))
    filters.append([0.0, 0.0, 1.0])
    outputs: list[list[Any]] = [[*(p**k for p in points), float(k == STEP - 1)] for k in range(STEP)]
    return np.array(inputs), np.array(filters), np.array(outputs)


IN, FILTER, OUT = _matrices(_POINTS)
"""B^T (6, 6), G (6, 3) and A^T (4, 6)."""
