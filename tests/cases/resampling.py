"""Resampling."""

from __future__ import annotations

from hypothesis import strategies as st

import fconv as fc
from tests import naive
from tests.cases.common import Case, entries


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


CASES = {
    "interpolate": Case(interpolate_cases(), naive.interpolate, linear=True),
    "pixel_shuffle": Case(shuffle_cases(True), naive.pixel_shuffle, linear=True),
    "pixel_unshuffle": Case(shuffle_cases(False), naive.pixel_unshuffle, linear=True),
}

LAYERS = {
    "upsample": (fc.upsample(scale_factor=1.5), (2, 3, 4, 5)),
    "upsample to a size": (fc.upsample(size=(3, 9)), (2, 3, 4, 5)),
    "pixel_shuffle": (fc.pixel_shuffle(2), (2, 8, 3, 2)),
    "pixel_unshuffle": (fc.pixel_unshuffle(2), (2, 3, 4, 6)),
}

CALLS = [
    ("interpolate", [(2, 2, 3, 4)], {"scale_factor": (1.5, 2.0)}),
    ("interpolate", [(1, 2, 7)], {"scale_factor": 2.3}),
    ("interpolate", [(2, 2, 3, 4)], {"size": (7, 3)}),
    ("pixel_shuffle", [(2, 8, 2, 3)], {"upscale_factor": 2}),
    ("pixel_unshuffle", [(2, 1, 6, 3)], {"downscale_factor": 3}),
]  # fmt: skip
