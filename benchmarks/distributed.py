"""Data-parallel training: what it costs here, and a model of what it costs on many machines.

``python -m benchmarks.distributed speed``      two ranks of one thread beside one process of two
``python -m benchmarks.distributed constants``  latency and bandwidth between two ranks
``python -m benchmarks.distributed overlap``    the same steps with communication delayed
``python -m benchmarks.distributed simulate``   steps of 2 to 4,096 ranks: a table and a plot
``python -m benchmarks.distributed check``      what the model predicts for two ranks, and what they take
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
LARGE = 1 << 40
CASES = {  # network, batch, classes (None: pictures)
    "resnet20": ("resnet20", (64, 3, 32, 32), 10),
    "noise2noise": ("noise2noise", (64, 3, 32, 32), None),
    "noise2noise_strided": ("noise2noise_strided", (64, 3, 32, 32), None),
    "noise2noise_shallow": ("noise2noise_shallow", (64, 3, 32, 32), None),
}


# What is measured


def worker(args: argparse.Namespace) -> None:
    """Take steps on every rank; the first one prints the seconds of each."""
    import fconv as fc
    from fconv import distributed

    fc.set_num_threads(args.threads)
    comm = distributed.communicator()
    exchange = comm.world.sendrecv
    if os.sched_getscheduler(0) == os.SCHED_RR:
        # Under `chrt -r 10`, on a busy machine, a thread that wakes up waits for one of its own priority.
        priority = os.sched_param(os.sched_getparam(0).sched_priority + 1)
        comm.world.call(
            lambda: os.sched_setscheduler(threading.get_native_id(), os.SCHED_RR, priority)
        ).result()

    def delayed(out: Any, to: int, into: Any, source: int) -> None:
        sent = max(0 if each is None else each.nbytes for each in (out, into))
        time.sleep(args.latency + sent / args.bandwidth)
        exchange(out, to, into, source)

    if args.latency or args.bandwidth < float("inf"):
        comm.world.sendrecv = delayed  # type: ignore[method-assign]
    name, shape, classes = CASES[args.case]
    net = getattr(fc.models, name)()
    if args.half:
        shape = (shape[0] // 2, *shape[1:])
    x = fc.random.normal(fc.random.key(1), shape)
    target = x if classes is None else np.arange(shape[0]) % classes
    loss = fc.mse_loss() if classes is None else fc.cross_entropy_loss()
    opt = fc.sgd(0.01, momentum=0.9)
    params = net.init(fc.random.key(0), shape)
    state = opt.init(params)
    if comm.size == 1 and not args.shards:
        f = fc.value_and_grad(net, loss)
    else:
        f = distributed.value_and_grad(net, loss, comm, args.shards, bucket_bytes=args.bucket)
    seconds = []
    for step in range(args.warm + args.steps):
        comm.barrier()
        begun = time.perf_counter()
        _, grads, params = f(params, x, target, key=fc.random.fold_in(fc.random.key(2), step))
        params, state = opt.step(params, grads, state)
        seconds.append(time.perf_counter() - begun)
    if comm.rank == 0:
        print(json.dumps(seconds[args.warm :]))


def measured(ranks: int, threads: int, case: str, mpiexec: str | None = None, **options: Any) -> list[float]:
    """Run `worker` on so many ranks."""
    from fconv.distributed.launching import find_mpiexec

    starter = shlex.split(mpiexec) if mpiexec else find_mpiexec()
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    script = ["-m", "benchmarks.distributed", "worker", "--case", case, "--threads", str(threads), *flags]
    command = [*starter, "-n", str(ranks), sys.executable, *script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def speed(args: argparse.Namespace) -> None:
    """Print the medians of both, measured in turn."""
    for case in args.cases:
        one: list[float] = []
        two: list[float] = []
        for _ in range(args.rounds):
            one += measured(1, 2, case, steps=args.steps)
            two += measured(2, 1, case, steps=args.steps)
        a, b = statistics.median(one), statistics.median(two)
        print(f"{case:22} 1 process x 2 threads {1e3 * a:7.1f} ms, 2 ranks x 1 thread {1e3 * b:7.1f} ms, "
              f"{b / a:.2f} times; least {1e3 * min(one):.1f}, {1e3 * min(two):.1f}", flush=True)  # fmt: skip


def overlap(args: argparse.Namespace) -> None:
    """Print steps of two ranks with slowed exchanges: sent in buckets as they come, and all at the end."""
    for case in args.cases:
        plain = statistics.median(measured(2, 1, case, steps=args.steps))
        for megabytes in args.megabytes:
            slowed = {"steps": args.steps, "latency": 2e-4, "bandwidth": megabytes * 1e6}
            found = {
                name: statistics.median(measured(2, 1, case, bucket=size, **slowed))
                for name, size in (("overlapped", args.bucket), ("at the end", LARGE))
            }
            both = ", ".join(f"{name} {1e3 * s:.1f} ms" for name, s in found.items())
            print(f"{case:22} not slowed {1e3 * plain:.1f} ms; {megabytes:g} MB/s: {both}", flush=True)


def pingpong(args: argparse.Namespace) -> None:
    """Measure exchanges of two ranks; the first one prints the seconds by bytes."""
    from fconv import distributed

    comm = distributed.communicator()
    found = {}
    for size in (8, 1 << 12, 1 << 16, 1 << 20, 1 << 23):
        out, into = np.zeros(size, np.uint8), np.zeros(size, np.uint8)

        def work(out: Any = out, into: Any = into) -> list[float]:
            times = []
            for _ in range(args.steps):
                begun = time.perf_counter()
                comm.world.sendrecv(out, 1 - comm.rank, into, 1 - comm.rank)
                times.append(time.perf_counter() - begun)
            return times

        found[size] = statistics.median(comm.world.call(work).result())
    if comm.rank == 0:
        print(json.dumps(found))


def constants(args: argparse.Namespace) -> None:
    """Print latency and bandwidth between two ranks."""
    from fconv.distributed.launching import find_mpiexec

    starter = shlex.split(args.mpiexec) if args.mpiexec else find_mpiexec()
    command = [*starter, "-n", "2", sys.executable, "-m", "benchmarks.distributed", "pingpong"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    found = {int(size): seconds for size, seconds in json.loads(done.stdout.splitlines()[-1]).items()}
    for size, seconds in found.items():
        print(f"{size:>9} bytes: {1e6 * seconds:9.1f} us, {size / seconds / 1e9:.3f} GB/s")


# What is predicted


class Link(NamedTuple):
    """Connection of the ranks: seconds until a message begins to arrive, and bytes a second."""

    name: str
    latency: float
    bandwidth: float


LINKS = (
    Link("10 Gbit/s Ethernet", 30e-6, 0.9 * 10e9 / 8),
    Link("100 Gbit/s Ethernet", 10e-6, 0.9 * 100e9 / 8),
    Link("InfiniBand EDR", 2e-6, 0.95 * 100e9 / 8),
)
RATE = 2.6e12
"""Multiply-adds a second of one GPU: ResNet-50 on a P100, 32 pictures in about 0.15 s."""
ADDS = 2e11  # bytes a second that a GPU adds, three passes over its memory
VARIATION = 0.01  # standard deviation of a rank's time of a step, relative
RANKS = tuple(2**k for k in range(1, 13))
NETWORKS = {
    "resnet18": ((3, 224, 224), 32),
    "resnet50": ((3, 224, 224), 32),
    "unet": ((3, 256, 256), 8),
}


class Network(NamedTuple):
    """The layers from the back: their shares of the backward pass, and the bytes of their gradients."""

    layers: list[tuple[float, int]]
    seconds: float  # of a step on one rank


def network(name: str, shape: tuple[int, ...], batch: int, seconds: float | None = None) -> Network:
    """Describe a network of so many seconds, or at `RATE`: forward once and backward twice."""
    import contextlib
    import io

    import fconv as fc

    with contextlib.redirect_stdout(io.StringIO()):
        rows = fc.summary(getattr(fc.models, name)(), (1, *shape)).rows
    inner = [row for row in rows if not row.network]
    work = sum(row.multiply_adds for row in inner)
    layers = [(row.multiply_adds / work, 4 * row.params) for row in reversed(inner)]
    return Network(layers, 3 * batch * work / RATE if seconds is None else seconds)


def all_reduce_seconds(count: int, ranks: int, link: Link) -> float:
    """Return the time of halving and doubling: latencies, bytes over the link, and additions."""
    rounds = ranks.bit_length() - 1
    moved = count * (1 - 1 / ranks)
    return 2 * rounds * link.latency + 2 * moved / link.bandwidth + moved / ADDS


def step_seconds(
    net: Network, ranks: int, link: Link, bucket: int, overlapped: bool = True, variation: float = VARIATION
) -> float:
    """Predict a step: buckets are sent one after the other, each when its last gradient is there.

    All ranks begin together, and the slowest of them, of times with a normal distribution, is waited for.
    """
    compute = net.seconds * (1 + variation * float(np.sqrt(2 * np.log(ranks))))
    now, filled, free = compute / 3, 0, 0.0
    for share, count in net.layers:
        now += 2 / 3 * compute * share
        filled += count
        if filled >= bucket and overlapped:
            free = max(free, now) + all_reduce_seconds(filled, ranks, link)
            filled = 0
    free = max(free, now) + all_reduce_seconds(filled, ranks, link)
    return free + all_reduce_seconds(8, ranks, link)


def simulate(args: argparse.Namespace) -> None:
    """Print and plot the efficiency: the time of one rank's step over that of many."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, len(NETWORKS), figsize=(12, 4), sharey=True, layout="constrained")
    for axes, name in zip(grid, NETWORKS, strict=True):
        net = network(name, *NETWORKS[name])
        size = sum(count for _, count in net.layers)
        print(f"\n{name}: {size / 1e6:.1f} MB of gradients, {1e3 * net.seconds:.0f} ms a step alone")
        print("| ranks | " + " | ".join(link.name for link in LINKS) + " | without overlap, the same |")
        print("|---|" + "---|" * (len(LINKS) + 1))
        for ranks in RANKS:
            steps = [step_seconds(net, ranks, link, args.bucket) for link in LINKS]
            late = [step_seconds(net, ranks, link, args.bucket, False) for link in LINKS]
            shown = " | ".join(f"{1e3 * s:.0f} ms, {100 * net.seconds / s:.0f} %" for s in steps)
            print(f"| {ranks} | {shown} | {', '.join(f'{100 * net.seconds / s:.0f} %' for s in late)} |")
        for link in LINKS:
            values = [100 * net.seconds / step_seconds(net, n, link, args.bucket) for n in RANKS]
            (line,) = axes.plot(RANKS, values, marker="o", markersize=3, label=link.name)
            late = [100 * net.seconds / step_seconds(net, n, link, args.bucket, False) for n in RANKS]
            axes.plot(RANKS, late, linestyle=":", color=line.get_color())
        if name == "resnet50":
            axes.plot([128], [90], "k*", label="ChainerMN, 128 GPUs, InfiniBand")
        axes.set(title=f"{name}, {NETWORKS[name][1]} pictures a rank", xlabel="ranks", ylim=(0, 103))
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("efficiency, percent (dotted: no overlap)")
    grid[1].legend(fontsize=8, loc="lower left")
    if args.out:
        figure.savefig(args.out, dpi=110)


