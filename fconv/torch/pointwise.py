"""ATen's operators of each element by itself, of sums over axes, and of products, as layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fconv.networks.reading import UnfitError, make
from fconv.torch.table import Call, aten, is_number, is_tensor, number, plain, plain_number
from fconv.torch.values import Const, Own, Value

for _row in (
    ("relu",), ("relu6",), ("leaky_relu", "negative_slope"), ("selu",), ("celu", "alpha"), ("mish",),
    ("gelu", "approximate"), ("silu",), ("softplus", "beta threshold"), ("tanh",), ("sigmoid",),
    ("log_sigmoid",), ("hardtanh", "min_val max_val"), ("hardsigmoid",), ("hardswish",),
    ("threshold", "threshold value"), ("softshrink", "lambd"), ("hardshrink", "lambd"), ("glu", "dim"),
    ("exp",), ("log",), ("sqrt",), ("abs absolute",), ("sin",), ("cos",), ("erf",), ("reciprocal",), ("tan",),
    ("asin arcsin",), ("acos arccos",), ("atan arctan",), ("sinh",), ("cosh",), ("asinh",), ("acosh",),
    ("atanh",), ("floor",), ("ceil",), ("round",), ("sign sgn",), ("cumsum", "dim"), ("cumprod", "dim"),
    ("identity contiguous clone alias lift_fresh_copy lift_fresh",),
):  # fmt: skip
    plain(*_row)


@aten("elu")
def _elu(c: Call) -> Any:
    if c["scale"] != 1 or c["input_scale"] != 1:
        raise UnfitError(f"scale={c['scale']} and input_scale={c['input_scale']} have no layer")
    return make("elu", float(c["alpha"])), c.x


@aten("softmax", "log_softmax", "_softmax", "_log_softmax")
def _softmax(c: Call) -> Any:
    _same_dtype(c)
    return make(c.operator.name.lstrip("_"), c["dim"]), c.x


def _same_dtype(c: Call) -> None:
    if c.args.get("dtype") not in (None, c.x.dtype):
        raise UnfitError(f"dtype={c['dtype']} of an input of {c.x.dtype} has no layer")


# Arithmetic.


def scaled(value: Any, scale: float = 1.0, shift: float = 0.0) -> Any:
    """Return ``scale * value + shift``."""
    return make("scale_shift", scale, shift), value


def _operand(c: Call, value: Any) -> Any:
    """Return a constant in the type of the result, where it is of integers."""
    if isinstance(value, Const) and value.dtype != c.operator.out.dtype and not value.dtype.is_floating_point:
        tensor = value.tensor.to(c.operator.out.dtype)
        return replace(value, tensor=tensor, dtype=tensor.dtype)
    if isinstance(value, (Value, Own)) and not value.dtype.is_floating_point and not _is_truth(value):
        raise UnfitError(f"arithmetic with a tensor of {value.dtype} has no layer")
    return value


def _is_truth(value: Any) -> bool:
    """Return whether a tensor is a computed boolean, which is 0 or 1 as numbers in the network."""
    return isinstance(value, Value) and str(value.dtype) == "torch.bool"


def _two(c: Call) -> tuple[Any, Any, float]:
    """Return both operands, `other` times alpha, numbers as numbers."""
    a, b = _operand(c, c.x), _operand(c, c["other"])
    alpha = number(c.args.get("alpha", 1))
    a = number(a) if is_number(a) else a
    if is_number(b):
        return a, alpha * number(b), 1.0
    return a, b, alpha


@aten("add", "sub", "subtract", stretches=True)
def _add(c: Call) -> Any:
    a, b, alpha = _two(c)
    name, sign = ("add", 1.0) if c.operator.name == "add" else ("subtract", -1.0)
    if is_tensor(a) and is_tensor(b):
        return make(name), a, b if alpha == 1 else scaled(b, alpha)
    return scaled(a, shift=sign * b) if is_tensor(a) else scaled(b, sign * alpha, a)


@aten("rsub")
def _rsub(c: Call) -> Any:
    a, b, alpha = _operand(c, c.x), c["other"], number(c["alpha"])
    if is_number(b):
        return scaled(a, -alpha, number(b))
    return make("subtract"), _operand(c, b), a if alpha == 1 else scaled(a, alpha)


@aten("mul", "multiply", stretches=True)
def _mul(c: Call) -> Any:
    a, b, _ = _two(c)
    if is_tensor(a) and is_tensor(b):
        return make("multiply"), a, b
    return scaled(a, b) if is_tensor(a) else scaled(b, a)


@aten("stochastic_depth")
def _stochastic_depth(c: Call) -> Any:
    """Drop whole examples: what a program's operators of that kind are gathered into."""
    keep, divisor, shape = c["keep"], c["divisor"], c["shape"]
    if any(n != 1 for n in shape[1:]) or len(shape) != len(c.x.shape):
        raise UnfitError(f"random numbers of the shape {tuple(shape)} have no layer")
    layer = make("stochastic_depth", 1 - keep, mode="batch" if shape[0] == 1 else "row")
    return (layer, c.x) if divisor == keep else scaled((layer, c.x), keep / divisor)


