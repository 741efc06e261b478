"""Convolution by lists of what each position meets, against the definition: exact in integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fconv.engine import compiled, reference
from fconv.geometry import conv_geometry

pytestmark = pytest.mark.skipif(compiled.problem() is not None, reason=str(compiled.problem()))


def ordered(x, order):
    """Copy an array into another memory order, under the same shape."""
    if order == "channels-last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    if order == "strided":
        return np.repeat(x, 2, axis=1)[:, ::2]
    return x


@st.composite
def cases(draw):
    ndim = draw(st.integers(1, 3))

    def sizes(low, high):
        return tuple(draw(st.lists(st.integers(low, high), min_size=ndim, max_size=ndim)))

    groups = draw(st.sampled_from([1, 1, 2, 3, 18]))
    inner, outer = draw(st.sampled_from([(1, 1), (1, 5), (3, 1), (2, 20), (17, 33)]))
    size, kernel, dilation = sizes(1, 6), sizes(1, 5), sizes(1, 3)
    padding = tuple(
        draw(st.integers(max(0, -(-((k - 1) * d + 1 - n) // 2)), 9))
        for n, k, d in zip(size, kernel, dilation, strict=True)
    )
    shapes = (draw(st.integers(1, 18)), groups * inner, *size), (groups * outer, inner, *kernel)
    order = draw(st.sampled_from(["contiguous", "channels-last", "strided"]))
    return conv_geometry("c", ndim, *shapes, None, sizes(1, 4), padding, dilation, groups), order


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 2**32 - 1))
def test_lists_agree_with_the_definition(case, seed):
    from fconv.engine.compiled import positions
    from fconv.engine.compiled.convolution import CompiledConvolution

    geometry, order = case
    draw = np.random.default_rng(seed)
    x, weight, bias, g = (
        draw.integers(-4, 5, shape).astype(np.float64)
        for shape in (
            geometry.in_shape, geometry.weight_shape, (geometry.out_channels,), geometry.out_shape
        )
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "pays", lambda *_, **options: True)
        plan = CompiledConvolution(geometry, "float64", "auto")
        y = plan.convolve(ordered(x, order), ordered(weight, order), bias)
        dx = plan.input_gradient(ordered(g, order), ordered(weight, order))
    column = bias.reshape(-1, *(1,) * geometry.windows.ndim)
    assert np.array_equal(y, reference.convolve(x, weight, geometry) + column)
    assert np.array_equal(dx, reference.input_gradient(g, weight, geometry))


@pytest.mark.parametrize("padding", [4, 9])
def test_windows_that_see_nothing_but_zeros(padding):
    """The outermost windows lie outside of the picture, with an infinity in it as well."""
    import fconv.functional as F

    x = np.full((2, 3, 2, 2), np.inf, np.float32)
    weight, bias = np.ones((20, 3, 3, 3), np.float32), np.arange(20, dtype=np.float32)
    y = F.conv2d(x, weight, bias, padding=padding)
    assert np.array_equal(y[:, :, 0, 0], np.broadcast_to(bias, (2, 20)))
    assert np.isposinf(y[:, :, padding, padding]).all()
