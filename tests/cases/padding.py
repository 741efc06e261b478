"""Padding, unfold and fold, and the padding of convolutions."""

from __future__ import annotations

from math import prod

from hypothesis import strategies as st

import fconv as fc
from fconv.testing import strategies as fst
from tests import naive
from tests.cases.common import Case, elements


@st.composite
def pad_cases(draw):
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    n = draw(st.integers(1, 3))
    size = [draw(st.integers(1, 4)) for _ in range(n)]
    leading = (2,) if draw(st.booleans()) else (draw(st.integers(0, 2)), 2)
    pad = []
    for s in reversed(size):
        most = {"reflect": s - 1, "circular": s}.get(mode, 5)
        lo = draw(st.integers(1 - s, most))
        hi = draw(st.integers(1 - s - min(lo, 0), most))
        if mode == "circular":  # what is cropped does not come round
            lo, hi = min(lo, s + min(hi, 0)), min(hi, s + min(lo, 0))
        pad += [lo, hi]
    options = {"pad": tuple(pad), "mode": mode}
    if mode == "constant":
        options["value"] = draw(st.sampled_from([None, 0.0]))
    return [draw(elements((*leading, *size)))], options


@st.composite
def unfold_cases(draw, fold):
    w = draw(fst.windows(2, max_size=6))
    options = {k: w[k] for k in ("dilation", "padding", "stride")} | {"kernel_size": w["kernel"]}
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *w["size"])
    if fold:
        options["output_size"] = w["size"]
        columns = naive.window_elements(w["size"], 1, w["kernel"], w["dilation"], w["padding"], w["stride"])
        shape = (shape[0], shape[1] * prod(w["kernel"]), 1 + max(column for _, column, *_ in columns))
    return [draw(elements(shape if draw(st.booleans()) else shape[1:]))], options


CASES = {
    "pad": Case(pad_cases(), naive.pad, linear=True),
    "unfold": Case(unfold_cases(False), naive.unfold, linear=True),
    "fold": Case(unfold_cases(True), naive.fold, linear=True),
}

LAYERS = {
    "pad": (fc.pad((1, -1, 0, 2), value=1.5), (2, 3, 4, 5)),
    "pad by reflection": (fc.pad((2, 1, -1, 1), mode="reflect"), (2, 3, 4, 5)),
    "unfold": (fc.unfold((2, 3), stride=2, padding=1), (2, 3, 4, 5)),
    "fold": (fc.fold((4, 5), (2, 3)), (2, 12, 9)),
    "conv1d circular": (fc.conv1d(2, 3, padding=2, padding_mode="circular"), (2, 3, 5)),
    "conv2d reflect": (fc.conv2d(4, 3, stride=2, padding=(1, 2), padding_mode="reflect"), (2, 3, 5, 6)),
    "conv2d same replicate": (fc.conv2d(4, (2, 3), padding="same", padding_mode="replicate"), (2, 3, 5, 6)),
}

CALLS = [
    ("pad", [(2, 2, 3, 4)], {"pad": (1, -2, 0, 3), "mode": "constant", "value": 2.5}),
    ("pad", [(2, 2, 3, 4)], {"pad": (3, -1, 2, 2), "mode": "reflect"}),
    ("pad", [(2, 3, 4)], {"pad": (1, 6), "mode": "replicate"}),
    ("pad", [(1, 2, 3, 3, 4)], {"pad": (4, 1, -1, 2, 3, 3), "mode": "circular"}),
    ("unfold", [(2, 2, 5, 6)], {"kernel_size": (2, 3), "dilation": (2, 1), "padding": 1, "stride": 2}),
    ("fold", [(2, 12, 12)], {"output_size": (4, 6), "kernel_size": (2, 3)}),
]  # fmt: skip
