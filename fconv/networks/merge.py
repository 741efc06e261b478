"""Layers that make one array of several: their input is a tuple."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape, check_floating, in_c_order, namespace, narrowed, native, widened, xp_of
from fconv.functional.core import once
from fconv.functional.one_pass import in_one_pass
from fconv.functional.sums import broadcast_shape, sum_to
from fconv.layer import Layer, LayerPullback, Params, check_params
from fconv.options import whole

T = TypeVar("T")
_Pull: TypeAlias = Callable[[Array], tuple[Array, ...]]
Merged: TypeAlias = tuple[Array, _Pull] | tuple[Array, _Pull, Callable[[Sequence[Array]], Array]]


@constructor
def add(*, stretch: bool = True) -> Layer:
    """Add the arrays of a tuple; they are stretched to one shape, as NumPy does, unless `stretch` is False.

    Examples
    --------
    >>> import numpy as np
    >>> add().apply((), (np.ones(2), np.ones(2)))
    array([2., 2.])
    """

    def forward(xs: Sequence[Array]) -> Merged:
        return _total(xs), lambda g: tuple(sum_to(g, x.shape) for x in xs)

    return merge("add", forward, lambda shapes: (broadcast_shape if stretch else one_shape)("add", shapes))


@constructor
def multiply() -> Layer:
    """Multiply the arrays of a tuple element by element; they are stretched to one shape, as NumPy does.

    Examples
    --------
    >>> import numpy as np
    >>> multiply().vjp((), (np.full(2, 3.0), np.full(2, 5.0)), np.ones(2))
    ((), (array([5., 5.]), array([3., 3.])))
    """

    def forward(xs: Sequence[Array]) -> Merged:
        @once
        def others() -> list[Array | None]:
            return [_product([x for j, x in enumerate(xs) if j != i]) for i in range(len(xs))]

        def pull(g: Array) -> tuple[Array, ...]:
            each = zip(xs, others(), strict=True)
            return tuple(sum_to(g if o is None else g * o, x.shape) for x, o in each)

        def push(ts: Sequence[Array]) -> Array:
            return _total([t if o is None else t * o for t, o in zip(ts, others(), strict=True)])

        product = _product(xs)
        assert product is not None  # a tuple of inputs is never empty
        return product, pull, push

    return merge("multiply", forward, lambda shapes: broadcast_shape("multiply", shapes))


@constructor
def subtract(*, stretch: bool = True) -> Layer:
    """Take the second of two arrays from the first, stretched to one shape unless `stretch` is False.

    Examples
    --------
    >>> import numpy as np
    >>> subtract().vjp((), (np.ones(2), np.zeros(2)), np.ones(2))
    ((), (array([1., 1.]), array([-1., -1.])))
    """
    return _of_two("subtract", lambda a, b: (a - b, lambda g: (g, -g)), stretch)


@constructor
def divide() -> Layer:
    """Divide the first array of a tuple of two by the second; they are stretched to one shape.

    Examples
    --------
    >>> import numpy as np
    >>> divide().vjp((), (np.full(2, 3.0), np.full(2, 2.0)), np.ones(2))
    ((), (array([0.5, 0.5]), array([-0.75, -0.75])))
    """

    def forward(a: Array, b: Array) -> tuple[Array, _Pair]:
        return _quietly(lambda: a / b), lambda g: _quietly(lambda: (g / b, -g * a / (b * b)))

    return _of_two("divide", forward)


@constructor
def maximum() -> Layer:
    """Return the larger element at each position, as torch.maximum: ties share the gradient."""
    return _of_two("maximum", lambda a, b: (xp_of(a).maximum(a, b), _chooses(a, b, a > b)))


@constructor
def minimum() -> Layer:
    """Return the smaller element at each position, as torch.minimum: ties share the gradient."""
    return _of_two("minimum", lambda a, b: (xp_of(a).minimum(a, b), _chooses(a, b, a < b)))


@constructor
def matmul() -> Layer:
    """Multiply two matrices, or two stacks of them whose leading axes are broadcast, as torch.matmul.

    A vector is a row before a matrix and a column behind one, and that axis is then left out.

    Examples
    --------
    >>> matmul().out_shape(((8, 1, 3, 4), (5, 4, 6)))
    (8, 5, 3, 6)
    """

    def out_shape(shapes: Sequence[Shape]) -> Shape:
        a, b = _two("matmul", shapes)
        if not a or not b or a[-1] != b[-2:][0]:
            raise ValueError(
                f"matmul: expected shapes (..., n, k) and (..., k, m), or (k,) for either, "
                f"got {listed(shapes)}"
            )
        return (*broadcast_shape("matmul", [a[:-2], b[:-2]]), *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))

    def forward(xs: Sequence[Array]) -> Merged:
        a, b = map(in_c_order, xs)  # BLAS may round differently where an operand is transposed in memory
        row, column = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)

        def pull(g: Array) -> tuple[Array, ...]:
            g = in_c_order(g)
            g = g[..., None] if b.ndim == 1 else g
            g = g[..., None, :] if a.ndim == 1 else g
            da, db = g @ column.swapaxes(-1, -2), row.swapaxes(-1, -2) @ g
            return sum_to(da, row.shape).reshape(a.shape), sum_to(db, column.shape).reshape(b.shape)

        def push(ts: Sequence[Array]) -> Array:
            return xp_of(a).asarray(ts[0] @ b + a @ ts[1])

        return xp_of(a).asarray(a @ b), pull, push

    return merge("matmul", forward, out_shape)


@constructor
def expand_like(*sizes: int | None) -> Layer:
    """Stretch the first of two arrays, taking sizes from the second.

    Parameters
    ----------
    *sizes : int or None
        The new shape, which may have further axes in front: -1 keeps the size of an axis, None takes that
        of the same axis of the second array, whose gradient is 0.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        Sizes that are no integers, at once; shapes that do not fit, when the layer is used.

    Examples
    --------
    A token for every example of a batch:

    >>> expand_like(None, -1, -1).out_shape(((1, 1, 64), (8, 49, 64)))
    (8, 1, 64)
    """
    wanted = tuple(None if n is None else whole("expand_like", "a size", n, -1) for n in sizes)

    def out_shape(shapes: Sequence[Shape]) -> Shape:
        x, like = _two("expand_like", shapes)
        held = (1,) * (len(wanted) - len(x)) + x
        known = len(held) == len(wanted) and all(n is not None for n in wanted[len(like) :])
        new = zip(wanted, held, range(len(held)), strict=False)
        shape = tuple(like[axis] if n is None else h if n == -1 else n for n, h, axis in new) if known else ()
        if not known or any(h not in (1, n) for h, n in zip(held, shape, strict=True)):
            raise ValueError(
                f"expand_like: cannot stretch an input of shape {x} to {wanted}, of one of {like}"
            )
        return shape

    def forward(xs: Sequence[Array]) -> Merged:
        x, like = xs
        xp = xp_of(x)
        nothing = xp.broadcast_to(xp.zeros((), x.dtype), like.shape)
        stretched = xp.broadcast_to(x, out_shape([x.shape, like.shape]))
        return stretched, lambda g: (sum_to(g, x.shape), nothing)

    return merge("expand_like", forward, out_shape, {"sizes": wanted})


COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


@constructor
def compare(comparison: str) -> Layer:
    """Return 1 where a comparison of two arrays holds and 0 elsewhere; the gradient is 0.

    Parameters
    ----------
    comparison : {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"}
        How the first array compares with the second; they are stretched to one shape.

    Examples
    --------
    >>> import numpy as np
    >>> compare("less").apply((), (np.array([1.0, 3.0]), np.array([2.0])))
    array([1., 0.])
    """
    if comparison not in COMPARISONS:
        raise ValueError(f"compare: expected {', '.join(COMPARISONS)}, got {comparison!r}")

    def forward(a: Array, b: Array) -> tuple[Array, _Pair]:
        y = getattr(xp_of(a), comparison)(a, b).astype(a.dtype)
        return y, lambda g: (xp_of(g).zeros_like(g), xp_of(g).zeros_like(g))

    made = _of_two("compare", forward)
    return replace(made, options={"comparison": comparison})


@constructor
def choose() -> Layer:
    """Return the second of three arrays where the first is not 0, and the third elsewhere.

    The first, such as `compare` gives, has the gradient 0; all three are stretched to one shape.

    Examples
    --------
    >>> import numpy as np
    >>> choose().apply((), (np.array([1.0, 0.0]), np.array([2.0, 3.0]), np.array([-1.0])))
    array([ 2., -1.])
    """

    def out_shape(shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 3:
            raise ValueError(f"choose: expected three inputs, got {len(shapes)}")
        return broadcast_shape("choose", shapes)

    def forward(xs: Sequence[Array]) -> Merged:
        condition, a, b = xs
        xp, at = xp_of(a), condition != 0

        def pull(g: Array) -> tuple[Array, ...]:
            none = xp.zeros((), g.dtype)
            parts = (xp.where(at, g, none), xp.where(at, none, g))
            return xp.zeros_like(condition), sum_to(parts[0], a.shape), sum_to(parts[1], b.shape)

        return xp.where(at, a, b), pull, lambda ts: xp.where(at, *ts[1:])

    return merge("choose", forward, out_shape)


def merge(
    name: str,
    forward: Callable[[Sequence[Array]], Merged],
    out_shape: Callable[[Sequence[Shape]], Shape],
    options: dict[str, Any] | None = None,
) -> Layer:
    """Make a layer of a function of several arrays, which is checked before it runs.

    `forward` returns the value, the pullback, and the push from tangents of all arrays to that of the value,
    unless the function is linear, and so its own.
    """

    def checked(shapes: Any) -> Shape:
        if not isinstance(shapes, (tuple, list)) or not shapes or isinstance(shapes[0], int):
            raise TypeError(f"{name}: expected a tuple of inputs, got one of shape {shapes}")
        return out_shape([tuple(s) for s in shapes])

    def run(params: Params, xs: Any) -> tuple[Array, _Pull, Callable[[Any], Array]]:
        check_params(name, params, ())
        if not isinstance(xs, (tuple, list)):
            raise TypeError(f"{name}: expected a tuple of inputs, got {type(xs).__name__}")
        by_name = named(xs)
        namespace(name, **by_name)
        check_floating(name, **by_name)
        checked(tuple(x.shape for x in xs))
        wide = [widened(native(x)) for x in xs]
        y, pull, *pushes = forward(wide)
        push: Any = pushes[0] if pushes else lambda ts: forward(ts)[0]
        dtype = xs[0].dtype.newbyteorder("=")

        def pulled(g: Array) -> tuple[Array, ...]:
            return tuple(narrowed(dx, dtype) for dx in pull(widened(native(g))))

        def pushed(ts: Sequence[Array | None]) -> Array:
            pairs = zip(wide, ts, strict=True)
            moved = push([xp_of(x).zeros_like(x) if t is None else widened(native(t)) for x, t in pairs])
            return xp_of(y).broadcast_to(narrowed(moved, dtype), y.shape)

        return narrowed(y, dtype), pulled, pushed

    def whole(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        y, pull, _ = run(params, x)
        return y, params, lambda g, input_grad=True: ((), pull(g) if input_grad else None)

    def jvp(
        params: Params, x: Any, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Array]:
        y, _, push = run(params, x)
        return y, push(dx)

    return Layer(
        init=lambda key, shape, dtype=None: checked(shape) and (),
        apply=lambda params, x, *, train=False, key=None: run(params, x)[0],
        vjp=lambda params, x, g, *, train=False, key=None: ((), run(params, x)[1](g)),
        jvp=jvp,
        out_shape=checked, forward=whole, name=name, options=options or {}, draws=False,
    )  # fmt: skip


def named(xs: Sequence[Any]) -> dict[str, Any]:
    """Name the inputs for error messages."""
    return {f"input {i}": x for i, x in enumerate(xs)}


def listed(shapes: Sequence[Shape]) -> str:
    """Write shapes out for error messages."""
    return " and ".join(map(str, shapes))


def one_shape(name: str, shapes: Sequence[Shape]) -> Shape:
    """Require inputs of one shape."""
    if len(set(shapes)) != 1:
        raise ValueError(f"{name}: expected inputs of one shape, got {listed(shapes)}")
    return shapes[0]


def _total(xs: Sequence[Array]) -> Array:
    return xs[0] if len(xs) == 1 else in_one_pass(_sum, *xs)


def _sum(first: Array, *others: Array) -> Array:
    return reduce(operator.add, others, first)


def _product(xs: Sequence[Array]) -> Array | None:
    product = None
    for x in xs:
        product = x if product is None else in_one_pass(operator.mul, product, x)
    return product


_Pair: TypeAlias = Callable[[Array], tuple[Array, Array]]


def _of_two(name: str, forward: Callable[[Array, Array], tuple[Array, _Pair]], stretch: bool = True) -> Layer:
    """Make a layer of a function of two arrays that are stretched to one shape."""
    fitted = broadcast_shape if stretch else one_shape

    def both(xs: Sequence[Array]) -> Merged:
        y, pull = forward(*xs)  # of each element alone, so that the pullback serves tangents, too
        return (
            y,
            lambda g: tuple(sum_to(part, x.shape) for part, x in zip(pull(g), xs, strict=True)),
            lambda ts: pull(ts[0])[0] + pull(ts[1])[1],
        )

    return merge(name, both, lambda shapes: fitted(name, _two(name, shapes)))


def _two(name: str, shapes: Sequence[Shape]) -> Sequence[Shape]:
    if len(shapes) != 2:
        raise ValueError(f"{name}: expected two inputs, got {len(shapes)}")
    return shapes


def _chooses(a: Array, b: Array, first: Array) -> _Pair:
    xp = xp_of(a)

    def pull(g: Array) -> tuple[Array, Array]:
        share = xp.where(a == b, g.dtype.type(0.5), first.astype(g.dtype))
        return g * share, g * (1 - share)

    return pull


def _quietly(compute: Callable[[], T]) -> T:
    """Divide by 0 without a warning: the result shows it."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return compute()
