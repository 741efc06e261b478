"""Values and gradients that PyTorch gave once; see tests/data/record.py."""

from __future__ import annotations

import numpy as np
import pytest

from fconv import functional as F
from tests.data.record import CALLS, PATH, inputs, outer


@pytest.fixture(scope="module")
def recorded():
    with np.load(PATH) as file:
        return dict(file)


@pytest.mark.parametrize("number", range(len(CALLS)), ids=lambda n: f"{n}-{CALLS[n][0]}")
def test_numbers_are_pytorchs(recorded, number):
    name, shapes, options = CALLS[number]
    args = inputs(number, shapes)
    y = getattr(F, name)(*args, **options)
    np.testing.assert_allclose(y, recorded[f"{number}.{name}.value"], rtol=1e-12, atol=1e-14)
    grads = getattr(F, f"{name}_vjp")(outer(number, y.shape), *args, **options)
    for i, grad in enumerate(grads if isinstance(grads, tuple) else (grads,)):
        key = f"{number}.{name}.grad{i}"
        assert (grad is not None) == (key in recorded)
        if grad is not None:
            np.testing.assert_allclose(grad, recorded[key], rtol=1e-11, atol=1e-13)


def test_every_function_that_pytorch_has_is_recorded():
    from tests.cases import CASES

    assert {name for name, _, _ in CALLS} == {name for name, case in CASES.items() if case.torch}
