"""Elements put in the place of others, at positions that are known."""

from __future__ import annotations

import numpy as np

from fconv.arrays import Array
from fconv.files.formats.claims import array_bytes
from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads
from fconv.onnx.values import Value


def _scattered(node: Node, positions: Array) -> Value:
    """Append what is known of a scattering: the number of each element of `x` that an update meets."""
    x, updates, how = node.value(0), node.value(2), node.text("reduction", "none")
    shape = tuple(x.size(axis) for axis in range(x.rank))
    count, places = int(np.prod(shape, dtype=np.int64)), positions.reshape(-1)
    if how == "none":
        source = np.arange(count)
        source[places] = count + np.arange(places.size)
        flat = [node.step(make("view", -1), value) for value in (x, updates)]
        together = node.step(make("concat", 0), *flat)
        return node.layer(make("index", (source.reshape(shape),)), together)
    if how != "add":
        raise UnfitError(f"reduction {how!r} has no layer")
    # A sum over the updates that meet an element: a product with the matrix of who meets whom.
    node.graph.budget.spend(array_bytes((count, places.size), x.dtype.itemsize))
    matrix = np.zeros((count, places.size), x.dtype)
    matrix[places, np.arange(places.size)] = 1
    flat_updates = node.step(make("view", -1), updates)
    total = node.step(make("einsum", "ij,j->i"), node.literal(matrix), flat_updates)
    return node.layer(make("add"), x, node.step(make("view", *shape), total))


def _numbers(node: Node) -> Array:
    x = node.value(0)
    shape = tuple(x.size(axis) for axis in range(x.rank))
    node.graph.budget.spend(array_bytes(shape, 48))  # the layer keeps copies of the numbers
    return np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)


@reads(
    "ScatterND", becomes="concat and index; reduction add: einsum and add",
    refused="indices that are computed; other reductions; sizes that the file leaves open",
)  # fmt: skip
def scatter_nd(node: Node) -> Value:
    """Put parts in the place of others."""
    at = node.constant(1)
    return _scattered(node, _numbers(node)[tuple(np.moveaxis(at, -1, 0))])


@reads("ScatterElements", "Scatter", becomes="as ScatterND", refused="as ScatterND")
def scatter_elements(node: Node) -> Value:
    """Put elements in the place of others along an axis."""
    at, numbers = node.constant(1), _numbers(node)
    axis = node.value(0).axis(node.integer("axis", 0))
    if at.ndim != numbers.ndim:
        raise UnfitError(f"indices of shape {at.shape} do not fit an input of {numbers.ndim} axes")
    part = tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(at.shape))
    return _scattered(node, np.take_along_axis(numbers[part], at, axis))
