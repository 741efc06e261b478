"""Losses against PyTorch where a random draw seldom looks: kinks, clamps, ties and ignored targets."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch

from fconv import functional as F

A = np.array
UNIT = A([0.0, 1.0, 0.0, 1.0, 0.3])
ROW = A([[1.0, 2.0, 2.0], [0.5, 0.5, -3.0]])
LOGITS = A([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])

EDGES = [
    ("mse_loss", [A([1.0, 2.0]), A([1.0, 0.0])], {}),
    ("l1_loss", [A([1.0, 2.0]), A([1.0, 0.0])], {}),
    ("smooth_l1_loss", [A([0.5, -0.5, 0.0]), np.zeros(3)], {"beta": 0.5}),
    ("smooth_l1_loss", [A([0.5, -0.5, 0.0]), np.zeros(3)], {"beta": 0}),
    ("huber_loss", [A([0.5, -0.5, 0.0]), np.zeros(3)], {"delta": 0.5}),
    ("poisson_nll_loss", [A([0.5, -0.5]), A([1.0, 1.5])], {"full": True}),
    ("poisson_nll_loss", [A([0.0, 0.5]), A([1.0, 1.5])], {"log_input": False, "eps": 0.01}),
    ("gaussian_nll_loss", [ROW, ROW + 1, A([[0.0], [0.05]])], {"eps": 0.1}),
    ("gaussian_nll_loss", [ROW, A([1.0]), A([0.2, 0.05])], {"eps": 0.1}),
    ("gaussian_nll_loss", [A(1.0), A(2.0), A(0.5)], {}),
    ("binary_cross_entropy", [UNIT, A([0.0, 0.0, 1.0, 1.0, 0.5])], {}),
    ("binary_cross_entropy_with_logits", [A([1e4, -1e4, 0.0]), A([0.0, 1.0, 0.5])], {}),
    ("kl_div", [A([-1.0, -2.0]), A([0.5, 1.0])], {}),
    ("hinge_embedding_loss", [A([1.0, 1.0, 0.5, 2.0]), A([1, -1, 0, -1])], {}),
    ("margin_ranking_loss", [A([1.0, 2.0, 1.0]), A([1.0, 1.0, 2.0]), A([1.0, 1.0, -1.0])], {"margin": 1.0}),
    ("margin_ranking_loss", [A([1.0, 2.0, 1.0]), A([1.0, 1.0, 2.0]), A([1, 1, -1])], {}),
    ("cosine_embedding_loss", [ROW, ROW[::-1].copy(), A([1.0, -1.0])], {}),
    ("cosine_embedding_loss", [ROW, 0 * ROW, A([1, -1])], {}),
    ("cosine_embedding_loss", [ROW[0], ROW[1], A(0)], {"margin": 0.5}),
    ("nll_loss", [LOGITS, A([1, 1])], {"ignore_index": 1}),
    ("cross_entropy", [LOGITS, A([1, 2])], {"ignore_index": 1, "label_smoothing": 0.3}),
    ("cross_entropy", [LOGITS, A([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])], {"label_smoothing": 0.3}),
    ("cross_entropy", [LOGITS[0], A([0.2, 0.5, 0.3])], {}),
]
# At eps 0 the distances of the first rows are 0, and both of the negative's are the same.
EDGES += [
    ("triplet_margin_loss", [ROW, A([[1.0, 2.0, 2.0], [0.5, 1.5, 2]]), ROW], {"p": p, "swap": swap, "eps": 0})
    for p in (0, 0.5, 1, 1.5, 2, 3, inf)
    for swap in (False, True)
]  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("number", range(len(EDGES)), ids=lambda n: EDGES[n][0])
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
def test_edges_are_pytorchs(number, reduction):
    name, arrays, options = EDGES[number]
    function = getattr(F, name)
    tensors = [
        torch.tensor(a, requires_grad=a.dtype.kind == "f" and argument not in function.constants)
        for argument, a in zip(function.arrays, arrays, strict=False)
    ]
    theirs = getattr(torch.nn.functional, name)(*tensors, reduction=reduction, **options)
    ours, pull = function.forward(*arrays, reduction=reduction, **options)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-15)
    if theirs.grad_fn is None or np.isnan(ours).any():
        return
    g = np.linspace(0.5, 2.0, ours.size).reshape(ours.shape)
    theirs.backward(torch.from_numpy(g))
    for mine, tensor in zip(pull(g), tensors, strict=False):
        if mine is not None and tensor.grad is not None:
            np.testing.assert_allclose(mine, tensor.grad.numpy(), rtol=1e-12, atol=1e-15)
