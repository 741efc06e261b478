"""Weights that never change, of which engines keep what they make: the same bits, and nothing stale."""

import gc
import weakref

import numpy as np
import pytest

import fconv as fc
import fconv.functional as F
from fconv.engine import compiled
from fconv.engine.constants import MOST, Constant, constant, constant_of
from tests.convolutions import channels_last
from tests.guarded import guarded, guarding

# Direct, with and without strides; dot products; planes; depthwise; Winograd's; heavy filters; few positions.
CASES = [
    ((2, 16, 9, 9), (24, 16, 3, 3), {}),
    ((2, 16, 19, 9), (24, 16, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 64, 9, 9), (3, 64, 3, 3), {"padding": 1}),
    ((2, 2, 40, 40), (3, 2, 5, 5), {"padding": 1}),
    ((2, 32, 9, 9), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    ((2, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
    ((1, 256, 7, 7), (256, 256, 3, 3), {"padding": 1}),
    ((1, 256, 14, 14), (288, 256, 3, 3), {"padding": 1}),
    ((3, 480, 7, 7), (96, 480, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 256, 5, 5), (200, 256, 9, 7), {"padding": (4, 3)}),
    ((1, 300, 3, 3), (200, 300, 3, 3), {}),
    ((2, 8, 6, 9, 9), (16, 8, 3, 3, 3), {"padding": 1}),
    ((2, 128, 28, 28), (128, 64, 3, 3), {"padding": 1, "groups": 2}),
    ((4, 24, 50), (40, 24, 5), {"dilation": 2}),
    ((2, 40, 8, 8), (200, 40, 1, 1), {}),
    ((2, 64, 8, 8), (64, 64, 1, 1), {}),
    ((1, 48, 9), (48, 24, 1), {"groups": 2}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_constant_weights_give_the_bits_of_others(case, dtype):
    x_shape, weight_shape, options = CASES[case]
    rng = np.random.default_rng(case)
    x, weight, bias = (
        rng.standard_normal(s).astype(dtype) for s in (x_shape, weight_shape, weight_shape[:1])
    )
    function, vjp = getattr(F, f"conv{x.ndim - 2}d"), getattr(F, f"conv{x.ndim - 2}d_vjp")
    for given in (weight, channels_last(weight), np.asfortranarray(weight)):
        fixed = constant(given)
        for xs in (x, channels_last(x), x[:1], x):
            expected = function(xs, given, bias, **options)
            for _ in range(2):
                np.testing.assert_array_equal(function(xs, fixed, bias, **options), expected)
            found, other = (vjp(expected, xs, w, bias, **options) for w in (fixed, given))
            for ours, theirs in zip(found, other, strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (1,), (4,)])
def test_one_weight_goes_both_ways(kernel):
    """A transposed convolution reads filters as the gradient of the input does."""
    rng, ndim = np.random.default_rng(0), len(kernel)
    forward, back = getattr(F, f"conv{ndim}d"), getattr(F, f"conv_transpose{ndim}d")
    for outer, inner in ((40, 40), (72, 40), (24, 64)):
        weight = constant(rng.standard_normal((outer, inner, *kernel)).astype(np.float32))
        x, g = (rng.standard_normal((2, c, *[9] * ndim)).astype(np.float32) for c in (inner, outer))
        for _ in range(3):
            np.testing.assert_array_equal(back(g, weight), back(g, weight.copy()))
            np.testing.assert_array_equal(forward(x, weight), forward(x, weight.copy()))


def test_one_weight_in_several_groupings_is_laid_out_for_each():
    rng = np.random.default_rng(0)
    weight = constant(rng.standard_normal((48, 24, 3, 3)).astype(np.float32))
    for _ in range(2):
        for groups in (1, 2, 3, 4):
            x = rng.standard_normal((2, 24 * groups, 9, 9)).astype(np.float32)
            expected = F.conv2d(x, weight.copy(), groups=groups)
            np.testing.assert_array_equal(F.conv2d(x, weight, groups=groups), expected)


def test_what_is_written_to_is_no_constant():
    x, weight = np.ones((1, 16, 8, 8), np.float32), constant(np.ones((16, 16, 3, 3), np.float32))
    assert F.conv2d(x, weight).max() == 144
    with pytest.raises(ValueError, match="read-only"):
        weight[:] = 2
    weight.flags.writeable = True
    weight[:] = 2
    assert constant_of(weight) is None
    assert F.conv2d(x, weight).max() == 288
    weight.flags.writeable = False
    assert F.conv2d(x, weight).max() == 288


def test_an_array_in_the_memory_of_one_that_is_gone_is_another():
    x = np.ones((1, 16, 8, 8), np.float32)
    for value in range(50):
        weight = constant(np.full((16, 16, 3, 3), value, np.float32))
        assert F.conv2d(x, weight).max() == 144 * value
        assert F.conv2d(x, weight[::-1]).max() == 144 * value
        del weight


class Thing:
    """An object that may be kept, and be seen to be gone."""


def test_what_is_kept_is_bounded_and_ends_with_the_array():
    array = constant(np.zeros(3))
    kept = constant_of(array)
    made = [kept.get(i, Thing) for i in range(MOST)]
    assert all(kept.get(i, Thing) is made[i] for i in range(MOST))
    kept.get(MOST, Thing)
    assert all(kept.get(i, Thing) is made[i] for i in range(1, MOST))
    assert kept.get(0, Thing) is not made[0]
    gone = weakref.ref(kept.get(0, Thing))
    del array, kept, made
    gc.collect()
    assert gone() is None


def test_filters_are_laid_out_once(monkeypatch):
    made, get = [], Constant.get
    monkeypatch.setattr(
        Constant, "get", lambda kept, key, make: get(kept, key, lambda: (made.append(key), make())[1])
    )
    for x_shape, weight_shape, options in (CASES[0], CASES[5], CASES[6], CASES[7]):
        x, weight = np.ones(x_shape, np.float32), constant(np.ones(weight_shape, np.float32))
        made.clear()
        for xs in (x, x, channels_last(x), x):
            F.conv2d(xs, weight, **options)
        assert len(made) == (1 if compiled.wished() else 0)


@pytest.mark.skipif(not compiled.wished(), reason="nothing is compiled")
@pytest.mark.parametrize("case", range(len(CASES)))
def test_what_is_made_of_constants_touches_nothing_outside(case):
    x_shape, weight_shape, options = CASES[case]
    rng = np.random.default_rng(case)
    x, weight = (rng.integers(-2, 3, s).astype(np.float32) for s in (x_shape, weight_shape))
    function = getattr(F, f"conv{x.ndim - 2}d")
    expected = function(x, weight, **options, algorithm="direct")
    with guarding("compiled"):
        fixed = constant(weight)
        for _ in range(2):
            found = function(guarded(x, range(x.ndim), behind=True), fixed, **options, algorithm="direct")
            np.testing.assert_array_equal(found, expected)
        found = function(x, fixed, **options)
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)


def test_networks_for_inference_hold_constants_and_leave_parameters_alone():
    net = fc.compose(fc.conv2d(8, 3), fc.relu(), fc.conv2d(8, 3), fc.batch_norm(), fc.flatten(), fc.linear(3))
    x = fc.random.normal(fc.random.key(1), (2, 4, 9, 9), np.float32)
    params = net.init(fc.random.key(0), x.shape)
    lean, its = fc.for_inference(net, params)
    weights = [part["weight"] for part in its.values() if isinstance(part, dict) and "weight" in part]
    assert [constant_of(weight) is not None for weight in weights] == [True, True, False]
    assert params[0]["weight"].flags.writeable
    np.testing.assert_array_equal(its["0"]["weight"], params[0]["weight"])
    for _ in range(2):
        np.testing.assert_allclose(lean.apply(its, x), net.apply(params, x), rtol=1e-5, atol=1e-5)
