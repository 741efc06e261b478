"""The threads of the CPU engines: BLAS beside them, interrupts, signals, fork, and several callers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import fconv as fc
import fconv.functional as F
from fconv.engine import threads
from tests.convolutions import CASES, _the_number_of_threads_stays, arrays, engine  # noqa: F401


@pytest.mark.parametrize(
    ("n", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)]
)
def test_a_number_of_threads_that_cannot_be_is_refused(n, kind):
    with pytest.raises(kind, match="set_num_threads: n must be"):
        fc.set_num_threads(n)


@pytest.mark.parametrize(
    ("text", "expected"), [("3", "3"), ("0", "expected a number of threads of 1 or more"), ("x", "got 'x'")]
)
def test_the_environment_sets_the_number_of_threads(text, expected):
    found = subprocess.run(
        [sys.executable, "-c", "import fconv; print(fconv.get_num_threads())"],
        env={**os.environ, "FCONV_NUM_THREADS": text}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert expected in found.stdout + found.stderr


def blas_threads():
    threads.run(lambda i: None, 1)  # which finds the libraries that are held; SciPy may load another later
    return [blas.get_threads() for blas in threads._state.blas]


def test_blas_gets_its_threads_back():
    before = blas_threads()
    seen = []
    threads.run(lambda i: seen.append([blas.get_threads() for blas in threads._state.blas]), 3)
    assert all(set(each) == {1} for each in seen)
    with pytest.raises(MemoryError):
        threads.run(lambda i: np.empty(1 << 50), 8)
    assert blas_threads() == before
    x, weight = arrays((2, 4, 9, 9), (4, 4, 3, 3))
    y = F.conv2d(x, weight)  # usable after
    np.testing.assert_allclose(y, F.conv2d(x, weight, algorithm="reference"), rtol=1e-4, atol=1e-5)


def interrupted(i):
    raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing_held():
    before = blas_threads()
    for tasks in (1, 8):
        with pytest.raises(KeyboardInterrupt):
            threads.run(interrupted, tasks)
        assert threads._state.held is None
        assert threads.depth() == 0
    assert blas_threads() == before


def test_a_call_whose_end_was_lost_is_not_waited_for():
    before = blas_threads()
    threads._hold(threads._Token())  # nobody releases it
    threads.run(lambda i: None, 2)
    assert blas_threads() == before


def test_tasks_see_the_callers_errstate():
    fc.set_num_threads(4)
    seen = []
    with np.errstate(over="raise"):
        threads.run(lambda i: seen.append(np.geterr()["over"]), 64)
    assert seen == ["raise"] * 64


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread alone"
)
def test_a_signals_handler_may_compute():
    x, weight = arrays((4, 16, 16, 16), (16, 16, 3, 3))
    other = x[::-1].copy()
    expected, calls = (F.conv2d(x, weight), F.conv2d(other, weight)), []

    def compute(*_):
        calls.append(np.allclose(F.conv2d(other, weight), expected[1], atol=1e-4))
        signal.setitimer(signal.ITIMER_REAL, 0.002)  # only now, so that the handler never starves the rest

    handler = signal.signal(signal.SIGALRM, compute)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        found = [np.allclose(F.conv2d(x, weight), expected[0], atol=1e-4) for _ in range(200)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert all(found)
    assert calls
    assert all(calls)


def test_a_task_may_itself_run_tasks():
    done = []
    threads.run(lambda i: threads.run(lambda j: done.append((i, j)), 3), 4)
    assert sorted(done) == [(i, j) for i in range(4) for j in range(3)]


def test_calls_from_several_threads_at_once():
    x_shape, weight_shape, options = CASES["winograd"]
    x, weight = arrays(x_shape, weight_shape)
    expected, before, found = F.conv2d(x, weight, **options), blas_threads(), {}

    def call(i):
        found[i] = [F.conv2d(x, weight, **options) for _ in range(5)]

    callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((y == expected).all() for ys in found.values() for y in ys)
    assert blas_threads() == before


def _child(queue, x, weight):
    queue.put(F.conv2d(x, weight, padding=1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_computes():
    x, weight = arrays((4, 16, 16, 16), (16, 16, 3, 3))
    expected = F.conv2d(x, weight, padding=1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue, x, weight))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    child.join()
