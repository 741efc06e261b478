"""The networks of the training steps and of inference, in fconv and in torch.nn, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np


def in_fconv(name: str, *, dropout: float) -> Any:
    """Make a network of fconv."""
    from fconv import models

    if name in _OWN:
        return _OWN[name](dropout)
    if name == "espcn_unclipped":  # clipping belongs to its use, not to its training
        return models.espcn(clip=False)
    return getattr(models, name)()


def in_torch(name: str, *, dropout: float) -> Any:
    """Make the same network of torch.nn: one of those that the parity tests hold against fconv.models."""
    from tests.parity import restorers, twins

    makers = {
        "mnist": partial(_torch_mnist, dropout),
        "digits": partial(_torch_digits, dropout),
        "mlp": _torch_mlp,
        "espcn_unclipped": partial(restorers.espcn, clip=False),
        "dncnn": restorers.DnCNN,
        "resnet18": partial(twins.resnet, (2, 2, 2, 2), False),
        "resnet20": partial(twins.resnet_cifar, 3),
    }
    make = makers.get(name) or getattr(restorers, name, None) or getattr(twins, name)
    return make()


def weights(name: str, shape: tuple[int, ...]) -> Mapping[str, np.ndarray]:
    """Draw the weights that both begin with, under the names of the state dict."""
    import fconv as fc

    return fc.to_state_dict(in_fconv(name, dropout=0.0).init(fc.random.key(0), shape))


def _mnist(p: float) -> Any:
    """Make the notebook's network: four convolutions of 3, 3, 6 and 6 filters, and two affine maps."""
    import fconv as fc

    return fc.compose(
        conv1=fc.conv2d(3, 3), relu1=fc.relu(), conv2=fc.conv2d(3, 3), relu2=fc.relu(),
        pool1=fc.max_pool2d(2),
        conv3=fc.conv2d(6, 3), relu3=fc.relu(), conv4=fc.conv2d(6, 3), relu4=fc.relu(),
        pool2=fc.max_pool2d(2), flatten=fc.flatten(), dropout1=fc.dropout(p),
        fc1=fc.linear(30), relu5=fc.relu(), dropout2=fc.dropout(p),
        fc2=fc.linear(10), log_softmax=fc.log_softmax(1),
    )  # fmt: skip


def _torch_mnist(p: float) -> Any:
    from torch import nn

    from tests.parity.twins import Chain

    return Chain(
        conv1=nn.Conv2d(1, 3, 3), relu1=nn.ReLU(), conv2=nn.Conv2d(3, 3, 3), relu2=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv3=nn.Conv2d(3, 6, 3), relu3=nn.ReLU(), conv4=nn.Conv2d(6, 6, 3), relu4=nn.ReLU(),
        pool2=nn.MaxPool2d(2), flatten=nn.Flatten(), dropout1=nn.Dropout(p),
        fc1=nn.Linear(96, 30), relu5=nn.ReLU(), dropout2=nn.Dropout(p),
        fc2=nn.Linear(30, 10), log_softmax=nn.LogSoftmax(1),
    )  # fmt: skip


def _digits(p: float) -> Any:
    """Make the network of the digits example."""
    import fconv as fc

    return fc.compose(
        conv1=fc.conv2d(32, 3, padding=1), norm1=fc.batch_norm(), relu1=fc.relu(), pool1=fc.max_pool2d(2),
        conv2=fc.conv2d(64, 3, padding=1), norm2=fc.batch_norm(), relu2=fc.relu(), pool2=fc.max_pool2d(2),
        flatten=fc.flatten(), dropout=fc.dropout(p), fc=fc.linear(10),
    )  # fmt: skip


def _torch_digits(p: float) -> Any:
    from torch import nn

    from tests.parity.twins import Chain

    return Chain(
        conv1=nn.Conv2d(1, 32, 3, padding=1), norm1=nn.BatchNorm2d(32), relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(32, 64, 3, padding=1), norm2=nn.BatchNorm2d(64), relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2), flatten=nn.Flatten(), dropout=nn.Dropout(p), fc=nn.Linear(256, 10),
    )  # fmt: skip


def _mlp(p: float) -> Any:
    """Make two affine maps with a ReLU between them."""
    import fconv as fc

    return fc.compose(fc1=fc.linear(64), relu=fc.relu(), fc2=fc.linear(10))


def _torch_mlp() -> Any:
    from torch import nn

    from tests.parity.twins import Chain

    return Chain(fc1=nn.Linear(64, 64), relu=nn.ReLU(), fc2=nn.Linear(64, 10))


_OWN = {"mnist": _mnist, "digits": _digits, "mlp": _mlp}
