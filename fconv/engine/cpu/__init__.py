"""Convolution in NumPy: tiles of windows that stay in the cache, one matrix product each, on threads."""

from fconv.engine.cpu.convolution import offer

__all__ = ["offer"]
