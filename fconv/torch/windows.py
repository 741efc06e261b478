"""ATen's pooling and resampling operators as layers."""

from __future__ import annotations

from typing import Any

from fconv.networks.reading import UnfitError, make
from fconv.torch.table import Call, aten, fixed, function
from fconv.torch.values import example

for _d in (1, 2, 3):

    @aten(f"max_pool{_d}d", f"max_pool{_d}d_with_indices")
    def _max_pool(c: Call, d: int = _d) -> Any:
        options = c.given(stride="stride", padding="padding", dilation="dilation", ceil_mode="ceil_mode")
        options["stride"] = options.get("stride") or None
        layer = make(f"max_pool{d}d", fixed(c["kernel_size"]), **options)
        return (layer, c.x) if not isinstance(c.operator.out, tuple) else ((layer, c.x), None)

    @aten(f"avg_pool{_d}d")
    def _avg_pool(c: Call, d: int = _d) -> Any:
        names = "stride padding ceil_mode count_include_pad" + " divisor_override" * (d > 1)
        options = c.given(**{name: name for name in names.split()})
        options["stride"] = options.get("stride") or None
        return make(f"avg_pool{d}d", fixed(c["kernel_size"]), **options), c.x

    @aten(f"adaptive_avg_pool{_d}d", f"adaptive_max_pool{_d}d")
    def _adaptive(c: Call) -> Any:
        layer = make(c.operator.name, fixed(c["output_size"]))
        return (layer, c.x) if not isinstance(c.operator.out, tuple) else ((layer, c.x), None)


@aten("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
      "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d",
      "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
      "_upsample_bicubic2d_aa")  # fmt: skip
def _upsample(c: Call) -> Any:
    name = c.operator.name.removeprefix("_").removeprefix("upsample_")
    antialias = name.endswith("_aa")
    mode = name.removesuffix("_aa").rstrip("123d").replace("_", "-")
    corners = c.args.get("align_corners") if "nearest" not in mode else None
    options: dict[str, Any] = {"mode": mode, "align_corners": None if corners is None else bool(corners)}
    if antialias:
        options["antialias"] = True
    factors = c.args.get("scale_factors")
    if factors is None:
        scales = [c.args.get(n) for n in ("scales_d", "scales_h", "scales_w", "scales") if n in c.args]
        factors = None if any(s is None for s in scales) else scales
    if factors:
        return make("upsample", scale_factor=tuple(map(float, factors)), **options), c.x
    size = c["output_size"]
    spatial = c.x.shape[2:]
    if any(not isinstance(n, int) for n in size):
        return _by_ratio(c, size, spatial, options)
    return make("upsample", size=tuple(size), **options), c.x


@aten("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid_sampler(c: Call) -> Any:
    mode = ("bilinear", "nearest", "bicubic")[c["interpolation_mode"]]
    padding = ("zeros", "border", "reflection")[c["padding_mode"]]
    options = {"mode": mode, "padding_mode": padding, "align_corners": bool(c["align_corners"])}
    return function("grid_sample", ("x", "grid"), **options), c["input"], c["grid"]


def _by_ratio(c: Call, size: Any, spatial: Any, options: dict[str, Any]) -> Any:
    """Take sizes that are left open as multiples of the input's, where they are."""
    from fconv.torch.values import product

    factors = []
    for new, old in zip(size, spatial, strict=True):
        times = example(new) // max(example(old), 1)
        if product((old, times)) != new:
            raise UnfitError("it resizes to a size that is left open; give from_torch shape= with that size")
        factors.append(float(times))
    return make("upsample", scale_factor=tuple(factors), **options), c.x
