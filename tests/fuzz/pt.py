"""PyTorch's files as a target for fuzzing."""

from __future__ import annotations

import numpy as np

from fconv.files.formats.pt.files import write_pt
from tests.data import record_pt
from tests.fuzz.files import TREE, read_file, saved


def seeds():
    """Whole files: PyTorch's of both formats, and ours."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pt"
        base = np.arange(12.0).reshape(3, 4)
        write_pt(
            path,
            {"a": base, "b": base[1:, ::2], "c": [1, 2.5, None, True, "é", (2**70, {3: np.ones(2, "u2")})]},
        )
        ours = path.read_bytes()
    return [*((record_pt.FOLDER / name).read_bytes() for name in record_pt.FILES), ours, saved(".pt", TREE)]


def read(data):
    """Load, mapped and read, and describe a .pt file of these bytes."""
    return read_file(".pt", data)
