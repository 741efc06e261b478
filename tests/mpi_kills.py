"""Kill ranks of jobs at random moments, and see that nothing hangs and nothing is lost.

``python -m tests.mpi_kills --jobs 100``: each job trains a small network on 2 or 4 ranks and saves every
step; SIGKILL meets one of its ranks while it starts, computes, sums gradients or, rank 0, saves. The
job must end within 30 seconds. The newest checkpoint must then be, byte for byte, the one that an
undisturbed run of one process wrote at that step, and no step that was saved may be lost. The next
job goes on from there with another number of ranks; every run must end as the undisturbed one did.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.crash import ROOT, Progress, digest, flags_or_child

STARTS, COMPUTES, SUMS, SAVES, DONE = range(5)
PHASES = ("starting", "computing", "summing", "saving", "done")
STEPS, KEEP, MOST_SECONDS = 16, 2, 30.0
MPIEXEC = Path(sys.executable).with_name("mpiexec")


def child(folder, record):
    """Train from the newest checkpoint to the end, on however many ranks there are."""
    import numpy as np

    import fconv as fc
    from fconv import distributed

    comm = distributed.communicator()
    progress = Progress(folder / f"progress{comm.rank}")
    (folder / f"pid{comm.rank}").write_text(str(os.getpid()))
    call = comm.world.call

    def noted(work):
        def working():
            progress.phase(SUMS)
            try:
                return work()
            finally:
                progress.phase(COMPUTES)

        return call(working)

    comm.world.call = noted
    net = fc.compose(
        fc.conv2d(8, 3, padding=1), fc.batch_norm(), fc.relu(), fc.flatten(), fc.dropout(0.2), fc.linear(64),
    )  # fmt: skip
    opt = fc.adam(1e-3)
    step = fc.train_step(net, fc.cross_entropy_loss(), opt, comm=comm, shards=4)
    saver = distributed.SharedCheckpointer(fc.Checkpointer(folder / "run", keep=KEEP), comm)
    found = saver.latest()
    state = found[1] if found else fc.train_state(net, opt, fc.random.key(0), (12, 1, 16, 16))
    while state.step < STEPS:
        progress.phase(COMPUTES)
        count = 9 if state.step % 4 == 3 else 12
        x = fc.random.normal(fc.random.fold_in(fc.random.key(1), state.step), (count, 1, 16, 16))
        state, _ = step(state, x, np.arange(count) + state.step)
        progress.phase(SAVES)
        path = saver.save(state.step, state)
        progress.saved(state.step)
        if record:
            with open(folder / "record", "a", encoding="ascii") as file:
                file.write(f"{state.step} {digest(path)}\n")
    progress.phase(DONE)


def start(folder, ranks, *flags):
    for path in folder.glob("pid*"):
        path.unlink()
    command = [
        MPIEXEC,
        "-n",
        str(ranks),
        sys.executable,
        "-m",
        "tests.mpi_kills",
        "--child",
        str(folder),
        *flags,
    ]
    environment = {**os.environ, "FCONV_DISTRIBUTED_TIMEOUT": "20", "FCONV_NUM_THREADS": "1"}
    with open(folder / "said", "w") as said:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)


def kill_at_a_random_moment(process, folder, ranks, draw):
    """Send SIGKILL to a rank; give what it was doing, or None where the job ended first."""
    aim = draw.choice([STARTS, COMPUTES, SUMS, SUMS, SAVES, SAVES])
    rank = 0 if aim == SAVES else draw.randrange(ranks)
    path, begun, enough = folder / f"pid{rank}", time.monotonic(), None
    delay = draw.uniform(0, 0.01)
    while process.poll() is None:
        if path.exists() and (text := path.read_text()):
            progress = Progress(folder / f"progress{rank}")
            enough = progress.get()[1] + draw.randrange(1, 6) if enough is None else enough
            phase, saved = progress.get()
            if aim == STARTS or (phase == aim and saved >= enough) or saved >= STEPS - 1:
                time.sleep(delay)
                phase = progress.get()[0]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(text), signal.SIGKILL)
                    return phase
                return None
        assert time.monotonic() - begun < 120, "the job does not come to a step"
        time.sleep(0.0005)
    return None


def newest(folder, record):
    """The newest checkpoint is whole, and the undisturbed run's; give its step."""
    import fconv as fc

    found = fc.Checkpointer(folder / "run", keep=KEEP).latest()
    if found is None:
        return 0
    assert digest(folder / "run" / f"step-{found[0]:08d}.safetensors") == record[found[0]]
    return found[0]


def run(folder, jobs, seed, report=lambda text: None):
    """Start that many jobs that are killed; give counts of what happened."""
    draw = random.Random(seed)
    whole = folder / "whole"
    whole.mkdir()
    assert start(whole, 1, "--record").wait() == 0, (whole / "said").read_text()
    lines = (whole / "record").read_text(encoding="ascii").splitlines()
    record = {int(step): text for step, text in map(str.split, lines)}
    counts, longest, ranks = Counter(), 0.0, 0
    while counts["kills"] < jobs:
        chain = folder / f"chain{counts['runs']}"
        chain.mkdir()
        counts["runs"] += 1
        while True:
            last = counts["kills"] >= jobs
            ranks = draw.choice([n for n in (1, 2, 4) if n != ranks]) if last else draw.choice([2, 4])
            before = newest(chain, record)
            for rank in range(ranks):
                Progress(chain / f"progress{rank}").phase(STARTS)
            process = start(chain, ranks)
            phase = None if last else kill_at_a_random_moment(process, chain, ranks, draw)
            killed = time.monotonic()
            process.wait(MOST_SECONDS if phase is not None else 300)
            seconds = time.monotonic() - killed
            step = newest(chain, record)
            assert step >= max(before, Progress(chain / "progress0").get()[1]), "a saved step is lost"
            if phase in (None, DONE) and step == STEPS:
                files = [f"step-{n:08d}.safetensors" for n in range(STEPS - KEEP + 1, STEPS + 1)]
                assert sorted(os.listdir(chain / "run")) == [".fconv-lock", *files]
                counts[f"ended on {ranks} ranks"] += 1
                break
            assert phase is not None, (chain / "said").read_text()
            assert process.returncode != 0
            counts["kills"] += 1
            counts[PHASES[phase]] += 1
            longest = max(longest, seconds)
            report(f"job {counts['kills']}: {ranks} ranks, killed while {PHASES[phase]}, ended after "
                   f"{seconds:.1f} s, newest step {step}")  # fmt: skip
    counts["longest"] = longest
    return counts


def main():
    flags = flags_or_child(__doc__, "jobs", 100, child)
    if flags is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), flags.jobs, flags.seed, report=lambda text: print(text, flush=True))
    print(f"{counts['kills']} jobs killed in {counts['runs']} runs, the last of them after "
          f"{counts.pop('longest'):.1f} s at most:")  # fmt: skip
    for name, count in sorted(counts.items()):
        print(f"  {name}: {count}")
    print("every checkpoint is there, and every run ended bit for bit as the undisturbed one")


if __name__ == "__main__":
    main()
