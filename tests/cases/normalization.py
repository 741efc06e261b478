"""Normalisation."""

from __future__ import annotations

from hypothesis import strategies as st

import fconv as fc
from fconv.testing import strategies as fst
from tests import naive
from tests.cases.common import Case, entries, f64


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


CASES = {
    "batch_norm": Case(batch_norm_cases(), naive.batch_norm),
}

LAYERS = {
    "batch_norm 1d": (fc.batch_norm(), (5, 3)),
    "batch_norm 1d sequence": (fc.batch_norm(), (3, 2, 4)),
    "batch_norm 2d": (fc.batch_norm(eps=1e-3, momentum=0.3), (3, 2, 4, 3)),
    "batch_norm cumulative": (fc.batch_norm(momentum=None), (3, 2, 4)),
    "batch_norm plain": (fc.batch_norm(affine=False, track_running_stats=False), (3, 2, 4)),
}

CALLS = [
    ("batch_norm", [(4, 3, 2, 2), (3,), ("positive", (3,)), (3,), (3,)], {"training": True}),
    ("batch_norm", [(4, 3, 2, 2), (3,), ("positive", (3,)), (3,), (3,)], {"training": False, "eps": 1e-3}),
]  # fmt: skip
