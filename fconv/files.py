"""Writing files whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete.

    It is written under a temporary name in the same folder, flushed to the disk and renamed.
    Where writing fails, the temporary file is removed and an older file of the name is kept.

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
    import tempfile  # imported late, as are the other modules that only files need

    target = os.path.realpath(path)  # through a link, to the file that it names
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"cannot write {os.fspath(path)}: there is no folder {folder}")
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)  # there is no way to read it but to set it
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
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
        Where nobody else may be writing.
    names : pattern
        The names under which the files would have appeared.
    """
    for entry in os.listdir(folder):
        name = entry.removeprefix(".").removesuffix(".part").rpartition(".")[0]
        if entry.startswith(".") and entry.endswith(".part") and names.fullmatch(name):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, entry))
