"""Pytrees: nested dicts, lists, tuples, named tuples and None, with the names of jax.tree.

Anything else is a leaf. Dicts keep the order they have (JAX sorts them), because a
state dict's order is PyTorch's. None is a node without leaves.
"""

from __future__ import annotations

from builtins import map as _map
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

Path: TypeAlias = tuple[str, ...]
"""Keys, indices and field names from the root to a leaf, as strings."""


_named: dict[str, type] = {}


def register(kind: type[T]) -> type[T]:
    """Register a named tuple, as a class decorator, so that loading a file returns it as it was saved."""
    _named[kind.__name__] = kind
    return kind


def named_tuple(name: str, fields: list[str]) -> type:
    """Find the registered named tuple of this name and these fields, or make one like it.

    Examples
    --------
    >>> named_tuple("Point", ["x", "y"])(1, 2)
    Point(x=1, y=2)
    """
    known = _named.get(name)
    if known is not None and list(known._fields) == fields:  # type: ignore[attr-defined]
        return known
    return namedtuple(name, fields)


def is_namedtuple(x: object) -> bool:
    """Return whether `x` is an instance of a named tuple."""
    return isinstance(x, tuple) and hasattr(type(x), "_fields")


def children(node: Any) -> list[tuple[str, Any]] | None:
    """Name the children of a node in order; None for a leaf.

    Raises
    ------
    TypeError
        A dict has a key that is no string.
    """
    if node is None:
        return []
    if isinstance(node, dict):
        for key in node:
            if not isinstance(key, str):
                raise TypeError(
                    f"trees: a dict in a tree has string keys, got {key!r} ({type(key).__name__})"
                )
        return list(node.items())
    if is_namedtuple(node):
        return list(zip(node._fields, node, strict=True))
    if isinstance(node, (list, tuple)):
        return [(str(i), child) for i, child in enumerate(node)]
    return None


def rebuild(node: Any, values: Iterable[Any]) -> Any:
    """Make a node like `node` with other children, given in the order of `children`."""
    if node is None:
        return None
    if isinstance(node, dict):
        return dict(zip(node, values, strict=True))
    if is_namedtuple(node):
        return type(node)(*values)
    return type(node)(values)


def leaves_with_path(tree: Any) -> Iterator[tuple[Path, Any]]:
    """Yield (path, leaf) for every leaf, in order.

    Examples
    --------
    >>> list(leaves_with_path({"a": (1, 2), "b": None}))
    [(('a', '0'), 1), (('a', '1'), 2)]
    """
    below = children(tree)
    if below is None:
        yield (), tree
        return
    for name, child in below:
        for path, leaf in leaves_with_path(child):
            yield (name, *path), leaf


def leaves(tree: Any) -> list[Any]:
    """List the leaves of a tree.

    Examples
    --------
    >>> leaves({"a": (1, 2), "b": [None, 3]})
    [1, 2, 3]
    """
    found: list[Any] = []

    def walk(node: Any) -> None:
        if type(node) is dict and all(type(key) is str for key in node):
            for child in node.values():
                walk(child)
            return
        below = children(node)
        if below is None:
            found.append(node)
        else:
            for _, child in below:
                walk(child)

    walk(tree)
    return found


