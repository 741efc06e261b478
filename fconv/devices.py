"""Move trees of arrays between devices, and recover where a GPU's memory runs out."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from fconv import trees
from fconv.arrays import asnumpy, is_array, is_key, native

P = ParamSpec("P")
T = TypeVar("T")


def with_memory_recovery(name: str, call: Callable[P, T]) -> Callable[P, T]:
    """Make a function leave a GPU usable where its memory ends, and say who asked for how much.

    CuPy keeps memory for later arrays. What the interrupted call had made is let go, and all that
    CuPy keeps unused goes back to the device, so that a smaller batch can be tried at once. The error is a
    MemoryError that begins with `name`, in the place of CuPy's ``OutOfMemoryError`` (which is one too).

    Examples
    --------
    >>> def fill():
    ...     raise MemoryError("Unable to allocate 8.00 TiB")
    >>> with_memory_recovery("conv2d", fill)()
    Traceback (most recent call last):
    MemoryError: Unable to allocate 8.00 TiB
    """

    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except MemoryError as error:
            if type(error).__module__.partition(".")[0] != "cupy":
                raise
            message = f"{name}: the GPU has no memory left: {error}; try a smaller batch"
            traceback.clear_frames(error.__traceback__)  # whose variables hold arrays
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
        raise MemoryError(message)

    return guarded


def to_device(tree: Any, device: str) -> Any:
    """Move every array of a tree to a device.

    Parameters
    ----------
    tree : pytree
        Parameters, a training state, one array. Leaves that are no arrays are kept.
    device : str
        ``"cpu"``, ``"cuda"`` (the current GPU) or ``"cuda:1"``.

    Returns
    -------
    pytree
        The same structure; arrays that are there already are not copied. Keys of
        `fconv.random` (uint64 pairs) stay where draws are made from them, on the host.

    Raises
    ------
    ValueError
        The device's name is not one of these, or there is no such GPU.
    MemoryError
        The arrays do not fit there.

    Notes
    -----
    Arrays are moved, and that is all: computing on a GPU other than CuPy's current one needs
    ``cupy.cuda.Device(1).use()`` first.

    Examples
    --------
    >>> import numpy as np
    >>> to_device({"w": np.ones(2, np.float32)}, "cpu")
    {'w': array([1., 1.], dtype=float32)}
    """
    kind, _, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in ("cpu", "cuda") or (number and (kind == "cpu" or not number.isdecimal())):
        raise ValueError(f'to_device: expected "cpu", "cuda" or "cuda:N", got {device!r}')
    if kind == "cpu":
        return trees.map(lambda x: asnumpy(x) if is_array(x) else x, tree)
    cupy = import_cupy()
    chosen = cupy.cuda.Device(int(number)) if number else cupy.cuda.Device()

    def move(x: Any) -> Any:
        if not is_array(x) or is_key(x):
            return x
        with chosen:
            return cupy.asarray(native(x))

    return with_memory_recovery("to_device", trees.map)(move, tree)


def import_cupy() -> Any:
    """Import CuPy and find its GPU, or say in one sentence what to install."""
    try:
        import cupy
    except ImportError as error:
        raise ValueError(
            "to_device: CuPy is not installed: pip install 'fconv-nn[cuda12]' for CUDA 12, "
            "'fconv-nn[cuda13]' for CUDA 13"
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ValueError(f"to_device: no usable GPU or driver was found ({error})") from error
    if count == 0:
        raise ValueError("to_device: no GPU was found")
    return cupy
