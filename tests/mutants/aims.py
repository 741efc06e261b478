"""The files that get faults, the tests that must catch them, and the faults that no result can show."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.mutants.faults import ROOT, Mutant

EQUIVALENT = ROOT / "tests" / "data" / "equivalent_mutants.txt"

PARTS = ("engine", "functional", "optimizers", "networks", "torch")
EXACT = (  # vjps of linear functions, and the kernels of convolutions
    *(f"engine/{name}.py" for name in ("plans", "reference", "runs", "winograd_matrices")),
    *(f"engine/cpu/{name}.py" for name in (
        "convolution", "depthwise", "direct", "filters", "planar", "tiles", "winograd")),
    *(f"engine/compiled/{name}.py" for name in (
        "choosing", "columns", "convolution", "correlate", "depthwise", "dots", "few", "filters",
        "gathered", "heavy", "heavy_filters", "heavy_winograd", "micro", "packing", "planes", "positions",
        "scaling", "shapes", "squares", "transforms", "weights", "winograd", "winograd_weights")),
    *(f"functional/{name}.py" for name in (
        "affine", "convolution", "convolution_transpose", "padding", "pooling_avg", "rearranging",
        "shape", "slicing", "taps", "unfolding", "unpooling", "products", "resampling")),
)  # fmt: skip
CURVED = re.compile(r"lp_pool|_lp|pow|max_pool|\(guard\)|check_|_(shape|size|pairs|part)$")
"""Scopes in these files that are neither linear functions nor kernels, such as checks of arguments."""
CONVOLUTIONS = r"test_adjoint.*convolutions"
TESTS = {
    "engine/compiled/pooling": ["test_compiled_pooling", "test_adjoint.*compiled.*pool"],
    "engine/compiled/resample": ["test_resampled", "test_adjoint.*compiled.*interpolate"],
    "engine/compiled/segments": ["test_segments", "test_formulas", "test_losses", "test_norms"],
    "engine/compiled/formula": ["test_formulas", "test_segments", "test_channels", "test_optimizers"],
    "engine/compiled/transcendental": ["test_formulas", "test_segments"],
    "engine/compiled/coefficients": ["test_formulas"],
    "engine/compiled/tracing": ["test_formulas", "test_segments", "test_channels", "test_optimizers"],
    "engine/constants": ["test_constants", "test_inference"],
    "engine/compiled/channels": ["test_channels", "test_formulas", "test_norms"],
    "engine/compiled/by_channel": ["test_normal_plans", "test_channels"],
    "engine/compiled/normal": ["test_normal_plans"],
    "engine/compiled/pool": ["test_compiled.py", "test_engine.*compiled", "test_threads.*compiled"],
    "engine/compiled": [
        f"{CONVOLUTIONS}.*compiled", "test_engine.*compiled", "test_compiled.py", "test_winograd",
        "test_depthwise", "test_columns", "test_dots", "test_gathered", "test_positions", "test_divided",
        "test_constants",
    ],
    "engine/cpu": [f"{CONVOLUTIONS}.*numpy", "test_engine.*numpy"],
    "engine/sweeps": ["test_segments", "test_norms", "test_losses"],
    "engine/threads": ["test_threads", "test_engine"],
    "engine": [CONVOLUTIONS, "test_engine", "test_compiled.py", "test_layer_plans"],
    "functional/convolution": [CONVOLUTIONS, "test_functions.*conv"],
    "functional/affine": ["test_adjoint.*(linear_maps|linear])", "test_functions.*linear", "test_errors"],
    "functional/taps": [
        "test_adjoint.*taps", "test_adjoint.*(pad|interpolate|adaptive)",
        "test_functions.*(pad|interpolate|adaptive)",
    ],
    "functional/core": [
        "test_functions.*(linear|tanh|dropout|conv1d|where|nll_loss)", "test_float16", "test_mistakes",
    ],
    "functional/elementwise": [
        "test_functions.*(tanh|gelu|softplus|exp|sin)", "test_formulas", "test_pieces",
    ],
    "functional": ["test_functions", "test_pieces", "test_jvp", "test_memory_order", "test_errors"],
    "optimizers": [
        "test_optimizer", "test_mixed_precision", "test_training", "test_freezing", "test_private_sgd",
        "test_errors.py", "parity/test_optimizer",
    ],
    "networks": [
        "test_networks", "test_wiring", "test_merges", "test_outputs", "test_showing", "test_freezing",
        "test_inference", "test_blocks", "test_mistakes", "test_layers", "test_jvp_networks",
        "test_diagnosis",
    ],
    "torch": [
        "test_ranks", "parity/test_expressions", "parity/test_traced", "parity/test_layers",
        "parity/test_networks", "parity/test_exported", "parity/test_models",
    ],
}  # fmt: skip
"""Patterns of a module's tests, in order: those of the longest prefix."""


