"""Trees of arrays in files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fconv import trees
from fconv.arrays import Array, asnumpy, describe, is_array
from fconv.files import atomic_write
from fconv.version import __version__

_STRUCTURE, _FORMAT, _VERSION = "fconv.structure", "fconv.format", "fconv.version"
_OWN_KEYS = (_STRUCTURE, _FORMAT, _VERSION)
_FORMAT_NUMBER = "1"
_NPZ_METADATA = "__fconv__"
_SAFETENSORS_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "C64": "<c8",
}  # fmt: skip


def save(path: str | os.PathLike[str], tree: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Save a tree of arrays, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        A name ending in ``.safetensors`` or ``.npz``. The file is written under a temporary
        name and renamed.
    tree : pytree
        Parameters, or a whole training state. Arrays are stored under their dotted names, so
        that other programs read them as a state dict; numbers, strings and None, and the
        tree's structure, are stored beside them as JSON.
    metadata : mapping of str to str, optional
        Kept in the file; `load_metadata` gives it back.

    Raises
    ------
    ValueError
        An unknown ending, two entries of one name, or a dtype that the format lacks.
    TypeError
        A leaf that cannot be stored, or metadata that is not text.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/net.safetensors"
    >>> save(path, {"layers": ({"weight": np.ones(2)}, ()), "step": 3})
    >>> load(path)
    {'layers': ({'weight': array([1., 1.])}, ()), 'step': 3}
    """
    ending = _ending("save", path)
    arrays: dict[str, Array] = {}
    structure = _encode(tree, (), arrays)
    if taken := {_NPZ_METADATA, "__metadata__"} & arrays.keys():
        raise ValueError(f"save: the name {taken.pop()!r} is taken")
    texts = dict(metadata or {})
    for key, value in texts.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"save: metadata must map text to text, got {key!r}: {value!r}")
        if key in _OWN_KEYS:
            raise ValueError(f"save: the metadata name {key!r} is taken")
    texts |= {_FORMAT: _FORMAT_NUMBER, _VERSION: __version__, _STRUCTURE: json.dumps(structure)}
    if ending == ".npz":
        _write_npz(path, arrays, texts)
    else:
        _write_safetensors(path, arrays, texts)


