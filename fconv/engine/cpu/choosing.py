"""Choose the NumPy algorithm for a convolution and its gradients."""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Shape
from fconv.engine.cpu import direct
from fconv.engine.cpu.tiles import Correlation
from fconv.engine.winograd_matrices import STEP
from fconv.geometry import ConvGeometry

_FEW_CHANNELS = 4
_STEPS = 50_000_000
_WINOGRAD_CHANNELS = 32
_WINOGRAD_FILTERS = 3 << 20  # numbers that the transformed filters may take


def choose(
    weight_shape: Shape, groups: int, at: Correlation, batch: int, dtype: np.dtype[np.generic], algorithm: str
) -> str:
    """Choose the algorithm of a correlation; this is the whole table.

    - depthwise: one input channel a group;
    - winograd: float32, 3x3 at stride 1 without dilation or groups, wide enough that the products
      saved outweigh the transforms;
    - planar: few input channels a group;
    - adding: few output channels a group, at stride 1: each input position's share of the windows
      around it is added into place, which is planar's input gradient;
    - direct: everything else.

    What it says of the gradients: `input_gradient`, `weight_gradient`.
    """
    if _is_depthwise(weight_shape, groups):
        return "depthwise"
    square = at.kernel == (3, 3) and at.stride == at.dilation == (1, 1) and groups == 1
    if square and algorithm == "winograd":
        return "winograd"
    if square and algorithm == "auto" and dtype == np.float32 and _winograd_pays(weight_shape, at, batch):
        return "winograd"
    if weight_shape[1] <= _FEW_CHANNELS:
        return "planar"
    few = weight_shape[0] // groups <= _FEW_CHANNELS and prod(at.kernel) > 1
    return "adding" if few and set(at.stride) == {1} else "direct"


def forward(geometry: ConvGeometry, dtype: np.dtype[np.generic], algorithm: str) -> str:
    """Choose the algorithm of the forward pass."""
    at = Correlation.of(geometry.windows)
    return choose(geometry.weight_shape, geometry.groups, at, geometry.batch, dtype, algorithm)


def input_gradient(geometry: ConvGeometry, dtype: np.dtype[np.generic], algorithm: str) -> str:
    """Choose the algorithm of the input gradient: the same table, with the channels exchanged.

    But where there are few input channels, the windows' elements are added up whatever the stride;
    and where a stride takes several convolutions, each is chosen by itself.
    """
    windows, groups = geometry.windows, geometry.groups
    outer, inner = geometry.weight_shape[0] // groups, geometry.weight_shape[1]
    if (
        inner <= _FEW_CHANNELS
        and not _is_depthwise(geometry.weight_shape, groups)
        and algorithm != "winograd"
    ):
        return "adding"
    if set(windows.stride) != {1}:
        return "direct"
    turned = (groups * inner, outer, *windows.kernel)
    at = Correlation.of(windows).back()
    return choose(turned, groups, at, geometry.batch, dtype, algorithm)


def weight_gradient(geometry: ConvGeometry, dtype: np.dtype[np.generic], algorithm: str) -> str:
    """Choose the algorithm of the weight gradient: that of the forward pass, or direct for winograd."""
    name = forward(geometry, dtype, algorithm)
    return "direct" if name == "winograd" else name


def serves(geometry: ConvGeometry) -> bool:
    """Return whether these algorithms can: not where an axis has a stride and a dilation.

    The input positions of one remainder then meet filter elements that are no regular grid.
    """
    w = geometry.windows
    return not any(s > 1 and d > 1 for s, d in zip(w.stride, w.dilation, strict=True))


def _is_depthwise(weight_shape: Shape, groups: int) -> bool:
    return weight_shape[1] == 1 and groups > 1


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
    blocks = batch * -(-at.out_size[0] // STEP) * -(-at.out_size[1] // STEP)
    plain = positions * inner * 9 * (outer + direct.PASS)
    saved = 36 * blocks * (inner * outer + inner * (36 + direct.PASS) + outer * (16 + direct.PASS))
    return saved + 36 * inner * outer * (9 + direct.PASS) + _STEPS < plain
