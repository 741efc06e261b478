"""Batch normalisation by the statistics of the global batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import numpy as np

from fconv.arguments.constructors import constructor
from fconv.arguments.signatures import plain
from fconv.arrays import Array, asnumpy, narrowed, native, widened, xp_of
from fconv.distributed.communication import Communicator
from fconv.functional.batch_normal import batch_normal, passes_over
from fconv.layer import Layer, LayerPullback, Params, as_layer
from fconv.networks.fused import made_by_fconv


class Meeting:
    """Meeting of the threads of a rank's shards, each with an array: they learn the sum over all shards."""

    def __init__(self, comm: Communicator, own: range, shards: int) -> None:
        self._comm, self._shards = comm, shards
        self._given: dict[int, Array] = {}
        self._sum: Array = np.empty(0)
        self._barrier = threading.Barrier(len(own), self._add)

    def _add(self) -> None:
        nodes = {(0, shard): x for shard, x in self._given.items()}
        self._sum = self._comm.shard_sum(nodes, self._shards)

    def sum(self, shard: int, x: Array) -> Array:
        """Return the sum of the arrays of all shards; the shards of a rank wait for each other."""
        self._given[shard] = x
        self._barrier.wait()
        return self._sum.copy()

    def abandon(self) -> None:
        """Let no thread wait any longer."""
        self._barrier.abort()


_at: ContextVar[tuple[Meeting, int] | None] = ContextVar("fconv_meeting", default=None)


@contextmanager
def meeting_at(meeting: Meeting, shard: int) -> Iterator[None]:
    """Let synchronised layers share their statistics at a meeting, as those of a shard."""
    token = _at.set((meeting, shard))
    try:
        yield
    finally:
        _at.reset(token)


@constructor
def sync_batch_norm(net: Layer) -> Layer:
    """Return a network whose batch norms share their statistics over the global batch.

    Parameters
    ----------
    net : Layer
        A layer or network; the new one has the same parameters.

    Returns
    -------
    Layer
        The same wherever `distributed.value_and_grad` does not compute it. There, every batch norm in
        training normalises by the mean and variance of all shards together, and its gradient flows through
        them, as if one process had the whole batch. The shards of a rank are then computed at the same time,
        which takes the memory of all of them.

    References
    ----------
    torch.nn.SyncBatchNorm.

    Examples
    --------
    >>> from fconv.layers import batch_norm, relu
    >>> from fconv.networks import compose
    >>> net = compose(batch_norm(), relu())
    >>> sync_batch_norm(net) == sync_batch_norm(net), sync_batch_norm(net) == net
    (True, False)
    """

    def walk(layer: Layer) -> Layer:
        if layer.rebuilding is not None and layer.rebuilding.forward is plain(layer.forward):
            return layer.rebuilding.of(lambda path, child: walk(child))
        return _synchronised(layer) if layer.name == "batch_norm" and made_by_fconv(layer) else layer

    return walk(as_layer("sync_batch_norm", net))


def is_synchronised(net: Layer) -> bool:
    """Return whether a network has layers of `sync_batch_norm`."""
    return hasattr(plain(net.forward), "shares_statistics") or any(
        map(is_synchronised, net.children.values())
    )


def _synchronised(layer: Layer) -> Layer:
    eps, momentum = layer.options["eps"], layer.options["momentum"]

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        at = _at.get()
        if not train or at is None:
            return layer.forward(params, x, train=train, key=key)
        layer.out_shape(x.shape)
        meeting, shard = at
        wide = widened(native(x))
        passes = passes_over(wide)
        if passes is None:  # channels last are served in any case
            wide = xp_of(x).ascontiguousarray(xp_of(x).moveaxis(wide, 1, -1))
            wide = xp_of(x).moveaxis(wide, -1, 1)
            passes = passes_over(wide)
        assert passes is not None
        xp, elements = xp_of(x), x.size // x.shape[1]

        def shared(*arrays: Any) -> list[Any]:
            """Sum arrays of one number a channel over all shards."""
            total = meeting.sum(shard, np.stack([asnumpy(each) for each in arrays]))
            return [xp.asarray(each) for each in total]

        mean, var = passes.moments()
        counts, means = shared(xp.full(mean.shape, float(elements)), elements * mean)
        count = float(counts[0])
        total_mean = means / count
        (squares,) = shared(elements * (var + (mean - total_mean) ** 2))
        held = params or {}
        weight, bias = held.get("weight"), held.get("bias")
        _, value, pull, _ = batch_normal(
            passes, wide, weight, bias, eps, (total_mean, squares / count), False,
            average=lambda sums: [each / count for each in shared(*sums)],
        )  # fmt: skip

        def pullback(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            thunks = pull(widened(native(g)))
            # All shards share the sums, whoever asks for the gradient.
            dx = narrowed(thunks["x"](), x.dtype) if input_grad else None
            names = {"weight": weight, "bias": bias}
            grads = {
                name: narrowed(thunks[name](), a.dtype) if (a := names.get(name)) is not None else None
                for name in held
            }
            return grads if held else params, dx

        return narrowed(value(), x.dtype), _refreshed(params, total_mean, squares, count, momentum), pullback

    forward.shares_statistics = True  # type: ignore[attr-defined]
    return replace(layer, forward=forward)


def _refreshed(params: Params, mean: Array, squares: Array, count: float, momentum: float | None) -> Params:
    """Move running statistics towards those of a batch, the unbiased variance as PyTorch does."""
    if "running_mean" not in (params or ()):
        return params
    batches = params["num_batches_tracked"] + xp_of(mean).ones((), np.int64)
    share = 1.0 / float(batches) if momentum is None else momentum

    def moved(old: Array, new: Array) -> Array:
        return narrowed((1 - share) * widened(native(old)) + share * new, old.dtype)

    return {
        **params,
        "running_mean": moved(params["running_mean"], mean),
        "running_var": moved(params["running_var"], squares / max(1.0, count - 1)),
        "num_batches_tracked": xp_of(mean).asarray(batches),
    }
