"""The loop around a training step: progress, checkpoints, stopping and going on again.

The step itself is the library's: ``fc.train_step(net, loss, opt)`` makes the pure function
``(state, x, target) -> (state, metrics)``. Since batches are a function of the step's number, and
everything else that is random of the state's key, a run that is stopped and resumed is bit for bit the
run that was never stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import fconv as fc
from fconv import distributed
from support.stopping import Stop

Stream = Callable[[int], Iterator[tuple[Any, ...]]]
"""Return the batches from a step on."""

_MAY_CHANGE = ("data", "test", "device", "out", "resume", "checkpoint_every", "steps", "epochs")


@dataclass
class Run:
    """Result of a training run."""

    state: fc.TrainState
    losses: list[float]
    scores: dict[str, list[float]]  # "step", and what was measured there
    seconds: float = 0.0
    samples: int = 0
    stopped: bool = False

    @property
    def params(self) -> Any:
        """The network's parameters."""
        return self.state.params

    def measured(self) -> bool:
        """Return whether the state at hand has been measured."""
        return bool(self.scores) and self.scores["step"][-1] == self.state.step

    def summary(self) -> dict[str, Any]:
        """Return what belongs into the results file."""
        return {
            "steps": self.state.step, "stopped": self.stopped,
            "final": {name: values[-1] for name, values in self.scores.items() if values},
            "training_seconds": round(self.seconds, 2),
            "samples_per_second": round(self.samples / self.seconds, 1) if self.seconds else None,
            "scores": self.scores, "losses": self.losses,
        }  # fmt: skip


@np.errstate(over="ignore", invalid="ignore")  # what is infinite shows in the loss, which is looked at
def train(
    net: fc.Layer,
    loss: Any,
    opt: Any,
    shape: tuple[int, ...],
    stream: Stream,
    measure: Callable[[Any], dict[str, float]],
    args: argparse.Namespace,
    *,
    network: str,
    data: Iterable[Any],
    steps: int,
    measure_every: int,
    samples: int | None = None,
) -> Run:
    """Train, or go on with training; Ctrl-C and SIGTERM end after the step at hand, which is saved.

    `data` are the arrays that are trained on: a run goes on with no others. `samples` is the number
    that all steps take together, if not all batches are of one size.
    """
    comm = distributed.communicator()  # of the ranks under mpiexec, otherwise of this process alone
    if args.shards is None and comm.size > 1:
        args.shards = comm.size
    saver = distributed.SharedCheckpointer(
        fc.Checkpointer(args.out / "checkpoints", keep=2, every=args.checkpoint_every), comm
    )
    run = Run(fc.train_state(net, opt, fc.random.key(args.seed), shape), [], {})
    flags = {k: v for k, v in vars(args).items() if k not in _MAY_CHANGE}
    about = {
        "network": network, "flags": json.dumps(flags, default=str),
        "data": " ".join(f"{zlib.crc32(np.ascontiguousarray(x).data):08x}" for x in data),
    }  # fmt: skip
    replaced: list[int] = []
    goes_on = args.resume or (distributed.restarts() > 0 and saver.steps())  # `fconv launch` starts it again
    if comm.broadcast(np.array(bool(goes_on))):
        resume(run, saver, about, steps, args.out, comm.rank == 0)
    elif comm.rank == 0:
        replaced = finished_steps(saver, args)
    run.state = fc.to_device(run.state, args.device)
    step = fc.train_step(net, loss, opt, comm=comm if args.shards else None, shards=args.shards)
    begun = run.state.step

    def asked_to_stop() -> bool:
        if comm.size > 1:  # all stop after the same step
            stop.asked = int(comm.all_reduce(np.array([stop.asked]))[0])
        return stop.asked > 0

    def due() -> bool:
        return run.state.step % measure_every == 0 or run.state.step == steps

    def note() -> None:
        stop.patience = 0  # an evaluation may take long, and one that is cut short is made up for
        measured = {"step": run.state.step, **measure(run.params)}
        stop.patience = math.inf
        for name, value in measured.items():
            run.scores.setdefault(name, []).append(value)

    def save() -> None:
        while replaced:  # a run that came to its end gives way now that this one has something to keep
            os.unlink(saver.path(replaced.pop()))
        scores = {name: np.array(values, np.float64) for name, values in run.scores.items()}
        kept = {"state": run.state, "losses": np.array(run.losses, np.float64), "scores": scores}
        ended = {"finished": "yes"} if run.state.step >= steps and run.measured() else {}
        saver.save(run.state.step, fc.to_device(kept, "cpu"), {**about, **ended}, force=True)

    batches = fc.data.prefetch(stream(begun))
    total = samples or steps * shape[0]
    bar = tqdm(
        total=total, initial=begun * total // steps, unit=" images", unit_scale=True,
        dynamic_ncols=True, mininterval=0.2, disable=comm.rank > 0,
    )  # fmt: skip
    with Stop() as stop:
        sound, unsaved = True, False
        try:
            if due() and not run.measured():
                note()
                unsaved = run.state.step > 0
            while run.state.step < steps and not asked_to_stop():
                stop.patience = 1  # who asks twice does not wait for the step's end
                x, target = fc.to_device(next(batches), args.device)
                start = time.perf_counter()
                state, metrics = step(run.state, x, target)
                value = float(metrics["loss"])
                stop.patience = math.inf
                if not math.isfinite(value):
                    sound = False
                    raise ValueError(
                        f"the loss is {value} at step {run.state.step}; try a lower --lr and another --out"
                    )
                run.seconds += time.perf_counter() - start
                run.samples += len(x)
                run.losses.append(value)
                run.state, unsaved = state, True
                if due() and not stop.asked:
                    note()
                if state.step % args.checkpoint_every == 0 and state.step < steps:
                    save()
                    unsaved = False
                shown = {name: f"{values[-1]:.4g}" for name, values in run.scores.items() if name != "step"}
                bar.set_postfix(loss=f"{np.mean(run.losses[-20:]):.4f}", **shown, refresh=False)
                bar.update(len(x))
        except KeyboardInterrupt:
            stop.asked += 1
        finally:
            stop.patience = math.inf
            if sound and unsaved:
                save()
            batches.close()
            bar.close()
        run.stopped = bool(stop.asked) and not (run.state.step == steps and run.measured())
        if run.stopped:
            if not run.scores:
                sys.exit("stopped before the first step; nothing is left to show")
            print(
                f"stopped after step {run.state.step} of {steps}; --resume goes on from there",
                file=sys.stderr,
            )
            if not run.measured():
                with suppress(KeyboardInterrupt):
                    note()  # to be shown, not kept: a run that goes on measures at its own steps
    return run


