"""Put another head on resnet18's published weights: python finetune.py resnet18.pth (or random ones)."""

import sys

import numpy as np

import fconv as fc

key = fc.random.key(0)
x = fc.random.normal(key, (16, 3, 32, 32))  # sixteen pictures of two classes: the brighter half is class 1
t = np.arange(16) % 2
x += t[:, None, None, None].astype(np.float32)

if len(sys.argv) > 1:
    published = fc.find_state_dict(fc.load(sys.argv[1]))
else:
    published = fc.to_state_dict(fc.models.resnet18().init(key, (1, 3, 224, 224)))

net = fc.models.resnet18(num_classes=2)
params = net.init(key, x.shape)
body = {name: weight for name, weight in published.items() if not name.startswith("fc.")}
params = fc.from_state_dict(params, body, strict=False)

# Only the head is trained: gradients of the body cost nothing, and its batch norm stays as it is.
loss_and_grad = fc.value_and_grad(net, fc.cross_entropy_loss(), trainable="fc.*")
opt = fc.adam(lr=1e-3)
state = opt.init(params)
for step in range(8):
    loss, grads, params = loss_and_grad(params, x, t)
    params, state = opt.step(params, grads, state)
    print(f"step {step}: loss {loss:.3f}")

kept = all((fc.to_state_dict(params)[name] == weight).all() for name, weight in body.items())
print(f"accuracy {fc.metrics.accuracy(net.apply(params, x), t):.2f}, the body is unchanged: {kept}")
