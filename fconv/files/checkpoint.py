"""Trees of arrays in files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from fconv.arrays import describe
from fconv.files.formats import Entry, format_of, format_read
from fconv.files.formats.claims import parse_json
from fconv.files.structure import DEPTH, DIGITS, decode, encode
from fconv.version import __version__

_STRUCTURE, _FORMAT, _VERSION, _CHECKSUM = "fconv.structure", "fconv.format", "fconv.version", "fconv.crc32"
_OWN_KEYS = (_STRUCTURE, _FORMAT, _VERSION, _CHECKSUM)
_FORMAT_NUMBER = "1"


class FileDescription(NamedTuple):
    """The result of `describe_file`.

    Attributes
    ----------
    format : str
        The extension, as ``".safetensors"``; the usual one of the format for any other name.
    entries : list of Entry
        Each array's `name`, `shape`, `dtype` as it is stored (``"bfloat16"``, although it
        would be loaded as float32) and `nbytes`, in the order of the file.
    texts : dict
        All texts of the file: the user's metadata, and those of fconv that begin with ``fconv.``.
    """

    format: str
    entries: list[Entry]
    texts: dict[str, str]


def save(path: str | os.PathLike[str], tree: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Save a tree of arrays, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        A name with the extension ``.safetensors``, ``.npz``, or, for PyTorch, ``.pt``, ``.pth``,
        ``.th`` or ``.tar``; ``.npy`` for a single array. The file appears under its name when it is complete.
    tree : pytree
        Parameters, or a whole training state. Arrays are stored under their dotted names, so
        that other programs read them as a state dict; numbers, strings and None, and the
        tree's structure, are stored beside them as JSON. In PyTorch's files every subtree of
        nothing but arrays is a state dict, and what is mixed keeps its nesting.
    metadata : mapping of str to str, optional
        Kept in the file; `load_metadata` gives it back.

    Raises
    ------
    ValueError
        A name of a folder, FIFO, socket or device, an unknown extension, two entries of one name, a
        name or a dtype that the format lacks, or a tree nested deeper than 100 levels.
    TypeError
        A leaf that cannot be stored, or metadata that is not text.
    OSError
        The file cannot be written, or its folder cannot be flushed to the disk.

    Notes
    -----
    Arrays are written one after another, and one at a time is moved from the GPU or made
    contiguous: a large tree needs no second copy in memory. The same tree gives the same bytes.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/net.safetensors"
    >>> save(path, {"layers": ({"weight": np.ones(2)}, ()), "step": 3})
    >>> load(path)
    {'layers': ({'weight': array([1., 1.])}, ()), 'step': 3}
    """
    check_path("save", path, "; write save(path, tree)")
    room = format_of("save", path)
    structure, arrays = encode(tree)
    texts = dict(metadata or {})
    for key, value in texts.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"save: metadata must map text to text, got {key!r}: {value!r}")
        if key in _OWN_KEYS:
            raise ValueError(f"save: the metadata name {key!r} is taken")
    texts |= {_FORMAT: _FORMAT_NUMBER, _VERSION: __version__, _STRUCTURE: json.dumps(structure)}
    room.write(path, arrays, texts)


def check_path(who: str, path: Any, hint: str = "") -> None:
    """Require a path: text or path-like."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{who}: expected a path, got {describe(path)}{hint}")


def load(path: str | os.PathLike[str], *, mmap: bool = True, strict: bool = False) -> Any:
    """Load what `save` wrote, or a file of another program.

    Nothing is unpickled, and every size, offset and name in a file is checked before it is used.

    Parameters
    ----------
    path : str or path-like
        A ``.safetensors``, ``.npz`` or ``.npy`` file, or PyTorch's ``.pt``, ``.pth``, ``.th``, ``.tar``.
        Under any other name, such as ``last.ckpt`` or ``pytorch_model.bin``, it is recognised by its
        contents. Or the index of shards, ``model.safetensors.index.json``, or a folder with one
        such model in it, as Hugging Face's libraries save them.
    mmap : bool
        Leave the arrays in the file where they can be used as they lie there, and let the system
        fetch them when they are first touched. They can be written to, which changes them in
        memory only, and stay valid when the file is replaced by a rename, as `save` does, or
        removed. A file must not be cut off or overwritten in place meanwhile: the system then
        ends the program. With False everything is read into memory, and a checksum, where the
        file has one, is proved.
    strict : bool
        Refuse a file of PyTorch's that holds more than arrays and plain values (numbers, text,
        None, in dicts, lists, tuples and sets). Otherwise any other object in it, such as an
        argparse.Namespace beside the weights, is given as a `Placeholder`, which shows the class
        and its arguments and is never made or called.

    Returns
    -------
    pytree
        The tree that was saved. Where `save` did not write the file: a flat dict of arrays by
        name, the array of a .npy file, or the object in PyTorch's file. bfloat16 and eight-bit
        floats are widened to float32.

    Raises
    ------
    ValueError
        The file is truncated, damaged, of another format, no regular file but a folder, FIFO, socket
        or device, or would take far more memory than its size; with `strict`, it holds objects that
        are neither arrays nor plain values.
    OSError
        The file cannot be read.
    """
    check_path("load", path)
    arrays, texts = format_read("load", path)[1].read(path, mmap=mmap, strict=strict)
    if _STRUCTURE not in texts:
        return arrays
    if texts.get(_FORMAT) != _FORMAT_NUMBER:
        raise ValueError(
            f"load: {os.fspath(path)} has format version {texts.get(_FORMAT)!r}; "
            f"this fconv reads version {_FORMAT_NUMBER}"
        )
    try:
        return decode(parse_json(texts[_STRUCTURE].encode(), DEPTH, DIGITS), arrays)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"load: {os.fspath(path)} has a damaged structure: {error!r}") from error


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the metadata of a file that `load` reads, and not the arrays.

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
    texts = format_read("load", path)[1].describe(path)[1]
    return {key: value for key, value in texts.items() if key not in _OWN_KEYS or key == _VERSION}


def describe_file(path: str | os.PathLike[str]) -> FileDescription:
    """List what a file holds, without its arrays where the format allows that (not PyTorch's).

    Returns
    -------
    FileDescription
        The format, an `Entry` for each array, and the texts.

    Raises
    ------
    ValueError, OSError
        As `load` raises them.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/net.safetensors"
    >>> save(path, {"weight": np.ones((2, 3), np.float32)})
    >>> describe_file(path).entries
    [Entry(name='weight', shape=(2, 3), dtype='float32', nbytes=24)]
    """
    kind, room = format_read("describe_file", path)
    return FileDescription(kind, *room.describe(path))
