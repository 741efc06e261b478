"""Functions of arrays at the edges of what they take: no elements, sizes and norms of just 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest

from fconv import functional as F


def test_all_of_an_axis_may_be_cropped_and_no_more():
    x = np.ones((1, 2, 3))
    assert F.pad(x, (-1, -2)).shape == (1, 2, 0)
    np.testing.assert_array_equal(F.pad_vjp(np.ones((1, 2, 0)), x, (-1, -2)), np.zeros_like(x))
    with pytest.raises(ValueError, match="pad: widths -2 and -2 do not fit an axis of 3"):
        F.pad(x, (-2, -2))


@pytest.mark.parametrize("p", [-np.inf, np.inf])
def test_a_norm_of_nothing_has_no_largest_element(p):
    with pytest.raises(ValueError, match="vector_norm: expected an element along the axes"):
        F.vector_norm(np.ones((2, 0)), p, dim=1)
    assert F.vector_norm(np.ones((0, 2)), p, dim=1).shape == (0,)


def test_no_samples_have_no_channels():
    x = np.ones(0)
    y, pullback = F.batch_norm.forward(x, weight=np.ones(2), bias=np.ones(2), training=True)
    assert y.shape == (0,)
    dx, *_, dweight, dbias = pullback(y)
    assert dx.shape == (0,)
    np.testing.assert_array_equal(dweight, [0, 0])
    np.testing.assert_array_equal(dbias, [0, 0])


def test_a_mean_over_nothing_is_no_number():
    x = np.ones((2, 3, 0, 4))
    with np.errstate(all="ignore"):
        assert np.isnan(F.adaptive_avg_pool2d(x, 1)).all()
    for function, size in (
        (F.adaptive_avg_pool2d, 2),
        (F.adaptive_avg_pool2d, (1, 2)),
        (F.adaptive_max_pool2d, 1),
    ):
        with pytest.raises(ValueError, match="expected at least one element along each axis"):
            function(x, size)


def test_the_distance_of_order_0_counts_what_differs():
    anchor, positive = np.array([[1.0, 2.0, 0.0]]), np.zeros((1, 3))
    options = {"margin": 10.0, "p": 0.0, "eps": 0.0, "reduction": "none"}
    np.testing.assert_array_equal(F.triplet_margin_loss(anchor, positive, anchor, **options), [12.0])
    for dx in F.triplet_margin_loss_vjp(np.ones(1), anchor, positive, anchor, **options):
        np.testing.assert_array_equal(dx, np.zeros((1, 3)))
