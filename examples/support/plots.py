"""Curves and sheets of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from support.training import Run


def pyplot() -> Any:
    """Return matplotlib.pyplot, drawing into files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save(figure: Any, path: Path) -> None:
    """Write a figure and let it go."""
    figure.savefig(path, dpi=120)
    pyplot().close(figure)


def curves(
    path: Path, run: Run, score: str, unit: str, loss: str, lines: dict[str, float] | None = None
) -> None:
    """Draw the loss of each step, and a score where it was measured, with level lines to compare with."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    steps = np.arange(1, len(run.losses) + 1)
    window = max(1, len(steps) // 50)
    smooth = np.convolve(run.losses or [np.nan], np.ones(window) / window, "valid")
    left.plot(steps, run.losses, color="tab:blue", alpha=0.25, linewidth=0.8, label="each step")
    left.plot(steps[window - 1 :], smooth[: len(steps)], color="tab:blue", label=f"mean of {window} steps")
    left.set(xlabel="step", ylabel=loss, title="training loss", yscale="log")
    left.legend()
    values = run.scores[score]
    right.plot(run.scores["step"], values, marker="o", markersize=4, color="tab:green", label="the network")
    for style, (label, level) in zip((":", "--", "-."), (lines or {}).items(), strict=False):
        right.axhline(level, color="0.4", linestyle=style, label=f"{label}: {level:.2f}")
    right.set(xlabel="step", ylabel=unit, title=f"{score} on pictures not trained on: {values[-1]:.4g}")
    right.legend(loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save(figure, path)


def sheet(path: Path, rows: Sequence[Sequence[tuple[str, Any]]], title: str, *, zoom: bool = False) -> None:
    """Draw pictures (C, H, W) from 0 to 1 in rows, each under its caption.

    With `zoom`, a detail stands enlarged in each picture's corner: where the last picture of the
    row, which is the original, has the most detail.
    """
    plt = pyplot()
    columns, width = max(map(len, rows)), 3.2
    tall = [width * row[0][1].shape[1] / row[0][1].shape[2] for row in rows]
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(width * columns, sum(tall) + 0.3 * len(rows) + 0.5),
        layout="constrained", squeeze=False, height_ratios=tall,
    )  # fmt: skip
    for axes in grid.flat:
        axes.set_axis_off()
    for places, row in zip(grid, rows, strict=True):
        detail = _most_detail(row[-1][1]) if zoom else None
        for axes, (caption, picture) in zip(places, row, strict=False):
            show(axes, picture)
            axes.set_title(caption, fontsize=9)
            if detail is not None:
                _enlarge(axes, picture, detail)
    figure.suptitle(title, fontsize=11)
    save(figure, path)


def _most_detail(picture: Any) -> tuple[int, int, int]:
    """Find the square, of an eighth of the picture's side, whose neighbours differ most: top, left, side."""
    grey = picture.mean(axis=0)
    steps = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey, axis=1))[1:]
    side = max(8, min(grey.shape) // 8)
    places = [
        (top, left)
        for top in range(0, grey.shape[0] - side, side // 2)
        for left in range(0, grey.shape[1] - side, side // 2)
    ]

    def detail(at: tuple[int, int]) -> float:
        return float(steps[at[0] : at[0] + side, at[1] : at[1] + side].mean())

    best = max(places, key=detail, default=(0, 0))
    return (*best, side)


def _enlarge(axes: Any, picture: Any, detail: tuple[int, int, int]) -> None:
    """Draw a detail in the corner that is farthest from it, and frame both."""
    top, left, side = detail
    height, width = picture.shape[1:]
    across = 0 if left + side / 2 > width / 2 else 1
    up = 0 if top + side / 2 < height / 2 else 1
    share = 0.42
    shares = (share * min(height, width) / width, share * min(height, width) / height)
    corner = axes.inset_axes([across * (1 - shares[0]), up * (1 - shares[1]), *shares])
    show(corner, picture[:, top : top + side, left : left + side])
    corner.set(xticks=[], yticks=[])
    for edge in corner.spines.values():
        edge.set(color="tab:orange", linewidth=1.5)
    frame = pyplot().Rectangle((left - 0.5, top - 0.5), side, side, fill=False, color="tab:orange")
    axes.add_patch(frame)


def show(axes: Any, picture: Any) -> None:
    """Draw a picture (C, H, W) from 0 to 1, pixel by pixel."""
    values = np.clip(picture, 0, 1).transpose(1, 2, 0)
    grey = values.shape[2] == 1
    axes.imshow(values[..., 0] if grey else values, cmap="gray" if grey else None, vmin=0, vmax=1,
                interpolation="nearest" if max(values.shape) < 200 else None)  # fmt: skip
