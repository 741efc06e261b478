"""Ctrl-C at any moment of a training step; `python -m tests.interrupts` does it a thousand times."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be blocked here")
def test_interrupted_steps_neither_hang_nor_change_what_follows():
    found = subprocess.run(
        [sys.executable, "-m", "tests.interrupts", "--count", "20"],
        env={**os.environ, "FCONV_NUM_THREADS": "2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    hit = int(found.stdout.split(" inside")[0].split()[-1])
    assert hit >= 10, found.stdout


def test_an_interrupt_that_strikes_while_memory_comes_back_is_not_lost(monkeypatch):
    """Python forgets what is raised there, after it has printed it."""
    from fconv.engine import memory

    def struck(freed):
        raise KeyboardInterrupt

    def wait():
        memory.empty((memory.LEAST,), np.dtype(np.float32))  # and is gone
        for _ in range(1000):
            time.sleep(0.01)

    monkeypatch.setattr(memory.kept, "put", struck)
    with pytest.raises(KeyboardInterrupt):
        wait()
