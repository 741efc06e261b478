"""Guess the network of `fconv.models` that a state dict belongs to, by its names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from itertools import product
from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from fconv import models, random, trees
from fconv.arrays import Array, Shape
from fconv.layer import Layer
from fconv.state_dict import rename, to_state_dict

__all__ = ["Guess", "guess_model", "likely_factor", "options_in"]

Shapes = dict[str, Shape]
_SHAPE_TO_TRY = 64


class Guess(NamedTuple):
    """A network: its name in `fconv.models`, the options to build it with, and its input channels.

    Where the weights have the names of another implementation, `renames` maps them to fconv's names, as
    `fconv.rename` takes it.
    """

    name: str
    options: dict[str, Any]
    channels: int
    renames: dict[str, str] = {}  # noqa: RUF012 - a default of a named tuple, which nobody changes

    def at(self, factor: int) -> Guess:
        """Return the same network with another scale factor."""
        return self._replace(options={**self.options, "scale_factor": factor})

    def build(self) -> Layer:
        """Build it."""
        return models.MODELS[self.name].build(**self.options)


def guess_model(
    weights: Mapping[str, Array], task: str, *, name: str | None = None, factor: int | None = None
) -> Guess:
    """Find the network, with its options, whose parameters have the names and shapes of `weights`.

    Parameters
    ----------
    weights : mapping
        A state dict.
    task : {"denoising", "super-resolution"}
        What it is for.
    name : str, optional
        The network, where it is known; only its options are looked for.
    factor : int, optional
        How many times larger a picture becomes, which the weights of some networks do not tell.

    Returns
    -------
    Guess
        The only network that fits.

    Raises
    ------
    ValueError
        None fits, or several do.

    Examples
    --------
    >>> net = models.dncnn(3, layers=4, width=8)
    >>> guess_model(to_state_dict(net.init(random.key(0), (1, 3, 16, 16))), "denoising").options
    {'channels': 3, 'layers': 4, 'width': 8, 'batch_norm': False, 'bias': 'all'}
    """
    of_task = [n for n in _READINGS if models.MODELS[n].task == task]
    if name is not None and name not in of_task:
        raise ValueError(f"guess_model: expected a model for {task}, {', '.join(of_task)}, got {name!r}")
    shapes = {key: tuple(x.shape) for key, x in weights.items()}
    found = [guess for n in ([name] if name else of_task) if (guess := _reading(n, shapes, factor))]
    if len(found) == 1:
        return found[0]
    if factor is None and "fsrcnn" in of_task and _reading("fsrcnn", shapes, 2):
        raise ValueError(
            "guess_model: the weights are those of fsrcnn, which do not tell how many times larger a picture "
            "becomes: say it with --factor"
        )
    if found:
        raise ValueError(
            f"guess_model: the weights fit {' and '.join(g.name for g in found)}: say which with --model"
        )
    named = f"the weights do not fit {name}" if name else f"the weights fit none of {', '.join(of_task)}"
    first = "; ".join(f"{key} {shape}" for key, shape in list(shapes.items())[:3])
    raise ValueError(f"guess_model: {named}: they begin {first or 'with nothing'}")


def likely_factor(net: Layer, params: Any, guess: Guess) -> int | None:
    """Find the factor that the weights of a transposed convolution were trained for.

    Its kernels have one shape for every stride, but at another stride than the trained one more or
    fewer of their elements add up to a pixel, and a flat grey picture does not stay grey.

    Parameters
    ----------
    net, params
        The network at the factor that was asked for, and its parameters.
    guess : Guess
        What `guess_model` found.

    Returns
    -------
    int or None
        The factor asked for, if grey stays grey; another from 2 to 4 where it does so much better; None
        for a network whose shapes tell the factor, and where the weights do not say.
    """
    if "scale_factor" not in guess.options:
        return None

    def error(at: int) -> float:
        built = net if at == guess.options["scale_factor"] else guess.at(at).build()
        grey = np.full((1, guess.channels, 16, 16), 0.5, next(iter(trees.leaves(params))).dtype)
        y = built.apply(params, grey)
        return float(abs(y[..., 4 * at : 12 * at, 4 * at : 12 * at].mean() - 0.5))

    asked = guess.options["scale_factor"]
    if error(asked) < 0.1:
        return int(asked)
    best = min((2, 3, 4), key=error)
    return best if error(best) < 0.02 else None


def _reading(name: str, shapes: Shapes, factor: int | None) -> Guess | None:
    """Read a network's options from names and shapes; None where it then does not have them all."""
    with suppress(KeyError, ValueError, IndexError):
        renames = _RENAMES[name](shapes) if name in _RENAMES else {}
        ours = rename(shapes, renames)
        options, channels = _READINGS[name](ours, factor)
        guess = Guess(name, options, channels, renames)
        return guess if _fits(guess, ours) else None
    return None


