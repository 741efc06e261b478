"""Text from files, as a terminal may show it."""

from __future__ import annotations


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
