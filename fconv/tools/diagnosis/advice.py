"""Advice on what to change, each with the figures behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fconv.tools.diagnosis.machine import THREAD_VARIABLES, Blas, Machine
from fconv.tools.diagnosis.speed import speed_with

Measure = Callable[[Mapping[str, str]], float | None]

WORTHWHILE = 1.1
"""A gain below a tenth is within what two measurements differ by."""

# OpenBLAS's names for the processors whose kernels it has, by the vectors that they use.
_BELOW_AVX2 = (
    "katmai", "coppermine", "northwood", "prescott", "banias", "core2", "penryn", "dunnington", "nehalem",
    "atom", "athlon", "opteron", "opteron_sse3", "barcelona", "bobcat", "nano", "sandybridge", "bulldozer",
    "piledriver", "steamroller",
)  # fmt: skip
_AVX2 = ("haswell", "zen", "excavator")
_NEEDS_AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


@dataclass(frozen=True)
class Advice:
    """A change, and the speed of the float32 matrix product before and after it, in GFLOP/s."""

    variable: str
    value: str
    why: str
    before: float
    after: float

    def __str__(self) -> str:
        return f"export {self.variable}={self.value}: {self.before:.0f} -> {self.after:.0f} GFLOP/s"


@dataclass(frozen=True)
class Diagnosis:
    """Result of `diagnose`.

    Attributes
    ----------
    speed : float or None
        Of the float32 matrix product as things are, in GFLOP/s; None where it could not be measured.
    advice : tuple of Advice
        Changes that gained a tenth or more when they were tried.
    tried : tuple of Advice
        Changes that were tried and gained less.
    """

    speed: float | None
    advice: tuple[Advice, ...]
    tried: tuple[Advice, ...]


def diagnose(machine: Machine, measure: Measure = speed_with) -> Diagnosis:
    """Measure the matrix product with the current settings, and with each setting that could be faster.

    Parameters
    ----------
    machine : Machine
        From `examine`.
    measure : callable
        Gives the speed with environment variables set, in GFLOP/s, or None.

    Returns
    -------
    Diagnosis
        About half a second for each measurement, of which there are at most four.

    Examples
    --------
    >>> machine = Machine(
    ...     "Linux", "3.11", "Xeon", ("avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl"), 2, 2,
    ...     blas=(Blas("numpy", "openblas", "0.3.30", "Haswell", 2),),
    ... )
    >>> print(*diagnose(machine, lambda variables: 430.0 if variables else 220.0).advice)
    export OPENBLAS_CORETYPE=SkylakeX: 220 -> 430 GFLOP/s
    """
    speed = measure({})
    if speed is None:
        return Diagnosis(None, (), ())
    results = []
    for variable, value, why in candidates(machine):
        after = measure({variable: value})
        if after is not None:
            results.append(Advice(variable, value, why, speed, after))
    if any(result.after >= WORTHWHILE * speed for result in results):
        # What is slow for a moment looks like a gain afterwards: the first measurement is repeated.
        speed = max(speed, measure({}) or 0.0)
        results = [Advice(r.variable, r.value, r.why, speed, r.after) for r in results]
    good = tuple(r for r in results if r.after >= WORTHWHILE * speed)
    return Diagnosis(speed, good, tuple(r for r in results if r not in good))


def candidates(machine: Machine) -> list[tuple[str, str, str]]:
    """List the settings worth trying: variable, value and the reason."""
    blas = machine.numpy_blas
    if blas is None:
        return []
    found = []
    if blas.library == "openblas" and (better := better_kernels(blas, machine.features)):
        why = f"OpenBLAS runs its {blas.kernels} kernels, and the processor has what {better} needs"
        found.append(("OPENBLAS_CORETYPE", better, why))
    variable = THREAD_VARIABLES.get(blas.library)
    if variable and blas.threads and blas.threads != machine.usable:
        few = "more than can run at once" if blas.threads > machine.usable else "fewer than could"
        many = "1 thread" if blas.threads == 1 else f"{blas.threads} threads"
        why = f"BLAS uses {many}, {few} ({machine.usable})"
        found.append((variable, str(machine.usable), why))
    return found


def better_kernels(blas: Blas, features: tuple[str, ...]) -> str | None:
    """Name the kernels of OpenBLAS that the processor could run and that are wider than those it runs."""
    names = {name.lower() for name in features}
    kernels = blas.kernels.lower()
    if names >= _NEEDS_AVX512 and kernels in (*_BELOW_AVX2, *_AVX2):
        return "SkylakeX"
    if {"avx2", "fma"} <= names and kernels in _BELOW_AVX2:
        return "Haswell"
    return None
