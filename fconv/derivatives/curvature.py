"""Curvature of a loss over the parameters: Gauss-Newton products, and the diagonal that they estimate."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv import random, trees
from fconv.arrays import Array, xp_of
from fconv.layer import Layer, Params, as_layer, buffers_of
from fconv.losses.base import Loss, as_loss
from fconv.options import whole
from fconv.tangents import jvp


def ggn_product(
    net: Layer,
    loss: Loss,
    params: Params,
    x: Any,
    target: Any,
    v: Params,
    *,
    train: bool = False,
    key: Array | None = None,
) -> Params:
    """Multiply the generalized Gauss-Newton matrix of a batch by a vector: ``J.T @ H @ J @ v``.

    `J` is the matrix of derivatives of the network's output by its parameters, `H` that of the loss's second
    derivatives by the output. The matrix is symmetric, has no negative eigenvalue, and is never formed.

    Parameters
    ----------
    net : Layer
        A layer or network.
    loss : Loss
        `mse_loss`, `cross_entropy_loss`, or a sum of them, whose `H` is known in closed form.
    params : pytree
        The parameters.
    x, target
        The batch.
    v : pytree
        The vector, as `jvp` takes the tangent of `params`. Gradients serve as they are.
    train : bool
        Training mode, for `jvp` and its adjoint.
    key : array of uint64, shape (2,), optional
        The random key of training mode.

    Returns
    -------
    pytree
        The product, in the structure of the gradients: None for a running statistic.

    Raises
    ------
    ValueError, TypeError
        Another loss, or one that is not reduced, and as `jvp`.

    References
    ----------
    Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", 2002.

    Examples
    --------
    >>> from fconv.layers import linear
    >>> from fconv.losses import mse_loss
    >>> params, x = {"weight": np.array([[1.0, 2.0]])}, np.array([[3.0, 4.0]])
    >>> v = {"weight": np.array([[1.0, 0.0]])}
    >>> ggn_product(linear(1, bias=False), mse_loss(), params, x, np.zeros((1, 1)), v)
    {'weight': array([[18., 24.]])}
    """
    net, loss = as_layer("ggn_product", net), as_loss("ggn_product", loss)
    _check_curvature("ggn_product", loss)
    y, dy = jvp(net, params, x, v, None, train=train, key=key)
    bent = loss.curvature(y, target, dy)  # type: ignore[misc]
    product, _ = net.forward(params, x, train=train, key=key)[2](bent, False)
    return product


def ggn_diagonal(
    net: Layer, loss: Loss, params: Params, x: Any, target: Any, *, key: Array, samples: int = 16
) -> Params:
    """Estimate the diagonal of the generalized Gauss-Newton matrix by products with random signs.

    It is the mean of ``v * ggn_product(..., v)`` over vectors `v` of random signs (Hutchinson's estimate):
    the terms of the other elements of a row have mean 0.

    Parameters
    ----------
    net, loss, params, x, target
        As for `ggn_product`; the network is in inference mode.
    key : array of uint64, shape (2,)
        What the signs are drawn from.
    samples : int
        How many vectors: the error falls with the root of their number.

    Returns
    -------
    pytree
        The estimate, in the structure of the gradients.

    Raises
    ------
    ValueError, TypeError
        As for `ggn_product`, no key, or fewer samples than 1.

    References
    ----------
    Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian smoothing
    splines", 1990; Bekas, Kokiopoulou and Saad, "An estimator for the diagonal of a matrix", 2007.

    Examples
    --------
    >>> from fconv.layers import linear
    >>> from fconv.losses import mse_loss
    >>> params, x = {"weight": np.array([[1.0, 2.0]])}, np.array([[3.0, 0.0]])
    >>> ggn_diagonal(linear(1, bias=False), mse_loss(), params, x, np.zeros((1, 1)), key=random.key(0))
    {'weight': array([[18.,  0.]])}
    """
    net, loss = as_layer("ggn_diagonal", net), as_loss("ggn_diagonal", loss)
    _check_curvature("ggn_diagonal", loss)
    random.check_key("ggn_diagonal", key)
    whole("ggn_diagonal", "samples", samples, 1)
    still, total = buffers_of(net), None
    paths = [path for path, _ in trees.leaves_with_path(params)]
    for own in random.split(key, samples):
        keys = dict(zip(paths, random.split(own, max(1, len(paths))), strict=False))

        def signs(path: trees.Path, p: Array, keys: dict[trees.Path, Array] = keys) -> Array | None:
            if path[-1:] and path[-1] in still:
                return None
            drawn = random.bernoulli(keys[path], 0.5, p.shape)
            return xp_of(p).asarray(np.where(drawn, 1, -1).astype(p.dtype))

        v = trees.map_with_path(signs, params)
        product = ggn_product(net, loss, params, x, target, v)
        total = trees.add(total, trees.map(lambda _, a, b: None if a is None else a * b, params, v, product))
    return trees.map(lambda _, t: None if t is None else t / samples, params, total)


def _check_curvature(name: str, loss: Any) -> None:
    if getattr(loss, "curvature", None) is None:
        raise ValueError(
            f"{name}: the second derivatives of {getattr(loss, 'name', 'this loss')} are not known; "
            f"expected mse_loss() or cross_entropy_loss(), reduced, or a sum of them"
        )
