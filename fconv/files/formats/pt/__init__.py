"""PyTorch's files, as far as a tree of ours becomes an object that PyTorch's users expect.

A subtree of nothing but arrays is written as a state dict, which ``module.load_state_dict``
takes; what is mixed, such as ``{"state_dict": params, "epoch": 3}``, keeps its nesting. The
tree itself is described in a record of the archive that PyTorch passes over.
"""

from __future__ import annotations

import json
import os
from typing import Any

from fconv.arrays import Array, asnumpy, is_array
from fconv.files.formats import Entry
from fconv.files.formats.pt.files import read_pt, write_pt
from fconv.files.structure import below, leaves_of

STRUCTURE = "fconv.structure"


def read(path: str | os.PathLike[str], *, mmap: bool, strict: bool = False) -> tuple[Any, dict[str, str]]:
    """Read the arrays by name where our description of a tree is there, else the object as it is."""
    found, texts = read_pt(path, mmap=mmap, strict=strict)
    return (flat(found, _who(path)) if STRUCTURE in texts else found), texts


def describe(path: str | os.PathLike[str]) -> tuple[list[Entry], dict[str, str]]:
    """Read the file and list its arrays; dtypes are those that `load` gives them."""
    found, texts = read_pt(path)
    return [
        Entry(name, x.shape, x.dtype.name, x.nbytes) for name, x in flat(found, _who(path)).items()
    ], texts


def _who(path: str | os.PathLike[str]) -> str:
    return f"load: {os.fspath(path)}: "


def write(path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]) -> None:
    """Write the object that the tree described in `texts` becomes for PyTorch."""
    write_pt(path, torch_object(json.loads(texts[STRUCTURE]), arrays), texts)


def torch_object(node: Any, arrays: dict[str, Array]) -> Any:
    """Build what PyTorch's users expect of a tree that `fconv.files.structure.encode` described.

    Examples
    --------
    >>> from fconv.files.structure import encode
    >>> import numpy as np
    >>> torch_object(*encode({"net": ({"weight": np.ones(1)}, ()), "epoch": 3}))
    {'net': {'0.weight': array([1.])}, 'epoch': 3}
    """
    if "value" in node:
        return node["value"]
    if "array" in node:
        return asnumpy(arrays[node["array"]])
    children = below(node)
    sequence = list if "list" in node else tuple if "tuple" in node else None
    if sequence is None or not all("array" in child for _, child in children):
        state_dict = _state_dict(node, ())
        if state_dict:
            return {name: asnumpy(arrays[entry]) for name, entry in state_dict.items()}
    items = [(key, torch_object(child, arrays)) for key, child in children]
    return dict(items) if sequence is None else sequence(item for _, item in items)


def _state_dict(node: Any, path: tuple[str, ...]) -> dict[str, str] | None:
    """Map dotted names to arrays' names in the file; None where there is anything but arrays."""
    if "array" in node:
        return {".".join(path): node["array"]}
    if "value" in node or "keys" in node:
        return None
    found: dict[str, str] = {}
    for key, child in below(node):
        entries = _state_dict(child, (*path, str(key)))
        if entries is None:
            return None
        found |= entries
    return found


def flat(found: Any, who: str = "") -> dict[str, Array]:
    """List the arrays of an object by dotted name, in order; two of one name are a ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> flat({"state": {0: {"step": np.ones(1)}}, "lr": 0.1})
    {'state.0.step': array([1.])}
    """
    return {name or "array": x for name, x in leaves_of(found, who) if is_array(x)}
