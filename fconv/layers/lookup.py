"""Layers of other inputs than one array of numbers: a table of embeddings, and a bilinear map."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape, describe
from fconv.functional.affine import check_bilinear
from fconv.functional.lookup import check_padding
from fconv.initializers import Initializer, normal, uniform
from fconv.layer import Layer, LayerPullback, Params, check_params
from fconv.layers.from_function import Leaves, check_shape, draw, from_function
from fconv.options import whole

__all__ = ["bilinear", "embedding"]


@constructor
def embedding(
    num_embeddings: int,
    embedding_dim: int,
    *,
    padding_idx: int | None = None,
    scale_grad_by_freq: bool = False,
    weight_init: Initializer | None = None,
) -> Layer:
    """Look up rows of a table by integers, (...) to (..., embedding_dim); see `fconv.functional.embedding`.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Shape of the table.
    padding_idx : int, optional
        A row that starts as 0 and has no gradient.
    scale_grad_by_freq : bool
        Divide the gradient of each row by how often it is looked up.
    weight_init : Initializer, optional
        From `fconv.initializers`; PyTorch's default N(0, 1), the padding row being 0.

    Returns
    -------
    Layer
        With the parameter ``weight`` (num_embeddings, embedding_dim), as torch.nn.Embedding has
        it. Its input holds integers and has no gradient: the input gradient is None.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when the layer is used.

    Examples
    --------
    >>> embedding(100, 8).out_shape((32, 5))
    (32, 5, 8)
    """
    rows = whole("embedding", "num_embeddings", num_embeddings, 1)
    columns = whole("embedding", "embedding_dim", embedding_dim, 1)
    padding = check_padding("embedding", padding_idx, rows)

    def start(key: Array, shape: Shape, dtype: Any) -> Array:
        weight = (weight_init or normal())(key, shape, dtype)
        return (
            weight
            if padding is None
            else np.where(np.arange(rows)[:, None] == padding, dtype.type(0), weight)
        )

    call = {"padding_idx": padding, "scale_grad_by_freq": scale_grad_by_freq}
    return from_function(
        F.embedding,
        call=call,
        options={"num_embeddings": rows, "embedding_dim": columns, **call},
        out_shape=lambda shape: (*shape, columns),
        trained=("weight",),
        leaves=lambda shape: {"weight": ((rows, columns), start)},
    )


@constructor
def bilinear(
    out_features: int,
    *,
    bias: bool = True,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> Layer:
    """Affine in each of two inputs; see `fconv.functional.bilinear`.

    The layer's input is the pair ``(x1, x2)`` of arrays (..., in1_features) and
    (..., in2_features), its input shape the pair of their shapes, and its input gradient the
    pair of their gradients.

    Parameters
    ----------
    out_features : int
        Size of the output's last axis.
    bias : bool
        Add a bias.
    weight_init, bias_init : Initializer, optional
        From `fconv.initializers`; PyTorch's default U(-1/sqrt(in1_features), 1/sqrt(in1_features)).

    Returns
    -------
    Layer
        With the parameters ``weight`` (out_features, in1_features, in2_features) and ``bias``
        (out_features,), as torch.nn.Bilinear has them.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when the layer is used.

    Examples
    --------
    >>> bilinear(10).out_shape(((8, 3), (8, 4)))
    (8, 10)
    """
    out_features = whole("bilinear", "out_features", out_features, 1)
    trained = ("weight", "bias") if bias else ("weight",)

    def sizes(shape: Any) -> tuple[Shape, int, int]:
        first, second = (check_shape("bilinear", s) for s in pair(shape, "shapes"))
        return check_bilinear("bilinear", first, second), first[-1], second[-1]

    def out_shape(shape: Any) -> Shape:
        return (*sizes(shape)[0], out_features)

    def init(key: Array, shape: Any, dtype: Any = np.float32) -> Params:
        _, in1, in2 = sizes(shape)
        bound = 1 / sqrt(in1) if in1 else 0.0
        leaves: Leaves = {
            "weight": ((out_features, in1, in2), weight_init or uniform(-bound, bound)),
            "bias": ((out_features,), bias_init or uniform(-bound, bound)),
        }
        return draw("bilinear", {leaf: leaves[leaf] for leaf in trained}, key, dtype)

    def arguments(params: Params, x: Any) -> tuple[Any, ...]:
        check_params("bilinear", params, trained)
        return (*pair(x, "arrays"), *(params[leaf] for leaf in trained))

    def gradients(grads: tuple[Any, ...]) -> tuple[Params, Any]:
        return dict(zip(trained, grads[2:], strict=False)), grads[:2]

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Array:
        return F.bilinear(*arguments(params, x))

    def vjp(
        params: Params, x: Any, g: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Any]:
        return gradients(F.bilinear.vjp(g, *arguments(params, x)))

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Params, LayerPullback]:
        y, pull = F.bilinear.forward(*arguments(params, x))

        def pullback(g: Array, input_grad: bool = True, *, each: tuple[str, ...] = ()) -> tuple[Params, Any]:
            if input_grad:
                return gradients(pull(g, each=each))
            return gradients(pull(g, trained, each))[0], None

        return y, params, pullback

    def jvp(
        params: Params, x: Any, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Array]:
        moved = dparams or {}
        tangents = (*(dx or (None, None)), *(moved.get(leaf) for leaf in trained))
        return F.bilinear.value_and_jvp(tangents, *arguments(params, x))

    options = {"out_features": out_features, "bias": bias}
    return Layer(
        init=init,
        apply=apply,
        vjp=vjp,
        jvp=jvp,
        out_shape=out_shape,
        forward=forward,
        name="bilinear",
        options=options,
        draws=False,
    )


def pair(value: Any, what: str) -> tuple[Any, Any]:
    """Require a pair."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        got = f"{len(value)}" if isinstance(value, (tuple, list)) else describe(value)
        raise TypeError(f"bilinear: expected a pair of {what} (x1, x2), got {got}")
    return value[0], value[1]
