"""Tensors of a torch.nn.Module as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.layer import Params
from fconv.networks.reading import UnfitError


def array_of(name: str, tensor: Any) -> Array:
    """Copy a tensor into an array of its dtype; bfloat16, which NumPy lacks, becomes float32.

    Raises
    ------
    UnfitError
        It holds no numbers, or is of a layout or dtype that an array cannot have.
    """
    import torch

    if tensor.is_meta:
        raise UnfitError(f"{name} is on the meta device and holds no numbers")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
        kind = f"{tensor.dtype}, {tensor.layout}"
        raise UnfitError(f"{name}: expected a dense tensor of real numbers, got one of {kind}")
    held = tensor.detach().cpu()
    if held.dtype == torch.bfloat16:
        held = held.float()
    found: Array = np.array(held.numpy(), order="C")
    return found


def params_of(module: Any, path: str) -> Params:
    """Copy the parameters of a leaf or of a chain of leaves, as its layer names them."""
    from torch import nn

    inside = module._modules
    if isinstance(module, nn.Sequential):
        parts = {name: params_of(m, f"{path}.{name}" if path else name) for name, m in inside.items()}
        return tuple(parts.values()) if numbered(inside) else parts
    return {
        name: array_of(f"{path}.{name}" if path else name, tensor) for name, tensor in own(module).items()
    } or ()


def own(module: Any) -> dict[str, Any]:
    """Return the tensors of a module itself that its state dict holds."""
    parameters = {name: p for name, p in module._parameters.items() if p is not None}
    transient = module._non_persistent_buffers_set
    buffers = {n: b for n, b in module._buffers.items() if b is not None and n not in transient}
    return parameters | buffers


def numbered(names: Any) -> bool:
    """Return whether names are 0, 1, 2, ... as those of a tuple are."""
    return list(names) == [str(i) for i in range(len(names))]
