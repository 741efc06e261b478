"""PyTorch's functions and methods as nodes of a graph.

Each function here has PyTorch's name and arguments, tensors being `Value`, and gives what a node
is made of: ``(layer, source, ...)``, where a source is a value or such an expression again. A
method and an operator of one name share the entry.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

from fconv import layers, networks
from fconv.layer import Layer
from fconv.torch.values import Expanded, Modes, Own, UnfitError, Value

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def make(name: str, *args: Any, **options: Any) -> Layer:
    """Make a layer by name."""
    maker = getattr(layers, name, None) or getattr(networks, name)
    made: Layer = maker(*args, **options)
    return made


def function(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Enter a handler under its own name."""
    FUNCTIONS[handler.__name__] = handler
    return handler


def also(name: str, *names: str) -> None:
    """Enter the handler of one name under further names."""
    FUNCTIONS.update(dict.fromkeys(names, FUNCTIONS[name]))


def is_tensor(value: object) -> bool:
    """Tell what takes part in arithmetic as a tensor does."""
    return isinstance(value, (Value, Own, Expanded)) or (isinstance(value, tuple) and _is_expression(value))


def _is_expression(value: tuple[Any, ...]) -> bool:
    return bool(value) and isinstance(value[0], Layer)


# Functions of one tensor, whose options the layer of the same name takes too.

NO_LAYER = object()


