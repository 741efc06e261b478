"""Which algorithm serves which convolution on the CPU, and its gradients."""

from __future__ import annotations

from math import prod
from typing import Literal, TypeAlias, get_args

import numpy as np

from fconv.arrays import Shape
from fconv.conv import direct, narrow, planar, winograd
from fconv.conv.geometry import ConvGeometry
from fconv.conv.tiles import Correlation

Algorithm: TypeAlias = Literal[
    "auto", "direct", "planar", "adding", "narrow", "winograd", "depthwise", "einsum"
]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)

_FEW_CHANNELS = 4
_NARROW = 32  # input channels
_NARROW_GRADIENT = 64  # input times output channels, for the weight's gradient to few of them
_STEPS = 50_000_000
_WINOGRAD_CHANNELS = 32
_WINOGRAD_FILTERS = 3 << 20  # numbers that the transformed filters may take


def choose(
    weight_shape: Shape, groups: int, at: Correlation, batch: int, dtype: np.dtype[np.generic], algorithm: str
) -> str:
    """Choose the algorithm of a convolution; this is the whole table.

    - depthwise: one input channel a group;
    - winograd: float32, 3x3 at stride 1 without dilation or groups, wide enough that the products
      saved outweigh the transforms;
    - narrow: few channels a group on both sides, two axes, stride 1, and Numba there;
    - planar: few input channels a group;
    - adding: few output channels a group, at stride 1: each input position's share of the windows
      around it is added into place, which is planar's input gradient;
    - direct: everything else.

    What it says of the gradients: `for_input_gradient`, `for_weight_gradient`.
    """
    if algorithm != "auto":
        return algorithm
    if _is_depthwise(weight_shape, groups):
        return "depthwise"
    square = _is_3x3(at.kernel, at.stride, at.dilation, groups)
    if square and dtype == np.float32 and _winograd_pays(weight_shape, at, batch):
        return "winograd"
    if _narrow_pays(weight_shape, groups) and narrow.serves(at):
        return "narrow"
    if weight_shape[1] <= _FEW_CHANNELS:
        return "planar"
    few = weight_shape[0] // groups <= _FEW_CHANNELS and prod(at.kernel) > 1
    return "adding" if few and set(at.stride) == {1} else "direct"


def chosen(geometry: ConvGeometry, dtype: np.dtype[np.generic], algorithm: str = "auto") -> str:
    """Choose the algorithm of the forward pass."""
    at = Correlation.of(geometry.windows)
    return choose(geometry.weight_shape, geometry.groups, at, geometry.batch, dtype, algorithm)


def for_input_gradient(geometry: ConvGeometry, dtype: np.dtype[np.generic], algorithm: str) -> str:
    """Choose the algorithm of the input gradient: the same table, with the channels exchanged.

    But where there are few input channels, the windows' entries are added up whatever the stride;
    and where a stride takes several convolutions, each is chosen by itself.
    """
    windows, groups = geometry.windows, geometry.groups
    outer, inner = geometry.weight_shape[0] // groups, geometry.weight_shape[1]
    name = algorithm
    if set(windows.stride) == {1}:
        turned = (groups * inner, outer, *windows.kernel)
        at = Correlation.of(windows).back()
        name = choose(turned, groups, at, geometry.batch, dtype, algorithm)
    depthwise = _is_depthwise(geometry.weight_shape, groups)
    few = algorithm == "auto" and inner <= _FEW_CHANNELS and not depthwise and name != "narrow"
    return "adding" if few or algorithm == "planar" else name


def for_weight_gradient(geometry: ConvGeometry, dtype: np.dtype[np.generic], algorithm: str) -> str:
    """Choose the algorithm of the weight gradient: that of the forward pass, with two exceptions.

    It is direct in the place of winograd, and adding in the place of narrow where there are few
    outputs of many channels.
    """
    name = chosen(geometry, dtype, algorithm)
    outer, inner = geometry.weight_shape[0] // geometry.groups, geometry.weight_shape[1]
    if (
        algorithm == "auto"
        and name == "narrow"
        and outer <= _FEW_CHANNELS
        and outer * inner > _NARROW_GRADIENT
    ):
        return "adding"
    return "direct" if name == "winograd" else name


def serves(dtype: np.dtype[np.generic], geometry: ConvGeometry) -> bool:
    """Tell whether these algorithms can: they want float32 or float64 and something to do."""
    sizes = (*geometry.in_shape, *geometry.out_shape, *geometry.weight_shape)
    return dtype in (np.float32, np.float64) and all(sizes) and not _strided_and_dilated(geometry)


def problem(algorithm: str, dtype: np.dtype[np.generic], geometry: ConvGeometry) -> str | None:
    """Say why an algorithm cannot serve a convolution, if it cannot."""
    if dtype not in (np.float32, np.float64):
        return f"needs float32 or float64, got {dtype}"
    w = geometry.windows
    if algorithm == "depthwise" and not _is_depthwise(geometry.weight_shape, geometry.groups):
        return f"needs one input channel a group, got {geometry.weight_shape[1]} in {geometry.groups} groups"
    if algorithm == "adding" and set(w.stride) != {1}:
        return f"needs stride 1, got {w.stride}"
    if algorithm == "narrow" and (lacking := narrow.problem(Correlation.of(w))):
        return lacking
    if algorithm == "winograd" and not _is_3x3(w.kernel, w.stride, w.dilation, geometry.groups):
        return (
            "needs a 3x3 kernel with stride 1, dilation 1 and one group, "
            f"got {w.kernel}, stride {w.stride}, dilation {w.dilation} and groups={geometry.groups}"
        )
    if _strided_and_dilated(geometry):
        return f"needs stride 1 or dilation 1, got {w.stride} and {w.dilation}"
    return None


def _narrow_pays(weight_shape: Shape, groups: int) -> bool:
    outer, inner = weight_shape[0] // groups, weight_shape[1]
    return outer < planar.FEW_OUTPUTS and inner <= _NARROW and prod(weight_shape[2:]) > 1


def _is_depthwise(weight_shape: Shape, groups: int) -> bool:
    return weight_shape[1] == 1 and groups > 1


def _is_3x3(kernel: Shape, stride: Shape, dilation: Shape, groups: int) -> bool:
    return kernel == (3, 3) and stride == dilation == (1, 1) and groups == 1


def _strided_and_dilated(geometry: ConvGeometry) -> bool:
    # The input positions of one remainder then meet filter entries that are no regular grid.
    w = geometry.windows
    return any(s > 1 and d > 1 for s, d in zip(w.stride, w.dilation, strict=True))


def _winograd_pays(weight_shape: Shape, at: Correlation, batch: int) -> bool:
    """Compare what the two ways cost, in multiplications of a matrix product.

    A number that is copied or written costs about as much as `direct.PASS` multiplications, and the
    steps between Winograd's products as much as `_STEPS`. The constants are fitted to measured
    times, docs/design/performance.md.
    """
    outer, inner = weight_shape[:2]
    if min(inner, outer) < _WINOGRAD_CHANNELS or 36 * inner * outer > _WINOGRAD_FILTERS:
        return False
    positions = batch * at.out_size[0] * at.out_size[1]
    blocks = batch * -(-at.out_size[0] // winograd.STEP) * -(-at.out_size[1] // winograd.STEP)
    plain = positions * inner * 9 * (outer + direct.PASS)
    saved = 36 * blocks * (inner * outer + inner * (36 + direct.PASS) + outer * (16 + direct.PASS))
    return saved + 36 * inner * outer * (9 + direct.PASS) + _STEPS < plain
