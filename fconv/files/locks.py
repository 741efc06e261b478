"""A lock on a folder that the system gives back however its process ends."""

from __future__ import annotations

import os
import stat
import sys
from weakref import WeakValueDictionary

from fconv.files.atomic import not_offered

_NAME = ".fconv-lock"
_FAR = 1 << 30  # Windows does not let others read the bytes that are locked
# The system's lock belongs to the process and is lost when any handle of the file is closed, so
# that all who ask for one folder in one process share one handle.
_held: WeakValueDictionary[tuple[int, str], Lock] = WeakValueDictionary()


class Lock:
    """Held until it is dropped, or until the process that took it (not one forked from it) ends."""

    def __init__(self, handle: int, path: str) -> None:
        self._handle, self._path = handle, path

    def stands(self) -> bool:
        """Return whether its file is still the one in the folder, which may have been made again."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def take(self, who: str, folder: str) -> None:
        """Take it, or raise a BlockingIOError.

        Where the file system has no locks there is nothing to take, and nothing is refused.
        """
        try:
            _take(self._handle)
        except (BlockingIOError, PermissionError):
            other = _text(self._handle) or "unknown"
            raise BlockingIOError(
                f"{who}: {folder} is in use: another process (number {other}) saves there"
            ) from None
        except OSError as error:
            if not not_offered(error):
                raise

    def sign(self) -> None:
        """Leave this process's number to whoever is refused."""
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, b"%d\n" % os.getpid())

    def __del__(self) -> None:
        os.close(self._handle)


def lock(who: str, folder: str) -> Lock:
    """Take the lock of a folder, or the one that this process holds there.

    A BlockingIOError, which begins with `who`, says that another process holds it; a ValueError that what has
    the lock's name is no lock of fconv.
    """
    place = (os.getpid(), os.path.realpath(folder))
    path = os.path.join(place[1], _NAME)
    held = _held.get(place)
    while held is None or not held.stands():
        held = Lock(_opened(who, path), path)
        held.take(who, folder)
        if held.stands():  # not where the folder was removed meanwhile
            held.sign()
            _held[place] = held
            return held
    if _LOST_BY_CLOSING:  # any other handle of the file in this process, as a copy of the folder does
        held.take(who, folder)
    return held


def _opened(who: str, path: str) -> int:
    """Open the file of a lock, which must be a file of ours: its content is replaced."""
    refusal = ValueError(f"{who}: {path} is no lock of fconv; remove it, or use another folder")
    if os.path.islink(path):
        raise refusal
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # where the system has them
        flags |= getattr(os, name, 0)
    handle = os.open(path, flags, 0o666)
    about = os.fstat(handle)
    if (
        stat.S_ISREG(about.st_mode)
        and about.st_nlink < 2
        and (not about.st_size or _text(handle).isdecimal())
    ):
        return handle
    os.close(handle)
    raise refusal


def _text(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, 40).decode("latin-1").strip()


if sys.platform == "win32":
    import msvcrt

    _LOST_BY_CLOSING = False

    def _take(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

elif sys.platform == "emscripten":  # in a browser, where the files are one process's own
    _LOST_BY_CLOSING = False

    def _take(handle: int) -> None:
        pass

else:
    import fcntl

    _LOST_BY_CLOSING = True

    def _take(handle: int) -> None:
        # Of the two kinds of lock this one is not inherited: a worker that was forked and outlives
        # a killed run does not keep it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
