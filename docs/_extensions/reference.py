"""Write the reference: tables of the public names by subject, and a page for each name.

The tables follow the modules' `__all__`, so a new name appears without being listed here. A name is
documented where users import it from: `fconv.conv2d`, `fconv.functional.conv2d`. Inline code that is the
name of a documented object becomes a link.
"""

from __future__ import annotations

import inspect
import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform

FUNCTIONS = {
    "Convolution and affine maps": "convolution convolution_transpose affine unfolding padding",
    "Activation": "piecewise smooth activation",
    "Pooling": "pooling_max pooling_avg pooling_adaptive unpooling",
    "Resampling": "interpolation resampling",
    "Normalization": "normalization sample_norm response",
    "Attention and lookup": "attention lookup",
    "Dropout": "masking",
    "Shape and indexing": "shape rearranging slicing indexing conditional",
    "Arithmetic": "arithmetic products",
    "Reductions": "reductions statistics cumulative",
    "Losses": "loss_regression loss_probability loss_classification loss_ranking image_quality",
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
    add("layers", "Blocks", "fconv", public(import_module("fconv.blocks")))
    add(
        "layers",
        "Calls of functions, and parameters of one's own",
        "fconv",
        public(import_module("fconv.calls")),
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
        if module := _module(f"fconv.{part}"):
            add("tools", f"fconv.{part}", module.__name__, public(module))
    placed = {name for found in pages.values() for _, names in found for name in names}
    rest = [
        n for n in sorted(fc.__all__) if f"fconv.{n}" not in placed and not inspect.ismodule(getattr(fc, n))
    ]
    pages["tools"].insert(
        0, ("Devices, threads and the rest", [f"fconv.{n}" for n in rest if n != "__version__"])
    )
    return pages


def write(folder: Path) -> None:
    """Write the pages of tables, and a page for each name.

    The pages of names stand in no table of contents: with hundreds of entries in the sidebar of hundreds of
    pages, Sphinx would take minutes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    functions = set(import_module("fconv.functional").__all__)
    for page, found in tables().items():
        lines = heading(PAGES[page], "=")
        for title, names in found:
            lines += heading(title, "-") if title else []
            lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names), ""]
            for name in names:
                (folder / f"{name}.rst").write_text(stub(name, page, functions), encoding="utf-8")
        if found:
            (folder / f"{page}.rst").write_text("\n".join(lines), encoding="utf-8")


def heading(title: str, line: str) -> list[str]:
    """Return the lines of a heading."""
    return [title, line * len(title), ""]


def stub(name: str, page: str, functions: set[str]) -> str:
    """Return the page of a name; a function's derivatives stand below it."""
    module, _, last = name.rpartition(".")
    value = getattr(import_module(module), last)
    kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
    lines = [":orphan:", "", *heading(name, "="), f":doc:`{PAGES[page]} <{page}>`", ""]
    names = [last, *(gradients(last, functions) if module == "fconv.functional" else [])]
    for part in names:
        lines += [f".. auto{kind}:: {module}.{part}", *(["   :members:"] if kind == "class" else []), ""]
    return "\n".join(lines)


class LinkNames(SphinxTransform):
    """Turn inline code such as `fc.conv2d(...)` or `F.conv2d_vjp` into a link to the reference."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Wrap each such literal in a reference; what is not documented stays a literal."""
        for literal in list(self.document.findall(nodes.literal)):
            match = re.match(r"(fc|fconv|F)\.([A-Za-z_][\w.]*)(\(.*\))?$", literal.astext(), re.S)
            if not match or isinstance(literal.parent, (nodes.reference, pending_xref)):
                continue
            target = {"F": "fconv.functional"}.get(match[1], "fconv") + "." + match[2]
            link = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=False
            )
            link["refdoc"] = self.env.docname
            literal.replace_self(link)
            link += literal


def prepare(app: Any, config: Any) -> None:
    """Write the pages before Sphinx looks for them."""
    write(Path(app.srcdir) / "reference" / "api")


def share_navigation(app: Any, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Render the sidebar once for all pages of a folder that stand in no table of contents.

    It is the same in all of them, and rendering it for each of hundreds of pages would take a third of
    the build.
    """
    folder = pagename.rpartition("/")[0]
    if not pagename.startswith(("reference/api/fconv.", "_modules/")) or "toctree" not in context:
        return
    shared, render = app.fconv_navigation, context["toctree"]

    def toctree(**options: Any) -> str:
        key = (folder, *sorted(options.items()))
        if key not in shared:
            shared[key] = render(**options)
        return shared[key]

    context["toctree"] = toctree


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", prepare)
    app.connect("html-page-context", share_navigation, priority=100)
    app.fconv_navigation = {}
    app.add_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