def load(path: str | os.PathLike[str]) -> Any:
    """Load what `save` wrote, or another program's .safetensors or .npz file.

    Nothing is unpickled.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    pytree
        The tree that was saved; a flat dict of arrays by name where `save` did not write the
        file. bfloat16 is widened to float32.

    Raises
    ------
    ValueError
        The ending is unknown, or the file is truncated, damaged or of another format.
    OSError
        The file cannot be read.
    """
    arrays, texts = _read(path)
    if _STRUCTURE not in texts:
        return arrays
    if texts.get(_FORMAT) != _FORMAT_NUMBER:
        raise ValueError(
            f"load: {path} has format version {texts.get(_FORMAT)!r}; "
            f"this fconv reads version {_FORMAT_NUMBER}"
        )
    try:
        return _decode(json.loads(texts[_STRUCTURE]), arrays)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"load: {path} has a damaged structure: {error!r}") from error


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the metadata of a file that `load` reads.

    Returns
    -------
    dict
        The texts given to `save`, and ``fconv.version``, which wrote the file.

    Raises
    ------
    ValueError, OSError
        As `load` raises them.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/net.npz"
    >>> save(path, (), metadata={"epoch": "3"})
    >>> load_metadata(path)["epoch"]
    '3'
    """
    _, texts = _read(path)
    return {key: value for key, value in texts.items() if key not in (_STRUCTURE, _FORMAT)}


def _ending(who: str, path: str | os.PathLike[str]) -> str:
    ending = os.path.splitext(path)[1].lower()
    if ending not in (".safetensors", ".npz"):
        raise ValueError(f"{who}: expected a name ending in .safetensors or .npz, got {os.fspath(path)!r}")
    return ending


def _encode(node: Any, path: trees.Path, arrays: dict[str, Array]) -> Any:
    """Describe a tree in JSON, collecting its arrays by dotted name."""
    if node is None or (isinstance(node, (bool, int, float, str)) and not is_array(node)):
        return {"value": node}
    if is_array(node):
        name = ".".join(path) or "array"
        if name in arrays:
            raise ValueError(f"save: two entries are named {name!r}")
        arrays[name] = asnumpy(node)
        return {"array": name}
    below = trees.children(node)
    if below is None:
        raise TypeError(f"save: {'.'.join(path) or 'the tree'} cannot be stored: {describe(node)}")
    items = [_encode(child, (*path, name), arrays) for name, child in below]
    names = [name for name, _ in below]
    if isinstance(node, dict):
        return {"dict": dict(zip(names, items, strict=True))}
    if trees.is_namedtuple(node):
        return {"named": type(node).__name__, "fields": names, "items": items}
    return {"list" if isinstance(node, list) else "tuple": items}


def _decode(node: Any, arrays: dict[str, Array]) -> Any:
    """Build the tree that `_encode` described."""
    if "value" in node:
        return node["value"]
    if "array" in node:
        return arrays[node["array"]]
    if "dict" in node:
        return {name: _decode(child, arrays) for name, child in node["dict"].items()}
    if "named" in node:
        kind = trees.named_tuple(node["named"], node["fields"])
        return kind(*(_decode(child, arrays) for child in node["items"]))
    if "list" in node:
        return [_decode(child, arrays) for child in node["list"]]
    return tuple(_decode(child, arrays) for child in node["tuple"])


def _write_safetensors(path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]) -> None:
    """Write the length of a JSON header, the header, and the arrays one after another.

    The widest entries come first, so that every array is aligned, as the format asks for.
    """
    codes = {np.dtype(text): code for code, text in _SAFETENSORS_DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": texts}
    end = 0
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    for name in order:
        x = arrays[name]
        if (little := x.dtype.newbyteorder("<")) not in codes:
            raise ValueError(f"save: .safetensors cannot hold {name}, which has dtype {x.dtype}")
        start, end = end, end + x.nbytes
        header[name] = {"dtype": codes[little], "shape": list(x.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            little_endian = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(little_endian).data)


def _write_npz(path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]) -> None:
    if objects := [name for name, x in arrays.items() if x.dtype.hasobject]:
        raise ValueError(f"save: .npz cannot hold arrays of objects: {', '.join(objects)}")
    import zipfile

    note = np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, x in {_NPZ_METADATA: note, **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(x), allow_pickle=False)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    return (_read_npz if _ending("load", path) == ".npz" else _read_safetensors)(path)


def _read_npz(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    import zipfile
    import zlib

    arrays = {}
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.namelist():
                    with archive.open(member) as entry:
                        name = member.removesuffix(".npy")
                        arrays[name] = np.lib.format.read_array(entry, allow_pickle=False)
            note = arrays.pop(_NPZ_METADATA, None)
            texts = {} if note is None else json.loads(note.tobytes())
        except (
            ValueError,
            EOFError,
            RuntimeError,
            MemoryError,
            OSError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise ValueError(f"load: {path} is not a whole .npz file of arrays: {error}") from error
    if not isinstance(texts, dict):
        raise ValueError(f"load: {path} has damaged metadata")
    return arrays, texts


def _read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    from safetensors import SafetensorError, deserialize

    with open(path, "rb") as file:
        data = file.read()
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]  # proves the header, and every offset against the file's size
    except SafetensorError as error:
        raise ValueError(f"load: {path} is not a whole .safetensors file: {error}") from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    arrays = {name: _safetensor(path, name, entry) for name, entry in entries}
    return {name: arrays[name] for name in header if name in arrays}, header.get("__metadata__") or {}


def _safetensor(path: str | os.PathLike[str], name: str, entry: Mapping[str, Any]) -> Array:
    shape, kind, raw = tuple(entry["shape"]), entry["dtype"], entry["data"]
    if kind == "BF16":
        widened = np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)
        return widened.view(np.float32).reshape(shape)
    if kind not in _SAFETENSORS_DTYPES:
        raise ValueError(f"load: {path}: {name} has dtype {kind}, which NumPy lacks")
    dtype = np.dtype(_SAFETENSORS_DTYPES[kind])
    return np.frombuffer(raw, dtype).reshape(shape).astype(dtype.newbyteorder("="))
