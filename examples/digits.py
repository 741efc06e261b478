"""Learn to tell pictures apart: handwritten digits, or any folder in MNIST's format.

By default the pictures are scikit-learn's 1,797 scans of digits of 8x8 pixels, which come inside
the package; every fifth of them is held out for the test. With --data DIR they are those of an
MNIST-format folder, such as MNIST or Fashion-MNIST: train-images-idx3-ubyte,
train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, gzipped or not.

Into --out go the training curves, a sheet of test pictures with the network's answers, its
mistakes first, the confusion matrix, the filters of the first layer, results.json, and the network
itself as digits.safetensors, which PyTorch loads too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from support import flags, plots, results
from support.training import Run, train, warm_up_and_cosine

import fconv as fc

_FASHION = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


class Data(NamedTuple):
    """Pictures (N, 1, H, W) from 0 to 1 and their class numbers, and the names of the classes."""

    train_x: Any
    train_t: Any
    test_x: Any
    test_t: Any
    names: list[str]


def small(classes: int) -> fc.Layer:
    """Two convolution blocks and a linear layer."""
    return fc.compose(
        fc.conv2d(32, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2),
        fc.conv2d(64, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2),
        fc.flatten(), fc.dropout(0.2), fc.linear(classes),
    )  # fmt: skip


def notebook(classes: int) -> fc.Layer:
    """Four convolutions of very few filters and two linear layers, for pictures of 28x28."""
    return fc.compose(
        fc.conv2d(3, 3), fc.relu(), fc.conv2d(3, 3), fc.relu(), fc.max_pool2d(2),
        fc.conv2d(6, 3), fc.relu(), fc.conv2d(6, 3), fc.relu(), fc.max_pool2d(2),
        fc.flatten(), fc.dropout(0.2),
        fc.linear(30), fc.relu(), fc.dropout(0.2),
        fc.linear(classes), fc.log_softmax(1),
    )  # fmt: skip


def resnet(classes: int) -> fc.Layer:
    """Three residual blocks, of which two halve the size and double the channels."""

    def block(channels: int, stride: int) -> fc.Layer:
        body = fc.compose(
            fc.conv2d(channels, 3, stride=stride, padding=1, bias=False), fc.batch_norm(), fc.relu(),
            fc.conv2d(channels, 3, stride=1, padding=1, bias=False), fc.batch_norm(),
        )  # fmt: skip
        shortcut = fc.compose(fc.conv2d(channels, 1, stride=stride, bias=False), fc.batch_norm())
        return fc.compose(fc.residual(body, shortcut if stride > 1 else None), fc.relu())

    return fc.compose(
        fc.conv2d(16, 3, stride=1, padding=1, bias=False), fc.batch_norm(), fc.relu(),
        block(16, 1), block(32, 2), block(64, 2),
        fc.adaptive_avg_pool2d(1), fc.flatten(), fc.linear(classes),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[int], fc.Layer]] = {
    "small": small,
    "notebook": notebook,
    "lenet": fc.models.lenet,
    "resnet": resnet,
}


def shuffled(data: Data, args: argparse.Namespace) -> Any:
    """Make the stream of batches: each epoch in an order that its number draws."""
    key = fc.random.fold_in(fc.random.key(args.seed), 1)

    def stream(start: int) -> Iterator[tuple[Any, ...]]:
        first, within = divmod(start, steps_of_epoch(data, args))
        for epoch in range(first, args.epochs):
            order = fc.random.fold_in(key, epoch)
            yield from fc.data.batches(
                data.train_x, data.train_t, batch_size=args.batch_size, key=order, start=within
            )
            within = 0

    return stream


def steps_of_epoch(data: Data, args: argparse.Namespace) -> int:
    """Count the batches of an epoch; the last one may be smaller."""
    return -(-len(data.train_x) // args.batch_size)


def predict(net: fc.Layer, params: Any, x: Any, device: str) -> Any:
    """Return the class number of each picture."""
    parts = fc.data.batches(x, batch_size=500)
    return np.concatenate(
        [
            fc.to_device(net.apply(params, fc.to_device(part, device)), "cpu").argmax(axis=1)
            for (part,) in parts
        ]
    )


def load_data(folder: str | None) -> Data:
    """Read an MNIST-format folder, or scikit-learn's digits."""
    if folder is not None:
        train_x, train_t, test_x, test_t = fc.data.read_mnist(folder)
        train_t, test_t = train_t.astype(np.int64), test_t.astype(np.int64)
        if not len(train_t) or not len(test_t):
            raise ValueError(
                f"{folder} has {len(train_t)} pictures to train on and {len(test_t)} to test with"
            )
        count = int(max(train_t.max(), test_t.max())) + 1
        fashion = "fashion" in Path(folder).resolve().name.lower() and count == len(_FASHION)
        names = _FASHION if fashion else [str(i) for i in range(count)]
        return Data(in_planes(train_x, 255), train_t, in_planes(test_x, 255), test_t, names)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, t = in_planes(images.reshape(-1, 8, 8), 16), labels.astype(np.int64)
    held_out = np.arange(len(x)) % 5 == 4
    return Data(x[~held_out], t[~held_out], x[held_out], t[held_out], [str(i) for i in range(10)])


