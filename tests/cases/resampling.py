"""Resampling."""

from __future__ import annotations

from math import floor

from hypothesis import strategies as st

import fconv as fc
from tests import naive
from tests.cases.common import Case, elements


@st.composite
def interpolate_cases(draw):
    ndim = draw(st.integers(1, 3))
    smooth = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[ndim]
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "area", *smooth]))
    most = 9 if ndim < 3 else 6
    size = tuple(draw(st.integers(1, 5 if ndim < 3 else 4)) for _ in range(ndim))
    x = draw(elements((draw(st.integers(0, 2)), draw(st.integers(1, 2)), *size)))
    options = {"mode": mode}
    if mode in smooth:
        options["align_corners"] = draw(st.sampled_from([None, False, True]))
    if mode in ("bilinear", "bicubic"):
        options["antialias"] = draw(st.booleans())
    if draw(st.booleans()):
        return [x], {"size": tuple(draw(st.integers(1, most)) for _ in range(ndim)), **options}
    options["recompute_scale_factor"] = draw(st.sampled_from([None, None, True]))
    factors = st.sampled_from([1, 2, 3, 1.5, 2.3, 0.5, 1.0, 1.2] if ndim < 3 else [1, 1.5, 2, 0.5, 1.2])
    factors = [float(max(draw(factors), 1 if s == 1 else 0)) for s in size]
    outs = [floor(s * f) for s, f in zip(size, factors, strict=True)]
    if mode == "bicubic" and tuple(outs) == size:
        factors = [1.0] * ndim  # PyTorch's gradient copies a picture that stays, whatever the factor
    if mode == "nearest":
        # Of an axis that stays or doubles PyTorch's gradient forgets the factor where its value does not.
        factors = [
            float(o // s) if o in (s, 2 * s) else f for s, o, f in zip(size, outs, factors, strict=True)
        ]
    return [x], {"scale_factor": tuple(factors), **options}


@st.composite
def channel_shuffle_cases(draw):
    groups, each = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    shape = (draw(st.integers(1, 2)), groups * each, *draw(st.sampled_from([(3,), (2, 3), (1, 2, 2)])))
    return [draw(elements(shape))], {"groups": groups}


@st.composite
def shuffle_cases(draw, up):
    r = draw(st.integers(1, 3))
    n, c, h, w = (draw(st.integers(low, 3)) for low in (0, 1, 1, 1))
    shape = (n, c * r * r, h, w) if up else (n, c, h * r, w * r)
    leading = draw(st.sampled_from([shape[:1], (), (2, *shape[:1])]))
    return [draw(elements((*leading, *shape[1:])))], {"upscale_factor" if up else "downscale_factor": r}


CASES = {
    "interpolate": Case(interpolate_cases(), naive.interpolate, linear=True),
    "channel_shuffle": Case(channel_shuffle_cases(), naive.channel_shuffle, linear=True),
    "pixel_shuffle": Case(shuffle_cases(True), naive.pixel_shuffle, linear=True),
    "pixel_unshuffle": Case(shuffle_cases(False), naive.pixel_unshuffle, linear=True),
}

LAYERS = {
    "upsample": (fc.upsample(scale_factor=1.5), (2, 3, 4, 5)),
    "upsample to a size": (fc.upsample(size=(3, 9)), (2, 3, 4, 5)),
    "upsample bilinearly": (fc.upsample(scale_factor=(1.5, 0.5), mode="bilinear"), (2, 3, 4, 5)),
    "upsample bicubically": (fc.upsample(size=(6, 3), mode="bicubic", align_corners=True), (2, 3, 4, 5)),
    "upsample without aliasing": (fc.upsample(size=(2, 3), mode="bilinear", antialias=True), (2, 3, 7, 8)),
    "upsample by area": (fc.upsample(size=3, mode="area"), (2, 3, 4, 5)),
    "channel_shuffle": (fc.channel_shuffle(3), (2, 6, 4, 5)),
    "pixel_shuffle": (fc.pixel_shuffle(2), (2, 8, 3, 2)),
    "pixel_unshuffle": (fc.pixel_unshuffle(2), (2, 3, 4, 6)),
}

CALLS = [
    ("interpolate", [(2, 2, 3, 4)], {"scale_factor": (1.5, 2.0)}),
    ("interpolate", [(1, 2, 7)], {"scale_factor": 2.3}),
    ("interpolate", [(2, 2, 3, 4)], {"size": (7, 3)}),
    ("interpolate", [(2, 2, 3, 4)], {"scale_factor": (1.5, 2.3), "mode": "bilinear"}),
    ("interpolate", [(2, 2, 3, 4)], {"size": (7, 2), "mode": "bilinear", "align_corners": True}),
    ("interpolate", [(2, 2, 3, 4)], {"scale_factor": 2.3, "mode": "bicubic"}),
    ("interpolate", [(2, 2, 5)], {"scale_factor": 1.7, "mode": "linear", "recompute_scale_factor": True}),
    ("interpolate", [(1, 2, 3, 2, 4)], {"size": (4, 5, 2), "mode": "trilinear"}),
    ("interpolate", [(2, 2, 7)], {"scale_factor": 0.6, "mode": "nearest-exact"}),
    ("interpolate", [(2, 2, 7, 5)], {"size": (3, 2), "mode": "area"}),
    ("interpolate", [(2, 2, 7, 5)], {"size": (3, 2), "mode": "bilinear", "antialias": True}),
    ("interpolate", [(2, 2, 7, 5)], {"scale_factor": 0.5, "mode": "bicubic", "antialias": True}),
    ("channel_shuffle", [(2, 6, 2)], {"groups": 3}),
    ("pixel_shuffle", [(2, 8, 2, 3)], {"upscale_factor": 2}),
    ("pixel_unshuffle", [(2, 1, 6, 3)], {"downscale_factor": 3}),
]  # fmt: skip
