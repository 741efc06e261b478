"""Convolution on the GPU: kernels for CuPy, and their launch."""

from fconv.engine.cuda.convolution import offer

__all__ = ["offer"]
