"""Networks written as ONNX files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fconv import trees
from fconv.arrays import Array, Shape, asnumpy, describe, floating_dtype
from fconv.files.atomic import atomic_write
from fconv.layer import Layer, Params, Step, Wiring, as_layer, params_at
from fconv.layers.from_function import check_shape
from fconv.networks.reading import Names, UnfitError
from fconv.networks.wiring import flat
from fconv.onnx.library import library
from fconv.onnx.operators import WRITINGS
from fconv.onnx.sites import Site
from fconv.state_dict import flattened
from fconv.version import __version__

OPSET, IR_VERSION = 21, 10
"""The first opset in which every layer here has its operator as PyTorch defines it."""

LIMIT = 2**31 - 1
"""Bytes that a protobuf message may have."""

BATCH = "N"


def to_onnx(
    net: Layer,
    params: Params,
    shape: Any,
    path: str | os.PathLike[str],
    *,
    dtype: Any = None,
    operators: Mapping[str, Callable[[Site], str]] | None = None,
) -> None:
    """Write a network as an ONNX file, as it works outside training (``train=False``).

    Parameters
    ----------
    net : Layer
        A network, or a single layer.
    params : pytree of arrays
        Its parameters; the initializers have their names in `to_state_dict`.
    shape : tuple of int, or dict of them by input
        Shape of the input, batch axis included. The batch axis is left open in the file
        wherever the output follows it; the other sizes are fixed.
    path : str or path-like
        The file. It appears when it is complete, and an older one stays where writing fails.
    dtype : dtype, optional
        Type of the input; that of the parameters by default, or float32 where there are none.
    operators : mapping, optional
        Functions that write layers, by the layer's name, before those of the table: ``write(at)`` writes
        nodes at a place in the network (`fconv.onnx.sites.Site`) and returns the name of their result.

    Raises
    ------
    ValueError
        A layer has no operator, which the error names; nothing is written then.
    TypeError
        Parameters of several types, `shape` that is none, or one of `operators` that is no function.
    ImportError
        The package onnx is not installed.

    Notes
    -----
    The file has opset 21 and IR version 10. Numbers such as ``eps`` are attributes, which hold
    float32: what float64 networks compute differs by so much.

    Examples
    --------
    ::

        to_onnx(net, params, (1, 3, 224, 224), "net.onnx")

    A layer of one's own that has no parameters and is called "double"::

        def double(at):
            return at.node("Add", at.x, at.x)


        to_onnx(net, params, (1, 3, 224, 224), "net.onnx", operators={"double": double})
    """
    net, onnx = as_layer("to_onnx", net), library("to_onnx")
    model = _Writer(onnx, net, params, shape, dtype, {} if operators is None else operators).model()
    data = model.SerializeToString()
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"to_onnx: the graph is no valid ONNX: {error}") from error
    with atomic_write(path) as file:
        file.write(data)


class _Writer:
    """Writes the layers of a network, laid flat, one after another."""

    def __init__(
        self,
        onnx: Any,
        net: Layer,
        params: Params,
        shape: Any,
        dtype: Any,
        operators: Any,
    ) -> None:
        self.onnx, self.net, self.params = onnx, net, params
        self.operators, self.shape = _functions(operators), _shape_of(shape)
        self.wiring: Wiring = flat(net, self.shape)
        self.outer = (net.wiring(self.shape) or self.wiring).outputs
        self.dtype = _common_dtype(params, dtype)
        leaves = flattened("to_onnx", params)
        if sum(leaf.nbytes for leaf in leaves.values()) > LIMIT - 2**20:
            raise ValueError("to_onnx: the parameters take more than the 2 GB that one file holds")
        self.names = Names({*self.wiring.inputs, *leaves})
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.counts: dict[str, str] = {}
        self.any_batch = True

    def model(self) -> Any:
        """Return the file's message, or refuse the network with every layer that has no operator."""
        shapes = self._shapes(self.shape)
        values = {name: name for name in self.wiring.inputs}
        unfit: dict[str, str] = {}
        for step in self.wiring.steps:
            try:
                values[step.name] = self._write(step, values, shapes)
            except UnfitError as error:
                unfit[f"  {step.name} ({step.layer.name}): {error}"] = step.layer.name
                values[step.name] = step.name
        if unfit:
            way = f"operators={{{next(iter(unfit.values()))!r}: write}} (see the page on ONNX)"
            unfit[f"a function of your own writes a layer: {way}"] = ""
            raise ValueError("\n".join(["to_onnx: some layers have no operator:", *unfit]))
        return self._assembled(values, shapes)

    def _shapes(self, shape: Any) -> dict[str, Any]:
        """Return the shape of every value, for inputs of a shape."""
        given = self.wiring.entering(shape)
        if given.keys() != set(self.wiring.inputs):
            raise ValueError(
                f"to_onnx: expected shapes of {', '.join(self.wiring.inputs)}, got {list(given)}"
            )
        for step in self.wiring.steps:
            given[step.name] = step.layer.out_shape(_one_or_all([given[s] for s in step.sources]))
        return given

    def _write(self, step: Step, values: Mapping[str, str], shapes: Mapping[str, Shape]) -> str:
        name = step.layer.name
        if name not in self.operators and name not in WRITINGS:
            raise UnfitError("there is no operator for this layer")
        held = self._held(step)
        site = Site(
            self.onnx, self.names, step.name, step.layer, tuple(values[s] for s in step.sources),
            tuple(shapes[s] for s in step.sources), shapes[step.name], held, self.dtype,
        )  # fmt: skip
        if name in self.operators:
            found = site.finish(_written(site, self.operators[name]))
        else:
            try:
                found = site.finish(WRITINGS[name].write(site))
            except KeyError as error:
                raise UnfitError(f"it has no option {error}; is it a layer of fconv?") from error
        self.nodes.extend(site.nodes)
        self.any_batch &= site.any_batch
        used = {name for node in site.nodes for name in (*node.input, found)} | {found}
        for name, array in held.values():
            if name in used and name not in self.initializers:
                self.initializers[name] = self.onnx.numpy_helper.from_array(
                    np.ascontiguousarray(asnumpy(array)), name
                )
            if name.endswith("num_batches_tracked"):
                self.counts[name] = str(int(asnumpy(array)))
        self.initializers.update((tensor.name, tensor) for tensor in site.constants)
        return found

    def _held(self, step: Step) -> dict[str, tuple[str, Array]]:
        """Return the parameters of a step by leaf, with their names in a state dict."""
        part = params_at(self.params, step.params)
        prefix = step.params or ()
        return {
            ".".join(path): (".".join((*prefix, *path)), leaf) for path, leaf in trees.leaves_with_path(part)
        }

    def _assembled(self, values: Mapping[str, str], shapes: Mapping[str, Shape]) -> Any:
        helper, wiring = self.onnx.helper, self.wiring
        wider = self._open(shapes) if self.any_batch else {}
        outputs = []
        for inner, outer in zip(wiring.outputs, self.outer, strict=True):
            name = values[inner]
            if (
                name in wiring.inputs
                or name in self.initializers
                or not (wiring.lone_output or name == outer)
            ):
                source, name = name, self.names.new("output" if wiring.lone_output else outer)
                self.nodes.append(helper.make_node("Identity", [source], [name], name=name))
            outputs.append(self._info(name, shapes[inner], wider.get(inner), self.dtype))
        integers = {
            s for step in wiring.steps if step.layer.name == "embedding" for s in step.sources
        }  # fmt: skip
        inputs = [
            self._info(
                name, shapes[name], wider.get(name), np.dtype(np.int64) if name in integers else self.dtype
            )
            for name in wiring.inputs
        ]
        graph = helper.make_graph(self.nodes, "fconv", inputs, outputs, list(self.initializers.values()))
        opsets = {"": OPSET} | {node.domain: 1 for node in self.nodes if node.domain}
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*each) for each in opsets.items()],
            ir_version=IR_VERSION, producer_name="fconv", producer_version=__version__,
        )  # fmt: skip
        helper.set_model_props(model, self.counts)
        return model

    def _open(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes under a larger batch, or none where the network is not for any batch.

        A layer that squeezes a batch axis of 1 away does another thing to a batch of 2.
        """

        def larger(shape: Shape) -> Shape:
            return (shape[0] + 1, *shape[1:]) if shape else shape

        shape = (
            larger(self.shape) if self.wiring.lone_input else {k: larger(v) for k, v in self.shape.items()}
        )
        try:
            wider = self._shapes(shape)
        except ValueError:
            return {}
        return wider if all(len(wider[name]) == len(shapes[name]) for name in wider) else {}

    def _info(self, name: str, shape: Shape, wider: Shape | None, dtype: np.dtype) -> Any:
        """Describe an input or output; the axis that follows the batch is left open."""
        sizes: list[Any] = list(shape)
        if wider is not None:
            for axis, (size, other) in enumerate(zip(shape, wider, strict=True)):
                if size != other:
                    sizes[axis] = BATCH if axis == 0 and other == size + 1 else None
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return self.onnx.helper.make_tensor_value_info(name, kind, sizes)


def _functions(operators: Any) -> Mapping[str, Callable[[Site], str]]:
    """Return what the user writes layers with, if these are functions by name."""
    if not isinstance(operators, Mapping):
        raise TypeError(
            f"to_onnx: operators: expected functions by a layer's name, got {describe(operators)}"
        )
    for name, write in operators.items():
        if not callable(write):
            raise TypeError(f"to_onnx: operators[{name!r}]: expected a function, got {describe(write)}")
    return operators


def _written(site: Site, write: Callable[[Site], str]) -> str:
    """Write a layer by the user's function."""
    found = write(site)
    if not isinstance(found, str):
        raise TypeError(
            f"to_onnx: operators[{site.layer.name!r}]: expected the name of a value, as at.node returns, "
            f"got {describe(found)}"
        )
    return found


def _one_or_all(shapes: list[Any]) -> Any:
    return shapes[0] if len(shapes) == 1 else tuple(shapes)


def _shape_of(shape: Any) -> Any:
    if isinstance(shape, Mapping):
        return {name: check_shape("to_onnx", each) for name, each in shape.items()}
    return check_shape("to_onnx", shape)


def _common_dtype(params: Params, dtype: Any) -> np.dtype:
    """Return the type of the network's numbers."""
    kinds = {leaf.dtype for leaf in trees.leaves(params) if leaf.dtype.kind == "f"}
    if len(kinds) > 1:
        raise TypeError(f"to_onnx: expected parameters of one type, got {', '.join(sorted(map(str, kinds)))}")
    found = np.dtype(kinds.pop()) if kinds else None
    if dtype is None:
        return found or np.dtype(np.float32)
    wanted = floating_dtype("to_onnx", dtype)
    if found not in (None, wanted):
        raise TypeError(f"to_onnx: expected parameters of {wanted}, got {describe(found)}")
    return np.dtype(wanted)
