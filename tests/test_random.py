"""Keys and draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fconv import initializers, random
from fconv.testing import strategies as fst

RECORDED = {
    "split": [2441417102155951742, 15965382264027906161],
    "fold_in": [16581834872154771394, 17381288597843418355],
    "uniform": [0.30228471755981445, 0.820198118686676, 0.3624339699745178],
    "normal": [1.2481474051903898, -0.5107772502832513, -1.3689148135282279],
    "bernoulli": [True, False, True, True, False, False, True, True],
    "permutation": [1, 4, 3, 5, 0, 2],
}


def test_numbers_are_these_on_every_machine():
    """Recorded once: a change of them would change every seeded run of every user."""
    key = random.key(42)
    np.testing.assert_array_equal(random.split(key)[0], np.array(RECORDED["split"], np.uint64))
    np.testing.assert_array_equal(random.fold_in(key, 7), np.array(RECORDED["fold_in"], np.uint64))
    np.testing.assert_array_equal(random.uniform(key, (3,)), np.array(RECORDED["uniform"], np.float32))
    np.testing.assert_allclose(random.normal(key, (3,), np.float64), RECORDED["normal"], rtol=1e-14)
    assert random.bernoulli(key, 0.5, (8,)).tolist() == RECORDED["bernoulli"]
    assert random.permutation(key, 6).tolist() == RECORDED["permutation"]


@given(key=fst.keys(), n=st.integers(0, 20))
def test_split_keys_are_distinct_and_do_not_depend_on_their_number(key, n):
    keys = random.split(key, n)
    assert keys.shape == (n, 2)
    assert len({tuple(k) for k in keys.tolist()}) == n
    np.testing.assert_array_equal(random.split(key, n + 3)[:n], keys)


def test_streams_for_drawing_splitting_and_folding_do_not_meet():
    key = random.key(0)
    drawn = random._words("test", key, 4096, random._DRAW)
    split = random.split(key, 2048).ravel()
    folded = np.concatenate([random.fold_in(key, i) for i in range(2048)])
    assert len(set(drawn.tolist()) | set(split.tolist()) | set(folded.tolist())) == 3 * 4096


@given(key=fst.keys(), dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_uniform_stays_inside_its_interval(key, dtype):
    x = random.uniform(key, (50, 3), dtype, -0.3, 0.7)
    assert x.dtype == dtype
    assert x.shape == (50, 3)
    assert (x >= dtype(-0.3)).all()
    assert (x < dtype(0.7)).all()
    y = random.uniform(key, (1000,), dtype, 1.0, 1.0 + float(np.finfo(dtype).eps))
    assert (y == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distributions(dtype):
    n = 200_000
    u = random.uniform(random.key(1), (n,), dtype)
    assert abs(u.mean() - 0.5) < 5e-3
    assert abs(np.histogram(u, 10, (0, 1))[0] / n - 0.1).max() < 5e-3
    z = random.normal(random.key(2), (n,), dtype)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.1
    assert abs(np.corrcoef(z[: n // 2], z[n // 2 :])[0, 1]) < 0.01
    assert abs(random.bernoulli(random.key(3), 0.3, (n,)).mean() - 0.3) < 5e-3


@given(key=fst.keys(), n=st.integers(0, 50))
def test_permutation_is_one(key, n):
    assert sorted(random.permutation(key, n).tolist()) == list(range(n))
    x = np.arange(2 * n).reshape(n, 2)
    np.testing.assert_array_equal(random.permutation(key, x), x[random.permutation(key, n)])


def test_every_place_of_a_permutation_is_equally_likely():
    counts = np.zeros((4, 4))
    for i in range(4000):
        counts[np.arange(4), random.permutation(random.key(i), 4)] += 1
    assert abs(counts / 4000 - 0.25).max() < 0.03


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3)])
def test_shapes(shape):
    for draw in (random.uniform, random.normal):
        assert draw(random.key(0), shape).shape == shape
    assert random.bernoulli(random.key(0), 0.5, shape).shape == shape


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: random.key(-1), ValueError, "random.key: expected a seed from 0"),
        (lambda: random.key(2**128), ValueError, "random.key: expected a seed from 0"),
        (lambda: random.key(1.5), TypeError, "random.key: expected an integer seed, got float"),
        (lambda: random.split(0), TypeError, "random.split: expected a key made by"),
        (lambda: random.split(random.key(0), -1), ValueError, "random.split: n must be at least 0, got -1"),
        (lambda: random.fold_in(random.key(0), -1), ValueError, "random.fold_in: expected a number"),
        (lambda: random.fold_in(random.key(0), "a"), TypeError, "random.fold_in: expected an integer"),
        (lambda: random.uniform(np.zeros(2), (2,)), TypeError, "random.uniform: expected a key"),
        (lambda: random.uniform(random.key(0), (2,), np.int32), TypeError, "random.uniform: expected a real"),
        (
            lambda: random.uniform(random.key(0), (2,), low=1, high=0),
            ValueError,
            "random.uniform: expected low",
        ),
        (
            lambda: random.normal(random.key(0), (2,), std=-1),
            ValueError,
            "random.normal: expected a standard",
        ),
        (lambda: random.bernoulli(random.key(0), 1.1), ValueError, "random.bernoulli: expected a prob"),
        (lambda: random.permutation(random.key(0), -1), ValueError, "random.permutation: expected a count"),
        (
            lambda: random.permutation(random.key(0), "abc"),
            ValueError,
            "random.permutation: expected a count",
        ),
    ],
)
def test_bad_input(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


SHAPES = [(64, 32, 3, 3), (200, 100), (64, 50, 9)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("make", "variance"),
    [
        (initializers.kaiming_uniform(), lambda i, o: 2 / i),
        (initializers.kaiming_normal(mode="fan_out", nonlinearity="relu"), lambda i, o: 2 / o),
        (initializers.kaiming_normal(a=1.0), lambda i, o: 1 / i),
        (initializers.kaiming_uniform(nonlinearity="tanh"), lambda i, o: 25 / 9 / i),
        (initializers.xavier_uniform(), lambda i, o: 2 / (i + o)),
        (initializers.xavier_normal(gain=2.0), lambda i, o: 8 / (i + o)),
        (initializers.lecun_uniform(), lambda i, o: 1 / i),
        (initializers.lecun_normal(), lambda i, o: 1 / i),
        (initializers.fan_in_uniform(), lambda i, o: 1 / (3 * i)),
        (initializers.normal(std=0.1), lambda i, o: 0.01),
        (initializers.uniform(-1.0, 1.0), lambda i, o: 1 / 3),
    ],
)
def test_initializers_have_their_variance(shape, make, variance):
    x = make(random.key(0), shape, np.float32)
    assert x.shape == shape
    assert x.dtype == np.float32
    expected = variance(*initializers.fans(shape))
    assert abs(x.mean()) < 5 * (expected / x.size) ** 0.5
    assert abs(x.var() / expected - 1) < 0.05


def test_initializers_refuse_what_has_no_fans():
    with pytest.raises(ValueError, match="fans need a weight of two axes"):
        initializers.lecun_normal()(random.key(0), (3,), np.float32)
    with pytest.raises(ValueError, match='expected mode "fan_in" or "fan_out"'):
        initializers.kaiming_normal(mode="fan")
    with pytest.raises(ValueError, match="expected a nonlinearity of"):
        initializers.kaiming_uniform(nonlinearity="cubic")
