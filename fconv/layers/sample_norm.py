"""Normalising layers without state: layer, group, RMS and local response norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.protocols import Differentiable
from fconv.functional.response import check_response
from fconv.functional.sample_norm import check_group_shape, check_sizes, last_sizes
from fconv.initializers import ones, zeros
from fconv.layer import Layer
from fconv.layers.from_function import Leaves, from_function
from fconv.options import number, whole

__all__ = ["group_norm", "layer_norm", "local_response_norm", "rms_norm"]


@constructor
def layer_norm(
    normalized_shape: int | Sequence[int] | None = None,
    *,
    eps: float = 1e-5,
    elementwise_affine: bool = True,
    bias: bool = True,
    last_axes: int = 1,
) -> Layer:
    """Normalise over the last axes of each sample; see `fconv.functional.layer_norm`.

    Parameters
    ----------
    normalized_shape : int or sequence of int, optional
        Sizes of the last axes; from the input where it is not given.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Scale and shift each element.
    bias : bool
        Without it, there is a scale but no shift.
    last_axes : int
        How many axes are normalised over where `normalized_shape` is not given.

    Returns
    -------
    Layer
        With the parameters ``weight`` and ``bias`` of the normalised shape, as torch.nn.LayerNorm
        has them.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when the layer is used.

    Examples
    --------
    >>> from fconv import random
    >>> layer_norm(last_axes=2).init(random.key(0), (8, 3, 4, 5))["weight"].shape
    (4, 5)
    """
    trained = ("weight", "bias") if bias else ("weight",)
    options = {"eps": eps, "elementwise_affine": elementwise_affine, "bias": bias}
    return _over_last(
        F.layer_norm, normalized_shape, last_axes, eps, trained if elementwise_affine else (), options
    )


@constructor
def rms_norm(
    normalized_shape: int | Sequence[int] | None = None,
    *,
    eps: float | None = None,
    elementwise_affine: bool = True,
    last_axes: int = 1,
) -> Layer:
    """Divide by the root mean square over the last axes; see `fconv.functional.rms_norm`.

    Options are those of `layer_norm`; the parameter is ``weight``, as torch.nn.RMSNorm has it.

    Examples
    --------
    >>> from fconv import random
    >>> rms_norm().init(random.key(0), (8, 5))
    {'weight': array([1., 1., 1., 1., 1.], dtype=float32)}
    """
    options = {"eps": eps, "elementwise_affine": elementwise_affine}
    return _over_last(
        F.rms_norm, normalized_shape, last_axes, eps, ("weight",) if elementwise_affine else (), options
    )


def _over_last(
    function: Differentiable[...],
    normalized_shape: int | Sequence[int] | None,
    last_axes: int,
    eps: float | None,
    trained: tuple[str, ...],
    options: dict[str, Any],
) -> Layer:
    name = function.__name__
    eps = None if eps is None else number(name, "eps", eps, 0, most=1)
    last_axes = whole(name, "last_axes", last_axes, 1)
    if normalized_shape is not None:
        given = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        sizes = check_sizes(name, given)
        options = {"normalized_shape": sizes, **options}
    else:
        sizes, options = None, {"last_axes": last_axes, **options}

    def normalised(shape: Shape) -> Shape:
        if sizes is not None:
            return last_sizes(name, shape, sizes)
        if len(shape) < last_axes:
            raise ValueError(f"{name}: expected an input of {last_axes} axes or more, got shape {shape}")
        return shape[-last_axes:]

    def out_shape(shape: Shape) -> Shape:
        normalised(shape)
        return shape

    def leaves(shape: Shape) -> Leaves:
        start = {"weight": ones(), "bias": zeros()}
        return {leaf: (normalised(shape), start[leaf]) for leaf in trained}

    return from_function(
        function,
        call=lambda shape: {"normalized_shape": normalised(shape), "eps": eps},
        options=options,
        out_shape=out_shape,
        trained=trained,
        leaves=leaves if trained else None,
    )


@constructor
def group_norm(num_groups: int, *, eps: float = 1e-5, affine: bool = True) -> Layer:
    """Normalise groups of channels; see `fconv.functional.group_norm`.

    Parameters
    ----------
    num_groups : int
        Into how many groups the channels are divided.
    eps : float
        Added to the variance.
    affine : bool
        Scale and shift each channel.

    Returns
    -------
    Layer
        With the parameters ``weight`` and ``bias`` (C,), as torch.nn.GroupNorm has them.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when the layer is used.

    Examples
    --------
    >>> group_norm(4)
    group_norm(num_groups=4)
    """
    num_groups = whole("group_norm", "num_groups", num_groups, 1)
    call = {"num_groups": num_groups, "eps": number("group_norm", "eps", eps, 0, most=1)}

    def out_shape(shape: Shape) -> Shape:
        check_group_shape("group_norm", shape, num_groups)
        return shape

    def leaves(shape: Shape) -> Leaves:
        return {"weight": ((shape[1],), ones()), "bias": ((shape[1],), zeros())}

    return from_function(
        F.group_norm,
        call=call,
        options={**call, "affine": affine},
        out_shape=out_shape,
        trained=("weight", "bias") if affine else (),
        leaves=leaves if affine else None,
    )


@constructor
def local_response_norm(size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Layer:
    """Divide by the squares of neighbouring channels; see `fconv.functional.local_response_norm`.

    Examples
    --------
    >>> local_response_norm(5)
    local_response_norm(size=5)
    """
    size = whole("local_response_norm", "size", size, 1)

    def out_shape(shape: Shape) -> Shape:
        check_response("local_response_norm", shape, size)
        return shape

    call = {"size": size, "alpha": alpha, "beta": beta, "k": k}
    return from_function(F.local_response_norm, call=call, out_shape=out_shape)
