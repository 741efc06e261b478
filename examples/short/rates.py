"""Assign learning rates, weight decay and optimizers to parts of a network by dotted names."""

import numpy as np
from sklearn.datasets import load_digits

import fconv as fc

digits = load_digits()
x, t = digits.images[:, None].astype(np.float32) / 16, digits.target
net = fc.compose(
    features=fc.compose(fc.conv2d(16, 3), fc.batch_norm(), fc.relu(), fc.conv2d(32, 3), fc.relu()),
    flatten=fc.flatten(),
    head=fc.linear(10),
)
opt = fc.by_name({  # the first pattern that fits a name counts
    "features.0": None,  # the whole layer is left as it is
    "*.bias": fc.sgd(0.05),  # without weight decay
    "features.*": fc.sgd(0.01, momentum=0.9, weight_decay=1e-4),
    "head": fc.adam(fc.schedules.exponential(3e-3, gamma=0.99)),
})  # fmt: skip
opt = fc.clip_by_global_norm(opt, 1.0)

state = fc.train_state(net, opt, fc.random.key(0), x.shape)
print("names:", *fc.to_state_dict(state.params), sep="\n  ")
step = fc.train_step(net, fc.cross_entropy_loss(), opt)
for i, (xb, tb) in enumerate(fc.data.batches(x, t, batch_size=64)):
    state, found = step(state, xb, tb)
    if i % 7 == 0:
        print(f"step {i}: loss {found['loss']:.3f}, rates {found['lr']}")
print(f"accuracy {fc.metrics.accuracy(net.apply(state.params, x), t):.3f}")
