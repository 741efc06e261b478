"""List the networks of torchvision, timm and segmentation-models-pytorch that `fconv.from_torch` converts.

    python -m benchmarks.zoo --out out/zoo.jsonl                 # all of the first and last, timm by family
    python -m benchmarks.zoo --only resnet50 timm:convnext_atto  # some of them
    python -m benchmarks.zoo --table out/zoo.jsonl               # the table of docs/torch.md

The weights are random. A line of JSON for each network: the seconds of processor time that the conversion
took, the largest difference of the outputs relative to the largest output, that of the gradients in float64
for every `--gradients`-th network, in inference and in training where nothing is dropped, and what stopped
it. A network whose line stands in the file is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import fconv as fc

ALLOWED, ALLOWED_GRADIENT = 1e-4, 1e-3
SEGMENTATION_SIZE = 128
GRADIENT_PARAMETERS = 5e7  # in float64 a vision transformer of 9e7 takes 13 GB


def names(count: int) -> list[str]:
    """List the networks of all three libraries; of timm's, a number of the smallest of each family."""
    import torchvision.models as tv

    found = [f"torchvision:{n}" for n in tv.list_models(tv)]
    found += [f"segmentation:{n}" for n in tv.list_models(tv.segmentation)]
    return found + [f"smp:{n}" for n in decoders()] + [f"timm:{n}" for n in families(count)]


def decoders() -> list[str]:
    """List segmentation-models-pytorch's decoders, and its U-Net on an encoder of each class."""
    import segmentation_models_pytorch as smp
    from segmentation_models_pytorch.encoders import encoders

    of_class: dict[Any, str] = {}
    for name, entry in encoders.items():
        of_class.setdefault(entry["encoder"], name)
    return [*smp.MODEL_ARCHITECTURES_MAPPING, *(f"unet/{encoder}" for encoder in of_class.values())]


def families(count: int) -> list[str]:
    """List timm's networks, the smallest of each module's first, then the second, up to a count."""
    import timm
    import torch

    def size(name: str) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(name).parameters())

    groups = [sorted(timm.list_models(module=m), key=size) for m in timm.list_modules()]
    ranks = range(max(map(len, groups)))
    each = [group[rank] for rank in ranks for group in groups if rank < len(group)]
    return list(dict.fromkeys(each))[:count]


def module_of(name: str) -> tuple[Any, tuple[int, ...]]:
    """Make a network with random weights, and a shape for its input."""
    library, _, model = name.rpartition(":")
    if library == "timm":
        import timm

        module = timm.create_model(model, pretrained=False)
        return module, (2, *module.default_cfg["input_size"])
    if library == "smp":
        import segmentation_models_pytorch as smp

        architecture, _, encoder = model.partition("/")
        encoder = encoder or ("tu-vit_tiny_patch16_224" if architecture == "dpt" else "resnet18")
        size = 224 if architecture == "dpt" else SEGMENTATION_SIZE
        return smp.create_model(architecture, encoder, None), (2, 3, size, size)
    import torchvision.models as tv

    options = {"weights": None, "weights_backbone": None} if library == "segmentation" else {"weights": None}
    size = SEGMENTATION_SIZE if library == "segmentation" else 299 if "inception" in model else 224
    return tv.get_model(model, **options), (2, 3, size, size)


def measure(name: str, gradients: bool) -> dict[str, Any]:
    """Convert one network and compare it."""
    import torch

    torch.manual_seed(0)
    found: dict[str, Any] = {"name": name}
    module, shape = module_of(name)
    module.eval()
    with torch.no_grad():
        for tensor in module.parameters():  # heads that start at zero would show nothing
            if not tensor.any():
                tensor.normal_(std=0.02)
    found["parameters"] = sum(p.numel() for p in module.parameters())
    started = time.process_time()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                net, params = fc.from_torch(module, shape)
            except ValueError as error:
                if "does not use" not in str(error):
                    raise
                found["unused"] = True  # parameters that the module holds and its forward leaves alone
                net, params = fc.from_torch(module, shape, strict=False)
        found["warned"] = [str(w.message) for w in caught if "from_torch" in str(w.message)]
    except (ValueError, TypeError) as error:
        found["stopped"] = str(error)
        return found
    found["seconds"] = round(time.process_time() - started, 2)
    x = torch.randn(shape)
    with torch.no_grad():
        expected = _named(module(x))
    y = _named(net.apply(params, x.numpy()))
    found["output"] = max(_difference(y[n], expected[n].numpy()) for n in expected)
    if gradients and found["parameters"] < GRADIENT_PARAMETERS:
        found["gradient"] = gradient(module, net, params, shape, train=False)
        if not _draws(net) and not found["warned"]:
            found["training"] = gradient(module, net, params, shape, train=True)
    return found


