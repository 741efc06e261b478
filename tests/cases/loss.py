"""Losses."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

from tests import naive
from tests.cases.common import Case, entries, shapes


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


CASES = {
    "mse_loss": Case(mse_cases(), naive.mse_loss),
    "nll_loss": Case(label_cases(False), naive.nll_loss),
    "cross_entropy": Case(label_cases(True), naive.cross_entropy),
}

CALLS = [
    ("mse_loss", [(3, 4), (3, 4)], {}),
    ("nll_loss", [(5, 3), ("labels", (5,), 3)], {"reduction": "sum"}),
    ("cross_entropy", [(5, 3), ("labels", (5,), 3)], {}),
    ("cross_entropy", [(4, 3, 2), ("labels", (4, 2), 3), ("positive", (3,))], {"label_smoothing": 0.2}),
]  # fmt: skip
