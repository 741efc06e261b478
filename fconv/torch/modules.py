"""Table of torch.nn modules and layers, read in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fconv import layers
from fconv.arrays import Shape
from fconv.layer import Layer, Params
from fconv.networks import compose
from fconv.networks.reading import UnfitError
from fconv.torch.weights import numbered

Sizes = Callable[[Mapping[str, Any], Params, "Shape | None"], "dict[str, Any] | None"]


@dataclass(frozen=True)
class Twin:
    """A module class and the layer that computes the same.

    Attributes
    ----------
    module : str
        Name in torch.nn.
    layer : str
        Name of the constructor in `fconv.layers`.
    options : mapping
        Options of the layer to what the module calls them, as an attribute and as an argument.
    fixed : mapping
        Options of the layer that the class stands for.
    rank : int, optional
        Axes of the input, batch axis included, where the class has only one number of them.
    sizes : callable
        ``sizes(options, params, shape)`` gives the arguments that the module takes beyond the
        options, None where they need the input shape and it is not known.
    only : mapping
        Attributes of the module that no layer has, to the one value that is taken.
    """

    module: str
    layer: str
    options: Mapping[str, str]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    rank: int | None = None
    sizes: Sizes = lambda options, params, shape: {}
    only: Mapping[str, Any] = field(default_factory=dict)


def _named(options: str = "") -> dict[str, str]:
    """Read ``"kernel_size pad=padding"``: options of a layer, and the module's name where it differs."""
    pairs = (option.partition("=") for option in options.split())
    return {ours: theirs or ours for ours, _, theirs in pairs}


def _of_weight(axes: str) -> Sizes:
    """Take arguments from the sizes of the weight, for ``"in_features=1"``."""
    pairs = [name.split("=") for name in axes.split()]
    return lambda options, params, shape: {name: params["weight"].shape[int(axis)] for name, axis in pairs}


def _of_conv(options: Mapping[str, Any], params: Params, shape: Shape | None) -> dict[str, Any]:
    return {"in_channels": params["weight"].shape[1] * options["groups"]}


def _of_group_norm(options: Mapping[str, Any], params: Params, shape: Shape | None) -> dict[str, Any]:
    return {"num_channels": params["weight"].shape[0] if params else options["num_groups"]}


def _of_running_norm(
    options: Mapping[str, Any], params: Params, shape: Shape | None
) -> dict[str, Any] | None:
    if params:
        return {"num_features": next(iter(params.values())).shape[0]}
    return None if shape is None else {"num_features": shape[1]}


def _of_last_axes(options: Mapping[str, Any], params: Params, shape: Shape | None) -> dict[str, Any] | None:
    if "normalized_shape" in options:
        return {}
    if params:
        return {"normalized_shape": params["weight"].shape}
    return None if shape is None else {"normalized_shape": shape[-options["last_axes"] :]}


