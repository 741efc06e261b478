"""Learn to read handwritten digits, with a training loop of pure functions.

By default the digits are scikit-learn's 1,797 scans of 8x8 pixels, which come inside the
package; every fifth of them is held out for the test. With --data DIR they are the pictures of
an MNIST-format folder: train-images-idx3-ubyte, train-labels-idx1-ubyte,
t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, gzipped or not.

Into --out go a picture of the training curves, a sheet of test digits with the network's
answers, and the network itself as digits.safetensors, which PyTorch loads too.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import fconv as fc


class Data(NamedTuple):
    """Pictures (N, 1, H, W) from 0 to 1 and their class numbers, to train on and to test with."""

    train_x: Any
    train_t: Any
    test_x: Any
    test_t: Any


class Result(NamedTuple):
    """What training leaves."""

    params: Any
    losses: list[float]
    accuracies: list[float]


def network(classes: int) -> fc.Layer:
    """Two convolution blocks and a linear layer."""
    return fc.compose(
        fc.conv2d(32, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2),
        fc.conv2d(64, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2),
        fc.flatten(), fc.dropout(0.2), fc.linear(classes),
    )  # fmt: skip


def train(net: fc.Layer, data: Data, args: argparse.Namespace) -> Result:
    """Train by stochastic gradient descent; Ctrl-C ends after the step at hand."""
    key = fc.random.key(args.seed)
    init_key, order_key, step_key = fc.random.split(key, 3)
    steps = args.epochs * -(-len(data.train_x) // args.batch_size)
    params = fc.to_device(net.init(init_key, data.train_x[: args.batch_size].shape), args.device)
    opt = fc.sgd(lr=lambda step: args.lr * warm_up_and_cosine(step, steps), momentum=args.momentum)
    opt_state = opt.init(params)
    loss_and_grad = fc.value_and_grad(net, fc.cross_entropy_loss())
    losses: list[float] = []
    accuracies = [accuracy(net, params, data)]

    with tqdm(total=steps, unit="step", dynamic_ncols=True) as bar:
        try:
            for epoch in range(args.epochs):
                shuffled = fc.random.fold_in(order_key, epoch)
                for x, t in fc.data.batches(
                    data.train_x, data.train_t, batch_size=args.batch_size, key=shuffled
                ):
                    key = fc.random.fold_in(step_key, len(losses))
                    loss, grads, params = loss_and_grad(params, x, t, key=key)
                    params, opt_state = opt.step(params, grads, opt_state)
                    losses.append(float(loss))
                    bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}", accuracy=f"{accuracies[-1]:.4f}")
                    bar.update()
                accuracies.append(accuracy(net, params, data))
                bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}", accuracy=f"{accuracies[-1]:.4f}")
        except KeyboardInterrupt:
            bar.write(f"stopped after {len(losses)} steps; the network is kept as it is", file=sys.stderr)
    return Result(params, losses, accuracies)


def warm_up_and_cosine(step: int, steps: int) -> float:
    """Rise to 1 over the first tenth of the steps, then fall to 0 along a cosine."""
    return min(1.0, 10 * (step + 1) / steps) * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


def predict(net: fc.Layer, params: Any, x: Any) -> Any:
    """Give the class number of each picture."""
    return np.concatenate(
        [
            fc.to_device(net.apply(params, part), "cpu").argmax(axis=1)
            for (part,) in fc.data.batches(x, batch_size=500)
        ]
    )


def accuracy(net: fc.Layer, params: Any, data: Data) -> float:
    """Give the share of test pictures that are read rightly."""
    return float(np.mean(predict(net, params, data.test_x) == fc.to_device(data.test_t, "cpu")))


def load_data(folder: str | None) -> Data:
    """Read an MNIST-format folder, or scikit-learn's digits."""
    if folder is not None:
        train_x, train_t, test_x, test_t = fc.data.read_mnist(folder)
        return Data(
            pictures(train_x, 255), train_t.astype(np.int64), pictures(test_x, 255), test_t.astype(np.int64)
        )
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, t = pictures(images.reshape(-1, 8, 8), 16), labels.astype(np.int64)
    held_out = np.arange(len(x)) % 5 == 4
    return Data(x[~held_out], t[~held_out], x[held_out], t[held_out])


def pictures(images: Any, white: float) -> Any:
    """Give grey pictures (N, H, W) as float32 (N, 1, H, W) from 0 to 1."""
    return (images / np.float32(white)).astype(np.float32)[:, None]


