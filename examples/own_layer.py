"""Write a layer with its own gradient, prove it, and use it as if it were built in.

The layer is Swish with a learnt steepness for each channel, ``y = x * sigmoid(beta * x)``
(Ramachandran, Zoph and Le, "Searching for activation functions", 2017). It is four plain functions.
fconv.testing checks its gradient with inputs that hypothesis draws, and refuses one with a mistake
made on purpose; then it stands in a network that learns scikit-learn's digits, beside the same
network with relu; and its parameters go to PyTorch, where the same network is built if PyTorch is
installed, and give the same answers.

Into --out go curves.png, steepness.png, results.json and own_layer.pt, which torch.load reads.
Both runs can be stopped and resumed.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from digits import Data, load_data, predict, shuffled, steps_of_epoch
from hypothesis import given, settings
from support import flags, plots, results
from support.training import Run, train

import fconv as fc
from fconv.testing import check_layer
from fconv.testing import strategies as fst


def swish(wrong: bool = False) -> Any:
    """Return the layer; with `wrong`, one whose gradient misses a factor, for the check to find."""

    def init(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        return {"beta": np.ones(shape[1], dtype)}

    def parts(params: Any, x: Any) -> tuple[Any, Any]:
        beta = params["beta"].reshape(-1, *(1,) * (x.ndim - 2))  # one for each channel
        return beta, np.exp(-np.logaddexp(0, -beta * x))  # the sigmoid, without overflow

    def apply(params: Any, x: Any, *, train: bool = False, key: Any = None) -> Any:
        _, s = parts(params, x)
        return x * s

    def vjp(params: Any, x: Any, g: Any, *, train: bool = False, key: Any = None) -> tuple[Any, Any]:
        beta, s = parts(params, x)
        slope = s * (1 - s)
        dx = g * (s + x * slope * (1 if wrong else beta))
        others = tuple(axis for axis in range(x.ndim) if axis != 1)
        return {"beta": (g * x * x * slope).sum(axis=others)}, dx

    # Anything with these four functions is a layer.
    return SimpleNamespace(init=init, apply=apply, vjp=vjp, out_shape=lambda shape: shape, name="swish")


def proved() -> str:
    """Check the gradient on drawn inputs; give what the check says of a wrong one."""

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(x=fst.arrays_like((2, 3, 4, 4)), key=fst.keys())
    def test_swish(x: Any, key: Any) -> None:
        check_layer(swish(), x, key=key)

    test_swish()
    try:
        check_layer(swish(wrong=True), fc.random.normal(fc.random.key(0), (2, 3, 4, 4)))
    except AssertionError as error:
        return str(error)
    raise RuntimeError("the check has not found the mistake")


def network(activation: Any, classes: int) -> fc.Layer:
    """Two convolution blocks and a linear layer."""
    return fc.compose(
        fc.conv2d(16, 3, padding=1), activation(), fc.max_pool2d(2),
        fc.conv2d(32, 3, padding=1), activation(), fc.max_pool2d(2),
        fc.flatten(), fc.linear(classes),
    )  # fmt: skip


def learn(title: str, net: fc.Layer, data: Data, args: argparse.Namespace) -> Run:
    """Train in a folder of the activation's name; the accuracy is measured after each epoch."""
    of_epoch, folder = steps_of_epoch(data, args), args.out / title

    def measure(params: Any) -> dict[str, float]:
        answers = predict(net, params, data.test_x, args.device)
        return {"accuracy": float(np.mean(answers == data.test_t))}

    print(f"with {title}:")
    return train(
        net,
        fc.cross_entropy_loss(),
        fc.adam(lr=args.lr),
        (args.batch_size, *data.train_x.shape[1:]),
        shuffled(data, args),
        measure,
        # A run that stopped in the first of the two has nothing of the second to go on from.
        argparse.Namespace(
            **{**vars(args), "out": folder, "resume": args.resume and (folder / "checkpoints").exists()}
        ),
        network=title,
        data=(data.train_x, data.train_t),
        steps=args.epochs * of_epoch,
        measure_every=of_epoch,
        samples=args.epochs * len(data.train_x),
    )


