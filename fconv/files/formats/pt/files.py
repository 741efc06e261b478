"""PyTorch's files, .pt, .pth, .th and .tar, read and written without PyTorch."""

from __future__ import annotations

import os
from typing import Any

from fconv.files.atomic import open_regular
from fconv.files.formats.claims import refusing
from fconv.files.formats.placeholders import Placeholder
from fconv.files.formats.pt import legacy, zipped
from fconv.files.formats.pt.writing import write_pt

__all__ = ["read_pt", "write_pt"]


def read_pt(
    path: str | os.PathLike[str], *, mmap: bool = True, strict: bool = False
) -> tuple[Any, dict[str, str]]:
    """Read what torch.save or `write_pt` wrote, and the texts given to the latter. Nothing in it is executed.

    Both of PyTorch's formats are read: the zip archive, and the single stream of before 1.6.

    Parameters
    ----------
    path : str or path-like
        The file.
    mmap : bool
        Map the arrays of the file into memory, where the system can; they may be changed, and
        the file is not. Otherwise they are read, and the checksums of the zip archive proved.
    strict : bool
        Refuse a file that holds more than arrays and plain values.

    Returns
    -------
    object
        Dicts (an OrderedDict becomes one too), lists, tuples, sets, numbers, text and None, with
        arrays for tensors and parameters. bfloat16 and the eight-bit floats are widened to
        float32, complex32 to complex64. A dtype or a device is its name, such as
        ``"torch.float32"`` or ``"cuda:0"``; a torch.Size is a tuple. Tensors that share a
        storage are views of one memory, but for widened ones. NumPy's numbers and arrays are read
        too. Any other object is a `Placeholder`, which shows what stands there.

    Raises
    ------
    ValueError
        The file is damaged or of another format, is a whole module or a TorchScript program, would
        take far more memory than its size, or, where `strict` is set, holds a NumPy number, a
        sparse or quantized tensor or any other object.
    """
    with open_regular(path, "load") as file, refusing(path, "file of PyTorch's"):
        start = file.read(512)
        file.seek(0)
        if start[257:262] == b"ustar":
            raise ValueError(
                "it is a tar archive, which PyTorch wrote before 0.1.10; newer PyTorch can convert it"
            )
        if start.startswith(b"PK"):
            value, texts = zipped.read(file, mmap, strict)
        elif start[:1] == b"\x80":
            value, texts = legacy.read(file, mmap, strict), {}
        else:
            raise ValueError("it begins as none of PyTorch's files does")
        if isinstance(value, Placeholder) and isinstance(value.state, dict) and "_modules" in value.state:
            raise ValueError(
                f"it is a whole module, {value.name}, which only PyTorch with the module's own code can "
                f"make; save its state_dict() with torch.save instead"
            )
        return value, texts