def _plain(name: str, options: str = "", layer: str = "", **only: Any) -> None:
    """Enter a function of one tensor.

    `options` are its arguments in PyTorch's order; of those in `only`, one value alone has a layer.
    """
    order = options.split()

    def handler(input: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > len(order):
            raise UnfitError(f"expected {len(order)} options, got {len(args)}")
        given = {**dict(zip(order, args, strict=False)), **kwargs}
        for option, value in (*only.items(), ("inplace", NO_LAYER), ("_stacklevel", NO_LAYER)):
            found = given.pop(option, value)
            if value is not NO_LAYER and found != value:
                raise UnfitError(f"{option}={found!r} has no layer")
        return make(layer or name, **given), input

    FUNCTIONS[name] = handler


for _name, _options in (
    ("relu", ""), ("relu6", ""), ("leaky_relu", "negative_slope"), ("elu", "alpha"), ("selu", ""),
    ("celu", "alpha"), ("gelu", "approximate"), ("silu", ""), ("mish", ""),
    ("softplus", "beta threshold"), ("softsign", ""), ("tanh", ""), ("sigmoid", ""),
    ("hardtanh", "min_val max_val"), ("hardsigmoid", ""), ("hardswish", ""),
    ("threshold", "threshold value"), ("tanhshrink", ""), ("softshrink", "lambd"),
    ("hardshrink", "lambd"), ("glu", "dim"), ("exp", ""), ("log", ""), ("sqrt", ""), ("abs", ""),
    ("avg_pool1d", "kernel_size stride padding ceil_mode count_include_pad"),
    ("avg_pool2d", "kernel_size stride padding ceil_mode count_include_pad divisor_override"),
    ("avg_pool3d", "kernel_size stride padding ceil_mode count_include_pad divisor_override"),
    ("pixel_shuffle", "upscale_factor"), ("pixel_unshuffle", "downscale_factor"),
    ("channel_shuffle", "groups"),
    ("unfold", "kernel_size dilation padding stride"),
    ("fold", "output_size kernel_size dilation padding stride"),
    ("unflatten", "dim unflattened_size"), ("local_response_norm", "size alpha beta k"),
):  # fmt: skip
    _plain(_name, _options)
for _name in ("softmax", "softmin", "log_softmax"):
    _plain(_name, "dim", dtype=None)
for _d in "123":
    _windows = "kernel_size stride padding dilation ceil_mode"
    _plain(f"max_pool{_d}d", _windows, return_indices=False)
    _plain(f"lp_pool{_d}d", "norm_type kernel_size stride ceil_mode")
    _plain(f"adaptive_avg_pool{_d}d", "output_size")
    _plain(f"adaptive_max_pool{_d}d", "output_size", return_indices=False)
_plain("log_sigmoid")
_plain(
    "interpolate", "size scale_factor mode align_corners recompute_scale_factor", "upsample", antialias=False
)
also("log_sigmoid", "logsigmoid")
also("threshold", "_threshold")
also("interpolate", "upsample")
also("abs", "absolute")


# Arithmetic.


def _merged(name: str, *values: Any) -> Any:
    """Make the node that puts several tensors together, which stretches them as PyTorch does."""
    plain = []
    for value in values:
        if isinstance(value, Expanded):
            if not any(other is value.like for other in values):
                raise UnfitError(
                    "a tensor that was expanded is used beside others than the one it took its shape of"
                )
            value = value.value
        plain.append(value)
    return (make(name), *plain)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UnfitError(f"expected a tensor or a number, got {value!r}")
    return float(value)


def _scaled(value: Any, scale: float = 1.0, shift: float = 0.0) -> Any:
    return make("scale_shift", scale, shift), value


@function
def add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """``input + alpha * other``."""
    if is_tensor(input) and is_tensor(other):
        return _merged("add", input, other if alpha == 1 else _scaled(other, _number(alpha)))
    if is_tensor(input):
        return _scaled(input, shift=_number(alpha) * _number(other))
    return _scaled(other, _number(alpha), _number(input))


@function
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """``input - alpha * other``."""
    if is_tensor(input) and is_tensor(other):
        return _merged("subtract", input, other if alpha == 1 else _scaled(other, _number(alpha)))
    return add(input, other, alpha=-alpha)


@function
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """``other - alpha * input``."""
    return sub(other, input, alpha=alpha)


@function
def mul(input: Any, other: Any) -> Any:
    """``input * other``."""
    if is_tensor(input) and is_tensor(other):
        return _merged("multiply", input, other)
    return _scaled(input, _number(other)) if is_tensor(input) else _scaled(other, _number(input))


@function
def div(input: Any, other: Any, *, rounding_mode: Any = None) -> Any:
    """``input / other``."""
    if rounding_mode is not None:
        raise UnfitError(f"rounding_mode={rounding_mode!r} has no layer")
    if is_tensor(input) and is_tensor(other):
        return _merged("divide", input, other)
    if is_tensor(input):
        if _number(other) == 0:
            raise UnfitError("division by 0")
        return _scaled(input, 1 / _number(other))
    inverse = (make("power", -1.0), other)
    return inverse if _number(input) == 1 else _scaled(inverse, _number(input))


@function
def neg(input: Any) -> Any:
    """``-input``."""
    return _scaled(input, -1.0)


@function
def pow(input: Any, exponent: Any) -> Any:
    """``input ** exponent`` for a number as the exponent."""
    if not is_tensor(input) or is_tensor(exponent):
        raise UnfitError("an exponent that is a tensor has no layer")
    return make("power", _number(exponent)), input


def _power(name: str, exponent: float) -> None:
    FUNCTIONS[name] = lambda x: (make("power", exponent), x)


_power("square", 2.0)
_power("reciprocal", -1.0)
_power("rsqrt", -0.5)


@function
def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """Clip to an interval."""
    if is_tensor(min) or is_tensor(max):
        raise UnfitError("bounds that are tensors have no layer")
    low, high = (None if bound is None else _number(bound) for bound in (min, max))
    return make("clamp", low, high), input


@function
def clamp_min(input: Any, min: Any) -> Any:
    """Clip from below."""
    return clamp(input, min)


@function
def clamp_max(input: Any, max: Any) -> Any:
    """Clip from above."""
    return clamp(input, None, max)


@function
def matmul(input: Any, other: Any) -> Any:
    """Matrix product of the last two axes."""
    return make("matmul"), input, other


@function
def maximum(input: Any, other: Any) -> Any:
    """Larger of two entries."""
    return _merged("maximum", input, other)


@function
def minimum(input: Any, other: Any) -> Any:
    """Smaller of two entries."""
    return _merged("minimum", input, other)


@function
def max(input: Any, other: Any = None, **options: Any) -> Any:
    """Larger of two entries; the other meanings of torch.max have no layer."""
    if not is_tensor(other) or options:
        raise UnfitError("torch.max of one tensor has no layer; amax has one")
    return maximum(input, other)


@function
def min(input: Any, other: Any = None, **options: Any) -> Any:
    """Smaller of two entries; the other meanings of torch.min have no layer."""
    if not is_tensor(other) or options:
        raise UnfitError("torch.min of one tensor has no layer")
    return minimum(input, other)


also("add", "iadd")
also("sub", "isub", "subtract")
also("mul", "imul", "multiply")
also("div", "truediv", "itruediv", "divide", "true_divide")
also("neg", "negative")
also("pow", "ipow")
also("clamp", "clip")
also("matmul", "bmm", "mm")


# Sums and means.


def _reduction(name: str) -> None:
    def handler(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        if dtype is not None:
            raise UnfitError(f"dtype={dtype} has no layer")
        return make(name, tuple(dim) if isinstance(dim, (list, tuple)) else dim, keepdim=bool(keepdim)), input

    FUNCTIONS[name] = handler


for _name in ("mean", "sum", "amax"):
    _reduction(_name)


# What only the network's mode or its layout in memory changes.


def _same(name: str) -> None:
    FUNCTIONS[name] = lambda x, *args, **kwargs: (make("identity"), x)


for _name in ("contiguous", "clone", "identity"):
    _same(_name)


def _dropout(name: str) -> None:
    def handler(input: Any, p: float = 0.5, training: Any = True, inplace: bool = False) -> Any:
        mode = training if isinstance(training, Modes) else Modes(training, training)
        if mode.infer:
            raise UnfitError("it drops outside training too: training=True, where self.training is meant")
        return make(name, p) if mode.train else make("identity"), input

    FUNCTIONS[name] = handler


for _name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"):
    _dropout(_name)
