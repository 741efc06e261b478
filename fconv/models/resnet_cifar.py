"""Residual networks for pictures of the size of CIFAR's."""

from __future__ import annotations

from fconv.initializers import kaiming_normal
from fconv.layer import Layer
from fconv.layers import adaptive_avg_pool2d, avg_pool2d, batch_norm, conv2d, flatten, linear, pad, relu
from fconv.networks import add, compose, graph

__all__ = ["resnet20", "resnet32", "resnet56"]


def resnet20(num_classes: int = 10) -> Layer:
    """Nine residual blocks of two 3x3 convolutions, on 16, 32 and 64 channels.

    Where a block halves the size, its shortcut takes every second pixel and surrounds the channels
    with zeros (option A of the paper), and so has no parameters.

    Parameters
    ----------
    num_classes : int
        Number of outputs.

    Returns
    -------
    Layer
        (N, C, H, W) to logits (N, num_classes), for any H and W; CIFAR's pictures are
        (N, 3, 32, 32). Parameter names are those of akamaster/pytorch_resnet_cifar10:
        ``layer1.0.conv1.weight``, ``linear.bias``; its checkpoints put ``module.`` before them.
        Initial values follow He's rule over fan_in, as there; the bias of ``linear`` is torch.nn's.

    Raises
    ------
    ValueError, TypeError
        `num_classes` is not an integer of at least 1; inputs that do not fit, when it is used.

    References
    ----------
    He et al., "Deep residual learning for image recognition", 2016, section 4.2.

    Examples
    --------
    >>> resnet20().out_shape((8, 3, 32, 32))
    (8, 10)
    """
    return _resnet(3, num_classes)


def resnet32(num_classes: int = 10) -> Layer:
    """Fifteen residual blocks; see `resnet20`.

    Examples
    --------
    >>> resnet32().out_shape((8, 3, 32, 32))
    (8, 10)
    """
    return _resnet(5, num_classes)


def resnet56(num_classes: int = 10) -> Layer:
    """Twenty-seven residual blocks; see `resnet20`.

    Examples
    --------
    >>> resnet56().out_shape((8, 3, 32, 32))
    (8, 10)
    """
    return _resnet(9, num_classes)


def _resnet(depth: int, num_classes: int) -> Layer:
    stages = {
        f"layer{i + 1}": compose(*(_block(channels, halved=i > 0 and j == 0) for j in range(depth)))
        for i, channels in enumerate((16, 32, 64))
    }
    return compose(
        conv1=_conv(16), bn1=batch_norm(), relu=relu(), **stages,
        avgpool=adaptive_avg_pool2d(1), flatten=flatten(),
        linear=linear(num_classes, weight_init=kaiming_normal()),
    )  # fmt: skip


def _conv(channels: int, stride: int = 1) -> Layer:
    return conv2d(channels, 3, stride=stride, padding=1, bias=False, weight_init=kaiming_normal())


def _block(channels: int, halved: bool) -> Layer:
    # Half of the channels come from below; a mean over windows of one pixel takes every second.
    missing = channels // 4
    shortcut = compose(avg_pool2d(1, stride=2), pad((0, 0, 0, 0, missing, missing))) if halved else compose()
    return graph(
        {
            "conv1": (_conv(channels, 2 if halved else 1), "x"),
            "bn1": (batch_norm(), "conv1"),
            "relu": (relu(), "bn1"),
            "conv2": (_conv(channels), "relu"),
            "bn2": (batch_norm(), "conv2"),
            "shortcut": (shortcut, "x"),
            "sum": (add(), "bn2", "shortcut"),
            "out": (relu(), "sum"),
        }
    )
