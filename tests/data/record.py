"""Record PyTorch's numbers for a few calls of each function, so that the plain tests need no PyTorch.

Run in the torch environment, from the root of the project: ``python -m tests.data.record``. The inputs
are drawn from keys, so only values and gradients are stored, in torch_reference.npz beside this file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fconv import functional as F
from fconv import random

PATH = Path(__file__).with_name("torch_reference.npz")

# A tuple is the shape of a float64 array; ("labels", shape, classes) draws class numbers.
CALLS = [
    ("conv1d", [(2, 4, 9), (6, 2, 3), (6,)], {"stride": 2, "padding": 1, "groups": 2}),
    ("conv2d", [(2, 3, 7, 6), (4, 3, 3, 2), (4,)], {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}),
    ("conv2d", [(1, 2, 5, 5), (3, 2, 2, 3)], {"padding": "same"}),
    ("conv2d", [(2, 4, 5, 5), (8, 1, 3, 3), (8,)], {"groups": 4}),
    ("conv3d", [(1, 2, 4, 5, 3), (2, 2, 2, 3, 2), (2,)], {"stride": (1, 2, 1), "padding": 1}),
    ("linear", [(2, 3, 4), (5, 4), (5,)], {}),
    ("relu", [(3, 4)], {}),
    ("sigmoid", [(3, 4)], {}),
    ("tanh", [(3, 4)], {}),
    ("softmax", [(3, 4, 2)], {"dim": 1}),
    ("log_softmax", [(3, 4, 2)], {"dim": -1}),
    ("max_pool1d", [(2, 2, 9)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("max_pool2d", [(2, 2, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1}),
    ("max_pool2d", [(1, 2, 8, 8)], {"kernel_size": 2, "dilation": 3}),
    ("max_pool3d", [(1, 1, 4, 5, 6)], {"kernel_size": 2}),
    ("avg_pool1d", [(2, 2, 9)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool2d", [(2, 2, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("avg_pool2d", [(2, 2, 7, 6)], {"kernel_size": 2, "padding": 1, "count_include_pad": False}),
    ("avg_pool3d", [(1, 1, 4, 5, 6)], {"kernel_size": 2, "divisor_override": 3}),
    ("batch_norm", [(4, 3, 2, 2), (3,), "var", (3,), (3,)], {"training": True}),
    ("batch_norm", [(4, 3, 2, 2), (3,), "var", (3,), (3,)], {"training": False, "eps": 1e-3}),
    ("interpolate", [(2, 2, 3, 4)], {"scale_factor": (1.5, 2.0)}),
    ("interpolate", [(1, 2, 7)], {"scale_factor": 2.3}),
    ("interpolate", [(2, 2, 3, 4)], {"size": (7, 3)}),
    ("pixel_shuffle", [(2, 8, 2, 3)], {"upscale_factor": 2}),
    ("pixel_unshuffle", [(2, 1, 6, 3)], {"downscale_factor": 3}),
    ("flatten", [(2, 3, 4)], {"start_dim": 1}),
    ("reshape", [(2, 6)], {"shape": (3, -1)}),
    ("mse_loss", [(3, 4), (3, 4)], {}),
    ("nll_loss", [(5, 3), ("labels", (5,), 3)], {"reduction": "sum"}),
    ("cross_entropy", [(5, 3), ("labels", (5,), 3)], {}),
    ("cross_entropy", [(4, 3, 2), ("labels", (4, 2), 3), "w"], {"label_smoothing": 0.2, "ignore_index": 1}),
]  # fmt: skip


def inputs(number, shapes):
    """Draw the arrays of a call."""
    args = []
    for i, shape in enumerate(shapes):
        key = random.fold_in(random.fold_in(random.key(2026), number), i)
        if shape == "var" or shape == "w":
            args.append(random.uniform(key, (3,), np.float64, 0.5, 2.0))
        elif shape[0] == "labels":
            args.append((shape[2] * random.uniform(key, shape[1])).astype(np.int64))
        else:
            args.append(random.normal(key, shape, np.float64))
    return args


def outer(number, shape):
    """Draw the gradient of a call's value."""
    return random.normal(random.fold_in(random.key(2027), number), shape, np.float64)


def record():
    """Ask PyTorch for every value and gradient."""
    import torch

    found = {}
    for number, (name, shapes, options) in enumerate(CALLS):
        args = inputs(number, shapes)
        fixed = getattr(F, name).constants
        tensors = [
            torch.tensor(a, requires_grad=a.dtype.kind == "f" and argument not in fixed)
            for argument, a in zip(getattr(F, name).arrays, args, strict=False)
        ]
        function = getattr(torch.nn.functional, name, None) or getattr(torch, name)
        y = function(*tensors, **options)
        y.backward(torch.tensor(outer(number, tuple(y.shape))))
        found[f"{number}.{name}.value"] = y.detach().numpy()
        for i, tensor in enumerate(tensors):
            if tensor.grad is not None:
                found[f"{number}.{name}.grad{i}"] = tensor.grad.numpy()
    np.savez_compressed(PATH, **found)
    print(f"{len(CALLS)} calls by torch {torch.__version__} in {PATH.name}, {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    record()
