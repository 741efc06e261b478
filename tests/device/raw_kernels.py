"""CUDA kernels compiled as C++ and run by the CPU, one thread after the other."""

from __future__ import annotations

import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np

_ON_THE_HOST = r"""
#define __global__
#define __device__
#define __shared__ static
struct Dim { unsigned x, y, z; };
static Dim blockIdx, threadIdx, blockDim, gridDim;
extern "C" void place(unsigned block, unsigned thread, unsigned blocks, unsigned threads) {
    blockIdx.x = block; threadIdx.x = thread; gridDim.x = blocks; blockDim.x = threads;
}
"""
_C_TYPES = {np.dtype(np.int32): "int", np.dtype(np.int64): "long long", np.dtype(np.float32): "float",
            np.dtype(np.float64): "double"}  # fmt: skip
_CTYPES = {"int": ctypes.c_int, "long long": ctypes.c_longlong, "float": ctypes.c_float,
           "double": ctypes.c_double}  # fmt: skip


_RUNNING = threading.Lock()  # where a kernel's thread stands is the library's own


def compiler():
    """Name a C++ compiler of this machine, if it has one."""
    return shutil.which("g++") or shutil.which("clang++")


@functools.lru_cache(maxsize=32)
def _compiled(code, options):
    folder = tempfile.mkdtemp()
    source, library = Path(folder) / "kernels.cpp", Path(folder) / "kernels.so"
    source.write_text(_ON_THE_HOST + code)
    command = [compiler(), "-shared", "-fPIC", "-O1", "-ffp-contract=off", "-Wall", "-Werror", *options]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


class RawModule:
    """Kernels, run by the CPU: three threads of two blocks, one after the other."""

    def __init__(self, *, code, options=()):
        self._library, self._code = _compiled(code, tuple(options)), code
        self._types = {"T": dict(option[2:].split("=") for option in options)["NUMBER"]}

    def get_function(self, name):
        declared = re.search(rf"__global__ void {name}\(([^)]*)\)", self._code)[1]
        sizes = re.search(r"#define SIZES (.*?)(?<!\\)\n", self._code, re.S)
        if sizes:
            declared = declared.replace("SIZES", sizes[1].replace("\\\n", " "))
        parameters = [" ".join(p.split()) for p in declared.split(",")]

        def run(grid, block, args):
            assert len(grid) == len(block) == 1
            assert 0 < grid[0] < 1 << 31
            assert 0 < block[0] <= 1024
            assert len(args) == len(parameters), (name, parameters, len(args))
            given = []
            for parameter, arg in zip(parameters, args, strict=True):
                kind, _ = parameter.rsplit(" ", 1)
                if "*" in parameter:
                    kind = parameter.split("*")[0].replace("const ", "").strip()
                    assert _C_TYPES[arg.dtype] == self._types.get(kind, kind), parameter
                    assert arg._host.flags.c_contiguous, parameter
                    given.append(ctypes.c_void_p(arg._host.ctypes.data))
                else:
                    assert _C_TYPES[np.dtype(type(arg))] == kind, parameter
                    given.append(_CTYPES[kind](arg))
            with _RUNNING:
                for at in range(6):
                    self._library.place(at // 3, at % 3, 2, 3)
                    self._library[name](*given)

        return run
