"""Compiled sweeps over segments beside the NumPy functions that they stand for."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F
from fconv.engine import compiled
from fconv.engine.sweeps import Layout, Program, Sweep
from fconv.functional import norm_sweeps, segments
from fconv.testing import strategies as fst
from fconv.testing.purity import same_bits

pytestmark = pytest.mark.skipif(
    not compiled.wished() or compiled.problem() is not None, reason="nothing is compiled here"
)

KEY = fc.random.key(0)
SHAPES = [(4, 6, 5, 7), (2, 8, 16, 16), (1, 4, 3, 3), (5, 32, 2, 2), (2, 1, 4, 4), (3, 2, 1, 40)]
LAYOUTS = ["C", "F", "channels_last"]
DTYPES = [np.float32, np.float64]


def _drawn(seed, *shape, dtype):
    return fc.random.normal(fc.random.key(seed), shape, dtype)


@contextmanager
def _numpy():
    with (
        patch.object(segments, "formulas_serve", lambda *arrays: False),
        patch.object(norm_sweeps, "formulas_serve", lambda *arrays: False),
    ):
        yield


def _agree(function, g_seed, x, *args, **options):
    """Compare value and gradients with NumPy's, of float64 where the array is float32."""
    wide = x.astype(np.float64)
    given = [
        np.asarray(a, np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args
    ]
    y, pull = function.forward(x, *args, **options)
    with _numpy():
        expected, exact = function.forward(wide, *given, **options)
    g = _drawn(g_seed, *np.shape(y), dtype=x.dtype)
    tolerance = 2e-5 if x.dtype == np.float32 else 1e-12
    found, wanted = pull(g), exact(g.astype(np.float64))
    for a, b in zip((y, *_tuple(found)), (expected, *_tuple(wanted)), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == x.dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))
    assert same_bits(pull(g)[0] if isinstance(found, tuple) else pull(g), _tuple(found)[0])
    return y, _tuple(found)[0]


def _tuple(grads):
    return grads if isinstance(grads, tuple) else (grads,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
def test_softmax_along_any_axis(name, shape, layout, dtype):
    x = fst.laid_out(3 * _drawn(1, *shape, dtype=dtype), layout)
    for dim in range(4):
        y, dx = _agree(getattr(F, name), dim, x, dim)
        if layout == "C":
            assert y.flags.c_contiguous
            assert dx.flags.c_contiguous


@pytest.mark.parametrize("dtype", DTYPES)
def test_as_many_features_as_samples_in_any_memory_order(dtype):
    """Rows that lie across memory are as many as the parameters, which belong to the other axis."""
    x, w, b = _drawn(0, 5, 5, dtype=dtype), _drawn(1, 5, dtype=dtype), _drawn(2, 5, dtype=dtype)
    for layout in LAYOUTS[:2]:
        _agree(F.layer_norm, 3, fst.laid_out(x, layout), (5,), w, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_norms_in_any_memory_order(shape, layout, dtype):
    x = fst.laid_out(_drawn(1, *shape, dtype=dtype) + 3, layout)
    weight, bias = (_drawn(i, shape[1], dtype=dtype) for i in (2, 3))
    for sizes in (shape[1:], shape[2:], shape[3:]):
        if np.prod(sizes) == 1:
            continue
        scale, shift = (_drawn(i, *sizes, dtype=dtype) for i in (2, 3))
        for scales in ((None, None), (scale, None), (None, shift), (scale, shift)):
            _agree(F.layer_norm, 4, x, sizes, *scales)
        _agree(F.rms_norm, 5, x, sizes, _drawn(2, *sizes, dtype=dtype), eps=0.1)
    for affine in ((None, None), (weight, None), (weight, bias)):
        _agree(F.instance_norm, 6, x, None, None, *affine)
        for groups in {1, 2, shape[1]} if shape[1] % 2 == 0 else {1}:
            _agree(F.group_norm, 7, x, groups, *affine)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(4, 6, 5, 7), (64, 10), (7,), (3, 1, 4), (2, 40, 3), (1, 5), (0, 3), (2, 3, 0)]
)
def test_cross_entropy_of_class_numbers(shape, dtype):
    axis = 0 if len(shape) == 1 else 1
    left = shape[:axis] + shape[axis + 1 :]
    target = np.asarray(np.random.default_rng(0).integers(0, shape[axis], left))
    if target.ndim and target.size:
        target[..., 0] = -100
    weight = np.abs(_drawn(2, shape[axis], dtype=dtype))
    x = 3 * _drawn(1, *shape, dtype=dtype)
    for layout in LAYOUTS if len(shape) == 4 else ("C", "F"):
        for reduction in ("mean", "sum", "none"):
            for scales in (None, weight):
                with np.errstate(all="ignore"):
                    found = _agree_loss(fst.laid_out(x, layout), target, scales, reduction)
                assert np.shape(found) == (left if reduction == "none" else ())


