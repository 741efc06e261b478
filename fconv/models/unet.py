"""U-Net."""

from __future__ import annotations

from typing import Any

from fconv.layer import Layer
from fconv.layers import batch_norm, conv2d, conv_transpose2d, max_pool2d, relu, upsample
from fconv.networks import compose, concat_padded, graph
from fconv.options import whole

__all__ = ["unet"]


def unet(n_classes: int = 2, *, bilinear: bool = False, bias: bool = False, width: int = 64) -> Layer:
    """Four halvings and four doublings; each doubling is concatenated with the earlier picture of its size.

    Unlike the paper's, its convolutions keep the size and are followed by batch normalisation.

    Parameters
    ----------
    n_classes : int
        Number of output channels.
    bilinear : bool
        Double the size by bilinear interpolation (and have half the channels at the bottom) rather
        than by transposed convolutions.
    bias : bool
        Give the 3x3 convolutions biases, as milesial/Pytorch-UNet had them before its third
        release.
    width : int
        Channels of the first convolutions, an even number; published checkpoints have 64.

    Returns
    -------
    Layer
        (N, C, H, W) to logits (N, n_classes, H, W), for H and W of 16 or more; where they are no
        multiples of 16, smaller pictures are padded with zeros before they are joined.
        Parameter names are those of milesial/Pytorch-UNet: ``inc.double_conv.0.weight``,
        ``down1.maxpool_conv.1.double_conv.0.weight``, ``up1.up.weight``, ``outc.conv.bias``.
        Initial values are torch.nn's own, as there.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; pictures that are too small, when it is used.

    References
    ----------
    Ronneberger et al., "U-Net: convolutional networks for biomedical image segmentation", 2015.

    Examples
    --------
    >>> unet(n_classes=2).out_shape((1, 3, 96, 130))
    (1, 2, 96, 130)
    """
    width = whole("unet", "width", width, 1)
    if width % 2:
        raise ValueError(f"unet: expected an even width, got {width}")
    shrink = 2 if bilinear else 1
    levels = [f"down{i}" for i in range(1, 5)]
    nodes: dict[str, Any] = {"inc": (_double_conv(width, width, bias), "x")}
    for i, (name, below) in enumerate(zip(levels, ["inc", *levels], strict=False), 1):
        channels = width * 2**i // (shrink if i == 4 else 1)
        down = compose(max_pool2d(2), _double_conv(channels, channels, bias))
        nodes[name] = (compose(maxpool_conv=down), below)
    last = "down4"
    for i, skip in enumerate(["down3", "down2", "down1", "inc"], 1):
        channels = width * 2 ** (4 - i)  # of the picture that is joined
        out = channels // (shrink if i < 4 else 1)
        doubled = (
            upsample(scale_factor=2, mode="bilinear", align_corners=True)
            if bilinear
            else conv_transpose2d(channels, 2, stride=2)
        )
        nodes[f"up{i}.up"] = (doubled, last)
        nodes[f"up{i}.joined"] = (concat_padded(), skip, f"up{i}.up")
        nodes[f"up{i}.conv"] = (_double_conv(channels, out, bias), f"up{i}.joined")
        last = f"up{i}.conv"
    nodes["outc"] = (compose(conv=conv2d(n_classes, 1)), last)
    return graph(nodes)


def _double_conv(middle: int, out: int, bias: bool) -> Layer:
    layers = [
        layer
        for channels in (middle, out)
        for layer in (conv2d(channels, 3, padding=1, bias=bias), batch_norm(), relu())
    ]
    return compose(double_conv=compose(*layers))
