"""Train a generative adversarial network (Goodfellow et al., 2014) on digits: python gan.py [STEPS]."""

import sys

import numpy as np
from sklearn.datasets import load_digits

import fconv as fc

x = load_digits().images[:, None].astype(np.float32) / 8 - 1  # from -1 to 1
size, noise = 64, (64, 16)
generator = fc.compose(
    fc.linear(64 * 2 * 2), fc.unflatten(1, (64, 2, 2)), fc.relu(),
    fc.conv_transpose2d(32, 4, stride=2, padding=1), fc.batch_norm(), fc.relu(),
    fc.conv_transpose2d(1, 4, stride=2, padding=1), fc.tanh(),
)  # fmt: skip
discriminator = fc.compose(
    fc.conv2d(32, 3, stride=2, padding=1), fc.leaky_relu(0.2), fc.conv2d(64, 3, stride=2, padding=1),
    fc.leaky_relu(0.2), fc.flatten(), fc.linear(1),
)  # fmt: skip
both = fc.compose(generator=generator, discriminator=discriminator)
key = fc.random.key(0)
params = both.init(key, noise)
d_opt = g_opt = fc.adam(1e-3, betas=(0.5, 0.999))
d_state, g_state = d_opt.init(params["discriminator"]), g_opt.init(params)
d_grad = fc.value_and_grad(discriminator, fc.bce_with_logits_loss())
g_grad = fc.value_and_grad(both, fc.bce_with_logits_loss(), trainable="generator")
real, fake = np.ones((size, 1), np.float32), np.zeros((size, 1), np.float32)
for step in range(1, 1 + int(sys.argv[1] if len(sys.argv) > 1 else 500)):
    z = fc.random.normal(fc.random.fold_in(key, step), noise)
    drawn = generator.apply(params["generator"], z, train=True)
    seen = np.concatenate([x[size * step % 1728 :][:size], drawn])
    d_loss, grads, d = d_grad(params["discriminator"], seen, np.concatenate([real, fake]))
    d, d_state = d_opt.step(d, grads, d_state)
    g_loss, grads, params = g_grad({**params, "discriminator": d}, z, real)  # to be taken for real
    params, g_state = g_opt.step(params, grads, g_state)
    if step % 50 == 0:
        print(f"step {step}: discriminator {d_loss:.3f}, generator {g_loss:.3f}")
rows = generator.apply(params["generator"], z)[:8, 0].transpose(1, 0, 2).reshape(8, 64)
print(*("".join(" .:-=+*#"[int(4 * v + 3.99)] for v in row) for row in rows), sep="\n")
