"""The array library of an array, dtype rules, and memory order."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""A NumPy or CuPy array; CuPy's has the same attributes, so one static type serves both."""

Shape: TypeAlias = tuple[int, ...]

Index: TypeAlias = Any
"""An index of an array: slices, integers, an ellipsis, or a tuple of them."""


def library_of(x: object) -> str | None:
    """Name the array library of `x`: ``"numpy"``, ``"cupy"``, or None where it is neither's array."""
    if isinstance(x, (np.ndarray, np.generic)):
        return "numpy"
    # Asking the type's module keeps CuPy unimported until an array of its turns up.
    if type(x).__module__.partition(".")[0] == "cupy" and hasattr(x, "__cuda_array_interface__"):
        return "cupy"
    return None


def is_array(x: object) -> bool:
    """Return whether `x` is an array of a supported library (NumPy scalars count)."""
    return library_of(x) is not None


def describe(x: object) -> str:
    """Describe `x` in a few words, for error messages."""
    if is_array(x):
        return f"{library_of(x)} array of {x.dtype} with shape {x.shape}"  # type: ignore[attr-defined]
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


def namespace(name: str, **arrays: object) -> Any:
    """Return the array library, NumPy or CuPy, that all of `arrays` belong to; None is passed over.

    A TypeError, which begins with `name`, says that an argument is no array, or that host and device arrays
    are mixed.

    Examples
    --------
    >>> namespace("relu", x=np.zeros(3)).__name__
    'numpy'
    >>> namespace("relu", x=[0.0, 1.0])
    Traceback (most recent call last):
    TypeError: relu: x must be a NumPy or CuPy array, got list; write numpy.asarray(..., dtype=...)
    """
    library: str | None = None
    first = ""
    for argument, x in arrays.items():
        if x is None:
            continue
        its = library_of(x)
        if isinstance(x, (np.matrix, np.ma.MaskedArray)):
            raise TypeError(
                f"{name}: {argument} must be a plain array, got {describe(x)} ({type(x).__name__})"
            )
        if its is None:
            raise TypeError(
                f"{name}: {argument} must be a NumPy or CuPy array, got {describe(x)}{_as_array(x)}"
            )
        if library is None:
            library, first = its, argument
        elif its != library:
            raise TypeError(
                f"{name}: host and device arrays are mixed: {first} is a {describe(arrays[first])}, "
                f"{argument} is a {describe(x)}; move them with fconv.to_device"
            )
    return np if library in (None, "numpy") else sys.modules["cupy"]


def _as_array(x: object) -> str:
    """Return how to make an array of what is none, for an error message."""
    if type(x).__module__.partition(".")[0] == "torch":
        return "; write tensor.numpy()" if type(x).__name__ == "Tensor" else ""
    if isinstance(x, (list, tuple)):
        return "; write numpy.asarray(..., dtype=...)"
    return ""


def xp_of(x: Array) -> Any:
    """Return the array library of an array that has been checked, or what a traced value has for one."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np
    return getattr(x, "functions", None) or sys.modules["cupy"]


def special(x: Array) -> Any:
    """Return the special functions of the library of `x`: ``scipy.special``, or CuPy's face of it."""
    if hasattr(xp := xp_of(x), "ndtr"):
        return xp
    return import_module("scipy.special" if xp is np else "cupyx.scipy.special")


def any_of(mask: Array, *, unseen: bool) -> bool:
    """Return whether an element of `mask` is true, or `unseen` where that would mean to wait for a GPU.

    Examples
    --------
    >>> any_of(np.array([False, True]), unseen=False)
    True
    """
    return bool(mask.any()) if isinstance(mask, (np.ndarray, np.generic)) else unseen


def check_floating(name: str, **arrays: object) -> None:
    """Require that `arrays` are real floating-point arrays of one dtype; None is passed over.

    Mixed dtypes are refused rather than promoted, because promotion would carry a
    float32 network silently to float64.

    Examples
    --------
    >>> check_floating("linear", x=np.zeros(3, np.float32), weight=np.zeros((2, 3)))
    Traceback (most recent call last):
    TypeError: linear: x is float32 but weight is float64; give them one dtype (x.astype(weight.dtype))
    """
    first, dtype = "", None
    for argument, x in arrays.items():
        if x is None:
            continue
        its = x.dtype  # type: ignore[attr-defined]
        if its.kind != "f":
            raise TypeError(
                f"{name}: {argument} must be a real floating-point array, got {its} "
                f"(shape {x.shape}); convert it first, for instance "  # type: ignore[attr-defined]
                f"{argument}.astype('float32')"
            )
        its = its.newbyteorder("=")
        if dtype is None:
            first, dtype = argument, its
        elif its != dtype:
            raise TypeError(
                f"{name}: {first} is {dtype} but {argument} is {its}; give them one dtype "
                f"({first}.astype({argument}.dtype))"
            )


