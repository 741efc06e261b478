"""Trees as JSON and arrays by name: what a file of named arrays can hold, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fconv import trees
from fconv.arrays import Array, asnumpy, describe, is_array

_MOST_LEVELS = 100
_MOST_LETTERS = 20_000_000
DEPTH = 2 * _MOST_LEVELS + 4
"""How deep the JSON of a tree nests at most: two levels for each of the tree's."""
DIGITS = 4300
"""How long its numbers are at most: Python writes no longer ones."""


def encode(tree: Any) -> tuple[Any, dict[str, Array]]:
    """Describe a tree in JSON, and collect its arrays by dotted name.

    Dicts may have integers for keys, as the state of a torch optimizer has.

    Examples
    --------
    >>> encode({"a": (1, None)})
    ({'dict': {'a': {'tuple': [{'value': 1}, {'value': None}]}}}, {})
    """
    arrays: dict[str, Array] = {}
    return _encode(tree, (), arrays), arrays


def _encode(node: Any, path: trees.Path, arrays: dict[str, Array]) -> Any:
    place = ".".join(path)
    if len(path) > _MOST_LEVELS:
        raise ValueError(f"save: the tree is nested deeper than {_MOST_LEVELS} levels: {place[:80]}...")
    if node is None or (isinstance(node, (bool, int, float, str)) and not is_array(node)):
        return {"value": node}
    if type(node).__module__.partition(".")[0] == "torch" and hasattr(node, "detach"):
        node = np.array(asnumpy(node))  # a tensor of PyTorch's
    if is_array(node):
        return {"array": _collect(node, place if path else "array", arrays)}
    below = _children(node)
    if below is None:
        hint = "; write save(path, params)" if hasattr(node, "out_shape") else ""
        raise TypeError(f"save: {place or 'the tree'} cannot be stored: {describe(node)}{hint}")
    items = [_encode(child, (*path, str(name)), arrays) for name, child in below]
    names = [name for name, _ in below]
    if isinstance(node, dict):
        if all(isinstance(name, str) for name in names):
            return {"dict": dict(zip(names, items, strict=True))}
        return {"keys": names, "items": items}
    if trees.is_namedtuple(node):
        return {"named": type(node).__name__, "fields": names, "items": items}
    return {"list" if isinstance(node, list) else "tuple": items}


def _collect(x: Array, name: str, arrays: dict[str, Array]) -> str:
    if name in arrays:
        raise ValueError(f"save: two entries are named {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"save: the name {name!r} is no text that a file can hold") from None
    arrays[name] = x
    return name


def _children(node: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(node, dict) and any(type(key) is int for key in node):
        if wrong := [key for key in node if type(key) is not int and not isinstance(key, str)]:
            raise TypeError(f"save: a dict has keys of text or integers, got {wrong[0]!r}")
        return list(node.items())
    return trees.children(node)


def below(node: Any) -> list[tuple[Any, Any]]:
    """List the children of a described node with their keys; none for an array or a value."""
    if "dict" in node:
        return list(node["dict"].items())
    if "items" in node:
        return list(zip(node["keys" if "keys" in node else "fields"], node["items"], strict=True))
    return list(enumerate(node.get("list") or node.get("tuple") or ()))


def leaves_of(tree: Any, who: str = "") -> Iterator[tuple[str, Any]]:
    """List the leaves of a tree from any file by dotted name, in order, whatever kind they are.

    Raises
    ------
    ValueError
        Two leaves have one name, or the names are long out of all proportion; `who` begins the text.

    Examples
    --------
    >>> list(leaves_of({"net": {"weight": 1}, "lr": [0.1, 0.2]}))
    [('net.weight', 1), ('lr.0', 0.1), ('lr.1', 0.2)]
    >>> list(leaves_of({"a.b": 1, "a": {"b": 2}}))
    Traceback (most recent call last):
    ValueError: two values are named 'a.b', so that one of them would be lost
    """
    seen: set[str] = set()
    letters = 0
    stack: list[tuple[str, Iterator[tuple[Any, Any]]]] = [("", iter([("", tree)]))]
    while stack:  # no recursion: the depth is the file's
        prefix, items = stack[-1]
        key, node = next(items, (None, stack))
        if node is stack:
            stack.pop()
            continue
        name = f"{prefix}.{key}" if prefix else str(key)
        letters += len(name)
        if letters > _MOST_LETTERS:
            raise ValueError(f"{who}the names of its values have more than {_MOST_LETTERS:,} letters")
        below = parts_of(node)
        if below is not None:
            stack.append((name, iter(below)))
            continue
        if name in seen:
            shown = repr(name[:200])
            raise ValueError(f"{who}two values are named {shown}, so that one of them would be lost")
        seen.add(name)
        yield name, node


def parts_of(node: Any) -> list[tuple[Any, Any]] | None:
    """List the parts of a node by name; None for a leaf."""
    if isinstance(node, dict):
        return list(node.items())
    if trees.is_namedtuple(node):
        return list(zip(node._fields, node, strict=True))
    return list(enumerate(node)) if isinstance(node, (list, tuple)) else None


def decode(node: Any, arrays: dict[str, Array]) -> Any:
    """Build the tree that `encode` described.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        The description is damaged, or names an array that is not there.

    Examples
    --------
    >>> decode({"dict": {"a": {"tuple": [{"value": 1}, {"value": None}]}}}, {})
    {'a': (1, None)}
    """
    if "value" in node:
        value = node["value"]
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise ValueError(f"expected a number, a text or nothing, got {type(value).__name__}")
        return value
    if "array" in node:
        return arrays[node["array"]]
    items = [(key, decode(child, arrays)) for key, child in below(node)]
    if "dict" in node or "keys" in node:
        return dict(items)
    values = [value for _, value in items]
    if "named" in node:
        return trees.named_tuple(node["named"], node["fields"])(*values)
    return values if "list" in node else _tuple(node, values)


def _tuple(node: Any, values: list[Any]) -> tuple[Any, ...]:
    if "tuple" not in node:
        raise ValueError(f"expected a node of a tree, got one with {', '.join(map(str, node))[:80]}")
    return tuple(values)
