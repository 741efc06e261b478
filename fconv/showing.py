"""Show names from files, trees of arrays and networks: in messages, in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from html import escape
from itertools import islice
from typing import Any

from fconv import trees
from fconv.arrays import is_array


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


class Description(str):
    """Text that an interpreter shows as it is."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self)}</pre>"


def describe(tree: Any) -> Description:
    """Return the names, dtypes and shapes of parameters, a state or another tree, without their elements.

    Parameters
    ----------
    tree : pytree
        Parameters, gradients, a `TrainState`, the contents of a file.

    Returns
    -------
    str
        A line for each leaf, and one for the totals. An interpreter and a notebook show it as it is.

    Examples
    --------
    >>> import numpy as np
    >>> describe({"conv": {"weight": np.zeros((8, 3, 3, 3), np.float32), "bias": None}, "step": 3})
    conv.weight  float32  (8, 3, 3, 3)
    step         3
    1 array, 216 elements, 864 bytes
    """
    rows, arrays = [], []
    for path, leaf in trees.leaves_with_path(tree):
        if is_array(leaf):
            arrays.append(leaf)
            rows.append((".".join(path) or "the array", f"{leaf.dtype!s}  {tuple(leaf.shape)}"))
        else:
            text = repr(leaf)
            rows.append((".".join(path) or "the value", text if len(text) <= 60 else f"{text[:57]}..."))
    wide = max((len(name) for name, _ in rows), default=0)
    what = "1 array" if len(arrays) == 1 else f"{len(arrays)} arrays"
    total = f"{what}, {sum(a.size for a in arrays):,} elements, {sum(a.nbytes for a in arrays):,} bytes"
    return Description("\n".join([*(f"{name:{wide}}  {text}" for name, text in rows), total]))


def options_shown(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Write options as arguments, without those that have their default.

    Examples
    --------
    >>> options_shown({"kernel_size": (3, 3), "stride": (1, 1), "bias": True}, {"stride": 1, "bias": True})
    'kernel_size=(3, 3)'
    """
    return ", ".join(
        f"{name}={value!r}"
        for name, value in options.items()
        if name not in defaults or not _is(value, defaults[name])
    )


def _is(value: Any, default: Any) -> bool:
    """Return whether an option is its default, which may stand for each axis."""
    if isinstance(value, tuple) and value and not isinstance(default, tuple):
        return all(_is(part, default) for part in value)
    return type(value) is type(default) and repr(value) == repr(default)


def layer_html(layer: Any, name: str = "") -> str:
    """Write a network as nested lists that open and close.

    Examples
    --------
    >>> from fconv.layers import relu
    >>> layer_html(relu(), "act")
    '<div><b>act</b> <code>relu()</code></div>'
    """
    title = f"<b>{escape(name)}</b> " if name else ""
    if not layer.children:
        return f"<div>{title}<code>{escape(repr(layer))}</code></div>"
    inside = "".join(layer_html(child, below) for below, child in layer.children.items())
    summary = f"<summary>{title}<code>{escape(layer.name)}</code></summary>"
    opened = "" if name else " open"
    return f'<details{opened}>{summary}<div style="margin-left:1.5em">{inside}</div></details>'
