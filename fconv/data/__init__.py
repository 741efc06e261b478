"""Readers of data, and batches, crops, flips and noise as pure functions of a key."""

from fconv.data.batches import batches
from fconv.data.crops import random_crops, random_flips
from fconv.data.folders import Images, read_images
from fconv.data.idx import read_idx, read_mnist
from fconv.data.noise import gaussian_noise, impulse_noise, poisson_noise, text_noise
from fconv.data.prefetching import prefetch

__all__ = [
    "Images",
    "batches",
    "gaussian_noise",
    "impulse_noise",
    "poisson_noise",
    "prefetch",
    "random_crops",
    "random_flips",
    "read_idx",
    "read_images",
    "read_mnist",
    "text_noise",
]