def _twins() -> Iterator[Twin]:
    for d in (1, 2, 3):
        rank, nd = d + 2, f"{d}d"
        conv = "out_channels kernel_size stride padding dilation groups bias padding_mode"
        yield Twin(f"Conv{nd}", f"conv{nd}", _named(conv), rank=rank, sizes=_of_conv)
        back = "out_channels kernel_size stride padding output_padding groups bias dilation"
        yield Twin(f"ConvTranspose{nd}", f"conv_transpose{nd}", _named(back), rank=rank,
                   sizes=_of_weight("in_channels=0"), only={"padding_mode": "zeros"})  # fmt: skip
        yield Twin(f"MaxPool{nd}", f"max_pool{nd}", _named("kernel_size stride padding dilation ceil_mode"),
                   rank=rank, only={"return_indices": False})  # fmt: skip
        means = "kernel_size stride padding ceil_mode count_include_pad" + " divisor_override" * (d > 1)
        yield Twin(f"AvgPool{nd}", f"avg_pool{nd}", _named(means), rank=rank)
        yield Twin(f"LPPool{nd}", f"lp_pool{nd}", _named("norm_type kernel_size stride ceil_mode"), rank=rank)
        yield Twin(f"AdaptiveAvgPool{nd}", f"adaptive_avg_pool{nd}", _named("output_size"), rank=rank)
        yield Twin(f"AdaptiveMaxPool{nd}", f"adaptive_max_pool{nd}", _named("output_size"), rank=rank,
                   only={"return_indices": False})  # fmt: skip
        yield Twin(f"Dropout{nd}", f"dropout{nd}", _named("p"), rank=rank)
        norm = _named("eps momentum affine track_running_stats")
        yield Twin(f"InstanceNorm{nd}", "instance_norm", norm, {"ndim": d}, rank, _of_running_norm)
        # Of two classes for one layer the first is what a layer becomes: (N, C) is BatchNorm1d's too.
        yield Twin(f"BatchNorm{nd}", "batch_norm", norm, rank=rank, sizes=_of_running_norm)
        for mode, name in (("reflect", "Reflection"), ("replicate", "Replication"), ("circular", "Circular")):
            fixed = {"mode": mode, "value": None}
            yield Twin(f"{name}Pad{nd}", "pad", _named("pad=padding"), fixed, rank)
        yield Twin(f"ConstantPad{nd}", "pad", _named("pad=padding value"), {"mode": "constant"}, rank)
    for name, layer, *options in (
        ("Identity", "identity"), ("ReLU", "relu"), ("ReLU6", "relu6"),
        ("PReLU", "prelu", "num_parameters init"), ("LeakyReLU", "leaky_relu", "negative_slope"),
        ("ELU", "elu", "alpha"), ("SELU", "selu"),
        ("CELU", "celu", "alpha"), ("GELU", "gelu", "approximate"), ("SiLU", "silu"), ("Mish", "mish"),
        ("Softplus", "softplus", "beta threshold"), ("Softsign", "softsign"), ("Tanh", "tanh"),
        ("Sigmoid", "sigmoid"), ("LogSigmoid", "log_sigmoid"), ("Hardtanh", "hardtanh", "min_val max_val"),
        ("Hardsigmoid", "hardsigmoid"), ("Hardswish", "hardswish"), ("Tanhshrink", "tanhshrink"),
        ("Threshold", "threshold", "threshold value"), ("Softshrink", "softshrink", "lambd"),
        ("Hardshrink", "hardshrink", "lambd"), ("Softmax", "softmax", "dim"), ("Softmin", "softmin", "dim"),
        ("LogSoftmax", "log_softmax", "dim"), ("GLU", "glu", "dim"), ("Dropout", "dropout", "p"),
        ("AlphaDropout", "alpha_dropout", "p"),
        ("LocalResponseNorm", "local_response_norm", "size alpha beta k"),
        ("PixelShuffle", "pixel_shuffle", "upscale_factor"),
        ("PixelUnshuffle", "pixel_unshuffle", "downscale_factor"),
        ("ChannelShuffle", "channel_shuffle", "groups"),
        ("Unfold", "unfold", "kernel_size dilation padding stride"),
        ("Fold", "fold", "output_size kernel_size dilation padding stride"),
        ("Flatten", "flatten", "start_dim end_dim"), ("Unflatten", "unflatten", "dim unflattened_size"),
    ):  # fmt: skip
        yield Twin(name, layer, _named(*options))
    yield Twin("Softmax2d", "softmax", {}, {"dim": -3})
    resized = _named("size scale_factor mode align_corners recompute_scale_factor")
    yield Twin("Upsample", "upsample", resized, {"antialias": False})
    yield Twin("Linear", "linear", _named("out_features bias"), sizes=_of_weight("in_features=1"))
    yield Twin(
        "Bilinear", "bilinear", _named("out_features bias"), sizes=_of_weight("in1_features=1 in2_features=2")
    )
    table = _named("num_embeddings embedding_dim padding_idx scale_grad_by_freq")
    yield Twin("Embedding", "embedding", table, only={"max_norm": None})
    yield Twin("GroupNorm", "group_norm", _named("num_groups eps affine"), sizes=_of_group_norm)
    shaped = "normalized_shape eps elementwise_affine"
    yield Twin("LayerNorm", "layer_norm", _named(f"{shaped} bias"), sizes=_of_last_axes)
    yield Twin("RMSNorm", "rms_norm", _named(shaped), sizes=_of_last_axes)


TWINS = tuple(_twins())
_BY_MODULE = {twin.module: twin for twin in TWINS}

GLOBAL = {"global_avg_pool": "AdaptiveAvgPool", "global_max_pool": "AdaptiveMaxPool"}

_HARMLESS = {"__init__", "__module__", "__doc__", "__qualname__", "__annotations__", "__constants__",
             "__parameters__", "__static_attributes__", "__firstlineno__", "__annotate_func__",
             "__annotations_cache__", "extra_repr", "reset_parameters"}  # fmt: skip


