"""PyTorch: tensors of ours for its modules. PyTorch is imported only when one is asked for."""

from fconv.torch.networks import from_torch, to_torch, to_torch_module

__all__ = ["from_torch", "to_torch", "to_torch_module"]
