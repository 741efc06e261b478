"""Readers of data, and batches, crops, flips and noise as pure functions of a key."""

from fconv.data.augmentation import color_jitter, cutout, mixup, normalize, random_rotations, train_test_split
from fconv.data.batches import batches
from fconv.data.crops import random_crops, random_flips
from fconv.data.folders import Images, read_images
from fconv.data.idx import read_idx, read_mnist
from fconv.data.noise import gaussian_noise, impulse_noise, poisson_noise, text_noise
from fconv.data.prefetching import prefetch

__all__ = [
    "Images",
    "batches",
    "color_jitter",
    "cutout",
    "gaussian_noise",
    "impulse_noise",
    "mixup",
    "normalize",
    "poisson_noise",
    "prefetch",
    "random_crops",
    "random_flips",
    "random_rotations",
    "read_idx",
    "read_images",
    "read_mnist",
    "text_noise",
    "train_test_split",
]
