"""VGG networks."""

from __future__ import annotations

from fconv.layer import Layer
from fconv.layers import adaptive_avg_pool2d, batch_norm, dropout, flatten, max_pool2d, relu
from fconv.models.blocks import he_conv, small_linear
from fconv.networks import compose

__all__ = ["vgg11", "vgg11_bn", "vgg16", "vgg16_bn"]

# The channels of each convolution; a maximum over windows ends each stage.
_ELEVEN = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_SIXTEEN = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg11(num_classes: int = 1000, *, dropout: float = 0.5, hidden: int = 4096) -> Layer:
    """Eight 3x3 convolutions and three affine layers: configuration A of the paper.

    Parameters
    ----------
    num_classes : int
        Number of outputs.
    dropout : float
        Probability of dropping a unit of the two hidden affine layers in training.
    hidden : int
        Width of those two layers. Published checkpoints have 4096; for few classes less will do.

    Returns
    -------
    Layer
        (N, C, H, W) to logits (N, num_classes), for H and W of 32 or more; published checkpoints
        take C = 3. Parameter names are torchvision's: ``features.0.weight``,
        ``classifier.6.bias``. Initial values are torchvision's too: He's rule over fan_out for
        convolutions, a normal distribution of width 0.01 for affine layers, biases 0.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; pictures that are too small, when it is used.

    References
    ----------
    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
    2015.

    Examples
    --------
    >>> vgg11().out_shape((1, 3, 224, 224))
    (1, 1000)
    """
    return _vgg(_ELEVEN, False, num_classes, dropout, hidden)


def vgg11_bn(num_classes: int = 1000, *, dropout: float = 0.5, hidden: int = 4096) -> Layer:
    """`vgg11` with batch normalisation after each convolution.

    Examples
    --------
    >>> vgg11_bn().out_shape((1, 3, 224, 224))
    (1, 1000)
    """
    return _vgg(_ELEVEN, True, num_classes, dropout, hidden)


def vgg16(num_classes: int = 1000, *, dropout: float = 0.5, hidden: int = 4096) -> Layer:
    """Thirteen convolutions and three affine layers, configuration D of the paper; see `vgg11`.

    Examples
    --------
    >>> vgg16().out_shape((1, 3, 224, 224))
    (1, 1000)
    """
    return _vgg(_SIXTEEN, False, num_classes, dropout, hidden)


def vgg16_bn(num_classes: int = 1000, *, dropout: float = 0.5, hidden: int = 4096) -> Layer:
    """`vgg16` with batch normalisation after each convolution.

    Examples
    --------
    >>> vgg16_bn().out_shape((1, 3, 224, 224))
    (1, 1000)
    """
    return _vgg(_SIXTEEN, True, num_classes, dropout, hidden)


def _vgg(
    stages: tuple[tuple[int, ...], ...], norm: bool, num_classes: int, drop: float, hidden: int
) -> Layer:
    features: list[Layer] = []
    for stage in stages:
        for channels in stage:
            features += [he_conv(channels, 3, bias=True), *([batch_norm()] if norm else []), relu()]
        features.append(max_pool2d(2))
    classifier = compose(
        small_linear(hidden), relu(), dropout(drop),
        small_linear(hidden), relu(), dropout(drop),
        small_linear(num_classes),
    )  # fmt: skip
    return compose(
        features=compose(*features), avgpool=adaptive_avg_pool2d(7), flatten=flatten(), classifier=classifier
    )
