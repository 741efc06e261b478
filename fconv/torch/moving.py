"""ATen's operators that move elements or change shapes, as layers."""

from __future__ import annotations

from typing import Any

from fconv.torch.table import Call, aten, fixed, make
from fconv.torch.values import Size, UnfitError, example, product

FAR = 2**62


@aten("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "_unsafe_view", "ravel", "squeeze",
      "unsqueeze")  # fmt: skip
def _reshape(c: Call) -> Any:
    """Lay out in another shape, as the layers that leave most sizes open."""
    if c.operator.name == "unsqueeze":
        return make("unsqueeze", c["dim"]), c.x
    if c.operator.name == "squeeze" and c.args.get("dim") is not None:
        dims = c["dim"] if isinstance(c["dim"], list) else [c["dim"]]
        return squeezed(c.x, [d % len(c.x.shape) for d in dims])
    if c.operator.name == "flatten" and len(c.x.shape):
        return make("flatten", c["start_dim"], c["end_dim"]), c.x
    return reshaped(c.x, tuple(c.x.shape), tuple(c.shape))


def squeezed(value: Any, dims: list[int]) -> Any:
    """Leave out axes of one element; others stay."""
    shape = value.shape
    for axis in sorted((d for d in dims if shape[d] == 1), reverse=True):
        value = (make("squeeze", axis), value)
    return value


def reshaped(value: Any, before: tuple[Any, ...], after: tuple[Any, ...]) -> Any:
    """Return the layers that lay a tensor of one shape out in another."""
    if before == after:
        return make("identity"), value
    if before and after and before[0] == after[0]:
        rest = after[1:]
        if len(rest) == 1:
            return make("flatten"), value
        open_sizes = [size for size in rest if isinstance(size, Size)]
        if rest and not open_sizes:
            return make("reshape", *rest), value
    groups = _groups(before, after)
    if groups is None:
        return _viewed(value, after)
    for start, taken, sizes in reversed(groups):
        if taken > 1:
            value = (make("flatten", start, start + taken - 1), value)
        if not taken:
            for _ in sizes:
                value = (make("unsqueeze", start), value)
        elif len(sizes) > 1:
            open_sizes = [size for size in sizes if isinstance(size, Size)]
            if len(open_sizes) > 1:
                return _viewed(value, after)
            given = tuple(-1 if isinstance(size, Size) else size for size in sizes)
            value = (make("unflatten", start, given), value)
    return value


def _viewed(value: Any, after: tuple[Any, ...]) -> Any:
    if sum(isinstance(size, Size) for size in after) > 1:
        raise UnfitError(
            "more than one size of the new shape is left open; give from_torch shape= with sizes for them"
        )
    return make("view", *(-1 if isinstance(size, Size) else size for size in after)), value