def reasons() -> list[tuple[str, str, str, str]]:
    """Read the list of equivalent mutants: file, line or scope, line after or "", reason.

    A block is a reason and then, for each file (``@ file``), functions or constants (``* name``) all of whose
    mutants are equivalent, lines (``- line``), and lines before and after (``- line``, ``+ line``).
    """
    found: list[tuple[str, str, str, str]] = []
    for block in EQUIVALENT.read_text(encoding="utf-8").split("\n\n"):
        reason, path = "", ""
        for line in block.strip().splitlines():
            kind, text = line[:2], line[2:].strip()
            if kind == "@ ":
                path = text
            elif kind in ("* ", "- "):
                found.append((path, text, "", reason))
            elif kind == "+ ":
                found[-1] = (path, found[-1][1], text, reason)
            else:
                reason = f"{reason} {line}".strip()
    return found


def reason_for(mutant: Mutant, source: bytes, known: list[tuple[str, str, str, str]]) -> str | None:
    """Return why a mutant is equivalent; None where it is not listed."""
    before, after = mutant.lines(source)
    for path, what, then, reason in known:
        same = what == before and then in ("", after)
        if path == mutant.path and (same or what in (mutant.scope, mutant.scope.split(".")[0])):
            return reason
    return None


@cache
def public_names(root: Path, path: str) -> tuple[str, ...]:
    """List the functions that a file of `fconv.functional` defines, or those of the files that use it."""
    text = (root / path).read_text(encoding="utf-8")
    names = (
        tuple(ast.literal_eval(text.split("__all__ = ", 1)[1].split("]", 1)[0] + "]"))
        if "__all__ = [" in text
        else ()
    )
    names = tuple(name for name in names if not name.endswith("_vjp"))
    if names:
        return names
    module = path.removesuffix(".py").replace("/", ".")
    users = [p for p in (root / "fconv/functional").glob("*.py") if p.stem != "__init__" and
             module in p.read_text(encoding="utf-8") and str(p.relative_to(root)) != path]  # fmt: skip
    return tuple(dict.fromkeys(n for p in users for n in public_names(root, str(p.relative_to(root)))))


def patterns_of(path: str, exact: bool) -> list[str]:
    """Return patterns of the tests of a file."""
    inner = path.removeprefix("fconv/").removesuffix(".py")
    found = TESTS[max((p for p in TESTS if inner.startswith(p)), key=len)]
    names = public_names(ROOT, path) if found == TESTS["functional"] else ()
    if names and len(names) < 40:
        alone = f"(?<![a-z0-9_])({'|'.join(names)})(?![a-z0-9_])"
        of_none = r"test_functions.*::\w+(\[[\d.]+\])?$"  # which have no name of a function to be found by
        found = [f"test_adjoint.*{alone}", *(f"{p}.*{alone}" for p in found[:-1]), of_none, found[-1]]
    return [p for p in found if "test_adjoint" in p] if exact else found
