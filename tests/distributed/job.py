"""A job of several ranks: ``mpiexec -n 4 python -m tests.distributed.job NAME [JSON of options]``."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import numpy as np

import fconv as fc
from fconv import distributed
from tests.distributed import runs


def train(comm, kind, dtype, shards, steps, path=None, **options):
    """Rank 0 prints the digest of a run; the others compare theirs with it."""
    params, losses = runs.train(comm, kind, np.dtype(dtype), shards, steps, **options)
    if path is not None and comm.rank == 0:
        np.savez(path, losses=losses, **runs.named(params))
    found = runs.digest(params, losses)
    assert all(each == json.dumps(found).encode() for each in comm.gather_bytes(json.dumps(found).encode()))
    return found


def communicate(comm):
    """Every function of the communicator."""
    rank, size = comm.rank, comm.size
    x = np.arange(5.0) + rank
    expected = size * np.arange(5.0) + size * (size - 1) / 2
    for exact in (True, False):
        assert np.array_equal(comm.all_reduce(x, exact=exact), expected)
    assert np.array_equal(x, np.arange(5.0) + rank)
    got = comm.gather(np.full((rank, 2), rank, np.int32))
    assert [(a.shape, a.dtype.kind) for a in got] == [((r, 2), "i") for r in range(size)]
    assert np.array_equal(comm.broadcast(np.arange(3) if rank == size - 1 else None, size - 1), np.arange(3))
    comm.barrier()
    return {"size": size, "threads": fc.get_num_threads()}


def differ(comm, what):
    """Rank 1 has something else."""
    other = comm.rank == 1
    width = 5 if what == "network" and other else 4
    net = fc.compose(fc.flatten(), fc.linear(width))
    dtype = np.float64 if what == "dtype" and other else np.float32
    x = np.ones((6 if what == "shape" and other else 8, 3), dtype)
    params = net.init(fc.random.key(1 if what == "parameters" and other else 0), x.shape, dtype)
    key = fc.random.key(1 if what == "seed" and other else 0)
    if what == "version" and other:
        distributed.agreement.__version__ = "0.0.1"
    if what == "batch" and other:
        x = 2 * x
    loss = fc.l1_loss() if what == "loss" and other else fc.mse_loss()
    f = distributed.value_and_grad(net, loss, comm, check_every=3)
    for _step in range(8):
        _, grads, params = f(params, x, np.zeros((len(x), width), dtype), key=key)
        params = fc.trees.map(lambda p, g: p - 0.1 * g, params, grads)
        if what == "drift" and other and _step == 3:
            params = fc.trees.map(lambda p: p * (1 + 1e-6) if p.ndim == 2 else p, params)


def fail(comm, how):
    """Rank 1 ends, or hangs, in the middle."""
    for step in range(10):
        comm.all_reduce(np.ones(3))
        if comm.rank == 1 and step == 4:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            if how == "loop":
                time.sleep(1000)
            if how == "error":
                raise ValueError("an error of rank 1 alone")
            if how == "exit":
                sys.exit(3)
            if how == "order":
                comm.gather_bytes(b"instead")
                time.sleep(1000)


def main():
    name, options = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    comm = distributed.communicator()
    found = {"train": train, "communicate": communicate, "differ": differ, "fail": fail}[name](
        comm, **options
    )
    if comm.rank == 0 and found is not None:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
