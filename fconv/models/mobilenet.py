"""MobileNet."""

from __future__ import annotations

from fconv.layer import Layer
from fconv.layers import adaptive_avg_pool2d, batch_norm, dropout, flatten, relu6
from fconv.models.blocks import conv_norm, he_conv, small_linear
from fconv.networks import add, compose, graph
from fconv.options import number, whole

__all__ = ["mobilenet_v2"]

# Table 2 of the paper: expansion, channels, blocks, stride of the first block.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    num_classes: int = 1000, width_mult: float = 1.0, *, round_nearest: int = 8, dropout: float = 0.2
) -> Layer:
    """Seventeen inverted residual blocks: widen by a 1x1, filter each channel, narrow by a 1x1.

    Parameters
    ----------
    num_classes : int
        Number of outputs.
    width_mult : float
        Multiplies the channels of each layer.
    round_nearest : int
        Numbers of channels are rounded to a multiple of this, but never down by more than a
        tenth.
    dropout : float
        Probability of dropping a feature before the last layer in training.

    Returns
    -------
    Layer
        (N, C, H, W) to logits (N, num_classes), for any H and W; published checkpoints take C = 3.
        Parameter names are torchvision's: ``features.1.conv.0.0.weight``, ``classifier.1.bias``.
        Initial values are torchvision's too: He's rule over fan_out for convolutions, a normal distribution
        with standard deviation 0.01 for the last layer, its biases 0.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when it is used.

    References
    ----------
    Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018.

    Examples
    --------
    >>> mobilenet_v2(width_mult=0.5).out_shape((1, 3, 224, 224))
    (1, 1000)
    """
    width_mult = number("mobilenet_v2", "width_mult", width_mult, least=0, above=True)
    divisor = whole("mobilenet_v2", "round_nearest", round_nearest, 1)
    channels = _rounded(32 * width_mult, divisor)
    features = [conv_norm(channels, 3, relu6(), 2)]
    for expansion, base, count, stride in _STAGES:
        for i in range(count):
            out = _rounded(base * width_mult, divisor)
            features.append(_inverted(channels, out, stride if i == 0 else 1, expansion))
            channels = out
    # The last convolution is never made narrower than the paper's.
    features.append(conv_norm(_rounded(1280 * max(1.0, width_mult), divisor), 1, relu6()))
    return compose(
        features=compose(*features),
        avgpool=adaptive_avg_pool2d(1),
        flatten=flatten(),
        classifier=_classifier(num_classes, dropout),
    )


def _classifier(num_classes: int, p: float) -> Layer:
    return compose(dropout(p), small_linear(num_classes))


def _inverted(channels: int, out: int, stride: int, expansion: int) -> Layer:
    wide = channels * expansion
    widen = [conv_norm(wide, 1, relu6())] if expansion != 1 else []
    body = compose(*widen, conv_norm(wide, 3, relu6(), stride, groups=wide), he_conv(out, 1), batch_norm())
    if stride == 1 and channels == out:
        return graph({"conv": (body, "x"), "sum": (add(), "x", "conv")})
    return compose(conv=body)


def _rounded(channels: float, divisor: int) -> int:
    """Round to the nearest multiple of a divisor, but not down by more than a tenth.

    Examples
    --------
    >>> _rounded(16 * 0.75, 8), _rounded(9.0, 8), _rounded(11.0, 8), _rounded(1.0, 8)
    (16, 16, 16, 8)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
