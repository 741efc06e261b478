"""Checkpoints in several files: .safetensors shards with an index, and a folder that holds a model.

Read here, after the layout of Hugging Face's checkpoints (huggingface.co/docs/safetensors,
`model.safetensors.index.json`): the index names the file of each array.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from fconv.arrays import Array
from fconv.files.atomic import open_regular
from fconv.files.formats import Entry, safetensors
from fconv.files.formats.claims import MOST_TEXT, parse_json, refusing

INDEX = ".safetensors.index.json"
MODELS = ("model.safetensors", "diffusion_pytorch_model.safetensors", "adapter_model.safetensors")

_MOST_SHARDS = 1000


def is_several(path: str | os.PathLike[str]) -> bool:
    """Return whether a path names a folder with a model in it, or the index of shards."""
    return os.fspath(path).endswith(INDEX) or (os.path.isdir(path) and _inside(path) is not None)


def read(
    path: str | os.PathLike[str], *, mmap: bool, strict: bool = False
) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays of all shards."""
    arrays: dict[str, Array] = {}
    texts: dict[str, str] = {}
    for shard, names in _shards(path):
        held, found = safetensors.read(shard, mmap=mmap, strict=strict)
        _complete(path, shard, names, held)
        arrays |= held if names is None else {name: held[name] for name in names}
        texts |= found if names is None else _theirs(found)
    return arrays, texts


def describe(path: str | os.PathLike[str]) -> tuple[list[Entry], dict[str, str]]:
    """Read the headers of all shards alone."""
    entries: list[Entry] = []
    texts: dict[str, str] = {}
    for shard, names in _shards(path):
        held, found = safetensors.describe(shard)
        _complete(path, shard, names, {entry.name for entry in held})
        entries += [entry for entry in held if names is None or entry.name in names]
        texts |= found if names is None else _theirs(found)
    return entries, texts


def write(path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]) -> None:
    """Refuse to write: one file holds as much."""
    raise ValueError(f"save: {os.fspath(path)}: shards are read, not written; write to one .safetensors file")


def _theirs(texts: dict[str, str]) -> dict[str, str]:
    """Leave out what a file says of its own arrays alone."""
    return {key: text for key, text in texts.items() if not key.startswith("fconv.")}


def _inside(folder: str | os.PathLike[str]) -> str | None:
    """Return the one model in a folder: its file, or the index of its shards."""
    names = os.listdir(folder)
    found = [name for name in MODELS if name in names] or sorted(n for n in names if n.endswith(INDEX))
    found = found or [name for name in names if name.endswith(".safetensors")]
    return os.path.join(os.fspath(folder), found[0]) if len(found) == 1 else None


def _shards(path: str | os.PathLike[str]) -> Iterator[tuple[str, set[str] | None]]:
    """Return each file with the names that the index says it holds; None for all of it."""
    inside = _inside(path) if os.path.isdir(path) else os.fspath(path)
    if inside is None:
        raise ValueError(f"load: {os.fspath(path)}: expected one model in the folder")
    if not inside.endswith(INDEX):
        yield inside, None
        return
    for name, names in _index(inside).items():
        yield os.path.join(os.path.dirname(inside), name), names


def _index(path: str) -> dict[str, set[str]]:
    with open_regular(path, "load") as file, refusing(path, "index of .safetensors files"):
        size = os.fstat(file.fileno()).st_size
        if size > MOST_TEXT:
            raise ValueError(f"it has {size:,} bytes, of which {MOST_TEXT:,} are allowed")
        claims = parse_json(file.read(), depth=3)
        places = claims.get("weight_map") if isinstance(claims, dict) else None
        if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
            raise ValueError("it has no weight_map of names to files")
        found: dict[str, set[str]] = {}
        for name, shard in places.items():
            plain = shard == os.path.basename(shard) and "\\" not in shard and "\0" not in shard
            if not plain or not shard.endswith(".safetensors"):
                raise ValueError(f"it names {shard[:80]!r}, which is no .safetensors file beside it")
            found.setdefault(shard, set()).add(name)
        if len(found) > _MOST_SHARDS:
            raise ValueError(f"it names {len(found):,} files, of which {_MOST_SHARDS:,} are allowed")
    return found


def _complete(path: Any, shard: str, names: set[str] | None, held: Any) -> None:
    missing = sorted((names or set()).difference(held))
    if missing:
        raise ValueError(
            f"load: {os.fspath(path)}: expected {missing[0]!r} in {os.path.basename(shard)}, which lacks it"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        )
