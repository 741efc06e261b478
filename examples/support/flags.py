"""The flags that the training examples share."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser(doc: str | None, name: str, *, data: str, steps: int, batch_size: int, lr: float, samples: str,
           epochs: bool = False, rate: str = "highest learning rate; it rises to this and falls to 0",
           ) -> argparse.ArgumentParser:  # fmt: skip
    """Make the parser of an example: `doc` is its docstring, the rest are defaults and what they count."""
    made = argparse.ArgumentParser(
        prog=name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    return made


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
