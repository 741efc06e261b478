"""The networks of training steps and of inference in JAX: a whole step is one function that XLA compiles."""

from __future__ import annotations

from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.libraries import CHANNELS_LAST
from benchmarks.networks import in_fconv

LEARNING_RATE, MOMENTUM = 0.01, 0.9


class _Layers:
    """The layers of the networks, by name, in a memory order of everything between them."""

    def __init__(self, layout):
        self.last = layout == CHANNELS_LAST
        self.axis = -1 if self.last else 1
        self.ways = ("NHWC", "HWIO", "NHWC") if self.last else ("NCHW", "OIHW", "NCHW")

    def leave(self, y):
        """Return an array with the channels first."""
        return jnp.moveaxis(y, -1, 1) if self.last and y.ndim > 2 else y

    def _across(self, value):
        return value if self.last else value[:, None, None]

    def conv2d(self, x, *, of, stride, padding, dilation, groups, **_):
        y = lax.conv_general_dilated(
            x, of["weight"], stride, [(p, p) for p in padding], None, dilation, self.ways, groups
        )
        return y + self._across(of["bias"]) if "bias" in of else y

    def linear(self, x, *, of, **_):
        return x @ of["weight"].T + of["bias"]

    def batch_norm(self, x, *, of, eps, momentum, train, **_):
        axes = tuple(i for i in range(x.ndim) if i != self.axis % x.ndim)
        mean, var = of["running_mean"], of["running_var"]
        found = {}
        if train:
            count = x.size // x.shape[self.axis]
            mean, var = x.mean(axes), x.var(axes)
            found = {
                "running_mean": (1 - momentum) * of["running_mean"] + momentum * mean,
                "running_var": (1 - momentum) * of["running_var"] + momentum * var * count / (count - 1),
            }
        scale = of["weight"] * lax.rsqrt(var + eps)
        return x * self._across(scale) + self._across(of["bias"] - mean * scale), found

    def dropout(self, x, *, p, train, key=None, **_):
        if not train or not p:
            return x
        return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)

    def _window(self, kernel_size, stride, padding):
        kernel, stride, pad = kernel_size, stride or kernel_size, (padding, padding)
        if self.last:
            return (1, kernel, kernel, 1), (1, stride, stride, 1), ((0, 0), pad, pad, (0, 0))
        return (1, 1, kernel, kernel), (1, 1, stride, stride), ((0, 0), (0, 0), pad, pad)

    def max_pool2d(self, x, *, kernel_size, stride, padding, **_):
        return lax.reduce_window(x, -jnp.inf, lax.max, *self._window(kernel_size, stride, padding))

    def avg_pool2d(self, x, *, kernel_size, stride, padding, **_):
        sums = lax.reduce_window(x, 0.0, lax.add, *self._window(kernel_size, stride, padding))
        return sums / kernel_size**2

    def adaptive_avg_pool2d(self, x, *, output_size, **_):
        if output_size != 1:
            raise NotImplementedError(f"the networks average over all positions, not to {output_size}")
        return x.mean((1, 2) if self.last else (2, 3), keepdims=True)

    def pad(self, x, *, pad, **_):
        """Pad with zeros: `pad` begins with the last axis, as PyTorch's does."""
        width = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
        return jnp.pad(x, [width[i] for i in (0, 2, 3, 1)] if self.last else width)

    def upsample(self, x, *, scale_factor, **_):
        for axis in (1, 2) if self.last else (2, 3):
            x = jnp.repeat(x, scale_factor, axis)
        return x

    def pixel_shuffle(self, x, *, upscale_factor, **_):
        r = upscale_factor
        if self.last:
            n, h, w, c = x.shape
            y = x.reshape(n, h, w, c // r**2, r, r).transpose(0, 1, 4, 2, 5, 3)
            return y.reshape(n, h * r, w * r, c // r**2)
        n, c, h, w = x.shape
        return x.reshape(n, c // r**2, r, r, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, h * r, w * r)

    def flatten(self, x, **_):
        return self.leave(x).reshape(x.shape[0], -1)

    def add(self, *xs, **_):
        return sum(xs[1:], xs[0])

    def subtract(self, a, b, **_):
        return a - b

    def identity(self, x, **_):
        return x

    def relu(self, x, **_):
        return jax.nn.relu(x)

    def sigmoid(self, x, **_):
        return jax.nn.sigmoid(x)

    def tanh(self, x, **_):
        return jnp.tanh(x)

    def hardtanh(self, x, *, min_val, max_val, **_):
        return jnp.clip(x, min_val, max_val)

    def log_softmax(self, x, *, dim, **_):
        return jax.nn.log_softmax(x, dim)


class Network:
    """A network of fconv read as functions of JAX.

    Parameters
    ----------
    net : Layer
        Tells the layers, their options and what each takes.
    shape : tuple of int
        Of the input, channels first.
    layout : str
        Memory order of everything between the layers.
    """

    def __init__(self, net, shape, layout):
        from fconv.networks.wiring import flat

        self.wiring, self.layers = flat(net, shape), _Layers(layout)
        self.last = self.layers.last

    def enter(self, x):
        """Put an input into the memory order."""
        return jnp.asarray(np.ascontiguousarray(np.moveaxis(x, 1, -1)) if self.last and x.ndim > 2 else x)

    def weights(self, values, dtype):
        """Turn a state dict into parameters that are trained, and running statistics."""
        trained, statistics = {}, {}
        for name, value in values.items():
            if value.dtype.kind == "i":  # PyTorch counts batches; nothing reads it
                continue
            value = value.astype(dtype)
            group = statistics if "running_" in name else trained
            group[name] = jnp.asarray(value.transpose(2, 3, 1, 0) if self._turned(value) else value)
        return trained, statistics

    def named(self, arrays):
        """Return arrays in the order of parameters as those of a state dict."""
        arrays = {name: np.asarray(value) for name, value in arrays.items()}
        return {n: a.transpose(3, 2, 0, 1) if self._turned(a) else a for n, a in arrays.items()}

    def _turned(self, value):
        return self.last and value.ndim == 4

    def apply(self, trained, statistics, x, train, key):
        """Return the output and the refreshed running statistics."""
        values, fresh = {self.wiring.inputs[0]: x}, dict(statistics)
        for number, step in enumerate(self.wiring.steps):
            inputs = [values[source] for source in step.sources]
            own = ".".join(step.params or ())
            of = {
                name.rpartition(".")[2]: value
                for group in (trained, statistics)
                for name, value in group.items()
                if name.rpartition(".")[0] == own
            }
            options = {**step.layer.options, "train": train}
            if train and step.layer.name == "dropout":
                options["key"] = jax.random.fold_in(key, number)
            y = getattr(self.layers, step.layer.name)(*inputs, of=of, **options)
            if step.layer.name == "batch_norm":
                y, found = y
                fresh.update({f"{own}.{name}": value for name, value in found.items()})
            values[step.name] = y
        return values[self.wiring.outputs[0]], fresh


def _nll(y, target):
    return -jnp.take_along_axis(y, target[:, None], 1).mean()


LOSSES = {
    "mse": lambda y, target: ((y - target) ** 2).mean(),
    "nll": _nll,
    "cross_entropy": lambda y, target: _nll(jax.nn.log_softmax(y, 1), target),
}


def step(case, weights, layout, dropout, dtype):
    """Return a function that trains one step and returns its loss, and one that returns the momentum."""
    net = Network(in_fconv(case.network, dropout=dropout), case.shape, layout)
    x, target = case.batch(dtype)
    x, target = net.enter(x), net.enter(target)
    trained, statistics = net.weights(weights, dtype)
    loss_of, key, numbers = LOSSES[case.loss], jax.random.key(2), count()

    def loss(trained, statistics, key):
        y, fresh = net.apply(trained, statistics, x, True, key)
        return loss_of(y, target), fresh

    @jax.jit
    def whole(trained, statistics, momentum, key, number):
        found = jax.value_and_grad(loss, has_aux=True)(trained, statistics, jax.random.fold_in(key, number))
        (value, fresh), grads = found
        momentum = {name: MOMENTUM * momentum[name] + grads[name] for name in grads}
        trained = {name: trained[name] - LEARNING_RATE * momentum[name] for name in trained}
        return value, trained, fresh, momentum

    state = trained, statistics, {name: jnp.zeros_like(value) for name, value in trained.items()}

    def take():
        nonlocal state
        value, *state = whole(*state, key, next(numbers))
        jax.block_until_ready(state)
        return float(value)

    return take, lambda: net.named(state[2])


def inference(case, weights, layout):
    """Return a function that applies the network to pictures."""
    net = Network(in_fconv(case.network, dropout=0.0), case.shape, layout)
    x, (trained, statistics) = net.enter(case.pictures()), net.weights(weights, "float32")
    applied = jax.jit(lambda x: net.apply(trained, statistics, x, False, None)[0])

    def apply():
        return (jax.block_until_ready(applied(x)),)

    apply.channels_first = lambda: [net.layers.leave(y) for y in apply()]
    return apply
