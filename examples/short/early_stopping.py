"""Train with a schedule, stop when the validation loss no longer falls, and go on another day."""

import numpy as np
from sklearn.datasets import load_digits

import fconv as fc

key = fc.random.key(0)
digits = load_digits()
x = digits.images[:, None].astype(np.float32) / 16
x, x_valid, t, t_valid = fc.data.train_test_split(key, x, digits.target)

net = fc.compose(fc.conv2d(16, 3), fc.batch_norm(), fc.relu(), fc.flatten(), fc.linear(10))
steps = -(-len(x) // 64)  # in an epoch
schedule = fc.schedules.warmup(fc.schedules.cosine(0.1, 20 * steps), steps)

for epochs in (4, 20):  # two runs: the second goes on with what lies in the folder, as if there had been one
    state, history = fc.fit(
        net, fc.cross_entropy_loss(), fc.sgd(schedule, momentum=0.9), (x, t), (x_valid, t_valid),
        epochs=epochs, key=key, metrics=[fc.metrics.accuracy], checkpoint="run", stop_early=3,
    )  # fmt: skip
    print(f"after {len(history['loss'])} epochs and {state.step} steps:")
    for name, values in history.items():
        print(f"  {name:14}", *(f"{value:.3f}" for value in values))

fc.plot_history(history, "history.png")
best = fc.load("run/best.safetensors")
print(f"best network: accuracy {fc.metrics.accuracy(net.apply(best, x_valid), t_valid):.3f}")
