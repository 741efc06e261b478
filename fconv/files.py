"""Writing files whole or not at all."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete.

    It is written under a temporary name in the same folder, flushed to the disk and renamed.
    Where writing fails, the temporary file is removed and an older file of the name is kept.
    A file that takes the place of another has its permissions.

    Parameters
    ----------
    path : str or path-like
        The name.

    Yields
    ------
    binary file
        Open for writing.

    Raises
    ------
    OSError
        The folder does not exist or cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with atomic_write(f"{folder}/a") as file:
    ...     _ = file.write(b"whole")
    >>> os.listdir(folder)
    ['a']
    """
    target = os.path.realpath(path)  # through a link, to the file that it names
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"cannot write {os.fspath(path)}: there is no folder {folder}")
    short = os.fsdecode(os.fsencode(name)[:200])
    temporary = os.path.join(folder, f".{short}.{os.getpid()}-{os.urandom(6).hex()}.part")
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Flush a rename to the disk, where the system lets a folder be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(folder: str, names: re.Pattern[str]) -> None:
    """Remove the temporary files that processes which were killed in `atomic_write` left behind.

    Parameters
    ----------
    folder : str
        Where no other process may be writing; what this one writes at the moment is left alone.
    names : pattern
        The names under which the files would have appeared.
    """
    for entry in os.listdir(folder):
        name, _, mark = entry.removeprefix(".").removesuffix(".part").rpartition(".")
        ours = mark.startswith(f"{os.getpid()}-")
        if entry.startswith(".") and entry.endswith(".part") and names.fullmatch(name) and not ours:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, entry))
