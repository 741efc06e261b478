"""Use the gradient of the input: a saliency map, and pictures that mislead a network (FGSM)."""

import numpy as np
from sklearn.datasets import load_digits

import fconv as fc

digits = load_digits()
x, t = digits.images[:, None].astype(np.float32) / 16, digits.target
net = fc.compose(fc.conv2d(16, 3, padding=1), fc.relu(), fc.max_pool2d(2), fc.flatten(), fc.linear(10))
loss = fc.cross_entropy_loss()
state, _ = fc.fit(net, loss, fc.adam(3e-3), (x, t), epochs=8, key=fc.random.key(0), progress=False)
params = state.params

gradient_of_input = fc.value_and_grad(net, loss, wrt="x")
_, slope, _ = gradient_of_input(params, x, t, train=False)

# Saliency (Simonyan et al., 2014): how much the loss changes with each pixel.
saliency = np.abs(slope[0, 0]) / np.abs(slope[0, 0]).max()
for picture, map_ in zip(x[0, 0], saliency, strict=True):
    print(
        "".join(" .:-=+*#"[int(7.99 * v)] for v in picture), "".join(" .:-=+*#"[int(7.99 * v)] for v in map_)
    )

# FGSM (Goodfellow et al., 2015): one step of each pixel in the direction that makes the loss larger.
for size in (0.0, 0.05, 0.1, 0.2):
    misleading = np.clip(x + np.float32(size) * np.sign(slope), 0, 1)
    print(f"pixels moved by {size:.2f}: accuracy {fc.metrics.accuracy(net.apply(params, misleading), t):.3f}")
