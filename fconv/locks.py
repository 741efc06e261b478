"""A lock on a folder that the system gives back however its process ends."""

from __future__ import annotations

import os
from importlib.util import find_spec
from weakref import WeakValueDictionary

_NAME = ".fconv-lock"
# The system's lock belongs to the process and is lost when any handle of the file is closed, so
# that all who ask for one folder in one process share one handle.
_held: WeakValueDictionary[tuple[int, str], Lock] = WeakValueDictionary()


class Lock:
    """Held until it is dropped, or until the process that took it (not one forked from it) ends."""

    def __init__(self, handle: int | None) -> None:
        self.owner = os.getpid()
        self._handle = handle

    def renew(self, who: str, folder: str) -> None:
        """Take it again: the system drops it when this process closes the file anywhere, as a copy does."""
        if self._handle is not None:
            _take(self._handle, who, folder)

    def __del__(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


def lock(who: str, folder: str) -> Lock:
    """Take the lock of a folder, or raise a BlockingIOError that names `who` and the other process.

    Where the system or the file system has no such locks, there is nothing to hold, and nothing is
    refused.
    """
    place = (os.getpid(), os.path.realpath(folder))
    held = _held.get(place)
    if held is None:
        held = _held[place] = Lock(_locked_handle(who, folder))
    return held


def _locked_handle(who: str, folder: str) -> int | None:
    if find_spec("fcntl") is None:  # Windows
        return None
    handle = os.open(os.path.join(folder, _NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _take(handle, who, folder)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    os.ftruncate(handle, 0)
    os.write(handle, b"%d\n" % os.getpid())
    return handle


def _take(handle: int, who: str, folder: str) -> None:
    import fcntl

    try:
        # Of the two kinds of lock this one is not inherited: a worker that was forked and outlives
        # a killed run does not keep it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        other = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        raise BlockingIOError(
            f"{who}: {folder} is in use: another process (number {other}) saves there"
        ) from None