@aten("div", "divide", "true_divide", stretches=True)
def _div(c: Call) -> Any:
    if c.args.get("rounding_mode") is not None:
        raise UnfitError(f"rounding_mode={c['rounding_mode']!r} has no layer")
    a, b, _ = _two(c)
    if is_tensor(a) and is_tensor(b):
        return make("divide"), a, b
    if is_tensor(a):
        if b == 0:
            raise UnfitError("division by 0")
        return scaled(a, 1 / b)
    inverse = (make("reciprocal"), b)
    return inverse if a == 1 else scaled(inverse, a)


COMPARISONS = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
    "ne": "not_equal",
}  # fmt: skip
COMPARISONS |= {name: name for name in COMPARISONS.values() if name != "equal"}


@aten(*COMPARISONS, stretches=True)
def _compare(c: Call) -> Any:
    """Compare two tensors, or one with a number: 1 where it holds and 0 elsewhere."""
    other = c["other"]
    if not is_tensor(other):
        other = plain_number(other, c.x.dtype)
    return make("compare", COMPARISONS[c.operator.name]), _operand(c, c.x), other


@aten("logical_not", "bitwise_not")
def _not(c: Call) -> Any:
    if not _is_truth(c.x):
        raise UnfitError(f"it has no layer for a tensor of {c.x.dtype}")
    return scaled(c.x, -1.0, 1.0)


@aten("logical_and", "bitwise_and", "__and__", "logical_or", "bitwise_or", "__or__", stretches=True)
def _both(c: Call) -> Any:
    if not (_is_truth(c.x) and _is_truth(c["other"])):
        raise UnfitError("it has a layer for two computed tensors of truth alone")
    return make("multiply" if "and" in c.operator.name else "maximum"), c.x, c["other"]


@aten("neg", "negative")
def _neg(c: Call) -> Any:
    return scaled(c.x, -1.0)


@aten("pow")
def _pow(c: Call) -> Any:
    if is_tensor(c["exponent"]) and not is_number(c["exponent"]) and is_tensor(c.x):
        return make("pow"), c.x, c["exponent"]
    if not is_tensor(c.x):
        base = number(c.x)
        return make("power_of", base), c["exponent"]
    return make("power", number(c["exponent"])), c.x


@aten("square", "rsqrt")
def _power(c: Call) -> Any:
    return make("power", 2.0 if c.operator.name == "square" else -0.5), c.x


