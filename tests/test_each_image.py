"""Gradients of a convolution's weight by each image alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fconv as fc
from fconv.engine import compiled, each, plans
from fconv.geometry import conv_geometry
from tests.test_per_example import drawn, norms_of

GEOMETRIES = {
    "plain": ((3, 5, 6, 7), (4, 5, 3, 2), 1, 1, 1, 1),
    "strided": ((3, 4, 9, 8), (20, 4, 3, 3), 2, 1, 1, 1),
    "dilated, grouped": ((3, 6, 8, 8), (4, 3, 3, 3), 1, 1, 2, 2),
    "depthwise": ((3, 6, 8, 8), (6, 1, 3, 3), 1, 1, 1, 6),
    "depthwise, doubled": ((3, 6, 8, 8), (12, 1, 3, 3), 1, 1, 1, 6),
    "many to few": ((3, 40, 5, 5), (3, 40, 3, 3), 1, 1, 1, 1),
    "line": ((3, 4, 9), (20, 4, 3), 2, 1, 1, 1),
    "deep": ((2, 2, 4, 4, 4), (3, 2, 2, 2, 2), 1, 1, 1, 1),
    "few positions": ((3, 128, 4, 3), (150, 64, 3, 3), 2, 1, 1, 2),
    "in several runs": ((5, 192, 3, 3), (256, 192, 3, 3), 1, 1, 1, 1),
    "larger than a box": ((2, 33, 40, 70), (17, 33, 3, 3), 1, 1, 1, 1),
}


@pytest.mark.parametrize("algorithm", ["auto", "reference"])
@pytest.mark.parametrize("wished", [True, False])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_weight_gradients_of_each_image(name, wished, algorithm, monkeypatch):
    monkeypatch.setattr(compiled, "wished", lambda: wished)
    x_shape, w_shape, *options = GEOMETRIES[name]
    geometry = conv_geometry("conv", len(x_shape) - 2, x_shape, w_shape, None, *options)
    x, g = (drawn(i, *shape).astype(np.float32) for i, shape in enumerate((x_shape, geometry.out_shape)))
    plan = plans.plan_of(x, geometry, algorithm)
    one = plans.plan_of(x, replace(geometry, batch=1), "reference")
    expected = np.stack([one.weight_gradient(g[i : i + 1], x[i : i + 1]) for i in range(len(x))])
    for laid in (x, fc.testing.strategies.laid_out(x, "channels_last")):
        found = each.weight_gradient(plan, geometry, g, laid)
        assert found.shape == (len(x), *w_shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())
        norms = each.weight_norm(plan, geometry, g, laid)
        assert norms.shape == (len(x), *(1 for _ in w_shape))
        np.testing.assert_allclose(norms.ravel(), norms_of([expected]), rtol=1e-5)
