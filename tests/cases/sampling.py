"""Reading between pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests import naive
from tests.cases.common import Case, elements


@st.composite
def places(draw, shape, size):
    """Draw positions in pixels, inside of a picture and outside, away from where a kernel has a kink."""
    count = int(np.prod(shape))
    whole = draw(st.lists(st.integers(-3, size + 2), min_size=count, max_size=count))
    share = draw(st.lists(st.sampled_from([0.2, 0.3, 0.7, 0.8]), min_size=count, max_size=count))
    return (np.array(whole) + np.array(share)).reshape(shape)


@st.composite
def grid_sample_cases(draw):
    ndim = draw(st.sampled_from([2, 2, 3]))
    mode = draw(st.sampled_from(["nearest", "bilinear", *(["bicubic"] if ndim == 2 else [])]))
    align = draw(st.booleans())
    n, sizes = draw(st.integers(1, 2)), [draw(st.integers(1, 4)) for _ in range(ndim)]
    x = draw(elements((n, draw(st.integers(1, 2)), *sizes)))
    out = tuple(draw(st.integers(1, 2)) for _ in range(ndim))
    each = []
    for size in sizes:
        at = draw(places((n, *out), size))
        each.append(at * 2 / max(size - 1, 1) - 1 if align else (2 * at + 1) / size - 1)
    padding = draw(st.sampled_from(["zeros", "border", "reflection"]))
    options = {"mode": mode, "padding_mode": padding, "align_corners": align}
    return [x, np.stack(each[::-1], -1)], options


@st.composite
def deform_conv2d_cases(draw):
    parts, each, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    channels = parts * groups * each
    n, out, kernel = 1, (draw(st.integers(1, 2)), 2), (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    stride, dilation, padding = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
    sizes = [(o - 1) * stride + (k - 1) * dilation + 1 for o, k in zip(out, kernel, strict=True)]
    sizes = [max(size - 2 * padding, 1) for size in sizes]
    out = tuple(
        (size + 2 * padding - (k - 1) * dilation - 1) // stride + 1
        for size, k in zip(sizes, kernel, strict=True)
    )
    taps = kernel[0] * kernel[1]
    offset = draw(places((n, 2 * parts * taps, *out), 1))
    weight = draw(elements((groups * draw(st.integers(1, 2)), channels // groups, *kernel)))
    bias = draw(st.one_of(st.none(), elements((weight.shape[0],))))
    mask = draw(st.one_of(st.none(), elements((n, parts * taps, *out))))
    return [draw(elements((n, channels, *sizes))), offset, weight, bias, stride, padding, dilation, mask], {}


CASES = {
    "grid_sample": Case(grid_sample_cases(), naive.grid_sample),
    "deform_conv2d": Case(deform_conv2d_cases(), naive.deform_conv2d, torch=False),
}

LAYERS = {}

CALLS = [
    ("grid_sample", [(2, 3, 4, 5), (2, 3, 2, 2)], {"mode": "nearest"}),
    ("grid_sample", [(2, 3, 4, 5), (2, 3, 2, 2)], {"padding_mode": "border", "align_corners": True}),
    ("grid_sample", [(2, 3, 4, 5), (2, 3, 2, 2)], {"mode": "bicubic", "padding_mode": "reflection"}),
    ("grid_sample", [(2, 1, 2, 3, 4), (2, 1, 2, 3, 3)], {}),
    ("deform_conv2d", [(2, 4, 5, 4), (2, 18, 5, 4), (3, 4, 3, 3), (3,)], {"padding": 1}),
]  # fmt: skip
