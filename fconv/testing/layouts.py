"""Memory layouts of an array under the same shape."""

from __future__ import annotations

from fconv.arrays import Array, xp_of

LAYOUTS = ("C", "F", "channels_last", "strided", "reversed")


def laid_out(x: Array, layout: str) -> Array:
    """Copy `x` into another memory layout under the same shape.

    Parameters
    ----------
    x : array
        The values.
    layout : {"C", "F", "channels_last", "strided", "reversed"}
        Row-major, column-major, axis 1 fastest, every second element of wider memory, or with
        negative strides.

    Returns
    -------
    array
        Equal to `x`.
    """
    xp = xp_of(x)
    if layout == "F":
        return xp.asfortranarray(x).reshape(x.shape, order="A")
    if layout == "channels_last" and x.ndim >= 3:
        order = (0, *range(2, x.ndim), 1)
        back = (0, x.ndim - 1, *range(1, x.ndim - 1))
        return xp.ascontiguousarray(x.transpose(order)).transpose(back)
    if layout == "strided" and x.ndim:
        wide = xp.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "reversed" and x.ndim:
        return xp.ascontiguousarray(x[..., ::-1])[..., ::-1]
    return xp.ascontiguousarray(x).reshape(x.shape)


def read_only(x: Array) -> Array:
    """Return a view of `x` that refuses to be written to, where its library has such views."""
    view = x.view()
    if hasattr(view.flags, "writeable"):
        view.flags.writeable = False
    return view