def finished_steps(saver: fc.Checkpointer, args: argparse.Namespace) -> list[int]:
    """List the checkpoints of a run that came to its end; refuse where one did not."""
    steps = saver.steps()
    if steps and "finished" not in fc.load_metadata(saver.path(steps[-1])):
        raise ValueError(
            f"{args.out} holds a run that stopped after step {steps[-1]}; "
            f"add --resume to go on with it, or choose another --out"
        )
    return steps


def resume(
    run: Run, saver: fc.Checkpointer, about: dict[str, str], steps: int, folder: Path, reads: bool = True
) -> None:
    """Take over the newest checkpoint, or refuse one of another network, other data or other flags."""
    found = saver.latest()
    if found is None:
        raise ValueError(f"{folder} holds no checkpoint to go on from; without --resume a run begins there")
    step, kept = found
    said = fc.load_metadata(saver.path(step)) if reads else about
    if not isinstance(kept, dict) or not {"state", "losses", "scores"} <= kept.keys():
        raise ValueError(f"{saver.path(step)} is no checkpoint of this script")
    # An error that lists the names that differ, where the network is another one.
    fc.from_state_dict(run.state.params, fc.to_state_dict(kept["state"].params))
    if said.get("network") != about["network"]:
        raise ValueError(f"the checkpoint is of the network {said.get('network')}, not {about['network']}")
    before, now = json.loads(said.get("flags", "{}")), json.loads(about["flags"])
    changed = [
        f"--{flag.replace('_', '-')} {now.get(flag)} (was {before.get(flag)})"
        for flag in sorted({*before, *now})
        if before.get(flag) != now.get(flag)
    ]
    if changed:
        raise ValueError(f"the checkpoint was made with other flags: {', '.join(changed)}")
    if said.get("data") != about["data"]:
        raise ValueError("the checkpoint was made with other data than --data gives")
    if step > steps:
        raise ValueError(f"the checkpoint is of step {step}, beyond the {steps} asked for")
    run.state = kept["state"]
    run.losses = [float(value) for value in kept["losses"]]
    run.scores = {name: [float(value) for value in values] for name, values in kept["scores"].items()}


def warm_up_and_cosine(lr: float, steps: int) -> Callable[[int], float]:
    """Rise to `lr` over the first twentieth of the steps, then fall to 0 along a cosine."""

    def schedule(step: int) -> float:
        rising = min(1.0, 20 * (step + 1) / steps)
        return lr * rising * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))

    return schedule
