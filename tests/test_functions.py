"""Every differentiable function: values, gradients, dtypes, memory layouts, purity."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fconv import functional as F
from fconv import random
from fconv.testing import check_vjp
from fconv.testing import strategies as fst
from fconv.testing.purity import call_purely, check_close
from tests.cases import CASES
from tests.cases.activation import ELEMENTWISE

NAMES = sorted(CASES)
DIFFERENTIABLE = sorted(name for name in F.__all__ if f"{name}_vjp" in F.__all__)


def _first(name):
    return getattr(F, name).arrays[0]


def is_float(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def narrowed(a):
    return a.astype(np.float32) if is_float(a) else a


def test_every_function_has_a_case():
    assert NAMES == DIFFERENTIABLE


def test_every_definition_is_public():
    for name in DIFFERENTIABLE:
        function = getattr(F, name)
        assert function.__name__ == name
        assert getattr(F, f"{name}_vjp") is function.vjp
        assert function.vjp.__name__ == f"{name}_vjp"
        assert function.__doc__
        assert "wrt" in function.vjp.__doc__


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_value_is_that_of_the_naive_loops(name, data):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    y = call_purely(name, function, *args, **options)
    assert y.dtype == np.float64
    check_close(
        name, "value and naive value", y, np.asarray(CASES[name].naive(*args, **options)), 1e-11, 1e-3
    )


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=settings().max_examples // 2)  # each is checked in many ways
@given(data=st.data(), key=fst.keys())
def test_gradient_is_that_of_differences(name, data, key):
    args, options = data.draw(CASES[name].draw)
    assume(np.isfinite(getattr(F, name)(*args, **options)).all())  # not the mean over nothing
    check_vjp(getattr(F, name), getattr(F, f"{name}_vjp"), args, options, key=key, directions=1)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_float32_stays_float32_and_forward_agrees(name, data):
    args, options = data.draw(CASES[name].draw)
    narrow = [narrowed(a) for a in args]
    function = getattr(F, name)
    expected = function(*args, **options)
    options = {k: narrowed(v) for k, v in options.items()}
    y = function(*narrow, **options)
    assert y.dtype == np.float32
    check_close(name, "float32 and float64", y, expected, 2e-3, 1e-3)
    value, pullback = function.forward(*narrow, **options)
    assert np.asarray(value).tobytes() == np.asarray(y).tobytes()
    g = random.normal(random.key(1), y.shape)
    ours, direct = pullback(g), function.vjp(g, *narrow, **options)
    many = isinstance(direct, tuple)
    for argument, a, b in zip(
        function.arrays, ours if many else [ours], direct if many else [direct], strict=True
    ):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == np.float32
            assert a.tobytes() == b.tobytes()
            alone = function.vjp(g, *narrow, wrt=argument, **options)
            alone = [alone] if not many else [x for x in alone if x is not None]
            assert len(alone) == 1
            assert alone[0].tobytes() == a.tobytes()


@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].linear])
@given(data=st.data(), key=fst.keys())
def test_adjoint_identity_of_linear_functions(name, data, key):
    args, options = data.draw(CASES[name].draw)
    y = getattr(F, name)(*args, **options)
    g = random.normal(key, y.shape, np.float64)
    dx = getattr(F, f"{name}_vjp")(g, *args, **options)
    left, right = (g * y).sum(), (dx * args[0]).sum()
    assert abs(left - right) <= 1e-11 * (abs(g * y).sum() + abs(dx * args[0]).sum() + 1e-300)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("conv") or n == "linear"])
@given(data=st.data(), key=fst.keys())
def test_adjoint_identity_of_bilinear_functions(name, data, key):
    (x, weight, _), options = data.draw(CASES[name].draw)
    y = getattr(F, name)(x, weight, None, **options)
    g = random.normal(key, y.shape, np.float64)
    dx, dweight, dbias = getattr(F, f"{name}_vjp")(g, x, weight, None, **options)
    assert dbias is None
    scale = 1e-11 * (abs(g * y).sum() + abs(dx * x).sum() + 1e-300)
    assert abs((g * y).sum() - (dx * x).sum()) <= scale
    assert abs((g * y).sum() - (dweight * weight).sum()) <= scale


@pytest.mark.parametrize(
    "name",
    [
        *ELEMENTWISE,
        "scale_shift",
        "abs",
        "exp",
        "sin",
        "erf",
        "reciprocal",
        "hardtanh",
        "prelu",
        "softmax",
        "softmin",
        "log_softmax",
        "batch_norm",
    ],
)
def test_elementwise_functions_keep_the_memory_order(name):
    x = fst.laid_out(random.normal(random.key(0), (2, 3, 4, 5)), "channels_last")
    options = ELEMENTWISE[name][1] if name in ELEMENTWISE else {}
    options = {"batch_norm": {"training": True}, "prelu": {"weight": x[0, :, 0, 0]}}.get(name, options)
    y, pullback = getattr(F, name).forward(x, **options)
    grads = pullback(x)
    dx = grads[0] if isinstance(grads, tuple) else grads
    assert y.strides == x.strides
    assert dx.strides == x.strides


@pytest.mark.parametrize("name", NAMES)
def test_wrong_gradients_shapes_and_dtypes_are_refused(name):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # drawing one example outside of a test
        args, options = CASES[name].draw.example()
    y = getattr(F, name)(*args, **options)
    vjp = getattr(F, f"{name}_vjp")
    with pytest.raises(ValueError, match=rf"{name}_vjp: expected a gradient of the output's shape"):
        vjp(np.zeros((*y.shape, 2)), *args, **options)
    with pytest.raises(TypeError, match=rf"{name}_vjp: expected a gradient of float64"):
        vjp(np.zeros(y.shape, np.float32), *args, **options)
    with pytest.raises(ValueError, match=rf"{name}_vjp: wrt names nothing_like_it"):
        vjp(np.zeros(y.shape), *args, wrt="nothing_like_it", **options)


@pytest.mark.parametrize("name", [name for name in NAMES if _first(name) not in getattr(F, name).constants])
@pytest.mark.parametrize("dtype", [np.int64, np.complex128, np.bool_])
def test_arrays_that_are_not_real_numbers_are_refused(name, dtype):
    with pytest.raises(TypeError, match=rf"^{name}: {_first(name)} must be a real floating-point array"):
        getattr(F, name)(**_arrays(name, np.ones((2, 3, 4, 4), dtype)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("x", [[1.0, 2.0], 3.0, None, "text"])
def test_things_that_are_no_arrays_are_refused(name, x):
    with pytest.raises(TypeError, match=rf"^{name}: {_first(name)} must be a NumPy or CuPy array, got"):
        getattr(F, name)(**_arrays(name, x))


@pytest.mark.parametrize("name", NAMES)
def test_misspelt_options_are_refused(name):
    with pytest.raises(TypeError, match="unexpected keyword argument 'paddingg'"):
        getattr(F, name)(**_arrays(name, np.ones((2, 3, 4, 4))), paddingg=1)


def _arrays(name, x):
    """Return the array arguments that have no default: the first, and others that are in order."""
    parameters = inspect.signature(getattr(F, name)).parameters
    needed = [a for a in getattr(F, name).arrays if parameters[a].default is inspect.Parameter.empty]
    return {a: np.ones((1, 1)) for a in needed} | {_first(name): x}


BIG = np.full((1, 2, 16, 16), 4e4, np.float16)
ROW = np.full((1, 1, 16), 1e2, np.float16)


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("avg_pool2d", [BIG], {"kernel_size": 4}),
        ("lp_pool2d", [BIG], {"norm_type": 2, "kernel_size": 1}),
        ("adaptive_avg_pool2d", [BIG], {"output_size": 3}),
        ("adaptive_avg_pool2d", [BIG], {"output_size": 4}),
        ("global_avg_pool", [BIG], {}),
        ("interpolate", [BIG], {"size": 4, "mode": "area"}),
        ("mean", [BIG], {}),
        ("scaled_dot_product_attention", [ROW, ROW, BIG[:, 0, :1]], {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_float16_is_summed_in_float32(name, args, options):
    """Sums beyond 65504 on the way to a result below it."""
    function = getattr(F, name)
    y, pullback = function.forward(*args, **options)
    wide = [a.astype(np.float64) for a in args]
    expected, wide_pullback = function.forward(*wide, **options)
    assert np.asarray(y).dtype == np.float16
    np.testing.assert_allclose(y, expected, rtol=2e-3)
    grads, theirs = pullback(np.ones_like(y)), wide_pullback(np.ones_like(expected))
    many = isinstance(grads, tuple)
    for ours, exact in zip(grads if many else [grads], theirs if many else [theirs], strict=True):
        if ours is not None:
            assert ours.dtype == np.float16
            np.testing.assert_allclose(ours, exact, rtol=2e-3, atol=1e-6)


def test_missing_arguments_raise_as_python_does():
    with pytest.raises(TypeError, match="missing a required argument: 'weight'"):
        F.conv2d(np.ones((1, 1, 3, 3)))


def test_a_window_may_be_larger_than_the_input_in_ceil_mode():
    x = np.arange(12.0).reshape(1, 1, 6, 2)
    y, pullback = F.max_pool2d.forward(x, 3, 2, ceil_mode=True)
    assert y.tolist() == [[[[5.0], [9.0], [11.0]]]]
    assert np.flatnonzero(pullback(np.ones_like(y))).tolist() == [5, 9, 11]
    means = F.avg_pool2d(x, 3, 2, ceil_mode=True)  # of the elements that are there
    assert means.tolist() == [[[[2.5], [6.5], [9.5]]]]
    sums = F.lp_pool2d(x, 1, 3, 2, ceil_mode=True)  # means times 9, as PyTorch weighs them
    assert sums.tolist() == [[[[22.5], [58.5], [85.5]]]]
    assert F.max_pool1d(x[0, 0, :, :1].T, 7, 2, ceil_mode=True).tolist() == [[10.0]]
    assert F.max_pool3d(x[None], (1, 2, 2), 2, dilation=2, ceil_mode=True).shape == (1, 1, 1, 3, 1)
    assert F.avg_pool3d(x[None], (1, 6, 3), 2, ceil_mode=True).item() == 5.5
    with pytest.raises(
        ValueError, match=r"a window of 4 .* larger than the padded input of 2 .* by the stride of 2"
    ):
        F.max_pool2d(x, (3, 4), 2, ceil_mode=True)


@pytest.mark.parametrize("norm_type", [2.0, 3.0])
def test_lp_pool_of_zeros_has_a_gradient_of_0(norm_type):
    x = np.zeros((1, 1, 2, 4))
    x[..., 2:] = 0.25 ** (1 / norm_type)  # their powers add up to 1
    dx = F.lp_pool2d_vjp(np.ones((1, 1, 1, 2)), x, norm_type, 2)
    np.testing.assert_array_equal(dx[..., :2], 0)
    np.testing.assert_allclose(dx[..., 2:], x[..., 2:] ** (norm_type - 1))


def test_grid_sample_reflects_what_a_cubic_reads_outside():
    x = np.arange(1.0, 26.0).reshape(1, 1, 5, 5) ** 1.5
    wide = np.pad(x[0, 0], 4, mode="reflect")[None, None]
    at = np.array([-1.7, -0.4, 0.2, 3.9, 4.6])  # pixels
    places = np.stack(np.meshgrid(at, at), -1)[None]
    expected = F.grid_sample(wide, 2 * (places + 4) / 12 - 1, "bicubic", "border", True)
    found = F.grid_sample(x, 2 * places / 4 - 1, "bicubic", "reflection", True)
    np.testing.assert_allclose(found, expected)


def test_pad_in_a_circle_takes_no_more_than_a_whole_turn():
    x = np.ones((1, 1, 4))
    assert F.pad(x, (4, 4), "circular").shape == (1, 1, 12)
    for pad in ((5, 0), (0, 5), (4, -1)):
        with pytest.raises(ValueError, match="do not fit an axis of 4"):
            F.pad(x, pad, "circular")
