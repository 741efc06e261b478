"""Residual networks for pictures of the size of ImageNet's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape
from fconv.layer import Layer, Params
from fconv.layers import adaptive_avg_pool2d, batch_norm, flatten, linear, max_pool2d, relu
from fconv.models.blocks import he_conv
from fconv.networks import add, compose, graph
from fconv.options import whole

__all__ = ["resnet18", "resnet34", "resnet50"]


def resnet18(num_classes: int = 1000, *, zero_init_residual: bool = False) -> Layer:
    """Eight residual blocks of two 3x3 convolutions.

    Parameters
    ----------
    num_classes : int
        Number of outputs.
    zero_init_residual : bool
        Begin with 0 for the last scale of each block, so that a block begins as the identity.

    Returns
    -------
    Layer
        (N, C, H, W) to logits (N, num_classes), for any H and W (in training, large enough for
        more than one value per channel at a 32nd of the size); published checkpoints take C = 3.
        Parameter names are torchvision's: ``layer1.0.conv1.weight``,
        ``layer2.0.downsample.1.running_mean``. Initial values are torchvision's too: He's rule
        over fan_out for convolutions, torch.nn's own for ``fc``.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when it is used.

    References
    ----------
    He et al., "Deep residual learning for image recognition", 2016.

    Examples
    --------
    >>> resnet18().out_shape((1, 3, 224, 224))
    (1, 1000)
    """
    return _resnet(_basic(zero_init_residual), (2, 2, 2, 2), num_classes)


def resnet34(num_classes: int = 1000, *, zero_init_residual: bool = False) -> Layer:
    """Sixteen residual blocks of two 3x3 convolutions; see `resnet18`.

    Examples
    --------
    >>> resnet34().out_shape((1, 3, 224, 224))
    (1, 1000)
    """
    return _resnet(_basic(zero_init_residual), (3, 4, 6, 3), num_classes)


def resnet50(
    num_classes: int = 1000, *, zero_init_residual: bool = False, groups: int = 1, width_per_group: int = 64
) -> Layer:
    """Sixteen residual blocks of a 1x1, a 3x3 and a 1x1 convolution; see `resnet18`.

    As in torchvision, the 3x3 convolution has the stride, where the paper gives it to the first
    1x1 convolution.

    Parameters
    ----------
    num_classes, zero_init_residual
        As for `resnet18`.
    groups, width_per_group : int
        Groups of the 3x3 convolutions, and channels of each group in the first stage. With 32 and
        4 it is torchvision's resnext50_32x4d, with 1 and 128 its wide_resnet50_2.

    Returns
    -------
    Layer
        (N, C, H, W) to logits (N, num_classes).

    Examples
    --------
    >>> resnet50().out_shape((1, 3, 224, 224))
    (1, 1000)
    """
    groups = whole("resnet50", "groups", groups, 1)
    base = whole("resnet50", "width_per_group", width_per_group, 1)
    return _resnet(_bottleneck(zero_init_residual, groups, base), (3, 4, 6, 3), num_classes)


_Block = Callable[[int, int, bool], Layer]
"""``block(channels, stride, first) -> layer``; `first` of its stage."""


def _resnet(block: _Block, depths: tuple[int, ...], num_classes: int) -> Layer:
    stages = {}
    for i, depth in enumerate(depths):
        stride = 1 if i == 0 else 2
        blocks = [block(64 * 2**i, stride if j == 0 else 1, j == 0) for j in range(depth)]
        stages[f"layer{i + 1}"] = compose(*blocks)
    return compose(
        conv1=he_conv(64, 7, 2), bn1=batch_norm(), relu=relu(), maxpool=max_pool2d(3, stride=2, padding=1),
        **stages,
        avgpool=adaptive_avg_pool2d(1), flatten=flatten(), fc=linear(num_classes),
    )  # fmt: skip


def _basic(zero: bool) -> _Block:
    def block(channels: int, stride: int, first: bool) -> Layer:
        body = {
            "conv1": (he_conv(channels, 3, stride), "x"),
            "bn1": (batch_norm(), "conv1"),
            "relu": (relu(), "bn1"),
            "conv2": (he_conv(channels, 3), "relu"),
            "bn2": (_zero_norm() if zero else batch_norm(), "conv2"),
        }
        # The first stage has the channels and the size of what comes before it.
        return _joined(body, "bn2", _projection(channels, stride) if stride != 1 else None)

    return block


def _bottleneck(zero: bool, groups: int, base: int) -> _Block:
    def block(channels: int, stride: int, first: bool) -> Layer:
        wide = channels * base // 64 * groups
        body = {
            "conv1": (he_conv(wide, 1), "x"),
            "bn1": (batch_norm(), "conv1"),
            "relu1": (relu(), "bn1"),
            "conv2": (he_conv(wide, 3, stride, groups=groups), "relu1"),
            "bn2": (batch_norm(), "conv2"),
            "relu2": (relu(), "bn2"),
            "conv3": (he_conv(4 * channels, 1), "relu2"),
            "bn3": (_zero_norm() if zero else batch_norm(), "conv3"),
        }
        return _joined(body, "bn3", _projection(4 * channels, stride) if first else None)

    return block


def _joined(body: dict[str, Any], last: str, downsample: Layer | None) -> Layer:
    """Add the input, or a projection of it, to what the body ends with."""
    straight = "x" if downsample is None else "downsample"
    side = {} if downsample is None else {straight: (downsample, "x")}
    return graph({**body, **side, "sum": (add(), last, straight), "out": (relu(), "sum")})


def _projection(channels: int, stride: int) -> Layer:
    return compose(he_conv(channels, 1, stride), batch_norm())


@constructor
def _zero_norm() -> Layer:
    norm = batch_norm()

    def init(key: Array, shape: Shape, dtype: Any = np.float32) -> Params:
        params = norm.init(key, shape, dtype)
        return {**params, "weight": np.zeros_like(params["weight"])}

    return replace(norm, init=init)