def in_torch(params: Any, x: Any) -> Any:
    """Apply the network in PyTorch, with the layer written again there and the same parameters."""
    import torch
    from torch import nn

    class Swish(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.beta = nn.Parameter(torch.ones(channels))

        def forward(self, x: Any) -> Any:
            return x * torch.sigmoid(self.beta[:, None, None] * x)

    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), Swish(16), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), Swish(32), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(*reversed(params[7]["weight"].shape)),
    )  # fmt: skip
    module.load_state_dict(fc.to_torch(params))  # the names are 0.weight, 1.beta, ... in both
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def plot_curves(path: Path, runs: dict[str, Run]) -> None:
    """Draw the accuracy after each epoch."""
    plt = plots.pyplot()
    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    for title, run in runs.items():
        values = run.scores["accuracy"]
        label = f"{title}: {values[-1]:.4f} in the end"
        axes.plot(run.scores["step"], values, marker="o", markersize=4, label=label)
    axes.set(xlabel="step", ylabel="share of test digits read correctly", title="the same network twice")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    plots.save(figure, path)


def plot_steepness(path: Path, params: Any) -> None:
    """Draw the curves that the layers have learnt."""
    plt = plots.pyplot()
    x = np.linspace(-4, 4, 201)
    figure, grid = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
    for axes, at in zip(grid, (1, 4), strict=True):
        betas = params[at]["beta"]
        for beta in betas:
            axes.plot(x, x / (1 + np.exp(-beta * x)), color="tab:blue", alpha=0.35, linewidth=1)
        axes.plot(x, x / (1 + np.exp(-x)), color="k", linestyle="--", label="as it began: beta = 1")
        axes.set(title=f"layer {at}: beta from {betas.min():.2f} to {betas.max():.2f}", xlabel="x")
        axes.legend()
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("x sigmoid(beta x)")
    plots.save(figure, path)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    return flags.parser(
        __doc__, "own_layer", data="MNIST-format folder (default: scikit-learn's digits)",
        steps=15, batch_size=64, lr=3e-3, samples="pictures", epochs=True, rate="of Adam",
    ).parse_args(argv)  # fmt: skip


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Prove, train, export; give the test accuracies."""
    args = arguments(argv)
    with results.in_one_line("own_layer"):
        results.prepare(args.out, args.device)
        data = load_data(args.data)
        said = proved()
        print("the gradient holds for every input that was drawn; of the wrong one the check says:")
        print("\n".join(f"    {line}" for line in said.splitlines()[:8]))

        runs: dict[str, Run] = {}
        for title, activation in (("swish", swish), ("relu", fc.relu)):
            if not any(run.stopped for run in runs.values()):
                runs[title] = learn(title, network(activation, len(data.names)), data, args)
        params = fc.to_device(runs["swish"].params, "cpu")
        fc.save(args.out / "own_layer.pt", params)
        plot_curves(args.out / "curves.png", runs)
        plot_steepness(args.out / "steepness.png", params)
        figures = {f"{title}_accuracy": run.scores["accuracy"][-1] for title, run in runs.items()}
        if find_spec("torch"):
            x = data.test_x
            y = network(swish, len(data.names)).apply(params, x)
            figures["torch_differs_by"] = float(np.abs(y - in_torch(params, x)).max())
            print(f"PyTorch's answers differ by at most {figures['torch_differs_by']:.1e}")
        results.write_json(
            args.out / "results.json", "own_layer", args,
            {**figures, "stopped": any(run.stopped for run in runs.values()),
             "runs": {title: run.summary() for title, run in runs.items()}},
        )  # fmt: skip
        print(f"saved curves.png, steepness.png, results.json and own_layer.pt in {args.out}")
        print(
            "test accuracy: " + ", ".join(f"{t} {run.scores['accuracy'][-1]:.3f}" for t, run in runs.items())
        )
    return figures


if __name__ == "__main__":
    main()
