"""Rank of a layer's output, where only the rank of its input is known."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fconv.layer import Layer

RESHAPING = {"call", "constant", "einsum", "expand", "expand_like", "flatten", "index", "parameter",
             "permute", "reshape", "scaled_dot_product_attention", "tile", "view", "where"}  # fmt: skip
"""Layers whose output has axes that do not follow from the number of the input's."""


def rank_before(layer: Layer) -> int | None:
    """Return the axes that a layer's input has, batch axis included, where the layer tells."""
    if layer.children:
        return rank_before(next(iter(layer.children.values()))) if layer.name == "compose" else None
    dims = re.search(r"([123])d$", layer.name)
    return int(dims[1]) + 2 if dims else 4 if layer.name.startswith("pixel_") else None


def rank_after(layer: Layer, ranks: Sequence[int | None]) -> int | None:
    """Return the axes of a layer's output from those of its inputs, None where they cannot be told.

    Examples
    --------
    >>> from fconv.layers import conv2d, flatten
    >>> rank_after(conv2d(4, 3), [None]), rank_after(flatten(), [4]), rank_after(flatten(2), [4])
    (4, 2, None)
    """
    options = layer.options
    known = [rank for rank in ranks if rank is not None]
    rank = max(known) if len(known) == len(ranks) and ranks else None
    if layer.name == "compose":
        for child in layer.children.values():
            rank = rank_after(child, [rank])
        return rank
    if layer.name in RESHAPING:
        if layer.name in ("permute", "expand", "expand_like"):
            return len(options["dims" if layer.name == "permute" else "sizes"])
        if layer.name == "constant":
            return int(options["value"].ndim)
        if layer.name in ("view", "parameter"):
            return len(options["shape"])
        if layer.name == "reshape":
            return 1 + len(options["shape"])
        if layer.name == "flatten" and options["end_dim"] == -1 and options["start_dim"] in (0, 1):
            return 1 + int(options["start_dim"])
        return None
    if layer.name in ("unfold", "fold"):
        return 3 if layer.name == "unfold" else 4
    before = rank_before(layer)
    if before is not None:
        return before
    if rank is None:
        return None
    if options.get("keepdim") is False:  # a reduction
        dim = options["dim"]
        return rank - (rank if dim is None else len(dim) if isinstance(dim, (tuple, list)) else 1)
    changes = {"select": -1, "squeeze": -1, "unsqueeze": 1, "stack": 1, "embedding": 1}
    if layer.name == "unflatten":
        return rank + len(options["unflattened_size"]) - 1
    return rank + changes.get(layer.name, 0)
