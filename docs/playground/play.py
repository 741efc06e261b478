"""Functions of the page that computes in the browser: train on small digits, and look at a drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import fconv as fc

if TYPE_CHECKING:
    from collections.abc import Iterator

NET = fc.compose(
    fc.conv2d(8, 3, padding=1), fc.relu(), fc.max_pool2d(2),
    fc.conv2d(16, 3, padding=1), fc.relu(), fc.flatten(), fc.linear(10),
)  # fmt: skip


def training(digits: str = "digits.npz", epochs: int = 10) -> Iterator[tuple[Any, float]]:
    """Train on digits of 8x8 pixels, and yield the parameters and the test accuracy after each epoch."""
    with np.load(digits) as file:
        x, t = file["x"][:, None].astype(np.float32) / 16, file["t"].astype(np.int64)
    key, opt = fc.random.key(0), fc.adam(3e-3)
    params = NET.init(key, x.shape)
    opt_state = opt.init(params)
    loss_and_grad = fc.value_and_grad(NET, fc.cross_entropy_loss())
    for epoch in range(epochs):
        order = fc.random.fold_in(key, epoch)
        for a, b in fc.data.batches(x[:1500], t[:1500], batch_size=64, key=order):
            _, grads, params = loss_and_grad(params, a, b)
            params, opt_state = opt.step(params, grads, opt_state)
        yield params, float(fc.metrics.accuracy(NET.apply(params, x[1500:]), t[1500:]))


def look(params: Any, pixels: Any) -> dict[str, list[Any]]:
    """Return what the page shows of a drawing of 8x8 numbers from 0 to 1.

    The probabilities of the digits, the kernels of the first layer with the channel that each makes of the
    drawing, and the gradient of the likeliest digit's score with respect to the pixels.
    """
    x = np.asarray(pixels, np.float32).reshape(1, 1, 8, 8)
    scores = NET.apply(params, x)
    g = np.zeros_like(scores)
    g[0, scores.argmax()] = 1
    return {
        "probabilities": fc.functional.softmax(scores, 1)[0].tolist(),
        "kernels": params[0]["weight"][:, 0].tolist(),
        "maps": NET[:2].apply(params[:2], x)[0].tolist(),
        "gradient": NET.vjp(params, x, g)[1][0, 0].tolist(),
    }
