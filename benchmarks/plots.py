"""The results as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.libraries import LIBRARIES
from benchmarks.report import TITLES, extra, number
from benchmarks.results import Lines, Record, mean

# One look for a library in all plots: colour (told apart without red and green) and marker.
LOOKS = {
    "fconv": ("#0072b2", "o"), "fconv-found": ("#56b4e9", "o"), "torch": ("#d55e00", "s"),
    "jax": ("#009e73", "^"), "numba": ("#cc79a7", "D"), "im2col": ("#999999", "v"),
    "shifts": ("#b8860b", "P"), "loops": ("#000000", "x"), "torch-compile": ("#8b2252", "p"),
    "onnxruntime": ("#4b4b9b", "h"),
}  # fmt: skip


def draw(results: dict[str, dict[str, Any]], folder: Path) -> dict[str, Path]:
    """Draw what there are results for; give the file of each part."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for part, content in results.items():
        make = {"scaling": _scaling, "memory": _memory, "random": _random}.get(part, _ratios)
        records = content["records"]
        if part == "passes":
            records = [{**r, "case": f"{r['case']}, {r['what']}"} for r in records]
        figure = make(part, records)
        if figure is None:
            continue
        if content["header"]["quick"]:
            figure.text(0.99, 0.99, "small inputs: no benchmark", ha="right", va="top", color="#bb0000")
        files[part] = folder / f"{part}.png"
        # Without the date, the same results give the same file.
        figure.savefig(files[part], dpi=110, metadata={"Software": None})
    import matplotlib.pyplot as plt

    plt.close("all")
    return files


def _figure(*args: Any, **options: Any) -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots(*args, layout="constrained", **options)


def _random(part: str, records: list[Record]) -> Any:
    """Draw the ratios of all random shapes, sorted."""
    figure, ax = _figure(figsize=(7, 4))
    for what, colour in (("forward", "#0072b2"), ("vjp", "#d55e00")):
        ratios = Lines([r for r in records if r["what"] == what]).ratios("fconv", "torch")
        if ratios:
            shares = [100 * (i + 1) / len(ratios) for i in range(len(ratios))]
            ax.plot(
                shares, sorted(ratios.values()), color=colour, label="gradients" if what == "vjp" else what
            )
    if not ax.lines:
        return None
    ax.axhline(1, color="#999999", linewidth=0.8)
    ax.set(xlabel="percent of the shapes", ylabel="fconv's time over PyTorch's", yscale="log", xlim=(0, 100))
    ax.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def _ratios(part: str, records: list[Record]) -> Any:
    """Draw, for each case, every library's time over PyTorch's better one."""
    lines = Lines([r for r in records if r.get("dtype", "float32") == "float32"])
    # Loops in Python would leave the others no room; the table has them.
    others = [name for name in lines.libraries if name not in ("torch", "loops")]
    if "torch" not in lines.libraries or not others:
        return None
    figure, ax = _figure(figsize=(8.5, 1.7 + 0.3 * len(lines.cases)))
    rows = {case: i for i, case in enumerate(lines.cases)}
    drawn: list[float] = [1.0]
    for name in [*(n for n in others if n != "fconv"), *(["fconv"] if "fconv" in others else [])]:
        ratios = lines.ratios(name, "torch")
        if not ratios:
            continue
        colour, marker = LOOKS[name]
        label = f"{LIBRARIES[name].label}: {number(mean(ratios))}"
        label += f" (of {len(ratios)})" * (len(ratios) < len(rows))
        ax.plot(
            list(ratios.values()), [rows[case] for case in ratios], marker, color=colour, label=label,
            markersize=8 if name == "fconv" else 5, alpha=1 if name == "fconv" else 0.75,
        )  # fmt: skip
        drawn += ratios.values()
    ax.axvline(1, color=LOOKS["torch"][0], label="PyTorch, its better memory order")
    ax.set_xscale("log")
    ax.set_xlim(min(drawn) / 1.3, max(drawn) * 1.3)
    _plain_ticks(ax.xaxis, min(drawn), max(drawn))
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="both", color="#e6e6e6")
    ax.set_axisbelow(True)
    ax.set_xlabel("time over PyTorch's (left of the line is faster)")
    figure.suptitle(TITLES[part])
    title = "geometric means of the ratios"
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9, title=title)
    return figure


def _plain_ticks(axis: Any, low: float, high: float) -> None:
    """Mark a log axis 0.5, 1, 2, 5 ... rather than by powers; a narrow one closer."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    steps: tuple[float, ...] = (1, 2, 5) if high / low < 3000 else (1,)
    if high / low < 3:  # of which one or two would lie in so narrow a range
        steps = (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    marks = [step * 10.0**power for power in range(-5, 8) for step in steps]
    axis.set_major_locator(FixedLocator([m for m in marks if low / 1.3 <= m <= high * 1.3]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _scaling(part: str, records: list[Record]) -> Any:
    """Draw time against batch size and image size, on log axes."""
    return _series(part, records, "seconds", 1e3, "milliseconds")


def _memory(part: str, records: list[Record]) -> Any:
    """Draw memory beyond inputs and results against batch size, on log axes."""
    growing = extra([r for r in records if r["axis"]])
    return _series(part, growing, "extra", 1e-6, "MB beyond inputs and results", least=0.1)


def _series(
    part: str, records: list[Record], value: str, factor: float, unit: str, least: float = 0.0
) -> Any:
    kinds = list(dict.fromkeys((r["axis"], r["what"]) for r in records))
    if not kinds:
        return None
    axes_names = list(dict.fromkeys(axis for axis, _ in kinds))
    whats = list(dict.fromkeys(what for _, what in kinds))
    # A panel a kind; one row where only one thing grows.
    shape = (1, len(whats)) if len(axes_names) == 1 else (len(whats), len(axes_names))
    figure, panels = _figure(*shape, figsize=(4.6 * shape[1], 3.6 * shape[0] + 0.6), squeeze=False)
    labels: dict[str, Any] = {}
    for (axis, what), ax in zip(
        [(a, w) for w in whats for a in axes_names if (a, w) in kinds], panels.flat, strict=False
    ):
        some = [r for r in records if (r["axis"], r["what"]) == (axis, what)]
        lines, sizes = Lines(some, value), {r["case"]: r[axis] for r in some}
        values = []
        for name in lines.libraries:
            found = [(sizes[case], lines.get(case, name)) for case in lines.cases]
            points = [(size, max(least, factor * y)) for size, y in found if y is not None]
            if not points:
                continue
            colour, marker = LOOKS[name]
            (line,) = ax.plot(
                *zip(*points, strict=True), marker=marker, color=colour, markersize=5,
                linewidth=2.2 if name == "fconv" else 1.2, zorder=3 if name == "fconv" else 2,
            )  # fmt: skip
            labels.setdefault(LIBRARIES[name].label, line)
            values += [y for _, y in points]
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(sorted(set(sizes.values())), [str(n) for n in sorted(set(sizes.values()))])
        ax.minorticks_off()
        if values:
            _plain_ticks(ax.yaxis, min(values), max(values))
        ax.grid(color="#e6e6e6")
        ax.set_title(f"{_fixed(lines.cases[0], axis)}: {what}", fontsize=10)
        ax.set_xlabel("batch size" if axis == "batch" else "side of the picture in pixels")
        ax.set_ylabel(unit)
    figure.suptitle(TITLES[part])
    figure.legend(
        labels.values(), labels.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    return figure


def _fixed(case: str, axis: str) -> str:
    numbers = case.split(",")
    numbers[0 if axis == "batch" else 2] = "n"
    return ",".join(numbers)
