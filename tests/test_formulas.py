"""Compiled formulas: their functions' accuracy, and that one pass gives what NumPy's operations give."""

import operator
from decimal import Decimal, getcontext
from math import factorial, inf, nan

import numpy as np
import pytest
import scipy.special

import fconv as fc
import fconv.functional as F
from fconv.engine import compiled
from fconv.functional import elementwise
from fconv.functional.one_pass import apply_formula, in_one_pass, traced

pytestmark = pytest.mark.skipif(
    not compiled.wished() or compiled.problem() is not None, reason=f"no kernels: {compiled.problem()}"
)

getcontext().prec = 60
TWO_OVER_ROOT_PI = Decimal("1.12837916709551257389615890312154517168810125865799771368817")
SPECIAL = [0.0, -0.0, inf, -inf, nan, 1e-40, -1e-40, 3e38, -3e38, 1.0, -1.0]
CURVES = [
    ("abs", {}), ("celu", {"alpha": 0.7}), ("clamp", {"min": -0.5}), ("clamp", {"min": -0.5, "max": 0.5}),
    ("elu", {"alpha": 1.3}), ("erf", {}), ("exp", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"}),
    ("hardshrink", {}), ("hardsigmoid", {}), ("hardswish", {}), ("hardtanh", {}), ("leaky_relu", {}),
    ("logsigmoid", {}), ("mish", {}), ("relu", {}), ("relu6", {}), ("scale_shift", {"scale": 3.0}),
    ("selu", {}), ("sigmoid", {}), ("silu", {}), ("softplus", {"beta": 2.0}), ("softshrink", {}),
    ("softsign", {}), ("tanh", {}), ("tanhshrink", {}), ("threshold", {"threshold": 0.2, "value": -3.0}),
]  # fmt: skip


def exact_tanh(x):
    return 1 - 2 / ((2 * x).exp() + 1) if abs(x) > Decimal("1e-20") else x


def exact_erf(x):
    if abs(x) > 7:
        return Decimal(1).copy_sign(x)
    terms = ((-1) ** n * x ** (2 * n + 1) / (factorial(n) * (2 * n + 1)) for n in range(240))
    return TWO_OVER_ROOT_PI * sum(terms) if abs(x) > Decimal("1e-20") else TWO_OVER_ROOT_PI * x


def compiled_unary(name, x):
    formula = traced(lambda v: getattr(v.functions, name)(v), 1, x.dtype)
    return apply_formula(formula, x)


def ulps(found, exact):
    """Count the units in the last place by which each of `found` is off."""
    rounded = np.array([float(e) for e in exact], found.dtype)
    unit = np.spacing(np.abs(rounded)).astype(np.float64)
    apart = np.array([float(abs(Decimal(float(f)) - e)) for f, e in zip(found, exact, strict=True)])
    return apart / unit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "exact", "low", "high"),
    [("exp", lambda x: x.exp(), (-103, -744), (88.7, 709.7)), ("tanh", exact_tanh, (-20, -20), (20, 20)),
     ("erf", exact_erf, (-6, -6), (6, 6)), ("bell", lambda x: (-x * x / 2).exp(), (-12, -36), (12, 36))],
)  # fmt: skip
def test_two_units_in_the_last_place(name, exact, low, high, dtype):
    rng, wide = np.random.default_rng(0), int(dtype == np.float64)
    x = np.concatenate([
        rng.uniform(low[wide], high[wide], 250), rng.uniform(-1.5, 1.5, 250),
        rng.normal(size=100) * 10.0 ** rng.integers(-30, 1, 100),
        [np.finfo(dtype).tiny / 8, -np.finfo(dtype).tiny / 8],
    ]).astype(dtype)  # fmt: skip
    assert ulps(compiled_unary(name, x), [exact(Decimal(float(v))) for v in x]).max() <= 2


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh", "erf", "ndtr", "sqrt", "sign"])
def test_single_precision_everywhere(name):
    """All of float32's bit patterns in steps: signs, denormals, infinities and NaN among them."""
    x = np.arange(0, 1 << 32, 24571, dtype=np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        wide = getattr(np, name, None) or getattr(scipy.special, name)
        exact = wide(x.astype(np.float64))
        near = exact.astype(np.float32)
        found = compiled_unary(name, x)
        unit = np.spacing(np.abs(near)).astype(np.float64)
        far = np.abs(found.astype(np.float64) - exact) > (6 if name == "ndtr" else 2) * unit
    assert np.array_equal(np.isnan(found), np.isnan(near))
    assert not np.any(far & np.isfinite(near))
    assert np.array_equal(found[np.isinf(near)], near[np.isinf(near)])


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh", "erf", "ndtr", "sqrt", "sign"])
def test_double_precision_at_the_edges(name):
    x = np.array(
        [*SPECIAL, 5e-324, 1e-310, -1e-310, 1e300, -1e300, 709.0, 710.5, -745.0, -746.0, -37.5, -38.5]
    )
    with np.errstate(all="ignore"):
        expected = (getattr(np, name, None) or getattr(scipy.special, name))(x)
        np.testing.assert_allclose(compiled_unary(name, x), expected, rtol=2e-13, atol=1e-323)


def test_the_normal_distribution_keeps_its_digits_until_nothing_is_left():
    x = np.linspace(-14.1, -0.01, 50000).astype(np.float32)
    exact = scipy.special.ndtr(x.astype(np.float64))
    unit = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert (np.abs(compiled_unary("ndtr", x).astype(np.float64) - exact) / unit).max() <= 6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), CURVES, ids=str)
