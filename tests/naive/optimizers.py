"""Optimizers' rules as they are printed, one parameter of one number."""

from __future__ import annotations

from math import copysign, sqrt


def sgd(p, grads, lr=1e-3, momentum=0.0, dampening=0.0, nesterov=False):
    v = None
    for t, gradient in enumerate(grads):
        g = gradient(p)
        v = g if v is None else momentum * v + (1 - dampening) * g
        p = p - lr(t) * (g + momentum * v if nesterov else v if momentum else g)
    return p


def lion(p, grads, lr, betas, decay=0.0):
    m = 0.0
    for t, gradient in enumerate(grads):
        g = gradient(p)
        p *= 1 - lr(t) * decay
        along = betas[0] * m + (1 - betas[0]) * g
        p = p - lr(t) * (copysign(1, along) if along else 0)
        m = betas[1] * m + (1 - betas[1]) * g
    return p


def adam(p, grads, lr, betas, eps, amsgrad=False, decay=0.0):
    m = v = largest = 0.0
    for t, gradient in enumerate(grads):
        g = gradient(p)
        p *= 1 - lr(t) * decay
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        largest = max(largest, v)
        mean = m / (1 - betas[0] ** (t + 1))
        square = (largest if amsgrad else v) / (1 - betas[1] ** (t + 1))
        p = p - lr(t) * mean / (sqrt(square) + eps)
    return p


def nadam(p, grads, lr, betas, eps, momentum_decay, decay=0.0):
    m = v = 0.0
    product = 1.0
    for t, gradient in enumerate(grads, 1):
        g = gradient(p)
        p *= 1 - lr(t - 1) * decay
        now, then = (betas[0] * (1 - 0.5 * 0.96 ** (s * momentum_decay)) for s in (t, t + 1))
        product *= now
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        mean = then * m / (1 - product * then) + (1 - now) * g / (1 - product)
        p = p - lr(t - 1) * mean / (sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


def rmsprop(p, grads, lr, alpha, eps, momentum=0.0, centered=False):
    v = m = b = 0.0
    for t, gradient in enumerate(grads):
        g = gradient(p)
        v = alpha * v + (1 - alpha) * g**2
        m = alpha * m + (1 - alpha) * g
        b = momentum * b + g / (sqrt(v - m**2 if centered else v) + eps)
        p = p - lr(t) * b
    return p


def adagrad(p, grads, lr, lr_decay, initial_accumulator_value, eps):
    total = initial_accumulator_value
    for t, gradient in enumerate(grads):
        g = gradient(p)
        total += g**2
        p = p - lr(t) / (1 + t * lr_decay) * g / (sqrt(total) + eps)
    return p


def adadelta(p, grads, lr, rho, eps):
    v = a = 0.0
    for t, gradient in enumerate(grads):
        g = gradient(p)
        v = rho * v + (1 - rho) * g**2
        d = sqrt(a + eps) / sqrt(v + eps) * g
        a = rho * a + (1 - rho) * d**2
        p = p - lr(t) * d
    return p
