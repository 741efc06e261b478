"""The other end of a worker: starts it, asks it, and ends it when it does not answer."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from benchmarks.libraries import LIBRARIES

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
           "FCONV_NUM_THREADS")  # fmt: skip


class WorkerError(Exception):
    """A worker failed: the text is what its library raised, or how the process ended."""


class Worker:
    """A process that computes with one library, and waits without work between requests.

    Parameters
    ----------
    library : str
        A name of LIBRARIES.
    threads : int
        For all that it starts.
    cpus : list of int
        Processors that it may run on.
    coretype : str
        Kernels that OpenBLAS is told to take, or nothing.
    quick : bool
        Small cases.
    device : str
        "cpu" or "cuda".
    log : file
        Takes what the library writes.
    """

    def __init__(
        self,
        library: str,
        threads: int,
        cpus: list[int],
        coretype: str,
        quick: bool,
        log: IO[str],
        device: str = "cpu",
    ) -> None:
        self.library = library
        environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        if coretype and LIBRARIES[library].core:
            environment["OPENBLAS_CORETYPE"] = coretype
        settings = json.dumps([library, threads, cpus, quick, device])
        command = [sys.executable, "-m", "benchmarks.worker", settings]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
        self._pending = b""

    def ask(self, timeout: float, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises
        ------
        WorkerError
            The library raised, the process ended, or the time is over (the process is ended then).
        """
        try:
            self._process.stdin.write((json.dumps({"do": do, **request}) + "\n").encode())
            self._process.stdin.flush()
            answer = json.loads(self._line(timeout))
        except (BrokenPipeError, EOFError):
            self.close()
            raise WorkerError(f"the process ended with code {self._process.returncode}") from None
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _line(self, timeout: float) -> bytes:
        out = self._process.stdout.fileno()
        end = time.monotonic() + timeout
        while b"\n" not in self._pending:
            ready, _, _ = select.select([out], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.close()
                raise WorkerError(f"no answer within {timeout:g} s")
            read = os.read(out, 65536)
            if not read:
                raise EOFError
            self._pending += read
        line, self._pending = self._pending.split(b"\n", 1)
        return line

    @property
    def alive(self) -> bool:
        """Return whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5 if not self._pending else 0.1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Team:
    """A worker for each library, started when first asked and again after it failed."""

    def __init__(self, settings: dict[str, Any], log: IO[str]) -> None:
        self._settings, self._log = settings, log
        self._workers: dict[str, Worker] = {}

    def fresh(self, library: str) -> Worker:
        """Start a worker of its own."""
        return Worker(library, log=self._log, **self._settings)

    def ask(self, library: str, timeout: float, do: str, **request: Any) -> dict[str, Any]:
        """Ask a library's worker."""
        worker = self._workers.get(library)
        if worker is None or not worker.alive:
            worker = self._workers[library] = self.fresh(library)
        return worker.ask(timeout, do, **request)

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.close()
