"""Cost of importing fconv."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = [
    "scipy",
    "opt_einsum",
    "torch",
    "cupy",
    "matplotlib",
    "hypothesis",
    "safetensors",
    "sklearn",
    "llvmlite",
    "onnx",
    "google.protobuf",
]


def test_nothing_heavy_is_imported_before_it_is_used():
    code = f"import sys, fconv; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_names_are_there():
    import fconv
    import fconv.testing

    for module in (fconv, fconv.functional, fconv.layers, fconv.data, fconv.testing):
        for name in module.__all__:
            assert hasattr(module, name), name


def test_onnx_that_is_not_installed_is_named_with_its_extra(monkeypatch, tmp_path):
    import fconv as fc

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"from_onnx: the package onnx is needed.*'fconv-nn\[onnx\]'"):
        fc.from_onnx(tmp_path / "net.onnx")
    with pytest.raises(ImportError, match=r"to_onnx: the package onnx is needed.*'fconv-nn\[onnx\]'"):
        fc.to_onnx(fc.relu(), (), (1, 2), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
