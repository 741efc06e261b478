"""Activations."""

from __future__ import annotations

import fconv as fc
from tests import naive
from tests.cases.common import Case, along_axis, pointwise

CASES = {
    "relu": Case(pointwise(), naive.relu),
    "sigmoid": Case(pointwise(), naive.sigmoid),
    "tanh": Case(pointwise(), naive.tanh),
    "softmax": Case(along_axis(), naive.softmax),
    "log_softmax": Case(along_axis(), naive.log_softmax),
}

LAYERS = {
    "relu": (fc.relu(), (2, 3, 4)),
    "sigmoid": (fc.sigmoid(), (2, 3, 4)),
    "tanh": (fc.tanh(), (2, 3, 4)),
    "softmax": (fc.softmax(), (2, 3, 4)),
    "log_softmax": (fc.log_softmax(dim=-1), (2, 3, 4)),
}

CALLS = [
    ("relu", [(3, 4)], {}),
    ("sigmoid", [(3, 4)], {}),
    ("tanh", [(3, 4)], {}),
    ("softmax", [(3, 4, 2)], {"dim": 1}),
    ("log_softmax", [(3, 4, 2)], {"dim": -1}),
]  # fmt: skip
