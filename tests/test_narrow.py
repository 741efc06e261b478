"""The compiled loops of few channels: as they are written, for there may be no Numba to compile them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import fconv as fc
import fconv.functional as F
from fconv.conv import choosing, definition, engine, narrow, narrow_loops, tiles
from tests.test_engine import close, convolutions


@pytest.fixture
def uncompiled(monkeypatch):
    """Take the loops as Python runs them, on tiles and pieces as small as they may be."""
    plain = narrow_loops.build(lambda loops, **_: loops)
    monkeypatch.setattr(narrow_loops, "loops", lambda: plain)
    monkeypatch.setattr(narrow, "_TILE_WORK", 0)
    monkeypatch.setattr(narrow, "_WORK", 8)


def small(geometry):
    return geometry.batch * np.prod(geometry.out_shape[1:]) * np.prod(geometry.weight_shape[1:]) < 4000


@pytest.mark.usefixtures("uncompiled")
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
)
@given(convolutions())
def test_the_loops_are_the_definition(case):
    geometry, x, weight, g = case
    assume(geometry.windows.ndim == 2)
    assume(choosing.problem("narrow", x.dtype, geometry) is None)
    assume(small(geometry))
    before = [a.copy() for a in (x, weight, g)]
    close(engine.convolve(x, weight, geometry, None, "narrow"), definition.convolve(x, weight, geometry))
    found = engine.input_gradient(g, weight, geometry, "narrow")
    close(found, definition.input_gradient(g, weight, geometry))
    found = engine.weight_gradient(g, x, geometry, "narrow")
    close(found, definition.weight_gradient(g, x, geometry))
    for array, old in zip((x, weight, g), before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("kernel", [3, 5, (2, 3)])
def test_a_bias_and_an_infinity_stay_in_their_places(kernel):
    x = fc.random.normal(fc.random.key(0), (2, 2, 7, 6), np.float64)
    x[1, 0, 3, 2] = np.inf
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    weight = fc.random.normal(fc.random.key(1), (3, 2, *sides), np.float64)
    bias = np.arange(3.0)
    with np.errstate(invalid="ignore"):
        y = F.conv2d(x, weight, bias, padding=1, algorithm="narrow")
        expected = F.conv2d(x, weight, bias, padding=1, algorithm="einsum")
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
        # Only the windows that see it are infinite, and it meets no zero that the loops put there.
        g = np.zeros_like(y)
        g[:, :, 0] = g[:, :, -1] = 1.0
        slopes = (
            F.conv2d_vjp(g, x, weight, padding=1, algorithm=name, wrt="weight")[1]
            for name in ("narrow", "direct")
        )
        np.testing.assert_allclose(*slopes, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("uncompiled")
def test_the_table_takes_them_for_few_channels_on_both_sides():
    def chosen(x_shape, weight_shape, **options):
        return engine.algorithm_for(x_shape, weight_shape, **options)

    assert chosen((4, 3, 20, 20), (3, 3, 3, 3)) == "narrow"
    assert chosen((4, 3, 20, 20), (3, 3, 3, 3), dtype=np.float64) == "narrow"
    assert chosen((4, 32, 20, 20), (3, 32, 3, 3)) == "narrow"
    assert chosen((4, 3, 20, 20), (3, 3, 3, 3), stride=2) == "planar"
    assert chosen((4, 3, 20, 20), (16, 3, 3, 3)) == "planar"
    assert chosen((4, 3, 20, 20), (3, 3, 1, 1)) == "planar"
    assert chosen((4, 64, 20, 20), (4, 64, 3, 3)) == "adding"
    assert chosen((4, 3, 20), (3, 3, 3)) == "planar"
    assert chosen((4, 3, 20, 20), (3, 1, 3, 3), groups=3) == "depthwise"


def test_what_they_cannot_serve_is_refused(monkeypatch):
    x, weight = np.ones((1, 3, 9, 9)), np.ones((3, 3, 3, 3))
    monkeypatch.setattr(narrow_loops, "loops", lambda: None)
    with pytest.raises(ValueError, match=r"conv2d: algorithm \"narrow\" needs Numba \(pip install"):
        F.conv2d(x, weight, algorithm="narrow")
    assert engine.algorithm_for(x.shape, weight.shape) == "planar"
    with pytest.raises(ValueError, match=r"needs stride 1, got \(2, 2\)"):
        F.conv2d(x, weight, stride=2, dilation=2, algorithm="narrow")
    with pytest.raises(ValueError, match="needs two axes, got 1"):
        F.conv1d(np.ones((1, 3, 9)), weight[0], algorithm="narrow")


@pytest.mark.usefixtures("uncompiled")
def test_shapes_that_do_not_fit_never_reach_the_loops():
    at = tiles.Correlation((5, 5), (3, 3), (3, 3), (1, 1), (1, 1), (0, 0))
    with pytest.raises(ValueError, match=r"narrow: got \(1, 5, 5, 2\) and \(1, 4, 3, 1\)"):
        narrow.correlate(np.ones((1, 5, 5, 2)), np.ones((1, 2, 3, 3)), at, np.ones((1, 4, 3, 1)))
    with pytest.raises(ValueError, match="narrow: got"):
        narrow.filter_gradient(np.ones((2, 3, 3, 1)), np.ones((1, 5, 5, 2)), at)
