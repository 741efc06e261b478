"""Similarity of two images, and total variation of one."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np

from fconv.arrays import Array, Shape, xp_of
from fconv.functional.convolution import conv2d
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.derivatives import pushed
from fconv.functional.loss_reduction import Reduction, check_reduction, check_same_shape, reduced
from fconv.functional.sums import accurate_sum, quietly, quotient
from fconv.options import number, whole

__all__ = [
    "psnr", "psnr_jvp", "psnr_vjp",
    "ssim", "ssim_jvp", "ssim_vjp",
    "total_variation", "total_variation_jvp", "total_variation_vjp",
]  # fmt: skip

_PICTURE = (-3, -2, -1)  # channels, height and width


@differentiable("x", "target")
def psnr(x: Array, target: Array, data_range: float = 1.0, reduction: Reduction = "mean") -> Definition:
    """Peak signal-to-noise ratio of each picture in decibels, ``10 log10(data_range**2 / mse)``.

    Parameters
    ----------
    x, target : array, shape (N, C, H, W) or (C, H, W)
        Pictures, of one shape and dtype. The error ``mse`` is the mean of ``(x - target)**2`` over
        a picture.
    data_range : float
        The largest value less the smallest one that pixels can have.
    reduction : {"mean", "sum", "none"}
        Of the pictures' ratios.

    Returns
    -------
    array
        0-dimensional, or of shape (N,) for "none". Infinite for equal pictures, whose gradient
        is 0.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes that do not fit, or an option out of range.

    Examples
    --------
    >>> import numpy as np
    >>> float(psnr(np.full((1, 1, 2, 2), 0.1), np.zeros((1, 1, 2, 2))))
    20.0
    """
    lead = _check_pictures("psnr", x, reduction, target)
    data_range = number("psnr", "data_range", data_range, 0, above=True)
    xp = xp_of(x)
    difference = once(lambda: x - target)
    total = once(lambda: accurate_sum(difference() ** 2, _PICTURE))

    def losses() -> Array:
        error = quotient(total(), float(np.prod(x.shape[-3:])))
        return -10 * xp.log10(error / data_range**2)

    @once
    def slope() -> Array:
        share = quietly(lambda: (-20 / log(10)) / total())
        share = xp.where(total() == 0, xp.zeros((), x.dtype), share)
        return share[..., None, None, None] * difference()

    def pullback(each: Array) -> Thunks:
        dx = once(lambda: each[..., None, None, None] * slope())
        return {"x": dx, "target": lambda: -dx()}

    push: dict[str, Callable[[Array], Array]] = {
        "x": lambda t: accurate_sum(slope() * t, _PICTURE),
        "target": lambda t: -accurate_sum(slope() * t, _PICTURE),
    }
    return reduced(losses, lead, reduction, pullback, push)


@differentiable("x")
def total_variation(x: Array, reduction: Reduction = "mean") -> Definition:
    """Sum over a picture of the absolute differences of pixels that touch, down and across.

    ``sum |x[c, i + 1, j] - x[c, i, j]| + sum |x[c, i, j + 1] - x[c, i, j]|``: the anisotropic form.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Pictures.
    reduction : {"mean", "sum", "none"}
        Of the pictures' sums; "mean" divides by N alone.

    Returns
    -------
    array
        0-dimensional, or of shape (N,) for "none". The gradient of equal neighbours is 0.

    Raises
    ------
    ValueError, TypeError
        A shape that does not fit, or an unknown reduction.

    References
    ----------
    Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", 1992,
    whose isotropic form takes the length of both differences together.

    Examples
    --------
    >>> import numpy as np
    >>> float(total_variation(np.array([[[[0.0, 1.0], [3.0, 1.0]]]])))
    6.0
    """
    lead = _check_pictures("total_variation", x, reduction)
    xp = xp_of(x)

    def differences(x: Array) -> tuple[Array, Array]:
        return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]

    found = once(lambda: differences(x))

    def losses() -> Array:
        down, across = found()
        return accurate_sum(xp.abs(down), _PICTURE) + accurate_sum(xp.abs(across), _PICTURE)

    def along(t: Array) -> Array:
        pairs = zip(found(), differences(t), strict=True)
        down, across = (accurate_sum(xp.sign(d) * moved, _PICTURE) for d, moved in pairs)
        return down + across

    def gradient(each: Array) -> Array:
        dx, each = xp.zeros_like(x), each[..., None, None, None]
        ends = ((np.s_[..., 1:, :], np.s_[..., :-1, :]), (np.s_[..., :, 1:], np.s_[..., :, :-1]))
        for difference, (later, earlier) in zip(found(), ends, strict=True):
            slope = each * xp.sign(difference)
            dx[later] += slope
            dx[earlier] -= slope
        return dx

    shape, value, pullback, push = reduced(
        losses, lead, reduction, lambda each: {"x": lambda: gradient(each)}, {"x": along}
    )
    return shape, value, lambda g: pullback(g)["x"](), lambda t: pushed(push, {"x": t})


@differentiable("x", "target")
def ssim(
    x: Array,
    target: Array,
    data_range: float = 1.0,
    kernel_size: int = 11,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    reduction: Reduction = "mean",
) -> Definition:
    """Structural similarity of pictures, 1 for equal ones.

    The mean over a picture of ``(2 mx my + c1) (2 sxy + c2) / ((mx**2 + my**2 + c1) (sx + sy + c2))``:
    means, variances and covariance in windows with Gaussian weights, ``c = (k data_range)**2``.
    Only windows that lie wholly inside of the picture count, as in the paper.

    Parameters
    ----------
    x, target : array, shape (N, C, H, W) or (C, H, W)
        Pictures at least as high and wide as a window, of one shape and dtype. Channels are
        compared apart.
    data_range : float
        The largest value less the smallest one that pixels can have.
    kernel_size : int
        Height and width of a window, odd.
    sigma : float
        Standard deviation of the weights, in pixels.
    k1, k2 : float
        Constants that keep the quotient stable in dark and uniform windows.
    reduction : {"mean", "sum", "none"}
        Of the pictures' similarities.

    Returns
    -------
    array
        0-dimensional, or of shape (N,) for "none".

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes that do not fit, or an option out of range.

    References
    ----------
    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", 2004.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0.0, 1.0, 144).reshape(1, 1, 12, 12)
    >>> round(float(ssim(x, x)), 6), round(float(ssim(x, 1 - x)), 2)
    (1.0, -0.93)
    """
    lead = _check_pictures("ssim", x, reduction, target)
    data_range = number("ssim", "data_range", data_range, 0, above=True)
    if whole("ssim", "kernel_size", kernel_size, 1) % 2 == 0:
        raise ValueError(f"ssim: expected an odd kernel_size, got {kernel_size}")
    if min(x.shape[-2:]) < kernel_size:
        raise ValueError(
            f"ssim: expected pictures of at least {kernel_size} x {kernel_size}, got shape {x.shape}"
        )
    weights = _gaussian(kernel_size, number("ssim", "sigma", sigma, 0, above=True))
    c1 = (number("ssim", "k1", k1, 0) * data_range) ** 2
    c2 = (number("ssim", "k2", k2, 0) * data_range) ** 2
    xp = xp_of(x)
    kernel = xp.asarray(weights, dtype=x.dtype)
    out = tuple(n - kernel_size + 1 for n in x.shape[-2:])
    channels = (*x.shape[:-2], *out)

    # Variances are those of the pictures less a constant, and lose fewer digits so.
    shift = once(lambda: _means(x, (-2, -1)))
    a, b = once(lambda: x - shift()), once(lambda: target - shift())
    moments = once(lambda: _blurred(xp.stack([a(), b(), a() * a(), b() * b(), a() * b()]), kernel))

    @once
    def parts() -> tuple[Array, ...]:
        mx, my, xx, yy, xy = moments()[0].reshape(5, *channels)
        true_x, true_y = mx + shift(), my + shift()
        means = true_x * true_x + true_y * true_y + c1
        spreads = (xx - mx * mx) + (yy - my * my) + c2
        mean_part = (2 * true_x * true_y + c1) / means
        spread_part = (2 * (xy - mx * my) + c2) / spreads
        return mx, my, true_x, true_y, means, spreads, mean_part, spread_part

    @once
    def slopes() -> Array:
        """Return the derivatives of the similarity of each window by its five moments."""
        mx, my, true_x, true_y, means, spreads, mean_part, spread_part = parts()
        product = mean_part * spread_part
        of_square = -product / spreads
        of_cross = 2 * mean_part / spreads

        def of_mean(mine: Array, other: Array, true_mine: Array, true_other: Array) -> Array:
            by_means = 2 * spread_part * (true_other - mean_part * true_mine) / means
            return by_means - 2 * mine * of_square - other * of_cross

        of_means = of_mean(mx, my, true_x, true_y), of_mean(my, mx, true_y, true_x)
        return xp.stack([*of_means, of_square, of_square, of_cross])

    def along(number: int, mine: Array, other: Array, t: Array) -> Array:
        """Return the tangent of the similarities along that of one picture, whose mean is moment `number`."""
        blurred = _blurred(xp.stack([t, 2 * mine * t, other * t]), kernel)[0].reshape(3, *channels)
        return _means((slopes()[[number, 2 + number, 4]] * blurred).sum(axis=0), _PICTURE)[..., 0, 0, 0]

    push: dict[str, Callable[[Array], Array]] = {
        "x": lambda t: along(0, a(), b(), t),
        "target": lambda t: along(1, b(), a(), t),
    }

    def pullback(each: Array) -> Thunks:
        each = each[..., None, None, None] / max(float(np.prod(channels[-3:])), 1.0)
        pulled = once(lambda: moments()[1]((each * slopes()).reshape(-1, 1, *out)).reshape(5, *x.shape))

        def of_picture(number: int, mine: Array, other: Array) -> Array:
            return pulled()[number] + 2 * mine * pulled()[2 + number] + other * pulled()[4]

        return {"x": lambda: of_picture(0, a(), b()), "target": lambda: of_picture(1, b(), a())}

    def similarities() -> Array:
        *_, mean_part, spread_part = parts()
        return _means(mean_part * spread_part, _PICTURE)[..., 0, 0, 0]

    return reduced(similarities, lead, reduction, pullback, push)


def _gaussian(size: int, sigma: float) -> Array:
    """Return weights that sum to 1, on the host."""
    weights: Array = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    return weights / weights.sum()


def _blurred(pictures: Array, kernel: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Blur each plane down and then across; give the planes and the pullback to the pictures."""
    planes = pictures.reshape(-1, 1, *pictures.shape[-2:])
    down, pull_down = conv2d.forward(planes, kernel.reshape(1, 1, -1, 1))
    both, pull_across = conv2d.forward(down, kernel.reshape(1, 1, 1, -1))

    def pull(g: Array) -> Array:
        return pull_down(pull_across(g, wrt="x")[0], wrt="x")[0]

    return both, pull


def _means(x: Array, axes: tuple[int, ...]) -> Array:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return quotient(accurate_sum(x, axes, keepdims=True), float(count))


def _check_pictures(name: str, x: Array, reduction: str, target: Array | None = None) -> Shape:
    """Check pictures and reduction, and give the shape of one number a picture."""
    if x.ndim not in (3, 4):
        raise ValueError(f"{name}: expected pictures of shape (N, C, H, W) or (C, H, W), got {x.shape}")
    if target is not None:
        check_same_shape(name, x, target=target)
    check_reduction(name, reduction)
    return x.shape[:-3]


psnr_jvp, psnr_vjp = psnr.jvp, psnr.vjp
ssim_jvp, ssim_vjp = ssim.jvp, ssim.vjp
total_variation_jvp, total_variation_vjp = total_variation.jvp, total_variation.vjp
