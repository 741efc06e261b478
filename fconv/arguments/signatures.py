"""Messages for calls that do not fit a signature: what is wrong, and what to write instead."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")

_CONV = "in_channels out_channels kernel_size stride padding dilation groups bias padding_mode"
_CONV_TRANSPOSE = "in_channels out_channels kernel_size stride padding output_padding groups bias dilation"
_RUNNING_NORM = "num_features eps momentum affine track_running_stats"
_ADAM = "params lr betas eps weight_decay amsgrad"

_TORCH: Mapping[str, tuple[str, ...]] = {
    name: tuple(order.split())
    for names, order in {
        "conv1d conv2d conv3d": _CONV,
        "conv_transpose1d conv_transpose2d conv_transpose3d": _CONV_TRANSPOSE,
        "linear": "in_features out_features bias",
        "bilinear": "in1_features in2_features out_features bias",
        "batch_norm instance_norm": _RUNNING_NORM,
        "group_norm": "num_groups num_channels eps affine",
        "sgd": "params lr momentum dampening weight_decay nesterov",
        "adam adamw": _ADAM,
        "nadam": "params lr betas eps weight_decay momentum_decay",
        "lion": "params lr betas weight_decay",
        "rmsprop": "params lr alpha eps weight_decay momentum centered",
        "adagrad": "params lr lr_decay weight_decay initial_accumulator_value eps",
        "adadelta": "params lr rho eps weight_decay",
    }.items()
    for name in names.split()
}
"""Parameters of PyTorch's constructors in their order, where ours leave one of them out."""

_LEFT_OUT = {
    "in_channels": "input channels: they follow from the input",
    "in_features": "input features: they follow from the input",
    "in1_features": "input features: they follow from the inputs",
    "in2_features": "input features: they follow from the inputs",
    "num_features": "number of channels: it follows from the input",
    "num_channels": "number of channels: it follows from the input",
    "params": "parameters: its init(params) and step(params, grads, state) take them",
}

_ELSEWHERE = {
    "filters": "out_channels", "units": "out_features", "strides": "stride", "pool_size": "kernel_size",
    "dilation_rate": "dilation", "use_bias": "bias", "epsilon": "eps", "rate": "p", "learning_rate": "lr",
    "kernel_initializer": "weight_init", "bias_initializer": "bias_init", "axis": "dim",
    "keepdims": "keepdim", "alpha": "negative_slope", "training": "train", "rng": "key", "shape": "size",
}  # fmt: skip
"""Names that Keras, NumPy and others have for a parameter of ours."""

_NOT_HERE = {
    "inplace": "nothing is computed in place",
    "device": "parameters are moved by fconv.to_device(params, device)",
    "dtype": "net.init(key, shape, dtype) takes it",
    "input_shape": "net.init(key, shape) takes it",
    "input_dim": "the number of inputs follows from net.init(key, shape)",
    "data_format": "arrays are (N, C, H, W)",
    "activation": "an activation is a layer of its own, as in compose(conv2d(16, 3), relu())",
    "kernel_regularizer": "optimizers take a weight_decay",
    "size_average": 'write reduction="mean" or reduction="sum"',
    "from_logits": "cross_entropy_loss takes logits, nll_loss takes log-probabilities",
    "foreach": "there is one way to take a step",
    "fused": "there is one way to take a step",
}


