"""DnCNN."""

from __future__ import annotations

from fconv.layer import Layer
from fconv.layers import batch_norm, conv2d, relu
from fconv.networks import compose, graph, subtract
from fconv.options import whole

__all__ = ["dncnn"]


def dncnn(
    channels: int = 1, *, layers: int = 17, batch_norm: bool = False, width: int = 64, bias: str = "all"
) -> Layer:
    """Estimate the noise of a picture by a chain of 3x3 convolutions, and subtract it.

    Parameters
    ----------
    channels : int
        Of the picture: 1 for grey, 3 for colour.
    layers : int
        Number of convolutions, 2 or more. The networks for one strength of noise have 17, the
        blind ones 20.
    batch_norm : bool
        Normalise after each convolution but the first and the last, as the paper does in training.
        Published checkpoints have the normalisation merged into the convolutions, and need False.
    width : int
        Channels between the convolutions.
    bias : {"all", "first", "none"}
        Which convolutions have biases: "first" is cszn/DnCNN's training code in PyTorch, "none"
        SaoYan/DnCNN-PyTorch, whose names both begin with ``dncnn.`` in the place of ``model.``.

    Returns
    -------
    Layer
        (N, channels, H, W), with values from 0 to 1, to the picture without its noise, of the same
        shape. Parameter names are those of cszn/KAIR: ``model.0.weight``, ``model.2.bias``; the
        subtraction is a node of its own without parameters. Initial values are torch.nn's own, as
        in the module there; its training scripts may then draw orthogonal ones, which are not
        made here.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; a picture of other channels, when it is used.

    References
    ----------
    Zhang et al., "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising",
    2017.

    Examples
    --------
    >>> dncnn().out_shape((1, 1, 321, 481))
    (1, 1, 321, 481)
    """
    count = whole("dncnn", "layers", layers, 2)
    width = whole("dncnn", "width", width, 1)
    if bias not in ("all", "first", "none"):
        raise ValueError(f'dncnn: expected bias "all", "first" or "none", got {bias!r}')
    chain = [conv2d(width, 3, padding=1, bias=bias != "none"), relu()]
    for _ in range(count - 2):
        norm = [_norm(bias)] if batch_norm else []
        chain += [conv2d(width, 3, padding=1, bias=bias == "all"), *norm, relu()]
    chain.append(conv2d(channels, 3, padding=1, bias=bias == "all"))
    return graph({"model": (compose(*chain), "x"), "denoised": (subtract(stretch=False), "x", "model")})


def _norm(bias: str) -> Layer:
    # KAIR's and cszn's settings. They are not torch.nn's: the momentum weighs the newest batch with 0.9.
    return batch_norm() if bias == "none" else batch_norm(eps=1e-4, momentum=0.9 if bias == "all" else 0.95)
