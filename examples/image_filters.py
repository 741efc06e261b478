"""Convolve a photograph with the filters of every picture editor, in seven ways.

Five kernels of 3x3 (identity, emboss, sharpen, edge detection, blur) are the weight of one
convolution; ``F.conv2d`` applies them all at once. The same is then done by loops, by rolling and
adding, by a product for each element of the kernel, by laying windows out for one product, by
PyTorch and Numba where they are installed, each timed, and compared with the loops.

Into --out go filters.png, timings.png and results.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from support import flags, pictures, plots, results

import fconv as fc
import fconv.functional as F

KERNELS = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "edge detection": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "blur": (np.outer([1, 2, 1], [1, 2, 1]) / 16).tolist(),
}

# Each function takes the picture's channels as a batch x (N, 1, H, W) and the filters w (O, 1, 3, 3),
# and gives (N, O, H, W); a border of zeros keeps the size.


def by_loops(x: Any, w: Any) -> Any:
    """Add up one product at a time, as the definition is written."""
    n, _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))).tolist()  # Python's numbers: faster one by one
    kernels = w.tolist()
    y = np.empty((n, len(w), height, width), x.dtype)
    for b in range(n):
        for o in range(len(w)):
            for i in range(height):
                for j in range(width):
                    total = 0.0
                    for k in range(3):
                        for m in range(3):
                            total += padded[b][0][i + k][j + m] * kernels[o][0][k][m]
                    y[b, o, i, j] = total
    return y


def by_rolling(x: Any, w: Any) -> Any:
    """Add up rolled pictures. What is rolled around the border comes from the zeros beyond it."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.zeros((len(x), len(w), *padded.shape[2:]), x.dtype)
    for k in range(3):
        for m in range(3):
            y += np.roll(padded, (1 - k, 1 - m), axis=(2, 3)) * w[:, 0, k, m][:, None, None]
    return y[:, :, 1:-1, 1:-1]


def by_shifts(x: Any, w: Any) -> Any:
    """Take one matrix product for each element of the kernel, over the picture shifted by it."""
    n, channels, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.zeros((n, len(w), height * width), x.dtype)
    for k in range(3):
        for m in range(3):
            y += w[:, :, k, m] @ padded[:, :, k : k + height, m : m + width].reshape(n, channels, -1)
    return y.reshape(n, len(w), height, width)


def by_im2col(x: Any, w: Any) -> Any:
    """Lay all windows out as columns, for one matrix product."""
    n, channels, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, channels * 9, height * width)
    return (w.reshape(len(w), -1) @ columns).reshape(n, len(w), height, width)


def by_numba() -> Callable[[Any, Any], Any]:
    """Compile the loops."""
    import numba

    @numba.njit(parallel=True)  # type: ignore[untyped-decorator]
    def loops(padded: Any, w: Any, y: Any) -> None:
        for at in numba.prange(y.shape[0] * y.shape[1]):
            b, o = at // y.shape[1], at % y.shape[1]
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    total = padded.dtype.type(0)
                    for k in range(3):
                        for m in range(3):
                            total += padded[b, 0, i + k, j + m] * w[o, 0, k, m]
                    y[b, o, i, j] = total

    def apply(x: Any, w: Any) -> Any:
        y = np.empty((len(x), len(w), *x.shape[2:]), x.dtype)
        loops(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), w, y)
        return y

    return apply


def by_torch() -> Callable[[Any, Any], Any]:
    """Let PyTorch do it."""
    import torch

    def apply(x: Any, w: Any) -> Any:
        with torch.no_grad():
            return torch.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=1).numpy()

    return apply


def ways() -> dict[str, Callable[[Any, Any], Any]]:
    """Return every way that can be gone here, ours last."""
    found: dict[str, Callable[[Any, Any], Any]] = {
        "loops": by_loops,
        "roll and add": by_rolling,
        "shift and multiply": by_shifts,
        "im2col": by_im2col,
    }
    if find_spec("numba"):
        found["Numba loops"] = by_numba()
    if find_spec("torch"):
        found["PyTorch"] = by_torch()
    return {**found, "fconv": lambda x, w: F.conv2d(x, w, padding=1)}


