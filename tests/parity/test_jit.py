"""The loops that Numba compiles give what NumPy and PyTorch give; the plain test run has no Numba."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fconv as fc
import fconv.functional as F
from fconv.conv import compiled, depthwise


def drawn(shape, seed, dtype=np.float64):
    return fc.random.normal(fc.random.key(seed), shape, dtype)


def in_order(x, last):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x


@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 2), st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.booleans(), st.booleans(),
)  # fmt: skip
def test_depthwise_is_pytorchs(n, channels, times, kernel, stride, padding, dilation, last, bias):
    assert compiled.depthwise() is not None
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


def test_numpy_takes_over_on_request(monkeypatch):
    x, weight = drawn((2, 8, 20, 20), 0, np.float32), drawn((8, 1, 3, 3), 1, np.float32)
    g = drawn((2, 8, 18, 18), 2, np.float32)
    found = F.conv2d(x, weight, groups=8), *F.conv2d_vjp(g, x, weight, groups=8)[:2]
    monkeypatch.setenv("FCONV_JIT", "0")
    assert compiled.depthwise() is None
    plain = F.conv2d(x, weight, groups=8), *F.conv2d_vjp(g, x, weight, groups=8)[:2]
    for a, b in zip(found, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    monkeypatch.setenv("FCONV_JIT", "yes")
    with pytest.raises(ValueError, match="FCONV_JIT: expected 0 or 1, got 'yes'"):
        F.conv2d(x, weight, groups=8)


def test_the_same_bits_with_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(depthwise, "_COMPILED_TILE_BYTES", 4096)
    x, weight = drawn((4, 24, 30, 30), 0, np.float32), drawn((24, 1, 3, 3), 1, np.float32)
    before, results = fc.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            fc.set_num_threads(n)
            y = F.conv2d(x, weight, padding=1, groups=24)
            results.append((y, *F.conv2d_vjp(y, x, weight, padding=1, groups=24)[:2]))
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
    loops = compiled._depthwise.__wrapped__()
    out = np.empty((1, 2, 2, 1))
    loops.correlate(np.ones((1, 3, 3, 1)), np.ones((2, 2, 1)), np.zeros(1), out, (1, 1), (1, 1))
    np.testing.assert_array_equal(out, 4)
