"""The command line."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import machine, results
from benchmarks.conductor import ROOT, Team, WorkerError
from benchmarks.libraries import DEVICES, LIBRARIES
from benchmarks.measure import Plan, measure
from benchmarks.report import markdown, parts_help
from benchmarks.table import PARTS

PAGE = ROOT / "docs" / "benchmarks.md"


def parser() -> argparse.ArgumentParser:
    """Make the reader of the command line."""
    new = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time fconv beside other libraries, each in a process of its own, in alternating rounds. "
        "Before a case is timed, its results are checked against the other libraries'. Writes a JSON file a "
        "part, results.md and plots.",
        epilog=f"Parts: {parts_help()}.",
    )
    new.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    new.add_argument(
        "--only",
        default="",
        metavar="PATTERN",
        help="cases whose line, such as 'conv forward 8,64,56,64,3,1,1', has this regular expression",
    )
    new.add_argument(
        "--libraries",
        metavar="NAMES",
        help=f"comma-separated, of {', '.join(LIBRARIES)} (default: all that are there for the device)",
    )
    new.add_argument(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="cuda: fconv and im2col by CuPy beside PyTorch with cuDNN, on one GPU (default: %(default)s)",
    )
    new.add_argument("--rounds", type=_count, default=5, help="(default: %(default)s)")
    new.add_argument(
        "--seconds", type=float, default=0.4, help="least time of a library in a round (default: %(default)s)"
    )
    new.add_argument("--threads", type=_count, default=2, help="of each library (default: %(default)s)")
    new.add_argument(
        "--coretype",
        default="auto",
        metavar="NAME",
        help="OPENBLAS_CORETYPE of the libraries on NumPy; fconv without it is then timed too; "
        "none: leave it; auto: where OpenBLAS takes lesser kernels than the processor could run",
    )
    new.add_argument(
        "--timeout", type=float, default=600, help="seconds for one answer (default: %(default)g)"
    )
    new.add_argument(
        "--quick",
        action="store_true",
        help="small inputs, one short round: shows that everything runs, and nothing else",
    )
    new.add_argument(
        "--out",
        type=Path,
        default=Path("out/benchmarks"),
        metavar="DIR",
        help="where results go; parts that lie there already stay (default: %(default)s)",
    )
    new.add_argument(
        "--report", action="store_true", help="measure nothing: tables and plots of what lies in --out"
    )
    new.add_argument(
        "--docs", action="store_true", help="put tables and plots into docs/benchmarks.md as well"
    )
    return new  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 where something failed, 2 for arguments that cannot be."""
    arguments = sys.argv[1:] if arguments is None else arguments
    reader = parser()
    options = reader.parse_args(arguments)
    _check(reader, options)
    failed = False
    if not options.report:
        try:
            failed = _run(options, "python -m benchmarks " + shlex.join(_said(arguments)))
        except KeyboardInterrupt:
            print("benchmarks: interrupted; what was measured is kept", file=sys.stderr)
            failed = True
    return _show(options) or int(failed)


def _said(arguments: list[str]) -> list[str]:
    """Return the arguments without --out and its folder."""
    found = list(arguments)
    if "--out" in found:
        del found[found.index("--out") : found.index("--out") + 2]
    return [argument for argument in found if not argument.startswith("--out=")]


def _check(reader: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for part in options.parts:
        if part not in PARTS:
            reader.error(f"expected parts of {', '.join(PARTS)}, got {part}")
    known = [part for part in PARTS if options.device == "cpu" or part != "memory"]
    if unknown := [part for part in options.parts if part not in known]:
        reader.error(f"{unknown[0]}: measures the host's memory, not a GPU's")
    options.parts = [part for part in known if part in options.parts] or [
        part for part in known if part != "random"
    ]
    try:
        re.compile(options.only)
    except re.error as error:
        reader.error(f"--only: expected a regular expression, got {options.only!r}: {error}")
    able = [name for name, library in LIBRARIES.items() if options.device in library.devices]
    options.libraries = able if options.libraries is None else options.libraries.split(",")
    for name in options.libraries:
        if name not in able:
            reader.error(f"--libraries: expected names of {', '.join(able)}, got {name!r}")
    if options.quick:
        options.rounds, options.seconds = 1, 0.0


def _run(options: argparse.Namespace, command: str) -> bool:
    coretype = machine.better_coretype() if options.coretype == "auto" else options.coretype
    coretype = "" if coretype == "none" else coretype
    libraries = []
    for name in options.libraries:
        if find_spec(LIBRARIES[name].package) is None:
            print(f"benchmarks: {LIBRARIES[name].label} is not installed, and left out", file=sys.stderr)
        elif LIBRARIES[name].core or coretype:
            libraries.append(name)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {
        "threads": options.threads,
        "cpus": machine.cpus(options.threads),
        "coretype": coretype,
        "quick": options.quick,
        "device": options.device,
    }
    plan = Plan(
        libraries, options.rounds, options.seconds, options.timeout, options.only, options.quick,
        options.device, lambda text: print(text, file=sys.stderr, flush=True),
    )  # fmt: skip
    load = machine.load()
    if load and load[0] > 0.5:
        print(
            f"benchmarks: the machine is busy (load {load[0]}), the times will be too long", file=sys.stderr
        )
    failed = False
    with (options.out / "workers.log").open("w", encoding="utf-8") as log:
        team = Team(settings, log)
        try:
            header = {
                "command": command.rstrip(),
                "date": time.strftime("%Y-%m-%d"),
                "revision": _revision(),
                "quick": options.quick,
                "rounds": options.rounds,
                "seconds": options.seconds,
                "threads": options.threads,
                "coretype": coretype,
                "machine": machine.facts(),
                "libraries": _about(team, libraries, options.timeout),
            }
            if not libraries:
                print("benchmarks: there is nothing to measure", file=sys.stderr)
                return True
            for part in options.parts:

                def keep(records: list[dict[str, Any]], part: str = part) -> None:
                    results.write(options.out, part, {"header": header, "records": records})

                failed |= any("error" in record for record in measure(part, team, plan, keep))
        finally:
            team.close()
    if failed:
        print(f"benchmarks: something failed; see {options.out / 'workers.log'}", file=sys.stderr)
    return failed


def _about(team: Team, libraries: list[str], timeout: float) -> dict[str, Any]:
    found = {}
    for name in list(libraries):
        try:
            found[name] = team.ask(name, timeout, "about")
        except WorkerError as error:
            print(
                f"benchmarks: {LIBRARIES[name].label} does not start, and is left out: {error}",
                file=sys.stderr,
            )
            libraries.remove(name)
    return found


def _show(options: argparse.Namespace) -> int:
    from benchmarks import page, plots

    found = results.read(options.out)
    if not found:
        print(f"benchmarks: no results in {options.out}", file=sys.stderr)
        return 2
    files = {}
    if find_spec("matplotlib") is None:
        print("benchmarks: no plots, because matplotlib is not installed", file=sys.stderr)
    else:
        files = plots.draw(found, options.out)
    links = {part: file.name for part, file in files.items()}
    text = markdown(found, links)
    (options.out / "results.md").write_text(text, encoding="utf-8")
    print(text)
    if options.docs:
        try:
            page.fill(PAGE, found)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


def _revision() -> str:
    """Name the state of the sources."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "of unknown revision"
    return done.stdout.strip()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of 1 or more, got {text}")
    return int(text)
