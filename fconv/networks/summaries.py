"""Summarize a network as a table."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, TextIO

import numpy as np

from fconv import random, trees
from fconv.layer import Layer, as_layer
from fconv.networks.wiring import placed
from fconv.showing import printable


@dataclass(frozen=True)
class Row:
    """One layer of a summary; `depth` counts the networks around it."""

    depth: int
    name: str
    kind: str
    out_shape: Any
    params: int
    buffers: int
    multiply_adds: int
    shared: bool
    network: bool


@dataclass(frozen=True)
class Summary:
    """The rows of a summary and their totals.

    Attributes
    ----------
    rows : tuple of Row
        In the order of the forward pass; a network comes before its layers.
    params : int
        Numbers that are trained, each counted once.
    buffers : int
        Numbers that are not, such as running statistics.
    multiply_adds : int
        Multiplications of a forward pass.
    output_bytes, param_bytes : int
        Memory of all layers' outputs, and of the parameters.
    """

    rows: tuple[Row, ...]
    params: int
    buffers: int
    multiply_adds: int
    output_bytes: int
    param_bytes: int

    def __str__(self) -> str:
        cells = [("layer", "output shape", "params", "multiply-adds")]
        for row in self.rows:
            name = "  " * row.depth + (f"{row.name}: {row.kind}" if row.name else row.kind)
            params = "shared" if row.shared else "" if row.network else f"{row.params:,}"
            costs = "" if row.network else f"{row.multiply_adds:,}"
            cells.append((name, _shown(row.out_shape), params, costs))
        shown = [[printable(cell) for cell in line] for line in cells]
        widths = [max(len(line[i]) for line in shown) for i in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip()
            for a, b, c, d in shown
        ]
        rule = "-" * max(map(len, lines))
        totals = [
            f"parameters     {self.params:,} trained, {self.buffers:,} not",
            f"multiply-adds  {self.multiply_adds:,}",
            f"memory         {_megabytes(self.param_bytes)} of parameters, "
            f"{_megabytes(self.output_bytes)} of outputs",
        ]
        return "\n".join([lines[0], rule, *lines[1:], rule, *totals])


def summary(net: Any, shape: Any, dtype: Any = np.float32, file: TextIO | None = None) -> Summary:
    """Print what a network is made of: layers, output shapes, parameters, multiply-adds, memory.

    Parameters
    ----------
    net : Layer
        A layer or network.
    shape : tuple of int, or dict of them
        Input shape, batch axis included.
    dtype : dtype
        Of parameters and outputs, for the memory.
    file : text file, optional
        Where to print; the standard output by default.

    Returns
    -------
    Summary
        The same figures as an object; ``str`` of it is the table.

    Raises
    ------
    TypeError, ValueError
        `net` is no layer, or the shapes do not fit.

    Examples
    --------
    >>> from fconv.layers import conv2d, flatten, linear, relu
    >>> from fconv.networks.chains import compose
    >>> _ = summary(compose(conv2d(8, 3), relu(), flatten(), linear(10)), (1, 1, 28, 28))
    layer         output shape    params  multiply-adds
    ---------------------------------------------------
    compose       (1, 10)
      0: conv2d   (1, 8, 26, 26)      80         48,672
      1: relu     (1, 8, 26, 26)       0              0
      2: flatten  (1, 5408)            0              0
      3: linear   (1, 10)         54,090         54,080
    ---------------------------------------------------
    parameters     54,170 trained, 0 not
    multiply-adds  102,752
    memory         0.22 MB of parameters, 0.06 MB of outputs
    """
    rows: list[Row] = []
    layer = as_layer("summary", net)
    layer.out_shape(shape)  # an error speaks of the whole network
    _walk(rows, 0, "", layer, shape, False)
    itemsize = np.dtype(dtype).itemsize
    leaves = [row for row in rows if not row.network]
    params, buffers = (
        sum(getattr(row, what) for row in leaves if not row.shared) for what in ("params", "buffers")
    )
    whole = Summary(
        tuple(rows),
        params,
        buffers,
        sum(row.multiply_adds for row in leaves),
        itemsize * sum(_entries(row.out_shape) for row in leaves),
        itemsize * (params + buffers),
    )
    print(whole, file=file)
    return whole


def _walk(rows: list[Row], depth: int, name: str, layer: Layer, shape: Any, shared: bool) -> None:
    inside = list(placed(layer, shape))
    out_shape = layer.out_shape(shape)
    if inside:
        rows.append(Row(depth, name, layer.name, out_shape, 0, 0, 0, shared, True))
        for step, entering, again in inside:
            if step.params is not None:
                _walk(rows, depth + 1, step.name, step.layer, entering, shared or again)
        return
    params = buffers = 0
    for path, leaf in trees.leaves_with_path(layer.init(random.key(0), shape)):
        if (path[-1] if path else "") in layer.buffers:
            buffers += leaf.size
        else:
            params += leaf.size
    costs = layer.multiply_adds(shape)
    rows.append(Row(depth, name, layer.name, out_shape, params, buffers, costs, shared, False))


def _entries(shape: Any) -> int:
    return sum(map(_entries, shape.values())) if isinstance(shape, dict) else prod(shape)


def _shown(shape: Any) -> str:
    if isinstance(shape, dict):
        return ", ".join(f"{name} {_shown(s)}" for name, s in shape.items())
    return str(tuple(shape))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB"
