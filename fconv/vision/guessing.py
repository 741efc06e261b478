"""Which network of `fconv.models` a state dict belongs to, by its names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from fconv import models, random, trees
from fconv.arrays import Array, Shape
from fconv.layer import Layer
from fconv.state_dict import to_state_dict

__all__ = ["Guess", "classes_in", "guess_model", "likely_factor"]

Shapes = dict[str, Shape]
_SHAPE_TO_TRY = 64


class Guess(NamedTuple):
    """A network: its name in `fconv.models`, the options to build it with, and its input channels."""

    name: str
    options: dict[str, Any]
    channels: int

    def at(self, factor: int) -> Guess:
        """Return the same network at another factor."""
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
    if (
        factor is None
        and (blind := _reading("fsrcnn", shapes, 2))
        and "fsrcnn" in of_task
        and _fits(blind, shapes)
    ):
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
    fewer of their entries add up to a pixel, and a flat grey picture does not stay grey.

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
