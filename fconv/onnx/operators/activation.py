"""Activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.sites import Site
from fconv.onnx.values import Value

Options = dict[str, tuple[str, float]]
"""Each option of a layer with the operator's attribute and the attribute's default."""

ALIKE: dict[str, tuple[str, Options]] = {
    op: (op.lower(), {})
    for op in (
        "Relu", "Sigmoid", "Softsign", "Tanh", "Mish", "Cos", "Exp", "Log", "Sin", "Sqrt", "Abs", "Erf",
        "Reciprocal", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cosh", "Floor", "Round",
        "Sign", "Sinh", "Tan",
    )
} | {
    "LeakyRelu": ("leaky_relu", {"negative_slope": ("alpha", 0.01)}),
    "Elu": ("elu", {"alpha": ("alpha", 1.0)}),
}  # fmt: skip
"""Operators and layers of one tensor that say the same, option by option."""

READ_ALIKE: dict[str, tuple[str, Options]] = {
    "Celu": ("celu", {"alpha": ("alpha", 1.0)}), "HardSwish": ("hardswish", {}), "Softplus": ("softplus", {}),
}  # fmt: skip
"""The same for reading alone."""


def _read(operator: str, layer: str, options: Options) -> None:
    @reads(operator, becomes=layer)
    def read(node: Node) -> Value:
        given = {ours: node.number(theirs, default) for ours, (theirs, default) in options.items()}
        return node.layer(make(layer, **given), node.value())


def _written(operator: str, layer: str, options: Options) -> None:
    @writes(layer, operators=operator)
    def write(at: Site) -> str:
        given = {theirs: float(at.options[ours]) for ours, (theirs, _) in options.items()}
        return at.node(operator, at.x, **given)


for _operator, (_layer, _options) in (ALIKE | READ_ALIKE).items():
    _read(_operator, _layer, _options)
    if _operator in ALIKE:
        _written(_operator, _layer, _options)


@writes("celu", operators="Celu; for other types than float32 Div, Elu and Mul")
def write_celu(at: Site) -> str:
    """Write celu, whose operator is defined for float32 alone, as ``alpha * elu(x / alpha)``."""
    alpha = at.options["alpha"]
    if at.dtype == np.float32:
        return at.node("Celu", at.x, alpha=float(alpha))
    scale = at.constant(alpha)
    return at.node("Mul", at.node("Elu", at.node("Div", at.x, scale), alpha=1.0), scale)


SELU = (1.67326319217681884765625, 1.05070102214813232421875)
"""The constants of ONNX, which are PyTorch's in float32."""


@reads("Selu", becomes="selu; with other constants elu and scale_shift")
def selu(node: Node) -> Value:
    """Scaled exponential linear unit."""
    given = node.number("alpha", SELU[0]), node.number("gamma", SELU[1])
    if np.any(np.abs(np.subtract(given, SELU)) > 1e-5):
        return node.layer(make("scale_shift", given[1], 0.0), node.step(make("elu", given[0]), node.value()))
    return node.layer(make("selu"), node.value())


@writes("selu", operators="Selu; for other types than float32 Elu and Mul")
def write_selu(at: Site) -> str:
    """Write selu; an attribute holds its constants with the digits of float32 alone."""
    if at.dtype == np.float32:
        return at.node("Selu", at.x)
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    below = at.node(
        "Mul", at.node("Elu", at.node("Min", at.x, at.constant(0.0)), alpha=1.0), at.constant(alpha)
    )
    return at.node("Mul", at.node("Add", at.node("Relu", at.x), below), at.constant(scale))


@reads("Gelu", becomes="gelu")
def gelu(node: Node) -> Value:
    """Gaussian error linear unit."""
    return node.layer(make("gelu", node.text("approximate", "none")), node.value())


@writes("gelu", operators="Gelu; for other types than float32 Erf or Tanh, and Div, Pow, Mul, Add")
def write_gelu(at: Site) -> str:
    """Write gelu; the definition of its operator has constants of float32 alone."""
    how = at.options["approximate"]
    if at.dtype == np.float32:
        return at.node("Gelu", at.x, approximate=how)
    if how == "none":
        inner = at.node("Erf", at.node("Div", at.x, at.constant(np.sqrt(2.0))))
    else:
        cube = at.node("Mul", at.node("Pow", at.x, at.constant(3.0)), at.constant(0.044715))
        inner = at.node("Tanh", at.node("Mul", at.node("Add", at.x, cube), at.constant(np.sqrt(2 / np.pi))))
    half = at.node("Mul", at.x, at.constant(0.5))
    return at.node("Mul", half, at.node("Add", inner, at.constant(1.0)))


