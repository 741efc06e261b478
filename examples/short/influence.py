"""Find the training digits that push a wrong answer, by products of gradients (TracIn, Pruthi 2020)."""

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import fconv as fc

digits, key = load_digits(), fc.random.key(0)
pictures = digits.images[:, None].astype(np.float32) / 16
x, x_test, t, t_test = fc.data.train_test_split(key, pictures, digits.target)
net = fc.compose(
    fc.conv2d(16, 3, padding=1), fc.group_norm(4), fc.relu(), fc.max_pool2d(2), fc.flatten(), fc.linear(10)
)
loss, opt = fc.cross_entropy_loss(), fc.sgd(0.05, momentum=0.9)
step, gradients_of = fc.train_step(net, loss, opt), fc.per_example_gradients(net, loss)
state = fc.train_state(net, opt, key, x.shape)
rise = np.zeros(
    (len(x_test), len(x))
)  # of each test digit's loss, by a step along each training digit's gradient
for epoch in range(6):
    for batch in fc.data.batches(x, t, batch_size=64, key=fc.random.fold_in(key, epoch)):
        state, _ = step(state, *batch)
    both = [fc.trees.leaves(gradients_of(state.params, *data)) for data in ((x_test, t_test), (x, t))]
    for ours, theirs in zip(*both, strict=True):
        rise -= ours.reshape(len(ours), -1) @ theirs.reshape(len(theirs), -1).T

answers = net.apply(state.params, x_test).argmax(axis=1)
wrong = np.flatnonzero(answers != t_test)[:4]
figure = Figure((8, 1.3 * len(wrong)), layout="constrained")
for i, row in zip(wrong, figure.subplots(len(wrong), 7, squeeze=False), strict=True):
    pushing = rise[i].argsort()[:-7:-1]
    print(f"{t_test[i]}, taken for {answers[i]}: pushed by training digits labelled {t[pushing].tolist()}")
    titles = [f"{t_test[i]}, taken for {answers[i]}", *(f"labelled {label}" for label in t[pushing])]
    for axis, picture, title in zip(row, [x_test[i], *x[pushing]], titles, strict=True):
        axis.imshow(picture[0], cmap="gray_r")
        axis.set_title(title, fontsize=8)
        axis.axis("off")
figure.savefig("influence.png", dpi=100)
print(f"test accuracy {np.mean(answers == t_test):.3f}")
