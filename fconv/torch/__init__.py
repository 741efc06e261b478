"""PyTorch: tensors of ours for its modules. PyTorch is imported only when one is asked for."""

from fconv.torch.tensors import to_torch

__all__ = ["to_torch"]
