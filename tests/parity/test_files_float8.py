"""The floating-point formats that NumPy lacks, as PyTorch reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fconv as fc

EIGHT_BITS = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_every_code_of_eight_bits(tmp_path, name):
    codes = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
    save_file({"x": codes}, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "x.safetensors")["x"], codes.float().numpy())


def test_every_code_of_bfloat16(tmp_path):
    codes = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    save_file({"x": codes}, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "x.safetensors")["x"], codes.float().numpy())
