"""Functions of the page that computes in the browser: train on small digits, and look at a drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import fconv as fc

NET = fc.compose(
    fc.conv2d(8, 3, padding=1), fc.relu(), fc.max_pool2d(2),
    fc.conv2d(16, 3, padding=1), fc.relu(), fc.flatten(), fc.linear(10),
)  # fmt: skip


def trained(epochs: int = 10) -> Any:
    """Return parameters trained on scikit-learn's digits of 8x8 pixels."""
    digits = load_digits()
    x, t = digits.images[:, None].astype(np.float32) / 16, digits.target
    state, _ = fc.fit(
        NET,
        fc.cross_entropy_loss(),
        fc.adam(3e-3),
        (x, t),
        epochs=epochs,
        key=fc.random.key(0),
        progress=False,
    )
    return state.params


def look(params: Any, pixels: Any) -> dict[str, list[Any]]:
    """Return what the page shows of a drawing of 8x8 numbers from 0 to 1.

    The probabilities of the digits, the kernels of the first layer with what each makes of the drawing,
    and the gradient of the likeliest digit's score with respect to the pixels.
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
