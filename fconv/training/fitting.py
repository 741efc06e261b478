"""A training loop over the public functions, for those who want one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from fconv import random, trees
from fconv.arrays import Array, describe, is_array, library_of
from fconv.data.batches import batches
from fconv.devices import to_device
from fconv.files.atomic import make_folder
from fconv.files.checkpoint import save
from fconv.files.checkpointer import Checkpointer
from fconv.layer import Layer, as_layer
from fconv.losses.base import as_loss, loss_forward
from fconv.metrics import RunningMean
from fconv.optimizers import Optimizer
from fconv.options import whole
from fconv.training.steps import TrainState, check_optimizer, train_state, train_step

if TYPE_CHECKING:
    from fconv.distributed import Communicator

History: TypeAlias = dict[str, list[Any]]
Metrics: TypeAlias = Mapping[str, Callable[[Any, Any], Any]] | Sequence[Callable[[Any, Any], Any]]


class _Run(NamedTuple):
    """A run after a step: replaced as a whole, so that an interrupt finds one that fits together."""

    state: TrainState
    history: History
    means: dict[str, Any]  # running means; of the rate, the last


def fit(
    net: Layer,
    loss: Any,
    opt: Optimizer,
    train: tuple[Any, Any],
    valid: tuple[Any, Any] | None = None,
    *,
    epochs: int,
    key: Array,
    batch_size: int = 64,
    metrics: Metrics | None = None,
    checkpoint: str | os.PathLike[str] | Checkpointer | None = None,
    stop_early: int | None = None,
    progress: bool = True,
    comm: Communicator | None = None,
    shards: int | None = None,
) -> tuple[TrainState, History]:
    """Train a network for some epochs.

    Parameters
    ----------
    net, loss, opt
        The network, loss and optimizer, as `train_step` takes them.
    train : (x, target)
        Examples along the first axis of each array; trees of arrays for several inputs or outputs.
    valid : (x, target), optional
        Examples on which the loss and the metrics are measured after each epoch.
    epochs : int
        How often to go through the examples, those of a resumed run included.
    key : array of uint64, shape (2,)
        All random numbers of the run are derived from it.
    batch_size : int
        Examples of a step.
    metrics : mapping or sequence, optional
        Functions ``(y, target) -> number``, such as those of `fconv.metrics`, in a dict by name, or in a
        sequence under their own names. An epoch's figure is the mean over its batches, weighted by their
        size.
    checkpoint : str, path-like or Checkpointer, optional
        Folder of the run. The newest state is saved there after each epoch and at an interrupt, and a run
        that finds one goes on from it, bit for bit as if it had not been stopped. With `valid`, the
        parameters of the lowest validation loss are in ``best.safetensors``.
    stop_early : int, optional
        End the run when the validation loss has not become lower for this many epochs.
    progress : bool
        Report on standard error: a bar on a terminal, a line per epoch elsewhere.
    comm : Communicator, optional
        The ranks that train together, such as `fconv.distributed.communicator` returns: each calls `fit` with
        all examples and computes its part of every batch, and all return the same. The first one reports,
        and alone reads and writes the checkpoints.
    shards : int, optional
        With `comm`: the number of parts that each batch is divided into, by default the number of ranks. With
        the same shards the result is the same, bit for bit, on any number of ranks.

    Returns
    -------
    (TrainState, dict)
        The final state, and the history: a list with one entry an epoch for each of ``loss``, ``lr`` and the
        metrics, of the training batches as they were met, and with `valid` for ``valid_loss`` and the like.
        Ctrl-C ends the run at once: both are then those after the last whole step.

    Raises
    ------
    ValueError
        Early stopping without validation data; data of different lengths or none; a number below 1; a folder
        that holds a run over other data or batches.
    TypeError
        `train` or `valid` is no pair.

    Examples
    --------
    >>> from fconv.layers import linear
    >>> from fconv.losses import mse_loss
    >>> from fconv.optimizers import sgd
    >>> x = random.normal(random.key(1), (32, 3))
    >>> data = (x, x.sum(axis=1, keepdims=True))
    >>> state, history = fit(linear(1), mse_loss(), sgd(0.1), data, epochs=20, key=random.key(0),
    ...                      batch_size=8, progress=False)
    >>> state.step, history["loss"][-1] < 1e-3
    (80, True)
    """
    net, loss = as_layer("fit", net), as_loss("fit", loss)
    check_optimizer("fit", opt)
    random.check_key("fit", key)
    (x, target), count = _pair("the training data", train)
    if valid is not None:
        _pair("valid", valid)
    elif stop_early is not None:
        raise ValueError(
            "fit: stop_early needs validation data: give valid=(x, target), or leave stop_early out"
        )
    epochs, batch_size = whole("fit", "epochs", epochs), whole("fit", "batch_size", batch_size)
    patience = None if stop_early is None else whole("fit", "stop_early", stop_early)
    named = _named(metrics)
    order_key, run_key = random.split(key)
    saved = checkpoint
    if checkpoint is not None and not isinstance(checkpoint, Checkpointer):
        saved = Checkpointer(checkpoint)
    first_rank = comm is None or comm.rank == 0
    if comm is not None:
        from fconv.distributed.sampling import check_batches
        from fconv.distributed.saving import SharedCheckpointer

        check_batches("fit", count, batch_size, shards or comm.size, "shards" if shards else "ranks")
        saved = SharedCheckpointer(saved, comm) if isinstance(saved, Checkpointer) else None
    data = {"examples": count, "batch_size": batch_size}
    run = _resumed(saved, data, x) if isinstance(saved, Checkpointer) else None
    if run is None:
        first = trees.map(lambda a: a[:batch_size], x)
        kinds = [a.dtype for a in trees.leaves(x) if a.dtype.kind == "f"]
        shape = trees.map(lambda a: tuple(a.shape), first)
        state = train_state(net, opt, run_key, shape, kinds[0] if kinds else np.float32)
        run = _Run(to_device(state, "cuda") if _on_gpu(x) else state, {}, {})
    step, steps = train_step(net, loss, opt, metrics=named, comm=comm, shards=shards), -(-count // batch_size)
    report = _Report(epochs, steps) if progress and first_rank else None
    try:
        while (epoch := _epochs(run)) < epochs and not _stale(run.history, patience):
            shuffle = random.fold_in(order_key, epoch)
            taken = run.state.step - epoch * steps
            for (rows,) in batches(np.arange(count), batch_size=batch_size, key=shuffle, start=taken):
                part = trees.map(lambda a, rows=rows: a[rows], (x, target))
                run = _advanced(run, *step(run.state, *part), len(rows))
                if report is not None:
                    report.step(epoch, run.state.step - epoch * steps, run.means)
            figures = {n: m.value if isinstance(m, RunningMean) else m for n, m in run.means.items()}
            if valid is not None:
                figures |= _measured(net, loss, named, run.state.params, valid, batch_size, comm)
            best = _lowest(run.history)
            if first_rank and isinstance(saved, Checkpointer) and figures.get("valid_loss", np.nan) < best:
                folder = os.path.dirname(saved.path(0))
                make_folder(folder)
                save(os.path.join(folder, "best.safetensors"), run.state.params)
            run = _Run(run.state, {n: [*run.history.get(n, []), v] for n, v in figures.items()}, {})
            if report is not None:
                report.epoch(epoch, figures)
            if isinstance(saved, Checkpointer):
                saved.save(run.state.step, {**run._asdict(), "data": data}, force=True)
    except KeyboardInterrupt:
        if isinstance(saved, Checkpointer):
            saved.save(run.state.step, {**run._asdict(), "data": data}, force=True)
    finally:
        if report is not None:
            report.close()
    return run.state, run.history


def _pair(what: str, data: Any) -> tuple[tuple[Any, Any], int]:
    """Require inputs and targets of one length, and return it."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(f"fit: expected {what} to be a pair (x, target), got {describe(data)}")
    arrays = trees.leaves(tuple(data))
    for each in arrays:
        if not is_array(each) or not each.ndim:
            raise TypeError(f"fit: expected {what} to hold arrays of examples, got {describe(each)}")
    lengths = sorted({len(each) for each in arrays})
    if len(lengths) != 1 or lengths == [0]:
        raise ValueError(
            f"fit: expected {what} to hold arrays of one length above 0, got {lengths or 'none'}"
        )
    return (data[0], data[1]), lengths[0]


