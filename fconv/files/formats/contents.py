"""Kinds of files, told by their first bytes."""

from __future__ import annotations

import os
import stat

_HEAD = 512
_PICTURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF"}


def head(path: str | os.PathLike[str]) -> bytes:
    """Read the first bytes of a file; none of a pipe, which might never give any."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return b""
    with open(path, "rb") as file:
        return file.read(_HEAD)


def format_in(start: bytes) -> str | None:
    r"""Name the format of arrays that begins so: ``"pt"``, ``"zip"``, ``"npy"``, ``"safetensors"`` or None.

    A zip archive may be a file of PyTorch's or of NumPy's.

    Examples
    --------
    >>> format_in(b"\x80\x02\x8a\nl"), format_in(b"PK\3\4"), format_in(b"\x10" + bytes(7) + b'{"a"')
    ('pt', 'zip', 'safetensors')
    """
    if start.startswith(b"PK"):
        return "zip"
    if start[:1] == b"\x80" or start[257:262] == b"ustar":
        return "pt"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    return "safetensors" if start[8:9] == b"{" else None


def stranger(start: bytes) -> str | None:
    """Describe a file that people take for one of arrays, such as a Git LFS pointer; None for others.

    Examples
    --------
    >>> stranger(b"<!DOCTYPE html>...")
    'an HTML page: the address that it was downloaded from led to a page about the file'
    """
    text = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, which stands for a file that was not fetched: run git lfs pull"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "an HTML page: the address that it was downloaded from led to a page about the file"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "an HDF5 file, which Keras and PyTables write and which is not read: h5py gives its arrays"
    if start.startswith(b"7z\xbc\xaf\x27\x1c"):
        return "a 7z archive, which is not read"
    if start.startswith(b"\x1f\x8b"):
        return "compressed by gzip: run gunzip"
    if start.startswith(b"GGUF"):
        return "a GGUF file, which is not read: the package gguf gives its arrays"
    kind = next((kind for magic, kind in _PICTURES.items() if start.startswith(magic)), None)
    return f"a {kind} picture" if kind else None
