"""Which network of `fconv.models` a state dict belongs to, by its names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from math import isqrt
from typing import Any, NamedTuple

from fconv import models, random
from fconv.arrays import Array, Shape
from fconv.layer import Layer
from fconv.state_dict import to_state_dict

__all__ = ["Guess", "classes_in", "guess_model"]

Shapes = dict[str, Shape]
_SHAPE_TO_TRY = 64


class Guess(NamedTuple):
    """A network: its name in `fconv.models`, the options to build it with, and its input channels."""

    name: str
    options: dict[str, Any]
    channels: int

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
    {'channels': 3, 'layers': 4, 'width': 8, 'batch_norm': False}
    """
    of_task = [n for n in _READINGS if models.MODELS[n].task == task]
    if name is not None and name not in of_task:
        raise ValueError(f"guess_model: expected a model for {task}, {', '.join(of_task)}, got {name!r}")
    shapes = {key: tuple(x.shape) for key, x in weights.items()}
    found = [
        guess
        for n in ([name] if name else of_task)
        if (guess := _reading(n, shapes, factor)) and _fits(guess, shapes)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"guess_model: the weights fit {' and '.join(g.name for g in found)}: say which with --model"
        )
    named = f"the weights do not fit {name}" if name else f"the weights fit none of {', '.join(of_task)}"
    first = "; ".join(f"{key} {shape}" for key, shape in list(shapes.items())[:3])
    raise ValueError(f"guess_model: {named}: they begin {first or 'with nothing'}")


def _reading(name: str, shapes: Shapes, factor: int | None) -> Guess | None:
    with suppress(KeyError, ValueError, IndexError):
        options, channels = _READINGS[name](shapes, factor)
        return Guess(name, options, channels)
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
    options = {"channels": channels, "layers": len(convolutions), "width": width, "batch_norm": normal}
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


_READINGS: dict[str, Callable[[Shapes, int | None], tuple[dict[str, Any], int]]] = {
    "dncnn": _dncnn, "espcn": _espcn, "fsrcnn": _fsrcnn, "srresnet": _srresnet,
    "noise2noise": _noise2noise, "noise2noise_strided": _noise2noise, "noise2noise_shallow": _noise2noise,
}  # fmt: skip


def classes_in(weights: Mapping[str, Array]) -> int | None:
    """Read the number of classes from a classifier's weights: the rows of its last matrix.

    Examples
    --------
    >>> net = models.lenet(num_classes=7)
    >>> classes_in(to_state_dict(net.init(random.key(0), (1, 1, 32, 32))))
    7
    """
    matrices = [x.shape[0] for x in weights.values() if len(x.shape) == 2]
    return int(matrices[-1]) if matrices else None
