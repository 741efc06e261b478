"""Batch normalisation and channel sums in many pieces: what the plain definition gives."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
import fconv.functional as F
from fconv.engine import compiled
from fconv.functional import channels, normalization
from fconv.functional.sums import accurate_sum

ORDERS = {
    "channels-first": lambda x: x,
    "channels-last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
}


@pytest.fixture(params=["numpy", "compiled"])
def by(request, monkeypatch):
    if request.param != "compiled":
        monkeypatch.setattr(channels, "formulas_serve", lambda *arrays: False)
    elif not compiled.wished() or compiled.problem() is not None:
        pytest.skip(f"no kernels: {compiled.problem()}")
    return request.param


def drawn(shape, seed, mean=0.0, dtype=np.float64):
    return fc.random.normal(fc.random.key(seed), shape, dtype) + dtype(mean)


def plain(monkeypatch):
    """Leave the pieces and the kernels alone: the definition that all norms share."""
    monkeypatch.setattr(channels, "formulas_serve", lambda *arrays: False)
    monkeypatch.setattr(channels, "layout_of", lambda x: None)
    monkeypatch.setattr(normalization, "passes_over", lambda x: None)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "shape",
    [
        (7, 5, 9, 8), (13, 3, 11), (301, 6), (2, 1, 70, 3), (1, 4, 33, 2), (5, 40, 3, 2),
        (11, 5, 80, 90), (2100, 40, 7), (60_001, 6), (3, 1, 700, 301),  # of several pieces
    ],
)  # fmt: skip
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_the_definition(by, shape, order, training, monkeypatch):
    x, g = ORDERS[order](drawn(shape, 0, 100.0)), drawn(shape, 1)
    running = () if training else (drawn((shape[1],), 2), drawn((shape[1],), 3) ** 2 + 1)
    affine = {"weight": drawn((shape[1],), 4), "bias": drawn((shape[1],), 5)}
    assert (channels.compiled_passes(x) is not None) == (by == "compiled")
    before = x.copy()
    found = []
    for step in (lambda: None, lambda: plain(monkeypatch)):
        step()
        y, pullback = F.batch_norm.forward(x, *running, **affine, training=training)
        found.append((y, *(grad for grad in pullback(g) if grad is not None)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.usefixtures("by")
def test_moments_and_sums_keep_digits_in_float32(order):
    x = ORDERS[order](drawn((370, 5, 32, 17), 0, 1e4, np.float32))
    x[110:] += np.float32(50)  # so that the pieces' means differ
    wide = x.astype(np.float64)
    mean, var = F.batch_moments(x)
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(var, wide.var(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(channels.sum_by_channel(x), accurate_sum(x, (0, 2, 3)), rtol=3e-7)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("by")
def test_moments_survive_what_stands_first(order, dtype):
    """An outlier costs no digits, a constant channel has no variance, and NaN and infinity stay in theirs."""
    x = drawn((9, 5, 12, 7), 0, 0.0, dtype)
    x[0, 0, 0, 0], x[:, 1], x[3, 2, 4, 4], x[2, 3, 1, 1] = 1e5, 0.1, np.nan, np.inf
    x = ORDERS[order](x)
    with np.errstate(all="ignore"):
        mean, var = F.batch_moments(x)
        wide = x.astype(np.float64)
        np.testing.assert_allclose(mean[[0, 1, 4]], wide.mean(axis=(0, 2, 3))[[0, 1, 4]], rtol=1e-6)
        np.testing.assert_allclose(var[[0, 4]], wide.var(axis=(0, 2, 3))[[0, 4]], rtol=1e-6)
        assert var[1] == 0.0
        assert np.isnan(mean[2])
        assert not np.isfinite(mean[3])
        y = F.batch_norm(x, training=True)
    assert np.isfinite(y[:, [0, 1, 4]]).all()
    assert np.isnan(y[:, 2]).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.usefixtures("by")
def test_the_same_bits_with_any_number_of_threads(order):
    x, g = (ORDERS[order](drawn((20, 3, 96, 96), seed, 0.0, np.float32)) for seed in (0, 1))
    threads, found = fc.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            fc.set_num_threads(n)
            y, pullback = F.batch_norm.forward(x, training=True)
            found.append((y, pullback(g)[0], channels.sum_by_channel(x)))
    finally:
        fc.set_num_threads(threads)
    for others in found[1:]:
        for a, b in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("order", ORDERS)
def test_gaps_in_memory_change_no_bit(order):
    x = ORDERS[order](drawn((4, 3, 6, 5), 0, 100.0))
    wide = ORDERS[order](np.zeros((8, 3, 6, 5)))
    gapped = wide[::2]
    gapped[...] = x
    if compiled.wished() and compiled.problem() is None:
        assert channels.compiled_passes(gapped) is not None
        np.testing.assert_array_equal(F.batch_norm(gapped, training=True), F.batch_norm(x, training=True))
    np.testing.assert_allclose(channels.sum_by_channel(gapped), channels.sum_by_channel(x), rtol=1e-14)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (8, 5, 60, 61)])
@pytest.mark.usefixtures("by")
def test_channels_with_gaps_and_at_odd_addresses_are_summed(shape, order):
    x = drawn(shape, 0, 3.0, np.float32)
    exact = x.astype(np.float64).sum(axis=(0, 2, 3))
    memory = np.zeros(x.nbytes + 1, np.uint8)
    odd = memory[1:].view(np.float32).reshape(shape)
    odd[...] = x
    for each in (
        ORDERS[order](np.repeat(x, 2, axis=0))[::2],
        ORDERS[order](np.repeat(x, 2, axis=3))[..., ::2],
        odd,
    ):
        np.testing.assert_allclose(channels.sum_by_channel(each), exact, rtol=1e-6)
