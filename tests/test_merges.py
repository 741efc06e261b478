"""Layers of several arrays, stretched and not, against NumPy and differences."""

import numpy as np
import pytest

import fconv as fc

KEY = fc.random.key(7)
SHAPES = [
    ((2, 3), (2, 3)),
    ((2, 1, 3), (4, 1)),
    ((3,), (2, 4, 3)),
    ((), (2, 2)),
    ((2, 0), (1, 1)),
    ((1, 3), (2, 1)),
]
TWO = {
    "add": (fc.add(), np.add), "subtract": (fc.subtract(), np.subtract), "multiply": (fc.multiply(), np.multiply),
    "divide": (fc.divide(), np.divide), "maximum": (fc.maximum(), np.maximum), "minimum": (fc.minimum(), np.minimum),
}  # fmt: skip


def drawn(*shapes):
    return tuple(
        1 + fc.random.uniform(fc.random.fold_in(KEY, i), shape, dtype=np.float64)
        for i, shape in enumerate(shapes)
    )


def check_gradient(layer, xs):
    """Compare with central differences in a random direction."""
    y, _, pull = layer.forward((), xs)
    g = np.asarray(drawn(y.shape)[0])
    dxs = pull(g)[1]
    for i, (x, dx) in enumerate(zip(xs, dxs, strict=True)):
        assert dx.shape == x.shape
        assert dx.dtype == x.dtype
        u, h = np.asarray(drawn(x.shape)[0]), 1e-6
        ends = [layer.apply((), (*xs[:i], x + s * h * u, *xs[i + 1 :])) for s in (1, -1)]
        slope = ((ends[0] - ends[1]) * g).sum() / (2 * h)
        assert abs(slope - (u * dx).sum()) <= 1e-6 * max(1, abs(slope))


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", TWO)
def test_two_arrays_are_stretched_as_numpy_does(name, shapes):
    layer, function = TWO[name]
    xs = drawn(*shapes)
    y = layer.apply((), xs)
    np.testing.assert_array_equal(y, function(*xs))
    assert layer.out_shape(shapes) == y.shape
    check_gradient(layer, xs)


def test_sizes_of_another_array():
    layer = fc.expand_like(None, None, -1, 2)
    x, like = drawn((1, 3, 1), (4, 5, 3, 2))
    y = layer.apply((), (x, like))
    np.testing.assert_array_equal(y, np.broadcast_to(x, (4, 5, 3, 2))[:, :1].repeat(5, 1))
    assert layer.out_shape((x.shape, like.shape)) == y.shape
    check_gradient(layer, (x, like))
    assert not layer.vjp((), (x, like), y)[1][1].any()
    for shapes, text in (
        (((1, 3, 1), (4,)), r"expand_like: cannot stretch an input of shape \(1, 3, 1\) to"),
        (((1, 3, 4), (4, 5, 3, 2)), "expand_like: cannot stretch"),
        (((1, 3, 1),), "expand_like: expected two inputs, got 1"),
    ):
        with pytest.raises(ValueError, match=text):
            layer.out_shape(shapes)
    with pytest.raises(TypeError, match="expand_like: a size must be an integer"):
        fc.expand_like(1.5)


def test_ties_share_the_gradient():
    x = np.array([1.0, 2.0])
    for layer in (fc.maximum(), fc.minimum()):
        np.testing.assert_array_equal(layer.vjp((), (x, x), np.ones(2))[1], [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (4, 2)),
        ((5, 3, 4), (4, 2)),
        ((2, 1, 3, 4), (5, 4, 6)),
        ((2, 3, 0), (2, 0, 4)),
        ((3, 4), (4,)),
        ((4,), (4, 2)),
        ((4,), (4,)),
        ((5, 2, 3, 4), (4,)),
        ((4,), (5, 2, 4, 3)),
    ],
    ids=str,
)
def test_matmul_is_numpys(shapes):
    xs = drawn(*shapes)
    y = fc.matmul().apply((), xs)
    np.testing.assert_allclose(y, xs[0] @ xs[1])
    assert fc.matmul().out_shape(shapes) == y.shape
    check_gradient(fc.matmul(), xs)


@pytest.mark.parametrize("dim", [0, 1, -1, -3])
def test_stack_is_numpys(dim):
    xs = drawn((2, 3), (2, 3), (2, 3))
    y = fc.stack(dim).apply((), xs)
    np.testing.assert_array_equal(y, np.stack(xs, dim))
    assert fc.stack(dim).out_shape([x.shape for x in xs]) == y.shape
    check_gradient(fc.stack(dim), xs)


