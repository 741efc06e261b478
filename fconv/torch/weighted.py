"""ATen's operators with weights as layers whose parameters are the module's."""

from __future__ import annotations

import math
from typing import Any

from fconv import layers
from fconv.networks.reading import UnfitError, make
from fconv.torch.exporting import CUMULATIVE
from fconv.torch.indexing import array
from fconv.torch.table import Call, Weighted, aten, fixed, function
from fconv.torch.values import Const, Own


def _weighted(layer: Any, name: str, sources: dict[str, Any], params: dict[str, Any], **options: Any) -> Any:
    """Return a layer with its parameters, and the call of the function of that name with all its arrays."""
    held = {leaf: tensor for leaf, tensor in params.items() if tensor is not None}
    if not held:
        return layer, *sources.values()
    arrays = (*sources, *(leaf for leaf in held if not leaf.startswith("running")))
    return Weighted(layer, tuple(sources.values()), held, function(name, arrays, **options))


def _bias(c: Call) -> bool:
    return c["bias"] is not None


for _d in (1, 2, 3):

    @aten(f"conv{_d}d")
    def _conv(c: Call, d: int = _d) -> Any:
        options = c.given(stride="stride", padding="padding", dilation="dilation", groups="groups")
        out, _, *kernel = c["weight"].shape
        layer = getattr(layers, f"conv{d}d")(out, tuple(kernel), bias=_bias(c), **options)
        return _weighted(layer, f"conv{d}d", {"x": c["input"]}, _affine(c), **options)

    @aten(f"conv_transpose{_d}d")
    def _conv_transpose(c: Call, d: int = _d) -> Any:
        options = c.given(
            stride="stride", padding="padding", output_padding="output_padding", groups="groups",
            dilation="dilation",
        )  # fmt: skip
        _, out, *kernel = c["weight"].shape
        make_layer = getattr(layers, f"conv_transpose{d}d")
        layer = make_layer(out * options["groups"], tuple(kernel), bias=_bias(c), **options)
        return _weighted(layer, f"conv_transpose{d}d", {"x": c["input"]}, _affine(c), **options)


def _affine(c: Call) -> dict[str, Any]:
    return {"weight": c["weight"], "bias": c["bias"]}


def _is_apart(c: Call) -> bool:
    """Return whether a norm has a weight or a bias alone, where its layer has both or neither."""
    return (c["weight"] is None) != (c["bias"] is None)


def _apart(c: Call, plain: Any) -> Any:
    """Scale or shift what a norm gives for channels (N, C, ...)."""
    one, merge = (c["bias"], "add") if c["weight"] is None else (c["weight"], "multiply")
    return make(merge), plain, (make("view", -1, *(1,) * (len(c.shape) - 2)), one)


@aten("linear")
def _linear(c: Call) -> Any:
    layer = layers.linear(c["weight"].shape[0], bias=_bias(c))
    return _weighted(layer, "linear", {"x": c["input"]}, _affine(c))


@aten("addmm", "baddbmm")
def _addmm(c: Call) -> Any:
    if c["beta"] != 1 or c["alpha"] != 1:
        raise UnfitError(f"beta={c['beta']} and alpha={c['alpha']} have no layer")
    a, b = list(c.args.values())[1:3]
    return make("add"), (make("matmul"), a, b), c.x


@aten("bilinear")
def _bilinear(c: Call) -> Any:
    layer = layers.bilinear(c["weight"].shape[0], bias=_bias(c))
    return _weighted(layer, "bilinear", {"x1": c["input1"], "x2": c["input2"]}, _affine(c))


@aten("embedding")
def _embedding(c: Call) -> Any:
    if c["sparse"]:
        raise UnfitError("sparse=True has no layer")
    options: dict[str, Any] = {
        "padding_idx": None if c["padding_idx"] == -1 else c["padding_idx"],
        "scale_grad_by_freq": bool(c["scale_grad_by_freq"]),
    }
    if isinstance(c["indices"], Const):  # places, which no input tells
        places = array(c["indices"])
        if options["padding_idx"] is not None and (places == options["padding_idx"]).any():
            raise UnfitError("constant indices that are padding_idx have no layer")
        return make("index", (places,)), c["weight"]
    layer = layers.embedding(*c["weight"].shape, **options)
    return _weighted(layer, "embedding", {"x": c["indices"]}, {"weight": c["weight"]}, **options)