def _fits(guess: Guess, shapes: Shapes) -> bool:
    side = (1, guess.channels, _SHAPE_TO_TRY, _SHAPE_TO_TRY)
    try:
        params = guess.build().init(random.key(0), side)
    except (ValueError, TypeError):
        return False
    return {key: tuple(x.shape) for key, x in to_state_dict(params).items()} == shapes


def _dncnn(shapes: Shapes, factor: int | None) -> tuple[dict[str, Any], int]:
    convolutions = [shape for shape in shapes.values() if len(shape) == 4]
    width, channels = shapes["model.0.weight"][:2]
    normal = any(key.endswith("running_mean") for key in shapes)
    bias = "all" if "model.2.bias" in shapes else "first" if "model.0.bias" in shapes else "none"
    options = {
        "channels": channels, "layers": len(convolutions), "width": width, "batch_norm": normal, "bias": bias,
    }  # fmt: skip
    return options, channels


def _espcn(shapes: Shapes, factor: int | None) -> tuple[dict[str, Any], int]:
    channels = shapes["conv_1.weight"][1]
    scale = isqrt(shapes["conv_3.weight"][0] // channels)
    return {"scale": scale, "channels": channels}, channels


def _fsrcnn(shapes: Shapes, factor: int | None) -> tuple[dict[str, Any], int]:
    d, channels = shapes["first_part.0.weight"][:2]
    s = shapes["mid_part.0.weight"][0]
    m = sum(len(shape) == 4 for key, shape in shapes.items() if key.startswith("mid_part.")) - 2
    if factor is None:  # the kernels of a transposed convolution are the same for every stride
        raise ValueError("the factor is not to be seen in the weights")
    return {"scale_factor": factor, "num_channels": channels, "d": d, "s": s, "m": m}, channels


def _srresnet(shapes: Shapes, factor: int | None) -> tuple[dict[str, Any], int]:
    width, channels = shapes["conv_input.weight"][:2]
    blocks = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("residual."))
    norm = "batch" if "bn_mid.running_mean" in shapes else "instance"
    return {"channels": channels, "blocks": blocks, "norm": norm, "width": width}, channels


def _noise2noise(shapes: Shapes, factor: int | None) -> tuple[dict[str, Any], int]:
    channels = shapes["0.weight"][1]
    return {"channels": channels}, channels


def _srgan(shapes: Shapes, factor: int | None) -> tuple[dict[str, Any], int]:
    width, channels = shapes["block1.0.weight"][:2]
    blocks = sum(key.endswith(".conv1.weight") for key in shapes)
    doublings = sum(key.startswith(f"block{blocks + 3}.") and key.endswith(".conv.weight") for key in shapes)
    bias = "block2.conv1.bias" in shapes
    options = {
        "channels": channels, "blocks": blocks, "scale": 2**doublings, "width": width, "bias": bias,
        "output": "tanh" if bias else "clip",
    }  # fmt: skip
    return options, channels


def _srvgg(shapes: Shapes, factor: int | None) -> tuple[dict[str, Any], int]:
    convolutions = [shape for shape in shapes.values() if len(shape) == 4]
    width, channels = shapes["body.0.weight"][:2]
    scale = isqrt(convolutions[-1][0] // channels)
    return {"channels": channels, "convs": len(convolutions) - 2, "width": width, "scale": scale}, channels


def _noise2noise_unet(shapes: Shapes, factor: int | None) -> tuple[dict[str, Any], int]:
    shared = "_block1.0.weight" in shapes
    channels = shapes["_block1.0.weight" if shared else "enc_conv0.weight"][1]
    return {"channels": channels, "shared": shared}, channels


def _dncnn_names(shapes: Shapes) -> dict[str, str]:
    return {"dncnn.": "model."} if "dncnn.0.weight" in shapes else {}


def _fsrcnn_names(shapes: Shapes) -> dict[str, str]:
    """Read the names of Lornatang/FSRCNN-PyTorch."""
    if "feature_extraction.0.weight" not in shapes:
        return {}
    count = 1 + max((int(key.split(".")[1]) for key in shapes if key.startswith("map.")), default=-1)
    parts = {"feature_extraction.": "first_part.", "deconv.": "last_part.", "shrink.": "mid_part."}
    parts |= {f"map.{i}.": f"mid_part.{i + 2}." for i in range(count)}
    return parts | {f"expand.{i}.": f"mid_part.{count + 2 + i}." for i in (0, 1)}


def _srgan_names(shapes: Shapes) -> dict[str, str]:
    """Read the names of Lornatang/SRGAN-PyTorch, where the outer ones were ``conv_block1`` for a time."""
    if "trunk.0.rcb.0.weight" not in shapes:
        return {}
    blocks = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("trunk."))
    doublings = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("upsampling."))
    conv = "conv_block" if "conv_block1.0.weight" in shapes else "conv"
    parts = {
        f"{conv}1.": "block1.",
        f"{conv}2.": f"block{blocks + 2}.",
        f"{conv}3.": f"block{blocks + 3}.{doublings}.",
    }
    for i in range(blocks):
        for j, part in enumerate(("conv1", "bn1", "prelu", "conv2", "bn2")):
            parts[f"trunk.{i}.rcb.{j}."] = f"block{i + 2}.{part}."
    for i in range(doublings):
        for j, part in ((0, "conv"), (2, "prelu")):
            parts[f"upsampling.{i}.upsample_block.{j}."] = f"block{blocks + 3}.{i}.{part}."
    return parts


