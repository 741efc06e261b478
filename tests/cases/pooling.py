"""Pooling."""

from __future__ import annotations

from hypothesis import strategies as st

import fconv as fc
from fconv.testing import strategies as fst
from tests import naive
from tests.cases.common import Case, entries


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


CASES = {
    "max_pool1d": Case(pool_cases(1, "max"), naive.max_pool),
    "max_pool2d": Case(pool_cases(2, "max"), naive.max_pool),
    "max_pool3d": Case(pool_cases(3, "max"), naive.max_pool),
    "avg_pool1d": Case(pool_cases(1, "avg"), naive.avg_pool, linear=True),
    "avg_pool2d": Case(pool_cases(2, "avg"), naive.avg_pool, linear=True),
    "avg_pool3d": Case(pool_cases(3, "avg"), naive.avg_pool, linear=True),
}

LAYERS = {
    "max_pool1d": (fc.max_pool1d(2), (2, 3, 7)),
    "max_pool2d": (fc.max_pool2d(3, stride=2, padding=1, ceil_mode=True), (2, 3, 6, 7)),
    "max_pool3d": (fc.max_pool3d(2, dilation=2), (2, 1, 5, 4, 3)),
    "avg_pool1d": (fc.avg_pool1d(3, padding=1), (2, 3, 7)),
    "avg_pool2d": (fc.avg_pool2d(2, count_include_pad=False), (2, 3, 6, 7)),
    "avg_pool3d": (fc.avg_pool3d(2, divisor_override=3), (2, 1, 5, 4, 3)),
}

CALLS = [
    ("max_pool1d", [(2, 2, 9)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("max_pool2d", [(2, 2, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1}),
    ("max_pool2d", [(1, 2, 8, 8)], {"kernel_size": 2, "dilation": 3}),
    ("max_pool3d", [(1, 1, 4, 5, 6)], {"kernel_size": 2}),
    ("avg_pool1d", [(2, 2, 9)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool2d", [(2, 2, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("avg_pool2d", [(2, 2, 7, 6)], {"kernel_size": 2, "padding": 1, "count_include_pad": False}),
    ("avg_pool3d", [(1, 1, 4, 5, 6)], {"kernel_size": 2, "divisor_override": 3}),
]  # fmt: skip