def in_planes(images: Any, white: float) -> Any:
    """Return grey pictures (N, H, W) as float32 (N, 1, H, W) from 0 to 1."""
    return (images / np.float32(white)).astype(np.float32)[:, None]


def enlarged(data: Data, net: fc.Layer) -> Data:
    """Make pictures that are too small for a network twice as large, by pixels of 2x2."""
    try:
        net.out_shape(data.train_x.shape)
    except ValueError:
        train_x, test_x = (x.repeat(2, axis=2).repeat(2, axis=3) for x in (data.train_x, data.test_x))
        return data._replace(train_x=train_x, test_x=test_x)
    return data


def plot_answers(path: Path, data: Data, answers: Any, columns: int = 12, rows: int = 6) -> None:
    """Draw test pictures with the network's answers: wrong ones first, in red, on half the sheet at most."""
    plt = plots.pyplot()
    wrong = np.flatnonzero(answers != data.test_t)
    right = np.flatnonzero(answers == data.test_t)
    shown = np.concatenate([wrong[: columns * rows // 2], right])[: columns * rows]
    longest = max(map(len, data.names))
    width = columns * (1 if longest < 3 else 1.25)
    figure, grid = plt.subplots(rows, columns, figsize=(width, 1.3 * rows), layout="constrained")
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, i in zip(grid.flat, shown, strict=False):
        said, is_ = data.names[answers[i]], data.names[data.test_t[i]]
        mistaken = answers[i] != data.test_t[i]
        between = "\n" if longest > 2 else " "
        axes.imshow(data.test_x[i, 0], cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(f"{said}{between}(is {is_})" if mistaken else said,
                       color="tab:red" if mistaken else "black", fontsize=8)  # fmt: skip
    title = f"test pictures and the network's answers: {len(wrong)} of {len(data.test_t)} wrong, in red"
    figure.suptitle(title)
    plots.save(figure, path)


def confusion(data: Data, answers: Any) -> Any:
    """Count, for each class (rows), the answers (columns)."""
    count = len(data.names)
    return np.bincount(data.test_t * count + answers, minlength=count * count).reshape(count, count)


def plot_confusion(path: Path, counts: Any, names: list[str]) -> None:
    """Draw the confusion matrix, as shares of each class, with the counts written in."""
    plt = plots.pyplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 0.62 * len(names) + 1.2)
    figure, axes = plt.subplots(figsize=(side + 0.8, side), layout="constrained")
    image = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for (i, j), n in np.ndenumerate(counts) if len(names) <= 30 else ():
        if n:
            axes.text(j, i, n, ha="center", va="center", fontsize=8, color="w" if shares[i, j] > 0.3 else "k")
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(ticks, names)
    wrong = int(counts.sum() - np.trace(counts))
    axes.set(xlabel="the network's answer", ylabel="class", title=f"{wrong} of {counts.sum()} wrong")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class")
    levels = np.array([0, 0.01, 0.05, 0.2, 0.5, 1])  # few mistakes are to be seen too
    bar.set_ticks(np.sqrt(levels), labels=[f"{level:g}" for level in levels])
    plots.save(figure, path)


def plot_kernels(path: Path, weight: Any) -> None:
    """Draw the filters of the first layer: red where they add, blue where they subtract."""
    plt = plots.pyplot()
    count = len(weight)
    columns = min(8, count)
    rows = -(-count // columns)
    size = (1.1 * columns + 1, 1.2 * rows + 0.5)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    most = float(np.abs(weight).max()) or 1.0
    for axes in grid.flat:
        axes.set_axis_off()
    for i, (axes, kernel) in enumerate(zip(grid.flat, weight[:, 0], strict=False)):
        image = axes.imshow(kernel, cmap="RdBu_r", vmin=-most, vmax=most)
        axes.set_title(str(i), fontsize=8)
    figure.colorbar(image, ax=grid, shrink=0.9)
    figure.suptitle(f"the {count} filters of the first layer", fontsize=10)
    plots.save(figure, path)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = flags.parser(
        __doc__, "digits", data="MNIST-format folder (default: scikit-learn's digits)",
        steps=20, batch_size=64, lr=0.05, samples="pictures", epochs=True,
    )  # fmt: skip
    add = parser.add_argument
    add("--network", choices=NETWORKS, default="small", help="(default: small)")
    add("--optimizer", choices=("sgd", "adam"), default="sgd",
        help="(default: sgd; adam wants an --lr of about 0.001)")  # fmt: skip
    add("--momentum", type=flags.at_least_zero, default=0.9, metavar="NUMBER",
        help="momentum of SGD (default: 0.9)")  # fmt: skip
    return parser.parse_args(argv)


def learn(net: fc.Layer, data: Data, args: argparse.Namespace) -> Run:
    """Train the network."""
    of_epoch = steps_of_epoch(data, args)
    schedule = warm_up_and_cosine(args.lr, args.epochs * of_epoch)

    def measure(params: Any) -> dict[str, float]:
        answers = predict(net, params, data.test_x, args.device)
        return {"accuracy": float(np.mean(answers == data.test_t))}

    return train(
        net,
        fc.nll_loss() if args.network == "notebook" else fc.cross_entropy_loss(),
        fc.adam(lr=schedule) if args.optimizer == "adam" else fc.sgd(lr=schedule, momentum=args.momentum),
        (args.batch_size, *data.train_x.shape[1:]),
        shuffled(data, args),
        measure,
        args,
        network=args.network,
        data=(data.train_x, data.train_t),
        steps=args.epochs * of_epoch,
        measure_every=of_epoch,
        samples=args.epochs * len(data.train_x),
    )


def main(argv: list[str] | None = None) -> float:
    """Train, show, save; give the test accuracy."""
    args = arguments(argv)
    with results.in_one_line("digits"):
        results.prepare(args.out, args.device)
        data = load_data(args.data)
        net = NETWORKS[args.network](len(data.names))
        data = enlarged(data, net)
        height, width = data.train_x.shape[2:]
        net.out_shape(data.train_x.shape)  # says so where the pictures are too small for it
        print(
            f"{len(data.train_x)} pictures of {height}x{width} to train on, {len(data.test_x)} to test with"
        )
        run = learn(net, data, args)

        params = fc.to_device(run.params, "cpu")
        answers = predict(net, params, data.test_x, "cpu")
        final = float(np.mean(answers == data.test_t))
        counts = confusion(data, answers)
        first = next(w for name, w in fc.to_state_dict(params).items() if name.endswith("weight"))
        about = {"test_accuracy": f"{final:.4f}", "network": args.network}
        fc.save(args.out / "digits.safetensors", params, metadata=about)
        plots.curves(args.out / "curves.png", run, "accuracy", "share read correctly", "cross-entropy")
        plot_answers(args.out / "digits.png", data, answers)
        plot_confusion(args.out / "confusion.png", counts, data.names)
        plot_kernels(args.out / "kernels.png", first)
        results.write_json(
            args.out / "results.json", "digits", args,
            {"test_accuracy": final, "confusion": counts.tolist(), "classes": data.names, **run.summary()},
        )  # fmt: skip
        print(
            f"saved digits.png, curves.png, confusion.png, kernels.png and digits.safetensors in {args.out}"
        )
        print(f"test accuracy {final:.3f}")
    return final


if __name__ == "__main__":
    main()
