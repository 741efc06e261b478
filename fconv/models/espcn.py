"""ESPCN."""

from __future__ import annotations

from fconv.initializers import normal, zeros
from fconv.layer import Layer
from fconv.layers import conv2d, hardtanh, identity, pixel_shuffle, tanh
from fconv.networks import compose
from fconv.options import whole

__all__ = ["espcn"]


def espcn(scale: int = 3, channels: int = 3, *, clip: bool = True) -> Layer:
    """Three convolutions on the small picture, whose channels then become pixels of the large one.

    Parameters
    ----------
    scale : int
        How many times wider and higher the picture becomes.
    channels : int
        Of the picture: 3 as in the published checkpoints, whose channels are Y, Cb and Cr from 0
        to 1; or 1 for the luma alone, as in the paper, which enlarges the colours by interpolation.
    clip : bool
        Keep the result between 0 and 1, as the published module does.

    Returns
    -------
    Layer
        (N, channels, H, W) to (N, channels, scale*H, scale*W). Parameter names are those of
        Nhat-Thanh/ESPCN-Pytorch: ``conv_1.weight``, ``conv_2.bias``. Initial values are normal of
        width 0.001, biases 0, as there.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when it is used.

    References
    ----------
    Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network", 2016.

    Examples
    --------
    >>> espcn(scale=3).out_shape((1, 3, 85, 85))
    (1, 3, 255, 255)
    >>> espcn(scale=2, channels=1).out_shape((1, 1, 85, 85))
    (1, 1, 170, 170)
    """
    scale = whole("espcn", "scale", scale, 1)
    channels = whole("espcn", "channels", channels, 1)
    return compose(
        conv_1=_conv(64, 5), tanh_1=tanh(), conv_2=_conv(32, 3), tanh_2=tanh(),
        conv_3=_conv(channels * scale * scale, 3), pixel_shuffle=pixel_shuffle(scale),
        clip=hardtanh(0.0, 1.0) if clip else identity(),
    )  # fmt: skip


def _conv(channels: int, size: int) -> Layer:
    return conv2d(channels, size, padding=size // 2, weight_init=normal(std=0.001), bias_init=zeros())