def plot_curves(path: Path, result: Result) -> None:
    """Draw the loss of each step and the test accuracy of each epoch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    steps = np.arange(1, len(result.losses) + 1)
    window = max(1, len(steps) // 50)
    smooth = np.convolve(result.losses or [np.nan], np.ones(window) / window, "valid")
    left.plot(steps, result.losses, color="tab:blue", alpha=0.25, linewidth=0.8, label="each step")
    left.plot(steps[window - 1 :], smooth[: len(steps)], color="tab:blue", label=f"mean of {window} steps")
    left.set(xlabel="step", ylabel="cross-entropy", title="training loss", yscale="log")
    left.legend()
    right.plot(range(len(result.accuracies)), result.accuracies, marker="o", color="tab:green")
    right.set(xlabel="epoch", ylabel="share read rightly", title="test accuracy", ylim=(0, 1.02))
    right.annotate(
        f"{result.accuracies[-1]:.4f}", (len(result.accuracies) - 1, result.accuracies[-1]),
        textcoords="offset points", xytext=(0, -16), ha="right",
    )  # fmt: skip
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_sheet(path: Path, data: Data, answers: Any, columns: int = 12, rows: int = 6) -> None:
    """Draw test pictures with the network's answers: wrong ones first, in red, on half the sheet at most."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    test_x, test_t = fc.to_device((data.test_x, data.test_t), "cpu")
    wrong = np.flatnonzero(answers != test_t)
    right = np.flatnonzero(answers == test_t)
    shown = np.concatenate([wrong[: columns * rows // 2], right])[: columns * rows]
    figure, grid = plt.subplots(rows, columns, figsize=(columns, 1.25 * rows), layout="constrained")
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, i in zip(grid.flat, shown, strict=False):
        mistaken = answers[i] != test_t[i]
        axes.imshow(test_x[i, 0], cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(
            f"{answers[i]} (is {test_t[i]})" if mistaken else f"{answers[i]}",
            color="tab:red" if mistaken else "black", fontsize=9,
        )  # fmt: skip
    figure.suptitle(f"test pictures and the network's answers: {len(wrong)} of {len(test_t)} wrong, in red")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="DIR", help="MNIST-format folder (default: scikit-learn's digits)")
    parser.add_argument(
        "--epochs", type=at_least_one, default=20, help="times through the data (default: 20)"
    )
    parser.add_argument(
        "--batch-size", type=at_least_one, default=64, help="pictures of a step (default: 64)"
    )
    parser.add_argument(
        "--lr",
        type=at_least_zero,
        default=0.05,
        help="highest learning rate; it rises to this and falls to 0 (default: 0.05)",
    )
    parser.add_argument("--momentum", type=at_least_zero, default=0.9, help="momentum of SGD (default: 0.9)")
    parser.add_argument("--seed", type=int, default=0, help="everything random follows from it (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/digits"),
        metavar="DIR",
        help="folder for results (default: out/digits)",
    )
    parser.add_argument("--device", default="cpu", help='"cpu", "cuda" or "cuda:N" (default: cpu)')
    return parser.parse_args(argv)


def at_least_one(text: str) -> int:
    """Read a whole number from 1 up."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text}")
    return number


def at_least_zero(text: str) -> float:
    """Read a number of 0 or more."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of 0 or more, got {text}")
    return number


def main(argv: list[str] | None = None) -> float:
    """Train, show, save; give the test accuracy."""
    args = arguments(argv)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        if not os.access(args.out, os.W_OK):
            raise ValueError(f"cannot write to {args.out}")
        data = fc.to_device(load_data(args.data), args.device)
    except (OSError, ValueError) as error:
        sys.exit(f"digits: {error}")
    net = network(int(data.train_t.max()) + 1)
    height, width = data.train_x.shape[2:]
    print(f"{len(data.train_x)} pictures of {height}x{width} to train on, {len(data.test_x)} to test with")

    result = train(net, data, args)

    answers = predict(net, result.params, data.test_x)
    final = float(np.mean(answers == fc.to_device(data.test_t, "cpu")))
    plot_curves(args.out / "curves.png", result)
    plot_sheet(args.out / "digits.png", data, answers)
    fc.save(args.out / "digits.safetensors", result.params, metadata={"test_accuracy": f"{final:.4f}"})
    print(f"saved curves.png, digits.png and digits.safetensors in {args.out}")
    print(f"test accuracy {final:.3f}")
    return final


if __name__ == "__main__":
    main()
