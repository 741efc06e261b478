"""Write a layer of four functions with its own gradient, and test it: pytest tested_layer.py."""

from typing import Any

import numpy as np
from hypothesis import given, settings

import fconv as fc
from fconv.testing import check_layer
from fconv.testing import strategies as fst


class Gain:
    """Multiply each channel by a number that is learnt: y = gain * x."""

    def init(self, key: Any, shape: Any, dtype: Any = np.float32) -> Any:
        return {"gain": np.ones(shape[1], dtype)}

    def apply(self, params: Any, x: Any, *, train: bool = False, key: Any = None) -> Any:
        return params["gain"][:, None, None] * x

    def vjp(self, params: Any, x: Any, g: Any, *, train: bool = False, key: Any = None) -> Any:
        return {"gain": (g * x).sum(axis=(0, 2, 3))}, params["gain"][:, None, None] * g

    def out_shape(self, shape: Any) -> Any:
        return shape


@settings(max_examples=10, deadline=None)
@given(x=fst.arrays_like((2, 3, 4, 4)), key=fst.keys())
def test_gain(x: Any, key: Any) -> None:
    """Compare its gradient with differences, and check that nothing is mutated."""
    check_layer(Gain(), x, key=key)


if __name__ == "__main__":
    test_gain()
    net = fc.compose(fc.conv2d(4, 3), Gain(), fc.relu(), fc.flatten(), fc.linear(2))
    fc.summary(net, (1, 3, 8, 8))
