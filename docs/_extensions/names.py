"""Public names by subject, for the reference: under the name that users import, `fconv.conv2d`.

The tables follow the modules' `__all__`, so a new name appears without being listed here.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

FUNCTIONS = {
    "Convolution and affine maps": "convolution convolution_transpose deformable affine unfolding padding",
    "Activation": "piecewise smooth activation",
    "Pooling": "pooling_max pooling_avg pooling_adaptive unpooling",
    "Resampling": "interpolation resampling sampling",
    "Normalization": "normalization sample_norm response",
    "Attention and lookup": "attention lookup",
    "Dropout": "masking",
    "Shape and indexing": "shape rearranging slicing indexing conditional",
    "Arithmetic": "arithmetic products",
    "Reductions": "reductions statistics cumulative",
    "Losses": "loss_regression loss_probability loss_classification loss_ranking loss_triplet image_quality",
}
LAYERS = {
    "Convolution and affine maps": "convolution convolution_transpose padding",
    "Activation": "activation",
    "Pooling": "pooling pooling_adaptive",
    "Resampling": "resampling",
    "Normalization": "normalization sample_norm",
    "Embedding and bilinear maps": "lookup",
    "Dropout": "masking",
    "Shape and indexing": "shape rearranging slicing indexing",
    "Arithmetic": "arithmetic",
    "Reductions": "reductions",
}
TRAINING = [
    "value_and_grad",
    "jvp",
    "per_example_gradients",
    "train_state",
    "train_step",
    "TrainState",
    "fit",
    "plot_history",
]
FILES = [
    "save",
    "load",
    "load_metadata",
    "Checkpointer",
    "Placeholder",
    "to_state_dict",
    "from_state_dict",
    "find_state_dict",
    "rename",
]
EXCHANGE = ["from_torch", "to_torch", "to_torch_module", "from_onnx", "to_onnx"]
# A page for each: its title, the name its objects are imported from, and what it holds.
PAGES = {
    "functional": "Functions and their gradients",
    "layers": "Layers",
    "networks": "Networks",
    "training": "Training",
    "losses": "Losses",
    "optimizers": "Optimizers",
    "schedules": "Schedules",
    "metrics": "Metrics",
    "initializers": "Initializers and random numbers",
    "data": "Data",
    "models": "Models",
    "files": "Files, PyTorch and ONNX",
    "testing": "Testing",
    "vision": "Pictures",
    "distributed": "Distributed training",
    "tools": "Trees, devices and tools",
}


def public(module: Any) -> list[str]:
    """List the public names of a module; without `__all__`, the functions and classes defined in it."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__.startswith(module.__name__)
    )


def grouped(package: str, groups: dict[str, str]) -> dict[str, list[str]]:
    """Divide a package's public names by its modules; those of modules that stand in no group come last."""
    left = set(public(import_module(package)))
    found = {}
    for title, modules in groups.items():
        known = [
            name for m in modules.split() if (module := _module(f"{package}.{m}")) for name in public(module)
        ]
        found[title] = [name for name in known if name in left]
        left -= set(known)
    found["More"] = sorted(left)
    return found


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


def gradients(name: str, names: set[str]) -> list[str]:
    """List the companions of a function of fconv.functional: its derivatives, documented on its page."""
    return [other for suffix in ("_vjp", "_jvp") if (other := name + suffix) in names]


def tables() -> dict[str, list[tuple[str, list[str]]]]:
    """Return, for each page, its tables: a title and full names."""
    fc = import_module("fconv")
    functions = set(import_module("fconv.functional").__all__)
    companions = {other for name in functions for other in gradients(name, functions)}
    pages: dict[str, list[tuple[str, list[str]]]] = {key: [] for key in PAGES}

    def add(page: str, title: str, prefix: str, names: Any) -> None:
        if full := [f"{prefix}.{name}" for name in names]:
            pages[page].append((title, full))

    for title, names in grouped("fconv.functional", FUNCTIONS).items():
        add("functional", title, "fconv.functional", [n for n in names if n not in companions])
    for title, names in grouped("fconv.layers", LAYERS).items():
        add("layers", title, "fconv", names)
    add("layers", "Blocks", "fconv", public(import_module("fconv.models.blocks")))
    add(
        "layers",
        "Calls of functions, and parameters of one's own",
        "fconv",
        public(import_module("fconv.layers.calls")),
    )
    add("networks", "The contract", "fconv", ["Layer"])
    add("networks", "Networks", "fconv", [*public(import_module("fconv.networks")), "for_inference"])
    add("networks", "Shown", "fconv", ["describe"])
    add("training", "Gradients, steps and loops", "fconv", [n for n in TRAINING if n in fc.__all__])
    for page in ("losses", "optimizers"):
        add(page, "", "fconv", public(import_module(f"fconv.{page}")))
    for page in ("schedules", "metrics", "data", "models"):
        add(page, "", f"fconv.{page}", public(import_module(f"fconv.{page}")))
    add("initializers", "Initializers", "fconv.initializers", public(fc.initializers))
    add("initializers", "Keys and random numbers", "fconv.random", public(fc.random))
    add("files", "Files and state dicts", "fconv", FILES)
    add("files", "PyTorch and ONNX", "fconv", EXCHANGE)
    add("testing", "Checks", "fconv.testing", public(import_module("fconv.testing")))
    add(
        "testing",
        "Strategies for hypothesis",
        "fconv.testing.strategies",
        public(_module("fconv.testing.strategies")),
    )
    for part in ("tiling", "images", "restoring", "classifying", "guessing", "colour"):
        if module := _module(f"fconv.vision.{part}"):
            add("vision", part.capitalize(), module.__name__, public(module))
    if module := _module("fconv.distributed"):
        add("distributed", "", "fconv.distributed", public(module))
    add("tools", "Trees", "fconv.trees", public(fc.trees))
    for part in ("weights", "inspection", "comparison", "diagnosis"):
        if module := _module(f"fconv.tools.{part}"):
            add("tools", f"fconv.tools.{part}", module.__name__, public(module))
    placed = {name for found in pages.values() for _, names in found for name in names}
    rest = [
        n for n in sorted(fc.__all__) if f"fconv.{n}" not in placed and not inspect.ismodule(getattr(fc, n))
    ]
    add("tools", "The engine", "fconv.engine.plans", ["algorithm_for"])
    pages["tools"].insert(
        0, ("Devices, threads and the rest", [f"fconv.{n}" for n in rest if n != "__version__"])
    )
    return pages
