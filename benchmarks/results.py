"""The files of results, a part each, and what they come to: the better memory order, ratios, means."""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.libraries import CONTIGUOUS, LIBRARIES
from benchmarks.table import PARTS

Record = dict[str, Any]
Way = tuple[str, str]


def write(folder: Path, part: str, content: dict[str, Any]) -> None:
    """Write a part's results whole, or leave the file as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{part}.json"
    new = path.with_suffix(".json.new")
    new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(new, path)


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Read all parts that there are, in their order."""
    paths = {part: folder / f"{part}.json" for part in PARTS}
    return {p: json.loads(path.read_text(encoding="utf-8")) for p, path in paths.items() if path.exists()}


class Lines:
    """The records of a part, by case and by way: ``lines[case][library, layout]`` is a number.

    Parameters
    ----------
    records : list of dict
        As a part's file has them, of one kind.
    value : str
        Which number: ``seconds``, ``peak``, ...
    """

    def __init__(self, records: list[Record], value: str = "seconds") -> None:
        self.records = records
        self.cases: list[str] = list(dict.fromkeys(r["case"] for r in records))
        self._values = {
            (r["case"], r["library"], r["layout"]): r[value] for r in records if r.get(value) is not None
        }
        seen = {(r["library"], r["layout"]) for r in records}
        order = [(library.name, layout) for library in LIBRARIES.values() for layout in library.layouts]
        self.ways: list[Way] = [way for way in order if way in seen]
        self.libraries = list(dict.fromkeys(library for library, _ in self.ways))

    def get(self, case: str, library: str, layout: str | None = None) -> float | None:
        """Return a number, by default the least of the memory orders."""
        layouts = LIBRARIES[library].layouts if layout is None else (layout,)
        found = [self._values[key] for lay in layouts if (key := (case, library, lay)) in self._values]
        return min(found, default=None)

    def ratio(self, case: str, ours: Way | str, theirs: Way | str) -> float | None:
        """Divide one way's number by another's; a bare name stands for the better memory order."""
        a, b = (self.get(case, *((way,) if isinstance(way, str) else way)) for way in (ours, theirs))
        return a / b if a is not None and b else None

    def ratios(self, ours: Way | str, theirs: Way | str) -> dict[str, float]:
        """Return the ratio of every case that both have."""
        found = {case: self.ratio(case, ours, theirs) for case in self.cases}
        return {case: ratio for case, ratio in found.items() if ratio is not None}


def summary(lines: Lines) -> list[tuple[str, dict[str, float]]]:
    """Return fconv's ratios over each library, in words and numbers; each library with its better order."""
    pairs: list[tuple[str, Way | str, Way | str]] = []
    for library in lines.libraries:
        if library == "fconv":
            continue
        label = LIBRARIES[library].label
        if len(LIBRARIES[library].layouts) == 1:
            pairs.append((label, "fconv", library))
            continue
        pairs.append((f"{label}, better order", "fconv", library))
        if library == "torch":
            pairs.append((f"{label}, contiguous", "fconv", (library, CONTIGUOUS)))
            pairs.append((f"{label}, both contiguous", ("fconv", CONTIGUOUS), (library, CONTIGUOUS)))
    found = [(words, lines.ratios(ours, theirs)) for words, ours, theirs in pairs]
    return [(words, ratios) for words, ratios in found if ratios]


def mean(ratios: dict[str, float]) -> float:
    """Return the geometric mean.

    Examples
    --------
    >>> round(mean({"a": 0.5, "b": 2.0}), 3)
    1.0
    """
    return geometric_mean(ratios.values())
