"""One case for each differentiable function: how to draw its arguments, and its naive reference.

The tests of values, gradients, dtypes and memory layouts, and those against PyTorch, all run
over this table, so that a function is tested in every way once it stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fconv.testing import strategies as fst
from tests import naive

f64 = np.float64


@dataclass(frozen=True)
class Case:
    """What the tests need to know of a function."""

    draw: st.SearchStrategy[tuple[list[Any], dict[str, Any]]]
    naive: Callable[..., Any]
    linear: bool = False  # in its first argument, the others fixed
    torch: bool = True  # torch.nn.functional (or torch) has it under this name


def entries(shape):
    return fst.arrays_like(shape, f64)


@st.composite
def conv_cases(draw, ndim):
    w = draw(fst.windows(ndim, max_size=7 if ndim < 3 else 5))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_group, filters = draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    x = draw(entries((draw(st.integers(0, 2)), groups * per_group, *w["size"])))
    weight = draw(entries((filters, per_group, *w["kernel"])))
    bias = draw(st.none() | entries((filters,)))
    options = {k: w[k] for k in ("stride", "padding", "dilation")} | {"groups": groups}
    if draw(st.booleans()) and all(
        s >= d * (k - 1) + 1 for s, k, d in zip(w["size"], w["kernel"], w["dilation"], strict=True)
    ):
        options["padding"] = draw(st.sampled_from(["same", "valid"]))
        if options["padding"] == "same":
            options["stride"] = 1
    return [x, weight, bias], options


@st.composite
def pool_cases(draw, ndim, kind):
    w = draw(fst.windows(ndim, max_size=7 if ndim < 3 else 5))
    padding = tuple(min(p, k // 2) for p, k in zip(w["padding"], w["kernel"], strict=True))
    dilation = w["dilation"] if kind == "max" else (1,) * ndim
    least = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(w["kernel"], dilation, padding, strict=True)]
    size = tuple(max(s, low) for s, low in zip(w["size"], least, strict=True))
    x = draw(entries((draw(st.integers(0, 2)), draw(st.integers(1, 2)), *size)))
    options = {
        "kernel_size": w["kernel"],
        "stride": draw(st.sampled_from([None, w["stride"]])),
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
    }
    if kind == "max":
        options["dilation"] = dilation
    else:
        options["count_include_pad"] = draw(st.booleans())
        if ndim > 1:
            options["divisor_override"] = draw(st.sampled_from([None, 3]))
    return [x], options


shapes = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)


@st.composite
def pointwise(draw):
    return [draw(entries(draw(shapes)))], {}


@st.composite
def along_axis(draw):
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple))
    return [draw(entries(shape))], {"dim": draw(st.integers(-len(shape), len(shape) - 1))}


@st.composite
def linear_cases(draw):
    leading = draw(st.lists(st.integers(0, 3), min_size=0, max_size=2).map(tuple))
    features, out = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    arrays = [draw(entries((*leading, features))), draw(entries((out, features)))]
    return [*arrays, draw(st.none() | entries((out,)))], {}


@st.composite
def batch_norm_cases(draw):
    channels = draw(st.integers(1, 3))
    spatial = draw(st.lists(st.integers(1, 3), min_size=0, max_size=3).map(tuple))
    training = draw(st.booleans())
    batch = draw(st.integers(2 if training else 0, 4))
    x = draw(fst.arrays_like((batch, channels, *spatial), f64, fills=("normal", "large")))
    running = [draw(entries((channels,))), abs(draw(entries((channels,)))) + 0.5]
    affine = draw(st.booleans())
    weight, bias = (draw(entries((channels,))) if affine else None for _ in range(2))
    return [x, *running, weight, bias], {"training": training, "eps": draw(st.sampled_from([1e-5, 1e-2]))}


@st.composite
def interpolate_cases(draw):
    ndim = draw(st.integers(1, 3))
    size = tuple(draw(st.integers(1, 5)) for _ in range(ndim))
    x = draw(entries((draw(st.integers(0, 2)), draw(st.integers(1, 2)), *size)))
    if draw(st.booleans()):
        return [x], {"size": tuple(draw(st.integers(1, 9)) for _ in range(ndim))}
    factors = st.sampled_from([1, 2, 3, 1.5, 2.3, 0.5, 1.0])
    return [x], {
        "scale_factor": tuple(float(max(draw(factors), 1 if s == 1 else 0)) for s in size),
    }


@st.composite
def shuffle_cases(draw, up):
    r = draw(st.integers(1, 3))
    n, c, h, w = (draw(st.integers(low, 3)) for low in (0, 1, 1, 1))
    shape = (n, c * r * r, h, w) if up else (n, c, h * r, w * r)
    return [draw(entries(shape))], {"upscale_factor" if up else "downscale_factor": r}


@st.composite
def dropout_cases(draw):
    options = {"p": draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])), "training": draw(st.booleans())}
    return [draw(entries(draw(shapes)))], {**options, "key": draw(fst.keys())}


@st.composite
def flatten_cases(draw):
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple))
    start = draw(st.integers(0, len(shape) - 1))
    return [draw(entries(shape))], {"start_dim": start, "end_dim": draw(st.integers(start, len(shape) - 1))}


@st.composite
def reshape_cases(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    cut = draw(st.integers(0, len(shape)))
    target = draw(st.sampled_from([(-1,), (prod(shape),), (prod(shape[:cut]), -1), (1, *shape[::-1])]))
    return [draw(entries(shape))], {"shape": target}


@st.composite
def mse_cases(draw):
    shape = draw(shapes)
    arrays = [draw(entries(shape)), draw(entries(shape))]
    return arrays, {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}


@st.composite
def label_cases(draw, smoothing):
    classes = draw(st.integers(1, 4))
    if draw(st.booleans()):
        shape = (draw(st.integers(0, 3)), *draw(st.lists(st.integers(1, 3), max_size=2)))
        x = draw(entries((shape[0], classes, *shape[1:])))
    else:
        shape, x = (), draw(entries((classes,)))
    count = prod(shape)
    labels = draw(st.lists(st.sampled_from([*range(classes), -100]), min_size=count, max_size=count))
    target = np.array(labels, np.int64).reshape(shape)
    weight = draw(st.none() | entries((classes,)).map(lambda w: abs(w) + 0.5))
    options = {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    if smoothing:
        options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 1.0]))
    return [x, target, weight], options


CASES: dict[str, Case] = {
    "conv1d": Case(conv_cases(1), naive.conv),
    "conv2d": Case(conv_cases(2), naive.conv),
    "conv3d": Case(conv_cases(3), naive.conv),
    "linear": Case(linear_cases(), naive.linear),
    "relu": Case(pointwise(), naive.relu),
    "sigmoid": Case(pointwise(), naive.sigmoid),
    "tanh": Case(pointwise(), naive.tanh),
    "softmax": Case(along_axis(), naive.softmax),
    "log_softmax": Case(along_axis(), naive.log_softmax),
    "max_pool1d": Case(pool_cases(1, "max"), naive.max_pool),
    "max_pool2d": Case(pool_cases(2, "max"), naive.max_pool),
    "max_pool3d": Case(pool_cases(3, "max"), naive.max_pool),
    "avg_pool1d": Case(pool_cases(1, "avg"), naive.avg_pool, linear=True),
    "avg_pool2d": Case(pool_cases(2, "avg"), naive.avg_pool, linear=True),
    "avg_pool3d": Case(pool_cases(3, "avg"), naive.avg_pool, linear=True),
    "batch_norm": Case(batch_norm_cases(), naive.batch_norm),
    "interpolate": Case(interpolate_cases(), naive.interpolate, linear=True),
    "pixel_shuffle": Case(shuffle_cases(True), naive.pixel_shuffle, linear=True),
    "pixel_unshuffle": Case(shuffle_cases(False), naive.pixel_unshuffle, linear=True),
    "dropout": Case(dropout_cases(), naive.dropout, linear=True, torch=False),
    "flatten": Case(flatten_cases(), naive.flatten, linear=True),
    "reshape": Case(reshape_cases(), naive.reshape, linear=True),
    "mse_loss": Case(mse_cases(), naive.mse_loss),
    "nll_loss": Case(label_cases(False), naive.nll_loss),
    "cross_entropy": Case(label_cases(True), naive.cross_entropy),
}
