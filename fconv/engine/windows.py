"""Sliding windows as a strided view, and the adjoint that adds windows back into place.

The view comes from sliding_window_view, which proves its bounds against the array's own
shape, and is then only sliced: no stride is ever computed by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from fconv.arrays import Array, Index, Shape, full_like_order, xp_of
from fconv.geometry import Pairs, Windows


def pad(x: Array, padding: Pairs, value: float = 0.0) -> Array:
    """Widen the last axes of `x` by (before, after) elements of `value`.

    Parameters
    ----------
    x : array, shape (..., *spatial)
        Any strides; the result keeps the memory order.
    padding : tuple of (int, int)
        Elements for each of the last axes, 0 or more.
    value : float
        What the new elements hold.

    Returns
    -------
    array
        A new array, or `x` itself where there is nothing to add.

    Examples
    --------
    >>> import numpy as np
    >>> pad(np.ones((1, 1, 2)), ((1, 0),))
    array([[[0., 1., 1.]]])
    """
    if not any(lo or hi for lo, hi in padding):
        return x
    first = x.ndim - len(padding)
    inner, shape = [slice(None)] * first, list(x.shape[:first])
    for size, (lo, hi) in zip(x.shape[first:], padding, strict=True):
        inner.append(slice(lo, lo + size))
        shape.append(lo + size + hi)
    out = full_like_order(x, shape, value)
    out[tuple(inner)] = x
    return out


def crop(x: Array, padding: Pairs) -> Array:
    """Take (before, after) elements away from the last axes: the adjoint of zero `pad`, a view."""
    sizes = x.shape[x.ndim - len(padding) :]
    inner: Index = (slice(lo, size - hi) for size, (lo, hi) in zip(sizes, padding, strict=True))
    return x[(..., *inner)]


def window_view(padded: Array, windows: Windows) -> Array:
    """Return the windows of a padded input (N, C, *padded_size) as a view (N, C, *out_size, *kernel).

    It must not be written to.

    Examples
    --------
    >>> import numpy as np
    >>> from fconv.geometry import window_geometry
    >>> window_view(np.arange(5.0).reshape(1, 1, 5), window_geometry("f", (5,), 2, 1, 0, 2))
    array([[[[0., 2.],
             [1., 3.],
             [2., 4.]]]])
    """
    axes = tuple(range(2, 2 + windows.ndim))
    view = xp_of(padded).lib.stride_tricks.sliding_window_view(padded, windows.span, axis=axes)
    starts = tuple(
        slice(0, (out - 1) * s + 1, s) for out, s in zip(windows.out_size, windows.stride, strict=True)
    )
    elements = tuple(slice(None, None, d) for d in windows.dilation)
    return view[(slice(None), slice(None), *starts, *elements)]


def kernel_offsets(windows: Windows) -> Iterator[tuple[Shape, Index]]:
    """Yield each kernel position and the index of the padded elements that it meets.

    The index takes (N, C, *padded_size) to (N, C, *out_size): all windows' elements at
    that kernel position.
    """
    for position in product(*(range(k) for k in windows.kernel)):
        index = tuple(
            slice(k * d, k * d + (out - 1) * s + 1, s)
            for k, d, out, s in zip(position, windows.dilation, windows.out_size, windows.stride, strict=True)
        )
        yield position, (slice(None), slice(None), *index)


def windows_adjoint(columns: Array, windows: Windows) -> Array:
    """Add the elements of windows back to where they were seen: the adjoint of padding and `window_view`.

    From (N, C, *out_size, *kernel) to (N, C, *in_size): for each input element, the sum over the windows that
    see it.
    """
    at: list[Index] = [((..., *position), index) for position, index in kernel_offsets(windows)]
    padded = full_like_order(columns[at[0][0]], (*columns.shape[:2], *windows.padded_size))
    for position, index in at:
        padded[index] += columns[position]
    return crop(padded, windows.padding)
