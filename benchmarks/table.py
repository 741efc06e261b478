"""Tables of what is measured: every shape, network and series, and which of them a part takes."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from math import prod

from benchmarks.cases import PASSES, WHATS, Conv, Inference, Job, Pass, Step

PARTS = {
    "conv": "forward of every shape",
    "vjp": "gradients of input, weight and bias together, of every shape",
    "weight": "gradient of the weight alone, of every shape",
    "random": "500 random shapes, forward and gradients, fconv and PyTorch alone (only when asked for)",
    "steps": "training steps: forward, loss, backward, SGD with momentum",
    "small": "training steps of small networks, where the interpreter's time shows",
    "inference": "networks applied to pictures",
    "passes": "elementwise functions, norms, pooling, softmax, resampling beside a copy",
    "scaling": "time of a convolution against batch size and image size",
    "memory": "peak memory of convolutions and training steps",
}

# batch, channels, size, filters, kernel, stride, padding
SHAPES = [
    Conv(8, 3, 224, 64, 7, 2, 3),
    Conv(8, 64, 56, 64, 3, 1, 1),
    Conv(8, 128, 28, 128, 3, 1, 1),
    Conv(8, 256, 14, 256, 3, 1, 1),
    Conv(8, 512, 7, 512, 3, 1, 1),
    Conv(8, 256, 56, 64, 1, 1, 0),
    Conv(8, 64, 56, 256, 1, 1, 0),
    Conv(8, 128, 56, 128, 3, 2, 1),
    Conv(16, 3, 32, 32, 3, 1, 0),
    Conv(16, 32, 30, 64, 3, 1, 3),
    Conv(16, 64, 68, 32, 3, 1, 1),
    Conv(1000, 1, 28, 3, 3, 1, 0),
    Conv(1, 3, (860, 1600), 3, 3, 1, 0),
    Conv(64, 3, 32, 64, 3, 1, 1),
    Conv(1, 64, 224, 64, 3, 1, 1),
    Conv(8, 128, 56, 128, 3, 1, 1, groups=128),
    Conv(8, 64, 56, 64, 3, 1, 2, dilation=2),
    Conv(16, 1, 64, 64, 5, 1, 2),
    Conv(8, 56, 48, 1, 9, 3, 0, transposed=True),
    Conv(8, 64, 28, 32, 4, 2, 1, transposed=True),
    Conv(32, 64, 4096, 64, 9, 1, 4, ndim=1),
    Conv(2, 16, 32, 32, 3, 1, 1, ndim=3),
]

FLOAT64 = [
    Conv(8, 64, 56, 64, 3, 1, 1, dtype="float64"),
    Conv(8, 256, 14, 256, 3, 1, 1, dtype="float64"),
    Conv(8, 256, 56, 64, 1, 1, 0, dtype="float64"),
    Conv(16, 3, 32, 32, 3, 1, 0, dtype="float64"),
]

# name, network (of networks.py), input, loss, classes or shape of the target
STEPS = [
    Step("Noise2Noise, 16", "noise2noise", (16, 3, 32, 32), "mse", (16, 3, 32, 32)),
    Step("Noise2Noise, 128", "noise2noise", (128, 3, 32, 32), "mse", (128, 3, 32, 32)),
    Step("Noise2Noise strided, 16", "noise2noise_strided", (16, 3, 32, 32), "mse", (16, 3, 32, 32)),
    Step("Noise2Noise strided, 128", "noise2noise_strided", (128, 3, 32, 32), "mse", (128, 3, 32, 32)),
    Step("shallow auto-encoder, 16", "noise2noise_shallow", (16, 3, 32, 32), "mse", (16, 3, 32, 32)),
    Step("four convolutions on MNIST, 1000", "mnist", (1000, 1, 28, 28), "nll", 10),
    Step("ESPCN x3, 16 of 17x17", "espcn_unclipped", (16, 3, 17, 17), "mse", (16, 3, 51, 51)),
    Step("ESPCN x3, 16 of 64x64", "espcn_unclipped", (16, 3, 64, 64), "mse", (16, 3, 192, 192)),
    Step("LeNet, 128", "lenet", (128, 1, 32, 32), "cross_entropy", 10),
    Step("resnet20, 32 of 32x32", "resnet20", (32, 3, 32, 32), "cross_entropy", 10),
    Step("resnet18, 8 of 64x64", "resnet18", (8, 3, 64, 64), "cross_entropy", 1000),
]

SMALL_STEPS = [
    Step("LeNet, 1", "lenet", (1, 1, 32, 32), "cross_entropy", 10),
    Step("LeNet, 8", "lenet", (8, 1, 32, 32), "cross_entropy", 10),
    Step("digits, 64", "digits", (64, 1, 8, 8), "cross_entropy", 10),
    Step("MLP 64-64-10, 32", "mlp", (32, 64), "cross_entropy", 10),
]

# On a GPU also larger batches, which a processor would take minutes for.
LARGE = [replace(case, batch=n) for n in (64, 256) for case in SHAPES if case.batch == 8]
LARGE_STEPS = [Step("resnet18, 256 of 64x64", "resnet18", (256, 3, 64, 64), "cross_entropy", 1000)]

INFERENCE = [
    Inference("DnCNN, 512x512", "dncnn", (1, 1, 512, 512)),
    Inference("resnet18, 1 of 224x224", "resnet18", (1, 3, 224, 224)),
    Inference("resnet18, 8 of 224x224", "resnet18", (8, 3, 224, 224)),
    Inference("ESPCN x3, 720p frame", "espcn", (1, 3, 720, 1280)),
]

# Each doubles from one to the next.
BATCHES = [Conv(n, 32, 56, 32, 3, 1, 1) for n in (8, 16, 32, 64, 128, 256)]
SIDES = [Conv(1, 16, n, 16, 3, 1, 1) for n in (64, 128, 256, 512, 1024)]


@lru_cache(maxsize=2)
def random_shapes(count: int = 500, seed: int = 0) -> list[Conv]:
    """Draw shapes of all kinds, each of at most 3e9 operations and 64 MB of arrays."""
    draw, found = random.Random(seed), {}
    some = [1, 1, 2, 3, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
    while len(found) < count:
        ndim = draw.choice([1, 2, 2, 2, 2, 2, 3])
        groups = draw.choice([1, 1, 1, 1, 2, 4])
        channels, out = groups * draw.choice(some), groups * draw.choice(some)
        if draw.random() < 0.1:
            groups = channels = out = draw.choice(some[3:])  # depthwise
        kernel: int | tuple[int, ...] = draw.choice([1, 1, 2, 3, 3, 3, 3, 5, 7, 9, 11])
        if ndim == 2 and draw.random() < 0.1:
            k = draw.choice([3, 5, 7])
            kernel = draw.choice([(1, k), (k, 1)])
        dilation = draw.choice([1, 1, 1, 1, 2, 3])
        side = draw.choice([3, 5, 7, 7, 8, 14, 16, 28, 32, 56, 64, 100, 112, 128, 200, 224, 256])
        case = Conv(
            draw.choice([1, 1, 2, 4, 8, 16, 32, 64]), channels, side ** (2 if ndim == 1 else 1), out, kernel,
            draw.choice([1, 1, 1, 2, 3]), draw.choice([0, 1, 2]), groups, dilation, ndim=ndim,
        )  # fmt: skip
        if min(case.out_size) < 1 or case.operations("forward") > 3e9:
            continue
        x = case.batch * channels * prod(case.in_size)
        if 4 * (x + prod(case.out_shape) + prod(case.weight_shape)) <= 64 << 20:
            found[case.name] = case
    return list(found.values())


PASSING = [Pass(kind, (32, 64, 56, 56)) for kind in PASSES]


def jobs(part: str, quick: bool = False, device: str = "cpu") -> list[Job]:
    """List what a part measures; `quick`, the same on small inputs, to see that everything runs."""

    def small(cases):
        return [case.small() for case in cases] if quick else cases

    batches = [replace(c, batch=c.batch // 8, size=14) for c in BATCHES[:3]] if quick else BATCHES
    sides = [replace(c, size=c.size // 4) for c in SIDES[:3]] if quick else SIDES
    if part in ("conv", "vjp", "weight"):
        what = "forward" if part == "conv" else part
        large = LARGE if device == "cuda" and not quick else []  # small, they would be the same
        return [Job(part, case, what) for case in small(SHAPES + large + FLOAT64)]
    if part == "random":
        return [Job(part, case, what) for case in random_shapes(6 if quick else 500) for what in WHATS[:2]]
    if part == "steps":
        large_steps = LARGE_STEPS if device == "cuda" else []
        return [Job(part, case, "step") for case in small(STEPS + large_steps)]
    if part == "small":
        return [Job(part, case, "step") for case in SMALL_STEPS]
    if part == "passes":
        whats = {case: WHATS[: 1 if case.function == "copy" else 2] for case in PASSING}
        return [Job(part, case, what) for full in PASSING for case in small([full]) for what in whats[full]]
    if part == "inference":
        return [Job(part, case, "inference") for case in small(INFERENCE)]
    series = [("batch", batches), ("side", sides)]
    if part == "scaling":
        return [Job(part, case, what, axis) for what in WHATS[:2] for axis, cases in series for case in cases]
    if part == "memory":
        shapes = [Job(part, case, what) for what in WHATS[:2] for case in small(SHAPES)]
        growing = [Job(part, case, what, "batch") for what in WHATS[:2] for case in batches]
        return [*shapes, *growing, *(Job(part, case, "step") for case in small(STEPS))]
    raise ValueError(f"benchmarks: expected a part of {', '.join(PARTS)}, got {part!r}")


def find(part: str, name: str, quick: bool, device: str = "cpu") -> Job:
    """Return the job of a name."""
    return next(job for job in jobs(part, quick, device) if job.name == name)
