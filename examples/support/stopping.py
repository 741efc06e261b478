"""Ctrl-C and SIGTERM end a run after the step at hand."""

from __future__ import annotations

import math
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Stop:
    """Within its ``with``, SIGINT and SIGTERM are counted in `asked` and cut nothing short.

    Where `patience` is set to a number, one signal more than that many raises a KeyboardInterrupt,
    once: whoever sets it says that what follows may be cut short, or waited for only so long.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.patience = math.inf
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # signals come to no other
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as shells set it for what runs behind
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        if self.asked > self.patience:
            self.patience = math.inf  # what cleans up after it is not cut short
            raise KeyboardInterrupt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
