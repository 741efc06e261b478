"""Weights on their way from one file, or one naming, to another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from fconv import random
from fconv.arrays import Array, Shape, asnumpy, is_array
from fconv.files.checkpoint import load
from fconv.files.structure import leaves_of, parts_of
from fconv.layer import Layer, Params
from fconv.showing import listed
from fconv.state_dict import find_state_dict, from_state_dict, rename

__all__ = ["Weights", "cast", "params_from", "read_weights", "renamed", "selected", "without_wrapper"]


class Weights(NamedTuple):
    """Arrays by name, and what else their file held.

    Attributes
    ----------
    arrays : dict
        The state dict.
    entry : str
        Where in the file it was, by dotted name; empty for the whole.
    left_out : list of str
        Dotted names of what the file holds besides.
    """

    arrays: dict[str, Array]
    entry: str
    left_out: list[str]


def read_weights(path: str | os.PathLike[str], entry: str | None = None) -> Weights:
    """Read the state dict in a file.

    Parameters
    ----------
    path : str or path-like
        What `fconv.load` reads, or ``.onnx``.
    entry : str, optional
        Its place in a nested file, such as ``"state_dict"`` or ``"ema.model"``; found automatically where
        there is only one.

    Returns
    -------
    Weights
        The arrays, where they were, and the names of what was left out.

    Raises
    ------
    ValueError
        No array at that place, or several places that could be meant; and as `fconv.load`.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from fconv import save
    >>> path = tempfile.mkdtemp() + "/run.npz"
    >>> save(path, {"state_dict": {"weight": np.ones(2)}, "epoch": 3})
    >>> read_weights(path)
    Weights(arrays={'weight': array([1., 1.])}, entry='state_dict', left_out=['epoch'])
    """
    if os.path.splitext(path)[1].lower() == ".onnx":
        if entry is not None:
            raise ValueError(f"read_weights: {os.fspath(path)}: an ONNX file has no entries")
        from fconv.onnx.contents import initializers

        return Weights(initializers(path), "", [])
    tree = load(path)
    leaves = list(leaves_of(tree, f"read_weights: {os.fspath(path)}: "))
    where = _place(os.fspath(path), tree, leaves, entry)
    arrays, left_out = {}, []
    for name, value in leaves:
        inside = name == where or not where or name.startswith(where + ".")
        if inside and is_array(value):
            arrays[name[len(where) + 1 :] if where and name != where else name or "array"] = asnumpy(value)
        else:
            left_out.append(name)
    if not arrays:
        raise ValueError(f"read_weights: {os.fspath(path)}: no arrays in {where or 'it'}")
    return Weights(arrays, where, left_out)


def _place(path: str, tree: Any, leaves: list[tuple[str, Any]], entry: str | None) -> str:
    if entry is not None:
        names = [name for name, _ in leaves if name == entry or name.startswith(entry + ".")]
        if not names:
            raise ValueError(f"read_weights: {path}: expected an entry {entry!r}, got {listed(_top(tree))}")
        return entry
    try:
        kinds: dict[int, int] = {}
        _kinds_of(tree, kinds)
        flat = {"array": tree} if is_array(tree) else _flattened(tree, kinds)
        found = find_state_dict(flat)
    except (ValueError, TypeError) as error:
        raise ValueError(f"read_weights: {path}: {error}; --entry says which to take") from None
    name, first = next(iter(found.items()))
    # Where its first array is in the file, without the array's own name, there the state dict is.
    return next(at for at, leaf in leaves_of(flat) if leaf is first).removesuffix(name).removesuffix(".")


_ARRAYS, _OTHERS = 1, 2


def _flattened(tree: Any, kinds: dict[int, int]) -> Any:
    """Make a state dict of every part that holds arrays alone, as our own nested parameters do."""
    held = kinds.get(id(tree), 0)
    if held == _ARRAYS and not (isinstance(tree, dict) and any(map(_is_dotted, tree.values()))):
        return {name or "array": leaf for name, leaf in leaves_of(tree)}
    items = parts_of(tree) if held else None
    if items is None:
        return tree
    found = {str(key): _flattened(child, kinds) for key, child in items}
    if len(found) < len(items):
        raise ValueError(f"two parts have one name among {listed(found)}")
    return found


def _is_dotted(tree: Any) -> bool:
    """Return whether a part is a state dict, as in ``{"params": state_dict}``, not nested parameters."""
    return (
        isinstance(tree, dict)
        and all(map(is_array, tree.values()))
        and any("." in str(name) for name in tree)
    )


def _kinds_of(tree: Any, known: dict[int, int]) -> int:
    """Note which parts hold arrays, and whether they hold others too; the reader bounds their depth."""
    items = parts_of(tree)
    if items is None:
        return _ARRAYS if is_array(tree) else _OTHERS
    held = 0
    for _, child in items:
        held |= _kinds_of(child, known)
    if held & _ARRAYS:
        known[id(tree)] = held
    return held


def _top(tree: Any) -> list[Any]:
    return list(tree) if isinstance(tree, dict) else [f"a {type(tree).__name__}"]


def renamed(arrays: Mapping[str, Array], prefixes: Mapping[str, str]) -> dict[str, Array]:
    """Replace the beginnings of names, as `fconv.rename`, but by the longest prefix that a name has.

    Parameters
    ----------
    arrays : mapping
        A state dict.
    prefixes : mapping of str to str
        New prefixes by old ones. The empty prefix matches every name.

    Returns
    -------
    dict
        In the same order.

    Raises
    ------
    ValueError
        A prefix that no name has, or two entries that would get one name.

    Examples
    --------
    >>> renamed({"module.weight": 1, "step": 2}, {"module.": ""})
    {'weight': 1, 'step': 2}
    """
    unused = [old for old in prefixes if not any(name.startswith(old) for name in arrays)]
    if unused:
        raise ValueError(f"rename: no name begins with {', '.join(map(repr, unused))}")
    found = rename(arrays, dict(sorted(prefixes.items(), key=lambda pair: -len(pair[0]))))
    if "" in found:
        raise ValueError("rename: nothing would be left of a name")
    return found


def selected(
    arrays: Mapping[str, Array], only: Iterable[str] = (), drop: Iterable[str] = ()
) -> dict[str, Array]:
    """Choose entries by patterns such as ``"layer1.*"`` or ``"*.num_batches_tracked"``.

    Parameters
    ----------
    arrays : mapping
        A state dict.
    only, drop : iterable of str
        Patterns of the names to keep (all by default), and of those to drop from them.

    Returns
    -------
    dict
        In the same order.

    Raises
    ------
    ValueError
        A pattern that no name matches.

    Examples
    --------
    >>> selected({"a.weight": 1, "a.bias": 2, "b.bias": 3}, only=["a.*"], drop=["*.bias"])
    {'a.weight': 1}
    """
    only, drop = tuple(only), tuple(drop)
    if unused := [p for p in (*only, *drop) if not any(fnmatchcase(name, p) for name in arrays)]:
        raise ValueError(f"select: no name matches {', '.join(map(repr, unused))}")
    return {
        name: x
        for name, x in arrays.items()
        if (not only or any(fnmatchcase(name, p) for p in only))
        and not any(fnmatchcase(name, p) for p in drop)
    }


def cast(arrays: Mapping[str, Array], dtype: Any) -> dict[str, Array]:
    """Convert the floating-point entries; integers stay what they are.

    Raises
    ------
    ValueError
        A finite number would become infinite.

    Examples
    --------
    >>> cast({"weight": np.ones(1), "step": np.array(3)}, np.float16)
    {'weight': array([1.], dtype=float16), 'step': array(3)}
    """
    out = {}
    for name, x in arrays.items():
        if x.dtype.kind == "f":
            with np.errstate(over="ignore"):
                y = x.astype(dtype, copy=False)
            if (np.isfinite(x) & ~np.isfinite(y)).any():
                raise ValueError(f"cast: {name} has numbers beyond the range of {np.dtype(dtype)}")
            out[name] = y
        else:
            out[name] = x
    return out


def without_wrapper(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Remove ``module.`` from names that all have it, as a DataParallel module saves them.

    Examples
    --------
    >>> without_wrapper({"module.weight": 1}), without_wrapper({"weight": 1})
    ({'weight': 1}, {'weight': 1})
    """
    wrapped = bool(arrays) and all(name.startswith("module.") for name in arrays)
    return renamed(arrays, {"module.": ""}) if wrapped else dict(arrays)


def params_from(net: Layer, shape: Shape, weights: Mapping[str, Array], dtype: Any = np.float32) -> Params:
    """Fill a network's parameters from a state dict that must fit in full.

    Raises
    ------
    ValueError
        Entries are missing, unexpected or misshapen.
    """
    return from_state_dict(net.init(random.key(0), shape, dtype), weights)
