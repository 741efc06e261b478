"""Data-parallel training under mpiexec, as the packages mpi4py and mpich of PyPI bring it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.distributed import runs

ROOT = Path(__file__).parents[1]
MPIEXEC = Path(sys.executable).with_name("mpiexec")

pytestmark = pytest.mark.skipif(
    not MPIEXEC.exists() or importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py and mpich"
)


def job(size, name, *, seconds=60, **options):
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
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FCONV_DISTRIBUTED_TIMEOUT": "3"}
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
    ("kind", "dtype", "options"),
    [
        ("all", "float32", {}),
        ("all", "float64", {}),
        ("sync", "float64", {}),
        ("all", "float32", {"sharded": True}),
    ],
)
def test_the_same_bits_on_1_2_4_and_8_ranks_after_50_steps(kind, dtype, options):
    found = []
    for size in (1, 2, 4, 8):
        done = job(size, "train", kind=kind, dtype=dtype, shards=8, steps=50, seconds=120, **options)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize(("dtype", "within"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("kind", ["plain", "sync"])
@pytest.mark.parametrize("exact", [True, False])
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
        ("loop", 75, "for rank 1, which has computed for "),
        ("kill", 9, "EXIT CODE: 9"),
    ],
)
def test_a_rank_that_ends_or_hangs_ends_the_job(how, status, message):
    done = job(4, "fail", how=how, seconds=30)
    assert done.returncode == status, done.stderr
    assert message in done.stderr + done.stdout
