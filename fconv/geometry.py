"""All shape arithmetic of sliding windows: checked here, once, before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal, TypeAlias

from fconv.arrays import Shape
from fconv.options import whole

Size: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | Sequence[int] | Literal["same", "valid"]
Pairs: TypeAlias = tuple[tuple[int, int], ...]

AMPLE: Shape = (1 << 40,) * 3
"""A size that every window fits in: for checking options before there is an input."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Sliding windows over n spatial axes.

    Attributes
    ----------
    in_size : tuple of int
        Size of the unpadded input along each axis.
    out_size : tuple of int
        How many windows there are along each axis.
    kernel, stride, dilation : tuple of int
        Elements of a window, steps between windows, steps between a window's elements.
    padding : tuple of (int, int)
        Elements added before and after each axis.
    """

    in_size: Shape
    out_size: Shape
    kernel: Shape
    stride: Shape
    dilation: Shape
    padding: Pairs

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def span(self) -> Shape:
        """Elements from a window's first to its last along each axis, both included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def padded_size(self) -> Shape:
        """Size of the padded input along each axis."""
        return tuple(size + lo + hi for size, (lo, hi) in zip(self.in_size, self.padding, strict=True))


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """Everything a convolution's shapes say.

    Attributes
    ----------
    batch, in_channels, out_channels, groups : int
        Numbers of images, channels and channel groups.
    windows : Windows
        The windows over the spatial axes.
    """

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    windows: Windows

    @property
    def in_shape(self) -> Shape:
        """Shape (N, C, *in_size) of the input."""
        return (self.batch, self.in_channels, *self.windows.in_size)

    @property
    def out_shape(self) -> Shape:
        """Shape (N, O, *out_size) of the output."""
        return (self.batch, self.out_channels, *self.windows.out_size)

    @property
    def weight_shape(self) -> Shape:
        """Shape (O, C/groups, *kernel) of the weight."""
        return (self.out_channels, self.in_channels // self.groups, *self.windows.kernel)

    @property
    def is_3x3(self) -> bool:
        """Return whether Winograd's algorithm applies: 3x3 kernels of stride and dilation 1, in one group."""
        w = self.windows
        return w.kernel == (3, 3) and w.stride == w.dilation == (1, 1) and self.groups == 1

    @property
    def multiply_adds(self) -> int:
        """Multiplications that the definition of convolution takes."""
        return prod(self.out_shape) * prod(self.weight_shape[1:])


def whole_tuple(name: str, what: str, value: object, n: int, minimum: int) -> Shape:
    """Return one integer (a sequence of one counts, as in PyTorch), or a sequence of `n`, as a tuple of `n`.

    Examples
    --------
    >>> whole_tuple("conv2d", "stride", 2, 2, 1)
    (2, 2)
    >>> whole_tuple("conv2d", "stride", (1, 0), 2, 1)
    Traceback (most recent call last):
    ValueError: conv2d: stride must be at least 1, got 0 in (1, 0)
    """
    if getattr(value, "ndim", 0) == 1:
        value = value.tolist()  # type: ignore[attr-defined]  # sizes in an array
    if not isinstance(value, (tuple, list)):
        return (whole(name, what, value, minimum),) * n
    if len(value) == 1:
        return (whole(name, what, value[0], minimum),) * n
    if len(value) != n:
        raise ValueError(f"{name}: {what} must be one integer or {n}, got {len(value)}: {value!r}")
    try:
        return tuple(whole(name, what, element, minimum) for element in value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} in {value!r}") from None


def window_geometry(
    name: str,
    in_size: Shape,
    kernel: Size,
    stride: Size,
    padding: Padding,
    dilation: Size,
    ceil_mode: bool = False,
) -> Windows:
    """Work out where sliding windows lie, and refuse what cannot be.

    Parameters
    ----------
    padding : int, sequence of int, "same" or "valid"
        Elements added on both sides of each axis. "same" keeps the size (stride 1 only; an
        odd total puts the extra element last, as PyTorch does), "valid" adds none.
    ceil_mode : bool
        Let the last window hang over the padded end by less than the stride, provided that it
        starts inside the input or the padding before it (PyTorch's rule for pooling). The only
        window may hang over too, and so be larger than the input.

    Returns
    -------
    Windows
        With ``out = floor((in + padding - dilation * (kernel - 1) - 1) / stride) + 1``;
        under `ceil_mode`, with ceil and the padding after the end widened to fit.

    Examples
    --------
    >>> window_geometry("conv2d", (28, 28), 3, 2, 1, 1).out_size
    (14, 14)
    """
    n = len(in_size)
    kernel = whole_tuple(name, "kernel_size", kernel, n, 1)
    stride = whole_tuple(name, "stride", stride, n, 1)
    dilation = whole_tuple(name, "dilation", dilation, n, 1)
    return _windows(
        name, in_size, kernel, stride, _pairs(name, kernel, stride, padding, dilation), dilation, ceil_mode
    )


def _pairs(name: str, kernel: Shape, stride: Shape, padding: Padding, dilation: Shape) -> Pairs:
    n = len(kernel)
    if not isinstance(padding, str):
        return tuple((p, p) for p in whole_tuple(name, "padding", padding, n, 0))
    if padding == "valid":
        return ((0, 0),) * n
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError(f'{name}: padding="same" needs stride 1, got stride {stride}')
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    raise ValueError(f'{name}: padding must be a number, "same" or "valid", got {padding!r}')


@lru_cache(maxsize=1024)
def _windows(
    name: str, in_size: Shape, kernel: Shape, stride: Shape, padding: Pairs, dilation: Shape, ceil_mode: bool
) -> Windows:
    out_size, pairs = [], []
    for size, k, s, (lo, hi), d in zip(in_size, kernel, stride, padding, dilation, strict=True):
        span, padded = d * (k - 1) + 1, size + lo + hi
        out = (padded - span + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (out - 1) * s >= size + lo:
            out -= 1
        if out < 1:
            hangs = f" by the stride of {s} or more, which ceil_mode does not allow" if ceil_mode else ""
            raise ValueError(
                f"{name}: a window of {span} (kernel_size {k}, dilation {d}) is larger than "
                f"the padded input of {padded} (size {size}, padding {lo} + {hi}){hangs}; "
                f"spatial input size {in_size}, kernel_size {kernel}"
            )
        out_size.append(out)
        pairs.append((lo, max(hi, (out - 1) * s + span - size - lo)))
    return Windows(in_size, tuple(out_size), kernel, stride, dilation, tuple(pairs))


def conv_geometry(
    name: str,
    ndim: int,
    x_shape: Shape,
    weight_shape: Shape,
    bias_shape: Shape | None,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
) -> ConvGeometry:
    """Check shapes of a convolution against each other: (N, C, *spatial), (O, C/groups, *kernel) and (O,).

    `stride`, `padding` and `dilation` are as for `window_geometry`. What does not fit is a ValueError or
    TypeError that begins with `name`.

    Examples
    --------
    >>> conv_geometry("conv2d", 2, (8, 32, 14, 14), (64, 32, 3, 3), (64,), 1, 0, 1, 1).out_shape
    (8, 64, 12, 12)
    """
    check_rank(name, "input", x_shape, ndim)
    if len(weight_shape) != ndim + 2:
        axes = ", ".join(("out_channels", "in_channels/groups", *spatial_names(ndim, "k")))
        raise ValueError(f"{name}: expected a weight of {ndim + 2} axes ({axes}), got shape {weight_shape}")
    groups = whole(name, "groups", groups, 1)
    out_channels, in_per_group = weight_shape[:2]
    check_groups(name, groups, out_channels=out_channels)
    check_channels(name, x_shape, in_per_group * groups)
    if bias_shape is not None and bias_shape != (out_channels,):
        raise ValueError(
            f"{name}: expected a bias of shape {(out_channels,)} for a weight of shape {weight_shape}, "
            f"got {bias_shape}"
        )
    windows = window_geometry(name, x_shape[2:], weight_shape[2:], stride, padding, dilation)
    return ConvGeometry(x_shape[0], x_shape[1], out_channels, groups, windows)


def conv_transpose_geometry(
    name: str,
    ndim: int,
    x_shape: Shape,
    weight_shape: Shape,
    bias_shape: Shape | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    dilation: Size,
    groups: int,
) -> ConvGeometry:
    """Find the convolution whose input gradient a transposed convolution is, and check the shapes.

    Its input is the transposed convolution's output and the reverse, so its `in_shape` is what
    comes out: along each axis ``(in - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1``.
    The weight is (C, O/groups, *kernel); `padding` is taken from both ends of the output, `output_padding`
    added at its end, and the rest is as for `conv_geometry`.

    Examples
    --------
    >>> conv_transpose_geometry("f", 1, (1, 4, 5), (4, 2, 3), None, 2, 1, 1, 1, 1).in_shape
    (1, 2, 10)
    """
    check_rank(name, "input", x_shape, ndim)
    if len(weight_shape) != ndim + 2:
        axes = ", ".join(("in_channels", "out_channels/groups", *spatial_names(ndim, "k")))
        raise ValueError(f"{name}: expected a weight of {ndim + 2} axes ({axes}), got shape {weight_shape}")
    groups = whole(name, "groups", groups, 1)
    check_channels(name, x_shape, weight_shape[0])
    check_groups(name, groups, in_channels=x_shape[1])
    out_channels = weight_shape[1] * groups
    if bias_shape is not None and bias_shape != (out_channels,):
        raise ValueError(
            f"{name}: expected a bias of shape {(out_channels,)} for a weight of shape {weight_shape} "
            f"and groups={groups}, got {bias_shape}"
        )
    kernel = whole_tuple(name, "kernel_size", weight_shape[2:], ndim, 1)
    strides = whole_tuple(name, "stride", stride, ndim, 1)
    pads = whole_tuple(name, "padding", padding, ndim, 0)
    extra = whole_tuple(name, "output_padding", output_padding, ndim, 0)
    dilations = whole_tuple(name, "dilation", dilation, ndim, 1)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ValueError(
            f"{name}: output_padding must be smaller than stride or dilation, got output_padding {extra}, "
            f"stride {strides} and dilation {dilations}"
        )
    out_size = tuple(
        (size - 1) * s - 2 * p + d * (k - 1) + e + 1
        for size, k, s, p, e, d in zip(x_shape[2:], kernel, strides, pads, extra, dilations, strict=True)
    )
    least = 1 if x_shape[0] else 0  # of no pictures, sizes of 0 are taken too
    if min(x_shape[2:]) < least or min(out_size) < least:
        raise ValueError(
            f"{name}: expected sizes that leave an output, got an input of shape {x_shape} "
            f"and an output of size {out_size}"
        )
    pairs = tuple((p, p) for p in pads)
    windows = Windows(out_size, tuple(x_shape[2:]), kernel, strides, dilations, pairs)
    return ConvGeometry(x_shape[0], out_channels, x_shape[1], groups, windows)


def spatial_names(ndim: int, prefix: str = "") -> tuple[str, ...]:
    """Name the last `ndim` spatial axes: D, H, W."""
    return tuple(f"{prefix}{axis}" for axis in "DHW"[3 - ndim :])


def check_rank(name: str, what: str, shape: Shape, ndim: int) -> None:
    """Require a batch axis, a channel axis and `ndim` spatial axes."""
    if len(shape) != ndim + 2:
        axes = ", ".join(("N", "C", *spatial_names(ndim)))
        text = f"{name}: expected an {what} of {ndim + 2} axes ({axes}), got shape {shape}"
        if len(shape) == ndim + 1 and what == "input":
            picture = shape[0] <= 4  # its channels come first
            text += f"; the batch {'' if picture else 'or channel '}axis seems to be missing: {(1, *shape)}"
            text += "" if picture else f" or {(shape[0], 1, *shape[1:])}"
        raise ValueError(text)


def check_channels(name: str, x_shape: Shape, expected: int) -> None:
    """Require `expected` channels on axis 1."""
    if x_shape[1] != expected:
        raise ValueError(
            f"{name}: expected {expected} input channels, got {x_shape[1]} (input shape {x_shape})"
            + channels_last_hint(x_shape, expected)
        )


def channels_last_hint(shape: Shape, channels: int) -> str:
    """Return what to write where the channels seem to stand on the last axis; nothing elsewhere."""
    if len(shape) < 4 or shape[-1] != channels or shape[1] == channels:
        return ""
    order = (0, len(shape) - 1, *range(1, len(shape) - 1))
    return f"; it looks channels-last: x.transpose{order} is (N, C, ...)"


def check_groups(name: str, groups: int, **channels: int) -> None:
    """Require that `groups` divides each of the channel counts."""
    for what, count in channels.items():
        if count % groups:
            raise ValueError(f"{name}: groups must divide {what}, got groups={groups} and {what}={count}")
