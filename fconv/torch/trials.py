"""Inputs to export a module with: of a given shape, or of one that its forward takes."""

from __future__ import annotations

import itertools
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fconv.networks.reading import UnfitError
from fconv.torch.exporting import Signature, in_mode

SIZES = (32, 224, 64, 28, 16, 96, 128, 256, 299, 8, 7, 6, 5, 9, 4, 10, 12, 3, 2, 1)
CHANNELS = (3, 4, 2, 8, 16, 6, 5, 10, 12, 32, 64, 128, 256, 512, 1)
CHANNEL_ATTRIBUTES = ("in_channels", "in_features", "in1_features", "in2_features", "num_features",
                      "num_channels", "embed_dim")  # fmt: skip

SECONDS = 10.0
"""Of this thread's processor time, after which the search for a shape ends."""


_DICT = re.compile(r"data type 'str'|has no attribute '(keys|items|values)'|not subscriptable")


def given(module: Any, signature: Signature, shape: Any) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Make an input of a given shape for each name, and list the axes that shall stay open.

    An open axis, None, is tried with sizes until one fits.
    """
    shapes = shape if isinstance(shape, Mapping) else {signature.names[0]: shape}
    checked = {name: _checked(name, shapes[name]) for name in signature.names}
    open_axes = {
        name: [0] + [axis for axis, n in enumerate(sizes) if n is None and axis]
        for name, sizes in checked.items()
    }
    batch = {name: (max(sizes[0] or 2, 2), *sizes[1:]) for name, sizes in checked.items()}
    if any(None in sizes for sizes in batch.values()):
        found = _first(module, signature, (
            {name: tuple(size if n is None else n for n in sizes) for name, sizes in batch.items()}
            for size in SIZES
        ))  # fmt: skip
        if found is None:
            raise UnfitError("its forward takes no input of that shape with any of the sizes tried for None")
        return found, open_axes
    kinds = list(_kinds(module, batch))
    found = _first(module, signature, [batch]) if len(kinds) > 1 else None
    return found or _zeros(module, batch, kinds[0]), open_axes


def _checked(name: str, sizes: Any) -> tuple[Any, ...]:
    fits = isinstance(sizes, (tuple, list)) and sizes
    if not fits or not all(
        n is None or (isinstance(n, int) and not isinstance(n, bool) and n > 0) for n in sizes
    ):
        raise UnfitError(
            f"expected shape= of {name} to be a tuple of sizes, None for an open one, got {sizes!r}; several "
            f"inputs are a dict by the names of forward's arguments"
        )
    return tuple(sizes)


def guessed(module: Any, signature: Signature) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Look for shapes that a forward takes, and leave all of their axes open."""
    each = list(_candidates(module))
    count = len(signature.names)
    tried = (
        dict(zip(signature.names, shapes, strict=True))
        for shapes in (zip(*[each] * count, strict=True) if count > 2 else _pairs(each, count))
    )
    found = _first(module, signature, tried)
    if found is None:
        raise UnfitError("no shape was found that its forward takes; give from_torch shape=")
    return found, {name: list(range(tensor.ndim)) for name, tensor in found.items()}


def _pairs(each: list[tuple[int, ...]], count: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Combine candidates, those of a low sum of positions first."""
    if count == 1:
        yield from ((shape,) for shape in each)
        return
    for total in range(2 * len(each)):
        for first in range(min(total + 1, len(each))):
            if total - first < len(each):
                yield each[first], each[total - first]


def _candidates(module: Any) -> Iterator[tuple[int, ...]]:
    """List shapes: of the ranks and numbers of channels that its modules have, the first modules' first."""
    ranks: dict[int, None] = {}
    spatial: set[int] = set()
    channels: dict[int, None] = {}
    for m in module.modules():
        kind = type(m).__name__
        dims = re.search(r"([123])d$", kind)
        if dims:
            ranks.setdefault(int(dims[1]) + 2)
            spatial.add(int(dims[1]) + 2)
        elif kind in ("Linear", "Bilinear", "LayerNorm", "RMSNorm", "Embedding", "MultiheadAttention"):
            ranks.setdefault(2)
            ranks.setdefault(3)
        for attribute in CHANNEL_ATTRIBUTES:
            size = getattr(m, attribute, None)
            if isinstance(size, int):
                channels.setdefault(size)
        if isinstance(getattr(m, "normalized_shape", None), tuple):
            channels.setdefault(m.normalized_shape[-1])
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        channels.update(dict.fromkeys(n for n in tensor.shape if n > 1))
    channels.update(dict.fromkeys(CHANNELS))
    several = [*ranks, *(rank for rank in (4, 2, 3, 5) if rank not in ranks)]
    seen: dict[tuple[int, ...], None] = {}
    for channel, size, rank in sorted(
        itertools.product(enumerate(channels), enumerate(SIZES), enumerate(several)),
        key=lambda c: 4 * c[0][0] + c[1][0] + 3 * c[2][0],
    ):
        n, s, r = channel[1], size[1], rank[1]
        seen.setdefault((2, n, *[s] * (r - 2)))
        if r not in spatial:
            seen.setdefault((2, *[s] * (r - 2), n))
    yield from seen


def _first(module: Any, signature: Signature, shapes: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the inputs of the first shapes that the forward takes, tried without computing anything."""
    until = time.thread_time() + SECONDS
    trial = _Trial(module, signature)
    with in_mode(module, False):
        for each in shapes:
            if time.thread_time() > until:
                return None
            for dtypes in _kinds(module, each):
                error = trial.fails(each, dtypes)
                if error is None:
                    return _zeros(module, each, dtypes)
                if _DICT.search(str(error)):
                    raise UnfitError(
                        f"its forward takes no tensor ({error}); give shape= as a dict for a dict of inputs"
                    )
    return None


def _kinds(module: Any, each: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """List types of inputs: integers too where an embedding may take them."""
    import torch

    types = [floating(module)]
    if any(isinstance(m, (torch.nn.Embedding, torch.nn.EmbeddingBag)) for m in module.modules()):
        types.append(torch.int64)
    for dtypes in itertools.product(types, repeat=min(len(each), 4)):
        yield dict(itertools.zip_longest(each, dtypes, fillvalue=types[0]))


class _Trial:
    """Runs of a forward on tensors without numbers."""

    def __init__(self, module: Any, signature: Signature) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        self.module, self.signature = module, signature
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fails(self, shapes: Mapping[str, Any], dtypes: Mapping[str, Any]) -> Exception | None:
        """Run the forward on inputs of some shapes; return what it raises if they do not fit it."""
        import torch
        from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

        log = logging.getLogger("torch._subclasses.fake_tensor")
        silent, log.disabled = log.disabled, True
        try:
            with self.mode, torch.no_grad():
                self.module(**self.signature.call(_zeros(self.module, shapes, dtypes)))
        except (DataDependentOutputException, DynamicOutputShapeException):
            return None  # which torch.export words better
        except Exception as error:
            return error
        finally:
            log.disabled = silent
        return None


def floating(module: Any) -> Any:
    """Return the type of a module's parameters, float32 where it has none."""
    import torch

    tensors = itertools.chain(module.parameters(), module.buffers())
    return next((t.dtype for t in tensors if t.dtype.is_floating_point), torch.get_default_dtype())


def _zeros(module: Any, shapes: Mapping[str, Any], dtypes: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    tensors = itertools.chain(module.parameters(), module.buffers())
    device = next((t.device for t in tensors), torch.device("cpu"))
    return {name: torch.zeros(shape, dtype=dtypes[name], device=device) for name, shape in shapes.items()}