def _named(metrics: Metrics | None) -> dict[str, Callable[[Any, Any], Any]]:
    if callable(metrics) or isinstance(metrics, str):
        given = getattr(metrics, "__name__", metrics)
        raise TypeError(
            f"fit: expected metrics to be functions in a list or dict, got {given}; "
            f"write metrics=[fconv.metrics.accuracy]"
        )
    if metrics is None or isinstance(metrics, Mapping):
        found = dict(metrics or {})
    else:
        found = {getattr(metric, "__name__", repr(metric)): metric for metric in metrics}
    for name, metric in found.items():
        if not callable(metric):
            raise TypeError(
                f"fit: expected the metric {name!r} to be a function of (y, target), got {metric!r}"
            )
        if name in ("loss", "lr", "loss_scale", "skipped") or name.startswith("valid_"):
            raise ValueError(f"fit: the name {name!r} stands for something else in the history")
    return found


def _on_gpu(x: Any) -> bool:
    return library_of(trees.leaves(x)[0]) == "cupy"


def _resumed(saved: Checkpointer, data: dict[str, int], x: Any) -> _Run | None:
    """Load the newest state of a run."""
    found = saved.latest()
    if found is None:
        return None
    tree = found[1]
    if not isinstance(tree, dict) or tree.keys() != {*_Run._fields, "data"}:
        raise ValueError(f"fit: {saved.path(found[0])} was not saved by fit; give another folder")
    if tree["data"] != data:
        raise ValueError(
            f"fit: {saved.path(found[0])} is of a run with {tree['data']}, this one has {data}; "
            f"give another folder"
        )
    state = to_device(tree["state"], "cuda") if _on_gpu(x) else tree["state"]
    return _Run(state, tree["history"], tree["means"])


