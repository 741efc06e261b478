"""Losses: pairs of pure functions over `fconv.functional`, with torch.nn's names.

The gradient is that of `y` alone, never of the target. A loss of several arrays takes a tuple of
them as `y`, and its gradient is a tuple too; its docstring names them.
"""

from fconv.losses.base import Loss, losses_by_name
from fconv.losses.distances import (
    huber_loss,
    l1_loss,
    l1_penalty,
    l2_penalty,
    mse_loss,
    smooth_l1_loss,
    ssim_loss,
    total_variation_loss,
)
from fconv.losses.likelihoods import (
    bce_loss,
    bce_with_logits_loss,
    cross_entropy_loss,
    gaussian_nll_loss,
    kl_div_loss,
    nll_loss,
    poisson_nll_loss,
)
from fconv.losses.margins import (
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    soft_margin_loss,
    triplet_margin_loss,
)

__all__ = [
    "Loss",
    "bce_loss",
    "bce_with_logits_loss",
    "cosine_embedding_loss",
    "cross_entropy_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div_loss",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "losses_by_name",
    "margin_ranking_loss",
    "mse_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "ssim_loss",
    "total_variation_loss",
    "triplet_margin_loss",
]
