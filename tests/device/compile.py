"""Compile every kernel for GPUs of the last years, where there is none.

    python -m tests.device.compile

Needs cupy-cuda12x and nvidia-cuda-nvrtc-cu12, and no GPU: NVRTC gives a binary, which cannot be run
here. A kernel that does not compile, or that is missing in the binary, ends this with an error.
"""

from __future__ import annotations

import itertools
import re

from fconv.engine.cuda import kernels
from fconv.engine.cuda.launch import COMMON, TYPES
from fconv.functional import channel_passes_gpu, pooling_gpu

ARCHITECTURES = ("sm_80", "sm_90")
MODULES = (kernels, pooling_gpu, channel_passes_gpu)


def main():
    """Compile, and say how large each binary is."""
    from cupy.cuda import nvrtc

    for architecture in ARCHITECTURES:
        for kind, module in itertools.product(TYPES.values(), MODULES):
            names = re.findall(r"__global__ void (\w+)", module.SOURCE)
            program = nvrtc.createProgram(COMMON + module.SOURCE, "kernels.cu", (), ())
            options = (f"-DNUMBER={kind}", f"--gpu-architecture={architecture}")
            try:
                nvrtc.compileProgram(program, options)
            except nvrtc.NVRTCError:
                print(nvrtc.getProgramLog(program))
                raise
            if log := nvrtc.getProgramLog(program).strip():
                raise SystemExit(f"warnings: {log}")
            binary = nvrtc.getCUBIN(program)
            missing = [name for name in names if name.encode() not in binary]
            assert not missing, missing
            print(f"{architecture}, {kind}: {', '.join(names)}, {len(binary)} bytes")


if __name__ == "__main__":
    main()
