"""Layers that make one array of several: their input is a tuple."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fconv.arrays import Array, Shape, check_floating, namespace
from fconv.layer import Layer, LayerPullback, Params, Step, Wiring, check_params


def add() -> Layer:
    """Add the arrays of a tuple, which have one shape.

    Examples
    --------
    >>> import numpy as np
    >>> add().apply((), (np.ones(2), np.ones(2)))
    array([2., 2.])
    """

    def forward(xs: Sequence[Array]) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
        return _total(xs), lambda g: (g,) * len(xs)

    return _merge("add", forward, lambda shapes: _one_shape("add", shapes))


def subtract() -> Layer:
    """Take the second array of a tuple of two from the first; both have one shape.

    Examples
    --------
    >>> import numpy as np
    >>> subtract().vjp((), (np.ones(2), np.zeros(2)), np.ones(2))
    ((), (array([1., 1.]), array([-1., -1.])))
    """

    def out_shape(shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 2:
            raise ValueError(f"subtract: expected two inputs, got {len(shapes)}")
        return _one_shape("subtract", shapes)

    return _merge("subtract", lambda xs: (xs[0] - xs[1], lambda g: (g, -g)), out_shape)


def multiply() -> Layer:
    """Multiply the arrays of a tuple entry by entry; axes of one entry are stretched, as NumPy does.

    Examples
    --------
    >>> import numpy as np
    >>> multiply().vjp((), (np.full(2, 3.0), np.full(2, 5.0)), np.ones(2))
    ((), (array([5., 5.]), array([3., 3.])))
    """

    def forward(xs: Sequence[Array]) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
        def pull(g: Array) -> tuple[Array, ...]:
            others = [_product([x for j, x in enumerate(xs) if j != i]) for i in range(len(xs))]
            return tuple(_shrunk(g if o is None else g * o, x.shape) for x, o in zip(xs, others, strict=True))

        product = _product(xs)
        assert product is not None  # a tuple of inputs is never empty
        return product, pull

    return _merge("multiply", forward, _stretched)


def concat(dim: int = 1) -> Layer:
    """Put the arrays of a tuple one after another along an axis; channels by default.

    Examples
    --------
    >>> concat().out_shape(((2, 3, 8, 8), (2, 5, 8, 8)))
    (2, 8, 8, 8)
    """

    def joined(shapes: Sequence[Shape]) -> Shape:
        first = shapes[0]
        fits = all(len(s) == len(first) for s in shapes) and -len(first) <= dim < len(first)
        axis = dim % len(first) if fits else 0
        rests = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
        if not fits or len(rests) != 1:
            raise ValueError(
                f"concat: expected shapes that differ only along axis {dim}, got {_listed(shapes)}"
            )
        return (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])

    def forward(xs: Sequence[Array]) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
        xp = namespace("concat", **_named(xs))
        axis = dim % xs[0].ndim

        def pull(g: Array) -> tuple[Array, ...]:
            parts, start = [], 0
            for x in xs:
                stop = start + x.shape[axis]
                parts.append(g[(slice(None),) * axis + (slice(start, stop),)])
                start = stop
            return tuple(parts)

        return xp.concatenate(xs, axis=axis), pull

    return _merge("concat", forward, joined, {"dim": dim})


def concat_padded() -> Layer:
    """Put pictures one after another along the channels, each in the middle of the largest.

    The inputs are (N, C, *spatial); where sizes differ, zeros surround the smaller picture, and
    an odd one out stands after it. In a U-Net a picture that was halved and doubled again meets
    the one it came from, which may have been larger by a row.

    Examples
    --------
    >>> concat_padded().out_shape(((2, 3, 9, 8), (2, 5, 8, 8)))
    (2, 8, 9, 8)
    """
    plain = concat()

    def joined(shapes: Sequence[Shape]) -> Shape:
        first = shapes[0]
        if len(first) < 3 or any(len(s) != len(first) or s[0] != first[0] for s in shapes):
            raise ValueError(
                "concat_padded: expected shapes (N, C, *spatial) that differ in channels and sizes "
                f"alone, got {_listed(shapes)}"
            )
        return (first[0], sum(s[1] for s in shapes), *(max(sizes) for sizes in _spatial(shapes)))

    def places(shapes: Sequence[Shape], whole: Shape) -> list[tuple[slice, ...]]:
        found, channel = [], 0
        for shape in shapes:
            starts = [(wide - size) // 2 for wide, size in zip(whole[2:], shape[2:], strict=True)]
            spatial = (slice(start, start + size) for start, size in zip(starts, shape[2:], strict=True))
            found.append((slice(None), slice(channel, channel + shape[1]), *spatial))
            channel += shape[1]
        return found

    def forward(xs: Sequence[Array]) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
        xp = namespace("concat_padded", **_named(xs))
        shapes = [x.shape for x in xs]
        where = places(shapes, joined(shapes))
        if len({s[2:] for s in shapes}) == 1:
            y = xp.concatenate(xs, axis=1)
        else:
            y = xp.zeros(joined(shapes), xp.result_type(*xs))
            for x, place in zip(xs, where, strict=True):
                y[place] = x
        return y, lambda g: tuple(g[place] for place in where)

    def wiring(shapes: Any) -> Wiring | None:
        # For pictures of one size it is `concat`, which other tools know.
        if shapes is None:
            raise ValueError("concat_padded: what it is made of depends on the sizes; give the input shape")
        if len({tuple(s[2:]) for s in shapes}) != 1:
            return None
        return Wiring((Step("concat", plain, ("input",), None),), ("input",), ("concat",))

    return replace(_merge("concat_padded", forward, joined), wiring=wiring)


def _spatial(shapes: Sequence[Shape]) -> list[tuple[int, ...]]:
    return list(zip(*(s[2:] for s in shapes), strict=True))


def _merge(
    name: str,
    forward: Callable[[Sequence[Array]], tuple[Array, Callable[[Array], tuple[Array, ...]]]],
    out_shape: Callable[[Sequence[Shape]], Shape],
    options: dict[str, Any] | None = None,
) -> Layer:
    """Make a layer of a function of several arrays, which is checked before it runs."""

    def checked(shapes: Any) -> Shape:
        if not isinstance(shapes, (tuple, list)) or not shapes or isinstance(shapes[0], int):
            raise TypeError(f"{name}: expected a tuple of inputs, got one of shape {shapes}")
        return out_shape([tuple(s) for s in shapes])

    def run(params: Params, xs: Any) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
        check_params(name, params, ())
        if not isinstance(xs, (tuple, list)):
            raise TypeError(f"{name}: expected a tuple of inputs, got {type(xs).__name__}")
        named = _named(xs)
        namespace(name, **named)
        check_floating(name, **named)
        checked(tuple(x.shape for x in xs))
        return forward(xs)

    def whole(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        y, pull = run(params, x)
        return y, params, lambda g, input_grad=True: ((), pull(g) if input_grad else None)

    return Layer(
        init=lambda key, shape, dtype=None: checked(shape) and (),
        apply=lambda params, x, *, train=False, key=None: run(params, x)[0],
        vjp=lambda params, x, g, *, train=False, key=None: ((), run(params, x)[1](g)),
        out_shape=checked,
        forward=whole,
        name=name,
        options=options or {},
    )


def _named(xs: Sequence[Any]) -> dict[str, Any]:
    return {f"input {i}": x for i, x in enumerate(xs)}


def _listed(shapes: Sequence[Shape]) -> str:
    return " and ".join(map(str, shapes))


def _one_shape(name: str, shapes: Sequence[Shape]) -> Shape:
    if len(set(shapes)) != 1:
        raise ValueError(f"{name}: expected inputs of one shape, got {_listed(shapes)}")
    return shapes[0]


def _total(xs: Sequence[Array]) -> Array:
    total = xs[0]
    for x in xs[1:]:
        total = total + x
    return total


def _product(xs: Sequence[Array]) -> Array | None:
    product = None
    for x in xs:
        product = x if product is None else product * x
    return product


def _stretched(shapes: Sequence[Shape]) -> Shape:
    """Give the shape that inputs of one rank are stretched to."""
    out = []
    for sizes in zip(*shapes, strict=False):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1 or len({len(s) for s in shapes}) != 1:
            raise ValueError(
                f"multiply: expected shapes that are equal or 1 along each axis, got {_listed(shapes)}"
            )
        out.append(wide.pop() if wide else 1)
    return tuple(out)


def _shrunk(g: Array, shape: Shape) -> Array:
    """Sum a gradient over the axes along which its array was stretched."""
    axes = tuple(a for a, size in enumerate(shape) if size == 1 and g.shape[a] != 1)
    return g.sum(axis=axes, keepdims=True) if axes else g
