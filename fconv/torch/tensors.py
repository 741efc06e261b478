"""Arrays as torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv.arrays import asnumpy
from fconv.state_dict import to_state_dict


def to_torch(params: Any) -> dict[str, Any]:
    """Return parameters as a state dict of torch tensors.

    Parameters
    ----------
    params : pytree of arrays
        Parameters of a layer or network.

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
    flat = to_state_dict(params)
    try:
        import torch
    except ImportError as error:
        raise ValueError("to_torch: PyTorch is not installed: pip install 'fconv-nn[torch]'") from error
    return {name: torch.from_numpy(np.array(asnumpy(leaf), order="C")) for name, leaf in flat.items()}
