"""The gradient of a global batch, of which each rank computes its shards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import numpy as np

from fconv import random, trees
from fconv.arguments.signatures import explained
from fconv.arguments.unpacking import unpacked
from fconv.arrays import Array, asnumpy, is_array, xp_of
from fconv.derivatives.gradients import value_and_grad as _plain
from fconv.distributed.agreement import check_parameters, check_start
from fconv.distributed.buckets import Buckets, announcing, computing
from fconv.distributed.communication import Communicator
from fconv.distributed.sync import Meeting, is_synchronised, meeting_at
from fconv.distributed.tree import bounds
from fconv.layer import Layer, Params, as_layer
from fconv.losses.base import Loss, as_loss, counts_of, shared_forward
from fconv.options import whole


@dataclass
class _Part:
    """One shard of a global batch."""

    number: int
    x: Any
    target: Any
    examples: int
    weight: float = 0.0  # share of the global batch
    shares: Sequence[float | None] = ()  # for each mean in the loss


def value_and_grad(
    net: Layer,
    loss: Loss,
    comm: Communicator,
    shards: int | None = None,
    *,
    sharded: bool = False,
    trainable: str | Sequence[str] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    exact: bool = True,
    bucket_bytes: int = 1 << 20,
    check_every: int = 100,
) -> Callable[..., tuple[Any, ...]]:
    """Make the function that computes the loss of a global batch and its gradient, on every rank.

    The batch is divided into shards, of which each rank computes some, and the results are added along one
    binary tree: with the same `shards` the results are the same bits on any number of ranks. Sums of
    gradients are sent while earlier layers still compute.

    Parameters
    ----------
    net, loss, trainable
        As `fconv.value_and_grad` takes them.
    comm : Communicator
        The ranks.
    shards : int, optional
        A multiple of the number of ranks, which it is by default. Shard `s` of `S` holds the examples from
        ``s * N // S`` up to ``(s + 1) * N // S``. Batch norm normalises by the statistics of a shard unless
        the network is one of `sync_batch_norm`, and dropout draws by ``fold_in(key, s)``.
    sharded : bool
        Each rank gives only its own examples, such as `rows` lists. Otherwise all give the whole batch, and
        each takes its shards of it.
    metrics : mapping, optional
        Functions ``(y, target) -> number``, measured on each shard; their mean by examples comes last.
    exact : bool
        Otherwise MPI, or NCCL, adds the ranks' gradients as it likes, and bits depend on the number of ranks.
    bucket_bytes : int
        Bytes of gradients that are sent at once, about.
    check_every : int
        Compare the parameters of all ranks every so many calls.

    Returns
    -------
    callable
        ``(params, x, target, *, key=None, scale=None, train=True) -> (loss, grads, params)``, called on every
        rank, and the same on each: the loss and gradient of the mean over the global batch. Running
        statistics are the mean of the shards', weighted by their examples; integers are those of the first.
        It raises a ValueError where the ranks differ in what they train, or a batch has fewer examples than
        shards, and a LostRankError where a rank has ended or hangs.

    Raises
    ------
    ValueError
        `shards` is no multiple of the number of ranks.
    TypeError
        `net` is no layer, `loss` no loss, or `comm` no communicator.

    Examples
    --------
    >>> from fconv.layers import linear
    >>> from fconv.losses import mse_loss
    >>> net = linear(1, bias=False)
    >>> f = value_and_grad(net, mse_loss(), Communicator(), shards=2)
    >>> x = np.array([[1.0], [2.0], [3.0]])
    >>> loss, grads, params = f({"weight": np.array([[1.0]])}, x, np.zeros((3, 1)))
    >>> float(loss), grads
    (4.66..., {'weight': array([[9.33...]])})
    """
    title = "distributed.value_and_grad"
    net, loss = as_layer(title, net), as_loss(title, loss)
    if not isinstance(comm, Communicator):
        raise TypeError(f"{title}: expected a Communicator, got {comm!r}; write comm = communicator()")
    total = comm.size if shards is None else whole(title, "shards", shards)
    if total % comm.size:
        raise ValueError(
            f"{title}: expected shards to be a multiple of the {comm.size} ranks, got {total}; write shards="
            f"{-(-total // comm.size) * comm.size}, or start as many ranks as divide {total}"
        )
    whole(title, "bucket_bytes", bucket_bytes)
    whole(title, "check_every", check_every)
    own = range(*bounds(total, comm.size, comm.rank))
    measures = dict(metrics or {})
    lockstep = is_synchronised(net)
    functions: dict[int, tuple[Callable[..., Any], _SharedLoss]] = {}  # of the network as it announces
    buckets: list[Buckets] = []
    calls = 0

    def even(count: int) -> list[int]:
        return [b - a for a, b in (bounds(count, comm.size, r) for r in range(comm.size))]

    def divided(x: Any, target: Any) -> list[_Part]:
        """Return this rank's shards of a batch."""
        count = _examples(title, x, target)
        counts = [int(n) for n in comm.gather(np.array(count))] if sharded else even(count)
        examples = sum(counts)
        if examples < total or min(counts) < len(own):
            raise ValueError(
                f"{title}: expected at least as many examples as shards, {total}, got a batch of {examples} "
                f"({', '.join(map(str, counts))} by rank); use fewer shards, or leave such a batch out"
            )
        first = sum(counts[: comm.rank]) if sharded else 0
        parts = []
        for s in own:
            begin, end = bounds(examples, total, s)
            if counts != even(examples):  # otherwise they came as `rows` divides them
                begin, end = (first + at for at in bounds(count, len(own), s - own.start))
            cut = slice(begin - first, end - first)
            own_x, own_target = trees.map(lambda a, cut=cut: a[cut], (x, target))
            parts.append(_Part(s, own_x, own_target, end - begin))
        if sharded:
            each = {
                (0, p.number): np.array([p.examples, *counts_of(loss, p.target, p.examples)]) for p in parts
            }
            sums = comm.shard_sum(each, total).tolist()
        else:
            sums = [count, *counts_of(loss, target, count)]
        for part in parts:
            part.weight = part.examples / sums[0]
            mine = counts_of(loss, part.target, part.examples)
            part.shares = [
                1.0 if of == 0 else None if n == 0 else n / of for n, of in zip(mine, sums[1:], strict=True)
            ]
        return parts

    def function(
        params: Params,
        x: Any,
        target: Any,
        *,
        key: Array | None = None,
        scale: Array | None = None,
        train: bool = True,
    ) -> tuple[Any, ...]:
        nonlocal calls
        if key is not None:
            random.check_key(title, key)
        if comm.size > 1:
            if calls == 0:
                batch = (x, target)
                check_start(comm, net, loss, params, batch, key, {"shards": total, "sharded": sharded})
            elif calls % check_every == 0:
                check_parameters(comm, params, f"after {calls} steps")
        parts = divided(x, target)
        calls += 1
        for i in range(len(parts)):
            if i not in functions:
                shared = _SharedLoss(loss)
                told = announcing(net, params)
                functions[i] = (_plain(told, shared.loss, trainable=trainable, outputs=True), shared)
        for each in buckets:
            each.begin()
        found: list[Any] = [None] * len(parts)
        lock = threading.Lock()

        def compute(i: int) -> None:
            part, (f, shared) = parts[i], functions[i]
            shared.shares = part.shares
            own_key = key if key is None or total == 1 else random.fold_in(key, part.number)
            with computing(part.number, buckets[0] if buckets else None):
                value, grads, refreshed, y = f(
                    params, part.x, part.target, key=own_key, scale=scale, train=train
                )
            trained = [(path, g) for path, _, g in trees.aligned(params, grads) if g is not None]
            with lock:
                if not buckets:
                    buckets.append(Buckets(trained, comm, own, total, bucket_bytes, exact))
            for path, g in trained:
                buckets[0].deliver(part.number, path, g)
            numbers = [float(value)]
            numbers += [part.weight * float(measure(y, part.target)) for measure in measures.values()]
            changed = _changed(params, refreshed)
            numbers += [part.weight * each for _, a in changed for each in np.ravel(a).tolist()]
            found[i] = (np.array([part.examples, *numbers]), value, grads, refreshed)

        if lockstep and total > 1:
            _in_lockstep(compute, parts, Meeting(comm, own, total))
        else:
            for i in range(len(parts)):
                compute(i)
        tail = {(0, part.number): numbers for part, (numbers, *_) in zip(parts, found, strict=True)}
        sums = comm.shard_sum(tail, total)
        expected = sums[0] if sharded else _examples(title, x, target)
        if sums[0] != expected:
            raise ValueError(
                f"{title}: rank {comm.rank} was given a batch of {expected} examples, and the shards of all "
                f"ranks have {int(sums[0])}: the ranks were given different batches"
            )
        _, value, grads, refreshed = found[0]
        summed = buckets[0].finish()
        whole_grads = trees.map_with_path(lambda path, _, g: summed.get(path), params, grads)
        means = dict(zip(measures, sums[2:], strict=False))
        merged = _merged(params, refreshed, sums[2 + len(measures) :])
        outcome = (_like(value, sums[1]), whole_grads, merged)
        return (*outcome, {name: float(v) for name, v in means.items()}) if metrics is not None else outcome

    return function if metrics is not None else unpacked(explained(title, function))


