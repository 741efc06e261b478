"""Kill a run that saves every step, again and again, and see that nothing is lost.

``python -m tests.crash --kills 200``: a child process trains a small network; the parent sends it
SIGKILL while it imports, loads, computes or, mostly, saves. After each kill the newest checkpoint
must load and be, byte for byte, the one that an uninterrupted run wrote at that step, and there must
be no more files than the Checkpointer promises: those to keep between two saves, one more during a
save. The run is then resumed. Every run that reaches its end must leave the very files of the
uninterrupted one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

IMPORTS, LOADS, COMPUTES, SAVES, DONE = range(5)
PHASES = ("importing", "loading", "computing", "saving", "done")
STEPS, KEEP = 30, 2
ROOT = Path(__file__).parents[1]


class Progress:
    """Activity of the child, and its last saved step, in memory that outlives it."""

    def __init__(self, path):
        path.touch()
        os.truncate(path, 16)
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 16)

    def get(self):
        return struct.unpack("<2q", self._memory[:])

    def phase(self, number):
        self._memory[:8] = struct.pack("<q", number)

    def saved(self, step):
        self._memory[8:] = struct.pack("<q", step)


def child(folder, record):
    """Train from wherever the folder's newest checkpoint is, to the end; saves every step."""
    import numpy as np

    import fconv as fc

    net = fc.compose(
        fc.conv2d(8, 3, padding=1), fc.batch_norm(), fc.relu(), fc.flatten(), fc.dropout(0.2), fc.linear(128),
    )  # fmt: skip
    opt = fc.adam(1e-3)
    step = fc.train_step(net, fc.cross_entropy_loss(), opt)
    shape = (4, 1, 20, 20)
    progress = Progress(folder / "progress")
    progress.phase(LOADS)
    checkpoints = fc.Checkpointer(folder / "run", keep=KEEP)
    found = checkpoints.latest()
    state = found[1] if found else fc.train_state(net, opt, fc.random.key(0), shape)
    while state.step < STEPS:
        progress.phase(COMPUTES)
        key = fc.random.fold_in(fc.random.key(1), state.step)
        state, _ = step(state, fc.random.normal(key, shape), np.arange(4) + state.step)
        progress.phase(SAVES)
        path = checkpoints.save(state.step, state)
        progress.saved(state.step)
        if record:
            with open(folder / "record", "a", encoding="ascii") as file:
                file.write(f"{state.step} {digest(path)}\n")
    progress.phase(DONE)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def start(folder, *flags):
    command = [sys.executable, "-m", "tests.crash", "--child", str(folder), *flags]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_until(process, condition):
    """Look often, until the condition holds or the child has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.0003)


def kill_at_a_random_moment(process, progress, draw, one_save):
    """Send SIGKILL; give what the child was doing, or None where it ended first."""
    aim = draw.choices(["importing", "anywhere", "saving"], [1, 2, 7])[0]
    first = progress.get()[1]
    if aim == "importing":
        end = time.monotonic() + draw.uniform(0, 0.5)
        wait_until(process, lambda: time.monotonic() > end)
    elif aim == "anywhere":
        wait_until(process, lambda: progress.get()[0] >= LOADS)
        time.sleep(draw.uniform(0, 6 * one_save))
    else:
        enough = first + draw.randrange(6)
        wait_until(process, lambda: progress.get()[0] == SAVES and progress.get()[1] >= enough)
        time.sleep(draw.uniform(0, one_save))
    if process.poll() is not None:
        return None
    phase = progress.get()[0]
    process.send_signal(signal.SIGKILL)
    return phase


def check_folder(folder, record):
    """The newest checkpoint is whole and is the uninterrupted run's; give its step."""
    import fconv as fc

    checkpoints = fc.Checkpointer(folder / "run", keep=KEEP)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a damaged file, too, would be a failure
        found = checkpoints.latest()
    if found is None:
        return 0
    step, state = found
    assert step == state.step
    for kept in checkpoints.steps():
        assert digest(folder / "run" / f"step-{kept:08d}.safetensors") == record[kept], kept
    assert len(checkpoints.steps()) + leftovers(folder) <= KEEP + 1
    return step


def leftovers(folder):
    with contextlib.suppress(FileNotFoundError):
        return sum(name.endswith(".part") for name in os.listdir(folder / "run"))
    return 0


def check_end(folder, record):
    names = [f"step-{step:08d}.safetensors" for step in range(STEPS - KEEP + 1, STEPS + 1)]
    assert sorted(os.listdir(folder / "run")) == [".fconv-lock", *names]
    assert check_folder(folder, record) == STEPS


def run(folder, kills, seed, report=lambda text: None):
    """Kill that often; give counts of what happened."""
    draw = random.Random(seed)
    began = time.monotonic()
    whole = folder / "whole"
    whole.mkdir()
    process = start(whole, "--record")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    lines = (whole / "record").read_text(encoding="ascii").splitlines()
    record = {int(step): text for step, text in map(str.split, lines)}
    check_end(whole, record)
    counts = Counter()
    one_save = 0.01
    while counts["kills"] < kills:
        chain = folder / f"chain{counts['runs']}"
        chain.mkdir()
        progress = Progress(chain / "progress")
        counts["runs"] += 1
        while True:
            before = progress.get()[1]
            progress.phase(IMPORTS)
            process = start(chain)
            phase = (
                kill_at_a_random_moment(process, progress, draw, one_save)
                if counts["kills"] < kills
                else None
            )
            _, errors = process.communicate()
            newest = check_folder(chain, record)
            at, saved = progress.get()
            if at == COMPUTES and saved > before:  # between two saves there are exactly those to keep
                assert len(os.listdir(chain / "run")) == 1 + min(saved, KEEP)
            assert newest >= progress.get()[1] >= before, "a checkpoint that was saved is lost"
            if phase is None:
                assert process.returncode == 0, errors
                check_end(chain, record)
                break
            counts["kills"] += 1
            counts[PHASES[phase]] += 1
            counts["left a temporary file"] += leftovers(chain) > 0
            report(f"kill {counts['kills']}: while {PHASES[phase]}, newest step {newest}")
    counts["seconds"] = round(time.monotonic() - began)
    return counts


def flags_or_child(text, what, count, child):
    """Return the flags; None where this process was started as the child, which has then run."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(f"--{what}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child is None:
        return flags
    child(flags.child, flags.record)
    return None


def main():
    flags = flags_or_child(__doc__, "kills", 200, child)
    if flags is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), flags.kills, flags.seed, report=print)
    print(f"{counts['kills']} kills in {counts['runs']} runs, {counts['seconds']} s:")
    for phase in (*PHASES, "left a temporary file"):
        print(f"  {phase}: {counts[phase]}")
    print("every newest checkpoint loaded, and every run ended bit for bit as the uninterrupted one")


if __name__ == "__main__":
    main()
