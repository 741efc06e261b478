"""Work on the next batches while the last one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

from fconv.options import whole

T = TypeVar("T")

__all__ = ["prefetch"]


def prefetch(items: Iterable[T], size: int = 2) -> Generator[T, None, None]:
    """Go through items that a thread makes ahead.

    Parameters
    ----------
    items : iterable
        Such as a generator of batches. It is walked on a thread of its own, which starts when the
        first item is asked for.
    size : int
        How many items are made ahead, at least 1.

    Yields
    ------
    object
        The items, in their order. An error of the iterable is raised after the items before it.

    Raises
    ------
    ValueError, TypeError
        `size` is not an integer of at least 1.

    Notes
    -----
    Where the walk ends early, by ``close()``, an error or the end of the generator's life, the
    thread ends too, after the item that it is making, and the iterable is closed if it can be.

    Examples
    --------
    >>> list(prefetch(i * i for i in range(4)))
    [0, 1, 4, 9]
    """
    size = whole("prefetch", "size", size, 1)
    return _walk(items, size)


def _walk(items: Iterable[T], size: int) -> Generator[T, None, None]:
    made: queue.Queue[tuple[bool, Any]] = queue.Queue(size)
    stopped = threading.Event()

    def put(last: bool, item: Any) -> bool:
        while not stopped.is_set():
            try:
                made.put((last, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(False, item):
                    break
            else:
                put(True, None)
        except BaseException as error:  # whatever it is, it belongs to the one who waits
            put(True, error)
        finally:
            close = getattr(items, "close", None)
            if stopped.is_set() and close is not None:
                close()

    thread = threading.Thread(target=make, name="fconv-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            last, item = made.get()
            if last:
                if item is not None:
                    raise item
                return
            yield item
    finally:
        stopped.set()
        thread.join()
