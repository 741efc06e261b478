"""Changing the number of pixels."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

from fconv import functional
from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node, plain
from fconv.onnx.operators.sampling import by_matrices, wanted
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.operators.windows import spatial
from fconv.onnx.sites import Site
from fconv.onnx.values import Value

SMOOTH = {
    ("linear", 1): "linear",
    ("linear", 2): "bilinear",
    ("linear", 3): "trilinear",
    ("cubic", 2): "bicubic",
}
"""PyTorch's modes, by ONNX's and the number of spatial axes."""


def _mode(node: Node, mode: str, rule: str, ndim: int, whole: bool, lone: bool) -> dict[str, Any]:
    """Return the layer's mode and align_corners.

    `whole` tells that each axis grows by a whole factor, `lone` that one is left with a single pixel.
    """
    if mode == "nearest":
        rounding = node.text("nearest_mode", "round_prefer_floor") if node.opset >= 11 else "floor"
        if (rule, rounding) == ("asymmetric", "floor"):
            return {"mode": "nearest"}
        if rule in ("half_pixel", "pytorch_half_pixel") and not (lone and rule != "half_pixel"):
            if rounding == "round_prefer_ceil":
                return {"mode": "nearest-exact"}
            if rounding == "round_prefer_floor" and whole:
                return {"mode": "nearest"}  # no pixel falls between two
        raise UnfitError(f"mode nearest with coordinates by {rule} and {rounding} has no layer")
    name, outside = SMOOTH.get((mode, ndim)), node.flag("exclude_outside")
    if name is None:
        raise UnfitError(f"mode {mode!r} over {ndim} spatial axes has no layer")
    smooth = node.flag("antialias")
    a = -0.5 if smooth else -0.75
    if mode == "cubic" and (node.number("cubic_coeff_a", -0.75) != a):
        raise UnfitError(f"cubic with another cubic_coeff_a than {a} has no layer")
    if smooth:
        if rule != "half_pixel" or ndim != 2 or not outside:
            raise UnfitError(
                f"antialias by {rule} over {ndim} axes, exclude_outside={int(outside)}, has no layer"
            )
        return {"mode": name, "antialias": True}
    if rule == "align_corners":
        return {"mode": name, "align_corners": True}
    if rule == "half_pixel" or (rule == "pytorch_half_pixel" and not lone):
        return {"mode": name, "align_corners": False}
    raise UnfitError(f"mode {mode!r} with coordinates by {rule} has no layer")


def _resized(node: Node, scales: Any, sizes: tuple[tuple[int, ...], ...] | None, rule: str) -> Value:
    """Append a resampling by scales, or to the sizes of each trial; both for the spatial axes."""
    x = node.value()
    ndim, spaces = spatial(node, x), [shape[2:] for shape in x.shapes]
    how: dict[str, Any] = {}
    if sizes is not None and len(set(sizes)) == 1:
        how["size"] = sizes[0]
    elif sizes is not None:
        ratios = {
            tuple(out / size for out, size in zip(outs, space, strict=True))
            for outs, space in zip(sizes, spaces, strict=True)
        }
        if len(ratios) != 1:
            raise UnfitError("its sizes are no fixed multiple of the input's")
        scales = ratios.pop()
    if "size" not in how:
        how["scale_factor"] = scales
        sizes = tuple(
            tuple(floor(size * s) for size, s in zip(space, scales, strict=True)) for space in spaces
        )
    assert sizes is not None
    pairs = [
        pair for outs, space in zip(sizes, spaces, strict=True) for pair in zip(outs, space, strict=True)
    ]
    if min((size for pair in pairs for size in pair), default=0) < 1:
        raise UnfitError("it leaves no pixel, or has none to read")
    if rule == "align_corners" and scales is not None and "size" not in how:
        exact = all(
            size * s == floor(size * s) for space in spaces for size, s in zip(space, scales, strict=True)
        )
        if not exact:
            raise UnfitError("align_corners with a scale that leaves a fraction of a pixel has no layer")
    whole, lone = all(out % size == 0 for out, size in pairs), any(out == 1 for out, _ in pairs)
    how.update(_mode(node, node.text("mode", "nearest"), rule, ndim, whole, lone))
    return node.layer(make("upsample", **how), x)


def _spatial_part(
    node: Node, what: str, values: tuple[Any, ...], axes: tuple[int, ...], keep: Any
) -> tuple[Any, ...]:
    """Return what stands for the spatial axes; batch and channels must stay as they are."""
    rank = node.value().rank
    if len(values) != len(axes):
        raise UnfitError(f"expected {len(axes)} {what}, got {len(values)}")
    by_axis = dict(zip(axes, values, strict=True))
    if any(by_axis.get(axis, keep[axis]) != keep[axis] for axis in (0, 1)):
        raise UnfitError(f"{what} {values} change the batch or the channels")
    return tuple(by_axis.get(axis, keep[axis]) for axis in range(2, rank))


@reads(
    "Resize", "Upsample",
    becomes="upsample where a mode of ours is meant: nearest (asymmetric, floor), nearest-exact (half_pixel, "
    "round_prefer_ceil), linear, bilinear, trilinear, bicubic (half_pixel, align_corners); otherwise einsum "
    "with a matrix for each axis",
    refused="other modes than ours of axes whose size the file leaves open",
)  # fmt: skip
def resize(node: Node) -> Value:
    """Resample by scales or to sizes; before opset 11 with asymmetric coordinates."""
    x = node.value()
    axes = tuple(x.axis(a) for a in node.integers("axes", tuple(range(x.rank))) or ())
    old, scales, wants = node.opset < 11, None, None
    held = node.attributes.get("scales")
    if held is not None and node.op == "Upsample":
        scales = tuple(plain(s) for s in held.floats)
    elif old or (node.has(2) and node.value(2).shapes[0] != (0,)):
        scales = tuple(plain(s) for s in node.constant(1 if old else 2).reshape(-1))
    else:
        wants = node.value(3)
        if wants.data is None:
            raise UnfitError("its sizes are computed from more than the input's shape")
    rule = "asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel")
    try:
        return _by_layer(node, axes, scales, wants, rule)
    except UnfitError as error:
        reason = error
    given = scales if wants is None else node.whole(3)
    try:
        moved, sizes = wanted(node, given, wants is not None, axes)
        return by_matrices(node, rule, axes, moved, sizes)
    except UnfitError as error:
        raise UnfitError(f"{reason}; {error}") from error


def _by_layer(
    node: Node, axes: tuple[int, ...], scales: tuple[float, ...] | None, wants: Value | None, rule: str
) -> Value:
    """Append the layer of a mode that is one of ours."""
    x = node.value()
    if node.flag("exclude_outside") and not node.flag("antialias"):
        raise UnfitError("exclude_outside has no layer")
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnfitError("an aspect policy has no layer")
    if scales is not None:
        return _resized(node, _spatial_part(node, "scales", scales, axes, (1.0,) * x.rank), None, rule)
    assert wants is not None
    assert wants.data is not None
    sizes = tuple(
        _spatial_part(node, "sizes", tuple(data.reshape(-1).tolist()), axes, shape)
        for data, shape in zip(wants.data, x.shapes, strict=True)
    )
    return _resized(node, None, sizes, rule)


RULES = {
    "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "nearest-exact": {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_ceil",
    },
}
"""Attributes of Resize for the modes that take one pixel."""


@writes(
    "upsample",
    operators="Resize; mode area: AveragePool, or Einsum for bins of several sizes; antialias with "
    "align_corners: Einsum",
)
def write_upsample(at: Site) -> str:
    """Write resampling."""
    options, sizes, wanted = at.options, at.shape[2:], at.out_shape[2:]
    mode, align = options["mode"], bool(options["align_corners"])
    if mode == "area":
        if any(size % out for size, out in zip(sizes, wanted, strict=True)):
            return _by_einsum(at)
        kernel = [size // out for size, out in zip(sizes, wanted, strict=True)]
        return at.node("AveragePool", at.x, kernel_shape=kernel, strides=kernel)
    given: dict[str, Any] = RULES.get(mode) or {
        "mode": "cubic" if mode == "bicubic" else "linear",
        "coordinate_transformation_mode": "align_corners" if align else "half_pixel",
    }
    if options["antialias"]:
        if align:
            return _by_einsum(at)
        given |= {"antialias": 1, "exclude_outside": 1, "cubic_coeff_a": -0.5}
    factor = options["scale_factor"]
    by_size = factor is None or options["recompute_scale_factor"] or align
    if by_size:
        axes = list(range(2, len(at.shape)))
        return at.node("Resize", at.x, "", "", at.integers(*wanted), axes=axes, **given)
    factors = factor if isinstance(factor, tuple) else (factor,) * len(sizes)
    return at.node("Resize", at.x, "", at.constant((1.0, 1.0, *factors), "float32"), **given)


def _by_einsum(at: Site) -> str:
    """Write a resampling by the matrix of each axis, which is the resampling of the unit vectors."""
    y, sizes, wanted = at.x, at.shape[2:], at.out_shape[2:]
    options = {**at.options, "scale_factor": None, "recompute_scale_factor": None}
    factor = at.options["scale_factor"]
    factors = factor if isinstance(factor, tuple) else (factor,) * len(sizes)
    for i, (size, out) in enumerate(zip(sizes, wanted, strict=True)):
        units = np.eye(size).reshape(size, 1, *(size if j == i else 1 for j in range(len(sizes))))
        if factor is None or at.options["recompute_scale_factor"]:
            how: dict[str, Any] = {"size": tuple(out if j == i else 1 for j in range(len(sizes)))}
        else:
            how = {
                "size": None,
                "scale_factor": tuple(factors[j] if j == i else 1.0 for j in range(len(sizes))),
            }
        y = at.along(y, 2 + i, functional.interpolate(units, **{**options, **how}).reshape(size, out).T)
    return y


@reads("DepthToSpace", becomes="pixel_shuffle for mode CRD; mode DCR: reshape, permute, reshape")
def depth_to_space(node: Node) -> Value:
    """Channels moved into space."""
    x, r = node.value(), node.integer("blocksize", 0)
    if x.rank != 4 or r < 1 or x.size(1) % (r * r):
        raise UnfitError(f"expected (N, C, H, W) with channels that blocksize {r} squared divides")
    if node.text("mode", "DCR") == "CRD":
        return node.layer(make("pixel_shuffle", r), x)
    # In the order depth, column, row the factors come before the channel: swap them, then shuffle.
    c = x.size(1) // (r * r)
    return node.layer(make("pixel_shuffle", r), _swapped(node, x, r * r, c))


def _swapped(node: Node, x: Value, first: int, second: int) -> Value:
    """Swap the two factors of the channels; taking the channels of groups in turn does it."""
    if first == 1 or second == 1:
        return x
    return node.step(make("channel_shuffle", first), x)


@reads("SpaceToDepth", becomes="pixel_unshuffle and channel_shuffle; mode CRD: pixel_unshuffle")
def space_to_depth(node: Node) -> Value:
    """Space moved into channels."""
    x, r = node.value(), node.integer("blocksize", 0)
    if x.rank != 4 or r < 1:
        raise UnfitError(f"expected (N, C, H, W) and a blocksize of 1 or more, got {r}")
    y = node.step(make("pixel_unshuffle", r), x)
    return y if node.text("mode", "DCR") == "CRD" else _swapped(node, y, x.size(1), r * r)


def _as_pictures(at: Site) -> str:
    """Write the axes before (C, H, W) as one."""
    return at.x if len(at.shape) == 4 else at.node("Reshape", at.x, at.integers(-1, *at.shape[-3:]))


def _from_pictures(at: Site, y: str) -> str:
    return y if len(at.shape) == 4 else at.node("Reshape", y, at.integers(-1, *at.out_shape[1:]))


@writes(
    "pixel_shuffle", operators="DepthToSpace with mode CRD; for other than (N, C, H, W) Reshape around it"
)
def write_pixel_shuffle(at: Site) -> str:
    """Write channels moved into space."""
    x = _as_pictures(at)
    return _from_pictures(at, at.node("DepthToSpace", x, blocksize=at.options["upscale_factor"], mode="CRD"))


@writes("pixel_unshuffle", operators="Reshape, Transpose, Reshape")
def write_pixel_unshuffle(at: Site) -> str:
    """Write space moved into channels, in PyTorch's order of the channels."""
    (c, h, w), r = at.shape[-3:], at.options["downscale_factor"]
    apart = at.node("Reshape", at.x, at.integers(-1, c, h // r, r, w // r, r))
    y = at.node("Transpose", apart, perm=[0, 1, 3, 5, 2, 4])
    return at.node("Reshape", y, at.integers(-1, *at.out_shape[1:]))


@writes("channel_shuffle", operators="Reshape, Transpose, Reshape", refused="an input without a batch axis")
def write_channel_shuffle(at: Site) -> str:
    """Write the channels of groups taken in turn."""
    groups, rest = at.options["groups"], at.shape[2:]
    if len(at.shape) < 3:
        raise UnfitError(f"expected an input (N, C, ...), got shape {at.shape}")
    apart = at.reshaped(at.x, groups, at.shape[1] // groups, *rest)
    order = [0, 2, 1, *range(3, 3 + len(rest))]
    return at.reshaped(at.node("Transpose", apart, perm=order), *at.shape[1:])
