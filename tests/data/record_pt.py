"""Records small files as PyTorch writes them, for tests without it: ``python -m tests.data.record_pt``."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
FILES = {"torch_zip.pt": True, "torch_legacy.pt": False}


def expected():
    """Return the contents of both files, in NumPy."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    return {
        "state_dict": {"conv.weight": base, "conv.bias": base[1:3, ::2], "steps": np.array(7)},
        "epoch": 3,
        "lr": 0.1,
        "name": "é",
        "nested": [1, (2, None, True), {0: np.ones(2)}],
        "half": np.array([0.5, 1.0], np.float32),  # bfloat16 in the file
        "flags": np.array([True, False]),
        "expanded": np.full((2, 3), 2.0, np.float32),
        "transposed": base.T,
        "empty": np.zeros((0, 3), np.float32),
        "complex": np.array([1 - 2j], np.complex64),
        "size": (2, 3),
        "dtype": "torch.bfloat16",
        "device": "cuda:1",
        "big": 2**70,
    }


def record():
    """Write the files with PyTorch."""
    import torch

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = collections.OrderedDict(
        [("conv.weight", torch.nn.Parameter(base)), ("conv.bias", base[1:3, ::2]), ("steps", torch.tensor(7))]
    )
    state._metadata = {"": {"version": 1}}
    held = {
        "state_dict": state,
        "epoch": 3,
        "lr": 0.1,
        "name": "é",
        "nested": [1, (2, None, True), {0: torch.ones(2, dtype=torch.float64)}],
        "half": torch.tensor([0.5, 1.0], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "expanded": torch.tensor(2.0).expand(2, 3),
        "transposed": base.t(),
        "empty": torch.zeros(0, 3),
        "complex": torch.tensor([1 + 2j], dtype=torch.complex64).conj(),
        "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        "device": torch.device("cuda:1"),
        "big": 2**70,
    }
    for name, zipped in FILES.items():
        torch.save(held, FOLDER / name, _use_new_zipfile_serialization=zipped)


if __name__ == "__main__":
    record()
