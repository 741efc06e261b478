"""State dicts: parameters by PyTorch's dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fconv import trees
from fconv.arrays import Array, asnumpy, describe, is_array, library_of, native
from fconv.showing import listed

_SINCE_0_4_1 = "num_batches_tracked"
_FEW = 4  # entries of a layer that a message lists one by one


def to_state_dict(params: Any) -> dict[str, Array]:
    """Flatten parameters to dotted names, as torch.nn.Module.state_dict names them.

    Parameters
    ----------
    params : pytree of arrays
        Parameters of a layer or network. A flat state dict comes back as it is.

    Returns
    -------
    dict
        ``{"0.weight": array, ...}`` in the order of the tree; arrays in native byte order are not copied.

    Raises
    ------
    ValueError
        Two leaves have the same dotted name.
    TypeError
        A leaf is no array.

    Examples
    --------
    >>> to_state_dict(({"weight": np.ones(2)}, (), {"bias": np.zeros(1)}))
    {'0.weight': array([1., 1.]), '2.bias': array([0.])}
    """
    return flattened("to_state_dict", params)


def flattened(name: str, params: Any) -> dict[str, Array]:
    """Flatten parameters as `to_state_dict` does, with errors that begin with `name`."""
    flat: dict[str, Array] = {}
    for path, leaf in trees.leaves_with_path(params):
        entry = ".".join(path)
        if entry in flat:
            raise ValueError(f"{name}: two entries are named {entry!r}")
        if not _is_tensor(leaf):
            hint = "; write params = net.init(key, shape)" if hasattr(leaf, "out_shape") else ""
            raise TypeError(f"{name}: {entry or 'the tree'} is no array but {describe(leaf)}{hint}")
        flat[entry] = native(leaf) if is_array(leaf) else leaf
    return flat


def _is_tensor(x: object) -> bool:
    return is_array(x) or (type(x).__module__.partition(".")[0] == "torch" and hasattr(x, "detach"))


def _is_tree(x: Any) -> bool:
    """Return whether there are only arrays; a checkpoint has numbers, texts and integer keys too."""
    if isinstance(x, Mapping):
        return all(isinstance(key, str) and _is_tree(value) for key, value in x.items())
    return not isinstance(x, (str, int, float))


def from_state_dict(params: Any, state_dict: Mapping[str, Any], *, strict: bool = True) -> Any:
    """Replace the values of parameters by those of a state dict.

    Parameters
    ----------
    params : pytree of arrays
        Gives structure, shapes, dtypes and devices. It is not changed.
    state_dict : mapping
        Dotted names to NumPy, CuPy or torch arrays; a nested tree is flattened first.
    strict : bool
        Refuse missing and unexpected names. Otherwise missing entries keep their values and
        unexpected ones are passed over; a wrong shape is refused all the same. A missing
        num_batches_tracked, which files from before PyTorch 0.4.1 lack, is no fault, as in PyTorch.

    Returns
    -------
    pytree
        A new tree in the structure of `params`, of copies in its dtypes and on its devices
        (what is missing is the array of `params` itself).

    Raises
    ------
    ValueError
        Entries are missing, unexpected, misshapen or no numbers that the parameter can hold:
        all of them are listed.
    TypeError
        An entry is no array.

    Examples
    --------
    >>> params = {"weight": np.zeros(2, np.float32), "bias": np.zeros(1, np.float32)}
    >>> from_state_dict(params, {"weight": np.ones(3), "scale": np.ones(1)})
    Traceback (most recent call last):
    ValueError: from_state_dict: the state dict does not fit:
      missing: bias (1,)
      unexpected: scale (1,)
      misshapen: weight: expected (2,), got (3,)
    """
    if not isinstance(state_dict, (Mapping, tuple, list)):
        hint = (
            "; write from_state_dict(params, fconv.load(path))"
            if isinstance(state_dict, (str, bytes))
            else ""
        )
        raise TypeError(f"from_state_dict: expected a state dict, got {describe(state_dict)}{hint}")
    ours = flattened("from_state_dict", params)
    if _is_flat(params) and not _is_flat(state_dict):
        raise TypeError(
            "from_state_dict: the first argument is a state dict, and the second is parameters; "
            "write from_state_dict(params, state_dict)"
        )
    if isinstance(state_dict, Mapping) and not _is_tree(state_dict):
        raise TypeError(
            f"from_state_dict: expected a state dict, got a dict of {', '.join(map(str, state_dict))}; "
            f"fconv.find_state_dict finds the one inside a checkpoint"
        )
    theirs = flattened("from_state_dict", dict(state_dict) if isinstance(state_dict, Mapping) else state_dict)
    check_fit("from_state_dict", ours, theirs, strict=strict)

    def value(path: trees.Path, leaf: Array) -> Array:
        name = ".".join(path)
        return copied_like(theirs[name], leaf) if name in theirs else leaf

    return trees.map_with_path(value, params)


def check_fit(who: str, ours: Mapping[str, Array], theirs: Mapping[str, Any], *, strict: bool) -> None:
    """Require that every entry of a state dict fits the one that it replaces."""
    missing, missing_parts = _folded(
        [name for name in ours if name not in theirs and name.rpartition(".")[2] != _SINCE_0_4_1], ours
    )
    unexpected, unexpected_parts = _folded([name for name in theirs if name not in ours], theirs)
    misshapen = [
        f"{name}: expected {leaf.shape}, got {tuple(theirs[name].shape)}"
        for name, leaf in ours.items()
        if name in theirs and tuple(theirs[name].shape) != leaf.shape
    ]
    unfit = [
        f"{name}: {problem}"
        for name, leaf in ours.items()
        if name in theirs and (problem := _unfit(theirs[name], leaf))
    ]
    found = {"misshapen": misshapen, "of another kind": unfit}
    if strict:
        found = {"missing": missing, "unexpected": unexpected, **found}
    if any(found.values()) or (strict and (missing_parts or unexpected_parts)):
        lines = [f"  {what}: {listed(entries, separator='; ')}" for what, entries in found.items() if entries]
        if strict:
            lines += [f"  {part}.*: {count} missing" for part, count in missing_parts.items()]
            lines += [f"  {part}.*: {count} unexpected" for part, count in unexpected_parts.items()]
        if theirs and all(name.startswith("module.") for name in theirs):
            lines.append('  every name begins with "module.", which fconv.rename can take away')
        raise ValueError("\n".join([f"{who}: the state dict does not fit:", *lines]))


def _folded(names: list[str], every: Mapping[str, Any]) -> tuple[list[str], dict[str, int]]:
    """Count the names by layer where all that a layer holds is among them, and there is much of it.

    Returns
    -------
    (list of str, dict)
        The other names with their shapes, and the count by the layer's name.
    """
    among = set(names)
    counts: dict[str, int] = {}
    kept: dict[str, bool] = {}
    for name in every:
        parts = name.split(".")
        for end in range(1, len(parts)):
            part = ".".join(parts[:end])
            counts[part] = counts.get(part, 0) + (name in among)
            kept[part] = kept.get(part, True) and (name in among or parts[-1] == _SINCE_0_4_1)
    rest, folded = [], {}
    for name in names:
        parts = name.split(".")
        above = [".".join(parts[:end]) for end in range(1, len(parts))]
        whole = [part for part in above if kept[part] and counts[part] > _FEW]
        if whole:
            folded[whole[0]] = counts[whole[0]]
        else:
            rest.append(f"{name} {tuple(every[name].shape)}")
    return rest, folded


def _is_flat(tree: Any) -> bool:
    """Return whether a tree is a state dict: it has dotted names or PyTorch's tensors."""
    if not isinstance(tree, Mapping) or not tree or not all(map(_is_tensor, tree.values())):
        return False
    return any("." in name for name in tree) or not any(map(is_array, tree.values()))