def check(args: argparse.Namespace) -> None:
    """Print what two ranks take and what the model says, from the time of one rank on half of the batch."""
    link = Link("measured", args.latency, args.bandwidth)
    for case in args.cases:
        name, shape, _ = CASES[case]
        alone = statistics.median(measured(1, 1, case, steps=args.steps, half=1))
        net = network(name, shape[1:], shape[0] // 2, alone)
        size = sum(count for _, count in net.layers)
        print(f"{case}: {size / 1e6:.1f} MB of gradients, {1e3 * alone:.0f} ms a step alone")
        for way, bucket in (("overlapped", args.bucket), ("at the end", LARGE)):
            took = statistics.median(measured(2, 1, case, args.mpiexec, steps=args.steps, bucket=bucket))
            said = step_seconds(net, 2, link, bucket, bucket != LARGE, variation=0.0)
            print(f"  {way}: predicted {1e3 * said:.0f} ms, measured {1e3 * took:.0f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (speed, constants, overlap, simulate, check, worker, pingpong):
        command = commands.add_parser(function.__name__, help=(function.__doc__ or "").split("\n")[0])
        command.set_defaults(function=function)
        command.add_argument("--steps", type=int, default=20)
        command.add_argument("--bucket", type=int, default=1 << 20, help="bytes of a bucket")
        if function in (speed, overlap, check):
            command.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
            command.add_argument("--rounds", type=int, default=2)
            command.add_argument("--megabytes", type=float, nargs="+", default=[50.0, 20.0], help="a second")
        if function in (constants, check):
            command.add_argument("--mpiexec", help="such as 'mpiexec -hosts a,b'")
        if function is check:
            command.add_argument("--latency", type=float, required=True, help="seconds, from constants")
            command.add_argument(
                "--bandwidth", type=float, required=True, help="bytes a second, from constants"
            )
        if function is simulate:
            command.add_argument("--out", help="file of the plot")
        if function is worker:
            command.add_argument("--case", choices=CASES, required=True)
            command.add_argument("--threads", type=int, default=1)
            command.add_argument("--warm", type=int, default=3)
            command.add_argument("--shards", type=int)
            command.add_argument("--half", type=int, default=0, help="take half of the batch")
            command.add_argument("--latency", type=float, default=0.0)
            command.add_argument("--bandwidth", type=float, default=float("inf"))
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
