"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import floor, log10
from typing import Any

from benchmarks.libraries import CONTIGUOUS, LIBRARIES
from benchmarks.results import Lines, Record, mean, summary
from benchmarks.table import PARTS

TITLES = {
    "conv": "Convolution, forward",
    "vjp": "Convolution, all gradients",
    "weight": "Convolution, gradient of the weight",
    "random": "Convolution, random shapes",
    "steps": "Training steps",
    "small": "Training steps of small networks",
    "inference": "Inference",
    "passes": "Passes over memory",
    "scaling": "Time against size",
    "memory": "Memory",
}


def markdown(results: dict[str, dict[str, Any]], plots: dict[str, str] | None = None) -> str:
    """Write the tables of all parts, each under its title and beside its plot."""
    plots = plots or {}
    pieces = [header(results)]
    for part, content in results.items():
        if not content["records"]:
            continue
        pieces.append(f"## {TITLES[part]}")
        if part in plots:
            pieces.append(f"![{TITLES[part]}]({plots[part]})")
        writers = {"scaling": _scaling, "memory": _memory, "passes": _passes, "random": _random}
        write = writers.get(part, _timed)
        pieces += write(content["records"])
        pieces += _troubles(content["records"])
    return "\n\n".join(pieces) + "\n"


def header(results: dict[str, dict[str, Any]]) -> str:
    """Describe the origin of the figures; parts that were run apart may differ."""
    by_words: dict[str, list[str]] = {}
    for part, content in results.items():
        by_words.setdefault(_words(content["header"]), []).append(part)
    if len(by_words) == 1:
        return next(iter(by_words))
    return "\n\n".join(
        f"{', '.join(TITLES[part] for part in parts)}:\n\n{words}" for words, parts in by_words.items()
    )


def _words(header: dict[str, Any]) -> str:
    machine = header["machine"]
    lines = [
        f"- {'**Small inputs, only to see that everything runs.** ' * header['quick']}"
        f"`{header['command']}`, {header['date']}, fconv {header['revision']}",
        f"- {machine['processor']} ({machine['vector instructions']}), {header['threads']} threads of "
        f"{machine['processors']} processors, {machine['memory']}; {machine['system']}; "
        f"load before: {', '.join(map(str, machine['load before'] or ['unknown']))}",
        f"- {header['rounds']} round{'s' * (header['rounds'] != 1)} of at least {header['seconds']:g} s a "
        f"library, in alternating order; "
        f"medians of the rounds' medians",
    ]
    for name, about in header["libraries"].items():
        versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
        computing = [*filter(None, [about["details"]]), *map(_pool, about["pools"])]
        lines.append(f"- {LIBRARIES[name].label}: {'; '.join([versions, *dict.fromkeys(computing)])}")
    return "\n".join(lines)


def _pool(pool: dict[str, Any]) -> str:
    kernel = f", {pool['architecture']} kernels" if "architecture" in pool else ""
    version = f" {pool['version']}" if "version" in pool else ""
    return f"{pool['internal_api']}{version}{kernel}, {pool['num_threads']} threads"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table, its first column to the left and the others to the right.

    Examples
    --------
    >>> print(table(["a", "b"], [["x", "1"]]))
    | a | b |
    |:--|--:|
    | x | 1 |
    """
    rule = "|:--|" + "--:|" * (len(titles) - 1)
    return "\n".join([_row(titles), rule, *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def number(x: float | None, digits: int = 3) -> str:
    """Write a number with some significant digits, and what is not there as a dash.

    Examples
    --------
    >>> [number(x) for x in (0.012345, 1.5, 17.04, 1234.6, None)]
    ['0.0123', '1.50', '17.0', '1230', '-']
    """
    if x is None:
        return "-"
    if x == 0:
        return "0"
    x = float(f"{x:.{digits - 1}e}")  # rounded first: 99.96 has three digits as 100
    places = max(0, digits - 1 - floor(log10(abs(x))))
    return f"{x:.{places}f}"


def _timed(records: list[Record]) -> list[str]:
    parts = [[r for r in records if r.get("dtype", "float32") == dtype] for dtype in ("float32", "float64")]
    pieces = []
    for some in filter(None, parts):
        lines = Lines(some)
        pieces += [_times(lines), _means(lines)]
    return [piece for piece in pieces if piece]


def _times(lines: Lines) -> str:
    compared = {"fconv", "torch"} <= set(lines.libraries)
    titles = ["milliseconds", *map(_way_title, lines.ways)]
    titles += ["fconv / PyTorch, better order each", "over its contiguous"] * compared
    rated = {
        r["case"]: r["operations"] for r in lines.records if "operations" in r and "fconv" in lines.libraries
    }
    titles += ["fconv, billion operations a second"] * bool(rated)
    rows = []
    for case in lines.cases:
        row = [f"`{case}`"]
        for library, layout in lines.ways:
            seconds = lines.get(case, library, layout)
            row.append(number(None if seconds is None else 1e3 * seconds))
        if compared:
            row.append(number(lines.ratio(case, "fconv", "torch")))
            row.append(number(lines.ratio(case, "fconv", ("torch", CONTIGUOUS))))
        if rated:
            seconds = lines.get(case, "fconv")
            row.append(number(None if seconds is None else 1e-9 * rated[case] / seconds))
        rows.append(row)
    return table(titles, rows)


def _way_title(way: tuple[str, str]) -> str:
    library = LIBRARIES[way[0]]
    return f"{library.label}, {way[1]}" if len(library.layouts) > 1 else library.label


def _means(lines: Lines) -> str:
    found = summary(lines)
    if not found:
        return ""
    rows = []
    for words, ratios in found:
        least, most = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
        ends = [f"{number(ratios[case])} (`{case}`)" for case in (least, most)]
        rows.append([words, number(mean(ratios)), *ends, f"{len(ratios)} of {len(lines.cases)}"])
    return table(["fconv's time over that of", "geometric mean", "least", "most", "cases"], rows)


def _passes(records: list[Record]) -> list[str]:
    """Write times, and what share of a copy's bytes in a second the least bytes in that time are."""
    pieces = []
    for what in dict.fromkeys(r["what"] for r in records):
        lines = Lines([r for r in records if r["what"] == what])
        pieces += [f"{what.capitalize()}:", _times(lines)]
    rates = {
        name: [[r["case"], r["what"], r["bytes"] / r["seconds"]] for r in records if _best(records, r, name)]
        for name in Lines(records).libraries
    }
    rows = []
    for name, found in rates.items():
        copied = next((rate for case, _, rate in found if case.startswith("copy")), None)
        rows += [
            [f"{LIBRARIES[name].label}, {case}, {what}", number(rate / 1e9), number(copied and rate / copied)]
            for case, what, rate in found
        ]
    return [*pieces, table(["", "GB/s", "share of a copy's"], rows)]