class _SharedLoss:
    """A loss that takes its share of a global batch; the shares are set before each call."""

    def __init__(self, loss: Any) -> None:
        self.shares: Sequence[float | None] = ()

        def forward(y: Any, target: Any) -> tuple[Any, Callable[..., Any]]:
            return shared_forward(loss, y, target, iter(self.shares))

        name = getattr(loss, "name", "loss")
        self.loss = Loss(
            lambda y, target: forward(y, target)[0],
            lambda y, target, g=1.0: forward(y, target)[1](g),
            forward,
            name,
        )


def _in_lockstep(compute: Callable[[int], None], parts: Sequence[_Part], meeting: Meeting) -> None:
    """Compute the shards of a rank on a thread each, which meet wherever statistics are shared."""
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            with meeting_at(meeting, parts[i].number):
                compute(i)
        except BaseException as error:
            errors.append(error)
            meeting.abandon()

    # A thread of its own has no NumPy error state of the caller's but for the copied context.
    threads = [
        threading.Thread(target=copy_context().run, args=(work, i), daemon=True) for i in range(1, len(parts))
    ]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    if errors:
        raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])


def _examples(title: str, x: Any, target: Any) -> int:
    """Return the length of the arrays of a batch."""
    arrays = trees.leaves((x, target))
    lengths = sorted({len(a) if is_array(a) and a.ndim else -1 for a in arrays})
    if len(lengths) != 1 or lengths[0] < 0:
        raise ValueError(f"{title}: expected arrays of one length along the first axis, got {lengths}")
    return lengths[0]


def _changed(params: Params, refreshed: Params) -> list[tuple[trees.Path, Any]]:
    """List the floating-point arrays that a forward pass has refreshed, on the host."""
    pairs = trees.aligned(params, refreshed)
    return [
        (path, asnumpy(new))
        for path, old, new in pairs
        if new is not old and is_array(new) and new.dtype.kind == "f"
    ]


def _merged(params: Params, refreshed: Params, sums: Array) -> Params:
    """Return the parameters with the mean of what the shards have refreshed."""
    places: dict[trees.Path, tuple[int, int]] = {}
    at = 0
    for path, new in _changed(params, refreshed):
        places[path] = (at, at + new.size)
        at += new.size

    def chosen(path: trees.Path, new: Any) -> Any:
        if path not in places:
            return new
        part = sums[slice(*places[path])].reshape(new.shape)
        return xp_of(new).asarray(part, dtype=new.dtype)

    return trees.map_with_path(chosen, refreshed)


def _like(value: Any, number: Any) -> Any:
    """Return a number in the dtype of a loss, and where it lies."""
    return xp_of(value).asarray(number, dtype=value.dtype)[()] if is_array(value) else type(value)(number)
