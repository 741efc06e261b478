"""Training steps under real SIGINTs: none may hang, and the step after each has the right bits.

    python -m tests.interrupts --count 1000

The signal comes at a random moment of a step that computes on several threads, from another thread, and in
half of the rounds to a main thread that blocks it, so that a worker takes it, as POSIX allows.
"""

import argparse
import faulthandler
import os
import random
import signal
import threading
import time

os.environ.setdefault("FCONV_NUM_THREADS", "2")

import numpy as np
from threadpoolctl import threadpool_info

import fconv as fc


def training_step():
    """Return a function of no arguments that takes one training step, always the same one."""
    net = fc.compose(
        fc.conv2d(32, 3, padding=1), fc.batch_norm(), fc.relu(), fc.conv2d(32, 3, padding=1),
        fc.max_pool2d(2), fc.conv2d(8, 3, stride=2), fc.flatten(), fc.linear(10),
    )  # fmt: skip
    key = fc.random.key(0)
    x, target = fc.random.normal(key, (8, 3, 48, 48)), np.arange(8) % 10
    opt = fc.adam(1e-3)
    state = fc.train_state(net, opt, key, x.shape)
    step = fc.train_step(net, fc.cross_entropy_loss(), opt)
    return lambda: step(state, x, target)[0]


def blas_threads():
    return [
        (info["filepath"], info["num_threads"]) for info in threadpool_info() if info["user_api"] == "blas"
    ]


def interrupt_after(seconds):
    """Send one SIGINT to this process from another thread, `seconds` from now."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def interrupt_steps(count, seed=0, limit=60):
    """Interrupt `count` steps; raise AssertionError where the one after has other bits or BLAS other threads.

    Returns
    -------
    int
        How many of the interrupts reached a step that was running; the rest came just before or after it.
    """
    step = training_step()
    want = fc.trees.leaves(step())
    start = time.perf_counter()
    step()
    usual, draw, inside = time.perf_counter() - start, random.Random(seed), 0
    before = blas_threads()
    for i in range(count):
        faulthandler.dump_traceback_later(limit, exit=True)
        if i % 2:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        running, timer = False, None
        try:
            timer = interrupt_after(draw.uniform(0, 1.5 * usual))
            while True:
                running = True
                step()
                running = False
        except KeyboardInterrupt:
            inside += running
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        if timer is not None:  # it may strike before its name is bound
            timer.join()
        got = fc.trees.leaves(step())
        assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True)), (
            f"other bits after interrupt {i}"
        )
        assert blas_threads() == before, f"after interrupt {i}: {blas_threads()}, before: {before}"
    faulthandler.cancel_dump_traceback_later()
    return inside


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    hit = interrupt_steps(options.count, options.seed)
    print(
        f"{options.count} interrupts, {hit} inside of a step: no hang, equal bits after each, BLAS as before"
    )
