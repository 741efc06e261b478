"""The flags that the training examples share."""

from __future__ import annotations

import argparse
import atexit
import tempfile
from pathlib import Path
from typing import Any

from fconv.distributed import communicator


def parser(doc: str | None, name: str, *, data: str, steps: int, batch_size: int, lr: float, samples: str,
           epochs: bool = False, rate: str = "highest learning rate; it rises to this and falls to 0",
           ) -> argparse.ArgumentParser:  # fmt: skip
    """Make the parser of an example: `doc` is its docstring, the rest are defaults and what they count."""
    made = _Parser(prog=name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--data", metavar="DIR", help=data)
    unit = "epochs" if epochs else "steps"
    what = "times through the data" if epochs else "training steps"
    add(f"--{unit}", type=at_least_one, default=steps, metavar="N", help=f"{what} (default: {steps})")
    add(
        "--batch-size", type=at_least_one, default=batch_size, metavar="N",
        help=f"{samples} of a step (default: {batch_size})",
    )  # fmt: skip
    add("--lr", type=at_least_zero, default=lr, metavar="RATE", help=f"{rate} (default: {lr:g})")
    add("--seed", type=int, default=0, metavar="N", help="everything random follows from it (default: 0)")
    out = Path("out") / name
    add("--out", type=Path, default=out, metavar="DIR", help=f"folder for results (default: {out})")
    add("--device", default="cpu", help='"cpu", "cuda" or "cuda:N" (default: cpu)')
    add("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    add(
        "--checkpoint-every", type=at_least_one, default=100, metavar="N",
        help="steps between checkpoints; the last one is saved in any case (default: 100)",
    )  # fmt: skip
    add(
        "--shards", type=at_least_one, metavar="N",
        help="under mpiexec: parts of a batch, a multiple of the ranks, which are the default; with the same "
        "parts the result is the same on any number of ranks",
    )  # fmt: skip
    return made


class _Parser(argparse.ArgumentParser):
    """A parser that lets the first rank alone write to the folder for results."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        found = super().parse_args(*args, **kwargs)
        if communicator().rank > 0:
            own = tempfile.TemporaryDirectory()
            atexit.register(own.cleanup)
            found.out = Path(own.name)
        return found


def at_least_one(text: str) -> int:
    """Read an integer of at least 1."""
    number = int(text) if text.strip().lstrip("+-").isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text}")
    return number


def at_least_zero(text: str) -> float:
    """Read a number of 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of 0 or more, got {text}")
    return number
