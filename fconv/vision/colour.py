"""Colour spaces of television."""

from __future__ import annotations

import numpy as np

from fconv.arrays import Array

__all__ = ["rgb_to_ycbcr", "ycbcr_to_rgb"]

# ITU-R BT.601: luma weights, scaled to 16..235 (219 steps) and 16..240 around 128 (224 steps).
_LUMA = np.array([0.299, 0.587, 0.114])
_BLUE, _RED = np.array([0, 0, 1.0]) - _LUMA, np.array([1.0, 0, 0]) - _LUMA
_MATRIX = np.stack([219 * _LUMA, 112 * _BLUE / (1 - 0.114), 112 * _RED / (1 - 0.299)]) / 255
_OFFSET = np.array([16, 128, 128]) / 255
_INVERSE = np.linalg.inv(_MATRIX)


def rgb_to_ycbcr(rgb: Array) -> Array:
    """Return luma and two colour differences, (3, H, W) from 0 to 1, in the studio range of BT.601.

    Examples
    --------
    >>> (rgb_to_ycbcr(np.ones((3, 1, 1))).ravel() * 255).round()
    array([235., 128., 128.])
    """
    return _mixed(_MATRIX, rgb) + _OFFSET[:, None, None].astype(rgb.dtype)


def ycbcr_to_rgb(ycbcr: Array) -> Array:
    """Invert `rgb_to_ycbcr`.

    Examples
    --------
    >>> rgb = np.array([0.2, 0.5, 0.9]).reshape(3, 1, 1)
    >>> np.abs(ycbcr_to_rgb(rgb_to_ycbcr(rgb)) - rgb).max() < 1e-12
    np.True_
    """
    return _mixed(_INVERSE, ycbcr - _OFFSET[:, None, None].astype(ycbcr.dtype))


def _mixed(matrix: Array, planes: Array) -> Array:
    return np.tensordot(matrix.astype(planes.dtype), planes, axes=1)
