"""Cases of the benchmark and their arrays: the same numbers in every process."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

WHATS = ("forward", "vjp", "weight")  # vjp: of x, weight and bias together; weight: its gradient alone


@dataclass(frozen=True)
class Conv:
    """A convolution: batch, channels, size, filters, kernel, stride, padding."""

    batch: int
    channels: int
    size: int | tuple[int, ...]
    out: int
    kernel: int | tuple[int, ...]
    stride: int
    padding: int
    groups: int = 1
    dilation: int = 1
    transposed: bool = False
    ndim: int = 2
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """The notation of the tables."""
        size = self.size if isinstance(self.size, int) else "x".join(map(str, self.size))
        size = f"{size}^3" if self.ndim == 3 else size
        kernel = self.kernel if isinstance(self.kernel, int) else "x".join(map(str, self.kernel))
        numbers = (self.batch, self.channels, size, self.out, kernel, self.stride, self.padding)
        text = ",".join(map(str, numbers))
        text += f",groups={self.groups}" if self.groups != 1 else ""
        text += f",dilation={self.dilation}" if self.dilation != 1 else ""
        before = f"conv{self.ndim}d " if self.ndim != 2 else ""
        return before + text + " transposed" * self.transposed + f" {self.dtype}" * (self.dtype != "float32")

    @property
    def in_size(self) -> tuple[int, ...]:
        """Spatial size of the input."""
        return (self.size,) * self.ndim if isinstance(self.size, int) else self.size

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Spatial size of the filters."""
        return (self.kernel,) * self.ndim if isinstance(self.kernel, int) else self.kernel

    @property
    def out_size(self) -> tuple[int, ...]:
        """Spatial size of the output."""
        found = []
        for n, k in zip(self.in_size, self.kernel_size, strict=True):
            reach = self.dilation * (k - 1)
            if self.transposed:
                found.append((n - 1) * self.stride - 2 * self.padding + reach + 1)
            else:
                found.append((n + 2 * self.padding - reach - 1) // self.stride + 1)
        return tuple(found)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return (self.batch, self.out, *self.out_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight, as PyTorch has it."""
        first, second = (self.channels, self.out) if self.transposed else (self.out, self.channels)
        return (first, second // self.groups, *self.kernel_size)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Make the input, weight, bias and gradient of the output."""
        draw = np.random.default_rng(zlib.crc32(self.name.encode()))

        def normal(*shape: int) -> np.ndarray:
            return draw.standard_normal(shape, np.dtype(self.dtype).type)

        x = normal(self.batch, self.channels, *self.in_size)
        scale = np.sqrt(self.channels // self.groups * prod(self.kernel_size)).astype(self.dtype)
        return x, normal(*self.weight_shape) / scale, normal(self.out), normal(*self.out_shape)

    def results_bytes(self, what: str) -> int:
        """Return the size of the results in bytes."""
        x = self.batch * self.channels * prod(self.in_size)
        count = {
            "forward": prod(self.out_shape),
            "vjp": x + prod(self.weight_shape) + self.out,
            "weight": prod(self.weight_shape),
        }
        return count[what] * np.dtype(self.dtype).itemsize

    def operations(self, what: str) -> int:
        """Return the number of multiplications and additions of the definition."""
        inner = self.in_size if self.transposed else self.out_size
        once = 2 * self.batch * prod(inner) * prod(self.weight_shape)
        return once * (2 if what == "vjp" else 1)

    def small(self) -> Conv:
        """Make the same kind of case, quick to compute."""
        size = tuple(min(n, 40 if self.ndim < 3 else 10) for n in self.in_size)
        plain = size[0] if isinstance(self.size, int) else size
        return replace(self, batch=min(self.batch, 2), size=plain)


@dataclass(frozen=True)
class Step:
    """A training step: forward, loss, backward, SGD with momentum.

    `target` is a number of classes, or the shape of a picture.
    """

    name: str
    network: str
    shape: tuple[int, ...]
    loss: str
    target: int | tuple[int, ...]

    def batch(self, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
        """Make the input and the target."""
        draw = np.random.default_rng(zlib.crc32(self.name.encode()))
        x = draw.random(self.shape, np.float32)
        if isinstance(self.target, int):
            return x.astype(dtype), draw.integers(0, self.target, self.shape[0])
        return x.astype(dtype), draw.random(self.target, np.float32).astype(dtype)

    def small(self) -> Step:
        """Make the same step on few samples."""
        n = min(self.shape[0], 4)
        target = self.target if isinstance(self.target, int) else (n, *self.target[1:])
        return replace(self, shape=(n, *self.shape[1:]), target=target)


@dataclass(frozen=True)
class Inference:
    """A network applied to pictures."""

    name: str
    network: str
    shape: tuple[int, ...]

    def pictures(self) -> np.ndarray:
        """Make the input."""
        return np.random.default_rng(zlib.crc32(self.name.encode())).random(self.shape, np.float32)

    def small(self) -> Inference:
        """Make the same on small pictures."""
        return replace(self, shape=(*self.shape[:2], *(max(32, n // 8) for n in self.shape[2:])))


@dataclass(frozen=True)
class Kind:
    """A function of large arrays that computes little, as a case.

    `forward` and `vjp` are the arrays of the input's size that are read and written, at least. `out` gives
    the shape of the output, `before` what the function is told between the input and its weights, which
    have the size of axis `weights`.
    """

    forward: float
    vjp: float
    options: dict[str, Any] = field(default_factory=dict)
    out: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda shape: shape
    before: Callable[[tuple[int, ...]], tuple[Any, ...]] = lambda shape: ()
    weights: int | None = None


def _labels(shape: tuple[int, ...]) -> tuple[Any, ...]:
    return (np.random.default_rng(0).integers(0, shape[1], (shape[0], *shape[2:])),)


def _resized(factor: float) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    return lambda shape: (*shape[:2], *(int(n * factor) for n in shape[2:]))


PASSES = {
    "copy": Kind(2, 0),
    "relu": Kind(2, 3),
    "gelu": Kind(2, 3),
    "batch_norm": Kind(3, 5, {"training": True}, before=lambda shape: (None, None), weights=1),
    "max_pool2d": Kind(1.25, 1.5, {"kernel_size": 2}, _resized(0.5)),
    "softmax": Kind(2, 3, {"dim": 1}),
    "log_softmax": Kind(2, 3, {"dim": 1}),
    "cross_entropy": Kind(
        1.05, 2.05, {"reduction": "none"}, lambda shape: (shape[0], *shape[2:]), before=_labels
    ),
    "layer_norm": Kind(2, 3, before=lambda shape: (shape[-1:],), weights=3),
    "group_norm": Kind(2, 3, before=lambda shape: (4,), weights=1),
    "instance_norm": Kind(2, 3, before=lambda shape: (None, None), weights=1),
    "interpolate nearest": Kind(5, 5, {"scale_factor": 2}, _resized(2)),
    "interpolate bilinear": Kind(5, 5, {"scale_factor": 2, "mode": "bilinear"}, _resized(2)),
    "pixel_shuffle": Kind(
        2, 2, {"upscale_factor": 2}, lambda shape: (shape[0], shape[1] // 4, *(2 * n for n in shape[2:]))
    ),
}


@dataclass(frozen=True)
class Pass:
    """A function that computes little for each number that it reads and writes; a kind of `PASSES`."""

    kind: str
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The notation of the tables."""
        return f"{self.kind} {'x'.join(map(str, self.shape))}"

    @property
    def function(self) -> str:
        """The name of the function."""
        return self.kind.partition(" ")[0]

    @property
    def options(self) -> dict[str, Any]:
        """Options of the function, beside its arrays."""
        return PASSES[self.kind].options

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Make the input and the gradient of the output."""
        draw = np.random.default_rng(zlib.crc32(self.name.encode()))
        out = PASSES[self.kind].out(self.shape)
        return draw.standard_normal(self.shape, np.float32), draw.standard_normal(out, np.float32)

    def before(self) -> tuple[Any, ...]:
        """Make what stands between the input and the weights."""
        return PASSES[self.kind].before(self.shape)

    def weights(self) -> list[np.ndarray]:
        """Make weight and bias, for what has them."""
        axis = PASSES[self.kind].weights
        return [] if axis is None else [np.ones(self.shape[axis], np.float32)] * 2

    def least_bytes(self, what: str) -> int:
        """Return the number of bytes that have to be read and written."""
        kind = PASSES[self.kind]
        return int((kind.vjp if what == "vjp" else kind.forward) * 4 * prod(self.shape))

    def small(self) -> Pass:
        """Make the same on small arrays."""
        return replace(self, shape=(2, 64, 8, 8))


Case = Conv | Step | Inference | Pass


@dataclass(frozen=True)
class Job:
    """One line of the results: a case, and what of it is measured. `axis` names what a series grows along."""

    part: str
    case: Case
    what: str
    axis: str = ""

    @property
    def name(self) -> str:
        """Name it, once in all of its part."""
        return f"{self.what} {self.axis}{' ' * bool(self.axis)}{self.case.name}"

    def facts(self) -> dict[str, Any]:
        """Describe it for the results."""
        facts = {"what": self.what, "case": self.case.name, "axis": self.axis}
        if isinstance(self.case, Conv):
            facts |= {"batch": self.case.batch, "side": self.case.in_size[0], "dtype": self.case.dtype}
            facts |= {"operations": self.case.operations(self.what)}
        if isinstance(self.case, Pass):
            facts |= {"bytes": self.case.least_bytes(self.what)}
        return facts
