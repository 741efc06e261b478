"""Norms: far-off values, degenerate inputs, memory order, half precision."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F
from fconv.testing import strategies as fst

KEY = fc.random.key(0)
NORMS = {
    "batch_norm": {"training": True},
    "instance_norm": {},
    "layer_norm": {"normalized_shape": (32, 32)},
    "group_norm": {"num_groups": 2},
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("layout", ["C", "channels_last"])
def test_far_off_values_in_float32(name, layout):
    x = fc.random.normal(KEY, (8, 4, 32, 32), np.float32) + np.float32(1e4)
    g = fst.laid_out(fc.random.normal(fc.random.key(1), x.shape, np.float32), layout)
    y, pullback = getattr(F, name).forward(fst.laid_out(x, layout), **NORMS[name])
    exact, exact_pullback = getattr(F, name).forward(x.astype(np.float64), **NORMS[name])
    np.testing.assert_allclose(y, exact, atol=1e-5)
    np.testing.assert_allclose(pullback(g)[0], exact_pullback(g.astype(np.float64))[0], atol=1e-4)
    layer = {"group_norm": fc.group_norm(2), "layer_norm": fc.layer_norm(last_axes=2)}.get(
        name, getattr(fc, name)
    )
    layer = layer if isinstance(layer, fc.Layer) else layer()
    z, _, _ = layer.forward(layer.init(KEY, x.shape), x, train=True)
    np.testing.assert_allclose(z, exact, atol=1e-5)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("layout", ["C", "channels_last"])
def test_derivatives_by_scale_and_shift_of_far_off_values_in_float32(name, layout):
    x = fc.random.normal(KEY, (8, 4, 32, 32), np.float32) + np.float32(1e4)
    function, keys = getattr(F, name), fc.random.split(KEY, 6)
    shape = NORMS[name].get("normalized_shape", (4,))
    weight, bias, *moved = (fc.random.normal(key, shape, np.float32) for key in keys[:4])
    g, dx = (fc.random.normal(key, x.shape, np.float32) for key in keys[4:])
    found, exact = [], []
    for outcome, dtype in ((found, np.float32), (exact, np.float64)):
        x_, w, b, t, u, g_, dx_ = (a.astype(dtype) for a in (x, weight, bias, *moved, g, dx))
        x_, g_, dx_ = (fst.laid_out(a, layout) for a in (x_, g_, dx_))
        given = {**NORMS[name], "weight": w, "bias": b}
        outcome += [a for a in function.vjp(g_, x_, **given) if a is not None]
        for tangent in ({"weight": t}, {"bias": u}, {"weight": t, "bias": u}, {"x": dx_, "weight": t}):
            outcome.append(function.jvp([tangent.get(a) for a in function.arrays], x_, **given))
    for ours, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("name", NORMS)
def test_axes_may_lie_in_any_order_in_memory(name):
    function, keys = getattr(F, name), fc.random.split(KEY, 4)
    shape = (3, 4, 5, 6)
    options = {**NORMS[name], **({"normalized_shape": shape[2:]} if name == "layer_norm" else {})}
    of_params = options.get("normalized_shape", shape[1:2])
    x, g = (fc.random.normal(key, shape, np.float64) for key in keys[:2])
    options |= {
        name: fc.random.normal(key, of_params, np.float64)
        for name, key in zip(("weight", "bias"), keys[2:], strict=True)
    }
    y, grads = function(x, **options), function.vjp(g, x, **options)
    for order in permutations(range(4)):
        laid = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        np.testing.assert_allclose(function(laid, **options), y, 1e-11, 1e-13, err_msg=f"{order}")
        for a, b in zip(function.vjp(g, laid, **options), grads, strict=True):
            if b is not None:
                np.testing.assert_allclose(a, b, 1e-11, 1e-12, err_msg=f"{order}")


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (6, 6), (6, 1), (40, 4), (700, 7)])
@pytest.mark.parametrize("spatial", [(3,), (7, 5), (40, 30), (2, 3, 4)])
def test_channels_that_are_neighbours_give_the_same_norms(channels, groups, spatial):
    """Each sample has a mean of its own, far off; scale and shift are summed over all of them."""
    keys = fc.random.split(KEY, 5)
    shape = (3, channels, *spatial)
    x = fc.random.normal(keys[0], shape, np.float64)
    x += 100 * fc.random.normal(keys[1], (3, 1, *(1,) * len(spatial)), np.float64)
    g, weight, bias = (
        fc.random.normal(key, size, np.float64)
        for key, size in zip(keys[2:], (shape, (channels,), (channels,)), strict=True)
    )
    norms = [lambda x: F.group_norm.forward(x, groups, weight, bias)]
    if groups == channels:
        norms.append(lambda x: F.instance_norm.forward(x, None, None, weight, bias))
    for norm in norms:
        results = []
        for layout in ("C", "channels_last"):
            y, pullback = norm(fst.laid_out(x, layout))
            grads = pullback(fst.laid_out(g, layout))
            results.append([y, *(each for each in grads if each is not None)])
        for ours, other in zip(*results, strict=True):
            np.testing.assert_allclose(ours, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())


def test_rms_of_far_off_values_in_float32():
    x = fc.random.normal(KEY, (64, 1000), np.float32) + np.float32(1e4)
    np.testing.assert_allclose(F.rms_norm(x, (1000,)), F.rms_norm(x.astype(np.float64), (1000,)), rtol=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_half_precision_neither_overflows_nor_widens(name):
    x = 1000 * fc.random.normal(KEY, (4, 4, 32, 32), np.float32)
    options = NORMS[name]
    y, pullback = getattr(F, name).forward(x.astype(np.float16), **options)
    dx = pullback(y)[0]
    assert y.dtype == dx.dtype == np.float16
    np.testing.assert_allclose(y, getattr(F, name)(x, **options), atol=5e-3)
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("name", [*NORMS, "rms_norm", "local_response_norm", "normalize"])
def test_memory_order_is_kept(name):
    options = {**NORMS, "rms_norm": {"normalized_shape": (5,)}, "local_response_norm": {"size": 3}}
    options = options.get(name, {})
    if name == "layer_norm":
        options = {"normalized_shape": (4, 5)}
    x = fst.laid_out(fc.random.normal(KEY, (2, 6, 4, 5)), "channels_last")
    y, pullback = getattr(F, name).forward(x, **options)
    dx = pullback(x)
    assert y.strides == x.strides
    assert (dx[0] if isinstance(dx, tuple) else dx).strides == x.strides


def test_constant_and_infinite_inputs_raise_no_warning():
    x = np.ones((2, 4, 3))
    assert (F.layer_norm(x, (3,)) == 0).all()
    assert np.isnan(F.layer_norm(x, (3,), eps=0.0)).all()
    assert np.isnan(F.group_norm(x, 2, eps=-0.5)).all()
    x[0, 0, 0] = np.inf
    for y in (
        F.layer_norm(x, (3,)),
        F.rms_norm(x, (3,)),
        F.group_norm(x, 2),
        F.instance_norm(x),
        F.local_response_norm(x, 2),
        F.normalize(x),
    ):
        assert np.isnan(y).any()
    huge = np.full((1, 1, 2), 1e30, np.float32)
    assert (F.rms_norm(huge, (2,)) == 0).all()
    assert (F.normalize(huge, dim=2) == 0).all()
