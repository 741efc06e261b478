"""Every function as compiled kernels compute it and as NumPy does where none are compiled."""

from __future__ import annotations

import inspect
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fconv import functional as F
from fconv import random
from fconv.testing import strategies as fst
from fconv.testing.purity import call_purely, check_close
from tests.cases import CASES, pooling
from tests.convolutions import computing
from tests.test_jvp import tangents_of

CURVES = [name for name in CASES if hasattr(getattr(F, name), "second")]
LAYOUTS = {
    "as drawn": lambda x: x,
    "F": np.asfortranarray,
    "channels-last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "gaps": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
}


def derivatives(function, args, options, key):
    """Compute value, gradients by all arrays and by each alone, and tangent; NumPy's may warn no more."""
    y, pullback = function.forward(*args, **options)
    g = random.normal(key, np.shape(y), np.float64)
    grads = call_purely("vjp", function.vjp, g, *args, **options)
    found = {"value": y, "value alone": function(*args, **options)}
    for how, each in (("gradient", grads), ("pullback", pullback(g))):
        many = each if isinstance(each, tuple) else (each,)
        found |= {f"{how} {i}": dx for i, dx in enumerate(many) if dx is not None}
    for name, dx in zip(function.arrays, grads if isinstance(grads, tuple) else (grads,), strict=False):
        if dx is not None:
            alone = function.vjp(g, *args, wrt=name, **options)
            many = alone if isinstance(alone, tuple) else (alone,)
            found |= {f"gradient by {name}, {i}": dx for i, dx in enumerate(many) if dx is not None}
    tangents = tangents_of(function, args, options, random.fold_in(key, 1))
    return found | {"tangent": function.jvp(tangents, *args, **options)}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=max(8, settings().max_examples // 4))
@given(data=st.data(), key=fst.keys(), layout=st.sampled_from(sorted(LAYOUTS)))
def test_numpy_gives_what_compiled_kernels_give(name, data, key, layout):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    with computing("compiled"):
        assume(np.isfinite(function(*args, **options)).all())  # not the mean over nothing
        ours = derivatives(function, args, options, key)
    laid = [LAYOUTS[layout](a) if getattr(a, "ndim", 0) > 1 else a for a in args]
    with computing("numpy"):
        theirs = derivatives(function, laid, options, key)
    assert ours.keys() == theirs.keys()
    for what, array in ours.items():
        assert theirs[what].dtype == array.dtype, what
        check_close(name, f"compiled and NumPy's {what}", array, theirs[what], 1e-11, 1e-3)


@pytest.mark.parametrize("name", CURVES)
@settings(max_examples=max(8, settings().max_examples // 4))
@given(data=st.data())
def test_the_second_derivative_is_the_slope_of_the_first(name, data):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    bound = inspect.signature(function).bind(*args, **options).arguments
    x = np.append(bound.pop("x").ravel(), np.linspace(-7.3, 7.1, 37))
    ones, h = np.ones_like(x), 1e-5
    with np.errstate(all="ignore"):  # outside of the domain of a logarithm
        below, at, above = (function.vjp(ones, x + step, **bound) for step in (-h, 0.0, h))
        found = function.second(x, **bound)
    if found is None:
        return
    found = np.broadcast_to(found, x.shape)
    smooth = np.isfinite(below + above)
    with np.errstate(all="ignore"):
        kink = np.maximum(abs(above - 2 * at + below) * 1e3, abs(above - below)) > 1e-3 * (1 + abs(at))
    smooth &= ~kink
    np.testing.assert_allclose(
        found[smooth], ((above - below) / (2 * h))[smooth], rtol=1e-5, atol=1e-7, err_msg=name
    )


STRAIGHT = [
    *((name, {}) for name in (
        "celu", "elu", "gelu", "hardswish", "logsigmoid", "mish", "selu", "sigmoid", "silu", "softplus",
        "softsign", "tanh", "tanhshrink",
    )),
    ("gelu", {"approximate": "tanh"}),
]  # fmt: skip


@pytest.mark.parametrize("engine", ["compiled", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), STRAIGHT, ids=str)
def test_far_out_activations_are_straight_lines_also_where_squares_overflow(name, options, dtype, engine):
    function, most = getattr(F, name), np.finfo(dtype).max
    x = np.array([1e3, 1e5, most**0.5 * 2, most**0.75, most / 4], dtype)
    x = np.stack([-x, x])
    with computing(engine), np.errstate(all="ignore"):
        slope, bend = function.vjp(np.ones_like(x), x, **options), function.second(x, **options)
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(slope, np.broadcast_to(slope[:, :1], x.shape), atol=1e-5)
    if bend is not None:
        np.testing.assert_allclose(np.broadcast_to(bend, x.shape), 0 * x, atol=1e-5)


@pytest.mark.parametrize("name", [*pooling.CASES, *CURVES])
@settings(max_examples=max(8, settings().max_examples // 4))
@given(data=st.data(), key=fst.keys(), odd=st.sampled_from([np.nan, -np.inf, np.inf, 0.0]))
def test_odd_numbers_and_ties_are_the_same_to_both(name, data, key, odd):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    x = np.array(np.round(args[0]))
    x[random.uniform(key, x.shape) < data.draw(st.sampled_from([0.3, 1.0]))] = odd
    args = [x, *args[1:]]
    found = []
    for engine in ("compiled", "numpy"):
        with computing(engine), np.errstate(all="ignore"):
            found.append(derivatives(function, args, options, key))
    for what, array in found[0].items():
        check_close(name, f"compiled and NumPy's {what}", array, found[1][what], 1e-11, 1e-3)


@pytest.mark.parametrize("engine", ["compiled", "numpy"])
@pytest.mark.parametrize("odd", [None, np.nan, -np.inf])
def test_max_pooling_of_every_small_geometry_takes_the_first_maximum_or_the_last_nan(engine, odd):
    for size, k, s, p, d, ceil in product((4, 7), (2, 3), (1, 2, 3), (0, 1), (1, 2), (False, True)):
        if p > k // 2 or d * (k - 1) + 1 > size + 2 * p:
            continue
        x = np.array([3.0, 1.0, 3.0, 2.0, 2.0, 1.0, 5.0][:size])
        if odd is not None:
            x[: size - 2] = odd
        with computing(engine):
            y, pullback = F.max_pool1d.forward(x[None, None], k, s, p, d, ceil_mode=ceil)
            g = np.arange(1.0, 1.0 + y.size)
            dx = pullback(g[None, None])[0, 0]
        expected, largest = np.zeros(size), []
        for i in range(y.size):
            inside = [at for at in range(i * s - p, i * s - p + d * k, d) if 0 <= at < size]
            nans = [at for at in inside if np.isnan(x[at])]
            taken = nans[-1] if nans else max(inside, key=lambda at: (x[at], -at))
            expected[taken] += g[i]
            largest.append(x[taken])
        np.testing.assert_array_equal(y[0, 0], largest)
        np.testing.assert_array_equal(dx, expected, err_msg=f"{size, k, s, p, d, ceil}")


ALONG = ["normalize", "softmax", "softmin", "log_softmax"]
WITH_OPTIONS = {"threshold": (0.5, 2.0), "clamp": (0.0, 0.5), "power": (3.0,), "power_of": (3.0,)}
REDUCTIONS = ["mean", "sum", "prod", "amax", "amin", "logsumexp", "vector_norm"]


@pytest.mark.parametrize("engine", ["compiled", "numpy"])
@pytest.mark.parametrize("name", [*CURVES, *ALONG, *REDUCTIONS])
def test_a_number_is_as_an_array_of_one_element(name, engine):
    function, x = getattr(F, name), np.array(0.7)
    more, options = WITH_OPTIONS.get(name, ()), {"dim": 0} if name in ALONG else {}
    with computing(engine), np.errstate(all="ignore"):
        found = [*function.value_and_jvp((x,), x, *more, **options), function.vjp(x, x, *more, **options)]
        one = x[None]
        y, dy = function.value_and_jvp((one,), one, *more, **options)
        expected = [y, dy, function.vjp(np.full_like(y, x), one, *more, **options)]
    for a, b in zip(found, expected, strict=True):
        assert a.shape == ()
        np.testing.assert_array_equal(a, np.reshape(b, ()))


@pytest.mark.parametrize("name", [name for name in pooling.CASES if "global" not in name])
@settings(max_examples=8)
@given(data=st.data(), key=fst.keys())
def test_one_picture_is_pooled_as_a_batch_of_one(name, data, key):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    assume(len(args[0]) and args[0].ndim == int(name[-2]) + 2)
    single = [a[0] if getattr(a, "ndim", 0) == int(name[-2]) + 2 else a for a in args]
    batch = [a[:1] if getattr(a, "ndim", 0) == int(name[-2]) + 2 else a for a in args]
    for engine in ("compiled", "numpy"):
        with computing(engine):
            found, expected = (derivatives(function, each, options, key) for each in (single, batch))
        for what in ("value", "gradient 0"):
            np.testing.assert_array_equal(found[what], expected[what][0], err_msg=what)


@pytest.mark.parametrize("engine", ["compiled", "numpy"])
@pytest.mark.parametrize("size", [1e3, 1e30, 1e300])
def test_attention_with_large_scores_looks_at_the_largest(engine, size):
    query, key = np.array([[size, 0.0], [0.0, -size]]), np.eye(2)
    value = np.array([[1.0, 2.0], [3.0, 4.0]])
    with computing(engine):
        y, pullback = F.scaled_dot_product_attention.forward(query, key, value, scale=1.0)
        np.testing.assert_array_equal(y, value[[0, 0]])
        np.testing.assert_array_equal(pullback(np.ones_like(y))[2], [[2.0, 2.0], [0.0, 0.0]])


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_heads_of_queries_share_heads_of_keys(heads):
    query, key, value = (
        random.normal(random.key(i), (2, n, 5, 3), np.float64) for i, n in enumerate((4, heads, heads))
    )
    attention = F.scaled_dot_product_attention
    repeated = (np.repeat(a, 4 // heads, axis=1) for a in (key, value))
    np.testing.assert_allclose(
        attention(query, key, value, enable_gqa=True), attention(query, *repeated), 1e-12, 1e-14
    )


@pytest.mark.parametrize("options", [{"mode": "cubic"}, {"padding_mode": "circular"}])
def test_unknown_modes_of_sampling_are_refused(options):
    text = r"grid_sample: expected a mode of .*, and a padding_mode of .*, got '\w+' and '\w+'"
    with pytest.raises(ValueError, match=text):
        F.grid_sample(np.ones((1, 1, 2, 2)), np.zeros((1, 2, 2, 2)), **options)


def test_factors_of_small_pictures_are_forgotten_by_nearest_as_in_pytorch():
    """Forget the factor of an axis that keeps its size, in pictures of up to 128 rows and columns."""
    for size, kept in ((64, True), (65, False)):
        x = np.arange(64.0 * size).reshape(1, 1, 64, size)
        y = F.interpolate(x, scale_factor=1.01, mode="nearest")
        assert y.shape == x.shape
        assert np.array_equal(y, x) == kept


def test_variance_divides_by_what_is_left_of_the_count():
    x = np.array([1.0, 2.0, 4.0])
    squares = ((x - x.mean()) ** 2).sum()
    for correction in (0.0, 0.5, 1.0, 2.0, 2.5):
        np.testing.assert_allclose(F.var(x, correction=correction), squares / (3 - correction), 1e-12)
        np.testing.assert_allclose(F.std(x, correction=correction) ** 2, squares / (3 - correction), 1e-12)
    for correction in (3.0, 4.0):
        with np.errstate(all="ignore"):
            assert F.var(x, correction=correction) == np.inf
    assert np.isnan(F.var(x[:1]))
