"""The training examples with --device cuda: the losses and files of the CPU."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

import fconv as fc
from fconv import trees
from tests.device import raw_kernels, standin

EXAMPLES = Path(__file__).parents[1] / "examples"
SHORT = {
    "digits": ["--epochs", "1", "--batch-size", "256"],
    "noise2noise": ["--steps", "6", "--batch-size", "2", "--crop", "16", "--checkpoint-every", "4", "--data"],
    "super_resolution": [
        "--steps",
        "6",
        "--batch-size",
        "2",
        "--crop",
        "8",
        "--checkpoint-every",
        "4",
        "--data",
    ],
}


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.skipif(raw_kernels.compiler() is None, reason="no C++ compiler to run kernels on the CPU with")
def test_examples_on_a_device(tmp_path, monkeypatch, capsys, photos, name):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    main = importlib.import_module(name).main
    flags = [*SHORT[name], *([] if name == "digits" else [str(photos)])]
    main([*flags, "--out", str(tmp_path / "cpu")])
    with standin.installed():
        main([*flags, "--device", "cuda", "--out", str(tmp_path / "cuda")])
    on_cpu, ours = (json.loads((tmp_path / d / "results.json").read_text()) for d in ("cpu", "cuda"))
    np.testing.assert_allclose(ours["losses"], on_cpu["losses"], rtol=5e-3)
    last = [max((tmp_path / d / "checkpoints").glob("step-*")) for d in ("cpu", "cuda")]
    a, b = (fc.load(path)["state"].params for path in last)
    for p, q in zip(trees.leaves(a), trees.leaves(b), strict=True):
        np.testing.assert_allclose(p, q, atol=1e-2)
    assert "saved" in capsys.readouterr().out
