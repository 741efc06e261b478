"""Transposed convolution."""

from __future__ import annotations

from hypothesis import strategies as st

import fconv as fc
from fconv.testing import strategies as fst
from tests import naive
from tests.cases.common import Case, elements


@st.composite
def conv_transpose_cases(draw, ndim):
    w = draw(fst.windows(ndim, max_size=5 if ndim < 3 else 3))
    spread = zip(w["kernel"], w["stride"], w["dilation"], w["padding"], strict=True)
    # The smallest input that padding leaves an output of.
    least = [max(1, -(-(2 * p - d * (k - 1)) // s) + 1) for k, s, d, p in spread]
    size = tuple(max(low, min(s, 4)) for s, low in zip(w["size"], least, strict=True))
    most = [max(s, d) - 1 for s, d in zip(w["stride"], w["dilation"], strict=True)]
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, per_group = groups * draw(st.integers(1, 2)), draw(st.integers(1, 2))
    x = draw(elements((draw(st.integers(0, 2)), channels, *size)))
    weight = draw(elements((channels, per_group, *w["kernel"])))
    bias = draw(st.none() | elements((groups * per_group,)))
    options = {k: w[k] for k in ("stride", "padding", "dilation")} | {"groups": groups}
    options["output_padding"] = tuple(draw(st.integers(0, m)) for m in most)
    if len(x) == 1 and draw(st.booleans()):
        x = x[0]
    return [x, weight, bias], options


CASES = {
    "conv_transpose1d": Case(conv_transpose_cases(1), naive.conv_transpose),
    "conv_transpose2d": Case(conv_transpose_cases(2), naive.conv_transpose),
    "conv_transpose3d": Case(conv_transpose_cases(3), naive.conv_transpose),
}

LAYERS = {
    "conv_transpose1d": (fc.conv_transpose1d(4, 3, stride=2, padding=1), (2, 3, 5)),
    "conv_transpose2d": (fc.conv_transpose2d(4, 3, stride=2, padding=1, output_padding=(1, 0)), (2, 3, 4, 3)),
    "conv_transpose2d grouped": (fc.conv_transpose2d(4, 2, groups=2, dilation=2, bias=False), (2, 6, 3, 2)),
    "conv_transpose3d": (fc.conv_transpose3d(2, 2, padding=1), (2, 2, 3, 4, 3)),
}

CALLS = [
    ("conv_transpose1d", [(2, 4, 5), (4, 3, 3), (6,)], {"stride": 2, "padding": 1, "groups": 2}),
    ("conv_transpose2d", [(2, 3, 4, 3), (3, 4, 3, 2), (4,)], {"stride": (2, 3), "output_padding": (1, 2)}),
    ("conv_transpose2d", [(2, 4, 3), (2, 3, 2, 3)], {"padding": (1, 2), "dilation": (1, 2)}),
    ("conv_transpose3d", [(1, 2, 2, 3, 3), (2, 2, 2, 3, 2), (2,)], {"stride": (1, 2, 1), "padding": 1}),
]  # fmt: skip
