"""torch.export of a module, in training or in inference."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fconv.networks.reading import UnfitError

CUMULATIVE = -1.0
"""Stands for ``momentum=None`` of a batch norm, computed from a counter, while it is exported."""


class Signature(NamedTuple):
    """The tensors that a forward takes: names of arguments, or keys of its one argument, a dict."""

    arguments: tuple[str, ...]
    keys: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Name the inputs."""
        return self.arguments if self.keys is None else self.keys

    def call(self, each: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of a call, from what stands for each input."""
        return dict(each) if self.keys is None else {self.arguments[0]: dict(each)}


def signature_of(module: Any, shape: Any) -> Signature:
    """Find the inputs of a forward, for a shape or a dict of shapes."""
    parameters = inspect.signature(module.forward).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = tuple(p.name for p in named if p.default is p.empty)
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL and not needed:
            raise UnfitError(f"an argument *{p.name} has no name for its tensors")
    if isinstance(shape, Mapping):
        known = dict.fromkeys(p.name for p in named)
        if shape.keys() <= known.keys() and set(needed) <= set(shape):
            return Signature(tuple(p.name for p in named if p.name in shape))
        if len(needed) == 1 and not shape.keys() & known.keys():
            return Signature(needed, tuple(map(str, shape)))
        missing = [name for name in needed if name not in shape]
        if missing:
            raise UnfitError(f"shape= says nothing of the input {', '.join(missing)}")
        unknown = ", ".join(sorted(map(str, set(shape) - set(known))))
        raise UnfitError(f"shape= names {unknown}, which its forward does not take: {', '.join(known)}")
    if not needed:
        needed = tuple(p.name for p in named[:1])
    if not needed:
        raise UnfitError("its forward takes no input")
    if shape is not None and len(needed) > 1:
        raise UnfitError(f"its forward takes {', '.join(needed)}: give shape= as a dict of their shapes")
    return Signature(needed)


def export(
    module: Any, signature: Signature, examples: Mapping[str, Any], open_axes: Any, train: bool
) -> Any:
    """Export a module, which is left as it is, in training or in inference.

    Each input has an example tensor, and the axes whose sizes shall stay open where the forward allows it. An
    UnfitError says why torch.export refuses the module.
    """
    import torch

    auto = torch.export.Dim.AUTO
    dynamic = {name: dict.fromkeys(open_axes[name], auto) for name in examples}
    with in_mode(module, train), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(
                module, (), signature.call(examples), dynamic_shapes=signature.call(dynamic), strict=False
            )
        except Exception as error:  # whatever the module's own code raises comes through too
            raise UnfitError(reason(error)) from error


@contextmanager
def in_mode(module: Any, train: bool) -> Iterator[None]:
    """Set the mode of every part, and a momentum that can be exported, for a while."""
    from torch.nn.modules.batchnorm import _NormBase

    before = [(m, m.training) for m in module.modules()]
    cumulative = [m for m in module.modules() if isinstance(m, _NormBase) and m.momentum is None]
    try:
        module.train(train)
        for m in cumulative:
            m.momentum = CUMULATIVE
        yield
    finally:
        for m, was in before:
            m.training = was
        for m in cumulative:
            m.momentum = None


def reason(error: BaseException) -> str:
    """Explain in one line why torch.export refused, and at which line of the forward."""
    text = str(error).strip()
    where = place_in(text) or _raised_in(error)
    if "data-dependent" in text.lower() or "DataDependent" in type(error).__name__:
        text = (
            "Python decides here on the values of a tensor, or makes a shape of them, which no network of "
            "layers does"
        )
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return f"torch.export refuses it{f' at {where}' if where else ''}: {first[:300]}"


_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\w+)\n\s*(.+)')


def place_in(trace: str) -> str:
    """Return the innermost line outside PyTorch of a stack trace in a text, empty where there is none."""
    found = [m for m in _FRAME.finditer(trace or "") if not _of_torch(m[1])]
    return f"{_base(found[-1][1])}, line {found[-1][2]} ({found[-1][4].strip()})" if found else ""


def _raised_in(error: BaseException) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    here = str(Path(__file__).parent)
    own = [f for f in frames if not _of_torch(f.filename) and not f.filename.startswith(here)]
    own = [f for f in own if f.name == "forward" or f is own[-1]]
    return f"{_base(own[-1].filename)}, line {own[-1].lineno} ({own[-1].line})" if own else ""


def _of_torch(path: str) -> bool:
    """Return whether a file belongs to PyTorch."""
    import torch

    return path.startswith((str(Path(torch.__file__).parent), "<"))


def _base(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
