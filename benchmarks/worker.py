"""The process of one library: it waits for a line of JSON, does what it says, and answers with one."""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Conv, Job, Pass, Step
from benchmarks.libraries import NotServed, load
from benchmarks.table import find

DROPOUT = 0.2


class Worker:
    """State of a library's process between requests: the functions it was told to prepare."""

    def __init__(self, name: str, threads: int, quick: bool, device: str) -> None:
        self.name, self.threads, self.quick, self.device = name, threads, quick, device
        self.library = load(name)
        if hasattr(self.library, "set_threads"):
            self.library.set_threads(threads)
        if device != "cpu":
            self.library.set_device(device)
        self.prepared: dict[str, Callable[[], Any]] = {}

    def about(self) -> dict[str, Any]:
        """Name the versions and the BLAS libraries of this process."""
        from threadpoolctl import threadpool_info

        keys = ("user_api", "internal_api", "version", "architecture", "num_threads")
        pools = [{key: pool[key] for key in keys if pool.get(key) is not None} for pool in threadpool_info()]
        if "numpy" not in self.library.VERSIONS:  # NumPy is there, but does not compute
            pools = [pool for pool in pools if pool["user_api"] != "blas"]
        versions = {name: metadata.version(name) for name in self.library.VERSIONS}
        details = self.library.details() if hasattr(self.library, "details") else ""
        return {"versions": versions, "pools": sorted(pools, key=str), "details": details}

    def prepare(self, part: str, job: str, layout: str, weights: str | None, results: str) -> dict[str, Any]:
        """Make what `time` runs, and compute once what is checked against the other libraries."""
        found = find(part, job, self.quick, self.device)
        answer: dict[str, Any] = {"served": True}
        run = self._function(found, layout, weights)
        if isinstance(found.case, Step):
            np.savez(results, **self._training(found, layout, weights))
            run()
        else:
            checked = getattr(run, "channels_first", run)
            np.savez(results, *self.library.numpy(checked()))
        self.prepared[layout] = run
        self.settle()
        return answer

    def time(self, layout: str, seconds: float) -> dict[str, Any]:
        """Return the median time of one call, over calls of at least `seconds` together."""
        run = self.prepared[layout]
        start = time.perf_counter()
        last = run()
        warm = time.perf_counter() - start
        while time.perf_counter() - start < 0.1 * seconds:
            run()
        times: list[float] = []
        while not times or (warm < seconds and (sum(times) < seconds or len(times) < 3)):
            before = time.perf_counter()
            last = run()
            times.append(time.perf_counter() - before)
        if isinstance(last, float) and not math.isfinite(last):
            raise FloatingPointError(f"the loss became {last}")
        del last
        return {"seconds": statistics.median(times), "calls": len(times), "settled": self.settle()}

    def memory(self, part: str, job: str, layout: str, weights: str | None = None) -> dict[str, int]:
        """Return resident bytes after importing, with inputs made, and the highest in three calls."""
        found = find(part, job, self.quick, self.device)
        imported = resident()[0]
        run = self._function(found, layout, weights)
        forget_peak()
        before = resident()[0]
        start = time.perf_counter()
        for _ in range(3):
            run()
            if time.perf_counter() - start > 2:  # the first call has shown it; loops take long
                break
        results = found.case.results_bytes(found.what) if isinstance(found.case, Conv) else 0
        return {"imported": imported, "before": before, "peak": resident()[1], "results": results}

    def drop(self) -> dict[str, Any]:
        """Forget what was prepared."""
        self.prepared.clear()
        return {}

    def settle(self) -> bool:
        """Wait until no thread of this process is at work, so that what is timed next has the machine.

        OpenMP's threads, for one, go on spinning for some time after a call.
        """
        for _ in range(200):
            before = time.process_time()
            time.sleep(0.01)
            if time.process_time() - before < 0.001:
                return True
        return False

    def _function(self, job: Job, layout: str, weights: str | None) -> Callable[[], Any]:
        if isinstance(job.case, Conv):
            return self.library.convolution(job.case, job.what, layout)
        if isinstance(job.case, Pass):
            return self.library.passing(job.case, job.what, layout)
        if isinstance(job.case, Step):
            return self.library.step(job.case, _loaded(weights), layout, DROPOUT, "float32")[0]
        return self.library.inference(job.case, _loaded(weights), layout)

    def _training(self, job: Job, layout: str, weights: str | None) -> dict[str, Any]:
        """Take two steps without dropout: the losses, and the momentum of every parameter.

        In float32 a unit near a kink may fall to either side, and PyTorch's own two memory orders
        then differ by some percent in the gradients of a deep network; in float64 this does not occur.
        """
        values = _loaded(weights)
        take, momentum = self.library.step(job.case, values, layout, 0.0, "float64")
        losses = [take(), take()]
        single, _ = self.library.step(job.case, values, layout, 0.0, "float32")
        return {"loss32": single(), "loss": losses, **{f"momentum {k}": v for k, v in momentum().items()}}


def _loaded(weights: str | None) -> dict[str, np.ndarray]:
    with np.load(weights) as file:
        return {name: file[name] for name in file.files}


def resident() -> tuple[int, int]:
    """Return the resident bytes of this process, now and at their highest since `forget_peak`."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux: the highest alone is known
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        return peak, peak
    values = dict(line.split(":", 1) for line in lines)
    return tuple(1024 * int(values[key].split()[0]) for key in ("VmRSS", "VmHWM"))


def forget_peak() -> None:
    """Let the highest begin again where the system can; ru_maxrss would begin with the parent's."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Answer requests until there are no more."""
    # What a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    name, threads, cpus, quick, device = json.loads(sys.argv[1])
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            # Only now: that a library cannot start is an answer too.
            worker = worker or Worker(name, threads, quick, device)
            answer = getattr(worker, request.pop("do"))(**request)
        except NotServed as reason:
            answer = {"served": False, "why": str(reason)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