def _agree_loss(x, target, weight, reduction):
    y, pull = F.cross_entropy.forward(x, target, weight, reduction=reduction)
    with _numpy():
        expected, exact = F.cross_entropy.forward(x, target, weight, reduction=reduction)
    g = _drawn(3, *np.shape(y), dtype=x.dtype)
    tolerance = 1e-5 if x.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(pull(g)[0], exact(g)[0], rtol=tolerance, atol=tolerance)
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65])
def test_segments_of_few_vectors_of_any_length(length, dtype):
    x, scale, shift = _drawn(1, 301, length, dtype=dtype), *(_drawn(i, length, dtype=dtype) for i in (2, 3))
    _agree(F.layer_norm, 4, x, (length,), scale, shift)
    _agree(F.rms_norm, 5, x, (length,), scale, eps=0.1)
    for function in (F.softmax, F.log_softmax):
        _agree(function, 6, x, 1)
    _agree_loss(x, np.random.default_rng(0).integers(0, length, 301), None, "mean")


def test_infinities_and_nan_are_numpys():
    x = np.zeros((6, 40), np.float32)
    x[0], x[1, 3], x[2, 5], x[3, 7], x[4] = -np.inf, np.inf, np.nan, -np.inf, 1e30
    g = np.ones_like(x)
    target = np.full(6, 7)
    for function, args in (
        (F.softmax, (1,)),
        (F.log_softmax, (1,)),
        (F.softmin, (1,)),
        (F.cross_entropy, (target,)),
    ):
        y, pull = function.forward(x, *args, **({"reduction": "none"} if function is F.cross_entropy else {}))
        with _numpy(), np.errstate(all="ignore"):
            expected, exact = function.forward(
                x, *args, **({"reduction": "none"} if function is F.cross_entropy else {})
            )
            wanted = _tuple(exact(g if y.ndim == 2 else g[:, 0]))[0]
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            _tuple(pull(g if y.ndim == 2 else g[:, 0]))[0], wanted, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "group_norm", "instance_norm", "cross_entropy"])
def test_threads_do_not_change_bits(name):
    x = _drawn(1, 24, 32, 40, 40, dtype=np.float32)
    weight = {"layer_norm": _drawn(2, 40, dtype=np.float32)}.get(name, _drawn(2, 32, dtype=np.float32))
    args = {
        "softmax": (1,),
        "layer_norm": ((40,), weight, weight),
        "group_norm": (8, weight, weight),
        "instance_norm": (None, None, weight, weight),
        "cross_entropy": (np.zeros((24, 40, 40), np.int64),),
    }[name]
    function, results = getattr(F, name), []
    before = fc.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fc.set_num_threads(threads)
            y, pull = function.forward(x, *args)
            results.append([y, *_tuple(pull(np.ones_like(y)))])
    finally:
        fc.set_num_threads(before)
    for others in results[1:]:
        assert all(a is b is None or same_bits(a, b) for a, b in zip(results[0], others, strict=True))


def test_parameters_gradients_alone_are_the_same():
    x = _drawn(1, 300, 24, dtype=np.float32)
    weight, bias, g = (_drawn(i, *s, dtype=np.float32) for i, s in enumerate([(24,), (24,), (300, 24)], 2))
    whole = F.layer_norm.vjp(g, x, (24,), weight, bias)
    alone = F.layer_norm.vjp(g, x, (24,), weight, bias, wrt=("weight", "bias"))
    assert alone[0] is None
    assert same_bits(whole[1], alone[1])
    assert same_bits(whole[2], alone[2])


def test_a_pullback_serves_several_gradients():
    x, weight = _drawn(1, 50, 24, dtype=np.float64), _drawn(2, 24, dtype=np.float64)
    _, pull = F.layer_norm.forward(x, (24,), weight)
    first, second = (_drawn(i, 50, 24, dtype=np.float64) for i in (3, 4))
    expected = F.layer_norm.vjp(second, x, (24,), weight)[1]
    pull(first)
    assert same_bits(pull(second)[1], expected)
    assert same_bits(pull(second, "weight")[1], expected)


def test_a_program_refuses_arrays_of_other_sizes():
    from fconv.engine.compiled.segments import run

    copy = Program((Sweep("write", lambda x: x),))
    with pytest.raises(ValueError, match=r"a program got arrays of \[6, 6\] elements"):
        run(copy, Layout(2, 1, 4), [np.zeros(6)], outputs=[np.zeros(6)])
    y = np.zeros(8)
    run(copy, Layout(2, 1, 4), [np.arange(8.0)], outputs=[y])
    assert same_bits(y, np.arange(8.0))
