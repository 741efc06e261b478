"""The cross-entropy of class numbers: by compiled sweeps over the classes, or of few elements by NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv.arrays import Array, Shape, memory_order, xp_of
from fconv.engine.sweeps import Program, Sweep
from fconv.functional.core import Definition, once
from fconv.functional.loss_reduction import Reduction, reduced
from fconv.functional.segments import LOG_TOTAL, Segments
from fconv.functional.sums import accurate_sum, quietly

_LOG_OF_SUM = Program(
    (*LOG_TOTAL, Sweep("kept", lambda highest, total, logarithm: (highest, logarithm))), outputs=2
)
_SHARES = Program(
    (Sweep("write", lambda x, highest, logarithm, factor: xp_of(x).exp(x - highest - logarithm) * factor),),
    params=3,
)
_FEW = 1 << 11
"""Elements that NumPy passes over in less time than what precedes the launch of a kernel."""


def of_lone_labels(
    segments: Segments,
    x: Array,
    target: Array,
    within: bool,
    weight: Array | None,
    class_axis: int,
    ignore_index: int,
    reduction: Reduction,
) -> Definition:
    """Define the cross-entropy of class numbers by compiled sweeps over classes; of few elements by NumPy.

    `within` tells that every target is the number of a class.
    """
    every = within and not 0 <= ignore_index < x.shape[class_axis]
    kept = np.True_ if every else target != ignore_index
    plain = weight is None and (every or bool(kept.all()))  # each target counts as much as any other
    labels = (target if plain else np.where(kept, target, 0)).astype(np.intp, copy=False)
    if plain and x.size <= _FEW:
        return _of_few_labels(x, _at_labels(labels, class_axis), target.shape, class_axis, reduction)

    @once
    def weights() -> Array:
        """Return the weight of each target, 0 where it counts for nothing."""
        one = x.dtype.type(1)
        return one if plain else np.where(kept, one if weight is None else weight[labels], x.dtype.type(0))

    found = once(lambda: segments.keep(_LOG_OF_SUM, x))

    def losses() -> Array:
        highest, logarithm = found()
        memory, places = _in_memory(x, labels, class_axis)
        lost = logarithm - (memory[places] - highest)
        return lost if plain else np.where(kept, weights() * lost, x.dtype.type(0))

    def dx(each: Array) -> Array:
        factor = np.full(target.shape, each * weights(), x.dtype)
        y = segments.write_by_segment(_SHARES, x, *found(), factor)
        memory, places = _in_memory(y, labels, class_axis)
        memory[places] -= factor  # of `y`
        return y

    return reduced(
        losses, target.shape, reduction, lambda each: {"x": lambda: dx(each)},
        {"x": lambda t: (dx(np.ones(target.shape, x.dtype)) * t).sum(axis=class_axis)},
        None if plain else lambda: accurate_sum(weights()),
    )  # fmt: skip


def _of_few_labels(
    x: Array, index: tuple[Any, ...], shape: Shape, class_axis: int, reduction: Reduction
) -> Definition:
    """Define by NumPy the cross-entropy of class numbers, each of which counts as much as the others."""

    @once
    def parts() -> tuple[Array, Array, Array]:
        """Return what each element lacks to the largest, its exponential, and the sum of those."""
        lacking = x - np.maximum.reduce(x, axis=class_axis, keepdims=True)
        powers = np.exp(lacking)
        return lacking, powers, np.add.reduce(powers, axis=class_axis, keepdims=True)

    def losses() -> Array:
        lacking, _, total = parts()
        return np.log(total).reshape(shape) - lacking[index]

    def dx(each: Array) -> Array:
        _, powers, total = parts()
        y = powers * (each_class(each, class_axis) / total)
        y[index] -= each
        return y

    return reduced(
        losses, shape, reduction, lambda each: {"x": lambda: quietly(lambda: dx(each))},
        {"x": lambda t: (dx(np.ones((), x.dtype)) * t).sum(axis=class_axis)},
    )  # fmt: skip


def _at_labels(labels: Array, class_axis: int) -> tuple[Any, ...]:
    """Return the index of each target's class in an array with an axis of classes."""
    if labels.ndim == 1:
        return np.arange(len(labels)), labels
    index = [*np.ogrid[tuple(map(slice, labels.shape))]]
    index.insert(class_axis, labels)
    return tuple(index)


def _in_memory(x: Array, labels: Array, class_axis: int) -> tuple[Array, Any]:
    """Return an array as it lies in memory, and the index there of each target's class.

    That is a tenth of the time of an index for each axis; an array with gaps comes with such an index.
    """
    laid = x.transpose(memory_order(x))
    if not laid.flags.c_contiguous:
        return x, _at_labels(labels, class_axis)
    class_step, *steps = (
        x.strides[axis] // x.itemsize for axis in (class_axis, *(i for i in range(x.ndim) if i != class_axis))
    )
    places = labels * class_step
    for axis, (size, step) in enumerate(zip(labels.shape, steps, strict=True)):
        places += (np.arange(size) * step).reshape(-1, *(1,) * (labels.ndim - 1 - axis))
    return laid.reshape(-1), places


def each_class(each: Array, class_axis: int) -> Array:
    """Return the gradient of the targets' losses as that of all classes' terms."""
    return xp_of(each).expand_dims(each, class_axis) if each.ndim else each