def misfit(name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the message for a call that `signature` does not take: what is wrong, and what to write.

    Examples
    --------
    >>> def conv2d(out_channels, kernel_size, *, stride=1): ...
    >>> misfit("conv2d", inspect.signature(conv2d), (3, 16, 3), {})
    'conv2d takes no input channels: they follow from the input; write conv2d(16, 3)'
    >>> misfit("conv2d", inspect.signature(conv2d), (16, 3), {"strides": 2})
    "conv2d: unexpected keyword argument 'strides'; write conv2d(16, 3, stride=2)"
    """
    order = _TORCH.get(name, ())
    taken = dict(zip(order, args, strict=False))
    if callable(taken.get("params")) or isinstance(taken.get("params"), Real):
        order, taken = (), {}  # a learning rate comes first, as it should
    left_out = [each for each in order if each in _LEFT_OUT and each in {**taken, **kwargs}]
    if left_out and len(args) <= len(order) and not taken.keys() & kwargs.keys():
        kept = {key: value for key, value in {**taken, **kwargs}.items() if key not in left_out}
        first = next(iter(kept.values()), 0)
        if _fits(signature, (), kept) and not isinstance(first, (bool, tuple, list)):
            return f"{name} takes no {_LEFT_OUT[left_out[0]]}; write {_written(name, signature, kept)}"
    for key in kwargs:
        if key in _NOT_HERE and key not in signature.parameters:
            return f"{name}: no argument {key!r}: {_NOT_HERE[key]}"
    positional, named = _parameters(signature)
    renamed = {_ours(key, signature): value for key, value in kwargs.items()}
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        problem = str(error).replace("got an unexpected", "unexpected")
    if len(args) > len(positional):
        allowed = f"({', '.join(positional)})" if positional else "none"
        problem = f"too many positional arguments: expected {allowed}, got {len(args)}"
    meant = {**dict(zip([*positional, *named], args, strict=False)), **renamed}
    if len(args) <= len(positional) + len(named) and _fits(signature, (), meant):
        return f"{name}: {problem}; write {_written(name, signature, meant)}"
    options = f"*, {', '.join(named)}" if named else ""
    return f"{name}: {problem}; write {name}({', '.join(filter(None, [*positional, options]))})"


def explained(name: str, function: Callable[P, T]) -> Callable[P, T]:
    """Let a call that does not fit a function's signature say what to write.

    `name` is what messages call the function, such as ``"conv2d.apply"``; one that was explained before is
    explained again.

    Examples
    --------
    >>> def apply(params, x, *, train=False): ...
    >>> explained("relu.apply", apply)((), 0.5, training=True)
    Traceback (most recent call last):
    TypeError: relu.apply: unexpected keyword argument 'training'; write relu.apply((), 0.5, train=True)
    """
    bare = plain(function)

    @functools.wraps(bare)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return bare(*args, **kwargs)
        except TypeError as error:
            # Where the traceback ends here, the function was not entered.
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
            signature = inspect.signature(bare)
            if _fits(signature, args, kwargs):
                raise
            message = misfit(name, signature, args, kwargs)
        raise TypeError(message)

    call._fconv_plain = bare  # type: ignore[attr-defined]
    return call


def plain(function: Any) -> Any:
    """Return what `explained` was given, or the value itself."""
    return getattr(function, "_fconv_plain", function)


def own_function(function: Any) -> Any:
    """Return the function of a layer without its explanations, which calls by a network have no use for.

    That of another library, whose signature may be different, stays explained.
    """
    bare = plain(function)
    return bare if getattr(bare, "__module__", "").startswith("fconv.") else function


def require_flags(name: str, signature: inspect.Signature, arguments: Mapping[str, Any]) -> None:
    """Require True or False where the signature is annotated with bool.

    Raises
    ------
    TypeError
        An argument is something else, such as a size in the place of ``bias``.
    """
    for key, value in arguments.items():
        annotation = str(signature.parameters[key].annotation)
        if annotation not in ("bool", "bool | None") or isinstance(value, (bool, np.bool_)):
            continue
        if value is not None or annotation == "bool":
            raise TypeError(f"{name}: expected {key} to be True or False, got {shown(value)}")


def shown(value: Any, most: int = 60) -> str:
    """Write a value for a message: its repr, or its type where that is long.

    Examples
    --------
    >>> shown((1, 2)), shown(list(range(100)))
    ('(1, 2)', 'a list')
    """
    text = repr(value) if not hasattr(value, "shape") else ""
    if 0 < len(text) <= most and "\n" not in text:
        return text
    kind = type(value).__name__
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}" if value.shape else f"{value}"
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _spelled(key: str, value: Any) -> str:
    """Write a value as it may stand in a program: itself, or the name of its parameter."""
    text = repr(value) if isinstance(value, (str, Real, tuple, type(None))) else ""
    return text if 0 < len(text) <= 30 and not hasattr(value, "shape") else key


def _parameters(signature: inspect.Signature) -> tuple[list[str], list[str]]:
    """List the names of the parameters that may be positional, and of those that may not."""
    kinds = inspect.Parameter
    every = signature.parameters.values()
    return (
        [p.name for p in every if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.POSITIONAL_ONLY)],
        [p.name for p in every if p.kind is kinds.KEYWORD_ONLY],
    )


def _ours(key: str, signature: inspect.Signature) -> str:
    """Return our name for a parameter that another library, or a slip of the pen, calls `key`."""
    names = signature.parameters
    if key in names:
        return key
    if _ELSEWHERE.get(key) in names:
        return _ELSEWHERE[key]
    close = get_close_matches(key, names, n=1)
    return close[0] if close else key


def _fits(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _written(name: str, signature: inspect.Signature, arguments: Mapping[str, Any]) -> str:
    """Write a call out, with names for what has to have one."""
    positional, _ = _parameters(signature)
    values = [_spelled(key, arguments[key]) for key in positional if key in arguments]
    if len(values) < len([key for key in arguments if key in positional]):
        positional = []
    options = [f"{key}={_spelled(key, value)}" for key, value in arguments.items() if key not in positional]
    return f"{name}({', '.join([*values, *options])})"
