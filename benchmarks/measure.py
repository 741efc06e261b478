"""Measure each part: agreement first, then time in alternating rounds, or memory."""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agreement import Outcome, Way, disagreements
from benchmarks.cases import Conv, Job, Pass
from benchmarks.conductor import Team, WorkerError
from benchmarks.libraries import LIBRARIES
from benchmarks.table import jobs

Record = dict[str, Any]


@dataclass
class Plan:
    """Settings of a measurement: libraries by name, and the options of the command."""

    libraries: list[str]
    rounds: int = 5
    seconds: float = 0.4
    timeout: float = 600.0
    only: str = ""
    quick: bool = False
    device: str = "cpu"
    say: Callable[[str], None] = field(default=print)

    def jobs(self, part: str) -> list[Job]:
        """List the jobs of a part that are asked for."""
        return [
            job for job in jobs(part, self.quick, self.device) if re.search(self.only, f"{part} {job.name}")
        ]

    def ways(self, job: Job) -> list[Way]:
        """List the libraries and memory orders that a job is given to."""
        chosen = [LIBRARIES[name] for name in self.libraries]
        if job.part == "random":
            chosen = [library for library in chosen if library.name in ("fconv", "torch")]
        chosen = [library for library in chosen if type(job.case).__name__ in library.cases]
        return [(library.name, layout) for library in chosen for layout in library.layouts]


def measure(part: str, team: Team, plan: Plan, keep: Callable[[list[Record]], None]) -> list[Record]:
    """Measure a part; `keep` takes what is there after each job."""
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        for job in plan.jobs(part):
            weights = _weights(job, Path(folder))
            one = _memory if part == "memory" else _times
            found = one(job, team, plan, weights, Path(folder))
            records += [{**job.facts(), **record} for record in found]
            plan.say(f"{part} {job.name}: " + ", ".join(map(brief, found)))
            keep(records)
    return records


def brief(record: Record) -> str:
    """Describe a record in a few words."""
    way = f"{record['library']}{'*' if record['layout'] != 'contiguous' else ''}"
    if "seconds" in record:
        return f"{way} {1e3 * record['seconds']:.3g} ms"
    if "peak" in record:
        return f"{way} {record['peak'] / 1e6:.0f} MB"
    return f"{way} -" if "not_served" in record else f"{way} FAILED ({record['error']})"


def _weights(job: Job, folder: Path) -> str | None:
    if isinstance(job.case, (Conv, Pass)):
        return None
    from benchmarks.networks import weights

    path = folder / f"{job.case.network}.npz"
    np.savez(path, **weights(job.case.network, job.case.shape))
    return str(path)


def _times(job: Job, team: Team, plan: Plan, weights: str | None, folder: Path) -> list[Record]:
    ways, told = _prepared(job, team, plan, weights, folder)
    samples: dict[Way, list[float]] = {way: [] for way in ways}
    unsettled: set[Way] = set()
    for number in range(plan.rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            if way in told:
                continue
            try:
                answer = team.ask(way[0], plan.timeout, "time", layout=way[1], seconds=plan.seconds)
            except WorkerError as error:
                told[way] = {"error": str(error)}
                continue
            samples[way].append(answer["seconds"])
            unsettled |= set() if answer["settled"] else {way}
    for library in {library for library, _ in ways}:
        _drop(team, library, plan)
    records = []
    for way in ways:
        record: Record = {"library": way[0], "layout": way[1], **told.get(way, {})}
        if way not in told:
            record |= {"seconds": statistics.median(samples[way]), "rounds": samples[way]}
            record |= {"unsettled": True} if way in unsettled else {}
        records.append(record)
    return records


def _drop(team: Team, library: str, plan: Plan) -> None:
    try:
        team.ask(library, plan.timeout, "drop")
    except WorkerError as error:
        plan.say(f"{library}: {error}")


def _prepared(
    job: Job, team: Team, plan: Plan, weights: str | None, folder: Path
) -> tuple[list[Way], dict[Way, Record]]:
    """Let every worker prepare a job; those that cannot, or that disagree, are told apart and not timed."""
    ways = plan.ways(job)
    told: dict[Way, Record] = {}
    outcomes: dict[Way, Outcome] = {}
    for number, way in enumerate(ways):
        results = str(folder / f"results{number}.npz")
        try:
            answer = team.ask(
                way[0], plan.timeout, "prepare",
                part=job.part, job=job.name, layout=way[1], weights=weights, results=results,
            )  # fmt: skip
        except WorkerError as error:
            told[way] = {"error": str(error)}
            continue
        if not answer["served"]:
            told[way] = {"not_served": answer["why"]}
            continue
        outcomes[way] = _loaded(results)
    told |= {way: {"error": text} for way, text in disagreements(outcomes).items()}
    return ways, told


def _loaded(path: str) -> Outcome:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    Path(path).unlink()
    return arrays


def _memory(job: Job, team: Team, plan: Plan, weights: str | None, folder: Path) -> list[Record]:
    records: list[Record] = []
    for library, layout in plan.ways(job):
        worker = team.fresh(library)
        record: Record = {"library": library, "layout": layout}
        try:
            answer = worker.ask(
                plan.timeout, "memory", part=job.part, job=job.name, layout=layout, weights=weights
            )
            if answer.get("served", True):
                record |= answer
            else:
                record["not_served"] = answer["why"]
        except WorkerError as error:
            record["error"] = str(error)
        finally:
            worker.close()
        records.append(record)
    return records
