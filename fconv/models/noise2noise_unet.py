"""The U-Net of Noise2Noise."""

from __future__ import annotations

from typing import Any

from fconv.initializers import kaiming_normal, zeros
from fconv.layer import Layer
from fconv.layers import conv2d, conv_transpose2d, leaky_relu, max_pool2d, relu, upsample
from fconv.networks import compose, concat, graph

__all__ = ["noise2noise_unet"]


def noise2noise_unet(channels: int = 3, *, shared: bool = False) -> Layer:
    """Five halvings and five doublings, each doubling beside the picture of its size from before.

    Parameters
    ----------
    channels : int
        Of the picture.
    shared : bool
        Build joeylitalien/noise2noise-pytorch's form of it, in which four halvings have one set of parameters
        and three doublings another, the doublings are transposed convolutions, and most activations ReLU.

    Returns
    -------
    Layer
        (N, channels, H, W) to the same shape, for H and W that are multiples of 32. Parameter names
        are those of the paper's table: ``enc_conv0.weight`` to ``enc_conv6``, ``dec_conv5a``,
        ``dec_conv5b`` to ``dec_conv1c``; with `shared` ``_block1.0.weight`` to ``_block6``. Initial
        values follow He's rule, biases are 0.

    References
    ----------
    Lehtinen et al., "Noise2Noise: learning image restoration without clean data", 2018, table 2.

    Examples
    --------
    >>> noise2noise_unet().out_shape((1, 3, 64, 96))
    (1, 3, 64, 96)
    """
    return _shared(channels) if shared else _of_the_paper(channels)


def _conv(out: int) -> Layer:
    return conv2d(out, 3, padding=1, weight_init=kaiming_normal(), bias_init=zeros())


def _of_the_paper(channels: int) -> Layer:
    nodes: dict[str, Any] = {}
    last = "x"

    def then(name: str, layer: Layer, *sources: str) -> None:
        nonlocal last
        nodes[name] = (layer, *(sources or (last,)))
        last = name

    def conv(name: str, out: int) -> None:
        then(name, _conv(out))
        then(f"{name}_act", leaky_relu(0.1))

    conv("enc_conv0", 48)
    for i in range(1, 6):
        conv(f"enc_conv{i}", 48)
        then(f"pool{i}", max_pool2d(2))
    conv("enc_conv6", 48)
    for i in range(5, 0, -1):
        then(f"upsample{i}", upsample(scale_factor=2))
        then(f"concat{i}", concat(), last, f"pool{i - 1}" if i > 1 else "x")
        conv(f"dec_conv{i}a", 96 if i > 1 else 64)
        conv(f"dec_conv{i}b", 96 if i > 1 else 32)
    then("dec_conv1c", _conv(channels))
    return graph(nodes)


def _shared(channels: int) -> Layer:
    def doubled(*before: Layer, out: int) -> Layer:
        enlarge = conv_transpose2d(
            out, 3, stride=2, padding=1, output_padding=1, weight_init=kaiming_normal(), bias_init=zeros()
        )
        return compose(*before, enlarge)

    def two(out: int) -> list[Layer]:
        return [_conv(out), relu(), _conv(out), relu()]

    nodes: dict[str, Any] = {
        "_block1": (compose(_conv(48), relu(), _conv(48), relu(), max_pool2d(2)), "x"),
        "_block2": (compose(_conv(48), relu(), max_pool2d(2)), "_block1"),
        **{f"pool{i}": ("_block2", f"pool{i - 1}" if i > 3 else "_block2") for i in (3, 4, 5)},
        "_block3": (doubled(_conv(48), relu(), out=48), "pool5"),
        "concat5": (concat(), "_block3", "pool4"),
        "_block4": (doubled(*two(96), out=96), "concat5"),
        "concat4": (concat(), "_block4", "pool3"),
        "_block5": (doubled(*two(96), out=96), "concat4"),
        "concat3": (concat(), "_block5", "_block2"),
        "upsample2": ("_block5", "concat3"),
        "concat2": (concat(), "upsample2", "_block1"),
        "upsample1": ("_block5", "concat2"),
        "concat1": (concat(), "upsample1", "x"),
        "_block6": (
            compose(_conv(64), relu(), _conv(32), relu(), _conv(channels), leaky_relu(0.1)), "concat1",
        ),
    }  # fmt: skip
    return graph(nodes)
