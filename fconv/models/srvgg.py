"""The compact network of Real-ESRGAN."""

from __future__ import annotations

from fconv.layer import Layer
from fconv.layers import conv2d, pixel_shuffle, prelu, upsample
from fconv.networks import add, compose, graph
from fconv.options import whole

__all__ = ["srvgg"]


def srvgg(channels: int = 3, *, convs: int = 16, width: int = 64, scale: int = 4) -> Layer:
    """Compute what a chain of 3x3 convolutions adds to the picture enlarged by its nearest pixels.

    Parameters
    ----------
    channels : int
        Of the picture.
    convs : int
        Number of convolutions between the first and the last: 16 in realesr-animevideov3, 32 in
        realesr-general-x4v3.
    width : int
        Channels between the convolutions.
    scale : int
        How many times wider and higher the picture becomes.

    Returns
    -------
    Layer
        (N, channels, H, W), with values from 0 to 1, to (N, channels, scale*H, scale*W). Parameter
        names are those of SRVGGNetCompact in xinntao/Real-ESRGAN: ``body.0.weight``,
        ``body.1.weight``. Initial values are torch.nn's own, as there.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when it is used.

    References
    ----------
    Wang et al., "Real-ESRGAN: training real-world blind super-resolution with pure synthetic data", 2021.

    Examples
    --------
    >>> srvgg(convs=32).out_shape((1, 3, 24, 32))
    (1, 3, 96, 128)
    """
    channels, scale = whole("srvgg", "channels", channels), whole("srvgg", "scale", scale)
    body: list[Layer] = []
    for _ in range(1 + whole("srvgg", "convs", convs, 0)):
        body += [conv2d(width, 3, padding=1), prelu(width)]
    body.append(conv2d(channels * scale * scale, 3, padding=1))
    return graph(
        {
            "body": (compose(*body), "x"),
            "upsampler": (pixel_shuffle(scale), "body"),
            "base": (upsample(scale_factor=scale), "x"),
            "sum": (add(), "upsampler", "base"),
        }
    )