@aten("clamp", "clip", "clamp_min", "clamp_max", "clamp_")
def _clamp(c: Call) -> Any:
    low, high = c.args.get("min"), c.args.get("max")
    if any(is_tensor(bound) and not is_number(bound) for bound in (low, high)):
        value = c.x
        for bound, merge in ((low, "maximum"), (high, "minimum")):
            if is_tensor(bound) and not is_number(bound):
                value = (make(merge), value, bound)
            elif bound is not None:
                args = (number(bound), None) if merge == "maximum" else (None, number(bound))
                value = (make("clamp", *args), value)
        return value
    return make("clamp", *(None if bound is None else number(bound) for bound in (low, high))), c.x


@aten("matmul", "bmm", "mm")
def _matmul(c: Call) -> Any:
    return make("matmul"), c.x, c.args.get("other", c.args.get("mat2"))


@aten("maximum", "minimum", "max", "min", stretches=True)
def _larger(c: Call) -> Any:
    name = c.operator.name
    if "other" in c.args:
        return make("maximum" if name.startswith("max") else "minimum"), c.x, c["other"]
    if "dim" not in c.args:
        return make(f"a{name}"), c.x
    return (make(name, c["dim"], keepdim=bool(c["keepdim"])), c.x), None


@aten("var", "std", "var_mean", "std_mean")
def _spread(c: Call) -> Any:
    """Variance or deviation, by the correction or by the older `unbiased`."""
    name = c.operator.name.removesuffix("_mean")
    correction = c.args.get("correction", int(c.args.get("unbiased", True)))
    correction = 1 if correction is None else correction
    keep = bool(c.args.get("keepdim", False))
    spread = make(name, c.axes(), correction=float(correction), keepdim=keep), c.x
    return (
        (spread, (make("mean", c.axes(), keepdim=keep), c.x)) if isinstance(c.operator.out, tuple) else spread
    )


@aten("linalg_vector_norm", "norm", "frobenius_norm")
def _norm(c: Call) -> Any:
    _same_dtype(c)
    order = c.args.get("ord", c.args.get("p"))
    order = 2.0 if order is None else number(order)
    return make("vector_norm", order, c.axes(), keepdim=bool(c.args.get("keepdim", False))), c.x


@aten("einsum")
def _einsum(c: Call) -> Any:
    tensors = c["tensors"]
    if len(tensors) > 3:
        raise UnfitError(f"einsum of {len(tensors)} tensors has no layer")
    return make("einsum", c["equation"]), *tensors


@aten("mean", "sum", "amax", "amin", "prod", "logsumexp")
def _reduction(c: Call) -> Any:
    _same_dtype(c)
    return make(c.operator.name, c.axes(), keepdim=bool(c.args.get("keepdim", False))), c.x


@aten("addcmul")
def _addcmul(c: Call) -> Any:
    product = (make("multiply"), c["tensor1"], c["tensor2"])
    return make("add"), c.x, product if c["value"] == 1 else scaled(product, number(c["value"]))


@aten("lerp")
def _lerp(c: Call) -> Any:
    difference = (make("subtract"), c["end"], c.x)
    weight = c["weight"]
    step = scaled(difference, number(weight)) if is_number(weight) else (make("multiply"), difference, weight)
    return make("add"), c.x, step


# What only the network's mode or the layout in memory changes.


@aten("to", "_to_copy", "type_as")
def _to(c: Call) -> Any:
    truth = _is_truth(c.x) and c.operator.out.dtype.is_floating_point
    if c.operator.out.dtype != c.x.dtype and not truth:
        raise UnfitError(f"{c.x.dtype} becoming {c.operator.out.dtype} has no layer")
    return make("identity"), c.x


@aten("dropout", "feature_dropout", "alpha_dropout")
def _dropout(c: Call) -> Any:
    if not c["train"]:
        return make("identity"), c.x
    name = c.operator.name
    if name == "feature_dropout":
        name = f"dropout{len(c.shape) - 2}d" if 3 <= len(c.shape) <= 5 else "dropout"
    return make(name, float(c["p"])), c.x