def seconds(call: Callable[[], Any], least: float) -> float:
    """Return the median time of a call, over as many as fill `least` seconds, after a first one."""
    call()
    times: list[float] = []
    while not times or sum(times) < least:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def compare(photo: Any, weight: Any, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Time every way on the photograph, or on a crop of it, and compare the values on the crop."""
    x = np.ascontiguousarray(photo[:, None])
    crop = np.ascontiguousarray(pictures.middle(photo, args.crop, args.crop)[:, None])
    exact = by_loops(crop.astype(np.float64), weight.astype(np.float64))
    table = {}
    for name, way in ways().items():
        of = crop if name == "loops" else x
        took = seconds(lambda way=way, of=of: way(of, weight), args.seconds)  # type: ignore[misc]
        table[name] = {
            "milliseconds": 1e3 * took,
            "pixels": of.shape[2] * of.shape[3],
            "ns_per_pixel": 1e9 * took / (of.shape[2] * of.shape[3]),
            "greatest_difference": float(np.abs(way(crop, weight) - exact).max()),
        }
    return table


def plot_filters(path: Path, photo: Any, filtered: Any) -> None:
    """Draw the photograph and what each kernel makes of it."""
    shown = [("photograph", photo)]
    for (name, kernel), y in zip(KERNELS.items(), filtered, strict=True):
        # Kernels that add up to 0 give differences: they are drawn around a middle grey.
        differences = abs(np.sum(kernel)) < 1e-6
        shown.append((name, y / 2 + 0.5 if differences else y))
    plots.sheet(path, [shown[:3], shown[3:]], "one photograph, five kernels of 3x3")


def plot_timings(path: Path, table: dict[str, dict[str, float]]) -> None:
    """Draw the time of each way for a pixel."""
    plt = plots.pyplot()
    order = sorted(table, key=lambda name: -table[name]["ns_per_pixel"])
    times = [table[name]["ns_per_pixel"] for name in order]
    figure, axes = plt.subplots(figsize=(7.5, 0.45 * len(order) + 1.3), layout="constrained")
    bars = axes.barh(order, times, color=["tab:orange" if name == "fconv" else "tab:blue" for name in order])
    axes.bar_label(bars, labels=[f"{t:,.0f}" for t in times], padding=3, fontsize=9)
    axes.set(xscale="log", xlabel="nanoseconds a pixel (five filters, three channels)",
             xlim=(min(times) / 2, max(times) * 4))  # fmt: skip
    axes.grid(alpha=0.3, axis="x")
    plots.save(figure, path)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="image_filters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", metavar="FILE", help="a picture (default: the cat of scikit-image)")
    add("--crop", type=flags.at_least_one, default=64, metavar="N",
        help="height and width of what the loops are given (default: 64)")  # fmt: skip
    add("--seconds", type=flags.at_least_zero, default=1.0, metavar="S",
        help="least time that each way is timed for (default: 1)")  # fmt: skip
    add("--out", type=Path, default=Path("out/image_filters"), metavar="DIR",
        help="folder for results (default: out/image_filters)")  # fmt: skip
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Filter, compare, show; give the table."""
    args = arguments(argv)
    with results.in_one_line("image_filters"):
        results.prepare(args.out)
        photo = pictures.one(args.data)
        weight = np.array(list(KERNELS.values()), np.float32)[:, None]
        filtered = F.conv2d(photo[:, None], weight, padding=1)  # three channels as a batch: (3, 5, H, W)
        plot_filters(args.out / "filters.png", photo, filtered.swapaxes(0, 1))
        table = compare(photo, weight, args)
        plot_timings(args.out / "timings.png", table)
        results.write_json(args.out / "results.json", "image_filters", args, {"ways": table})
        height, width = photo.shape[1:]
        print(f"{len(photo)} channels of {height}x{width}, {fc.get_num_threads()} threads; "
              f"loops: {args.crop}x{args.crop}")  # fmt: skip
        print(f"{'':20}{'ms':>10}{'ns a pixel':>13}{'greatest difference':>22}")
        for name, row in table.items():
            print(f"{name:20}{row['milliseconds']:10.2f}{row['ns_per_pixel']:13.1f}"
                  f"{row['greatest_difference']:22.1e}")  # fmt: skip
        print(f"saved filters.png, timings.png and results.json in {args.out}")
    return table


if __name__ == "__main__":
    main()
