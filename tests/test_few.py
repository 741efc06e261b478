"""Weight gradients between few channels: long rows, pictures read where they lie, interleaved channels."""

import os

import numpy as np
import pytest

import fconv.functional as F
from fconv.engine import compiled
from tests.guarded import guarded, guarding, orders
from tests.test_adjoint_sweep import geometry_of

pytestmark = [
    pytest.mark.skipif(not compiled.wished(), reason="nothing is compiled"),
    pytest.mark.skipif(os.name != "posix", reason="pages are protected by mprotect"),
    pytest.mark.usefixtures("engine"),
]

# One long row, rows apart, padding, steps down, dilation, groups, three axes, one picture, many strips.
CASES = [
    ((3, 1, 12, 12), (3, 1, 3, 3), {}),
    ((3, 2, 9, 20), (5, 2, 2, 4), {}),
    ((4, 3, 7, 40), (4, 3, 3, 3), {}),
    ((2, 4, 9, 33), (2, 4, 3, 3), {"padding": 1}),
    ((3, 1, 5, 7), (1, 1, 2, 2), {"padding": 2}),
    ((2, 3, 11, 21), (2, 3, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    ((3, 2, 12, 26), (3, 2, 3, 5), {"dilation": (1, 2)}),
    ((2, 6, 10, 19), (4, 3, 3, 3), {"groups": 2, "padding": 2, "dilation": 2}),
    ((3, 4, 8, 28), (4, 1, 5, 3), {"groups": 4}),
    ((2, 2, 4, 5, 14), (3, 2, 2, 3, 3), {}),
    ((3, 3, 40), (2, 3, 11), {"padding": 5}),
    ((1, 2, 13, 28), (4, 2, 1, 1), {}),
    ((70, 1, 6, 9), (13, 1, 3, 3), {}),
    ((2, 1, 300, 60), (2, 1, 3, 3), {}),
]


@pytest.fixture(params=["behind", "before"])
def engine(request):
    with guarding("compiled"):
        yield request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_sums_along_rows_are_the_definition_in_any_memory_order(case, dtype, engine):
    from fconv.engine.compiled.convolution import CompiledConvolution
    from fconv.engine.compiled.few import FewWeights

    x_shape, weight_shape, options = CASES[case]
    ndim, rng = len(x_shape) - 2, np.random.default_rng(case)
    shape = CompiledConvolution(geometry_of(x_shape, weight_shape, options), dtype, "auto").shape
    x, weight = (rng.integers(-4, 5, s).astype(dtype) for s in (x_shape, weight_shape))
    function = getattr(F, f"conv{ndim}d")
    g = rng.integers(-4, 5, function(x, weight, **options).shape).astype(dtype)
    expected = function.vjp(g, x, weight, **options, wrt="weight", algorithm="reference")[1]
    deep = [a.reshape(*a.shape[:2], *(1,) * (3 - ndim), *a.shape[2:]) for a in (g, x, weight)]
    planned = FewWeights(shape, dtype, None)  # which fails where another way would be asked for
    for order in orders(5):
        laid = [guarded(a, order, behind=engine == "behind") for a in deep]
        for _ in range(2):
            found = planned.run(*laid)
            np.testing.assert_array_equal(found.reshape(expected.shape), expected)
        real = [a + np.asarray(0.1, dtype) for a in laid]
        bits = planned.run(*real)
        np.testing.assert_array_equal(planned.run(*(np.ascontiguousarray(a) for a in real)), bits)
    for turned in ((slice(None, None, -1),), (slice(None), slice(None), slice(None), slice(None, None, -1))):
        laid = [guarded(a[turned], range(5), behind=engine == "behind")[turned] for a in deep]
        np.testing.assert_array_equal(planned.run(*laid).reshape(expected.shape), expected)


def test_an_infinity_beside_a_row_is_not_multiplied_by_its_zeros():
    """Behind a row that is read where it lies are numbers of others."""
    x = np.ones((3, 1, 12, 12), np.float32)
    x[1, 0, 0, 0] = np.inf
    g = np.ones((3, 3, 10, 10), np.float32)
    g[1, :, 0, 0] = 0.0
    g[1, 0, 0, 0] = 2.0
    found = F.conv2d.vjp(g, x, np.ones((3, 1, 3, 3), np.float32), wrt="weight")[1]
    with np.errstate(invalid="ignore"):
        expected = F.conv2d.vjp(g, x, np.ones((3, 1, 3, 3), np.float32), wrt="weight", algorithm="reference")[
            1
        ]
    np.testing.assert_array_equal(found, expected)
    assert np.isinf(found[0, 0, 0, 0])
    assert np.isnan(found[1:, 0, 0, 0]).all()
    assert np.isfinite(found[:, :, 1:]).all()


def test_what_no_window_sees_changes_no_bits(engine):
    from fconv.engine.compiled.convolution import CompiledConvolution
    from fconv.engine.compiled.few import FewWeights

    rng = np.random.default_rng(0)
    size, weight = (5, 1, 1, 29, 35), np.zeros((2, 1, 1, 2, 3), np.float32)
    x = rng.standard_normal(size, np.float32)
    unseen = x.copy()
    unseen[..., 2::3, :] = np.nan
    between_rows, between_pictures = (np.full((5, 1, 1, *room), np.nan, "f") for room in ((29, 44), (40, 35)))
    for room in (between_rows, between_pictures):
        room[..., :29, :35] = x
    for stride, cases in ((1, (between_rows, between_pictures)), (3, (unseen,))):
        geometry = geometry_of((5, 1, 29, 35), (2, 1, 2, 3), {"stride": (stride, 1)})
        planned = FewWeights(CompiledConvolution(geometry, "float32", "auto").shape, "float32", None)
        g = rng.standard_normal((5, 2, 1, *geometry.windows.out_size), np.float32)
        expected = planned.run(g, x, weight)
        for given in cases:
            given = given[..., :29, :35]
            for order in (given, given.swapaxes(3, 4).copy().swapaxes(3, 4)):
                np.testing.assert_array_equal(planned.run(g, order, weight), expected)
