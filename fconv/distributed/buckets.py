"""Gradients on their way: packed into buckets, which are sent while earlier layers still compute."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from fconv import trees
from fconv.arguments.signatures import plain
from fconv.arrays import Array, xp_of
from fconv.distributed.communication import Communicator, result_of
from fconv.distributed.tree import Node, add_into_left, climb
from fconv.layer import Layer, LayerPullback, Params, params_at


@dataclass
class _Bucket:
    """Some gradients of one dtype in one array, for each shard; arrays are used again in every step."""

    dtype: Any
    length: int = 0
    leaves: int = 0
    free: list[Array] = field(default_factory=list)
    filling: dict[int, tuple[Array, int]] = field(default_factory=dict)  # by shard, with the leaves to come
    nodes: dict[Node, Array] = field(default_factory=dict)
    shards: int = 0  # that are whole

    def take(self, xp: Any) -> Array:
        return self.free.pop() if self.free else xp.empty(self.length, self.dtype)


class Buckets:
    """The gradients of a network, in the order in which the backward pass comes to them.

    Parameters
    ----------
    like : sequence of (path, array)
        The gradients, of arrays that are trained.
    comm : Communicator
        Who sums them.
    own, shards : range, int
        The shards of this rank, and how many there are in all.
    most : int
        Approximate size of a bucket in bytes.
    exact : bool
        Sum along the tree.
    """

    def __init__(
        self, like: Sequence[tuple[trees.Path, Array]], comm: Communicator, own: range, shards: int,
        most: int, exact: bool,
    ) -> None:  # fmt: skip
        self._comm, self._own, self._shards, self._exact = comm, own, shards, exact
        self._places: dict[trees.Path, tuple[_Bucket, int, Any]] = {}
        self._buckets: list[_Bucket] = []
        for path, g in reversed(like):
            last = self._buckets[-1] if self._buckets else None
            if last is None or last.dtype != g.dtype or (last.length + g.size) * g.dtype.itemsize > most:
                self._buckets.append(last := _Bucket(g.dtype))
            self._places[path] = (last, last.length, g.shape)
            last.length += g.size
            last.leaves += 1
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Begin a step, whatever has become of the one before."""
        self._sums: list[Future[Array]] = []
        self._seen: set[tuple[int, trees.Path]] = set()
        for bucket in self._buckets:
            bucket.filling, bucket.nodes, bucket.shards = {}, {}, 0

    def deliver(self, shard: int, path: trees.Path, g: Array) -> None:
        """Take the gradient of one array and one shard; a second time nothing is done."""
        if path not in self._places or (shard, path) in self._seen:
            return
        bucket, start, shape = self._places[path]
        if g.shape != shape or g.dtype != bucket.dtype:
            raise ValueError(
                f"distributed.value_and_grad: the gradient of {'.'.join(path)} was {shape} {bucket.dtype} "
                f"and is {g.shape} {g.dtype} now; make another function for another network"
            )
        with self._lock:
            self._seen.add((shard, path))
            if shard not in bucket.filling:
                bucket.filling[shard] = (bucket.take(xp_of(g)), bucket.leaves)
            flat, left = bucket.filling[shard]
            flat[start : start + g.size].reshape(shape)[...] = g
            bucket.filling[shard] = (flat, left - 1)
            if left == 1:
                self._complete(bucket, shard, bucket.filling.pop(shard)[0])

    def _complete(self, bucket: _Bucket, shard: int, flat: Array) -> None:
        def add(left: Array, right: Array) -> Array:
            bucket.free.append(right)
            return add_into_left(left, right)

        bucket.nodes = climb({**bucket.nodes, (0, shard): flat}, self._shards, add)
        bucket.shards += 1
        # All ranks send in one order, whichever bucket is whole first.
        while len(self._sums) < len(self._buckets):
            following = self._buckets[len(self._sums)]
            if following.shards < len(self._own):
                break
            scratch = following.take(xp_of(flat))
            self._sums.append(self._comm.start_sum(following.nodes, self._shards, scratch, exact=self._exact))
            following.free.append(scratch)

    def finish(self) -> dict[trees.Path, Array]:
        """Wait for the sums, and return those of every array."""
        totals = {id(b): result_of(future) for b, future in zip(self._buckets, self._sums, strict=True)}
        found = {}
        for path, (bucket, start, shape) in self._places.items():
            count = totals[id(bucket)][start : start + _size(shape)]
            found[path] = count.reshape(shape).copy()
        for bucket in self._buckets:
            bucket.free += bucket.nodes.values()
        return found


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for each in shape:
        size *= each
    return size


class _Shard:
    """The shard that a thread computes: where its gradients go, and how often each layer was called."""

    def __init__(self, number: int, buckets: Buckets | None) -> None:
        self.number, self.buckets = number, buckets
        self.calls: dict[trees.Path, int] = {}


_computing: ContextVar[_Shard | None] = ContextVar("fconv_shard", default=None)


@contextmanager
def computing(number: int, buckets: Buckets | None) -> Iterator[None]:
    """Let the layers of `announcing` deliver their gradients as those of a shard."""
    token = _computing.set(_Shard(number, buckets))
    try:
        yield
    finally:
        _computing.reset(token)


def announcing(net: Layer, params: Params) -> Layer:
    """Return the network whose layers deliver their gradients as soon as they have them.

    What a layer delivers is what the network's gradient holds for it in the end, but for parameters that
    several layers share: those wait for the end.
    """

    def walk(layer: Layer, path: trees.Path) -> Layer:
        part = params_at(params, path)
        if not trees.leaves(part):
            return layer
        if layer.rebuilding is not None and layer.rebuilding.forward is plain(layer.forward):
            return layer.rebuilding.of(lambda below, child: walk(child, (*path, *below)))
        return replace(layer, forward=_delivering(layer, path))

    return walk(net, ())


def _delivering(layer: Layer, path: trees.Path) -> Any:
    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        y, refreshed, pull = layer.forward(params, x, train=train, key=key)
        shard = _computing.get()
        if shard is None or shard.buckets is None:
            return y, refreshed, pull
        shard.calls[path] = shard.calls.get(path, 0) + 1

        def deliver(grads: Params) -> Params:
            if shard.calls[path] == 1 and shard.buckets is not None:
                for below, g in trees.leaves_with_path(grads):
                    shard.buckets.deliver(shard.number, (*path, *below), g)
            return grads

        def pullback(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            grads, dx = pull(g, input_grad)
            return deliver(grads), dx

        def selective(g: Any, input_grad: bool = True, *, wrt: Any = None) -> tuple[Params, Any]:
            grads, dx = pull(g, input_grad, wrt=wrt)  # type: ignore[call-arg]
            return deliver(grads), dx

        takes_wrt = "wrt" in (getattr(pull, "__kwdefaults__", None) or ())
        return y, refreshed, selective if takes_wrt else pullback

    return forward