def test_one_pass_is_what_numpy_gives(name, options, dtype, monkeypatch):
    function, tolerance = getattr(F, name), 30 * np.finfo(dtype).eps
    x = np.concatenate([np.random.default_rng(0).normal(size=989) * 3, SPECIAL]).astype(dtype)
    g = np.random.default_rng(1).normal(size=1000).astype(dtype)
    found = function(x, **options), function.vjp(g, x, **options)
    monkeypatch.setattr(elementwise, "formulas_serve", lambda *arrays: False)
    expected = function(x, **options), function.vjp(g, x, **options)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        assert a.dtype == dtype


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (17,), (5, 7, 3), (3, 40000)])
def test_any_shape_and_memory_order(shape):
    x = np.asarray(np.random.default_rng(0).normal(size=shape), np.float32)
    doubled = np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x
    turned = np.array(x, order="F")
    unaligned = np.frombuffer(b"0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(shape)
    expected = x / (1 + np.exp(-x.astype(np.float64)))
    for each in (x, doubled, turned, x[::-1] if x.ndim else x, unaligned):
        kept = each.copy()
        found, pull = F.silu.forward(each)
        gradient = pull(np.ones_like(found))
        np.testing.assert_allclose(
            found, expected[::-1] if min(each.strides, default=0) < 0 else expected, rtol=1e-6
        )
        assert gradient.shape == found.shape == shape
        np.testing.assert_array_equal(each, kept)
    assert F.silu(turned).flags.f_contiguous


def test_the_same_bits_with_any_number_of_threads():
    x = np.random.default_rng(0).normal(size=100_003).astype(np.float32)
    before, found = fc.get_num_threads(), set()
    try:
        for n in range(1, 8):
            fc.set_num_threads(n)
            y, pull = F.gelu.forward(x)
            found.add(y.tobytes() + pull(x).tobytes())
    finally:
        fc.set_num_threads(before)
    assert len(found) == 1


def test_another_option_needs_no_other_kernel():
    from fconv.engine.compiled.formula_kernels import formula_kernel

    x = np.ones(3, np.float32)
    F.leaky_relu(x, 0.125)
    before = formula_kernel.cache_info().misses
    assert F.leaky_relu(-x, 0.375)[0] == -0.375
    assert F.leaky_relu(-x, 7.0)[0] == -7.0
    assert formula_kernel.cache_info().misses == before


def test_numbers_beyond_float32_are_infinite():
    x = np.array([-1.0, 3e38], np.float32)
    np.testing.assert_array_equal(F.clamp(x, max=1e300), x)
    np.testing.assert_array_equal(F.leaky_relu(x, -1e300), np.array([np.inf, 3e38], np.float32))


def test_bad_options_are_refused_as_without_kernels():
    x = np.ones(3, np.float32)
    F.clamp(x, 1.0)
    with pytest.raises(TypeError, match="clamp"):
        F.clamp(x, True)
    with pytest.raises(ValueError, match="softplus: expected beta other than 0"):
        F.softplus(x, beta=0)


def test_what_no_kernel_has_is_left_to_numpy():
    assert traced(lambda x: x.functions.cos(x), 1, np.dtype(np.float32)) is None
    assert traced(lambda x: x**2, 1, np.dtype(np.float32)) is None
    assert traced(lambda x: 1.0 if x > 0 else 0.0, 1, np.dtype(np.float32)) is None
    np.testing.assert_allclose(F.cos(np.zeros(3, np.float32)), 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_and_products_of_arrays(dtype):
    """Residual branches and masks: the bits of NumPy's operations, in whatever order the arrays lie."""
    a, b = (np.random.default_rng(i).normal(size=(2, 40, 30, 31)).astype(dtype) for i in range(2))
    turned = np.ascontiguousarray(b.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for x, y in (
        (a, b),
        (turned, turned),
        (a, turned),
        (a, b[:1]),
        (a[::2], b[::2]),
        (a[..., ::2], b[..., ::2]),
    ):
        np.testing.assert_array_equal(in_one_pass(operator.add, x, y), x + y)
        np.testing.assert_array_equal(in_one_pass(operator.mul, x, y), x * y)
        assert in_one_pass(operator.add, x, y).flags.c_contiguous == (x + y).flags.c_contiguous
    added = fc.residual(fc.relu())
    y, _, pull = added.forward({"body": (), "shortcut": ()}, a)
    np.testing.assert_array_equal(y, a + np.maximum(a, 0))
    np.testing.assert_array_equal(pull(b)[1], b + np.where(a > 0, b, 0))
    key = fc.random.key(0)
    kept = F.dropout(np.ones_like(a), 0.25, key=key)
    y, pull = F.dropout.forward(a, 0.25, key=key)
    np.testing.assert_array_equal(y, a * kept)
    np.testing.assert_array_equal(pull(b), b * kept)
