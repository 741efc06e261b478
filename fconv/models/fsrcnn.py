"""FSRCNN."""

from __future__ import annotations

from fconv.initializers import normal, zeros
from fconv.layer import Layer
from fconv.layers import conv_transpose2d, prelu
from fconv.models.blocks import he_conv
from fconv.networks import compose
from fconv.options import whole

__all__ = ["fsrcnn"]


def fsrcnn(scale_factor: int = 3, num_channels: int = 1, *, d: int = 56, s: int = 12, m: int = 4) -> Layer:
    """Shrink the channels, map the small picture, widen again, and enlarge by one transposed convolution.

    Parameters
    ----------
    scale_factor : int
        How many times wider and higher the picture becomes.
    num_channels : int
        Of the picture; 1 for the luma, from 0 to 1.
    d, s, m : int
        Channels of the features, channels between, and number of 3x3 convolutions between: the
        paper's names.

    Returns
    -------
    Layer
        (N, num_channels, H, W) to (N, num_channels, scale_factor*H, scale_factor*W). Parameter
        names are those of yjn870/FSRCNN-pytorch: ``first_part.0.weight``, ``mid_part.1.weight``,
        ``last_part.bias``. Initial values are as there: He's rule over fan_out, normal of width
        0.001 for ``last_part``, biases 0.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when it is used.

    References
    ----------
    Dong et al., "Accelerating the super-resolution convolutional neural network", 2016.

    Examples
    --------
    >>> fsrcnn(scale_factor=3).out_shape((1, 1, 85, 85))
    (1, 1, 255, 255)
    """
    scale = whole("fsrcnn", "scale_factor", scale_factor, 1)
    between = whole("fsrcnn", "m", m, 0)
    middle = [he_conv(s, 1, bias=True), prelu(s)]
    for _ in range(between):
        middle += [he_conv(s, 3, bias=True), prelu(s)]
    middle += [he_conv(d, 1, bias=True), prelu(d)]
    enlarge = conv_transpose2d(
        num_channels, 9, stride=scale, padding=4, output_padding=scale - 1,
        weight_init=normal(std=0.001), bias_init=zeros(),
    )  # fmt: skip
    return compose(
        first_part=compose(he_conv(d, 5, bias=True), prelu(d)), mid_part=compose(*middle), last_part=enlarge
    )
