"""Record PyTorch's numbers for a few calls of each function, so that the plain tests need no PyTorch.

Run in the torch environment, from the root of the project: ``python -m tests.data.record``. The inputs
are drawn from keys, so only values and gradients are stored, in torch_reference.npz beside this file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fconv import functional as F
from fconv import random
from tests.cases import CASES, FAMILIES

PATH = Path(__file__).with_name("torch_reference.npz")

CALLS = [call for family in FAMILIES for call in family.CALLS if CASES[call[0]].torch]
"""(name, arrays, options). A tuple is the shape of a float64 array; ("labels", shape, classes) draws
class numbers, ("signs", shape) 1 and -1, ("positive", shape) numbers from 0.5 to 2, ("unit", shape)
numbers from 0.1 to 0.9; ("as is", value) is the value itself."""


def inputs(number, shapes):
    """Draw the arrays of a call."""
    args = []
    for i, shape in enumerate(shapes):
        key = random.fold_in(random.fold_in(random.key(2026), number), i)
        if shape is None:
            args.append(None)
        elif shape[:1] == ("as is",):
            args.append(shape[1])
        elif shape[:1] == ("positive",):
            args.append(random.uniform(key, shape[1], np.float64, 0.5, 2.0))
        elif shape[:1] == ("unit",):
            args.append(random.uniform(key, shape[1], np.float64, 0.1, 0.9))
        elif shape[:1] == ("signs",):
            args.append(np.where(random.bernoulli(key, 0.5, shape[1]), 1, -1))
        elif shape[:1] == ("labels",):
            args.append((shape[2] * random.uniform(key, shape[1])).astype(np.int64))
        else:
            args.append(random.normal(key, shape, np.float64))
    return args


def outer(number, shape):
    """Draw the gradient of a call's value."""
    return random.normal(random.fold_in(random.key(2027), number), shape, np.float64)


def torch_function(name):
    """Find PyTorch's function of a case."""
    import torch

    named = CASES[name].torch
    return named if callable(named) else getattr(torch.nn.functional, name, None) or getattr(torch, name)


def record():
    """Ask PyTorch for every value and gradient."""
    import torch

    found = {}
    for number, (name, shapes, options) in enumerate(CALLS):
        args = inputs(number, shapes)
        fixed = getattr(F, name).constants
        places = [i for i, a in enumerate(args) if a is None or isinstance(a, np.ndarray)]
        tensors = list(args)
        for i, argument in zip(places, getattr(F, name).arrays, strict=False):
            if args[i] is not None:
                trained = args[i].dtype.kind == "f" and argument not in fixed
                tensors[i] = torch.tensor(args[i], requires_grad=trained)
        function = torch_function(name)
        y = function(*tensors, **options)
        y.backward(torch.tensor(outer(number, tuple(y.shape))))
        found[f"{number}.{name}.value"] = y.detach().numpy()
        for i, tensor in enumerate(tensors[place] for place in places):
            if tensor is not None and tensor.grad is not None:
                found[f"{number}.{name}.grad{i}"] = tensor.grad.numpy()
    np.savez_compressed(PATH, **found)
    print(f"{len(CALLS)} calls by torch {torch.__version__} in {PATH.name}, {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    record()