def floating_dtype(name: str, dtype: object) -> np.dtype[Any]:
    """Turn `dtype` into a real floating-point dtype, or raise a TypeError that names `name`."""
    resolved = np.dtype(dtype).newbyteorder("=")  # type: ignore[call-overload]
    if resolved.kind != "f":
        raise TypeError(f"{name}: expected a real floating-point dtype, got {resolved}")
    return resolved


def native(x: Array) -> Array:
    """Return `x` in this machine's byte order: itself, or a copy where it has the other one.

    Arrays pass through here where they enter a function, so that no result has a foreign order.

    Examples
    --------
    >>> native(np.ones(2, ">f4")).dtype.isnative
    True
    """
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def widened(x: Array) -> Array:
    """Return `x` in the dtype that sums of its elements are accumulated in: float32 for float16.

    float16 has 11 bits and ends at 65504: adding 1 to 2048 in it gives 2048. Every other dtype
    is its own accumulator, and `x` comes back as it is.
    """
    return x.astype(np.float32) if x.dtype == np.float16 else x


_LARGE = float(np.finfo(np.float32).max)


def narrowed(x: Any, dtype: Any) -> Array:
    """Return `x` in `dtype`; elements that are too large for it become infinite, without a warning."""
    if type(x) is np.ndarray and x.dtype == dtype:
        return x
    if (
        isinstance(x, (np.ndarray, np.generic))
        and x.ndim == 0
        and (x.dtype == dtype or (dtype == np.float32 and -_LARGE < float(x) < _LARGE))
    ):
        return np.array(x, dtype)  # the usual sum of a loss, without asking what errors are to do
    with np.errstate(over="ignore"):
        return xp_of(x).asarray(x).astype(dtype, copy=False)


def memory_order(x: Array) -> tuple[int, ...]:
    """List the axes of `x` from the slowest to the fastest in memory.

    Examples
    --------
    >>> memory_order(np.zeros((2, 3, 4)))
    (0, 1, 2)
    >>> memory_order(np.zeros((2, 3, 4)).transpose(0, 2, 1))
    (0, 2, 1)
    """
    return _by_stride(x.strides)


@lru_cache(maxsize=1024)
def _by_stride(strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(strides)), key=lambda axis: (-abs(strides[axis]), axis)))


@lru_cache(maxsize=1024)
def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def from_order(laid: Array, order: Shape) -> Array:
    """Return an array that was laid out as ``x.transpose(order)`` the axes of x again: a view.

    Examples
    --------
    >>> from_order(np.zeros((2, 3, 4)), (0, 2, 1)).shape
    (2, 4, 3)
    """
    return laid.transpose(_inverse(tuple(order)))


def full_like_order(x: Array, shape: Iterable[int], value: float | None = 0.0, dtype: Any = None) -> Array:
    """Make an array of `shape` filled with `value`, in the library, dtype and memory order of `x`.

    It has as many axes as `x`. A value of None leaves the elements as they are.

    Examples
    --------
    >>> full_like_order(np.zeros((2, 3)).T, (4, 5)).flags.f_contiguous
    True
    """
    order, sizes = memory_order(x), tuple(shape)
    laid, kind, xp = [sizes[axis] for axis in order], dtype or x.dtype, xp_of(x)
    out = xp.empty(laid, kind) if value is None else xp.full(laid, value, dtype=kind)
    return from_order(out, order)


def asnumpy(x: Any) -> Array:
    """Return `x` (a NumPy, CuPy or torch array) as a NumPy array in native byte order, copied only if needed.

    bfloat16 tensors, which NumPy has no dtype for, come back as float32.

    Raises
    ------
    TypeError
        `x` is none of these.
    """
    library = library_of(x)
    if library == "numpy":
        return native(np.asarray(x))
    if library == "cupy":
        return x.get()
    if type(x).__module__.partition(".")[0] == "torch" and hasattr(x, "detach"):
        tensor = x.detach().cpu()
        return tensor.float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.numpy()
    raise TypeError(f"expected a NumPy, CuPy or torch array, got {describe(x)}")


def is_key(x: object) -> bool:
    """Return whether `x` has the form of a key of `fconv.random`: two uint64 on the host."""
    return isinstance(x, np.ndarray) and x.dtype == np.uint64 and x.shape == (2,)


def in_c_order(x: Array) -> Array:
    """Return a NumPy array in C order, without a copy if it is already; return a GPU's array as it is."""
    if not isinstance(x, np.ndarray) or x.flags.c_contiguous:
        return x
    return np.ascontiguousarray(x)
