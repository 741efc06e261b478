"""Write a layer with its own gradient, prove it, and use it as if it were built in.

The layer is Swish with a learnt steepness for each channel, ``y = x * sigmoid(beta * x)``
(Ramachandran, Zoph and Le, "Searching for activation functions", 2017). It is four plain functions.
fconv.testing checks its gradient with inputs that hypothesis draws, and refuses one with a mistake
made on purpose; then it stands in a network that learns scikit-learn's digits, beside the same
network with relu; and its parameters go to PyTorch, where the same network is built if PyTorch is
installed, and give the same answers.

Into --out go curves.png, steepness.png, results.json and own_layer.pt, which torch.load reads.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from digits import load_data, predict
from hypothesis import given, settings
from support import flags, plots, results
from tqdm import tqdm

import fconv as fc
from fconv.testing import check_layer
from fconv.testing import strategies as fst


def swish(wrong: bool = False) -> Any:
    """Give the layer; with `wrong`, one whose gradient misses a factor, for the check to find."""

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


def network(activation: Any) -> fc.Layer:
    """Two convolution blocks and a linear layer."""
    return fc.compose(
        fc.conv2d(16, 3, padding=1), activation(), fc.max_pool2d(2),
        fc.conv2d(32, 3, padding=1), activation(), fc.max_pool2d(2),
        fc.flatten(), fc.linear(10),
    )  # fmt: skip


def learn(net: fc.Layer, data: Any, args: argparse.Namespace, title: str) -> tuple[Any, list[float]]:
    """Train; give the parameters and the accuracy after each epoch."""
    opt = fc.adam(lr=args.lr)
    state = fc.train_state(net, opt, fc.random.key(args.seed), (args.batch_size, *data.train_x.shape[1:]))
    step = fc.train_step(net, fc.cross_entropy_loss(), opt)
    accuracies = []
    with tqdm(range(args.epochs), desc=title, unit=" epochs", dynamic_ncols=True) as bar:
        for epoch in bar:
            order = fc.random.fold_in(fc.random.key(args.seed), epoch)
            for x, t in fc.data.batches(data.train_x, data.train_t, batch_size=args.batch_size, key=order):
                state, metrics = step(state, x, t)
            answers = predict(net, state.params, data.test_x, "cpu")
            accuracies.append(float(np.mean(answers == data.test_t)))
            bar.set_postfix(loss=f"{float(metrics['loss']):.4f}", accuracy=f"{accuracies[-1]:.4f}")
    return state.params, accuracies


def in_torch(params: Any, x: Any) -> Any:
    """Apply the network in PyTorch, with the layer written anew there and the same parameters."""
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
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    module.load_state_dict(fc.to_torch(params))  # the names are 0.weight, 1.beta, ... in both
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def plot_curves(path: Path, accuracies: dict[str, list[float]]) -> None:
    """Draw the accuracy after each epoch."""
    plt = plots.pyplot()
    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    for title, values in accuracies.items():
        label = f"{title}: {values[-1]:.4f} in the end"
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=4, label=label)
    axes.set(xlabel="epoch", ylabel="share of test digits read rightly", title="the same network twice")
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
    parser = argparse.ArgumentParser(
        prog="own_layer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--epochs", type=flags.at_least_one, default=15, metavar="N", help="(default: 15)")
    add("--batch-size", type=flags.at_least_one, default=64, metavar="N", help="(default: 64)")
    add("--lr", type=flags.at_least_zero, default=3e-3, metavar="RATE", help="of Adam (default: 0.003)")
    add("--seed", type=int, default=0, metavar="N", help="everything random follows from it (default: 0)")
    add("--out", type=Path, default=Path("out/own_layer"), metavar="DIR",
        help="folder for results (default: out/own_layer)")  # fmt: skip
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Prove, train, export; give the test accuracies."""
    args = arguments(argv)
    with results.in_one_line("own_layer"):
        results.prepare(args.out)
        data = load_data(None)
    said = proved()
    print("the gradient holds for every input that was drawn; of the wrong one the check says:")
    print("\n".join(f"    {line}" for line in said.splitlines()[:8]))

    params, accuracies = {}, {}
    for title, activation in (("swish", swish), ("relu", fc.relu)):
        params[title], accuracies[title] = learn(network(activation), data, args, title)
    plot_curves(args.out / "curves.png", accuracies)
    plot_steepness(args.out / "steepness.png", params["swish"])
    fc.save(args.out / "own_layer.pt", params["swish"])
    figures = {f"{title}_accuracy": values[-1] for title, values in accuracies.items()}
    if find_spec("torch"):
        x = data.test_x
        y = network(swish).apply(params["swish"], x)
        figures["torch_differs_by"] = float(np.abs(y - in_torch(params["swish"], x)).max())
        print(f"PyTorch's answers differ by at most {figures['torch_differs_by']:.1e}")
    results.write_json(args.out / "results.json", "own_layer", args, {**figures, "accuracies": accuracies})
    print(f"saved curves.png, steepness.png, results.json and own_layer.pt in {args.out}")
    print(f"test accuracy: swish {accuracies['swish'][-1]:.3f}, relu {accuracies['relu'][-1]:.3f}")
    return figures


if __name__ == "__main__":
    main()
