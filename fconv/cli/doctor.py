"""fconv doctor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fconv.cli.printing import echo, plural, show_json, size

if TYPE_CHECKING:
    from fconv.tools.diagnosis import Advice, Diagnosis, Machine

# Of a hundred flags, those that matrix products and convolutions are written in.
_SHOWN = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimdhp", "asimddp", "sve",
    "sve2", "bf16", "i8mm",
)  # fmt: skip


_COMPILED_SHARE = "a half"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Report what this machine offers, what fconv uses of it, and what to change.

    A float32 matrix product is timed for half a second as things are, and again in a new process with
    each setting that could be better: the kernels of OpenBLAS where the processor has more than they
    use, and the number of threads. Advice is given for what gained a tenth or more, with its figures.
    """
    from fconv.tools.diagnosis import diagnose, examine

    machine = examine()
    found = diagnose(machine)
    if as_json:
        show_json({"machine": asdict(machine), "diagnosis": asdict(found)})
    else:
        _show(machine, found)


def report() -> None:
    """Print what this machine offers, what fconv uses of it, and what to change, as the command does.

    Takes one to three seconds, in which matrix products are timed.
    """
    from fconv.tools.diagnosis import diagnose, examine

    machine = examine()
    _show(machine, diagnose(machine))


def _show(machine: Machine, found: Diagnosis) -> None:
    for title, value in facts(machine, found):
        echo(f"{title:<16}{value}")
    echo("")
    for line in conclusions(found, machine):
        echo(line)


def facts(machine: Machine, found: Diagnosis) -> Iterator[tuple[str, str]]:
    """Return the lines about the machine: title and text."""
    yield "system", machine.system
    yield "python", machine.python
    yield "processor", machine.cpu
    names = {name.lower() for name in machine.features}
    yield "instructions", " ".join(name for name in _SHOWN if name in names) or "not known"
    limit = "" if machine.quota is None else f", {machine.quota:g} by the container's quota"
    yield "cores", f"{machine.cores}, {machine.allowed} allowed to this process{limit}"
    if machine.memory is not None:
        free = "" if machine.memory_available is None else f", {size(machine.memory_available)} available"
        yield "memory", f"{size(machine.memory)}{free}"
    for blas in machine.blas:
        kernels = f", {blas.kernels} kernels" if blas.kernels else ""
        threads = f", {plural(blas.threads, 'thread')}" if blas.threads else ""
        yield f"{blas.user} BLAS", f"{blas.library} {blas.version}{kernels}{threads}".strip()
    for name, value in machine.variables.items():
        yield "variable", f"{name}={value}"
    yield "packages", ", ".join(f"{name} {version}" for name, version in machine.packages.items() if version)
    yield "not installed", ", ".join(name for name, version in machine.packages.items() if not version) or "-"
    driver = f", the driver knows CUDA {machine.cuda_driver}" if machine.cuda_driver else ""
    yield "GPU", (", ".join(machine.gpus) or "none that CUDA's driver shows") + driver
    if machine.gpus and not machine.packages.get("cupy"):
        major = (machine.cuda_driver or "12").partition(".")[0]
        yield "", f"fconv uses it through CuPy, which is not installed (extra cuda{min(int(major), 13)})"
    yield "convolutions", "by NumPy" if machine.not_compiled else "compiled for this processor (llvmlite)"
    speed = "could not be measured" if found.speed is None else f"{found.speed:.0f} GFLOP/s"
    yield "float32 product", speed


def conclusions(found: Diagnosis, machine: Machine | None = None) -> Iterator[str]:
    """Return what to change, and what was tried in vain."""
    if machine is not None and machine.not_compiled:
        yield f"Convolutions are computed in NumPy: {machine.not_compiled}."
        yield f"  Compiled ones take about {_COMPILED_SHARE} of the time (docs/benchmarks.md)."
    if found.speed is None:
        yield "Nothing could be measured, so there is nothing to advise."
        return
    for advice in found.advice:
        yield f"To change, before Python starts ({advice.why}):"
        yield f"  {advice}"
    if not found.advice:
        yield "Nothing to change."
    for tried in found.tried:
        yield f"Tried, and not worth it ({tried.why}):"
        yield f"  {_figures(tried)}"


def _figures(tried: Advice) -> str:
    return f"{tried.variable}={tried.value}: {tried.before:.0f} -> {tried.after:.0f} GFLOP/s"
