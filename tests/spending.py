"""The processor's time that a block takes, whatever other tests have left in the process."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Spent:
    """Seconds of the processor, known when the block has ended."""

    seconds = 0.0


@contextmanager
def processor_time() -> Iterator[Spent]:
    """Measure a block by this thread's time, with what exists before it out of the collector's sight.

    A collection goes through all that earlier tests keep, which can take longer than the block itself, and
    other threads may still be at work: neither is of the block.
    """
    spent = Spent()
    gc.freeze()
    began = time.thread_time()
    try:
        yield spent
    finally:
        spent.seconds = time.thread_time() - began
        gc.unfreeze()