def plain_class(module: Any, names: Any) -> str | None:
    """Name the torch.nn class, among `names`, that a module is or adds nothing but a constructor to."""
    changed: set[str] = set()
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn.") and cls.__name__ in names:
            return cls.__name__ if not any(hasattr(cls, name) for name in changed) else None
        changed |= vars(cls).keys() - _HARMLESS
    return None


def is_leaf(module: Any) -> bool:
    """Return whether a module alone has a layer, as far as its class tells."""
    return plain_class(module, _BY_MODULE) is not None


def is_chain(module: Any) -> bool:
    """Return whether a module is a torch.nn.Sequential of leaves and such chains, each of them once."""
    if plain_class(module, {"Sequential"}) is None:
        return False
    inside = [m for _, m in module.named_modules(remove_duplicate=False)]
    links = all(m is not None and (is_leaf(m) or is_chain(m)) for m in module._modules.values())
    return links and len({id(m) for m in inside}) == len(inside)


def layer_of(module: Any) -> Layer:
    """Return the layer that computes what a leaf or a chain does.

    Raises
    ------
    UnfitError
        The class has a layer, but an option has none.
    """
    if is_chain(module):
        links = {}
        for link, m in module._modules.items():
            try:
                links[link] = layer_of(m)
            except UnfitError as error:
                raise UnfitError(f"{link}: {error}") from error
        return compose(*links.values()) if numbered(links) else compose(**links)
    name = plain_class(module, _BY_MODULE)
    twin = _BY_MODULE[name or ""]
    for attribute, value in twin.only.items():
        found = getattr(module, attribute, value)
        if found != value:
            raise UnfitError(f"{name} with {attribute}={found!r} has no layer")
    if getattr(module, "affine", False) and (module.weight is None or module.bias is None):
        raise UnfitError(f"{name} with a weight or a bias alone has no layer")
    options = {ours: _read(module, theirs) for ours, theirs in twin.options.items()}
    try:
        made: Layer = getattr(layers, twin.layer)(**options, **twin.fixed)
    except (ValueError, TypeError) as error:
        raise UnfitError(str(error)) from error
    return made


def _read(module: Any, attribute: str) -> Any:
    value = getattr(module, attribute)
    if attribute == "bias":
        return value is not None
    return tuple(value) if isinstance(value, (tuple, list)) else value


def has_module(layer: Layer) -> bool:
    """Return whether a layer has a module of torch.nn."""
    return layer.name in GLOBAL or bool(_twins_of(layer))


def module_of(layer: Layer, params: Params, shape: Shape | None, rank: int | None) -> Any:
    """Return the torch.nn module that computes what a layer does, its parameters still to be loaded.

    Of `params` only the shapes are asked. A ValueError says that the module depends on the input's shape or
    number of axes, and that is not known.
    """
    from torch import nn

    if layer.name in GLOBAL:
        return getattr(nn, f"{GLOBAL[layer.name]}{_known(layer, rank) - 2}d")(1)
    found = _twins_of(layer)
    if len(found) > 1 and all(twin.rank for twin in found):
        known = max(_known(layer, rank), 3)
        found = [twin for twin in found if twin.rank == known]
    twin = found[0]
    options = dict(layer.options)
    sizes = twin.sizes(options, params, shape)
    if sizes is None:
        raise ValueError(f"{layer.name}: its module depends on the input's shape; give shape=")
    if options.get("value", 0.0) is None and twin.options.get("value"):
        options["value"] = 0.0
    named = {theirs: options[ours] for ours, theirs in twin.options.items() if ours in options}
    return getattr(nn, twin.module)(**named, **sizes)


def _twins_of(layer: Layer) -> list[Twin]:
    return [twin for twin in TWINS if twin.layer == layer.name and _stands_for(twin, layer)]


def _stands_for(twin: Twin, layer: Layer) -> bool:
    options = layer.options
    if layer.name == "pad" and (twin.rank is None or len(options["pad"]) != 2 * (twin.rank - 2)):
        return False
    fixed = twin.fixed.items()
    if layer.name == "instance_norm" and options["ndim"] is None:
        fixed = {}.items()
    return all(options.get(option) == value for option, value in fixed)


def _known(layer: Layer, rank: int | None) -> int:
    if rank is None:
        raise ValueError(f"{layer.name}: its module depends on the number of the input's axes; give shape=")
    return rank
