"""The same values give the same bits, whatever memory order they lie in and whichever BLAS multiplies them.

OpenBLAS's kernels for AVX-512 round a product differently where an operand is transposed in memory; its
kernels for AVX2 do not, so here a double of the matrix product does it on every machine.
"""

import numpy as np
import pytest
from opt_einsum.backends import dispatch

import fconv as fc
import fconv.functional as F


def picky(product):
    """Return a matrix product whose rounding shows which operands are transposed in memory."""

    def multiplied(a, b, *args, out=None, **options):
        y = product(a, b, *args, **options)
        transposed = sum(
            2**i
            for i, x in enumerate((a, b))
            if x.ndim > 1 and x.strides[-1] > x.itemsize and x.shape[-1] > 1
        )
        y *= 1 + transposed * 1e-3
        if out is None:
            return y
        out[...] = y
        return out

    return multiplied


@pytest.fixture(params=["own", "picky"])
def blas(request, monkeypatch):
    """Compute with NumPy's BLAS as it is, or with the double."""
    if request.param == "picky":
        monkeypatch.setattr(np, "matmul", picky(np.matmul))
        monkeypatch.setitem(dispatch._cached_funcs, ("tensordot", "numpy"), picky(np.tensordot))


def orders(x):
    """Yield `x` in several memory orders."""
    yield x
    yield np.asfortranarray(x)
    if x.ndim > 1:
        yield np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)  # channels-last
        yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield np.ascontiguousarray(x[::-1])[::-1]


def draw(*shapes):
    return [fc.random.normal(fc.random.key(i), shape) for i, shape in enumerate(shapes)]


CASES = {
    "conv2d": (F.conv2d, [(4, 12, 21, 20), (8, 12, 3, 3), (8,)], {"stride": 2, "padding": 1}),
    "conv2d of few channels": (F.conv2d, [(2, 2, 15, 14), (9, 2, 3, 3), (9,)], {}),
    "conv2d to few channels": (F.conv2d, [(2, 12, 15, 14), (2, 12, 3, 3), (2,)], {}),
    "conv2d 1x1": (F.conv2d, [(2, 12, 9, 8), (10, 12, 1, 1), (10,)], {}),
    "winograd": (F.conv2d, [(2, 32, 20, 20), (32, 32, 3, 3), (32,)], {"algorithm": "winograd", "padding": 1}),
    "groups": (F.conv2d, [(2, 12, 9, 8), (8, 6, 3, 3), (8,)], {"groups": 2}),
    "depthwise": (F.conv2d, [(2, 6, 9, 8), (12, 1, 3, 3), (12,)], {"groups": 6}),
    "stride and dilation": (F.conv2d, [(2, 6, 12, 11), (7, 6, 3, 3), (7,)], {"stride": 2, "dilation": 2}),
    "conv1d": (F.conv1d, [(3, 8, 40), (12, 8, 5), (12,)], {"padding": 2}),
    "conv3d": (F.conv3d, [(2, 6, 6, 5, 6), (8, 6, 3, 3, 3), (8,)], {}),
    "conv_transpose2d": (F.conv_transpose2d, [(2, 12, 9, 8), (12, 10, 3, 3), (10,)], {"stride": 2}),
    "linear": (F.linear, [(50, 75), (12, 75), (12,)], {}),
    "bilinear": (F.bilinear, [(9, 20), (9, 30), (12, 20, 30), (12,)], {}),
    "attention": (F.scaled_dot_product_attention, [(2, 3, 40, 16), (2, 3, 50, 16), (2, 3, 50, 24)], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_in_any_memory_order(name, blas):
    function, shapes, options = CASES[name]
    arrays = draw(*shapes)
    y = function(*arrays, **options)
    g = fc.random.normal(fc.random.key(9), y.shape)
    grads = function.vjp(g, *arrays, **options)
    for i, given in enumerate((*arrays, g)):
        for other in orders(given):
            args = [*arrays[:i], other, *arrays[i + 1 :]][: len(arrays)]
            np.testing.assert_array_equal(function(*args, **options), y, err_msg=f"{name}: argument {i}")
            found = function.vjp(other if i == len(arrays) else g, *args, **options)
            for j, (a, b) in enumerate(zip(found, grads, strict=True)):
                if a is None:  # a mask that was not given
                    assert b is None
                elif a.ndim == 1 and i == len(
                    arrays
                ):  # a bias: sums follow the memory order of what is summed
                    np.testing.assert_allclose(a, b, rtol=1e-4)
                else:
                    np.testing.assert_array_equal(
                        a, b, err_msg=f"{name}: gradient {j}, argument {i}, {other.strides}"
                    )


def test_matrices_multiplied_in_a_network(blas):
    layer = fc.matmul()
    a, b = draw((3, 40, 16), (3, 16, 50))
    y = layer.apply((), (a, b))
    pulled = layer.vjp((), (a, b), y)[1]
    for c in orders(a):
        for d in orders(b):
            np.testing.assert_array_equal(layer.apply((), (c, d)), y)
            for found, expected in zip(layer.vjp((), (c, d), y)[1], pulled, strict=True):
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_goes_on_with_the_same_bits_from_parameters_in_another_order(blas, dtype):
    net = fc.compose(fc.conv2d(8, 3, stride=2), fc.batch_norm(), fc.relu(), fc.flatten(), fc.linear(3))
    x, target = draw((6, 4, 9, 9))[0].astype(dtype), np.arange(6) % 3
    opt = fc.clip_by_global_norm(fc.sgd(0.1, momentum=0.9, weight_decay=0.01), 0.5)
    step = fc.train_step(net, fc.cross_entropy_loss(), opt)
    going = fc.train_state(net, opt, fc.random.key(0), x.shape, dtype=dtype)
    for _ in range(3):
        # A file keeps every array in C order.
        loaded = fc.trees.map(lambda leaf: np.array(leaf, order="C"), going)
        reversed_ = fc.trees.map(lambda leaf: np.array(leaf, order="F"), going)
        after = [step(state, x, target)[0] for state in (going, loaded, reversed_)]
        for other in after[1:]:
            for a, b in zip(fc.trees.leaves(other), fc.trees.leaves(after[0]), strict=True):
                np.testing.assert_array_equal(a, b)
        going = after[0]


def test_the_double_sees_a_transposed_operand(blas, request):
    a, b = draw((50, 75), (75, 12))
    same = np.array_equal(np.matmul(a, np.asfortranarray(b)), np.matmul(a, b))
    assert not (same and request.node.callspec.params["blas"] == "picky")
