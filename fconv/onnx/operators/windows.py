"""Kernels, strides, dilations and pads, as ONNX's convolutions and pools share them."""

from __future__ import annotations

from typing import NamedTuple

from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.values import Value

Pairs = tuple[tuple[int, int], ...]


class Window(NamedTuple):
    """A window of `ndim` axes; `pairs` are its pads before and after."""

    ndim: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pairs: Pairs

    @property
    def symmetric(self) -> bool:
        """Return whether each axis has the same padding before and after."""
        return all(low == high for low, high in self.pairs)

    @property
    def padding(self) -> tuple[int, ...]:
        """The pad before each axis."""
        return tuple(low for low, _ in self.pairs)


def spatial(node: Node, x: Value) -> int:
    """Count the spatial axes of (N, C, ...), for which there are layers: one to three."""
    if not 3 <= x.rank <= 5:
        raise UnfitError(f"expected an input (N, C, ...) of 3 to 5 axes, got {x.rank}")
    return x.rank - 2


def window(node: Node, x: Value, kernel: tuple[int, ...] | None) -> Window:
    """Read the window of a convolution or pool over `x`."""
    ndim = spatial(node, x)
    given = node.integers("kernel_shape", kernel)
    if given is None or (kernel is not None and given != kernel):
        raise UnfitError(f"its kernel_shape {given} is not that of its weight, {kernel}")
    ones = (1,) * ndim
    stride, dilation = node.integers("strides", ones), node.integers("dilations", ones)
    assert stride is not None
    assert dilation is not None
    auto, pads = node.text("auto_pad", "NOTSET"), node.integers("pads", (0,) * 2 * ndim)
    if not all(len(sizes) == ndim for sizes in (given, stride, dilation)) or len(pads or ()) != 2 * ndim:
        raise UnfitError(f"its kernel, strides, dilations or pads are not of {ndim} axes")
    if min(*given, *stride, *dilation, 1) < 1:
        raise UnfitError(f"kernel {given}, strides {stride} and dilations {dilation} must be 1 or more")

    def same(shape: tuple[int, ...]) -> Pairs:
        pairs = []
        for size, k, s, d in zip(shape[2:], given, stride, dilation, strict=True):
            total = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
            low = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pairs.append((low, total - low))
        return tuple(pairs)

    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pairs = node.shape_of(f"the padding of auto_pad {auto}", same, x)
    elif auto == "VALID":
        pairs = ((0, 0),) * ndim
    elif auto == "NOTSET":
        assert pads is not None
        pairs = tuple(zip(pads[:ndim], pads[ndim:], strict=True))
    else:
        raise UnfitError(f"auto_pad {auto!r} is none of ONNX's")
    return Window(ndim, given, stride, dilation, pairs)


def widened(node: Node, x: Value, pairs: Pairs, value: float = 0.0) -> Value:
    """Pad, or crop where a width is negative, by a layer of its own."""
    if not any(width for pair in pairs for width in pair):
        return x
    widths = tuple(width for pair in reversed(pairs) for width in pair)
    return node.step(make("pad", widths, value=value or None), x)