def test_three_arrays_are_stretched_too():
    xs = drawn((2, 1), (3,), (1, 1, 1))
    for layer, function in ((fc.add(), np.add), (fc.multiply(), np.multiply)):
        np.testing.assert_array_equal(layer.apply((), xs), function(function(*xs[:2]), xs[2]))
        check_gradient(layer, xs)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: fc.divide().out_shape(((1,), (1,), (1,))), "divide: expected two inputs, got 3"),
        (lambda: fc.add().out_shape(((2, 3), (2, 4))), r"add: expected shapes that are equal or 1 .* got \(2, 3\) and \(2, 4\)"),
        (lambda: fc.matmul().out_shape(((3, 4), (3, 4))), "matmul: expected shapes"),
        (lambda: fc.matmul().out_shape(((3, 4), (3,))), r"or \(k,\) for either, got \(3, 4\) and \(3,\)"),
        (lambda: fc.matmul().out_shape(((3, 4), ())), "matmul: expected shapes"),
        (lambda: fc.stack(3).out_shape(((3, 4), (3, 4))), "stack: expected a place among the axes"),
        (lambda: fc.stack().out_shape(((3, 4), (3, 5))), "stack: expected inputs of one shape"),
        (lambda: fc.chunk(2, 2).out_shape((2, 3)), "chunk: an axis of 2 has no piece 2 of 2"),
        (lambda: fc.split((1, 2), 0, dim=1).out_shape((2, 4)), r"split: expected sizes that sum to the axis, 4, got \(1, 2\)"),
        (lambda: fc.split((1, 2), 2), "split: expected an index below 2, got 2"),
        (lambda: fc.narrow(1, 2, 3).out_shape((2, 4)), "narrow: expected a part of axis 1"),
        (lambda: fc.permute(0, 0).out_shape((2, 4)), "permute: expected every axis"),
        (lambda: fc.squeeze(2).out_shape((2, 4)), "squeeze: expected an axis of an array"),
        (lambda: fc.unsqueeze(4).out_shape((2, 4)), "unsqueeze: expected a place"),
        (lambda: fc.view(3, -1).out_shape((2, 4)), "view: cannot reshape"),
        (lambda: fc.view(2, 4, 0).out_shape((2, 4)), "view: an input of shape .* lacks an axis"),
        (lambda: fc.mean((0, 0)).out_shape((2, 4)), "mean: expected each axis at most once"),
        (lambda: fc.amax(0).apply((), np.ones((0, 2))), "amax: expected an element along"),
        (lambda: fc.clamp(), "clamp: expected min, max or both"),
        (lambda: fc.slice_along(0, step=0), "slice_along: step must be at least 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(build, text):
    with pytest.raises(ValueError, match=text):
        build()


@pytest.mark.parametrize("name", ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"])
def test_comparisons_are_numpys_and_have_no_gradient(name):
    a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[2.0], [3.0]])
    layer = fc.compare(name)
    y, _, pull = layer.forward((), (a, b))
    np.testing.assert_array_equal(y, getattr(np, name)(a, b).astype(float), strict=True)
    for x, dx in zip((a, b), pull(np.ones_like(y))[1], strict=True):
        np.testing.assert_array_equal(dx, np.zeros_like(x), strict=True)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 1, 3), (4, 1)), ((), (2, 2))], ids=str)
def test_a_choice_is_numpys_where(shapes):
    a, b = drawn(*shapes)
    mask = np.array([1.0, 0.0, 1.0])[: np.broadcast_shapes(*shapes)[-1]]
    y = fc.choose().apply((), (mask, a, b))
    np.testing.assert_array_equal(y, np.where(mask != 0, a, b))
    assert fc.choose().out_shape((mask.shape, *shapes)) == y.shape
    check_gradient(fc.choose(), (mask, a, b))


def test_what_is_not_chosen_may_be_anything():
    x = np.array([1.0, np.nan])
    y, _, pull = fc.choose().forward((), (np.array([1.0, 0.0]), x, np.zeros(2)))
    np.testing.assert_array_equal(y, [1, 0])
    np.testing.assert_array_equal(pull(np.ones(2))[1][1], [1, 0])


def test_comparisons_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match=r"compare: expected less, less_equal, .*, got 'above'"):
        fc.compare("above")
    with pytest.raises(ValueError, match="choose: expected three inputs, got 2"):
        fc.choose().out_shape(((2,), (2,)))