def map(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply `f` to each leaf of `tree` and to what stands at its place in the other trees.

    Parameters
    ----------
    f : callable
        ``f(leaf, *others) -> new leaf``.
    tree : pytree
        Its structure is the structure of the result.
    *rest : pytree
        Trees with the structure of `tree`; where `tree` has a leaf they may have
        anything, None and whole subtrees included.

    Returns
    -------
    pytree
        The results, in the structure of `tree`.

    Raises
    ------
    ValueError
        A tree of `rest` has another structure.

    Examples
    --------
    >>> map(lambda p, g: p if g is None else p - g, {"w": 3, "n": 5}, {"w": 1, "n": None})
    {'w': 2, 'n': 5}
    """

    def walk(node: Any, others: Sequence[Any]) -> Any:
        kind = type(node)
        if kind is dict and all(type(key) is str for key in node):
            if any(type(other) is not dict or other.keys() != node.keys() for other in others):
                raise _DifferError
            return {key: walk(child, [other[key] for other in others]) for key, child in node.items()}
        if kind is tuple or kind is list:
            if any(type(other) is not kind or len(other) != len(node) for other in others):
                raise _DifferError
            return kind([walk(child, each) for child, *each in zip(node, *others, strict=True)])
        below = children(node)
        if below is None:
            return f(node, *others)
        columns = [dict(children(other) or ()) for other in others]
        if any(
            column.keys() != dict(below).keys() or _kind(node) != _kind(other)
            for column, other in zip(columns, others, strict=True)
        ):
            raise _DifferError
        return rebuild(node, [walk(child, [column[name] for column in columns]) for name, child in below])

    try:
        return walk(tree, rest)
    except _DifferError:
        return map_with_path(lambda _, *xs: f(*xs), tree, *rest)  # which says where


class _DifferError(Exception):
    """Trees differ somewhere."""


def map_with_path(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply ``f(path, leaf, *others)`` as `map` does."""

    def walk(path: Path, node: Any, others: tuple[Any, ...]) -> Any:
        below = children(node)
        if below is None:
            return f(path, node, *others)
        if not below:
            for other in others:
                _beside(path, node, {}, other)
            return node
        ours = dict(below)
        columns = [_beside(path, node, ours, other) for other in others]
        return rebuild(
            node,
            [
                walk((*path, name), child, tuple([column[name] for column in columns]))
                for name, child in below
            ],
        )

    return walk((), tree, rest)


def add(a: Any, b: Any) -> Any:
    """Add the leaves of two trees; None is nothing, in the place of a leaf or of a whole subtree.

    Examples
    --------
    >>> add({"w": 1, "b": None}, {"w": 2, "b": 3})
    {'w': 3, 'b': 3}
    >>> add(None, (1, 2))
    (1, 2)
    """
    if a is None or b is None:
        return b if a is None else a
    below = children(a)
    if below is None:
        return a + b
    beside = _beside((), a, dict(below), b)
    return rebuild(a, [add(child, beside[name]) for name, child in below])


def aligned(tree: Any, *rest: Any) -> list[tuple[Any, ...]]:
    """List ``(path, leaf, *others)`` for every leaf of `tree`, the others as `map` finds them.

    Examples
    --------
    >>> aligned({"w": 1, "n": 2}, {"w": 3, "n": None})
    [(('w',), 1, 3), (('n',), 2, None)]
    """
    found: list[tuple[Any, ...]] = []
    map_with_path(lambda *at: found.append(at), tree, *rest)
    return found


def _beside(path: Path, node: Any, ours: dict[str, Any], other: Any) -> dict[str, Any]:
    """Return the children of another tree's node by name; it must be of our kind and have the same."""
    below = children(other)
    theirs = dict(below or ())
    if below is None or ours.keys() != theirs.keys() or _kind(node) != _kind(other):
        where = ".".join(path) or "the root"
        raise ValueError(f"trees differ at {where}: expected {_outline(node)}, got {_outline(other)}")
    return theirs


def _kind(node: Any) -> str:
    if is_namedtuple(node):
        return type(node).__name__
    return next((k.__name__ for k in (dict, list, tuple) if isinstance(node, k)), type(node).__name__)


def _outline(node: Any) -> str:
    below = children(node)
    if node is None or below is None:
        return "None" if node is None else f"a leaf ({type(node).__name__})"
    if isinstance(node, (list, tuple)) and not is_namedtuple(node):
        return f"a {_kind(node)} of {len(below)}"
    return f"a {_kind(node)} with {', '.join(_map(repr, (name for name, _ in below))) or 'nothing'}"


def same_structure(a: Any, b: Any) -> bool:
    """Return whether two trees have the same nodes, whatever their leaves.

    Examples
    --------
    >>> same_structure({"w": 1}, {"w": (1, 2)}), same_structure((1, {}), (2, {}))
    (False, True)
    """
    below_a, below_b = children(a), children(b)
    if below_a is None or below_b is None:
        return below_a is None and below_b is None
    names_a, names_b = dict(below_a), dict(below_b)
    return (
        _kind(a) == _kind(b)
        and names_a.keys() == names_b.keys()
        and all(same_structure(child, names_b[name]) for name, child in names_a.items())
    )
