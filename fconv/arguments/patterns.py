"""Patterns over dotted names, such as those of parameters in a state dict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from fconv import trees


def as_patterns(where: str, patterns: Any) -> tuple[str, ...]:
    """Return one pattern, or several, as a tuple; what is no text is a TypeError."""
    found = (patterns,) if isinstance(patterns, str) else patterns
    several = isinstance(found, (tuple, list, set, frozenset))
    if not several or not found or not all(isinstance(p, str) for p in found):
        raise TypeError(
            f'{where}: expected a pattern over dotted names such as "head.*", or several, got {patterns!r}'
        )
    return tuple(found)


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern fits a name, or the name of a layer that holds it.

    ``*``, ``?`` and ``[...]`` stand for what they do in file names, and ``*`` for dots too.

    Examples
    --------
    >>> [matches(p, "layer1.0.weight") for p in ("layer1.*", "layer1", "*.weight", "layer", "0")]
    [True, True, True, False, False]
    """
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def matched(where: str, patterns: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    """Return the names that fit one of the patterns; a pattern that fits none is a ValueError.

    Examples
    --------
    >>> matched("masked", ["haed.*"], ["features.weight", "head.weight", "head.bias"])
    Traceback (most recent call last):
    ValueError: masked: the pattern 'haed.*' matches no parameter; the nearest names are 'head', 'head.bias'
    """
    found: set[str] = set()
    for pattern in patterns:
        fitting = {name for name in names if matches(pattern, name)}
        if not fitting:
            raise ValueError(
                f"{where}: the pattern {pattern!r} matches no parameter; {nearest(pattern, names)}"
            )
        found |= fitting
    return frozenset(found)


def nearest(name: str, names: Iterable[str], count: int = 2) -> str:
    """List the names nearest to one that is not among them, layers' names included."""
    known: dict[str, None] = {}  # in order
    for full in names:
        parts = full.split(".")
        known.update(dict.fromkeys(".".join(parts[:i]) for i in range(1, len(parts) + 1)))
    close = get_close_matches(name.rstrip(".*"), known, count, cutoff=0.0)
    return f"the nearest names are {', '.join(map(repr, close))}" if close else "there are no names"


def names_of(params: Any) -> tuple[str, ...]:
    """Return the dotted names of the leaves of a tree, in order.

    Examples
    --------
    >>> names_of(({"weight": 1}, (), {"bias": 2}))
    ('0.weight', '2.bias')
    """
    return tuple(".".join(path) for path, _ in trees.leaves_with_path(params))
