"""Three gradients that are a little wrong, under four checks; docs/checking.md shows the output."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.test_util import check_grads
from torch.autograd import gradcheck

from fconv.testing import check_vjp


class RMSNorm(torch.autograd.Function):
    """x / rms(x), whose backward pass forgets eps."""

    @staticmethod
    def forward(ctx, x, eps):
        ctx.save_for_backward(x)
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        r = torch.rsqrt((x * x).mean(-1, keepdim=True))
        return r * (g - x * r * r * (g * x).mean(-1, keepdim=True)), None


class Sine(torch.autograd.Function):
    """sin(x), which keeps x on the class: after a second forward pass it is another one's."""

    @staticmethod
    def forward(ctx, x):
        Sine.x = x
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        return g * torch.cos(Sine.x)


@jax.custom_vjp
def gelu(x):
    """GELU by tanh, whose gradient has 0.134 for 3 * 0.044715."""
    return 0.5 * x * (1 + jnp.tanh(0.79788456 * (x + 0.044715 * x**3)))


def gelu_vjp(x, g):
    t = jnp.tanh(0.79788456 * (x + 0.044715 * x**3))
    return (g * 0.5 * (1 + t + x * (1 - t**2) * 0.79788456 * (1 + 0.134 * x**2)),)


gelu.defvjp(lambda x: (gelu(x), x), gelu_vjp)


def verdict(check, *args, **options):
    """Return what a check says: passed, or its message, shortened."""
    try:
        check(*args, **options)
    except Exception as error:
        return "\n    ".join(str(error).splitlines()[:4])
    return "passed"


def main():
    x = np.linspace(-2.0, 2.0, 32).reshape(4, 8)
    tensor = torch.tensor(x, requires_grad=True)
    print("RMSNorm without eps")
    print("  gradcheck:", verdict(gradcheck, lambda x: RMSNorm.apply(x, 1e-5), tensor / 4))
    print("  check_vjp:", verdict(check_vjp, RMSNorm, None, [x / 4, 1e-5]))
    print("Sine with a kept x")
    print("  gradcheck:", verdict(gradcheck, Sine.apply, tensor))
    print("  check_vjp:", verdict(check_vjp, Sine, None, [x]))
    print("gelu with a rounded constant")
    print("  check_grads:", verdict(check_grads, gelu, (jnp.asarray(x),), order=1, modes=["rev"]))
    print("  check_vjp:", verdict(check_vjp, gelu, None, [x]))


if __name__ == "__main__":
    main()
