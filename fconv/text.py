"""Text from files, as messages and a terminal may show it."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any


def printable(text: str) -> str:
    r"""Escape what a terminal would obey or not show: control characters, line ends, marks of direction.

    Examples
    --------
    >>> print(printable("conv\x1b[2J\n\u202e.weight é"))
    conv\x1b[2J\n\u202e.weight é
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(names: Collection[Any], most: int = 20, separator: str = ", ") -> str:
    """Join names, and count those beyond `most`.

    Examples
    --------
    >>> listed("abcde", 3)
    'a, b, c and 2 more'
    """
    more = len(names) - most
    return separator.join(map(str, islice(names, most))) + (f" and {more:,} more" if more > 0 else "")