@aten("prelu", "_prelu_kernel")
def _prelu(c: Call) -> Any:
    weight = c["weight"]
    layer = layers.prelu(weight.shape[0] if weight.shape else 1)
    return _weighted(layer, "prelu", {"x": c.x}, {"weight": weight})


@aten("layer_norm")
def _layer_norm(c: Call) -> Any:
    shape = tuple(fixed(c["normalized_shape"]))
    eps = float(c["eps"])
    weight, bias = c["weight"], c["bias"]
    if weight is None and bias is not None:
        return make("add"), (layers.layer_norm(shape, eps=eps, elementwise_affine=False), c.x), bias
    layer = layers.layer_norm(shape, eps=eps, elementwise_affine=weight is not None, bias=bias is not None)
    return _weighted(layer, "layer_norm", {"x": c.x}, _affine(c), normalized_shape=shape, eps=eps)


@aten("rms_norm")
def _rms_norm(c: Call) -> Any:
    shape, eps = tuple(fixed(c["normalized_shape"])), c["eps"]
    layer = layers.rms_norm(shape, eps=eps, elementwise_affine=c["weight"] is not None)
    return _weighted(layer, "rms_norm", {"x": c.x}, {"weight": c["weight"]}, normalized_shape=shape, eps=eps)


@aten("group_norm")
def _group_norm(c: Call) -> Any:
    groups, eps = c["num_groups"], float(c["eps"])
    if _is_apart(c):
        return _apart(c, (layers.group_norm(groups, eps=eps, affine=False), c.x))
    layer = layers.group_norm(groups, eps=eps, affine=c["weight"] is not None)
    return _weighted(layer, "group_norm", {"x": c.x}, _affine(c), num_groups=groups, eps=eps)


@aten("batch_norm", "instance_norm")
def _running_norm(c: Call) -> Any:
    name, x, eps = c.operator.name, c["input"], float(c["eps"])
    switch = "training" if name == "batch_norm" else "use_input_stats"
    statistics = {leaf: c[leaf] for leaf in ("running_mean", "running_var") if c[leaf] is not None}
    if statistics and not c[switch]:  # held in inference by the module itself, in training too
        affine = {leaf: tensor for leaf, tensor in _affine(c).items() if tensor is not None}
        arrays = {"x": x, **statistics, **affine}
        return function(name, tuple(arrays), eps=eps, **{switch: False}), *arrays.values()
    if not all(isinstance(tensor, Own) for tensor in statistics.values()):
        raise UnfitError("running statistics that are no buffers of a module have no layer")
    apart = _is_apart(c)
    options = {
        "eps": eps, "momentum": None if c["momentum"] == CUMULATIVE else float(c["momentum"]),
        "affine": c["weight"] is not None and not apart, "track_running_stats": bool(statistics),
    }  # fmt: skip
    if name == "instance_norm":
        options["ndim"] = len(c.shape) - 2
    params = statistics if apart else {**_affine(c), **statistics}
    found = _weighted(getattr(layers, name)(**options), name, {"x": x}, params, eps=eps, **{switch: True})
    if not apart:
        return found
    return _apart(c, found._replace(part=True) if statistics else found)


@aten("scaled_dot_product_attention")
def _attention(c: Call) -> Any:
    given = [c[name] for name in ("query", "key", "value", "attn_mask") if c[name] is not None]
    if len(given) == 4 and isinstance(given[3], Const) and given[3].tensor.dtype.is_floating_point is False:
        given[3] = _added(given[3], given[0].dtype)
    if any(not tensor.dtype.is_floating_point for tensor in given):
        raise UnfitError("a mask that is not added has no layer")
    layer = make(
        "scaled_dot_product_attention", dropout_p=float(c["dropout_p"]), is_causal=bool(c["is_causal"]),
        scale=c["scale"], enable_gqa=bool(c.args.get("enable_gqa", False)),
    )  # fmt: skip
    return layer, *given


def _added(mask: Const, dtype: Any) -> Const:
    """Return what is added to scores for a mask of truth: 0 where it holds, minus infinity elsewhere."""
    import torch

    tensor = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask.tensor.bool(), -math.inf)
    return Const(mask.name, mask.shape, dtype, tensor)