def _epochs(run: _Run) -> int:
    """Count the epochs that are finished."""
    return len(run.history.get("loss", ()))


def _lowest(history: History, skip: int = 0) -> float:
    """Return the lowest validation loss, but for the newest ones."""
    losses = history.get("valid_loss", [])
    return min((v for v in losses[: len(losses) - skip] if v == v), default=float("inf"))


def _stale(history: History, patience: int | None) -> bool:
    """Return whether the validation loss has not become lower for `patience` epochs."""
    if patience is None or len(history.get("valid_loss", [])) <= patience:
        return False
    return not _lowest(history) < _lowest(history, patience)


def _advanced(run: _Run, state: TrainState, found: dict[str, Any], count: int) -> _Run:
    means = {}
    for name, value in found.items():
        if name == "lr":  # that of the epoch's last step
            means[name] = value
        elif name not in ("loss_scale", "skipped"):
            means[name] = run.means.get(name, RunningMean()).add(value, count)
    return _Run(state, run.history, means)


def _measured(
    net: Layer,
    loss: Any,
    metrics: Mapping[str, Any],
    params: Any,
    valid: tuple[Any, Any],
    batch_size: int,
    comm: Communicator | None = None,
) -> dict[str, float]:
    """Measure loss and metrics on validation data; each rank evaluates every `size`-th batch."""
    count, names = len(trees.leaves(tuple(valid))[0]), ["loss", *metrics]
    sizes = [len(rows) for (rows,) in batches(np.arange(count), batch_size=batch_size)]
    rank, size = (0, 1) if comm is None else (comm.rank, comm.size)
    found = np.zeros((len(sizes), len(names)))
    for i in range(rank, len(sizes), size):
        part = slice(i * batch_size, i * batch_size + sizes[i])
        x, target = trees.map(lambda a, part=part: a[part], tuple(valid))
        y = net.apply(params, x)
        figures = [loss_forward(loss, y, target)[0], *(metric(y, target) for metric in metrics.values())]
        found[i] = [float(value) for value in figures]
    if comm is not None and size > 1:
        for other, theirs in enumerate(comm.gather(found)):
            found[other::size] = theirs[other::size]
    means = {name: RunningMean() for name in names}
    for row, weight in zip(found.tolist(), sizes, strict=True):
        for name, value in zip(names, row, strict=True):
            means[name] = means[name].add(value, weight)
    return {f"valid_{name}": mean.value for name, mean in means.items()}


class _Report:
    """A bar on a terminal, a line an epoch elsewhere."""

    def __init__(self, epochs: int, steps: int) -> None:
        self.epochs, self.steps, self.live, self.drawn = epochs, steps, sys.stderr.isatty(), -1

    def step(self, epoch: int, done: int, means: Mapping[str, RunningMean]) -> None:
        if self.live and (share := 30 * done // self.steps) != self.drawn:
            self.drawn = share
            bar = "#" * share + "." * (30 - share)
            self.write(f"\repoch {epoch + 1}/{self.epochs} [{bar}] loss {means['loss'].value:.4g}")

    def epoch(self, epoch: int, figures: Mapping[str, Any]) -> None:
        shown = " ".join(f"{name} {v:.4g}" for name, v in figures.items() if isinstance(v, float))
        self.write(
            f"{chr(13) + chr(27) + '[K' if self.live else ''}epoch {epoch + 1}/{self.epochs} {shown}\n"
        )
        self.drawn = -1

    def close(self) -> None:
        if self.live and self.drawn >= 0:
            self.write("\n")

    def write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def plot_history(history: History, path: str | os.PathLike[str] | None = None) -> Any:
    """Plot the history of a run, one graph for each figure; needs matplotlib.

    Parameters
    ----------
    history : dict
        As `fit` returns it.
    path : str or path-like, optional
        Save the picture there.

    Returns
    -------
    matplotlib.figure.Figure
        The picture.

    Raises
    ------
    ValueError
        No epoch is finished.
    """
    plain = {name: values for name, values in history.items() if values and isinstance(values[0], float)}
    names = [name for name in plain if not name.startswith("valid_")]
    if not names:
        raise ValueError("plot_history: expected the history of one epoch or more, got none")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for kind, values in (("train", plain[name]), ("valid", plain.get(f"valid_{name}", ()))):
            if values:
                axes.plot(range(1, len(values) + 1), values, label=kind)
        axes.set(title=name, xlabel="epoch")
        axes.legend()
    if path is not None:
        figure.savefig(path)
    return figure
