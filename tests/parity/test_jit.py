"""The loops that Numba compiles give what NumPy and PyTorch give; the plain test run has no Numba."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fconv as fc
import fconv.functional as F
from fconv.conv import compiled, depthwise, depthwise_loops, engine, narrow, narrow_loops


def drawn(shape, seed, dtype=np.float64):
    return fc.random.normal(fc.random.key(seed), shape, dtype)


def in_order(x, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x


@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 2), st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.booleans(), st.booleans(),
)  # fmt: skip
def test_depthwise_is_pytorchs(n, channels, times, kernel, stride, padding, dilation, last, bias):
    assert depthwise_loops.loops() is not None
    x = in_order(drawn((n, channels, 11, 9), 0), last)
    weight, shift = drawn((channels * times, 1, *kernel), 1), drawn((channels * times,), 2) if bias else None
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": 1 if stride > 1 else dilation,
        "groups": channels,
    }
    twins = [None if a is None else torch.tensor(a, requires_grad=True) for a in (x, weight, shift)]
    expected = torch.nn.functional.conv2d(*twins, **options)
    y, pullback = F.conv2d.forward(x, weight, shift, **options)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    g = in_order(drawn(y.shape, 3), not last)
    expected.backward(torch.tensor(g))
    for found, twin in zip(pullback(g), twins, strict=True):
        if twin is not None:
            np.testing.assert_allclose(found, twin.grad.numpy(), rtol=1e-10, atol=1e-10)


@given(
    st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(0, 2), st.integers(1, 2), st.booleans(), st.booleans(), st.sampled_from([8, 2048]),
)  # fmt: skip
def test_few_channels_are_pytorchs(n, inner, outer, kernel, padding, dilation, last, bias, work):
    x = in_order(drawn((n, inner, 13, 11), 0), last)
    weight, shift = drawn((outer, inner, *kernel), 1), drawn((outer,), 2) if bias else None
    options = {"padding": padding, "dilation": dilation}
    twins = [None if a is None else torch.tensor(a, requires_grad=True) for a in (x, weight, shift)]
    expected = torch.nn.functional.conv2d(*twins, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(narrow, "_WORK", work)
        patch.setattr(narrow, "_TILE_WORK", 500 * work)
        y, pullback = F.conv2d.forward(x, weight, shift, **options, algorithm="narrow")
        g = in_order(drawn(y.shape, 3), not last)
        grads = pullback(g)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    expected.backward(torch.tensor(g))
    for found, twin in zip(grads, twins, strict=True):
        if twin is not None:
            np.testing.assert_allclose(found, twin.grad.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mean", [0, 100])
@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_few_channels_in_float32_are_near_float64(kernel, mean):
    x = drawn((64, 3, 30, 28), 0, np.float32) + np.float32(mean)
    weight = drawn((3, 3, kernel, kernel), 1, np.float32) / 10
    assert engine.algorithm_for(x.shape, weight.shape) == "narrow"
    g = drawn(F.conv2d(x, weight).shape, 2, np.float32)
    arrays = (x, weight), (x.astype(np.float64), weight.astype(np.float64))
    found, exact = ((F.conv2d(*a), *F.conv2d_vjp(g.astype(a[0].dtype), *a)[:2]) for a in arrays)
    for a, b in zip(found, exact, strict=True):
        assert np.linalg.norm((a - b).ravel()) < 1e-6 * np.linalg.norm(b.ravel())


def test_a_sum_over_many_positions_of_few_channels_keeps_its_digits():
    x = np.abs(drawn((2, 2, 512, 512), 0, np.float32)) + 1
    g = np.ones((2, 2, 510, 510), np.float32)
    weight = np.ones((2, 1, 3, 3), np.float32)
    found = F.conv2d_vjp(g, x, weight, groups=2, wrt="weight")[1]
    exact = F.conv2d_vjp(*(a.astype(np.float64) for a in (g, x, weight)), groups=2, wrt="weight")[1]
    np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_numpy_takes_over_on_request(monkeypatch):
    x, weight = drawn((2, 8, 20, 20), 0, np.float32), drawn((8, 1, 3, 3), 1, np.float32)
    g = drawn((2, 8, 18, 18), 2, np.float32)
    found = F.conv2d(x, weight, groups=8), *F.conv2d_vjp(g, x, weight, groups=8)[:2]
    monkeypatch.setenv("FCONV_JIT", "0")
    assert depthwise_loops.loops() is narrow_loops.loops() is None
    plain = F.conv2d(x, weight, groups=8), *F.conv2d_vjp(g, x, weight, groups=8)[:2]
    for a, b in zip(found, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    monkeypatch.setenv("FCONV_JIT", "yes")
    with pytest.raises(ValueError, match="FCONV_JIT: expected 0 or 1, got 'yes'"):
        F.conv2d(x, weight, groups=8)


@pytest.mark.parametrize("groups", [24, 8])
def test_the_same_bits_with_any_number_of_threads(monkeypatch, groups):
    monkeypatch.setattr(depthwise, "_COMPILED_TILE_BYTES", 4096)
    monkeypatch.setattr(narrow, "_TILE_WORK", 0)
    x, weight = drawn((4, 24, 30, 30), 0, np.float32), drawn((24, 24 // groups, 3, 3), 1, np.float32)
    assert (
        engine.algorithm_for(x.shape, weight.shape, groups=groups) == {24: "depthwise", 8: "narrow"}[groups]
    )
    before, results = fc.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            fc.set_num_threads(n)
            y = F.conv2d(x, weight, padding=1, groups=groups)
            results.append((y, *F.conv2d_vjp(y, x, weight, padding=1, groups=groups)[:2]))
    finally:
        fc.set_num_threads(before)
    for others in results[1:]:
        for a, b in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(a, b)


def test_numba_may_have_no_folder_to_write_to(monkeypatch):
    import numba

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda loops: loops

    monkeypatch.setattr(numba, "njit", njit)
    loops = compiled.built.__wrapped__(depthwise_loops.build)
    out = np.empty((1, 2, 2, 1))
    loops.correlate(np.ones((1, 3, 3, 1)), np.ones((2, 2, 1)), np.zeros(1), out, (0, 0), (1, 1), (1, 1))
    np.testing.assert_array_equal(out, 4)
