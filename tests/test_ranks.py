"""Axes of a layer's output, told from those of its input alone: those that it has indeed."""

import numpy as np
import pytest

import fconv as fc
from fconv.torch.ranks import rank_after, rank_before

SHAPE = (2, 3, 4, 6)
TOLD = {
    "flatten": fc.flatten(),
    "flatten to three": fc.flatten(0),
    "mean of two": fc.mean((1, 3)),
    "mean of one": fc.mean(2),
    "mean kept": fc.mean((1, 3), keepdim=True),
    "sum of all": fc.sum((0, 1, 2, 3)),
    "select": fc.select(1, 0),
    "unsqueeze": fc.unsqueeze(1),
    "permute": fc.permute((0, 2, 3, 1)),
    "reshape": fc.reshape((12, 6)),
    "view": fc.view((6, 24)),
    "unflatten": fc.unflatten(3, (2, 3)),
    "relu": fc.relu(),
    "conv2d": fc.conv2d(5, 3),
    "max_pool2d": fc.max_pool2d(2),
    "unfold": fc.unfold(2),
    "linear": fc.linear(5),
    "in a row": fc.compose(fc.conv2d(5, 3), fc.relu(), fc.flatten(), fc.linear(2)),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_rank_that_is_told_is_that_of_the_output(name):
    layer = TOLD[name]
    params = layer.init(fc.random.key(0), SHAPE)
    y = layer.apply(params, np.ones(SHAPE, np.float32))
    assert rank_after(layer, [len(SHAPE)]) == y.ndim


def test_ranks_that_nothing_tells_are_none():
    assert rank_after(fc.relu(), [None]) is None
    assert rank_after(fc.linear(2), []) is None
    assert rank_after(fc.flatten(1, 2), [4]) is None
    assert rank_before(fc.linear(2)) is None


def test_a_layer_for_pictures_tells_the_axes_of_its_input():
    layers = (fc.conv1d(2, 3), fc.max_pool3d(2), fc.pixel_shuffle(2))
    assert [rank_before(layer) for layer in layers] == [3, 5, 4]
    assert rank_before(fc.compose(fc.conv1d(2, 3), fc.relu())) == 3
    assert rank_after(fc.conv3d(2, 3), [None]) == 5
