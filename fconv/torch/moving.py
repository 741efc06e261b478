"""ATen's operators that move elements or change shapes, as layers."""

from __future__ import annotations

from typing import Any

from fconv.networks.reading import UnfitError, make
from fconv.torch.table import Call, aten, fixed, plain
from fconv.torch.values import Size, example, product

FAR = 2**62


for _row in (
    ("narrow", "dim start length"), ("select", "dim index"), ("unsqueeze", "dim"), ("flip", "*dims"),
    ("pixel_shuffle", "upscale_factor"), ("pixel_unshuffle", "downscale_factor"),
    ("channel_shuffle native_channel_shuffle", "groups"),
    ("im2col", "kernel_size dilation padding stride", "unfold"),
    ("col2im", "output_size kernel_size dilation padding stride", "fold"),
):  # fmt: skip
    plain(*_row)


@aten("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "_unsafe_view", "ravel", "squeeze")
def _reshape(c: Call) -> Any:
    """Lay out in another shape, as the layers that leave most sizes open."""
    value, before, after = c.x, tuple(c.x.shape), tuple(c.shape)
    if c.operator.name == "squeeze" and c.args.get("dim") is not None:
        dims = c["dim"] if isinstance(c["dim"], list) else [c["dim"]]
        for axis in sorted({d % len(before) for d in dims}, reverse=True):
            value = (make("squeeze", axis), value) if before[axis] == 1 else value
        return value
    if c.operator.name == "flatten" and before:
        return make("flatten", c["start_dim"], c["end_dim"]), value
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


@aten("permute", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", "adjoint", "movedim", "moveaxis")
def _permute(c: Call) -> Any:
    """Order the axes as the operator orders those of a tensor without numbers, whose sizes all differ."""
    import torch

    rank = len(c.shape)
    turned = c.operator.target(torch.empty(*range(1, rank + 1), device="meta"), *list(c.args.values())[1:])
    order = [size - 1 for size in turned.shape]
    return (make("identity") if order == sorted(order) else make("permute", *order)), c.x


# Parts.


@aten("slice")
def _slice(c: Call) -> Any:
    start, end, size = c["start"] or None, c["end"], c.x.shape[c["dim"]]
    past = isinstance(end, int) and (end >= FAR or (isinstance(size, int) and end >= size))
    end = None if past or end == size else end
    if start is None and end is None and c["step"] == 1:
        return make("identity"), c.x
    return make("slice_along", c["dim"], fixed(start), fixed(end), c["step"]), c.x


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
    return tuple((make("select", c["dim"], i), c.x) for i in range(len(c.operator.out)))


@aten("cat", "concat", "concatenate")
def _cat(c: Call) -> Any:
    full = [t for t in c["tensors"] if t.shape != (0,) and t.shape[c["dim"]] != 0]
    return joined(full or c["tensors"][:1], c["dim"])


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
