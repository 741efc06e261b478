"""SRGAN's generator."""

from __future__ import annotations

from math import log2
from typing import Any

from fconv.layer import Layer
from fconv.layers import batch_norm, conv2d, hardtanh, pixel_shuffle, prelu, scale_shift, sigmoid
from fconv.networks import add, compose, graph
from fconv.options import whole

__all__ = ["srgan"]


def srgan(
    channels: int = 3, *, blocks: int = 5, scale: int = 4, width: int = 64, bias: bool = True,
    output: str = "tanh",
) -> Layer:  # fmt: skip
    """Residual blocks with learnt slopes on the small picture, then doublings of its size.

    Parameters
    ----------
    channels : int
        Of the picture.
    blocks : int
        Number of residual blocks: 5 in leftthomas/SRGAN, 16 in the paper and Lornatang/SRGAN-PyTorch.
    scale : int
        How many times wider and higher the picture becomes: a power of 2.
    width : int
        Channels between the convolutions.
    bias : bool
        Give the convolutions before batch normalisation biases; Lornatang/SRGAN-PyTorch does not.
    output : {"tanh", "clip"}
        How values come to lie from 0 to 1: by (tanh(y) + 1) / 2 as in leftthomas/SRGAN, or cut off as in
        Lornatang/SRGAN-PyTorch.

    Returns
    -------
    Layer
        (N, channels, H, W), with values from 0 to 1, to the same scale times larger. Parameter
        names are those of leftthomas/SRGAN: ``block1.0.weight``, ``block2.conv1.weight``,
        ``block8.0.conv.weight``. Initial values are torch.nn's own, as there.

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
    >>> srgan().out_shape((1, 3, 24, 24))
    (1, 3, 96, 96)
    """
    doublings = round(log2(whole("srgan", "scale", scale, 2)))
    if 2**doublings != scale:
        raise ValueError(f"srgan: expected a scale of 2, 4, 8, ..., got {scale}")
    if output not in ("tanh", "clip"):
        raise ValueError(f'srgan: expected output "tanh" or "clip", got {output!r}')
    last = 2 + whole("srgan", "blocks", blocks)

    def conv(size: int = 3, out: int = width, bias: bool = True) -> Layer:
        return conv2d(out, size, padding=size // 2, bias=bias)

    nodes: dict[str, Any] = {"block1": (compose(conv(9), prelu()), "x")}
    for i in range(2, last):
        block = compose(
            conv1=conv(bias=bias), bn1=batch_norm(), prelu=prelu(), conv2=conv(bias=bias), bn2=batch_norm()
        )
        before = f"sum{i - 1}" if i > 2 else "block1"
        nodes |= {f"block{i}": (block, before), f"sum{i}": (add(), before, f"block{i}")}
    doubling = compose(conv=conv(out=4 * width), pixel_shuffle=pixel_shuffle(2), prelu=prelu())
    nodes |= {
        f"block{last}": (compose(conv(bias=bias), batch_norm()), f"sum{last - 1}"),
        "sum": (add(), "block1", f"block{last}"),
        f"block{last + 1}": (compose(*[doubling] * doublings, conv(9, channels)), "sum"),
    }
    # (tanh(y) + 1) / 2 is sigmoid(2 y)
    final = hardtanh(0.0, 1.0) if output == "clip" else compose(scale_shift(2.0), sigmoid())
    nodes["output"] = (final, f"block{last + 1}")
    return graph(nodes)
