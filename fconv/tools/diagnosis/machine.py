"""The facts: processor, memory, libraries, settings."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from math import ceil
from typing import Any

from fconv.engine import compiled
from fconv.tools.diagnosis import linux

THREAD_VARIABLES = {
    "openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS", "blis": "BLIS_NUM_THREADS",
    "accelerate": "VECLIB_MAXIMUM_THREADS",
}  # fmt: skip
_VARIABLES = (
    *THREAD_VARIABLES.values(), "OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "GOTO_NUM_THREADS", "MKL_CBWR",
    "CUDA_VISIBLE_DEVICES", "PYTHON_GIL",
)  # fmt: skip
_PACKAGES = ("numpy", "scipy", "opt-einsum", "threadpoolctl", "llvmlite", "torch", "onnx", "pillow", "mpi4py")


@dataclass(frozen=True)
class Blas:
    """A library for matrix products.

    Attributes
    ----------
    user : str
        Whose it is: ``"numpy"``, ``"scipy"``, or another library's.
    library, version : str
        For instance ``"openblas"`` and ``"0.3.30"``.
    kernels : str
        The processor that it thinks it runs on, for instance ``"Haswell"``; empty where it does not tell.
    threads : int
        How many it uses; 0 where it does not tell.
    """

    user: str
    library: str
    version: str
    kernels: str
    threads: int


@dataclass(frozen=True)
class Machine:
    """Result of `examine`.

    Attributes
    ----------
    system, python, cpu : str
        Names and versions.
    features : tuple of str
        Instruction sets, as Linux names them (``"avx2"``, ``"avx512f"``).
    cores : int
        Logical processors of the machine.
    allowed : int
        Those that this process may run on.
    quota : float or None
        How many processors' time a container allows, None without a limit.
    memory, memory_available : int or None
        In bytes; a container's limit where there is a lower one.
    packages : dict
        Versions by name of package, None where it is not installed.
    blas : tuple of Blas
        NumPy's, SciPy's and others that they load.
    variables : dict
        Environment variables that these libraries heed, where they are set.
    gpus : tuple of str
        Names of the CUDA devices.
    cuda_driver : str or None
        The newest CUDA that the driver knows.
    not_compiled : str or None
        Why convolutions on the CPU are computed in NumPy; None where they are compiled.
    """

    system: str
    python: str
    cpu: str
    features: tuple[str, ...]
    cores: int
    allowed: int
    quota: float | None = None
    memory: int | None = None
    memory_available: int | None = None
    packages: Mapping[str, str | None] = field(default_factory=dict)
    blas: tuple[Blas, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    cuda_driver: str | None = None
    not_compiled: str | None = None

    @property
    def usable(self) -> int:
        """Count the threads that can run at once: the processors allowed, within the quota."""
        return self.allowed if self.quota is None else max(1, min(self.allowed, ceil(self.quota)))

    @property
    def numpy_blas(self) -> Blas | None:
        """The library behind NumPy's matrix products."""
        return next((blas for blas in self.blas if "numpy" in blas.user), None)


def examine() -> Machine:
    """Look at this machine, in about a tenth of a second.

    Nothing is measured, and PyTorch and CuPy are not imported.

    Returns
    -------
    Machine
        The facts. Fields that the system does not report are empty.
    """
    gpus, driver = cuda_devices()
    total, available = linux.memory()
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cpu=linux.cpu_name() or platform.processor() or platform.machine(),
        features=linux.cpu_flags() or _numpy_features(),
        cores=os.cpu_count() or 1,
        allowed=allowed,
        quota=linux.cpu_quota(),
        memory=total,
        memory_available=available,
        packages=versions(),
        blas=loaded_blas(),
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        gpus=gpus,
        cuda_driver=driver,
        not_compiled=compiled.problem() if compiled.wished() else "FCONV_JIT=0 forbids it",
    )


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that fconv can use, without importing them."""
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    # CuPy's package is named after the CUDA that it is made for.
    cupy = [d for d in metadata.distributions() if (d.metadata["Name"] or "").lower().startswith("cupy")]
    found["cupy"] = f"{cupy[0].version} ({cupy[0].metadata['Name']})" if cupy else None
    return found


def loaded_blas() -> tuple[Blas, ...]:
    """List the matrix libraries that NumPy and SciPy load."""
    import numpy as np
    from threadpoolctl import threadpool_info

    import_module("scipy.linalg.blas")  # loads SciPy's
    found = [
        Blas(
            user=_user(entry["filepath"]),
            library=entry["internal_api"],
            version=entry["version"] or "",
            kernels=entry.get("architecture") or "",
            threads=entry["num_threads"],
        )
        for entry in threadpool_info()
        if entry["user_api"] == "blas"
    ]
    if any("numpy" in blas.user for blas in found):
        return tuple(sorted(found, key=lambda blas: blas.user))
    if len(found) == 1:  # a library of the system, which both use
        return (Blas("numpy, scipy", *_fields(found[0])[1:]),)
    build = np.__config__.CONFIG.get("Build Dependencies", {}).get("blas", {})
    own = Blas("numpy", str(build.get("name", "unknown")), str(build.get("version", "")), "", 0)
    return (own, *found)


def _fields(blas: Blas) -> tuple[Any, ...]:
    return (blas.user, blas.library, blas.version, blas.kernels, blas.threads)


def _user(path: str) -> str:
    folders = os.path.normpath(path).split(os.sep)[:-1]
    for package in ("numpy", "scipy"):
        if any(folder in (package, f"{package}.libs", f".{package}") for folder in folders):
            return package
    return os.path.basename(path)


def _numpy_features() -> tuple[str, ...]:
    """Ask NumPy what the processor has, where there is no /proc/cpuinfo."""
    known = getattr(import_module("numpy._core._multiarray_umath"), "__cpu_features__", {})
    return tuple(sorted(name.lower() for name, present in known.items() if present))


def cuda_devices() -> tuple[tuple[str, ...], str | None]:
    """Ask NVIDIA's driver for its devices and its CUDA version, without CuPy."""
    name = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
        version, count = ctypes.c_int(), ctypes.c_int()
        if driver.cuInit(0) or driver.cuDriverGetVersion(ctypes.byref(version)):
            return (), None
        driver.cuDeviceGetCount(ctypes.byref(count))
        names = []
        for i in range(count.value):
            text = ctypes.create_string_buffer(100)
            driver.cuDeviceGetName(text, 100, i)
            names.append(text.value.decode(errors="replace"))
    except (OSError, AttributeError):
        return (), None
    return tuple(names), f"{version.value // 1000}.{version.value % 1000 // 10}"
