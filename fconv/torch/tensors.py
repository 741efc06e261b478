"""Arrays as torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv.arrays import asnumpy, is_array
from fconv.state_dict import to_state_dict


def to_torch(params: Any) -> dict[str, Any]:
    """Return parameters as a state dict of torch tensors.

    Parameters
    ----------
    params : pytree of arrays
        Parameters of a layer or network; or what `to_optimizer_state_dict` gives, whose nesting stays.

    Returns
    -------
    dict of str to torch.Tensor
        Copies on the CPU, under the names that `to_state_dict` gives, for
        ``module.load_state_dict``.

    Raises
    ------
    ValueError
        PyTorch is not installed.
    TypeError
        A leaf is no array.
    """
    of_optimizer = isinstance(params, dict) and params.keys() == {"state", "param_groups"}
    tree = params if of_optimizer else to_state_dict(params)
    try:
        import torch
    except ImportError as error:
        raise ValueError("to_torch: PyTorch is not installed: pip install 'fconv-nn[torch]'") from error

    def tensor(x: Any) -> Any:
        if is_array(x):
            return torch.from_numpy(np.array(asnumpy(x), order="C"))
        if isinstance(x, dict):  # with numbers for keys, which are no names of a tree
            return {key: tensor(value) for key, value in x.items()}
        return [tensor(value) for value in x] if isinstance(x, list) else x

    found: dict[str, Any] = tensor(tree)
    return found
