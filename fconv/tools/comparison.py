"""Differences between two state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fconv.arrays import Array, Shape

__all__ = ["Comparison", "Difference", "compare"]


@dataclass(frozen=True)
class Difference:
    """Difference between the values of two arrays of one name and shape.

    Attributes
    ----------
    name : str
        Of the entry.
    absolute : float
        The largest ``|a - b|``; infinite where a NaN or an infinity differs from the other value.
    relative : float
        The largest ``|a - b| / max(|a|, |b|)``.
    """

    name: str
    absolute: float
    relative: float


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`.

    Attributes
    ----------
    missing, unexpected : dict
        Shapes by name of the entries that only the first, or only the second, has.
    misshapen : dict
        Both shapes by name.
    retyped : dict
        Both dtypes by name, where they differ.
    differences : list of Difference
        One for each entry that both have in one shape.
    """

    missing: dict[str, Shape]
    unexpected: dict[str, Shape]
    misshapen: dict[str, tuple[Shape, Shape]]
    retyped: dict[str, tuple[str, str]]
    differences: list[Difference]

    def beyond(self, tolerance: float) -> list[Difference]:
        """Return the differences above `tolerance`."""
        return [found for found in self.differences if found.absolute > tolerance]

    def equal(self, tolerance: float = 0.0, *, dtypes: bool = True) -> bool:
        """Return whether nothing differs, values by no more than `tolerance`."""
        named = self.missing or self.unexpected or self.misshapen or (dtypes and self.retyped)
        return not named and not self.beyond(tolerance)


def compare(a: Mapping[str, Array], b: Mapping[str, Array]) -> Comparison:
    """Compare two state dicts entry by entry.

    Parameters
    ----------
    a, b : mapping
        Arrays by name. NaN equals NaN in the same place.

    Returns
    -------
    Comparison
        What differs.

    Examples
    --------
    >>> found = compare({"w": np.array([1.0, 2.0]), "b": np.zeros(1)}, {"w": np.array([1.0, 4.0])})
    >>> found.missing, found.differences
    ({'b': (1,)}, [Difference(name='w', absolute=2.0, relative=0.5)])
    """
    both = [name for name in a if name in b]
    alike = [name for name in both if a[name].shape == b[name].shape]
    return Comparison(
        missing={name: x.shape for name, x in a.items() if name not in b},
        unexpected={name: x.shape for name, x in b.items() if name not in a},
        misshapen={name: (a[name].shape, b[name].shape) for name in both if a[name].shape != b[name].shape},
        retyped={n: (a[n].dtype.name, b[n].dtype.name) for n in both if a[n].dtype != b[n].dtype},
        differences=[_difference(name, a[name], b[name]) for name in alike],
    )


def _difference(name: str, x: Array, y: Array) -> Difference:
    same = (x == y) | ((x != x) & (y != y))
    if same.all():
        return Difference(name, 0.0, 0.0)
    kind = _exact(x, y)
    with np.errstate(all="ignore"):
        left, right = (np.asarray(z)[~same].astype(kind) for z in (x, y))
        apart = np.abs(left - right).astype(np.float64)
        apart = np.where(np.isfinite(apart), apart, np.inf)
        larger = np.maximum(np.abs(left), np.abs(right)).astype(np.float64)
        relative = np.where(np.isfinite(apart), apart / larger, np.inf)
    return Difference(name, float(apart.max()), float(relative.max()))


def _exact(x: Array, y: Array) -> type:
    """Choose what differences are taken in: float64 does not distinguish all 64-bit integers."""
    if x.dtype.kind in "iu" and y.dtype.kind in "iu" and 8 in (x.dtype.itemsize, y.dtype.itemsize):
        return object
    return np.complex128 if "c" in (x.dtype.kind, y.dtype.kind) else np.float64
