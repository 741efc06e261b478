"""``x[...]`` as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fconv.layer import Layer
from fconv.torch.values import UnfitError


def indexed(make: Callable[..., Layer], value: Any, index: Any) -> Any:
    """Give ``value[index]`` as an expression of layers.

    Parameters
    ----------
    make : callable
        ``make(name, *options)`` gives a layer.
    value : Value
        The tensor.
    index : object
        Numbers, slices, None and an ellipsis, alone or in a tuple.

    Returns
    -------
    Value or tuple
        ``(layer, source)``, the source being such a pair again.

    Raises
    ------
    UnfitError
        The index is of another kind.
    """
    parts = index if isinstance(index, tuple) else (index,)
    ellipses = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise UnfitError("an index has one ellipsis at most")
    if ellipses:
        before, after = parts[: ellipses[0]], parts[ellipses[0] + 1 :]
    else:
        before, after = parts, ()
    kept = [part for part in after if part is not None]
    front = _places([part for part in before if part is not None], 0)
    back = _places(kept, -len(kept))
    # Slices move no axis; then each axis is left out before those that it would move.
    for axis, part in front + back:
        value = _taken(make, value, axis, part)
    for axis, part in [*reversed(front), *back]:
        if not isinstance(part, slice):
            value = (make("squeeze", axis), value)
    ahead = [part for part in before if part is None or isinstance(part, slice)]
    behind = [part for part in after if part is None or isinstance(part, slice)]
    for axis, part in _places(ahead, 0) + _places(behind, -len(behind))[::-1]:
        if part is None:
            value = (make("unsqueeze", axis), value)
    return value


def _places(parts: list[Any], start: int) -> list[tuple[int, Any]]:
    return list(enumerate(parts, start))


def _taken(make: Callable[..., Layer], value: Any, axis: int, part: Any) -> Any:
    if isinstance(part, int) and not isinstance(part, bool):
        return make("slice_along", axis, part, part + 1 if part != -1 else None, 1), value
    if not isinstance(part, slice):
        raise UnfitError(f"an index that holds {part!r} has no layer")
    bounds = (part.start, part.stop, part.step)
    if not all(bound is None or isinstance(bound, int) for bound in bounds):
        raise UnfitError(
            "a slice whose bounds are not numbers has no layer; give from_torch shape= for its sizes"
        )
    start, stop, step = bounds
    if start in (None, 0) and stop is None and step in (None, 1):
        return value
    return make("slice_along", axis, start, stop, 1 if step is None else step), value