def _best(records: list[Record], record: Record, library: str) -> bool:
    """Return whether a record is the library's, in its better memory order."""
    same = [
        r["seconds"]
        for r in records
        if (r["library"], r["case"], r["what"]) == (library, record["case"], record["what"])
        and "seconds" in r
    ]
    return record["library"] == library and record.get("seconds") == min(same, default=None) and bool(same)


def _random(records: list[Record]) -> list[str]:
    """Write how the ratios are distributed, and the shapes that lie furthest behind."""
    rows, worst = [], []
    for what in dict.fromkeys(r["what"] for r in records):
        ratios = Lines([r for r in records if r["what"] == what]).ratios("fconv", "torch")
        ordered = sorted(ratios.values())
        if not ordered:
            continue
        at = [ordered[int(q * (len(ordered) - 1))] for q in (0.1, 0.5, 0.9, 0.98, 1)]
        above = [f"{sum(r > bound for r in ordered)} of {len(ordered)}" for bound in (1.3, 2)]
        rows.append([what, number(mean(ratios)), *map(number, at), *above])
        last = sorted(ratios, key=ratios.__getitem__)[-10:]
        worst += [[f"`{case}`, {what}", number(ratios[case])] for case in reversed(last)]
    titles = ["fconv / PyTorch, better order each", "mean", "10 %", "median", "90 %", "98 %", "most"]
    return [table([*titles, "above 1.3", "above 2"], rows), table(["furthest behind", "ratio"], worst)]


def _scaling(records: list[Record]) -> list[str]:
    pieces = []
    for what, axis in dict.fromkeys((r["what"], r["axis"]) for r in records):
        some = [r for r in records if (r["what"], r["axis"]) == (what, axis)]
        sizes = {r["case"]: r[axis] for r in some}
        lines = Lines(some)
        rows = [
            [str(sizes[case]), *(number(_scaled(lines.get(case, name), 1e3)) for name in lines.libraries)]
            for case in lines.cases
        ]
        growth = ["most for a doubling", *(number(_growth(lines, name)) for name in lines.libraries)]
        fixed = lines.cases[0].split(",")
        fixed[0 if axis == "batch" else 2] = "n"
        pieces.append(f"{what.capitalize()} of `{','.join(fixed)}`, milliseconds, by {axis}:")
        titles = [axis, *(LIBRARIES[name].label for name in lines.libraries)]
        pieces.append(table(titles, [*rows, growth]))
    return pieces


def _growth(lines: Lines, library: str) -> float | None:
    times = [lines.get(case, library) for case in lines.cases]
    pairs = pairwise(times)
    return max((b / a for a, b in pairs if a is not None and b is not None), default=None)


def _scaled(x: float | None, factor: float) -> float | None:
    return None if x is None else factor * x


def extra(records: list[Record]) -> list[Record]:
    """Add to each record the bytes beyond inputs and results, and those beyond the imported library."""
    return [
        {**r, "extra": max(0, r["peak"] - r["before"] - r["results"]), "above": r["peak"] - r["imported"]}
        if "peak" in r
        else r
        for r in records
    ]


def _memory(records: list[Record]) -> list[str]:
    pieces = []
    for what, axis in dict.fromkeys((r["what"], r["axis"]) for r in records):
        some = extra([r for r in records if (r["what"], r["axis"]) == (what, axis)])
        if what == "step":
            for words, key in (("the whole process", "peak"), ("above the imported library", "above")):
                pieces += [f"Training steps, peak memory in MB, {words}:", _megabytes(Lines(some, key))]
        else:
            grows = ", as the batch grows" * bool(axis)
            pieces.append(f"{what.capitalize()}, peak memory in MB beyond inputs and results{grows}:")
            pieces.append(_megabytes(Lines(some, "extra")))
    return pieces


def _megabytes(lines: Lines) -> str:
    rows = [
        [f"`{case}`", *(number(_scaled(lines.get(case, *way), 1e-6)) for way in lines.ways)]
        for case in lines.cases
    ]
    return table(["", *map(_way_title, lines.ways)], rows)


def _troubles(records: list[Record]) -> list[str]:
    found = [
        f"- {r['what']} {r['case']}, {_way_title((r['library'], r['layout']))}: {r['error']}"
        for r in records
        if "error" in r
    ]
    return ["Not timed:\n\n" + "\n".join(found)] if found else []


def parts_help() -> str:
    """List the parts for the command's help."""
    return "; ".join(f"{part}: {words}" for part, words in PARTS.items())
