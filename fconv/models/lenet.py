"""LeNet."""

from __future__ import annotations

from collections.abc import Sequence

from fconv.layer import Layer
from fconv.layers import conv2d, flatten, linear, max_pool2d, relu
from fconv.networks import compose

__all__ = ["lenet"]


def lenet(
    num_classes: int = 10,
    *,
    stages: Sequence[Sequence[int]] = ((6,), (16,)),
    kernel_size: int = 5,
    padding: int | Sequence[int] = 0,
    hidden: Sequence[int] = (120, 84),
) -> Layer:
    """Two convolutions and three affine layers, for digits and other small pictures.

    It is LeNet-5 in today's usual form, with rectified linear units and maxima over windows in the
    place of the paper's scaled tanh, trained averages and radial basis functions.

    Parameters
    ----------
    num_classes : int
        Number of outputs.
    stages : sequence of sequences of int
        Channels of the convolutions before each halving: ``((3, 3), (6, 6))`` with kernels of 3 and
        ``hidden=(30,)`` is the notebook's network, ``((32, 64),)`` and ``hidden=(128,)`` that of
        PyTorch's MNIST example.
    kernel_size : int
        Of the convolutions.
    padding : int or sequence of int
        The same, or one for each, the last for all that follow: ``(2, 0)`` gives pictures of 28x28 the
        paper's sizes.
    hidden : sequence of int
        Features between the affine layers.

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
        Invalid options, at once; pictures that are too small, when it is used.

    References
    ----------
    LeCun et al., "Gradient-based learning applied to document recognition", 1998.

    Examples
    --------
    >>> lenet().out_shape((8, 1, 28, 28))
    (8, 10)
    """
    around = tuple(padding) if isinstance(padding, Sequence) else (padding,)
    layers: dict[str, Layer] = {}
    count = 0
    for i, stage in enumerate(stages, 1):
        for channels in stage:
            count += 1
            layers[f"conv{count}"] = conv2d(
                channels, kernel_size, padding=around[min(count, len(around)) - 1]
            )
            layers[f"act{count}"] = relu()
        layers[f"pool{i}"] = max_pool2d(2)
    layers["flatten"] = flatten()
    for i, features in enumerate(hidden, 1):
        layers |= {f"fc{i}": linear(features), f"act{count + i}": relu()}
    return compose(**layers, **{f"fc{len(hidden) + 1}": linear(num_classes)})
