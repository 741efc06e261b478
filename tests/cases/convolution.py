"""Convolution and affine maps."""

from __future__ import annotations

from hypothesis import strategies as st

import fconv as fc
from fconv.testing import strategies as fst
from tests import naive
from tests.cases.common import Case, elements


@st.composite
def conv_cases(draw, ndim):
    w = draw(fst.windows(ndim, max_size=7 if ndim < 3 else 5))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_group, filters = draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    x = draw(elements((draw(st.integers(0, 2)), groups * per_group, *w["size"])))
    weight = draw(elements((filters, per_group, *w["kernel"])))
    bias = draw(st.none() | elements((filters,)))
    options = {k: w[k] for k in ("stride", "padding", "dilation")} | {"groups": groups}
    if draw(st.booleans()) and all(
        s >= d * (k - 1) + 1 for s, k, d in zip(w["size"], w["kernel"], w["dilation"], strict=True)
    ):
        options["padding"] = draw(st.sampled_from(["same", "valid"]))
        if options["padding"] == "same":
            options["stride"] = 1
    if len(x) == 1 and draw(st.booleans()):
        x = x[0]
    return [x, weight, bias], options


@st.composite
def linear_cases(draw):
    leading = draw(st.lists(st.integers(0, 3), min_size=0, max_size=2).map(tuple))
    features, out = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    arrays = [draw(elements((*leading, features))), draw(elements((out, features)))]
    return [*arrays, draw(st.none() | elements((out,)))], {}


CASES = {
    "conv1d": Case(conv_cases(1), naive.conv),
    "conv2d": Case(conv_cases(2), naive.conv),
    "conv3d": Case(conv_cases(3), naive.conv),
    "linear": Case(linear_cases(), naive.linear),
}

LAYERS = {
    "conv1d": (fc.conv1d(4, 3, stride=2, padding=1), (2, 3, 7)),
    "conv2d": (fc.conv2d(4, 3, stride=2, padding=1), (2, 3, 7, 6)),
    "conv2d grouped": (fc.conv2d(4, 3, groups=2, dilation=2, bias=False), (2, 4, 7, 6)),
    "conv2d same": (fc.conv2d(4, (2, 3), padding="same"), (2, 3, 5, 6)),
    "conv3d": (fc.conv3d(2, 2, padding=1), (2, 2, 3, 4, 3)),
    "linear": (fc.linear(5), (4, 3)),
    "linear without bias, more axes": (fc.linear(5, bias=False), (2, 3, 4)),
}

CALLS = [
    ("conv1d", [(2, 4, 9), (6, 2, 3), (6,)], {"stride": 2, "padding": 1, "groups": 2}),
    ("conv2d", [(2, 3, 7, 6), (4, 3, 3, 2), (4,)], {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}),
    ("conv2d", [(1, 2, 5, 5), (3, 2, 2, 3)], {"padding": "same"}),
    ("conv2d", [(2, 4, 5, 5), (8, 1, 3, 3), (8,)], {"groups": 4}),
    ("conv3d", [(1, 2, 4, 5, 3), (2, 2, 2, 3, 2), (2,)], {"stride": (1, 2, 1), "padding": 1}),
    ("linear", [(2, 3, 4), (5, 4), (5,)], {}),
]  # fmt: skip
