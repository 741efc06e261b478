"""The processor's time that a block takes, whatever other tests have left in the process."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

_blocks: list[None] = []  # that are within each other


class Spent:
    """Seconds of the processor, known when the block has ended."""

    seconds = 0.0


@contextmanager
def processor_time() -> Iterator[Spent]:
    """Measure a block by this thread's time, with what exists before it out of the collector's sight.

    Work that the block leaves to other threads is not counted. A loop of such blocks should be within
    `earlier_objects_apart`, as objects that come back from there are old and hardly looked at again.
    """
    spent = Spent()
    with earlier_objects_apart():
        began = time.thread_time()
        try:
            yield spent
        finally:
            spent.seconds = time.thread_time() - began


@contextmanager
def earlier_objects_apart() -> Iterator[None]:
    """Keep the garbage collector from what exists, as going through all that tests keep takes long."""
    if not _blocks:  # objects of a block within one are not older than that
        gc.freeze()
    _blocks.append(None)
    try:
        yield
    finally:
        _blocks.pop()
        if not _blocks:
            gc.unfreeze()
