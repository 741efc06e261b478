"""Parts shared by all pooling over windows: the geometry, and the loop over kernel positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from fconv.arrays import Array
from fconv.engine.windows import kernel_offsets
from fconv.geometry import Size, Windows, whole_tuple, window_geometry


def pool_geometry(
    name: str,
    spatial: tuple[int, ...],
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
) -> Windows:
    """Work out pooling windows; the stride is the kernel size where none is given."""
    options = (name, spatial, kernel_size, stride, padding, dilation, ceil_mode)
    try:
        return _pool_geometry(*options)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
    return _pool_geometry.__wrapped__(*options)


@lru_cache(maxsize=512, typed=True)
def _pool_geometry(
    name: str,
    spatial: tuple[int, ...],
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
) -> Windows:
    n = len(spatial)
    kernel = whole_tuple(name, "kernel_size", kernel_size, n, 1)
    pads = whole_tuple(name, "padding", padding, n, 0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ValueError(
            f"{name}: padding must be at most half the kernel_size, "
            f"got padding {pads} and kernel_size {kernel}"
        )
    return window_geometry(
        name,
        spatial,
        kernel,
        kernel if stride is None or (isinstance(stride, tuple) and not stride) else stride,
        pads,
        dilation,
        ceil_mode,
    )


def window_elements(padded: Array, windows: Windows) -> Iterator[Array]:
    """Yield, for each kernel position in order, the elements that all windows have there: views."""
    for _, index in kernel_offsets(windows):
        yield padded[index]


def spread_over_windows(dx: Array, windows: Windows, shares: Iterable[Array]) -> None:
    """Add gradients to the elements of windows: the adjoint of `window_elements`.

    They are added to `dx`, zeros of shape (N, C, *padded_size); `shares` has the gradient of the elements at
    each kernel position, in order.
    """
    apart = all(s >= span for s, span in zip(windows.stride, windows.span, strict=True))
    for (_, index), share in zip(kernel_offsets(windows), shares, strict=True):
        if apart:
            dx[index] = share
        else:
            dx[index] += share
