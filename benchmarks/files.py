"""Measure saving and loading a large tree, in time and in memory.

``python benchmarks/files.py [--gigabytes 1] [--folder .]``. Each operation runs in a process of its
own, five times in turn, and the median counts. Memory is what the process holds at most, above
what it held before.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np

import fconv as fc


def tree(gigabytes):
    side = 2048  # arrays of 16 MiB
    return {
        f"w{i}": np.full((side, side), i, np.float32)
        for i in range(int(gigabytes * 2**30) // (4 * side * side))
    }


def measure(what, path, gigabytes):
    """Run one operation and print seconds and megabytes."""
    params = tree(gigabytes) if what in ("save", "write", "safetensors") else None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    if what == "save":
        fc.save(path, params)
    elif what == "write":  # the bytes alone: what the disk takes
        with open(path, "wb") as file:
            for x in params.values():
                file.write(x.data)
            file.flush()
            os.fsync(file.fileno())
    elif what == "safetensors":
        from safetensors.numpy import save_file

        save_file(params, path)
    elif what == "crc32":
        with open(path, "rb") as file:
            data = file.read()
        began = time.perf_counter()
        zlib.crc32(data)
    elif what == "map":
        fc.load(path)
    elif what == "map and touch":
        for x in fc.load(path).values():
            x.sum()
    elif what == "read":
        fc.load(path, mmap=False)
    seconds = time.perf_counter() - began
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.measure:
        measure(*flags.measure, flags.gigabytes)
        return
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
        ours, archive = "x.safetensors", "x.npz"
        jobs = [
            *(("write", "raw"), ("safetensors", "other.safetensors"), ("save", ours), ("save", archive)),
            *(("crc32", ours), ("map", ours), ("map and touch", ours), ("read", ours)),
            *(("map", archive), ("read", archive)),
        ]
        found = {job: [] for job in jobs}
        for _ in range(5):
            for what, name in jobs:
                command = [sys.executable, __file__, "--gigabytes", str(flags.gigabytes), "--measure", what]
                done = subprocess.run(
                    [*command, os.path.join(folder, name)], capture_output=True, text=True, check=True
                )
                found[what, name].append([float(text) for text in done.stdout.split()])
        for (what, name), values in found.items():
            seconds, megabytes = (statistics.median(column) for column in zip(*values, strict=True))
            rate = flags.gigabytes * 1.0737 / seconds
            print(f"{what:14} {name:18} {1e3 * seconds:8.1f} ms {rate:8.2f} GB/s {megabytes:7.0f} MB more")


if __name__ == "__main__":
    main()