_RENAMES: dict[str, Callable[[Shapes], dict[str, str]]] = {
    "dncnn": _dncnn_names, "fsrcnn": _fsrcnn_names, "srgan": _srgan_names,
}  # fmt: skip
_READINGS: dict[str, Callable[[Shapes, int | None], tuple[dict[str, Any], int]]] = {
    "dncnn": _dncnn, "espcn": _espcn, "fsrcnn": _fsrcnn, "srresnet": _srresnet,
    "srgan": _srgan, "srvgg": _srvgg, "noise2noise_unet": _noise2noise_unet,
    "noise2noise": _noise2noise, "noise2noise_strided": _noise2noise, "noise2noise_shallow": _noise2noise,
}  # fmt: skip


def options_in(
    name: str, weights: Mapping[str, Array], shape: Shape | None = None
) -> tuple[dict[str, Any], Shape]:
    """Read the options of a classifier that its weights determine.

    Parameters
    ----------
    name : str
        The network, as in `fconv.models`.
    weights : mapping
        Its state dict.
    shape : tuple of int, optional
        The input shape, where it is known.

    Returns
    -------
    (dict, tuple of int)
        The number of classes, the rows of the last matrix; of `lenet` also what stands between; and the usual
        input shape with the channels that the first convolution takes.

    Examples
    --------
    >>> net = models.lenet(num_classes=7)
    >>> options_in("lenet", to_state_dict(net.init(random.key(0), (1, 3, 28, 28))))
    ({'num_classes': 7}, (1, 3, 28, 28))
    """
    usual = models.MODELS[name].input_shape
    shapes: list[Shape] = [tuple(x.shape) for x in weights.values()]
    matrices = [x for x in shapes if len(x) == 2]
    kernels = [x for x in shapes if len(x) == 4]
    options = {"num_classes": matrices[-1][0]} if matrices else {}
    if kernels:
        usual = (usual[0], kernels[0][1], *usual[2:])
    if name == "lenet" and matrices and kernels:
        return _lenet(kernels, matrices, options, shape or usual, [shape[2]] if shape else [usual[2], 28])
    return options, shape or usual


def _lenet(
    kernels: Sequence[Shape],
    matrices: Sequence[Shape],
    options: dict[str, Any],
    shape: Shape,
    sides: list[int],
) -> tuple[dict[str, Any], Shape]:
    """Find the stages, padding and input size from which the convolutions reach the first matrix."""
    channels, size = [x[0] for x in kernels], kernels[0][2]
    each = tuple((c,) for c in channels)
    pairs = tuple(tuple(channels[i : i + 2]) for i in range(0, len(channels), 2))
    paddings = (0, (size // 2, 0), size // 2)
    usual = signature(models.lenet).parameters
    for stages, padding, side in product((each, pairs, (tuple(channels),)), paddings, sides):
        found: dict[str, Any] = {
            "stages": stages, "kernel_size": size, "padding": padding,
            "hidden": tuple(x[0] for x in matrices[:-1]),
        }  # fmt: skip
        before = models.lenet(**found)[: len(channels) * 2 + len(stages) + 1]
        at = (*shape[:2], side, side)
        with suppress(ValueError):
            if before.out_shape(at)[1] == matrices[0][1]:
                seen = {key: value for key, value in found.items() if value != usual[key].default}
                return {**options, **seen}, at
    return options, shape
