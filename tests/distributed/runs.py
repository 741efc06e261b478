"""Training runs whose results must not depend on the number of ranks."""

from __future__ import annotations

import numpy as np

import fconv as fc
from fconv import distributed

BATCH, COUNT = 24, 61  # the last batch has 13 examples
KEY = fc.random.key(3)


def network(kind):
    normal = [] if kind == "plain" else [fc.batch_norm()]
    drop = [fc.dropout(0.3)] if kind == "all" else []
    body = fc.residual(fc.compose(fc.conv2d(4, 3, padding=1), *normal, fc.relu()))
    net = fc.compose(
        fc.conv2d(4, 3, padding=1),
        *normal,
        fc.relu(),
        body,
        fc.max_pool2d(2),
        fc.flatten(),
        *drop,
        fc.linear(5),
    )
    return distributed.sync_batch_norm(net) if kind == "sync" else net


def data(dtype):
    x = fc.random.normal(fc.random.key(1), (COUNT, 2, 8, 8)).astype(dtype)
    return x, (np.arange(COUNT) * 7 % 5).astype(np.int64)


def batches(steps):
    """The rows of each global batch."""
    done, epoch = 0, 0
    while done < steps:
        for rows in distributed.rows(COUNT, batch_size=BATCH, key=KEY, epoch=epoch, rank=0, size=1):
            yield rows
            done += 1
            if done == steps:
                return
        epoch += 1


def train(comm, kind="all", dtype=np.float32, shards=8, steps=50, sharded=False, **options):
    """Train by `distributed.value_and_grad`; give the parameters and the losses."""
    net = network(kind)
    x, target = data(dtype)
    loss = fc.cross_entropy_loss(label_smoothing=0.1)
    f = distributed.value_and_grad(net, loss, comm, shards, sharded=sharded, bucket_bytes=2000, **options)
    return looped(f, net, x, target, steps, comm if sharded else None)


def train_plainly(kind, dtype=np.float32, steps=50):
    """Train one process on the whole batch."""
    net = network(kind)
    f = fc.value_and_grad(net, fc.cross_entropy_loss(label_smoothing=0.1))
    return looped(f, net, *data(dtype), steps, None)


def looped(f, net, x, target, steps, comm):
    params = net.init(fc.random.key(0), x[:BATCH].shape, x.dtype)
    opt = fc.sgd(0.05, momentum=0.9)
    state = opt.init(params)
    losses = []
    for step, rows in enumerate(batches(steps)):
        if comm is not None:
            part = slice(*distributed.tree.bounds(len(rows), comm.size, comm.rank))
            rows = rows[part]
        loss, grads, params = f(params, x[rows], target[rows], key=fc.random.fold_in(KEY, step))
        params, state = opt.step(params, grads, state)
        losses.append(float(loss))
    return params, losses


def digest(params, losses):
    """Return a digest in which two results differ by every bit."""
    from fconv.distributed.agreement import digests

    return {**digests(params), "losses": str([loss.hex() for loss in losses])}


def named(params):
    """Return the arrays of a tree by name, but for counters."""
    return {name: p for name, p in fc.to_state_dict(params).items() if p.dtype.kind == "f"}


def furthest(a, b):
    """Return the largest difference between two trees of parameters, relative to the largest element."""
    pairs = fc.trees.aligned(a, b)
    return max(float(np.abs(p - q).max() / max(1.0, np.abs(p).max())) for _, p, q in pairs)
