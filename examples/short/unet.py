"""Find discs in noise with a small U-Net, written as a graph."""

import numpy as np

import fconv as fc

key = fc.random.key(0)
y, x, r = fc.random.uniform(key, (3, 320, 1, 1), low=8.0, high=24.0)
rows, columns = np.mgrid[:32, :32]
inside = (rows - y) ** 2 + (columns - x) ** 2 < (r / 3) ** 2
pictures = inside + 0.7 * fc.random.normal(fc.random.fold_in(key, 1), inside.shape)
train_x, valid_x, train_t, valid_t = fc.data.train_test_split(
    key, pictures[:, None].astype(np.float32), inside.astype(np.int64)
)


def block(channels: int) -> fc.Layer:
    """Convolve, normalise, rectify."""
    return fc.compose(fc.conv2d(channels, 3, padding=1), fc.batch_norm(), fc.relu())


net = fc.graph({
    "fine": (block(8), "x"),
    "coarse": (fc.compose(fc.max_pool2d(2), block(16)), "fine"),
    "bottom": (fc.compose(fc.max_pool2d(2), block(32), fc.upsample(scale_factor=2)), "coarse"),
    "up": (fc.compose(fc.concat(), block(16), fc.upsample(scale_factor=2)), "bottom", "coarse"),
    "out": (fc.compose(fc.concat(), block(8), fc.conv2d(2, 1)), "up", "fine"),
})  # fmt: skip
state, history = fc.fit(
    net, fc.cross_entropy_loss(), fc.adam(5e-3), (train_x, train_t), (valid_x, valid_t), epochs=4, key=key,
    batch_size=16, metrics={"iou": lambda scores, t: fc.metrics.mean_iou(scores, t, 2)}, progress=False,
)  # fmt: skip
print("mean IoU after each epoch:", *(f"{value:.3f}" for value in history["valid_iou"]))
found = net.apply(state.params, valid_x[:1]).argmax(1)[0]
for rows_of in zip(valid_x[0, 0] > 0.5, found, valid_t[0], strict=True):  # noisy, found, true
    print(*("".join(" #"[int(v)] for v in row) for row in rows_of), sep=" | ")