def _unfit(value: Any, leaf: Array) -> str | None:
    """Explain why a value cannot replace `leaf` without loss; None where it can."""
    found = asnumpy(value)
    if found.dtype.kind not in "fiub":
        return f"expected numbers for {leaf.dtype}, got {found.dtype}"
    if found.dtype.kind == "f" and leaf.dtype.kind != "f" and (found != np.floor(found)).any():
        return f"expected integers for {leaf.dtype}, got {found.dtype} with fractions or NaN"
    return None


def copied_like(value: Any, leaf: Array) -> Array:
    """Copy a value into the dtype, the memory order and onto the device of `leaf`."""
    if library_of(leaf) == "numpy":
        copy = np.empty_like(leaf, leaf.dtype.newbyteorder("="), subok=False)
        np.copyto(copy, asnumpy(value), casting="unsafe")
        return copy
    copy = np.array(asnumpy(value), dtype=leaf.dtype)
    with leaf.device:  # type: ignore[attr-defined]
        return type(leaf)(copy.shape, copy.dtype) if copy.size == 0 else _to_cupy(copy)


def _to_cupy(x: Array) -> Any:
    import cupy

    return cupy.asarray(x)


def rename(state_dict: Mapping[str, Any], prefixes: Mapping[str, str]) -> dict[str, Any]:
    """Replace the beginnings of names, such as the ``module.`` that DataParallel puts before each.

    Parameters
    ----------
    state_dict : mapping
        Values by dotted name.
    prefixes : mapping of str to str
        Old prefixes of names, and the new ones. Each name follows the
        first prefix that it begins with; other names stay.

    Returns
    -------
    dict
        The same values in the same order.

    Raises
    ------
    TypeError
        A prefix or a name is no text.
    ValueError
        Two entries would have one name.

    Examples
    --------
    >>> rename({"module.conv.weight": 1, "epoch": 2}, {"module.": ""})
    {'conv.weight': 1, 'epoch': 2}
    """
    for what, given in (("a state dict", state_dict), ("a dict of prefixes", prefixes)):
        if not isinstance(given, Mapping):
            raise TypeError(f"rename: expected {what}, got {describe(given)}")
    for text in (*prefixes, *prefixes.values(), *state_dict):
        if not isinstance(text, str):
            raise TypeError(f"rename: expected names as text, got {describe(text)}")
    renamed: dict[str, Any] = {}
    for name, value in state_dict.items():
        old = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        new = prefixes.get(old, "") + name.removeprefix(old)
        if new in renamed:
            raise ValueError(f"rename: two entries would be named {new!r}, one of them {name!r}")
        renamed[new] = value
    return renamed