@reads("Swish", becomes="silu; for another alpha scale_shift, sigmoid, multiply")
def swish(node: Node) -> Value:
    """Sigmoid linear unit."""
    x, alpha = node.value(), node.number("alpha", 1.0)
    if alpha == 1:
        return node.layer(make("silu"), x)
    gate = node.step(make("sigmoid"), node.step(make("scale_shift", alpha), x))
    return node.layer(make("multiply"), x, gate)


@writes("silu", operators="Sigmoid and Mul")
def write_silu(at: Site) -> str:
    """Write silu, as PyTorch's own exporter does."""
    return at.node("Mul", at.x, at.node("Sigmoid", at.x))


@writes("softplus", operators="Softplus; another beta: Mul and Div; a threshold below 20: Greater and Where")
def write_softplus(at: Site) -> str:
    """Write softplus. Above a threshold of 20, what PyTorch leaves out is less than 2e-9."""
    beta, threshold = float(at.options["beta"]), float(at.options["threshold"])
    scaled = at.x if beta == 1 else at.node("Mul", at.x, at.constant(beta))
    y = at.node("Softplus", scaled)
    y = y if beta == 1 else at.node("Div", y, at.constant(beta))
    if threshold >= 20:
        return y
    return at.node("Where", at.node("Greater", scaled, at.constant(threshold)), at.x, y)


@reads("Neg", becomes="scale_shift")
def neg(node: Node) -> Value:
    """Change of sign."""
    return node.layer(make("scale_shift", -1.0, 0.0), node.value())


@writes("log_sigmoid", operators="Neg, Softplus, Neg")
def write_log_sigmoid(at: Site) -> str:
    """Write the logarithm of the sigmoid."""
    return at.node("Neg", at.node("Softplus", at.node("Neg", at.x)))


@reads("PRelu", becomes="prelu", refused="a slope that is neither one number nor one a channel")
def prelu(node: Node) -> Value:
    """Leaky rectified linear unit with learnt slopes."""
    x, slope = node.value(), node.constant(1)
    aligned = (1,) * (x.rank - slope.ndim) + slope.shape
    channels = x.size(1) if x.rank > 1 and slope.size > 1 else 1
    if slope.size > 1 and aligned != (1, channels) + (1,) * (x.rank - 2):
        raise UnfitError(f"a slope of shape {slope.shape} for an input of shape {x.shapes[0]} has no layer")
    flat = slope.reshape(-1)
    return node.layer(make("prelu", flat.size), x, params={"weight": (1, flat)})


@writes("prelu", operators="PRelu, with the slope laid out by Reshape")
def write_prelu(at: Site) -> str:
    """Write prelu; the slope gets an axis of length 1 for each axis that follows the channels."""
    slope, count = at.parameter("weight"), at.options["num_parameters"]
    if count > 1 and len(at.shape) > 2:
        slope = at.node("Reshape", slope, at.integers(count, *(1,) * (len(at.shape) - 2)))
    return at.node("PRelu", at.x, slope)


@reads("HardSigmoid", becomes="hardsigmoid; scale_shift and hardtanh for another slope")
def hard_sigmoid(node: Node) -> Value:
    """Straight pieces in place of the sigmoid."""
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return node.layer(make("hardsigmoid"), node.value())
    return node.layer(make("hardtanh", 0.0, 1.0), node.step(make("scale_shift", alpha, beta), node.value()))


@writes("hardsigmoid", operators="HardSigmoid; for other types than float32 Add, Clip and Div")
def write_hardsigmoid(at: Site) -> str:
    """Write hardsigmoid; a sixth as an attribute has the digits of float32 alone."""
    return at.node("HardSigmoid", at.x, alpha=1 / 6, beta=0.5) if at.dtype == np.float32 else _sixths(at)


def _sixths(at: Site) -> str:
    moved = at.node("Add", at.x, at.constant(3.0))
    return at.node("Div", at.node("Clip", moved, at.constant(0.0), at.constant(6.0)), at.constant(6.0))


@writes("hardswish", operators="HardSwish; for other types than float32 Add, Clip, Div and Mul")
def write_hardswish(at: Site) -> str:
    """Write hardswish."""
    return at.node("HardSwish", at.x) if at.dtype == np.float32 else at.node("Mul", at.x, _sixths(at))


