"""SRResNet."""

from __future__ import annotations

from fconv.layer import Layer
from fconv.layers import batch_norm, instance_norm, leaky_relu, pixel_shuffle
from fconv.models.blocks import he_conv
from fconv.networks import add, compose, graph
from fconv.options import whole

__all__ = ["srresnet"]


def srresnet(channels: int = 3, *, blocks: int = 16, norm: str = "batch", width: int = 64) -> Layer:
    """Residual blocks on the small picture, then two doublings of its size: four times larger.

    Parameters
    ----------
    channels : int
        Of the picture.
    blocks : int
        Number of residual blocks.
    norm : {"batch", "instance"}
        What normalises inside them. twtygqyy/pytorch-SRResNet began with batch normalisation
        (``residual.0.bn1``), which the paper has, and changed to that of single pictures
        (``residual.0.in1``).
    width : int
        Channels between the convolutions.

    Returns
    -------
    Layer
        (N, channels, H, W), with values from 0 to 1, to (N, channels, 4*H, 4*W). Parameter names are
        those of twtygqyy/pytorch-SRResNet: ``conv_input.weight``, ``residual.0.conv1.weight``,
        ``bn_mid.weight``, ``upscale4x.3.weight``; as there, leaky rectified linear units of slope
        0.2 stand in the place of the paper's learnt slopes, and convolutions have no bias. Initial
        values follow He's rule over fan_out, as there.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when it is used.

    References
    ----------
    Ledig et al., "Photo-realistic single image super-resolution using a generative adversarial
    network", 2017.

    Examples
    --------
    >>> srresnet().out_shape((1, 3, 24, 24))
    (1, 3, 96, 96)
    """
    if norm not in ("batch", "instance"):
        raise ValueError(f'srresnet: expected norm "batch" or "instance", got {norm!r}')
    count = whole("srresnet", "blocks", blocks, 1)
    width = whole("srresnet", "width", width, 1)
    doubling = [he_conv(4 * width, 3), pixel_shuffle(2), leaky_relu(0.2)]
    return graph(
        {
            "conv_input": (he_conv(width, 9), "x"),
            "relu": (leaky_relu(0.2), "conv_input"),
            "residual": (compose(*(_block(width, norm) for _ in range(count))), "relu"),
            "conv_mid": (he_conv(width, 3), "residual"),
            "bn_mid": (_norm(norm), "conv_mid"),
            "sum": (add(), "bn_mid", "relu"),
            "upscale4x": (compose(*doubling, *doubling), "sum"),
            "conv_output": (he_conv(channels, 9), "upscale4x"),
        }
    )


def _norm(kind: str) -> Layer:
    return batch_norm() if kind == "batch" else instance_norm(affine=True)


def _block(width: int, kind: str) -> Layer:
    name = "bn" if kind == "batch" else "in"
    return graph(
        {
            "conv1": (he_conv(width, 3), "x"),
            f"{name}1": (_norm(kind), "conv1"),
            "relu": (leaky_relu(0.2), f"{name}1"),
            "conv2": (he_conv(width, 3), "relu"),
            f"{name}2": (_norm(kind), "conv2"),
            "sum": (add(), f"{name}2", "x"),
        }
    )
