"""What every pooling over windows shares: the geometry, and the loop over kernel positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fconv.arrays import Array, full_like_order
from fconv.conv.geometry import Size, Windows, whole_tuple, window_geometry
from fconv.conv.windows import crop, kernel_offsets


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


def window_entries(padded: Array, windows: Windows) -> Iterator[Array]:
    """Yield, for each kernel position in order, the entries that all windows have there: views."""
    for _, index in kernel_offsets(windows):
        yield padded[index]


def spread_over_windows(like: Array, windows: Windows, part: Callable[[int], Array]) -> Array:
    """Add gradients back to the entries of windows: the adjoint of padding and `window_entries`.

    Parameters
    ----------
    like : array
        Gives the leading axes, the dtype and the memory order.
    windows : Windows
        Where the windows lie.
    part : callable
        Gives the gradient of the entries at a kernel position, by its number.

    Returns
    -------
    array, shape (N, C, *in_size)
        The gradient of the unpadded input.
    """
    dx = full_like_order(like, (*like.shape[:2], *windows.padded_size))
    apart = all(s >= span for s, span in zip(windows.stride, windows.span, strict=True))
    for number, (_, index) in enumerate(kernel_offsets(windows)):
        if apart:
            dx[index] = part(number)
        else:
            dx[index] += part(number)
    return crop(dx, windows.padding)
