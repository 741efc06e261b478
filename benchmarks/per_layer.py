"""Time what each layer adds to a training step of pictures of 1x1, where the interpreter takes most of it.

Each library runs in processes of its own, in turn.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

LAYERS = ("conv2d 1x1", "conv2d 3x3", "batch_norm", "relu", "max_pool2d")
SHAPE = (2, 8, 1, 1)
FEW, MANY = 2, 22
"""Layers of the networks whose steps are compared."""


def in_fconv(names: list[str]) -> Callable[[], Any]:
    """Return a training step of a chain of layers."""
    import fconv as fc

    make: dict[str, Callable[[], fc.Layer]] = {
        "conv2d 1x1": lambda: fc.conv2d(8, 1),
        "conv2d 3x3": lambda: fc.conv2d(8, 3, padding=1),
        "batch_norm": fc.batch_norm,
        "relu": fc.relu,
        "max_pool2d": lambda: fc.max_pool2d(1),
    }
    fc.set_num_threads(2)
    net, opt = fc.compose(*(make[name]() for name in names)), fc.sgd(lr=0.01, momentum=0.9)
    params, x = net.init(fc.random.key(0), SHAPE), fc.random.normal(fc.random.key(1), SHAPE)
    state, loss_and_grad, target = opt.init(params), fc.value_and_grad(net, fc.mse_loss()), np.zeros_like(x)

    def step() -> None:
        nonlocal params, state
        _, grads, params = loss_and_grad(params, x, target)
        params, state = opt.step(params, grads, state)

    return step


def in_torch(names: list[str]) -> Callable[[], Any]:
    """Return the same in PyTorch."""
    import torch
    from torch import nn

    make: dict[str, Callable[[], nn.Module]] = {
        "conv2d 1x1": lambda: nn.Conv2d(8, 8, 1),
        "conv2d 3x3": lambda: nn.Conv2d(8, 8, 3, padding=1),
        "batch_norm": lambda: nn.BatchNorm2d(8),
        "relu": nn.ReLU,
        "max_pool2d": lambda: nn.MaxPool2d(1),
    }
    torch.set_num_threads(2)
    net = nn.Sequential(*(make[name]() for name in names))
    opt, x = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9), torch.randn(SHAPE)
    target = torch.zeros(SHAPE)

    def step() -> None:
        opt.zero_grad()
        nn.functional.mse_loss(net(x), target).backward()
        opt.step()

    return step


def seconds(step: Callable[[], Any]) -> float:
    """Return the median time of a step."""
    for _ in range(30):
        step()
    found = []
    for _ in range(300):
        begin = time.perf_counter()
        step()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def added(library: str) -> dict[str, float]:
    """Return the seconds that one more of each layer takes, behind a convolution of 1x1."""
    make = {"fconv": in_fconv, "torch": in_torch}[library]

    def each(*names: str) -> float:
        few, many = (seconds(make(list(names) * count)) for count in (FEW, MANY))
        return (many - few) / (MANY - FEW)

    alone = each(LAYERS[0])
    return {LAYERS[0]: alone, **{name: each(LAYERS[0], name) - alone for name in LAYERS[1:]}}


def main() -> None:
    """Print medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="processes of each library (default: 5)")
    parser.add_argument("--of", choices=("fconv", "torch"), help="print the times of one library, as JSON")
    options = parser.parse_args()
    if options.of:
        print(json.dumps(added(options.of)))
        return
    libraries = ["fconv", *(["torch"] if importlib.util.find_spec("torch") else [])]
    found: dict[str, list[dict[str, float]]] = {library: [] for library in libraries}
    for _ in range(options.rounds):
        for library, times in found.items():
            command = [sys.executable, "-m", "benchmarks.per_layer", "--of", library]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            times.append(json.loads(done.stdout))
    print(f"microseconds that a layer adds to a step, pictures {SHAPE}, {options.rounds} rounds")
    print("".join(f"{head:>12}" for head in ("", *libraries)))
    for name in LAYERS:
        medians = [1e6 * statistics.median(each[name] for each in found[library]) for library in libraries]
        print(f"{name:>12}" + "".join(f"{value:12.1f}" for value in medians))


if __name__ == "__main__":
    main()
