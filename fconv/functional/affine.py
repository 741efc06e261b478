"""Affine maps."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import prod

import numpy as np

from fconv.arrays import Array, Shape, in_c_order, xp_of
from fconv.engine import each
from fconv.engine.contraction import contract
from fconv.engine.memory import empty
from fconv.engine.plans import Plan, convolution
from fconv.engine.threads import run
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.one_pass import in_one_pass
from fconv.functional.planned import Planned
from fconv.functional.sums import accurate_sum
from fconv.geometry import ConvGeometry

__all__ = [
    "bilinear", "bilinear_jvp", "bilinear_vjp",
    "linear", "linear_jvp", "linear_vjp",
]  # fmt: skip

_LARGE = 1 << 18  # elements; below, threads cost more than they gain


@differentiable("x", "weight", "bias", widens=False)
def linear(x: Array, weight: Array, bias: Array | None = None) -> Definition:
    """Affine map of the last axis, ``y = x @ weight.T + bias``.

    Parameters
    ----------
    x : array, shape (..., in_features)
        Floating-point.
    weight : array, shape (out_features, in_features)
        Of the dtype of `x`.
    bias : array, shape (out_features,), optional
        Of the dtype of `x`.

    Returns
    -------
    array, shape (..., out_features)
        In the dtype of `x`.

    Raises
    ------
    ValueError
        The shapes do not fit each other.
    TypeError
        Arrays that are not floating-point, or that differ in dtype or library.

    Examples
    --------
    >>> import numpy as np
    >>> linear(np.ones((1, 3)), np.ones((2, 3)), np.array([0.0, 1.0]))
    array([[3., 4.]])
    """
    if weight.ndim != 2:
        raise ValueError(
            f"linear: expected a weight of shape (out_features, in_features), got {weight.shape}"
        )
    out_features, in_features = weight.shape
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ValueError(
            f"linear: expected {in_features} input features on the last axis, got input shape {x.shape} "
            f"(weight shape {weight.shape})"
        )
    if bias is not None and bias.shape != (out_features,):
        raise ValueError(f"linear: expected a bias of shape {(out_features,)}, got {bias.shape}")
    product = _Product(x, weight)

    def push(moved: dict[str, Array]) -> Array:
        return bilinear_push(product.value, x, weight, moved, out_features)

    def pullback(g: Array) -> Thunks:
        return {
            "x": lambda: product.x_gradient(g, x, weight),
            "weight": lambda: product.weight_gradient(g, x, weight),
            "bias": lambda: product.bias_gradient(g),
            **_of_each_sample(g, x, weight, product),
        }

    return product.shape, once(lambda: product.value(x, weight, bias)), pullback, push, product.planned


class _Product:
    """``x @ weight.T + bias`` and its gradients, for arrays like these."""

    def __init__(self, x: Array, weight: Array) -> None:
        columns, inner = weight.shape
        rows = prod(x.shape[:-1])
        self.shape = (*x.shape[:-1], columns)
        self.flat, self.flat_output = (rows, inner), (rows, columns)
        self._small = is_small(x, rows, inner, columns)
        self._plan = None if self._small else compiled_product(x.reshape(self.flat), weight)

    def planned(self) -> Planned:
        pulls: dict[str, Callable[..., Array]] = {
            "x": self.x_gradient,
            "weight": self.weight_gradient,
            "bias": self.bias_gradient,
        }
        return Planned("linear", self.shape, self.value, pulls)

    def value(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        x = x.reshape(self.flat)
        if self._small:
            y = _small_product(in_c_order(x), in_c_order(weight).T)
            if bias is not None:
                y += bias
            return y.reshape(self.shape)
        if self._plan is not None:
            return self._plan.convolve(x[..., None], weight[..., None], bias).reshape(self.shape)
        y = contract("ni,oi->no", x, weight).reshape(self.shape)
        return y if bias is None else y + bias

    def x_gradient(self, g: Array, x: Array, weight: Array, bias: Array | None = None) -> Array:
        g = g.reshape(self.flat_output)
        if self._small:
            return _small_product(in_c_order(g), in_c_order(weight)).reshape(x.shape)
        if self._plan is not None:
            return self._plan.input_gradient(g[..., None], weight[..., None]).reshape(x.shape)
        return contract("no,oi->ni", g, weight).reshape(x.shape)

    def weight_gradient(self, g: Array, x: Array, weight: Array, bias: Array | None = None) -> Array:
        g, x = g.reshape(self.flat_output), x.reshape(self.flat)
        if self._small:
            return _small_product(in_c_order(g).T, in_c_order(x))
        if self._plan is not None:
            return self._plan.weight_gradient(g[..., None], x[..., None], weight[..., None])[..., 0]
        return contract("no,ni->oi", g, x)

    def bias_gradient(self, g: Array, *arrays: Array) -> Array:
        return accurate_sum(g.reshape(self.flat_output), 0)


_SMALL, _PIECE, _SHORT = 1 << 21, 1 << 18, 1 << 12
"""Multiplications of a product that is small and of a piece of it, and terms of a sum."""


def is_small(x: Array, rows: int, inner: int, columns: int) -> bool:
    """Return whether products are so small that NumPy does them in less time than a compiled kernel.

    OpenBLAS does each piece of them on the calling thread, and float32 is enough for their sums. The sizes
    are those of any of the three products of `linear` and its gradients.
    """
    size = rows * inner * columns
    if type(x) is not np.ndarray or x.dtype.char not in "fd" or not 0 < size <= _SMALL:
        return False
    divisible = size <= _PIECE or 2 * inner * max(rows, columns) <= _PIECE  # into pieces of two rows or more
    return divisible and max(rows, inner, columns) <= _SHORT


def _small_product(a: Array, b: Array) -> Array:
    """Multiply two small matrices, whose memory order is always the same: BLAS may round by it.

    Of a vector and a matrix BLAS divides even few sums among threads: vecdot or einsum take these.
    """
    (rows, inner), columns = a.shape, b.shape[1]
    if inner > 1 and (rows == 1 or columns == 1):
        if not (a.flags.c_contiguous and b.flags.f_contiguous):
            return np.einsum("ij,jk->ik", a, b)
        return np.vecdot(a, b.T).reshape(rows, columns)
    if rows * inner * columns <= _PIECE:
        return np.dot(a, b)
    y, count = empty((rows, columns), a.dtype), _PIECE // (inner * columns)
    for start in range(0, rows, count):
        piece, out = a[start : start + count], y[start : start + count]
        if len(piece) == 1:
            out[...] = _small_product(piece, b)
        else:
            np.dot(piece, b, out=out)
    return y


def bilinear_push(
    product: Callable[[Array, Array, Array | None], Array],
    x: Array,
    weight: Array,
    moved: dict[str, Array],
    *along: int,
) -> Array:
    """Return the derivative of ``product(x, weight, bias)``, which is linear in `x` and in `weight`.

    The tangent of the bias, in the shape `along`, enters one of the two products.
    """
    bias = moved.get("bias")
    parts = [(moved["x"], weight)] if "x" in moved else []
    parts += [(x, moved["weight"])] if "weight" in moved else []
    if not parts:
        return moved["bias"].reshape(along)
    found = [product(a, b, None if i else bias) for i, (a, b) in enumerate(parts)]
    return found[0] if len(found) == 1 else in_one_pass(operator.add, *found)


def _of_each_sample(g: Array, x: Array, weight: Array, product: _Product) -> Thunks:
    """Return the gradients of the parameters by each sample, whose rows are positions of a convolution."""
    shape, g, x = x.shape, g.reshape(product.flat_output), x.reshape(product.flat)
    count = prod(shape[1:-1])

    def planned() -> tuple[Plan, ConvGeometry, Array, Array]:
        outer, inner = (rows.reshape(shape[0], count, rows.shape[1]).swapaxes(1, 2) for rows in (g, x))
        geometry, plan = convolution("linear", 1, inner, weight[..., None], None, 1, 0, 1, 1, "auto")
        return plan, geometry, outer, inner

    def gradient() -> Array:
        plan, geometry, outer, inner = planned()
        if plan.engine == "compiled" and count > 1:
            return each.weight_gradient(plan, geometry, outer, inner)[..., 0]
        xp, inner = xp_of(x), inner.swapaxes(1, 2)
        out = xp.empty((shape[0], *weight.shape), x.dtype)
        tasks = 8 if xp is np and out.size > _LARGE else 1

        def multiply(task: int) -> None:
            part = slice(task * shape[0] // tasks, (task + 1) * shape[0] // tasks)
            (xp.multiply if count == 1 else xp.matmul)(outer[part], inner[part], out=out[part])

        run(multiply, tasks)
        return out

    return {
        "weight of each": gradient,
        "weight norm of each": lambda: each.weight_norm(*planned())[..., 0],
        "bias of each": lambda: accurate_sum(g.reshape(shape[0], count, g.shape[1]), 1),
    }


def compiled_product(x: Array, weight: Array) -> Plan | None:
    """Plan ``x @ weight.T`` as a convolution of single pixels where kernels are compiled.

    The threads of BLAS wait for their next product by spinning, and take the processor from those of
    compiled kernels: a network with both pays for it in every layer.
    """
    _, plan = convolution("linear", 1, x[..., None], weight[..., None], None, 1, 0, 1, 1, "auto")
    return plan if plan.engine == "compiled" else None


@differentiable("x1", "x2", "weight", "bias")
def bilinear(x1: Array, x2: Array, weight: Array, bias: Array | None = None) -> Definition:
    """Affine in each of two inputs, ``y[o] = x1 @ weight[o] @ x2 + bias[o]``.

    Parameters
    ----------
    x1 : array, shape (..., in1_features)
        Floating-point.
    x2 : array, shape (..., in2_features)
        Of the dtype of `x1`, and of its shape but for the last axis.
    weight : array, shape (out_features, in1_features, in2_features)
        Of the dtype of `x1`.
    bias : array, shape (out_features,), optional
        Of the dtype of `x1`.

    Returns
    -------
    array, shape (..., out_features)
        In the dtype of `x1`.

    Raises
    ------
    ValueError
        The shapes do not fit each other.
    TypeError
        Arrays that are not floating-point, or that differ in dtype or library.

    Examples
    --------
    >>> import numpy as np
    >>> bilinear(np.ones((1, 2)), np.ones((1, 3)), np.ones((4, 2, 3)))
    array([[6., 6., 6., 6.]])
    """
    if weight.ndim != 3:
        raise ValueError(
            f"bilinear: expected a weight of shape (out_features, in1_features, in2_features), "
            f"got {weight.shape}"
        )
    out_features, in1, in2 = weight.shape
    lead = check_bilinear("bilinear", x1.shape, x2.shape)
    if (x1.shape[-1], x2.shape[-1]) != (in1, in2):
        raise ValueError(
            f"bilinear: expected {in1} and {in2} input features on the last axes, got input shapes "
            f"{x1.shape} and {x2.shape} (weight shape {weight.shape})"
        )
    if bias is not None and bias.shape != (out_features,):
        raise ValueError(f"bilinear: expected a bias of shape {(out_features,)}, got {bias.shape}")
    rows = prod(lead)

    def by_sample(each: Array) -> Array:
        return each.reshape(lead[0], prod(lead[1:]), each.shape[1])

    first, second = x1.reshape(rows, in1), x2.reshape(rows, in2)

    def value() -> Array:
        y = product(x1, weight, x2)
        return y if bias is None else y + bias

    def pullback(g: Array) -> Thunks:
        flat = g.reshape(rows, out_features)
        return {
            "x1": lambda: contract("no,oij,nj->ni", flat, weight, second).reshape(x1.shape),
            "x2": lambda: contract("no,oij,ni->nj", flat, weight, first).reshape(x2.shape),
            "weight": lambda: contract("no,ni,nj->oij", flat, first, second),
            "bias": lambda: accurate_sum(flat, 0),
            "weight of each": lambda: contract("nto,nti,ntj->noij", *map(by_sample, (flat, first, second))),
            "bias of each": lambda: accurate_sum(by_sample(flat), 1),
        }

    def product(first: Array, weight: Array, second: Array) -> Array:
        return contract("ni,oij,nj->no", first.reshape(rows, in1), weight, second.reshape(rows, in2)).reshape(
            *lead, out_features
        )

    push: dict[str, Callable[[Array], Array]] = {
        "x1": lambda t: product(t, weight, x2),
        "x2": lambda t: product(x1, weight, t),
        "weight": lambda t: product(x1, t, x2),
        "bias": lambda t: t,
    }
    return (*lead, out_features), once(value), pullback, push


def check_bilinear(name: str, first: Shape, second: Shape) -> Shape:
    """Require two inputs that differ in their last axes alone, and give the axes before."""
    if not first or not second or first[:-1] != second[:-1]:
        raise ValueError(
            f"{name}: expected two inputs of shapes (..., in1_features) and (..., in2_features), "
            f"got {first} and {second}"
        )
    return first[:-1]


linear_jvp, linear_vjp = linear.jvp, linear.vjp
bilinear_jvp, bilinear_vjp = bilinear.jvp, bilinear.vjp