@reads("Clip", becomes="relu6, hardtanh; clamp with one bound")
def clip(node: Node) -> Value:
    """Clip to an interval; before opset 11 the bounds are attributes."""
    if node.opset < 11:
        low, high = node.number("min", -np.inf), node.number("max", np.inf)
        low, high = (low if low > -3.4e38 else -np.inf), (high if high < 3.4e38 else np.inf)
    else:
        low = node.scalar(1) if node.has(1) else -np.inf
        high = node.scalar(2) if node.has(2) else np.inf
    if (low, high) == (0, 6):
        return node.layer(make("relu6"), node.value())
    if np.isinf(low) and np.isinf(high):
        return node.same(node.value())
    if -np.inf < low < high < np.inf:
        return node.layer(make("hardtanh", low, high), node.value())
    if low > high:
        raise UnfitError(f"bounds {low} and {high}, of which the lower is above the upper, have no layer")
    bounds = (None if np.isinf(bound) else bound for bound in (low, high))
    return node.layer(make("clamp", *bounds), node.value())


def _clip(at: Site, low: Any, high: Any) -> str:
    return at.node(
        "Clip", at.x, "" if low is None else at.constant(low), *([] if high is None else [at.constant(high)])
    )


@writes("relu6", "hardtanh", "clamp", operators="Clip")
def write_clip(at: Site) -> str:
    """Write clipping."""
    if at.layer.name == "relu6":
        return _clip(at, 0.0, 6.0)
    low, high = ("min_val", "max_val") if at.layer.name == "hardtanh" else ("min", "max")
    return _clip(at, at.options[low], at.options[high])


@reads("ThresholdedRelu", becomes="threshold")
def thresholded_relu(node: Node) -> Value:
    """Elements above a threshold, and 0 for the others."""
    return node.layer(make("threshold", node.number("alpha", 1.0), 0.0), node.value())


@writes("threshold", operators="ThresholdedRelu; another value than 0: Greater and Where")
def write_threshold(at: Site) -> str:
    """Write a threshold."""
    bound, value = float(at.options["threshold"]), at.options["value"]
    if value == 0 and np.float32(bound) == bound:
        return at.node("ThresholdedRelu", at.x, alpha=bound)
    above = at.node("Greater", at.x, at.constant(bound))
    return at.node("Where", above, at.x, at.constant(value))


@reads("Shrink", becomes="hardshrink, softshrink", refused="a bias that is neither 0 nor lambd")
def shrink(node: Node) -> Value:
    """Elements near 0 become 0; the others may move towards it."""
    bias, lambd = node.number("bias", 0.0), node.number("lambd", 0.5)
    if bias not in (0.0, lambd):
        raise UnfitError(f"bias {bias} and lambd {lambd}: the bias is neither 0 nor lambd")
    return node.layer(make("softshrink" if bias else "hardshrink", lambd), node.value())


@writes("hardshrink", "softshrink", operators="Shrink")
def write_shrink(at: Site) -> str:
    """Write shrinking."""
    lambd = float(at.options["lambd"])
    return at.node("Shrink", at.x, lambd=lambd, bias=lambd if at.layer.name == "softshrink" else 0.0)


@writes("tanhshrink", operators="Tanh and Sub")
def write_tanhshrink(at: Site) -> str:
    """Write the remainder of the hyperbolic tangent."""
    return at.node("Sub", at.x, at.node("Tanh", at.x))


@reads("Softmax", becomes="softmax", refused="before opset 13, an axis before one of more than one element")
@reads("LogSoftmax", becomes="log_softmax", refused="as Softmax")
def softmax(node: Node) -> Value:
    """Softmax along an axis, or its logarithm."""
    return node.layer(make("softmax" if node.op == "Softmax" else "log_softmax", _axis(node)), node.value())


def _axis(node: Node) -> int:
    """Return the axis. Before opset 13 it and all that follow it were one."""
    x = node.value()
    axis = x.axis(node.integer("axis", -1 if node.opset >= 13 else 1))
    if node.opset < 13 and any(size != 1 for shape in x.shapes for size in shape[axis + 1 :]):
        raise UnfitError("before opset 13 it goes over several axes at once, which has no layer")
    return axis


@writes("softmax", "softmin", "log_softmax", operators="Softmax, LogSoftmax; softmin: Neg before it")
def write_softmax(at: Site) -> str:
    """Write the softmax and its kin."""
    x = at.node("Neg", at.x) if at.layer.name == "softmin" else at.x
    return at.node("LogSoftmax" if at.layer.name == "log_softmax" else "Softmax", x, axis=at.options["dim"])


@writes("glu", operators="Split, Sigmoid, Mul")
def write_glu(at: Site) -> str:
    """Write the gated linear unit."""
    first = at.node("Split", at.x, axis=at.options["dim"], num_outputs=2, count=2)
    return at.node("Mul", first, at.node("Sigmoid", f"{first}.1"))
