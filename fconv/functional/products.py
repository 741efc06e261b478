"""Products of several arrays: sums over named axes, and powers."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import partial

from fconv.arrays import Array, Shape, xp_of
from fconv.engine.contraction import contract
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.sums import broadcast_shape, quietly, sum_to

__all__ = [
    "einsum", "einsum_jvp", "einsum_vjp",
    "pow", "pow_jvp", "pow_vjp",
]  # fmt: skip


def named_axes(equation: str, shapes: list[Shape]) -> tuple[list[str], str, dict[str, int]]:
    """Return the letters of each operand and of the result, an ellipsis written out, and their sizes."""
    if not isinstance(equation, str):
        raise TypeError(f'einsum: expected an equation such as "ij,jk->ik", got {equation!r}')
    inside, arrow, after = equation.replace(" ", "").partition("->")
    operands = inside.split(",")
    if len(operands) != len(shapes):
        raise ValueError(f"einsum: expected {len(operands)} arrays for {equation!r}, got {len(shapes)}")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    ranks = [len(s) - len(o.replace("...", "")) for o, s in zip(operands, shapes, strict=True) if "..." in o]
    dots = "".join(free[: max(ranks, default=0)])
    found = []
    for operand, shape in zip(operands, shapes, strict=True):
        rank = len(shape) - len(operand.replace("...", ""))
        letters = operand.replace("...", dots[len(dots) - rank :] if rank > 0 else "", 1)
        if len(letters) != len(shape) or not all(letter in string.ascii_letters for letter in letters):
            raise ValueError(f"einsum: {operand!r} of {equation!r} does not fit an array of shape {shape}")
        found.append(letters)
    joined = "".join(found)
    if arrow:
        out = after.replace("...", dots, 1)
    else:
        out = dots + "".join(sorted(a for a in set(joined) - set(dots) if joined.count(a) == 1))
    sizes: dict[str, int] = {}
    for letters, shape in zip(found, shapes, strict=True):
        for letter, size in zip(letters, shape, strict=True):
            if sizes.setdefault(letter, size) == 1:
                sizes[letter] = size
            elif size not in (1, sizes[letter]):
                raise ValueError(f"einsum: axis {letter!r} has sizes {sizes[letter]} and {size} in {shapes}")
    if len(set(out)) != len(out) or not set(out) <= sizes.keys():
        raise ValueError(f"einsum: the result {after!r} of {equation!r} has a letter twice or of no array")
    return found, out, sizes


@differentiable("x", "y", "z")
def einsum(equation: str, x: Array, y: Array | None = None, z: Array | None = None) -> Definition:
    """Multiply one to three arrays and sum over axes, by Einstein's notation, as torch.einsum.

    Parameters
    ----------
    equation : str
        Such as ``"bij,bjk->bik"``: a letter for each axis. Letters that the result lacks are summed over;
        without ``->`` the result has the letters that occur once, in alphabetical order. A letter that
        an array has twice takes its diagonal, and ``...`` stands for all other axes in front.
    x, y, z : array
        As many as the equation has. Axes of one element are stretched.

    Returns
    -------
    array
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        An equation that does not fit the arrays, or arrays that are not floating-point or differ in dtype.

    References
    ----------
    Einstein, "Die Grundlage der allgemeinen Relativitaetstheorie", 1916, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> einsum("ij,j->i", np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0]))
    array([21., 43.])
    >>> einsum("ii->i", np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([1., 4.])
    """
    given = {name: a for name, a in (("x", x), ("y", y), ("z", z)) if a is not None}
    for name, a in given.items():
        if a.dtype != x.dtype:
            raise TypeError(f"einsum: x is {x.dtype} but {name} is {a.dtype}; give them one dtype")
    letters, out, sizes = named_axes(equation, [a.shape for a in given.values()])
    xp, free = xp_of(x), iter(letter for letter in map(chr, range(0x3B1, 0x3FF)))
    operands: dict[str, tuple[str, Array]] = {}
    helpers: list[tuple[str, Array]] = []
    for (name, a), axes in zip(given.items(), letters, strict=True):
        # Axes that are stretched have no part in the sum, and a letter that comes again becomes a new one
        # that an identity matrix ties to the first, so that the gradient has each axis once.
        kept = [i for i, letter in enumerate(axes) if a.shape[i] == sizes[letter]]
        own = ""
        for i in kept:
            letter = axes[i]
            if letter in own:
                fresh = next(free)
                helpers.append((letter + fresh, xp.eye(sizes[letter], dtype=a.dtype)))
                letter = fresh
            own += letter
        operands[name] = own, a.reshape([a.shape[i] for i in kept])
    shape = tuple(sizes[letter] for letter in out)

    def summed(parts: list[tuple[str, Array]], wanted: str) -> Array:
        held = {letter for axes, _ in parts for letter in axes}
        parts = parts + [(a, xp.ones(sizes[a], x.dtype)) for a in wanted if a not in held]
        return contract(f"{','.join(axes for axes, _ in parts)}->{wanted}", *(a for _, a in parts))

    def pullback(g: Array) -> Thunks:
        def of(name: str) -> Array:
            others = [part for other, part in operands.items() if other != name]
            return summed([(out, g), *others, *helpers], operands[name][0]).reshape(given[name].shape)

        return {name: lambda name=name: of(name) for name in given}  # type: ignore[misc]

    def push(name: str, t: Array) -> Array:
        axes, held = operands[name]
        parts = operands | {name: (axes, t.reshape(held.shape))}
        return summed([*parts.values(), *helpers], out)

    value = once(lambda: summed([*operands.values(), *helpers], out))
    return shape, value, pullback, {name: partial(push, name) for name in given}


@differentiable("x", "exponent")
def pow(x: Array, exponent: Array) -> Definition:
    """Raise the elements of one array to the powers in another, with broadcasting, as torch.pow.

    Parameters
    ----------
    x, exponent : array
        Floating-point, of one dtype.

    Returns
    -------
    array
        NaN where the power is no real number.

    Raises
    ------
    ValueError, TypeError
        Shapes that do not fit each other, or arrays that are not floating-point or differ in dtype.

    Examples
    --------
    >>> import numpy as np
    >>> pow(np.array([2.0, 3.0]), np.array([3.0, 2.0]))
    array([8., 9.])
    """
    if x.dtype != exponent.dtype:
        raise TypeError(f"pow: x is {x.dtype} but exponent is {exponent.dtype}; give them one dtype")
    shape = broadcast_shape("pow", [x.shape, exponent.shape])
    xp = xp_of(x)
    y = once(lambda: quietly(lambda: xp.asarray(x**exponent)))

    def base() -> Array:
        slope = quietly(lambda: exponent * x ** (exponent - 1))
        return xp.where(exponent == 0, x.dtype.type(0), slope)

    def power() -> Array:
        slope = quietly(lambda: y() * xp.log(x))
        return xp.where((x == 0) & (exponent >= 0), x.dtype.type(0), slope)

    def pullback(g: Array) -> Thunks:
        return {
            "x": lambda: sum_to(g * base(), x.shape),
            "exponent": lambda: sum_to(g * power(), exponent.shape),
        }

    push: dict[str, Callable[[Array], Array]] = {"x": lambda t: base() * t, "exponent": lambda t: power() * t}
    return shape, y, pullback, push


einsum_jvp, einsum_vjp = einsum.jvp, einsum.vjp
pow_jvp, pow_vjp = pow.jvp, pow.vjp
