"""Correlations that copy some channels at a time, or read only the positions that a stride leaves."""

import numpy as np
import pytest

from fconv import functional as F
from fconv.engine.threads import set_num_threads
from tests.convolutions import _the_number_of_threads_stays, arrays, channels_last, engine  # noqa: F401

# Boxes of all channels would outgrow the L2 cache in the first; in others a stride skips rows or columns.
CASES = {
    "channels": ((1, 640, 14, 40), (20, 640, 5, 5), {"padding": 2, "dilation": 2}),
    "channels of rows that join": ((1, 256, 63, 63), (32, 256, 3, 3), {"padding": 1, "stride": (1, 2)}),
    "channels in halves": ((2, 516, 9, 40), (20, 516, 5, 5), {"padding": 2, "dilation": 2}),
    "groups": ((1, 480, 14, 40), (60, 160, 5, 5), {"padding": 2, "dilation": 2, "groups": 3}),
    "more groups than tasks": ((1, 576, 16, 33), (180, 64, 5, 5), {"padding": 4, "dilation": 3, "groups": 9}),
    "columns": ((2, 24, 13, 20), (20, 24, 4, 1), {"padding": 3, "stride": 3}),
    "columns without padding": ((3, 24, 13, 40), (20, 24, 3, 1), {"stride": (1, 3)}),
    "rows": ((2, 24, 20, 13), (20, 24, 1, 4), {"padding": (0, 1), "stride": (3, 1)}),
    "pixels": ((2, 24, 15, 14), (40, 24, 1, 1), {"stride": 2}),
    "pixels from the second on": ((2, 24, 15, 14), (40, 24, 1, 1), {"stride": 3, "padding": 1}),
    "dilation of the stride": ((2, 24, 15, 16), (20, 24, 2, 3), {"padding": 3, "stride": 3, "dilation": 3}),
    "the same in place": ((2, 24, 15, 16), (20, 24, 2, 3), {"stride": 3, "dilation": 3}),
    "groups of pixels": ((2, 24, 15, 14), (40, 12, 1, 1), {"stride": 2, "groups": 2}),
    "depthwise": ((2, 24, 15, 16), (24, 1, 3, 3), {"stride": 2, "dilation": 2, "groups": 24, "padding": 1}),
    "depthwise pixels": ((2, 24, 15, 16), (24, 1, 1, 1), {"stride": 2, "groups": 24}),
    "depthwise of few channels": ((2, 4, 33, 40), (4, 1, 3, 3), {"padding": 1, "groups": 4}),
    "the same with a stride": ((2, 3, 33, 40), (3, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 3}),
    "depthwise of eight": ((2, 8, 33, 40), (8, 1, 5, 3), {"padding": (2, 0), "groups": 8}),
    "small groups": ((2, 9, 27, 30), (9, 3, 3, 3), {"stride": 3, "padding": 1, "groups": 3}),
    "a gradient of several pieces": ((3, 2, 70, 60), (20, 2, 3, 3), {"padding": 1}),
    "pieces of which the last has one position": ((1, 2, 25, 41), (20, 2, 3, 3), {"padding": 1}),
    "one output": ((2, 8, 40, 44), (1, 8, 3, 1), {"stride": 3}),
}


@pytest.mark.parametrize("layout", ["contiguous", "channels-last", "strided"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_definition(case, dtype, layout, engine):  # noqa: F811
    x_shape, weight_shape, options = CASES[case]
    x, weight = (a.astype(dtype) for a in arrays(x_shape, weight_shape))
    laid = {
        "contiguous": lambda a: a,
        "channels-last": channels_last,
        "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    }[layout]
    bias = np.linspace(-1, 1, weight_shape[0]).astype(dtype)
    whole, exact = {"algorithm": "reference"}, (x.astype(float), weight.astype(float), bias.astype(float))
    expected = F.conv2d(*exact, **options, **whole)
    g = np.random.default_rng(0).standard_normal(expected.shape)
    gradients = F.conv2d_vjp(g, *exact, **options, **whole)
    for _ in range(2):  # the second time by what the first has found
        found = F.conv2d(laid(x), laid(weight), bias, **options)
        for a, b in zip(
            (found, *F.conv2d_vjp(laid(g.astype(dtype)), laid(x), laid(weight), bias, **options)),
            (expected, *gradients),
            strict=True,
        ):
            assert a.dtype == dtype
            np.testing.assert_allclose(
                a, b, rtol=0, atol=np.abs(b).max() * (4e-6 if dtype == "float32" else 1e-13)
            )


@pytest.mark.parametrize(
    "case",
    [
        "channels",
        "channels in halves",
        "groups",
        "more groups than tasks",
        "columns",
        "depthwise of eight",
        "a gradient of several pieces",
        "pixels",
        "groups of pixels",
    ],
)
def test_the_same_bits_with_any_number_of_threads_and_memory_order(case):
    x_shape, weight_shape, options = CASES[case]
    x, weight = arrays(x_shape, weight_shape)
    found = []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        found += [F.conv2d(laid(x), laid(weight), **options) for laid in (lambda a: a, channels_last)]
    assert all(np.array_equal(found[0], other) for other in found[1:])
    g = arrays(found[0].shape, (1,))[0]
    each = [F.conv2d_vjp(laid(g), laid(x), laid(weight), **options) for laid in (lambda a: a, channels_last)]
    for a, b in zip(*each, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_infinity_beside_zeros_of_a_row():
    x, weight = arrays((1, 3, 9, 21), (3, 1, 3, 3))
    x[0, 1, -1, -1], x[0, 2, 4, 0] = np.inf, np.nan
    options = {"padding": 1, "groups": 3}
    g = np.random.default_rng(0).standard_normal((1, 3, 9, 21)).astype(np.float32)
    found = F.conv2d_vjp(g, x, weight, **options)[1]
    expected = F.conv2d_vjp(g, x, weight, **options, algorithm="reference")[1]
    assert np.array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found[np.isfinite(found)], expected[np.isfinite(expected)], atol=1e-4)
