"""Compiled interpolation beside NumPy's, and large shuffles."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F
from fconv.engine import compiled
from fconv.functional import resampled
from fconv.testing import strategies as fst
from fconv.testing.purity import same_bits

needs_kernels = pytest.mark.skipif(
    not compiled.wished() or compiled.problem() is not None, reason="nothing is compiled here"
)

CASES = {
    (2, 5, 7, 9): [
        {"scale_factor": 2}, {"scale_factor": 2, "mode": "bilinear"}, {"size": (3, 4)}, {"size": (1, 1)},
        {"size": (3, 20), "mode": "bilinear", "align_corners": True}, {"size": (7, 9), "mode": "bilinear"},
        {"scale_factor": (1.5, 1), "mode": "bicubic"}, {"size": (60, 60), "mode": "nearest-exact"},
        {"scale_factor": 45, "mode": "nearest"},
    ],
    (2, 33, 4, 40): [
        {"scale_factor": 2, "mode": "bilinear"}, {"scale_factor": 2}, {"size": (4, 7), "mode": "bilinear"},
    ],
    (2, 17, 1, 1): [{"scale_factor": 3, "mode": "bilinear"}, {"scale_factor": 3}],
    (2, 3, 9): [{"scale_factor": 2}, {"scale_factor": 1.7, "mode": "linear"}],
    (1, 3, 4, 5, 6): [{"scale_factor": 2}, {"size": (8, 5, 3), "mode": "trilinear"}],
    (0, 3, 4, 4): [{"scale_factor": 2}],
}  # fmt: skip


def _laid(x, layout):
    if layout == "channels_last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    return fst.laid_out(x, layout)


@needs_kernels
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["C", "channels_last", "F"])
@pytest.mark.parametrize("shape", CASES)
def test_interpolation_is_numpys(shape, layout, dtype):
    x = _laid(fc.random.normal(fc.random.key(0), shape, dtype), layout)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    for options in CASES[shape]:
        y, pull = F.interpolate.forward(x, **options)
        g = fc.random.normal(fc.random.key(1), y.shape, dtype)
        dx = pull(g)
        with patch.object(resampled, "formulas_serve", lambda *arrays: False):
            expected, exact = F.interpolate.forward(x, **options)
            wanted = exact(g)
        assert y.dtype == dx.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(
            dx, wanted, rtol=tolerance, atol=tolerance * max([1, *np.abs(wanted).ravel()])
        )
        if layout == "channels_last" and min(shape) > 1:
            assert np.moveaxis(y, 1, -1).flags.c_contiguous
        assert same_bits(pull(g), dx)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_a_gradient_that_is_not_finite_stays_where_it_is_read(mode):
    x = np.zeros((1, 1, 5, 5))
    y, pull = F.interpolate.forward(x, size=(7, 9), mode=mode)
    g = np.zeros_like(y)
    g[0, 0, 0, 0] = np.inf
    dx = pull(g)
    assert not np.isfinite(dx[0, 0, 0, 0])
    assert (dx[0, 0, 2:, 2:] == 0).all()


@needs_kernels
def test_threads_do_not_change_bits():
    x = fc.random.normal(fc.random.key(0), (4, 20, 40, 50), np.float32)
    before, results = fc.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            fc.set_num_threads(threads)
            y, pull = F.interpolate.forward(x, scale_factor=2, mode="bilinear")
            results.append((y, pull(y)))
    finally:
        fc.set_num_threads(before)
    for y, dx in results[1:]:
        assert same_bits(y, results[0][0])
        assert same_bits(dx, results[0][1])


@needs_kernels
def test_a_resampling_refuses_arrays_of_other_sizes():
    from fconv.engine.compiled.resample import run

    with pytest.raises(ValueError, match="a resampling got arrays of 12 and 13 elements"):
        run(np.zeros(12), np.zeros(13), None, None, (1, 3, 4, 1))
    y = np.zeros(12)
    run(np.arange(12.0), y, None, None, (1, 3, 4, 1))
    assert same_bits(y, np.arange(12.0))


@pytest.mark.parametrize("shape", [(1, 1, 16, 200, 200), (3, 16, 160, 160)])
def test_large_shuffles_are_their_definition(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    y = F.pixel_shuffle(x, 2)
    for i in range(2):
        for j in range(2):
            assert same_bits(y[..., i::2, j::2], x[..., 2 * i + j :: 4, :, :])
    assert same_bits(F.pixel_unshuffle(y, 2), x)
    assert same_bits(F.pixel_shuffle.vjp(y, x, 2), x)
    if x.ndim == 4:
        laid = _laid(x, "channels_last")
        assert same_bits(np.ascontiguousarray(F.pixel_shuffle(laid, 2)), y)
        assert np.moveaxis(F.pixel_shuffle(laid, 2), 1, -1).flags.c_contiguous
        assert np.moveaxis(F.pixel_unshuffle(_laid(y, "channels_last"), 2), 1, -1).flags.c_contiguous
