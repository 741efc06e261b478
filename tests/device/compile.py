"""Compile every kernel for GPUs of the last years, where there is none.

    python -m tests.device.compile

Needs cupy-cuda12x and nvidia-cuda-nvrtc-cu12, and no GPU: NVRTC gives a binary, which cannot be run
here. A kernel that does not compile, or that is missing in the binary, ends this with an error.
"""

from __future__ import annotations

import re

from fconv.conv.kernels import SOURCE, TYPES

ARCHITECTURES = ("sm_80", "sm_90")


def main():
    """Compile, and say how large each binary is."""
    from cupy.cuda import nvrtc

    names = re.findall(r"__global__ void (\w+)", SOURCE)
    for architecture in ARCHITECTURES:
        for kind in TYPES.values():
            program = nvrtc.createProgram(SOURCE, "kernels.cu", (), ())
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
            print(f"{architecture}, {kind}: {len(names)} kernels, {len(binary)} bytes")


if __name__ == "__main__":
    main()
