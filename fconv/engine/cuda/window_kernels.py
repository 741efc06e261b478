"""Parts shared by GPU kernels that go over windows.

Windows over one and two axes are windows over three of which the first have size 1.
"""

from __future__ import annotations

from fconv.arrays import Array
from fconv.engine.cuda.launch import launch
from fconv.geometry import Windows

WINDOWS = r"""
// C channels of D x H x W come in, OD x OH x OW go out; kernels of
// KD x KH x KW, strides S, zeros before P, dilation E.
#define SIZES int C, int D, int H, int W, int OD, int OH, int OW, int KD, int KH, int KW, \
              int SD, int SH, int SW, int PD, int PH, int PW, int ED, int EH, int EW
// The window position whose entry k lies at x, or -1.
__device__ inline int window_at(int x, int k, int stride, int before, int dilation, int out) {
    int t = x + before - k * dilation;
    return t < 0 || t % stride || t / stride >= out ? -1 : t / stride;
}
"""


def start(
    source: str, name: str, *arrays: Array, count: int, numbers: tuple[int, ...], windows: Windows
) -> None:
    """Run a kernel as `launch` does, with the sizes of windows as its last arguments.

    Parameters
    ----------
    source : str
        CUDA that begins with `WINDOWS`: SIZES in a kernel's parameters, and `window_at`.
    name, *arrays, count
        As for `launch`.
    numbers : tuple of int
        What stands before the sizes of the windows, channels last.
    windows : Windows
        The windows.
    """
    missing, sizes = 3 - windows.ndim, []
    for ahead, axes in (
        (1, windows.in_size), (1, windows.out_size), (1, windows.kernel), (1, windows.stride),
        (0, tuple(lo for lo, _ in windows.padding)), (1, windows.dilation),
    ):  # fmt: skip
        sizes += [*(ahead,) * missing, *axes]
    launch(source, name, *arrays, count=count, numbers=(*numbers, *sizes))
