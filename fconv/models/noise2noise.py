"""Small networks that learn to remove noise from pairs of noisy pictures."""

from __future__ import annotations

from fconv.initializers import kaiming_uniform
from fconv.layer import Layer
from fconv.layers import conv2d, relu, sigmoid, upsample
from fconv.networks import compose

__all__ = ["noise2noise", "noise2noise_shallow", "noise2noise_strided"]


def noise2noise(channels: int = 3) -> Layer:
    """Widen to 64 channels at full size, then two doublings, each read at every second pixel.

    It is the better of the two networks of the report on convolution and upsampling modules from
    which this library started, trained there to 24.85 dB on pictures of 32x32.

    Parameters
    ----------
    channels : int
        Of the picture.

    Returns
    -------
    Layer
        (N, channels, H, W), with values from 0 to 1, to the same shape, for H and W of 3 or more.
        Parameter names are those of a torch.nn.Sequential whose upsampling is a torch.nn.Upsample
        followed by a torch.nn.Conv2d: ``0``, ``2``, ``5`` and ``8`` have weights. Initial values are
        torch.nn's own.

    Raises
    ------
    ValueError, TypeError
        `channels` is not an integer of at least 1; inputs that do not fit, when it is used.

    References
    ----------
    Lehtinen et al., "Noise2Noise: learning image restoration without clean data", 2018.

    Examples
    --------
    >>> noise2noise().out_shape((16, 3, 32, 32))
    (16, 3, 32, 32)
    """
    return compose(
        conv2d(32, 3), relu(),
        conv2d(64, 3, padding=3), relu(),
        upsample(scale_factor=2), conv2d(32, 3, stride=2), relu(),
        upsample(scale_factor=2), conv2d(channels, 3, stride=2), sigmoid(),
    )  # fmt: skip


def noise2noise_strided(channels: int = 3) -> Layer:
    """Two convolutions of stride 2, then two doublings: the other network of that report, 22.73 dB.

    Parameters
    ----------
    channels : int
        Of the picture.

    Returns
    -------
    Layer
        (N, channels, H, W) to the same shape where H and W are multiples of 4. Names as for
        `noise2noise`.

    Examples
    --------
    >>> noise2noise_strided().out_shape((16, 3, 32, 32))
    (16, 3, 32, 32)
    """
    return compose(
        conv2d(10, 3, stride=2, padding=2), relu(),
        conv2d(10, 3, stride=2, padding=2), relu(),
        upsample(scale_factor=2), conv2d(10, 4), relu(),
        upsample(scale_factor=2), conv2d(channels, 3), sigmoid(),
    )  # fmt: skip


def noise2noise_shallow(channels: int = 3) -> Layer:
    """Two convolutions of stride 2 to 32 channels and one upsampling back: a shallow auto-encoder.

    The report on auto-encoder blocks that it comes from (about 23 dB) gives the channels, the
    strided convolutions and the single upsampling; kernels of 3 pixels, strides of 2 and the factor
    of 4 that follows are the reading of them here.

    Parameters
    ----------
    channels : int
        Of the picture.

    Returns
    -------
    Layer
        (N, channels, H, W) to the same shape where H and W are multiples of 4. As a
        torch.nn.Sequential, ``0``, ``2`` and ``5`` have weights. Initial values: He's rule over
        fan_in for weights, as in the report, and torch.nn's own for biases.

    Examples
    --------
    >>> noise2noise_shallow().out_shape((16, 3, 32, 32))
    (16, 3, 32, 32)
    """

    def conv(out: int, stride: int) -> Layer:
        return conv2d(out, 3, stride=stride, padding=1, weight_init=kaiming_uniform())

    return compose(
        conv(16, 2), relu(), conv(32, 2), relu(), upsample(scale_factor=4), conv(channels, 1), sigmoid()
    )