def gradient(module: Any, net: fc.Layer, params: Any, shape: tuple[int, ...], train: bool) -> float:
    """Compare the gradients of all parameters in float64.

    For two examples: of one, PyTorch's batch norm takes a gradient that was transposed for another, and gives
    its bias a sum over wrong elements.
    """
    import torch

    module.double().train(train).zero_grad()
    x = torch.randn(shape, dtype=torch.float64)
    wide = fc.trees.map(lambda a: a.astype(np.float64) if a.dtype == np.float32 else a, params)
    outputs = _named(module(x))
    gs = {name: torch.randn_like(y) for name, y in outputs.items()}
    sum((y * gs[name]).sum() for name, y in outputs.items()).backward()
    g = {name: each.numpy() for name, each in gs.items()}
    dparams, _ = net.vjp(wide, x.numpy(), g if set(g) != {""} else g[""], train=train)
    ours = {".".join(path): d for path, _, d in fc.trees.aligned(wide, dparams) if d is not None}
    theirs = {n: p.grad.numpy() for n, p in module.named_parameters() if p.grad is not None}
    largest = max(abs(d).max() for d in theirs.values())
    return max(float(abs(ours[n] - d).max() / max(abs(d).max(), 1e-6 * largest)) for n, d in theirs.items())


def _draws(net: fc.Layer) -> bool:
    """Return whether a network draws random numbers in training."""
    drops = "drop" in net.name or net.name == "stochastic_depth"
    return bool(drops and net.options.get("p")) or any(map(_draws, net.children.values()))


def _named(y: Any) -> dict[str, Any]:
    if isinstance(y, (tuple, list)):
        return {f"output{i}": each for i, each in enumerate(y)}
    return dict(y) if isinstance(y, dict) else {"": y}


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(abs(a - b).max() / max(abs(b).max(), 1e-12))


def table(lines: list[dict[str, Any]]) -> str:
    """Write the table of the documentation."""
    heads = "networks", "tried", "converted", "outputs", "gradients", "in training", "median s", "slowest s"
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for library in dict.fromkeys(line["name"].partition(":")[0] for line in lines):
        group = [line for line in lines if line["name"].startswith(f"{library}:")]
        made = [line for line in group if "seconds" in line]
        agree = sum(line["output"] <= ALLOWED for line in made)
        right, trained = (
            f"{sum(d <= ALLOWED_GRADIENT for d in sampled)} of {len(sampled)}"
            for kind in ("gradient", "training")
            for sampled in [[line[kind] for line in made if kind in line]]
        )
        seconds = sorted(line["seconds"] for line in made) or [0.0]
        rows.append(
            f"| {library} | {len(group)} | {len(made)} ({100 * len(made) / len(group):.0f} %) | {agree} | "
            f"{right} | {trained} | {seconds[len(seconds) // 2]:.1f} | {seconds[-1]:.1f} |"
        )
    rows.append("\nWhat stops the others:\n")
    stopped = Counter(_cause(line["stopped"]) for line in lines if "stopped" in line)
    rows += [f"- {count} x {cause}" for cause, count in stopped.most_common()]
    return "\n".join(rows)


def _cause(text: str) -> str:
    """Return the operator and the reason of an error, without the place."""
    first = text.partition(": ")[2].partition(": ")[2].splitlines()[0]
    return first.rpartition("; a layer of your own")[0] or first


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/zoo.jsonl"))
    parser.add_argument("--only", nargs="*", help="names, with timm: or segmentation: before them")
    parser.add_argument("--timm", type=int, default=300, help="how many of timm's")
    parser.add_argument("--gradients", type=int, default=25, help="compare those of every such network")
    parser.add_argument("--table", type=Path, help="write the table of such a file, and run nothing")
    given = parser.parse_args(argv)
    if given.table:
        print(table([json.loads(line) for line in given.table.read_text(encoding="utf-8").splitlines()]))
        return 0
    given.out.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    if given.out.exists():
        done = {json.loads(line)["name"] for line in given.out.read_text(encoding="utf-8").splitlines()}
    for i, name in enumerate(given.only or names(given.timm)):
        name = name if ":" in name else f"torchvision:{name}"
        if name in done:
            continue
        try:
            found = measure(name, i % given.gradients == 0)
        except Exception as error:  # the others go on
            found = {"name": name, "stopped": f"{type(error).__name__}: {error}"}
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found)[:300], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