def _groups(before: tuple[Any, ...], after: tuple[Any, ...]) -> list[tuple[int, int, tuple[Any, ...]]] | None:
    """Match axes: (first axis, how many become the sizes), None where they do not match in order."""
    found: list[tuple[int, int, tuple[Any, ...]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        start, begin = i, j
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while (a := product(before[start:i])) != (b := product(after[begin:j])):
            if example(a) < example(b) and i < len(before):
                i += 1
            elif example(a) > example(b) and j < len(after):
                j += 1
            else:
                return None
        if start == i and begin < j and found:
            last = found.pop()
            found.append((last[0], last[1], (*last[2], *after[begin:j])))
        elif begin == j and start < i:
            if not found:
                return None
            last = found.pop()
            found.append((last[0], last[1] + i - start, last[2]))
        else:
            found.append((start, i - start, after[begin:j]))
    return found


@aten("permute")
def _permute(c: Call) -> Any:
    return make("permute", *(d % len(c.shape) for d in c["dims"])), c.x


@aten("transpose", "swapaxes", "swapdims")
def _transpose(c: Call) -> Any:
    return make("transpose", *list(c.args.values())[1:3]), c.x


@aten("t", "numpy_T", "mT", "adjoint")
def _turned(c: Call) -> Any:
    rank = len(c.shape)
    if c.operator.name == "numpy_T":
        return make("permute", *reversed(range(rank))), c.x
    return (make("transpose", rank - 2, rank - 1), c.x) if rank > 1 else (make("identity"), c.x)


@aten("movedim", "moveaxis")
def _movedim(c: Call) -> Any:
    rank = len(c.shape)
    source, target = ([d % rank for d in _listed(c[n])] for n in ("source", "destination"))
    rest = iter(d for d in range(rank) if d not in source)
    at = dict(zip(target, source, strict=True))
    return make("permute", *(at[d] if d in at else next(rest) for d in range(rank))), c.x


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


# Parts.


@aten("slice")
def _slice(c: Call) -> Any:
    return sliced(c.x, c["dim"], c["start"], c["end"], c["step"])


def sliced(value: Any, dim: int, start: Any, end: Any, step: Any = 1) -> Any:
    """Return every `step`-th element of a part of an axis."""
    size = value.shape[dim]
    end = None if end is None or end == size or (isinstance(end, int) and end >= FAR) else end
    start = None if start in (None, 0) else start
    if isinstance(size, int):
        end = None if isinstance(end, int) and end >= size else end
    if start is None and end is None and step == 1:
        return make("identity"), value
    return make("slice_along", dim, fixed(start), fixed(end), step), value


@aten("narrow")
def _narrow(c: Call) -> Any:
    return make("narrow", c["dim"], fixed(c["start"]), fixed(c["length"])), c.x


@aten("select")
def _select(c: Call) -> Any:
    return selected(c.x, c["dim"], fixed(c["index"]))


def selected(value: Any, dim: int, index: int) -> Any:
    """Return one element of an axis, without the axis."""
    return make("select", dim, index), value


@aten("select_scatter")
def _select_scatter(c: Call) -> Any:
    dim = c["dim"] % len(c.shape)
    at = c["index"] % fixed(c.shape[dim])
    src = (make("unsqueeze", dim), c["src"])
    return _spliced(c, dim, at, at + 1, src)


@aten("slice_scatter")
def _slice_scatter(c: Call) -> Any:
    if c["step"] != 1:
        raise UnfitError(f"writing to every {c['step']}-th element of an axis has no layer")
    dim = c["dim"] % len(c.shape)
    size = c.shape[dim]
    if c["start"] in (None, 0) and (
        c["end"] in (None, size) or (isinstance(c["end"], int) and c["end"] >= FAR)
    ):
        return c["src"]
    start, end, _ = slice(fixed(c["start"]), fixed(c["end"])).indices(fixed(size))
    return _spliced(c, dim, start, end, c["src"])


def _spliced(c: Call, dim: int, start: int, end: int, src: Any) -> Any:
    """Put a part into an axis between what lies before it and after it."""
    size = fixed(c.shape[dim])
    parts = [src]
    if start > 0:
        parts.insert(0, (make("slice_along", dim, 0, start, 1), c.x))
    if end < size:
        parts.append((make("slice_along", dim, end, size, 1), c.x))
    return joined(parts, dim)


@aten("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split")
def _split(c: Call) -> Any:
    """Return the pieces of an axis, as the layers whose pieces follow its size."""
    dim = c["dim"]
    outs = c.operator.out
    if c.operator.name in ("chunk", "unsafe_chunk"):
        return tuple((make("chunk", c["chunks"], i, dim=dim), c.x) for i in range(len(outs)))
    sizes = c.args.get("split_sizes", c.args.get("split_size"))
    if c.operator.name == "tensor_split" or isinstance(sizes, Size):
        sizes = [out.shape[dim] for out in outs]
    if isinstance(sizes, list):
        sizes = tuple(fixed(sizes))
    return tuple((make("split", sizes, i, dim=dim), c.x) for i in range(len(outs)))


@aten("unbind")
def _unbind(c: Call) -> Any:
    return tuple(selected(c.x, c["dim"], i) for i in range(len(c.operator.out)))


@aten("cat", "concat", "concatenate")
def _cat(c: Call) -> Any:
    parts = [t for t in c["tensors"] if t.shape != (0,)]
    return joined(parts, c["dim"])


def joined(parts: list[Any], dim: int) -> Any:
    """Put tensors one after another."""
    return (make("concat", dim), *parts) if len(parts) > 1 else (make("identity"), *parts)


@aten("stack")
def _stack(c: Call) -> Any:
    parts, dim = c["tensors"], c["dim"]
    return (make("stack", dim), *parts) if len(parts) > 1 else (make("unsqueeze", dim), *parts)


@aten("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
      "replication_pad1d", "replication_pad2d", "replication_pad3d")  # fmt: skip
def _pad(c: Call) -> Any:
    name = c.operator.name
    mode = c.args.get(
        "mode", "reflect" if "reflection" in name else "replicate" if "replic" in name else "constant"
    )
    widths = fixed(c.args.get("pad", c.args.get("padding")))
    if not any(widths):
        return make("identity"), c.x
    value = c.args.get("value")
    value = None if mode != "constant" else 0.0 if value is None else float(value)
    return make("pad", tuple(widths), mode=mode, value=value), c.x


@aten("unfold")
def _sliding(c: Call) -> Any:
    """Read windows along one axis, as Tensor.unfold does: to (..., windows, ..., size)."""
    dim, size, step = c["dimension"], fixed(c["size"]), fixed(c["step"])
    if size < 1:
        raise UnfitError(f"windows of {size} elements have no layer")
    # Element k of every window; the last window is the last that fits whole.
    ends = [k - size + 1 or None for k in range(size)]
    parts = [(make("slice_along", dim, k, ends[k], step), c.x) for k in range(size)]
    return (make("stack", -1), *parts) if size > 1 else (make("unsqueeze", -1), *parts)


@aten("im2col")
def _im2col(c: Call) -> Any:
    return make("unfold", **_folding(c)), c.x


@aten("col2im")
def _col2im(c: Call) -> Any:
    return make("fold", tuple(fixed(c["output_size"])), **_folding(c)), c.x


def _folding(c: Call) -> dict[str, Any]:
    return {n: tuple(c[n]) for n in ("kernel_size", "dilation", "padding", "stride")}


@aten("pixel_shuffle")
def _pixel_shuffle(c: Call) -> Any:
    return make("pixel_shuffle", c["upscale_factor"]), c.x


@aten("pixel_unshuffle")
def _pixel_unshuffle(c: Call) -> Any:
    return make("pixel_unshuffle", c["downscale_factor"]), c.x


@aten("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(c: Call) -> Any:
    return make("channel_shuffle", c["groups"]), c.x
