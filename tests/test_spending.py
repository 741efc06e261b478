"""The measuring of the processor's time, on which other tests rely."""

import gc
import time
import weakref

import pytest

from tests.spending import earlier_objects_apart, processor_time


def failing_after(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    raise ValueError("here")


def test_time_is_measured_also_where_a_block_fails():
    with pytest.raises(ValueError, match="here"), processor_time() as spent:
        failing_after(0.05)
    assert spent.seconds >= 0.05
    assert gc.get_freeze_count() == 0


def test_garbage_of_a_loop_of_blocks_is_collected():
    class Kept:
        pass

    alive = []
    with earlier_objects_apart():
        for _ in range(5000):
            with processor_time():
                kept = Kept()
                kept.itself = kept
            alive.append(weakref.ref(kept))
        assert gc.get_freeze_count() > 0  # no inner block has brought them back
    assert sum(each() is not None for each in alive) < 2500
