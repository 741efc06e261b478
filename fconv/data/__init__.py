"""Readers of data, and batches as pure functions of a key."""

from fconv.data.batches import batches
from fconv.data.idx import read_idx, read_mnist

__all__ = ["batches", "read_idx", "read_mnist"]
