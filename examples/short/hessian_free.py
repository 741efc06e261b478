"""Train without a learning rate: a step minimizes the Gauss-Newton model, by conjugate gradients."""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import fconv as fc
from fconv import trees

digits = load_digits()
x = digits.images[:, None].astype(np.float32) / 16
x, x_test, t, t_test = fc.data.train_test_split(fc.random.key(0), x, digits.target)
net = fc.compose(fc.conv2d(16, 3), fc.tanh(), fc.max_pool2d(2), fc.flatten(), fc.linear(10))
loss, params, damping = fc.cross_entropy_loss(), net.init(fc.random.key(1), x.shape), 0.1
dot: Any = lambda a, b: sum(float((p * q).sum()) for _, p, q in trees.aligned(a, b))  # noqa: E731
plus: Any = lambda a, by, b: trees.map(lambda p, q: p + np.float32(by) * q, a, b)  # noqa: E731
product: Any = lambda v: plus(fc.ggn_product(net, loss, params, x, t, v), damping, v)  # noqa: E731


def solve(b: Any) -> Any:
    """Solve product(v) = b, nearly; the matrix is never formed."""
    v, left, way = trees.map(np.zeros_like, b), b, b
    for _ in range(10):
        bent, size = product(way), dot(left, left)
        length = size / dot(way, bent)
        v, left = plus(v, length, way), plus(left, -length, bent)
        way = plus(left, dot(left, left) / size, way)
    return v


for i in range(15):
    before, grads, _ = fc.value_and_grad(net, loss)(params, x, t)
    step = solve(trees.map(np.negative, grads))
    after = loss.apply(net.apply(plus(params, 1, step), x), t)
    kept = (after - before) / (dot(step, grads) + dot(step, product(step)) / 2)  # of the gain foretold
    damping *= 2 / 3 if kept > 0.75 else 1.5 if kept < 0.25 else 1
    params = plus(params, 1, step) if after < before else params
    right = (net.apply(params, x_test).argmax(axis=1) == t_test).mean()
    print(f"step {i + 1}: loss {after:.4f}, accuracy {right:.3f}")
