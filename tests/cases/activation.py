"""Activations."""

from __future__ import annotations

from tests import naive
from tests.cases.common import Case, along_axis, pointwise

CASES = {
    "relu": Case(pointwise(), naive.relu),
    "sigmoid": Case(pointwise(), naive.sigmoid),
    "tanh": Case(pointwise(), naive.tanh),
    "softmax": Case(along_axis(), naive.softmax),
    "log_softmax": Case(along_axis(), naive.log_softmax),
}

CALLS = [
    ("relu", [(3, 4)], {}),
    ("sigmoid", [(3, 4)], {}),
    ("tanh", [(3, 4)], {}),
    ("softmax", [(3, 4, 2)], {"dim": 1}),
    ("log_softmax", [(3, 4, 2)], {"dim": -1}),
]  # fmt: skip