_USUAL = ("state_dict", "model_state_dict", "model", "params", "net", "network", "weights", "params_ema")


def find_state_dict(tree: Any) -> dict[str, Any]:
    """Find the state dict in what a checkpoint file holds.

    Parameters
    ----------
    tree : object
        What `fconv.load` gave: a state dict, or dicts around one, such as
        ``{"state_dict": ..., "epoch": 3, "optimizer": ...}``.

    Returns
    -------
    dict
        The state dict: what stands under one of the usual names (state_dict, model_state_dict,
        model, params, net, network, weights, params_ema, in this order) where `tree` is more than
        arrays by name; otherwise `tree` itself where it is made of nothing but arrays, or the
        only part of it that is. Nested parameters are flattened to dotted names.

    Raises
    ------
    TypeError
        `tree` is no dict, tuple or list.
    ValueError
        There is nothing made of arrays, or several parts are; all are listed.

    Examples
    --------
    >>> find_state_dict({"epoch": 3, "model": {"weight": np.zeros(2)}})
    {'weight': array([0., 0.])}
    """
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()  # a training state
    if not isinstance(tree, (Mapping, tuple, list)):
        raise TypeError(f"find_state_dict: expected what a checkpoint holds, got {describe(tree)}")
    if isinstance(tree, Mapping) and not all(map(_is_tensor, tree.values())):
        for name in _USUAL:
            if isinstance(tree.get(name), (Mapping, tuple, list)) and tree[name]:
                return find_state_dict(tree[name])
    if _of_arrays(tree):
        return to_state_dict(dict(tree) if isinstance(tree, Mapping) else tree)
    entries = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    found = [(name, value) for name, value in entries if _of_arrays(value)]
    if len(found) == 1:
        return to_state_dict(found[0][1])
    what = f"several: {listed([name for name, _ in found])}" if found else "none"
    names = listed(tree) if isinstance(tree, Mapping) else f"{len(tree)} values"
    raise ValueError(f"find_state_dict: expected one state dict, got {what} among {names}")


def _of_arrays(value: Any) -> bool:
    """Return whether a tree holds nothing but arrays, and at least one."""
    if _is_tensor(value) or not isinstance(value, (Mapping, tuple, list)):
        return False
    below = list(value.values()) if isinstance(value, Mapping) else list(value)
    if isinstance(value, Mapping) and not all(isinstance(name, str) for name in value):
        return False
    kept = [x for x in below if not (isinstance(x, (Mapping, tuple, list)) and not x)]
    return bool(kept) and all(_is_tensor(x) or _of_arrays(x) for x in kept)
