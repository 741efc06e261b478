"""Strided input gradients whose phases are written in one pass: how often kernels are launched."""

import numpy as np
import pytest

from fconv import functional as F
from fconv.engine import compiled
from tests.convolutions import arrays

pytestmark = pytest.mark.skipif(compiled.problem() is not None, reason=str(compiled.problem()))


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "options"),
    [
        ((2, 40, 14, 12), (36, 40, 3, 3), {"stride": 2, "padding": 1}),
        ((2, 40, 12, 15), (36, 40, 4, 5), {"stride": (2, 3), "padding": 2}),
        ((2, 80, 14, 12), (72, 40, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ],
    ids=str,
)
def test_phases_of_as_many_positions_take_one_launch(monkeypatch, x_shape, weight_shape, options):
    from fconv.engine.compiled.pool import Pool

    x, weight = arrays(x_shape, weight_shape)
    g = np.ones_like(F.conv2d(x, weight, **options))
    first = F.conv2d_vjp(g, x, weight, wrt="x", **options)[0]
    launches, usual = [], Pool.run

    def counted(self, launch, *given):
        launches.append(launch)
        usual(self, launch, *given)

    monkeypatch.setattr(Pool, "run", counted)
    again = F.conv2d_vjp(g, x, weight, wrt="x", **options)[0]
    assert len(launches) == 1
    np.testing.assert_array_equal(again, first)
