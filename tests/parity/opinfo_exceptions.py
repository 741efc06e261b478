"""Samples of PyTorch's own operator tests that cannot apply to fconv, by name, each with the reason.

A rule takes (args, kwargs) of our call, NumPy arrays for tensors, and tells whether it is meant.
"""

from __future__ import annotations

# Operators of torch.nn.functional that fconv does not have.
ABSENT = {
    name: reason
    for reason, names in {
        "not among fconv's functions": [
            "cosine_similarity",
            "ctc_loss",
            "embedding_bag",
            "feature_alpha_dropout",
            "fractional_max_pool2d",
            "fractional_max_pool3d",
            "linear_cross_entropy",
            "multi_head_attention_forward",
            "multi_margin_loss",
            "multilabel_margin_loss",
            "multilabel_soft_margin_loss",
            "one_hot",
            "pairwise_distance",
            "pdist",
            "rrelu",
            "triplet_margin_with_distance_loss",
        ],
        "a deprecated name of interpolate": ["upsample_bilinear", "upsample_nearest"],
    }.items()
    for name in names
}

# Whole variants of an operator.
VARIANTS = {
    "with_dtype": "dtype= casts the input first; here arrays are cast with astype",
}


def _drops(args, kwargs):
    return kwargs.get("training", True) and kwargs.get("p", 0.5) > 0


_BY_CHANCE = ("the mask is drawn from PyTorch's hidden generator", _drops)

SAMPLES = {
    "dropout": [_BY_CHANCE],
    "dropout2d": [_BY_CHANCE],
    "dropout3d": [_BY_CHANCE],
    "alpha_dropout": [_BY_CHANCE],
    "scaled_dot_product_attention": [
        (
            "dropout draws from PyTorch's hidden generator",
            lambda args, kwargs: kwargs.get("dropout_p", 0.0) > 0,
        )
    ],
    "batch_norm": [
        ("one axis alone, without channels", lambda args, kwargs: args[0].ndim == 1),
    ],
}

# Gradients that PyTorch itself computes with constants rounded to float32, and their tolerance.
TOLERANCES = {"hardsigmoid": 1e-7, "celu": 1e-7}

# Error samples, by a part of the message that PyTorch gives.
ERRORS = {
    "max_pool1d": [
        ("must have non-zero size for non-batch", "no channels: an empty result, as of an empty batch")
    ],
    "max_pool3d": [("non-zero size for non-batch", "no channels: an empty result, as of an empty batch")],
}
