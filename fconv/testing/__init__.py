"""Gradient checks for users' own functions and layers; hypothesis strategies are in `strategies`."""

from fconv.testing.adjoint import check_adjoint
from fconv.testing.functions import check_vjp
from fconv.testing.layers import check_layer

__all__ = ["check_adjoint", "check_layer", "check_vjp"]
