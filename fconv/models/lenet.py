"""LeNet."""

from __future__ import annotations

from fconv.layer import Layer
from fconv.layers import conv2d, flatten, linear, max_pool2d, relu
from fconv.networks import compose

__all__ = ["lenet"]


def lenet(num_classes: int = 10) -> Layer:
    """Two convolutions and three affine layers, for digits and other small pictures.

    It is LeNet-5 in today's usual form, with rectified linear units and maxima over windows in the
    place of the paper's scaled tanh, trained averages and radial basis functions.

    Parameters
    ----------
    num_classes : int
        Number of outputs.

    Returns
    -------
    Layer
        (N, C, H, W) to logits (N, num_classes), for H and W of 16 or more; the paper's pictures
        are (N, 1, 32, 32). Parameter names are those of the network in the PyTorch tutorial
        "Training a classifier": ``conv1``, ``conv2``, ``fc1``, ``fc2``, ``fc3``. Initial values are
        torch.nn's own, as there.

    Raises
    ------
    ValueError, TypeError
        `num_classes` is no whole number of 1 or more; pictures that are too small, when it is used.

    References
    ----------
    LeCun et al., "Gradient-based learning applied to document recognition", 1998.

    Examples
    --------
    >>> lenet().out_shape((8, 1, 28, 28))
    (8, 10)
    """
    return compose(
        conv1=conv2d(6, 5), act1=relu(), pool1=max_pool2d(2),
        conv2=conv2d(16, 5), act2=relu(), pool2=max_pool2d(2),
        flatten=flatten(),
        fc1=linear(120), act3=relu(), fc2=linear(84), act4=relu(), fc3=linear(num_classes),
    )  # fmt: skip
