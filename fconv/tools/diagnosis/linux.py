"""Facts that Linux publishes in files; nothing where there are no such files."""

from __future__ import annotations

import os
from pathlib import Path

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def cpu_name(proc: Path | None = None) -> str:
    """Return the processor's name."""
    return _cpuinfo(proc).get("model name", "")


def cpu_flags(proc: Path | None = None) -> tuple[str, ...]:
    """Return the instruction sets."""
    info = _cpuinfo(proc)
    return tuple((info.get("flags") or info.get("Features") or "").split())


def _cpuinfo(proc: Path | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _text((proc or PROC) / "cpuinfo").splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found


def memory(proc: Path | None = None, cgroup: Path | None = None) -> tuple[int | None, int | None]:
    """Return the memory and what is free of it, in bytes, within a container's limit."""
    lines = dict(line.partition(":")[::2] for line in _text((proc or PROC) / "meminfo").splitlines())
    total, available = (_kilobytes(lines.get(key, "")) for key in ("MemTotal", "MemAvailable"))
    for folder in _groups(proc, cgroup):
        limit, used = (_text(folder / name).strip() for name in ("memory.max", "memory.current"))
        if limit.isdigit() and total is not None and int(limit) < total:
            total = int(limit)
            if used.isdigit() and available is not None:
                available = min(available, max(0, total - int(used)))
    return total, available


def _kilobytes(text: str) -> int | None:
    number = text.split()[:1]
    return int(number[0]) * 1024 if number and number[0].isdigit() else None


def cpu_quota(proc: Path | None = None, cgroup: Path | None = None) -> float | None:
    """Return how many processors' time a container allows; None without a limit."""
    quotas = []
    for folder in _groups(proc, cgroup):
        numbers = _text(folder / "cpu.max").split()
        if len(numbers) == 2 and numbers[0].isdigit() and int(numbers[1]):
            quotas.append(int(numbers[0]) / int(numbers[1]))
    old = [_text((cgroup or CGROUP) / "cpu" / f"cpu.cfs_{what}_us").strip() for what in ("quota", "period")]
    if all(text.isdigit() for text in old) and int(old[1]):
        quotas.append(int(old[0]) / int(old[1]))
    return min(quotas, default=None)


def _groups(proc: Path | None, cgroup: Path | None) -> list[Path]:
    """List the control group of this process and those around it: each may set a limit."""
    root = cgroup or CGROUP
    own = next(
        (line[3:] for line in _text((proc or PROC) / "self" / "cgroup").splitlines() if line[:3] == "0::"),
        "/",
    )
    parts = [part for part in own.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]


def _text(path: os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
