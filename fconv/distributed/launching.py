"""Starts a job of several ranks, and starts it again when a rank was lost."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

_LOST = 75  # as mpi.py ends a job of which a rank was lost
_KILLED = (signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)
_STARTED = re.compile(r"\x1efconv rank (\d+) is process (\d+) on (\S+)\n")
_ENDED = re.compile(r"PID (\d+) RUNNING AT (\S+)")
_PATIENCE = 10.0  # seconds that mpiexec has to end a job of which a rank has died


def announce(rank: int) -> None:
    """Report this process's rank to `launch`, where that started it."""
    if "FCONV_LAUNCH_RESTARTS" in os.environ:
        sys.stderr.write(f"\x1efconv rank {rank} is process {os.getpid()} on {os.uname().nodename}\n")
        sys.stderr.flush()


def restarts() -> int:
    """Return how often `fconv launch` has started this job again; a run that is not new goes on.

    Examples
    --------
    >>> restarts()
    0
    """
    return int(os.environ.get("FCONV_LAUNCH_RESTARTS", "0"))


def find_mpiexec() -> list[str]:
    """Find the mpiexec that was installed beside this Python, or else on the PATH.

    Raises
    ------
    ValueError
        There is none.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise ValueError("launch: there is no mpiexec; pip install 'fconv-nn[mpi]'")
    return [found]


def launch(
    script: Sequence[str], ranks: int, *, least: int = 1, most_restarts: int = 100, mpiexec: str | None = None
) -> int:
    """Run a script, with its arguments, on several ranks until it has come to its end; return its status.

    Where a rank was killed, has hung or does not answer, the job is started again, up to `most_restarts`
    times, and the script goes on from its newest checkpoint. Where not all ranks came up, half as many are
    started, but `least`. An error of the script's own ends it. `mpiexec` is the command that starts ranks,
    with its options.
    """
    starter = shlex.split(mpiexec) if mpiexec else find_mpiexec()
    for attempt in range(most_restarts + 1):
        command = [*starter, "-n", str(ranks), sys.executable, *script]
        job = _Job(command, {**os.environ, "FCONV_LAUNCH_RESTARTS": str(attempt)})
        status, began, lost = job.run(), len(job.names), job.lost
        if status == 0 or (status != _LOST and not lost and status not in _KILLED):
            return status
        why = f"{lost} was killed" if lost else f"a rank was lost (status {status})"
        if began < ranks and ranks // 2 >= least:
            ranks //= 2
            why += f", and only {began} of {2 * ranks} came up"
        if attempt < most_restarts:
            _say(f"{why}; starting {ranks} ranks again from the newest checkpoint (restart {attempt + 1})")
    _say(f"{why}; it has been started again {most_restarts} times, and is not any more")
    return status


def _say(text: str) -> None:
    sys.stderr.write(f"fconv launch: {text}\n")
    sys.stderr.flush()


class _Job:
    """A job that runs, and what is known of its ranks."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.names: dict[str, str] = {}  # of the ranks that came up, by the number of the process
        self.lost = ""
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._timer = threading.Timer(_PATIENCE, self.end)
        self._timer.daemon = True

    def run(self) -> int:
        """Pass on what the ranks write until the job has ended, and return its status."""
        pipes = ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr))
        readers = [threading.Thread(target=self._pass_on, args=pair, daemon=True) for pair in pipes]
        for reader in readers:
            reader.start()
        try:
            status = self.process.wait()
        except BaseException:  # Ctrl-C and SIGTERM go to the ranks, which may save
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_PATIENCE)
            self.end()
            raise
        finally:
            self._timer.cancel()
        for reader in readers:
            reader.join(1)
        return status

    def _pass_on(self, source: IO[bytes], target: IO[str]) -> None:
        seen = ""
        while data := os.read(source.fileno(), 1 << 16):
            seen += data.decode(errors="replace")
            for match in _STARTED.finditer(seen):
                self.names[match[2]] = f"rank {match[1]} (process {match[2]} on {match[3]})"
            seen = _STARTED.sub("", seen)
            ended = _ENDED.search(seen)
            if ended is not None and not self.lost:
                self.lost = self.names.get(ended[1], f"process {ended[1]} on {ended[2]}")
                self._timer.start()
            whole, mark, rest = seen.partition("\x1e")  # what has half come waits for its end
            target.write(whole)
            target.flush()
            seen = mark + rest
        target.write(seen)
        source.close()

    def end(self) -> None:
        """Kill what mpiexec has left."""
        here = f" on {os.uname().nodename})"
        for number in [number for number, name in self.names.items() if name.endswith(here)]:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(number), signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
