"""Enlarge pictures so that a ready network sees the same in them (Johnson et al., 2016)."""

import sys

import numpy as np
from sklearn.datasets import load_digits

import fconv as fc

key = fc.random.key(0)
x = load_digits().images[:256, None].astype(np.float32) / 16
large = fc.functional.interpolate(np.repeat(x, 3, axis=1), scale_factor=2, mode="bicubic")
small = fc.functional.avg_pool2d(large, 2)

# The network that looks, up to layer2.0: python perceptual.py resnet20.pth, or with random weights.
ready = fc.models.resnet20()
weights = ready.init(key, large.shape)
if len(sys.argv) > 1:
    published = fc.find_state_dict(fc.load(sys.argv[1]))
    weights = fc.from_state_dict(weights, fc.rename(published, {"module.": ""}))
eye = fc.with_outputs(ready, ["layer1.2", "layer2.0"])

enlarge = fc.compose(fc.conv2d(16, 3, padding=1), fc.relu(), fc.conv2d(12, 3, padding=1), fc.pixel_shuffle(2))
net = fc.compose(enlarge=enlarge, eye=eye)
params = {"enlarge": enlarge.init(key, small.shape), "eye": weights}
loss = fc.losses_by_name({"layer1.2": (1.0, fc.mse_loss()), "layer2.0": (0.5, fc.l1_loss())})
loss_and_grad = fc.value_and_grad(net, loss, trainable="enlarge")  # the eye stays as it is
opt = fc.adam(5e-3)
state = opt.init(params)

for epoch in range(5):
    for xb, tb in fc.data.batches(small, large, batch_size=16, key=fc.random.fold_in(key, epoch)):
        value, grads, params = loss_and_grad(params, xb, eye.apply(weights, tb))
        params, state = opt.step(params, grads, state)
    y = enlarge.apply(params["enlarge"], small)
    print(f"difference of what is seen {value:.3f}, of the pixels {fc.metrics.psnr(y, large):.2f} dB")
