"""Padding, and windows as columns."""

from __future__ import annotations

from collections.abc import Sequence

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.padding import MODES, check_mode, pad_pairs, padded_shape
from fconv.functional.unfolding import folded_shape, unfolded_shape
from fconv.geometry import AMPLE, Size, whole_tuple, window_geometry
from fconv.layer import Layer
from fconv.layers.from_function import from_function, frozen

__all__ = ["fold", "pad", "unfold"]


@constructor
def pad(pad: Sequence[int], *, mode: str = "constant", value: float | None = None) -> Layer:
    """Pad or crop the last axes; see `fconv.functional.pad`.

    Examples
    --------
    >>> pad((1, 1, 2, 0), mode="reflect").out_shape((8, 3, 28, 28))
    (8, 3, 30, 30)
    """
    pad = frozen(pad)
    check_mode("pad", "a mode", mode, MODES)

    def out_shape(shape: Shape) -> Shape:
        return padded_shape(shape, pad_pairs("pad", shape, pad, mode))

    return from_function(F.pad, call={"pad": pad, "mode": mode, "value": value}, out_shape=out_shape)


@constructor
def unfold(kernel_size: Size, *, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Layer:
    """Copy windows into columns (im2col); see `fconv.functional.unfold`.

    Examples
    --------
    >>> unfold(3, padding=1).out_shape((8, 3, 28, 28))
    (8, 27, 784)
    """
    kernel_size, dilation, padding, stride = map(frozen, (kernel_size, dilation, padding, stride))
    call = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    window_geometry("unfold", AMPLE[:2], kernel_size, stride, padding, dilation)

    def out_shape(shape: Shape) -> Shape:
        return unfolded_shape(shape, kernel_size, dilation, padding, stride)[0]

    return from_function(F.unfold, call=call, out_shape=out_shape, ndim=2)


@constructor
def fold(
    output_size: Size, kernel_size: Size, *, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Layer:
    """Add columns back to an image (col2im); see `fconv.functional.fold`.

    Examples
    --------
    >>> fold(28, 3, padding=1).out_shape((8, 27, 784))
    (8, 3, 28, 28)
    """
    kernel_size, dilation, padding, stride = map(frozen, (kernel_size, dilation, padding, stride))
    output_size = frozen(output_size)
    call = {
        "output_size": output_size,
        "kernel_size": kernel_size,
        "dilation": dilation,
        "padding": padding,
        "stride": stride,
    }
    size = whole_tuple("fold", "output_size", output_size, 2, 1)
    window_geometry("fold", size, kernel_size, stride, padding, dilation)

    def out_shape(shape: Shape) -> Shape:
        return folded_shape(shape, output_size, kernel_size, dilation, padding, stride)[0]

    return from_function(F.fold, call=call, out_shape=out_shape, ndim=1)
