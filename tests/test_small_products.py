"""Products of few elements, which NumPy multiplies in pieces on the calling thread; losses of few labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import fconv as fc
from fconv import functional as F

SIZES = [
    (1, 1, 1), (1, 400, 120), (9, 1, 4), (5, 300, 1), (1, 1, 7), (8, 400, 120), (3, 700, 180), (32, 784, 128),
    (17, 1024, 100), (64, 4096, 1), (1, 4096, 30), (4096, 3, 40), (7, 362, 362), (40, 362, 363), (2, 600, 60),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("size", SIZES)
def test_linear_is_the_product(size, layout, dtype):
    n, inner, outer = size
    draw = np.random.default_rng(n + inner)

    def made(*shape):
        x = draw.normal(size=shape).astype(dtype)
        return x if layout == "contiguous" else np.asfortranarray(x)

    x, weight, bias, g = made(n, inner), made(outer, inner), made(outer), made(n, outer)
    y, pull = F.linear.forward(x, weight, bias)
    dx, dweight, dbias = pull(g)
    wide, by, back = (a.astype(np.float64) for a in (x, weight, g))
    bound = 1e-6 if dtype == np.float32 else 1e-14
    for got, want in (
        (y, wide @ by.T + bias), (dx, back @ by), (dweight, back.T @ wide), (dbias, back.sum(axis=0)),
    ):  # fmt: skip
        assert got.dtype == dtype
        assert np.linalg.norm(got - want) <= bound * (1 + np.linalg.norm(want))


@pytest.mark.parametrize("size", SIZES)
def test_the_bits_are_those_of_any_number_of_threads(size):
    n, inner, outer = size
    draw = np.random.default_rng(n + inner)
    x, weight, g = (draw.normal(size=s).astype(np.float32) for s in ((n, inner), (outer, inner), (n, outer)))
    found, before = [], fc.get_num_threads()
    try:
        for threads in (1, 2, 5):
            fc.set_num_threads(threads)
            with threadpool_limits(threads, "blas"):
                found.append((F.linear(x, weight), *F.linear_vjp(g, x, weight)[:2]))
    finally:
        fc.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@given(
    st.integers(1, 6), st.integers(1, 8), st.lists(st.integers(1, 4), max_size=2),
    st.sampled_from(["mean", "sum", "none"]), st.booleans(), st.integers(0, 2**20),
)  # fmt: skip
def test_few_labels_lose_what_many_do(n, classes, rest, reduction, alone, seed):
    """A batch of few elements takes another way than the same samples many times over."""
    draw = np.random.default_rng(seed)
    x = draw.normal(0, 5, (n, classes, *rest)).astype(np.float32)
    target = draw.integers(0, classes, (n, *rest))
    many, back = F.cross_entropy.forward(
        np.tile(x, (3000, *[1] * (x.ndim - 1))), np.tile(target, (3000, *[1] * (target.ndim - 1))),
        reduction="none",
    )  # fmt: skip
    wanted = many[:n]
    if alone and not rest:
        x, target, wanted = x[0], target[0], wanted[0]
    few, pull = F.cross_entropy.forward(x, target, reduction=reduction)
    reduced = {"mean": wanted.mean(), "sum": wanted.sum(), "none": wanted}[reduction]
    np.testing.assert_allclose(few, reduced, rtol=1e-5, atol=1e-5)
    each = 2 / wanted.size if reduction == "mean" else 2
    dx = back(np.full_like(many, each))[0].ravel()[: x.size].reshape(x.shape)
    np.testing.assert_allclose(pull(np.full_like(few, 2))[0], dx, rtol=1e-5, atol=1e-6)


def test_few_labels_keep_infinities_and_nan():
    x = np.array([[0.0, -np.inf, 1.0], [np.inf, 0.0, 0.0], [np.nan, 0.0, 0.0], [-np.inf] * 3], np.float32)
    target = np.array([1, 0, 1, 2])
    with np.errstate(all="raise"):
        few, pull = F.cross_entropy.forward(x, target, reduction="none")
        dx = pull(np.ones_like(few))[0]
    many, back = F.cross_entropy.forward(np.tile(x, (3000, 1)), np.tile(target, 3000), reduction="none")
    np.testing.assert_array_equal(few, many[:4])
    np.testing.assert_allclose(dx, back(np.ones_like(many))[0][:4], rtol=1e-6)
