"""Pooling."""

from __future__ import annotations

from math import inf

import numpy as np
from hypothesis import strategies as st

import fconv as fc
from fconv import functional as F
from fconv.testing import strategies as fst
from tests import naive
from tests.cases.common import Case, elements


@st.composite
def pool_cases(draw, ndim, kind):
    w = draw(fst.windows(ndim, max_size=7 if ndim < 3 else 5))
    padding = tuple(min(p, k // 2) for p, k in zip(w["padding"], w["kernel"], strict=True))
    dilation = w["dilation"] if kind == "max" else (1,) * ndim
    stride, ceil_mode = draw(st.sampled_from([None, w["stride"]])), draw(st.booleans())
    size = tuple(
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p - (s - 1) * ceil_mode), max(s, d * k)))
        if (ceil_mode and draw(st.booleans()))
        else max(n, d * (k - 1) + 1 - 2 * p)
        for n, k, d, p, s in zip(
            w["size"], w["kernel"], dilation, padding, stride or w["kernel"], strict=True
        )
    )
    x = draw(elements((draw(st.integers(0, 2)), draw(st.integers(1, 2)), *size)))
    options = {
        "kernel_size": w["kernel"],
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil_mode,
    }
    if kind == "max":
        options["dilation"] = dilation
    else:
        options["count_include_pad"] = draw(st.booleans())
        if ndim > 1:
            options["divisor_override"] = draw(st.sampled_from([None, 3]))
    return [x[0] if len(x) == 1 and draw(st.booleans()) else x], options


def batched(naive_function):
    """Let naive loops over a batch serve a single sample, as the functions do."""

    def loops(x, kernel_size, **options):
        ndim = len(kernel_size)
        if x.ndim == ndim + 1:
            return naive_function(x[None], kernel_size=kernel_size, **options)[0]
        return naive_function(x, kernel_size=kernel_size, **options)

    return loops


@st.composite
def lp_cases(draw, ndim):
    (x,), options = draw(pool_cases(ndim, "avg"))
    p = draw(st.sampled_from([1, 2, 3.0, 0.5, inf, -inf]))
    kept = {k: options[k] for k in ("kernel_size", "stride", "ceil_mode")}
    kernel, steps = options["kernel_size"], options["stride"] or options["kernel_size"]
    least = [max(1, k - (s - 1) * options["ceil_mode"]) for k, s in zip(kernel, steps, strict=True)]
    size = [max(n, low) for n, low in zip(x.shape[-ndim:], least, strict=True)]
    x = draw(elements((*x.shape[:-ndim], *size), fills=("normal", "large")))
    return [abs(x) + 0.25], {"norm_type": p, **kept}


@st.composite
def adaptive_cases(draw, ndim, scalar=True):
    size = tuple(draw(st.integers(1, 6 if ndim < 3 else 4)) for _ in range(ndim))
    x = draw(elements((draw(st.integers(0, 2)), draw(st.integers(1, 2)), *size)))
    each = st.integers(1, 5) | (st.none() if ndim > 1 else st.nothing())
    sizes = tuple(draw(each) for _ in range(ndim))
    return [x], {"output_size": draw(st.sampled_from([sizes, sizes[0] or 2]))}


@st.composite
def global_cases(draw):
    (x,), _ = draw(st.integers(1, 3).flatmap(adaptive_cases))
    return [x], {}


@st.composite
def unpool_cases(draw, ndim):
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    size = tuple(draw(st.integers(k, 6 if ndim < 3 else 4)) for k in kernel)
    plane = fc.random.normal(draw(fst.keys()), (draw(st.integers(1, 2)), 2, *size), "float64")
    pool = getattr(F, f"max_pool{ndim}d")
    _, indices = pool(plane, kernel, return_indices=True)
    options = {"kernel_size": kernel, "stride": draw(st.sampled_from([None, kernel])), "output_size": size}
    return [draw(elements(indices.shape)), indices], options


def torch_lp_pool1d(x, norm_type, kernel_size, **options):
    """Call PyTorch's, which takes the kernel's size as an integer only."""
    import torch

    kernel = kernel_size[0] if isinstance(kernel_size, tuple) else kernel_size
    return torch.nn.functional.lp_pool1d(x, norm_type, kernel, **options)


def torch_global(kind):
    def pool(x):
        import torch

        return getattr(torch.nn.functional, f"adaptive_{kind}_pool{x.ndim - 2}d")(x, 1)

    return pool


CASES = {
    "max_pool1d": Case(pool_cases(1, "max"), batched(naive.max_pool)),
    "max_pool2d": Case(pool_cases(2, "max"), batched(naive.max_pool)),
    "max_pool3d": Case(pool_cases(3, "max"), batched(naive.max_pool)),
    "avg_pool1d": Case(pool_cases(1, "avg"), batched(naive.avg_pool), linear=True),
    "avg_pool2d": Case(pool_cases(2, "avg"), batched(naive.avg_pool), linear=True),
    "avg_pool3d": Case(pool_cases(3, "avg"), batched(naive.avg_pool), linear=True),
}
for _n in (1, 2, 3):
    CASES |= {
        f"lp_pool{_n}d": Case(
            lp_cases(_n), batched(naive.lp_pool), torch=torch_lp_pool1d if _n == 1 else True
        ),
        f"adaptive_avg_pool{_n}d": Case(adaptive_cases(_n), naive.adaptive_avg_pool, linear=True),
        f"adaptive_max_pool{_n}d": Case(adaptive_cases(_n), naive.adaptive_max_pool),
        f"max_unpool{_n}d": Case(unpool_cases(_n), naive.max_unpool),
    }
