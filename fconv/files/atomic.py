"""Writing files whole or not at all, and opening those of others."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip
_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{16}\.part", re.DOTALL)


def not_offered(error: OSError) -> bool:
    """Return whether the file system lacks an operation, rather than failed at it."""
    return error.errno in _NOT_OFFERED


def irregular(mode: int) -> str | None:
    """Return in words what a mode of `os.stat` stands for; None for a regular file."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


def open_regular(path: str | os.PathLike[str], who: str | None = None) -> BinaryIO:
    """Open a regular file for reading.

    Opening a FIFO would wait for a writer, perhaps for ever, and opening a device can set it going.

    Raises
    ------
    ValueError
        There is something else at the path; the message names it and `who`, where that is given.
    OSError
        The file cannot be opened.

    Examples
    --------
    >>> open_regular(os.curdir, "load")
    Traceback (most recent call last):
    ValueError: load: .: expected a regular file, got a folder
    """

    def require_regular(mode: int) -> None:
        if (kind := irregular(mode)) is not None:
            prefix = f"{who}: {os.fspath(path)}: " if who else ""
            raise ValueError(f"{prefix}expected a regular file, got {kind}")

    require_regular(os.stat(path).st_mode)
    # What stands there may have been replaced since; with O_NONBLOCK not even a FIFO makes us wait.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        require_regular(os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete.

    On Linux the file has no name before, so that nothing is left of it however the process ends. On
    other systems, on file systems without such files, and for the moment in which it takes the
    place of another, it has the temporary name ``.name.*.part`` in the same folder; what a killed
    process left there is removed when the same name is written again. The file is flushed to the
    disk, then named, then the folder is flushed. Where writing fails, an older file of the name is
    kept. A file that takes the place of another has its permissions.

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
    ValueError
        A folder, FIFO, socket or device has the name.
    OSError
        The folder does not exist or cannot be written to. Or it cannot be flushed: then the file has
        its name, but may lose it if the system crashes.

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
    mode = None
    with suppress(FileNotFoundError):
        mode = os.stat(target).st_mode
    if mode is not None and (kind := irregular(mode)) is not None:
        raise ValueError(f"cannot write {os.fspath(path)}: it is {kind}")
    with _flushing(folder):
        temporary, named, handle, held = _open_temporary(folder, name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                done = not named and _link(handle, target, temporary)
            if not done:
                if mode is not None:
                    os.chmod(temporary, stat.S_IMODE(mode))
                os.replace(temporary, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        finally:
            if held is not None:
                os.close(held)


def _open_temporary(folder: str, name: str) -> tuple[str, bool, int, int | None]:
    """Open a file: the temporary name for it, whether it has that yet, a handle, and `_lock`'s."""
    short = os.fsdecode(os.fsencode(name)[:200])  # the temporary name has 24 letters more
    while True:
        temporary = os.path.join(folder, f".{short}.{os.urandom(8).hex()}.part")
        if sys.platform == "linux" and hasattr(os, "O_TMPFILE"):
            with suppress(OSError):  # not offered; what else is wrong with the folder shows below
                handle = os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o666)
                return temporary, False, handle, _lock(handle)
        remove_leftovers(folder, re.compile(re.escape(short)))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(temporary, flags, 0o666)
        held = _lock(handle)
        if held is None or os.path.lexists(temporary):
            return temporary, True, handle, held
        os.close(handle)  # somebody took it for a leftover before it had its lock
        os.close(held)


def _lock(handle: int) -> int | None:
    """Mark an open file as being written, until the handle returned is closed or the process has ended.

    The number of a process does not tell that: in every container there is one of the same number.
    None on Windows, where an open file cannot be removed, and in a browser, where there is one process.
    """
    if sys.platform in ("win32", "emscripten"):
        return None
    import fcntl

    held = os.dup(handle)
    with suppress(OSError):  # without locks leftovers stay
        fcntl.flock(held, fcntl.LOCK_EX)
    return held


def _link(handle: int, target: str, temporary: str) -> bool:
    """Name a file that has no name; False where that is the temporary one, since another has the name."""
    for name in (target, temporary):
        with suppress(OSError):  # there is a file of the name; or there is no /proc, or it is forbidden
            # src_dir_fd makes this linkat, which follows the link in /proc.
            os.link(f"/proc/self/fd/{handle}", name, src_dir_fd=handle)
            return name == target
    with open(handle, "rb", closefd=False) as file, open(temporary, "xb") as copy:
        file.seek(0)
        shutil.copyfileobj(file, copy)
        copy.flush()
        os.fsync(copy.fileno())
    return False


@contextmanager
def _flushing(folder: str) -> Iterator[None]:
    """Flush a folder to the disk after what is done in it; whether it can be opened shows before."""
    handle = None
    with suppress(PermissionError):  # Windows, and folders that may be written to but not be read
        handle = os.open(folder, os.O_RDONLY)
    try:
        yield
        if handle is not None:
            _flush(handle, folder)
    finally:
        if handle is not None:
            os.close(handle)


def _flush(handle: int, folder: str) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if not not_offered(error):
            raise OSError(error.errno, f"the folder cannot be flushed: {error.strerror}", folder) from error


def make_folder(folder: str) -> None:
    """Make a folder, and those above it that are missing, each flushed to the disk."""
    if not os.path.isdir(folder):
        above = os.path.dirname(folder)
        make_folder(above)
        with _flushing(above):
            os.makedirs(folder, exist_ok=True)


def remove_leftovers(folder: str, names: re.Pattern[str]) -> None:
    """Remove the temporary files that processes killed in `atomic_write` left in a folder, for `names` alone.

    What is being written there, by this process or another, is left alone.
    """
    for entry in os.listdir(folder):
        match = _LEFTOVER.fullmatch(entry)
        if match and names.fullmatch(match[1]):
            with suppress(OSError):
                _remove_unused(os.path.join(folder, entry))


def _remove_unused(path: str) -> None:
    """Remove a file that no process is writing, or raise an OSError."""
    if sys.platform not in ("win32", "emscripten"):
        import fcntl

        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(handle)
    else:
        os.unlink(path)
