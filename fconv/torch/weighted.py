"""Functions that take weights, where the weights are parameters of the module itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fconv import layers
from fconv.layer import Layer
from fconv.torch.values import Modes, Own, UnfitError


class Weighted(NamedTuple):
    """A node whose parameters are the module's: by their names within the layer."""

    layer: Layer
    sources: tuple[Any, ...]
    params: dict[str, Own]


class ComputedError(UnfitError):
    """A weight is not a parameter of the module itself."""


def _own(**tensors: Any) -> dict[str, Own]:
    found = {}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if not isinstance(tensor, Own):
            raise ComputedError(f"its {name} is computed")
        found[name] = tensor
    return found


def _conv(d: int) -> Callable[..., Weighted]:
    def handler(
        input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
        groups: int = 1,
    ) -> Weighted:  # fmt: skip
        params = _own(weight=weight, bias=bias)
        out, _, *kernel = weight.tensor.shape
        make = getattr(layers, f"conv{d}d")
        layer = make(
            out, tuple(kernel), stride=stride, padding=padding, dilation=dilation, groups=groups,
            bias=bias is not None,
        )  # fmt: skip
        return Weighted(layer, (input,), params)

    return handler


def _conv_transpose(d: int) -> Callable[..., Weighted]:
    def handler(
        input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Weighted:  # fmt: skip
        params = _own(weight=weight, bias=bias)
        _, out, *kernel = weight.tensor.shape
        make = getattr(layers, f"conv_transpose{d}d")
        layer = make(
            out * groups, tuple(kernel), stride=stride, padding=padding, output_padding=output_padding,
            groups=groups, bias=bias is not None, dilation=dilation,
        )  # fmt: skip
        return Weighted(layer, (input,), params)

    return handler


def linear(input: Any, weight: Any, bias: Any = None) -> Weighted:
    """Affine map."""
    params = _own(weight=weight, bias=bias)
    return Weighted(layers.linear(weight.tensor.shape[0], bias=bias is not None), (input,), params)


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Weighted:
    """Affine in each of two inputs."""
    params = _own(weight=weight, bias=bias)
    return Weighted(layers.bilinear(weight.tensor.shape[0], bias=bias is not None), (input1, input2), params)


def embedding(
    input: Any, weight: Any, padding_idx: Any = None, max_norm: Any = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Weighted:  # fmt: skip
    """Look up rows of a table."""
    if max_norm is not None:
        raise UnfitError(f"max_norm={max_norm} has no layer")
    params = _own(weight=weight)
    rows, columns = weight.tensor.shape
    return Weighted(
        layers.embedding(rows, columns, padding_idx=padding_idx, scale_grad_by_freq=scale_grad_by_freq),
        (input,),
        params,
    )


def prelu(input: Any, weight: Any) -> Weighted:
    """Leaky rectified linear unit with learnt slopes."""
    params = _own(weight=weight)
    return Weighted(layers.prelu(weight.tensor.numel()), (input,), params)


def layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Weighted:  # fmt: skip
    """Normalise over the last axes."""
    if bias is not None and weight is None:
        raise UnfitError("a bias without a weight has no layer")
    params = _own(weight=weight, bias=bias)
    layer = layers.layer_norm(
        tuple(normalized_shape), eps=eps, elementwise_affine=weight is not None, bias=bias is not None
    )
    return Weighted(layer, (input,), params)


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Weighted:
    """Divide by the root mean square over the last axes."""
    params = _own(weight=weight)
    return Weighted(
        layers.rms_norm(tuple(normalized_shape), eps=eps, elementwise_affine=weight is not None),
        (input,),
        params,
    )


def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Weighted:
    """Normalise groups of channels."""
    if (bias is None) != (weight is None):
        raise UnfitError("of weight and bias, one alone has no layer")
    params = _own(weight=weight, bias=bias)
    return Weighted(layers.group_norm(num_groups, eps=eps, affine=weight is not None), (input,), params)


def _running(name: str, by_input: str) -> Callable[..., Weighted]:
    def handler(
        input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
        **options: Any,
    ) -> Weighted:  # fmt: skip
        mode = options.pop(by_input, name == "instance_norm")
        if running_mean is not None or running_var is not None:
            raise UnfitError(
                f"running statistics outside a torch.nn module have no layer; use the module of {name}"
            )
        if isinstance(mode, Modes) or not mode:
            raise UnfitError(f"without running statistics, {by_input}=True alone has a layer")
        if (bias is None) != (weight is None):
            raise UnfitError("of weight and bias, one alone has no layer")
        params = _own(weight=weight, bias=bias)
        layer = getattr(layers, name)(
            eps=options.get("eps", 1e-5), affine=weight is not None, track_running_stats=False
        )
        return Weighted(layer, (input,), params)

    return handler


WEIGHTED: dict[str, Callable[..., Weighted]] = {
    **{f"conv{d}d": _conv(d) for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": _conv_transpose(d) for d in (1, 2, 3)},
    "linear": linear,
    "bilinear": bilinear,
    "embedding": embedding,
    "prelu": prelu,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "batch_norm": _running("batch_norm", "training"),
    "instance_norm": _running("instance_norm", "use_input_stats"),
}
