"""Gradients of linear functions are their adjoints, number for number; `check_adjoint` sees what is not."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fconv import functional as F
from fconv import random
from fconv.testing import check_adjoint
from fconv.testing import strategies as fst
from tests.cases import CASES, FAMILIES
from tests.convolutions import CASES as ENGINE_CASES
from tests.convolutions import computing
from tests.naive import conv as naive_conv

KEY = random.key(3)


ENGINES = ("compiled", "numpy")


@pytest.fixture
def engine(request):
    """Compute with each of the engines."""
    with computing(request.param) as engine:
        yield engine


def integers(*shape, most=4, key=KEY):
    """Draw integers from -most to most, without 0, as float64."""
    x = np.floor(random.uniform(key, shape, np.float64, 1, most + 1))
    return np.where(random.bernoulli(random.fold_in(key, 1), 0.5, shape), x, -x)


MASK = np.array([True, False, False, True])
EVEN = {"kernel_size": 2}
# Each: name, arguments (a shape stands for integers), options, positions in which it is linear, check's options.
EXACT = [
    ("linear", [(2, 3, 5), (4, 5), (4,)], {}, [0, 1, 2], {}),
    ("linear", [(5,), (4, 5), None], {}, [0, 1], {}),
    ("linear", [(40, 70), (50, 70), (50,)], {}, [0, 1, 2], {}),
    ("bilinear", [(2, 3, 4), (2, 3, 5), (6, 4, 5), (6,)], {}, [0, 1, 2, 3], {}),
    ("embedding", [np.array([[0, 4, 4], [1, 0, 4]]), (5, 3)], {}, [1], {}),
    ("scale_shift", [(2, 3)], {"scale": -3.0, "shift": 2.0}, [0], {}),
    ("prelu", [(2, 4, 3), (4,)], {}, [1], {}),
    ("pad", [(2, 3, 4)], {"pad": (2, 1, -1, 3), "value": 5.0}, [0], {}),
    ("pad", [(2, 3, 4, 5)], {"pad": (0, -2, -1, 0)}, [0], {}),
    ("pad", [(2, 3, 4, 5)], {"pad": (2, 3, 1, 2), "mode": "reflect"}, [0], {}),
    ("pad", [(2, 3, 4, 5)], {"pad": (2, 6, 1, -2), "mode": "replicate"}, [0], {}),
    ("pad", [(2, 3, 4, 5)], {"pad": (2, 5, 4, 2), "mode": "circular"}, [0], {}),
    ("pad", [(2, 3, 4, 5)], {"pad": (-1, 2, 2, -1), "mode": "circular"}, [0], {}),
    ("unfold", [(2, 3, 5, 6)], {"kernel_size": 2}, [0], {}),
    ("unfold", [(2, 3, 5, 6)], {"kernel_size": (2, 3), "dilation": (2, 1), "padding": 1, "stride": 2}, [0], {}),
    ("fold", [(2, 12, 12)], {"output_size": (4, 6), "kernel_size": (2, 3)}, [0], {}),
    ("fold", [(12, 12)], {"output_size": (5, 7), "kernel_size": 2, "stride": 2, "padding": 1}, [0], {}),
    ("avg_pool1d", [(2, 3, 9)], {"kernel_size": (2,), "stride": (1,), "padding": (1,)}, [0], {}),
    ("avg_pool1d", [(2, 3, 11)], {"kernel_size": (4,), "padding": (2,)}, [0], {}),
    ("avg_pool2d", [(2, 3, 9, 8)], {"kernel_size": (2, 2)}, [0], {}),
    ("avg_pool2d", [(2, 3, 9, 8)], {"kernel_size": (4, 4), "padding": (1, 1)}, [0], {}),
    ("avg_pool3d", [(1, 2, 5, 4, 7)], {"kernel_size": (2, 2, 2), "padding": (1, 1, 1)}, [0], {}),
    ("avg_pool2d", [(2, 3, 9, 8)], {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1), "ceil_mode": True}, [0], {"scale": 9}),
    ("avg_pool2d", [(2, 3, 7, 8)], {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "count_include_pad": False}, [0],
     {"scale": 36}),
    ("avg_pool2d", [(2, 3, 7, 8)], {"kernel_size": (3, 3), "stride": (2, 2), "divisor_override": 4}, [0], {}),
    ("avg_pool3d", [(2, 2, 4, 5, 4)], {"kernel_size": (2, 2, 2), "stride": (1, 2, 1)}, [0], {}),
    ("adaptive_avg_pool1d", [(2, 3, 8)], {"output_size": 4}, [0], {}),
    ("adaptive_avg_pool2d", [(2, 3, 7, 6)], {"output_size": (3, 4)}, [0], {"scale": 36}),
    ("adaptive_avg_pool3d", [(1, 2, 4, 5, 6)], {"output_size": (2, 3, 2)}, [0], {"scale": 36}),
    ("global_avg_pool", [(2, 3, 4, 8)], {}, [0], {}),
    ("interpolate", [(2, 3, 3, 4)], {"scale_factor": (1.5, 2.0)}, [0], {}),
    ("interpolate", [(2, 3, 7)], {"size": 5, "mode": "nearest-exact"}, [0], {}),
    ("interpolate", [(2, 3, 8, 4)], {"size": (4, 2), "mode": "area"}, [0], {}),
    ("interpolate", [(2, 3, 5)], {"scale_factor": 4.0, "mode": "linear"}, [0], {}),
    ("interpolate", [(2, 3, 3, 5)], {"size": (5, 9), "mode": "bilinear", "align_corners": True}, [0], {}),
    ("interpolate", [(2, 3, 6, 5)], {"scale_factor": (0.5, 2.0), "mode": "bilinear"}, [0], {}),
    ("interpolate", [(2, 3, 4, 5)], {"scale_factor": (2.0, 4.0), "mode": "bicubic"}, [0], {}),
    ("interpolate", [(2, 2, 2, 3, 4)], {"scale_factor": 2.0, "mode": "trilinear"}, [0], {}),
    ("interpolate", [(2, 3, 7, 8)], {"size": (3, 5), "mode": "bilinear"}, [0], {"scale": 900, "exact": False}),
    ("interpolate", [(2, 3, 8, 8)], {"scale_factor": 0.5, "mode": "bilinear", "antialias": True}, [0],
     {"scale": 3136, "exact": False}),
    ("channel_shuffle", [(2, 6, 3)], {"groups": 3}, [0], {}),
    ("pixel_shuffle", [(2, 8, 2, 3)], {"upscale_factor": 2}, [0], {}),
    ("pixel_unshuffle", [(2, 2, 6, 3)], {"downscale_factor": 3}, [0], {}),
    ("mean", [(2, 3, 4)], {"dim": (0, 2), "keepdim": True}, [0], {}),
    ("mean", [(2, 3, 5)], {"dim": 1}, [0], {"scale": 3}),
    ("sum", [(2, 3, 4)], {}, [0], {}),
    ("sum", [(2, 3, 4)], {"dim": (-1, 0)}, [0], {}),
    ("cumsum", [(2, 5, 3)], {"dim": 1}, [0], {}),
    ("narrow", [(2, 5, 3)], {"dim": 1, "start": 1, "length": 3}, [0], {}),
    ("permute", [(2, 3, 4)], {"dims": (1, 2, 0)}, [0], {}),
    ("slice_along", [(2, 7)], {"dim": 1, "start": 1, "end": 6, "step": 2}, [0], {}),
    ("squeeze", [(2, 1, 3)], {"dim": 1}, [0], {}),
    ("transpose", [(2, 3, 4)], {"dim0": 0, "dim1": 2}, [0], {}),
    ("unsqueeze", [(2, 3)], {"dim": 1}, [0], {}),
    ("flatten", [(2, 3, 4)], {"start_dim": 1}, [0], {}),
    ("flatten", [()], {}, [0], {"reference": np.ravel}),
    ("reshape", [(2, 6)], {"shape": (3, -1)}, [0], {}),
    ("unflatten", [(2, 6)], {"dim": 1, "sizes": (2, 3)}, [0], {}),
    ("einsum", ["bij,bjk->bki", (2, 3, 4), (2, 4, 5)], {}, [1, 2], {}),
    ("einsum", ["...ii->...i", (2, 3, 3)], {}, [1], {"reference": np.einsum}),
    ("einsum", ["...ij,...jk->...ik", (5, 2, 3), (3, 4)], {}, [1, 2], {"reference": np.einsum}),
    ("einsum", ["i,j,ik->jk", (3,), (2,), (3, 4)], {}, [1, 2, 3], {}),
    ("expand", [(2, 1)], {"sizes": (3, -1, 4)}, [0], {}),
    ("flip", [(2, 3, 4)], {"dims": (0, 2)}, [0], {}),
    ("gather", [(2, 3)], {"dim": 1, "index": [[2, 2, 0, 2], [0, 1, 1, 1]]}, [0], {}),
    ("index", [(3, 4, 2)], {"indices": ([0, 2, 2], None, [1, 1, 1])}, [0], {"reference": None}),
    ("index_select", [(3, 4)], {"dim": 0, "index": [2, 0, 2, -1]}, [0], {}),
    ("masked_fill", [(2, 4)], {"mask": MASK, "value": 2.0}, [0], {}),
    ("movedim", [(2, 3, 4)], {"source": 0, "destination": -1}, [0], {}),
    ("roll", [(2, 5)], {"shifts": 2}, [0], {}),
    ("roll", [(3, 5)], {"shifts": (1, -2), "dims": (0, 1)}, [0], {}),
    ("select", [(2, 3, 4)], {"dim": 1, "index": -1}, [0], {}),
    ("tile", [(2, 3)], {"dims": (3, 1, 2)}, [0], {}),
    ("tile", [(2, 3, 2)], {"dims": (2,)}, [0], {}),
    ("where", [MASK.tolist(), (3, 4), (4,)], {}, [1, 2], {}),
    ("max_unpool1d", [(1, 1, 3), np.array([[[0, 3, 5]]])], EVEN, [0], {}),
    ("max_unpool2d", [(1, 1, 2, 2), np.array([[[[0, 3], [9, 14]]]])], EVEN, [0], {}),
    ("max_unpool2d", [(1, 1, 2, 2), np.array([[[[0, 2], [6, 8]]]])], {"kernel_size": 3, "stride": 2, "padding": 1}, [0], {}),
    ("max_unpool1d", [(2, 1, 3), np.array([[[0, 3, 5]], [[1, 2, 6]]])], {**EVEN, "output_size": (7,)}, [0], {}),
    ("max_unpool3d", [(1, 1, 1, 2, 2), np.array([[[[[0, 3], [9, 14]]]]])], EVEN, [0], {}),
    ("dropout", [(3, 4)], {"p": 0.5, "training": True, "key": KEY}, [0], {}),
    ("dropout1d", [(3, 4, 2)], {"p": 0.75, "training": True, "key": KEY}, [0], {}),
    ("dropout2d", [(3, 4, 2, 2)], {"p": 0.5, "training": True, "key": KEY}, [0], {}),
    ("dropout3d", [(3, 4, 2, 2, 2)], {"p": 0.5, "training": True, "key": KEY}, [0], {}),
    ("stochastic_depth", [(5, 3)], {"p": 0.5, "mode": "row", "training": True, "key": KEY}, [0], {}),
]  # fmt: skip

# Linear too, but with coefficients that are no binary fractions: exponentials, logarithms, standard deviations.
INEXACT = {
    ("scaled_dot_product_attention", 2), ("poisson_nll_loss", 1), ("kl_div", 0), *(("cross_entropy", i) for i in (1, 2)),
    *(("binary_cross_entropy", i) for i in (1, 2)), *(("binary_cross_entropy_with_logits", i) for i in (1, 2)),
    *((name, i) for name in ("batch_norm", "instance_norm") for i in (0, 1, 3, 4)),
    *((name, i) for name in ("layer_norm", "group_norm") for i in (2, 3)), ("rms_norm", 2),
    ("grid_sample", 0), *(("deform_conv2d", i) for i in (0, 2, 3, 4, 7)),  # positions that are no binary fractions
}  # fmt: skip


def filled(args, most=4):
    return [
        integers(*a, most=most, key=random.fold_in(KEY, i)) if isinstance(a, tuple) else a
        for i, a in enumerate(args)
    ]


@pytest.mark.parametrize(
    ("name", "args", "options", "places", "how"),
    EXACT,
    ids=[f"{i}-{case[0]}" for i, case in enumerate(EXACT)],
)
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_the_gradient_of_a_linear_function_is_its_adjoint(name, args, options, places, how, engine):
    function, vjp, naive = getattr(F, name), getattr(F, f"{name}_vjp"), CASES[name].naive
    check_adjoint(function, vjp, filled(args), options, linear_in=places, **{"reference": naive, **how})


def value_of(argument):
    if isinstance(argument, tuple) and argument and isinstance(argument[0], str):
        return (
            argument[1]
            if argument[0] == "as is"
            else 0.1 + 0.8 * random.uniform(KEY, argument[1], np.float64)
        )
    return random.normal(KEY, argument, np.float64) if isinstance(argument, tuple) else argument


def test_no_linear_function_is_forgotten():
    """Those that are linear in an argument in all their recorded calls."""
    linear = {}
    for name, shapes, options in (call for family in FAMILIES for call in family.CALLS):
        function = getattr(F, name)
        args = [value_of(a) for a in shapes]
        for i, x in enumerate(args):
            if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
                continue

            def at(value, args=args, i=i, function=function, options=options):
                return function(*args[:i], value, *args[i + 1 :], **options)

            try:
                with np.errstate(all="ignore"):
                    zero, one, two, three, little = (at(k * x) for k in (0, 40, 80, -40, 0.01))
            except (TypeError, ValueError):  # labels, probabilities
                continue
            same = np.allclose(two - zero, 2 * (one - zero)) and np.allclose(three - zero, zero - one)
            same = same and np.allclose(4000 * (little - zero), one - zero) and not np.array_equal(one, zero)
            linear[name, i] = linear.get((name, i), True) and same
    found = {pair for pair, always in linear.items() if always}
    convolutions = {(f"conv{t}{n}d", i) for t, n, i in product(("", "_transpose"), (1, 2, 3), range(3))}
    assert found - INEXACT == (
        {(name, i) for name, _, _, places, _ in EXACT for i in places} | convolutions
    ) & set(linear)


# x, weight, options: windows that leave rests, touch borders, lie apart; few, one and many channels.
GEOMETRIES = [
    ((0, 3, 9), (4, 3, 3), {}),
    ((2, 3, 9), (4, 3, 3), {}),
    ((1, 4, 12), (6, 2, 4), {"stride": 3, "padding": 2, "groups": 2}),
    ((2, 2, 11), (3, 2, 3), {"dilation": 3, "padding": 4}),
    ((2, 3, 7, 6), (5, 3, 3, 3), {"padding": 1}),
    ((2, 3, 7, 6), (5, 3, 3, 2), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}),
    ((1, 20, 6, 9), (24, 20, 3, 3), {"padding": 1}),
    ((2, 18, 5, 6), (19, 18, 3, 3), {"stride": 2, "dilation": 2, "padding": 2}),
    ((2, 9, 5, 7), (17, 9, 1, 1), {}),
    ((2, 6, 8, 7), (6, 1, 3, 3), {"groups": 6, "padding": 1}),
    ((2, 4, 8, 7), (8, 1, 5, 3), {"groups": 4, "stride": 2, "padding": 2}),
    ((1, 8, 6, 6), (12, 4, 3, 3), {"groups": 2, "padding": 1}),
    ((2, 2, 13, 12), (1, 2, 4, 4), {"stride": 4}),
    ((2, 21, 6, 5), (2, 21, 3, 3), {"padding": (2, 0)}),
    ((1, 2, 4, 5, 4), (3, 2, 2, 3, 2), {"stride": (1, 2, 1), "padding": 1}),
    ((1, 4, 3, 4, 5), (4, 2, 3, 1, 2), {"groups": 2, "dilation": (1, 1, 2), "padding": (1, 0, 1)}),
]
ALGORITHMS = [("compiled", "direct"), ("compiled", "winograd"), ("numpy", "direct"), ("numpy", "winograd")]


def by_all(cases, algorithms):
    """Each case by each algorithm that serves it."""
    found = []
    for (x, weight, options), (engine, algorithm) in product(cases, algorithms):
        if algorithm != "winograd" or (weight[2:] == (3, 3) and not options.keys() - {"padding"}):
            name = "-".join([engine, algorithm, "x".join(map(str, weight)), *options])
            found.append(pytest.param(x, weight, options, algorithm, engine, id=name))
    return pytest.mark.parametrize(
        ("x", "weight", "options", "algorithm", "engine"), found, indirect=["engine"]
    )


@by_all(GEOMETRIES, [*ALGORITHMS, ("numpy", "reference")])
def test_convolutions_by_every_algorithm_in_every_memory_order(x, weight, options, algorithm, engine):
    name, exact = f"conv{len(x) - 2}d", algorithm != "winograd"
    options = {**options, "algorithm": algorithm}
    function, vjp = getattr(F, name), getattr(F, f"{name}_vjp")

    def loops(*args, algorithm, **options):
        few = args[1].size < 300
        return naive_conv(*args, **options) if few else function(*args, **options, algorithm="reference")

    check_adjoint(function, vjp, filled([x, weight, weight[:1]]), options, exact=exact, reference=loops)


@by_all(GEOMETRIES, [*ALGORITHMS, ("numpy", "reference")])
def test_transposed_convolutions_are_adjoints_of_convolutions(x, weight, options, algorithm, engine):
    ndim, exact = len(x) - 2, algorithm != "winograd"
    conv = getattr(F, f"conv{ndim}d")
    y = conv(*filled([x, weight]), **options)
    shape = getattr(F, f"conv_transpose{ndim}d")(y, integers(*weight), **options).shape
    extra = tuple(a - b for a, b in zip(x[2:], shape[2:], strict=True))

    def adjoint(g, weight, algorithm, output_padding, **options):
        return getattr(F, f"conv{ndim}d_vjp")(
            g, np.zeros(x), weight, algorithm="reference", wrt="x", **options
        )[0]  # fmt: skip

    name = f"conv_transpose{ndim}d"
    options = {**options, "algorithm": algorithm, "output_padding": extra}
    check_adjoint(
        getattr(F, name), getattr(F, f"{name}_vjp"), [y, integers(*weight)], options,
        exact=exact, reference=adjoint,
    )  # fmt: skip


SHARED = ((24, 16, 40, 40), (16, 16, 3, 3), {"padding": 1})
"""Its weight gradient by Winograd sums 300 tiles in each of 8 shares, 256 at a time."""


@by_all([*ENGINE_CASES.values(), SHARED], ALGORITHMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_convolutions_are_the_definition(x, weight, options, algorithm, dtype, engine):
    x, weight, bias = filled([x, weight, weight[:1]], 2)
    y = F.conv2d(x, weight, bias, **options, algorithm="reference")
    g = integers(*y.shape, most=2)
    expected = y, *F.conv2d_vjp(g, x, weight, bias, **options, algorithm="reference")
    g, x, weight, bias = (a.astype(dtype) for a in (g, x, weight, bias))
    found = (
        F.conv2d(x, weight, bias, **options, algorithm=algorithm),
        *F.conv2d_vjp(g, x, weight, bias, **options, algorithm=algorithm),
    )
    for a, b in zip(found, expected, strict=True):
        if algorithm == "winograd":
            assert abs(a - b).max() < (0.1 if dtype == np.float32 else 1e-9)
        else:
            np.testing.assert_array_equal(a, b)


X, W = integers(2, 3, 6), integers(4, 3, 3)
WRONG = {
    "a wrong sign": lambda g, x, w: tuple(-d if d is not None else d for d in F.conv1d_vjp(g, x, w)[:2]),
    "a window off by one": lambda g, x, w: (np.roll(F.conv1d_vjp(g, x, w)[0], 1, -1), F.conv1d_vjp(g, x, w)[1]),
    "a dropped term": lambda g, x, w: (F.conv1d_vjp(g, x, np.where(w == w.max(), 0, w))[0], F.conv1d_vjp(g, x, w)[1]),
    "a forgotten sample": lambda g, x, w: (F.conv1d_vjp(g, x, w)[0], F.conv1d_vjp(g[:1], x[:1], w)[1]),
    "one element off by a millionth": lambda g, x, w: (F.conv1d_vjp(g, x, w)[0] * (1 + 1e-6), F.conv1d_vjp(g, x, w)[1]),
    "None for an array that has one": lambda g, x, w: (F.conv1d_vjp(g, x, w)[0], None),
    "a gradient that is not linear in g": lambda g, x, w: (F.conv1d_vjp(abs(g), x, w)[0], F.conv1d_vjp(g, x, w)[1]),
    "a constant in the gradient": lambda g, x, w: (F.conv1d_vjp(g, x, w)[0] + 1, F.conv1d_vjp(g, x, w)[1]),
    "wrong for column-major g": lambda g, x, w: (
        F.conv1d_vjp(g if g.flags.c_contiguous else -g, x, w)[0], F.conv1d_vjp(g, x, w)[1]
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_adjoint_is_caught(kind):
    def conv1d(x, w):
        return F.conv1d(x, w)

    check_adjoint(conv1d, lambda g, x, w: F.conv1d_vjp(g, x, w)[:2], [X, W])
    with pytest.raises(AssertionError, match=r"^conv1d: .*args\[[01]\]"):
        check_adjoint(conv1d, WRONG[kind], [X, W])


def test_the_message_names_the_entry():
    def vjp(g, x):
        dx = g.copy()
        dx[1, 2] *= 2
        return dx

    with pytest.raises(AssertionError) as info:
        check_adjoint(lambda x: x, vjp, [np.zeros((2, 3))])
    text = str(info.value)
    assert re.match(
        r"<lambda>: the vjp is not the adjoint in args\[0\]\n  <g, f\(x\) - f\(0\)>  -?\d+\n", text
    )
    assert re.search(r"worst element     args\[0\]\[1, 2\]: gradient -?\d+, by differences -?\d+\n", text)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (F.relu, "relu: not linear in args[0]: f(x + y) - f(0) and f(x) + f(y) - 2 f(0) differ: at (0, 0, "),
        (lambda x: np.clip(x, -5000, 5000), "<lambda>: not linear in args[0]: f(x + 1048576 y) - f(0) and "),
        (
            lambda x: np.where(x.flags.c_contiguous, x, 2 * x),
            "the value for F arguments and as it was: at (0, 0, ",
        ),
        (lambda x: x + np.rint(x) - np.trunc(x / 3) * 3, "<lambda>: not linear in args[0]"),
    ],
)
def test_a_function_that_is_not_linear_is_named_with_a_counterexample(function, text):
    with pytest.raises(AssertionError, match=re.escape(text)) as info:
        check_adjoint(function, lambda g, x: g, [X])
    assert "\n  x, shape (2, 3, 6):\n" in str(info.value)


def test_the_definition_is_compared():
    with pytest.raises(AssertionError, match="conv1d: the value and the reference: at "):
        check_adjoint(F.conv1d, F.conv1d_vjp, [X, W, None], reference=lambda x, w, b: F.conv1d(x, -w))


@pytest.mark.parametrize(
    ("args", "how", "kind", "text"),
    [
        ([X, W / 4, None], {}, ValueError, r"conv1d: expected integers in args\[1\], got -?0?\.?\d*; write np.rint"),
        ([X, W * np.nan, None], {}, ValueError, r"conv1d: expected integers in args\[1\], got nan"),
        ([X, W * np.inf, None], {}, ValueError, r"conv1d: expected integers in args\[1\], got -?inf"),
        ([X, 2.0**50 * W + 1, None], {}, ValueError, r"conv1d is not exact in float64 in args\[0\]: sums of size"),
        ([2.0**35 * X + 1, W, None], {"linear_in": [1]}, ValueError, r"not exact in float64 in args\[1\]: <g, f\(x\)> has"),
        ([X, W, None], {"linear_in": [2]}, ValueError, "linear_in names argument 2, no floating-point array"),
        ([X, W, None], {"scale": 0}, ValueError, "check_adjoint: scale must be at least 1, got 0"),
        ([X, W, None], {"scale": 1.5}, TypeError, "check_adjoint: scale must be an integer"),
        (X, {}, TypeError, r"check_adjoint: expected args to be a list of arguments"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(args, how, kind, text):
    with pytest.raises(kind, match=text):
        check_adjoint(F.conv1d, F.conv1d_vjp, args, **how)


def test_what_divides_says_what_to_write():
    x = integers(1, 2, 6, 6)
    with pytest.raises(
        ValueError, match=r"avg_pool2d is not exact in float64 .* multiples of what it divides by with"
    ):
        check_adjoint(F.avg_pool2d, F.avg_pool2d_vjp, [x], {"kernel_size": 3})
    check_adjoint(F.avg_pool2d, F.avg_pool2d_vjp, [x], {"kernel_size": 3}, scale=9)
    with pytest.raises(
        AssertionError, match=r"expected integers up to rounding with exact=False, got -?\d+\.\d+; scale="
    ):
        check_adjoint(F.avg_pool2d, F.avg_pool2d_vjp, [x], {"kernel_size": 3}, exact=False)


@given(shape=st.lists(st.integers(0, 4), max_size=3).map(tuple), key=fst.keys())
def test_any_shape_is_served(shape, key):
    check_adjoint(lambda x: -x, lambda g, x: -g, [np.zeros(shape)], key=key)
