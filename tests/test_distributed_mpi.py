"""Data-parallel training under mpiexec, as the packages mpi4py and mpich of PyPI bring it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import mpi_kills
from tests.distributed import runs

ROOT = Path(__file__).parents[1]
MPIEXEC = Path(sys.executable).with_name("mpiexec")

pytestmark = pytest.mark.skipif(
    not MPIEXEC.exists() or importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and mpich"
)


def job(size, name, *, limit=60, seconds=200, **options):
    """Run ranks that take one another for lost after `limit` seconds."""
    command = [
        MPIEXEC,
        "-n",
        str(size),
        sys.executable,
        "-m",
        "tests.distributed.job",
        name,
        json.dumps(options),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FCONV_DISTRIBUTED_TIMEOUT": str(limit)}
    environment.pop("FCONV_NUM_THREADS", None)
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.mark.parametrize("size", [1, 3, 4])
def test_the_communicator(size):
    done = job(size, "communicate")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    processors = len(os.sched_getaffinity(0))
    assert said == {"size": size, "threads": max(1, processors // size)}


@pytest.mark.parametrize(
    ("kind", "dtype", "steps", "options"),
    [
        ("all", "float32", 50, {}),
        ("all", "float64", 50, {}),
        ("sync", "float64", 6, {}),
        ("all", "float32", 6, {"sharded": True}),
    ],
)
def test_the_same_bits_on_1_2_4_and_8_ranks(kind, dtype, steps, options):
    found = []
    for size in (1, 2, 4, 8):
        done = job(size, "train", kind=kind, dtype=dtype, shards=8, steps=steps, **options)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize(
    ("kind", "dtype", "within", "exact"),
    [
        ("plain", "float32", 1e-6, True),
        ("plain", "float64", 1e-12, True),
        ("plain", "float64", 1e-12, False),
        ("sync", "float32", 1e-6, True),
        ("sync", "float64", 1e-12, True),
    ],
)
def test_two_ranks_give_what_one_plain_process_gives(kind, dtype, within, exact, tmp_path):
    done = job(
        2, "train", kind=kind, dtype=dtype, shards=2, steps=50, exact=exact, path=str(tmp_path / "x.npz")
    )
    assert done.returncode == 0, done.stderr
    params, losses = runs.train_plainly(kind, np.dtype(dtype))
    with np.load(tmp_path / "x.npz") as kept:
        assert np.abs(kept["losses"] - losses).max() < within
        for name, p in runs.named(params).items():
            assert np.abs(kept[name] - p).max() < within * max(1.0, np.abs(p).max()), name


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("version", "ranks 0 and 1 differ in the version of fconv: "),
        ("network", "ranks 0 and 1 differ in the network: "),
        ("dtype", "ranks 0 and 1 differ in the parameters: "),
        ("seed", "ranks 0 and 1 differ in the key (the seed of the run): "),
        ("drift", "after 6 steps the parameters of ranks 0 and 1 differ: 1.weight; "),
    ],
)
def test_ranks_that_differ_end_the_job(what, message):
    done = job(3, "differ", what=what)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("error", 1, "for rank 1, which has left the job, perhaps by an error of its own"),
        ("exit", 1, "for rank 1, which has left the job"),
        ("stop", 75, "for rank 1, which does not answer: it is dead or stopped (the limit is 3 s)"),
        ("loop", 75, "for rank 1, which has not come to its communication "),
        ("kill", 9, "EXIT CODE: 9"),
    ],
)
def test_a_rank_that_ends_or_hangs_ends_the_job(how, status, message):
    done = job(4, "fail", how=how, limit=3)
    assert done.returncode == status, done.stderr
    assert message in done.stderr + done.stdout


def launched(folder, *flags, script="tests/distributed/resumed.py"):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "fconv", "launch", "-n", "2", script, str(folder), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FCONV_DISTRIBUTED_TIMEOUT": "10"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def test_launch_goes_on_from_the_newest_checkpoint_when_a_rank_is_lost(tmp_path):
    assert launched(tmp_path / "whole").returncode == 0
    expected = (tmp_path / "whole" / "end.json").read_text()
    for how, message in (
        ("kill", r"fconv launch: rank 1 \(process \d+ on \S+\) was killed; starting 2 ranks again from"),
        ("hang", r"for rank 1, which has not come to its communication \d+: it computes, or hangs elsewhere"),
    ):
        done = launched(tmp_path / how, "3", how)
        assert done.returncode == 0, done.stderr
        assert re.search(message, done.stderr), done.stderr
        assert "(restart 1)" in done.stderr
        assert "\x1e" not in done.stderr
        assert (tmp_path / how / "end.json").read_text() == expected


def test_launch_does_not_repeat_an_error_of_the_script(tmp_path):
    (tmp_path / "wrong.py").write_text("raise ValueError('what is wrong')\n")
    done = launched(tmp_path, script=str(tmp_path / "wrong.py"))
    assert done.returncode == 1
    assert "what is wrong" in done.stderr
    assert "fconv launch" not in done.stderr


def test_some_jobs_that_are_killed(tmp_path):
    counts = mpi_kills.run(tmp_path, 3, seed=1)
    assert counts["kills"] == 3
    assert counts["longest"] < mpi_kills.MOST_SECONDS


def test_an_example_takes_part(tmp_path):
    pytest.importorskip("sklearn")
    for size in (1, 2):
        command = [MPIEXEC, "-n", str(size), sys.executable, "examples/digits.py", "--epochs", "1"]
        done = subprocess.run(
            [*command, "--shards", "2", "--out", str(tmp_path / str(size))],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("test accuracy 0.") == 1
    one, two = ({path.name: path for path in (tmp_path / name).rglob("*.*")} for name in ("1", "2"))
    assert one.keys() == two.keys()
    (last,) = [name for name in one if name.startswith("step-")]
    for name in (last, "digits.safetensors"):
        assert one[name].read_bytes() == two[name].read_bytes()
