"""Arithmetic of several tensors, and of one with numbers."""

from __future__ import annotations

from collections.abc import Callable

from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.sites import Site
from fconv.onnx.values import Value

MERGES = {
    "Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum", "Min": "minimum",
}  # fmt: skip

AFFINE: dict[str, tuple[Callable[[float], tuple[float, float]], Callable[[float], tuple[float, float]]]] = {
    "Add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "Sub": (lambda c: (1.0, -c), lambda c: (-1.0, c)),
    "Mul": (lambda c: (c, 0.0), lambda c: (c, 0.0)),
    "Div": (lambda c: (1.0 / c, 0.0), lambda c: (c, 0.0)),
}
"""Scale and shift by a number after the operator, and before it (of the inverse, for Div)."""


def _number(node: Node, index: int, other: Value) -> float | None:
    """Return an input that is one number, stretches nothing and is no parameter."""
    held = node.value(index)
    if node.graph.ours and node.graph.is_initializer(held.name):
        return None
    if held.data is None or held.rank > other.rank or held.data[0].size != 1 or other.data is not None:
        return None
    return node.scalar(index)


@reads(
    "Add", "Sub", "Mul", "Div", "Max", "Min",
    becomes="scale_shift or clamp with one number; otherwise add, subtract, multiply, divide, maximum, "
    "minimum",
    refused="integers",
)  # fmt: skip
def merge(node: Node) -> Value:
    """Arithmetic element by element; a constant that is no single number becomes a `parameter`."""
    values = [node.value(i) for i in range(len(node.inputs))]
    if len(values) == 1:
        return node.same(values[0])
    if len(values) == 2 and node.op in AFFINE:
        for index, rule in zip((1, 0), AFFINE[node.op], strict=True):
            other = values[1 - index]
            number = _number(node, index, other)
            if number is None:
                continue
            if node.op == "Div" and index == 0:
                other = node.step(make("reciprocal"), other)
            elif node.op == "Div" and number == 0:
                raise UnfitError("division by 0")
            return node.layer(make("scale_shift", *rule(number)), other)
    if len(values) == 2 and node.op in ("Max", "Min"):
        for index in (0, 1):
            number = _number(node, index, values[1 - index])
            if number is not None:
                bounds = (number, None) if node.op == "Max" else (None, number)
                return node.layer(make("clamp", *bounds), values[1 - index])
    first, *others = values
    for other in others[:-1]:
        first = node.step(make(MERGES[node.op]), first, other)
    return node.layer(make(MERGES[node.op]), first, others[-1])


@reads("Sum", "Mean", becomes="add; Mean: scale_shift after it")
def total(node: Node) -> Value:
    """Sum or mean of tensors."""
    values = [node.value(i) for i in range(len(node.inputs))]
    layer = make("add" if len(values) > 1 else "identity")
    if node.op == "Sum":
        return node.layer(layer, *values)
    return node.layer(make("scale_shift", 1 / len(values)), node.step(layer, *values))


@reads("Pow", becomes="power with one number for the exponent, power_of for the base; otherwise pow")
def power(node: Node) -> Value:
    """Power of a number, with one, or of two tensors."""
    base, exponent = node.value(0), node.value(1)
    lone, raised = _number(node, 1, base), _number(node, 0, exponent)
    if lone is not None:
        return node.layer(make("power", lone), base)
    if raised is not None:
        return node.layer(make("power_of", raised), exponent)
    return node.layer(make("pow"), base, exponent)


@writes("power", operators="Pow")
def write_power(at: Site) -> str:
    """Write a power."""
    return at.node("Pow", at.x, at.constant(at.options["exponent"]))


@writes("power_of", operators="Pow")
def write_power_of(at: Site) -> str:
    """Write the powers of a number."""
    return at.node("Pow", at.constant(at.options["base"]), at.x)


@writes("scale_shift", operators="Mul, Add")
def write_scale_shift(at: Site) -> str:
    """Write a factor and a summand."""
    scale, shift = at.options["scale"], at.options["shift"]
    y = at.x if scale == 1 else at.node("Mul", at.x, at.constant(scale))
    y = y if shift == 0 else at.node("Add", y, at.constant(shift))
    return y if y != at.x else at.node("Identity", y)


@writes(
    "add", "multiply", "maximum", "minimum", "subtract", "divide", operators="Add, Mul, Max, Min, Sub, Div"
)
def write_merge(at: Site) -> str:
    """Write arithmetic element by element, two values at a time."""
    op = next(op for op, name in MERGES.items() if name == at.layer.name)
    y, *others = at.sources
    for other in others:
        y = at.node(op, y, other)
    return y if others else at.node("Identity", y)


@writes("matmul", operators="MatMul")
def write_matmul(at: Site) -> str:
    """Write a matrix product."""
    return at.node("MatMul", *at.sources)


@writes("parameter", operators="an initializer")
def write_parameter(at: Site) -> str:
    """Write a parameter by itself, which is its initializer."""
    return at.parameter("")