CASES |= {
    "global_avg_pool": Case(global_cases(), naive.global_avg_pool, linear=True, torch=torch_global("avg")),
    "global_max_pool": Case(global_cases(), naive.global_max_pool, torch=torch_global("max")),
}

LAYERS = {
    "max_pool1d": (fc.max_pool1d(2), (2, 3, 7)),
    "max_pool2d": (fc.max_pool2d(3, stride=2, padding=1, ceil_mode=True), (2, 3, 6, 7)),
    "max_pool3d": (fc.max_pool3d(2, dilation=2), (2, 1, 5, 4, 3)),
    "avg_pool1d": (fc.avg_pool1d(3, padding=1), (2, 3, 7)),
    "avg_pool2d": (fc.avg_pool2d(2, count_include_pad=False), (2, 3, 6, 7)),
    "avg_pool3d": (fc.avg_pool3d(2, divisor_override=3), (2, 1, 5, 4, 3)),
    "lp_pool1d": (fc.lp_pool1d(2, 3, stride=2, ceil_mode=True), (2, 3, 7)),
    "lp_pool2d": (fc.lp_pool2d(2.0, (2, 3)), (2, 3, 6, 7)),
    "lp_pool3d": (fc.lp_pool3d(float("inf"), 2), (2, 1, 5, 4, 3)),
    "adaptive_avg_pool1d": (fc.adaptive_avg_pool1d(3), (2, 3, 7)),
    "adaptive_avg_pool2d": (fc.adaptive_avg_pool2d((3, None)), (2, 3, 6, 7)),
    "adaptive_avg_pool3d": (fc.adaptive_avg_pool3d((2, 3, 4)), (2, 1, 5, 4, 3)),
    "adaptive_max_pool1d": (fc.adaptive_max_pool1d(3), (2, 3, 7)),
    "adaptive_max_pool2d": (fc.adaptive_max_pool2d((3, None)), (2, 3, 6, 7)),
    "adaptive_max_pool3d": (fc.adaptive_max_pool3d((2, 3, 4)), (2, 1, 5, 4, 3)),
    "global_avg_pool": (fc.global_avg_pool(), (2, 3, 6, 7)),
    "global_max_pool": (fc.global_max_pool(), (2, 3, 6, 7)),
}

CALLS = [
    ("adaptive_avg_pool3d", [(1, 1, 4, 5, 6)], {"output_size": (2, 3, 2)}),
    ("adaptive_max_pool1d", [(2, 2, 7)], {"output_size": 3}),
    ("lp_pool3d", [("positive", (1, 1, 4, 5, 6))], {"norm_type": 2.0, "kernel_size": 2}),
    ("global_max_pool", [(2, 3, 4, 5)], {}),
    ("max_unpool1d", [(1, 1, 3), ("as is", np.array([[[0, 3, 5]]]))], {"kernel_size": 2}),
    ("max_unpool2d", [(1, 1, 2, 2), ("as is", np.array([[[[0, 3], [9, 14]]]]))], {"kernel_size": 2}),
    ("max_unpool3d", [(1, 1, 1, 2, 2), ("as is", np.array([[[[[0, 3], [9, 14]]]]]))], {"kernel_size": 2}),
    ("max_pool1d", [(2, 2, 9)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("max_pool2d", [(2, 2, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1}),
    ("max_pool2d", [(1, 2, 8, 8)], {"kernel_size": 2, "dilation": 3}),
    ("max_pool3d", [(1, 1, 4, 5, 6)], {"kernel_size": 2}),
    ("avg_pool1d", [(2, 2, 9)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool2d", [(2, 2, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("avg_pool2d", [(2, 2, 7, 6)], {"kernel_size": 2, "padding": 1, "count_include_pad": False}),
    ("lp_pool2d", [("positive", (2, 2, 7, 6))], {"norm_type": 3, "kernel_size": 4, "ceil_mode": True}),
    ("lp_pool1d", [(2, 2, 9)], {"norm_type": 2, "kernel_size": 2}),
    ("adaptive_avg_pool2d", [(2, 2, 7, 6)], {"output_size": (3, 4)}),
    ("adaptive_avg_pool1d", [(2, 2, 8)], {"output_size": 4}),
    ("adaptive_max_pool2d", [(2, 2, 7, 6)], {"output_size": (3, 4)}),
    ("adaptive_max_pool3d", [(2, 2, 3, 4, 5)], {"output_size": (3, None, 2)}),
    ("global_avg_pool", [(2, 3, 4, 5)], {}),
    ("avg_pool3d", [(1, 1, 4, 5, 6)], {"kernel_size": 2, "divisor_override": 3}),
]  # fmt: skip
