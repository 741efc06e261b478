"""Time gradients by each example against one gradient of the batch, in turn, beside torch.func.vmap(grad)."""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import threadpoolctl

import fconv as fc
from fconv.engine import memory


def group_normed(layer: fc.Layer, groups: int = 4) -> fc.Layer:
    """Put group norms in the place of a network's batch norms."""
    if layer.name == "batch_norm":
        return fc.group_norm(groups)
    return layer.rebuilding.of(lambda _, child: group_normed(child, groups)) if layer.rebuilding else layer


def networks() -> dict[str, tuple[fc.Layer, tuple[int, ...]]]:
    """Return the networks by name, with the shape of an example."""
    digits = fc.compose(
        fc.conv2d(32, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2),
        fc.conv2d(64, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2),
        fc.flatten(), fc.linear(10),
    )  # fmt: skip
    return {
        "digits": (group_normed(digits), (1, 8, 8)),
        "lenet": (fc.models.lenet(), (1, 28, 28)),
        "resnet20": (group_normed(fc.models.resnet20()), (3, 32, 32)),
    }


def calls(name: str, batch: int) -> dict[str, Callable[[], Any]]:
    """Return what is timed for a network."""
    net, shape = networks()[name]
    loss, key = fc.cross_entropy_loss(), fc.random.key(0)
    x, t = fc.random.normal(key, (batch, *shape)), np.arange(batch) % 10
    params = net.init(key, x.shape)
    made = {
        "batch": fc.value_and_grad(net, loss),
        "each": fc.per_example_gradients(net, loss),
        "norms": fc.per_example_norms(net, loss),
    }
    found = {what: lambda f=f: f(params, x, t) for what, f in made.items()}
    try:
        import torch
        from torch.func import functional_call, grad, vmap
    except ImportError:
        return found
    module = fc.to_torch_module(net, params, x.shape)
    weights = {name: p.detach() for name, p in module.named_parameters()}
    tensors = torch.tensor(x), torch.tensor(t)

    def cost(weights: Any, x: Any, t: Any) -> Any:
        return torch.nn.functional.cross_entropy(functional_call(module, weights, (x,)), t)

    each = vmap(grad(lambda weights, x, t: cost(weights, x[None], t[None])), (None, 0, 0))
    found["torch batch"] = lambda: grad(cost)(weights, *tensors)
    found["torch vmap(grad)"] = lambda: each(weights, *tensors)
    ours = [g.reshape(batch, -1) for g in fc.trees.leaves(found["each"]())]
    theirs = [g.reshape(batch, -1).numpy() for g in each(weights, *tensors).values()]
    squares = [sum((g**2).sum(axis=1) for g in grads) for grads in (ours, theirs)]
    np.testing.assert_allclose(*map(np.sqrt, squares), rtol=1e-3)
    return found


def peak(call: Callable[[], Any]) -> float:
    """Return the memory in MB that a call takes at most, its result included."""
    before, memory.kept = memory.kept, memory.Kept(0)  # what earlier calls have left would not count
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    memory.kept = before
    return most / 1e6


def main() -> None:
    """Print the times of each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(networks()), help="networks (default: all)")
    parser.add_argument("--batch", type=int, default=64, help="examples (default: 64)")
    parser.add_argument("--rounds", type=int, default=15, help="calls of each, in turn (default: 15)")
    parser.add_argument("--cpu", action="store_true", help="processor time on one thread, for busy machines")
    options = parser.parse_args()
    clock = time.process_time if options.cpu else time.perf_counter
    if options.cpu:
        fc.set_num_threads(1)
        threadpoolctl.threadpool_limits(1)  # for BLAS, and OpenMP's threads of PyTorch
    for name in options.names:
        found = calls(name, options.batch)
        if options.cpu and "torch batch" in found:
            import torch

            torch.set_num_threads(1)
        times: dict[str, list[float]] = {what: [] for what in found}
        for i in range(options.rounds + 2):
            for what, call in found.items():
                begin = clock()
                call()
                if i > 1:  # the first calls plan, check and warm up
                    times[what].append(clock() - begin)
        print(f"{name}, {options.batch} examples")
        for what, taken in times.items():
            one = times["torch batch" if what.startswith("torch") else "batch"]
            ratio = statistics.median(a / b for a, b in zip(taken, one, strict=True))
            memory = "" if what.startswith("torch") else f", at most {peak(found[what]):6.1f} MB"
            print(
                f"  {what:16} {1e3 * min(taken):8.2f} ms, {min(taken) / min(one):5.2f} times a batch's "
                f"gradient (median of rounds {ratio:5.2f}){memory}"
            )


if __name__ == "__main__":
    main()
