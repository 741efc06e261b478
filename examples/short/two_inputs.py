"""Two inputs and two outputs: a picture of a bar, and its scale, give which way it lies and its length."""

import numpy as np

import fconv as fc

key, size = fc.random.key(0), 512
scale = fc.random.uniform(fc.random.fold_in(key, 1), (size, 1), low=1.0, high=2.0)  # pixels in a centimetre
side = np.floor(fc.random.uniform(fc.random.fold_in(key, 2), (size, 1), low=3.0, high=8.0))
lies = fc.random.bernoulli(fc.random.fold_in(key, 3), 0.5, (size, 1))
height, width = np.where(lies, 2, side), np.where(lies, side, 2)
rows, columns = np.mgrid[:8, :8]
bar = (rows < height[..., None]) & (columns < width[..., None])
x = {"picture": bar[:, None].astype(np.float32), "scale": scale}
target = {"lies": lies[:, 0].astype(np.int64), "length": side / scale}

net = fc.graph(
    {
        "features": (fc.compose(fc.conv2d(8, 3), fc.relu(), fc.flatten()), "picture"),
        "joined": (fc.concat(), "features", "scale"),
        "body": (fc.compose(fc.linear(32), fc.relu()), "joined"),
        "lies": (fc.linear(2), "body"),
        "length": (fc.linear(1), "body"),
    },
    inputs=["picture", "scale"],
    outputs=["lies", "length"],
)
loss = fc.losses_by_name({"lies": (1.0, fc.cross_entropy_loss()), "length": (0.5, fc.huber_loss())})
state, history = fc.fit(
    net, loss, fc.adam(1e-2), (x, target), epochs=60, key=key, batch_size=32, progress=False,
    metrics={"accuracy": lambda y, t: fc.metrics.accuracy(y["lies"], t["lies"])},
)  # fmt: skip
y = net.apply(state.params, x)
print(f"loss {history['loss'][0]:.3f} -> {history['loss'][-1]:.3f}, accuracy {history['accuracy'][-1]:.3f}")
print(f"mean error of the length: {np.abs(y['length'] - target['length']).mean():.3f} cm")
