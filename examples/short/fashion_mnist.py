"""Train a classifier: python fashion_mnist.py FOLDER, of MNIST's format; without it scikit-learn's digits."""

import sys

import numpy as np
from sklearn.datasets import load_digits

import fconv as fc

key = fc.random.key(0)
if len(sys.argv) > 1:
    data = fc.data.read_mnist(sys.argv[1])
    x, x_test = (images[:, None].astype(np.float32) / 255 for images in (data.train_images, data.test_images))
    t, t_test = data.train_labels, data.test_labels
else:
    digits = load_digits()
    pictures = digits.images[:, None].astype(np.float32) / 16  # (N, C, H, W)
    x, x_test, t, t_test = fc.data.train_test_split(key, pictures, digits.target)

net = fc.compose(
    fc.conv2d(16, 3, padding=1), fc.batch_norm(), fc.relu(),
    fc.conv2d(32, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2),
    fc.flatten(), fc.dropout(0.2), fc.linear(10),
)  # fmt: skip
params = net.init(key, x.shape)
opt = fc.sgd(lr=0.05, momentum=0.9)
opt_state = opt.init(params)
loss_and_grad = fc.value_and_grad(net, fc.cross_entropy_loss())

for epoch in range(3):
    losses = fc.metrics.RunningMean()
    for i, (xb, tb) in enumerate(fc.data.batches(x, t, batch_size=32, key=fc.random.fold_in(key, epoch))):
        step_key = fc.random.fold_in(fc.random.fold_in(key, epoch), i)
        loss, grads, params = loss_and_grad(params, xb, tb, key=step_key)
        params, opt_state = opt.step(params, grads, opt_state)
        losses = losses.add(loss, len(xb))
    accuracy = fc.metrics.accuracy(net.apply(params, x_test), t_test)
    print(f"epoch {epoch + 1}: loss {losses.value:.3f}, test accuracy {accuracy:.3f}")

fc.save("classifier.safetensors", params)
