"""Train the same networks in fconv and in PyTorch, from the same weights on the same batches.

Each run is a process of its own, the two libraries in turn. The networks of Noise2Noise learn on
crops of 32x32 of photographs (PSNR of pictures not trained on); the notebook's four convolutions
learn Fashion-MNIST for five epochs (share of the test pictures read correctly). Dropout's masks are
each library's own. Adam, with a rate that rises and falls. Prints a table, and writes it with all
figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
DENOISERS = ("report1", "report2", "shallow", "unet")
LIBRARIES = ("fconv", "torch")


class Task(NamedTuple):
    """A network, its first parameters, loss, schedule, batches, and how good parameters are."""

    net: Any
    params: Any
    loss: str
    schedule: Callable[[int], float]
    batches: Iterator[tuple[Any, Any]]
    steps: int
    measure: Callable[[Any], float]


def task(name: str, seed: int, args: argparse.Namespace) -> Task:
    """Make a task out of what the examples are made of."""
    sys.path.insert(0, str(ROOT / "examples"))
    import fconv as fc

    if name == "notebook":
        import digits

        flags = digits.arguments(
            ["--network", "notebook", "--epochs", str(args.epochs), "--seed", str(seed), "--batch-size", "64"]
        )
        data = digits.load_data(args.fashion)
        net, shape = digits.notebook(10), data.train_x[:64].shape
        steps = args.epochs * digits.steps_of_epoch(data, flags)

        def share(params: Any) -> float:
            return float(np.mean(digits.predict(net, params, data.test_x, "cpu") == data.test_t))

        batches, measure, loss, lr = digits.shuffled(data, flags)(0), share, "nll", 1e-3
    else:
        import noise2noise
        from support import pictures

        flags = noise2noise.arguments(
            ["--network", name, "--steps", str(args.steps), "--seed", str(seed),
             "--batch-size", "16", "--crop", "32"]
        )  # fmt: skip
        photos = pictures.photographs(None, 32)
        noise = fc.data.gaussian_noise
        test = noise2noise.held_out(photos.test, noise, flags.level)
        net, shape, steps = noise2noise.NETWORKS[name](), (16, 3, 32, 32), args.steps

        def psnr(params: Any) -> float:
            return noise2noise.mean_psnr([(noise2noise.denoised(net, params, y, "cpu"), x) for x, y in test])

        batches, measure, loss, lr = noise2noise.noisy_pairs(photos.train, noise, flags)(0), psnr, "mse", 2e-3
    from support.training import warm_up_and_cosine

    params = net.init(fc.random.key(seed), shape)
    return Task(net, params, loss, warm_up_and_cosine(lr, steps), batches, steps, measure)


def in_fconv(it: Task) -> tuple[Any, list[float]]:
    """Train; give the parameters and the seconds of each step."""
    import fconv as fc

    opt = fc.adam(lr=it.schedule)
    step = fc.train_step(it.net, fc.mse_loss() if it.loss == "mse" else fc.nll_loss(), opt)
    state = fc.TrainState(it.params, opt.init(it.params), fc.random.key(1), 0)
    seconds = []
    for x, target in it.batches:
        start = time.perf_counter()
        state, metrics = step(state, x, target)
        float(metrics["loss"])
        seconds.append(time.perf_counter() - start)
    return state.params, seconds


def in_torch(it: Task, seed: int) -> tuple[Any, list[float]]:
    """Train the exported network; give the parameters as fconv's, and the seconds of each step."""
    import torch

    import fconv as fc

    torch.set_num_threads(fc.get_num_threads())
    torch.manual_seed(seed)
    module = fc.to_torch_module(it.net, it.params)
    loss = torch.nn.MSELoss() if it.loss == "mse" else torch.nn.NLLLoss()
    opt = torch.optim.Adam(module.parameters())
    seconds = []
    for number, (x, target) in enumerate(it.batches):
        start = time.perf_counter()
        for group in opt.param_groups:
            group["lr"] = it.schedule(number)
        opt.zero_grad()
        value = loss(module(torch.from_numpy(x)), torch.from_numpy(target))
        value.backward()
        opt.step()
        value.item()
        seconds.append(time.perf_counter() - start)
    return fc.from_state_dict(it.params, module.state_dict()), seconds


def work(name: str, seed: int, library: str, args: argparse.Namespace) -> None:
    """Do one run and print what came of it."""
    it = task(name, seed, args)
    params, seconds = in_fconv(it) if library == "fconv" else in_torch(it, seed)
    print(json.dumps({"score": it.measure(params), "milliseconds": 1e3 * statistics.median(seconds)}))


def table(found: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Write the means over seeds, and the times of a step."""
    lines = [
        "| network | fconv | PyTorch | difference | step, fconv | step, PyTorch |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for name, runs in found.items():
        scores = [statistics.mean(run["score"] for run in runs[library]) for library in LIBRARIES]
        times = [statistics.median(run["milliseconds"] for run in runs[library]) for library in LIBRARIES]
        share = name == "notebook"
        shown = [f"{100 * s:.2f} %" if share else f"{s:.2f} dB" for s in scores]
        apart = (
            f"{100 * (scores[0] - scores[1]):+.2f} points" if share else f"{scores[0] - scores[1]:+.3f} dB"
        )
        cells = [name, *shown, apart, *(f"{t:.1f} ms" for t in times)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run every network with every seed in both libraries."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add(
        "networks",
        nargs="*",
        metavar="NETWORK",
        help=f"{', '.join(DENOISERS)}, notebook (default: the first three)",
    )
    add("--seeds", type=int, default=3, help="(default: 3)")
    add("--steps", type=int, default=1500, help="of a denoising network (default: 1500)")
    add("--epochs", type=int, default=5, help="of the notebook's network (default: 5)")
    add("--fashion", metavar="DIR", help="Fashion-MNIST's folder, for the notebook's network")
    add("--out", type=Path, default=Path("out/training.json"), help="(default: out/training.json)")
    add("--work", nargs=3, metavar=("NETWORK", "SEED", "LIBRARY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work[0], int(args.work[1]), args.work[2], args)
        return
    names = args.networks or list(DENOISERS[:3])
    for name in names:
        if name not in (*DENOISERS, "notebook"):
            parser.error(f"no network {name}; there are {', '.join(DENOISERS)} and notebook")
    if "notebook" in names and not args.fashion:
        parser.error("the notebook's network needs --fashion")
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in names:
        found[name] = {library: [] for library in LIBRARIES}
        for seed in range(args.seeds):
            for library in LIBRARIES:
                command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:]]
                command += ["--work", name, str(seed), library]
                done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
                found[name][library].append(json.loads(done.stdout.splitlines()[-1]))
                print(name, seed, library, found[name][library][-1], file=sys.stderr)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
