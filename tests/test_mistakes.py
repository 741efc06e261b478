"""Habits from PyTorch, Keras and NumPy: each is refused in words that say what to write."""

from __future__ import annotations

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import fconv as fc
import fconv.functional as F
from fconv import schedules

KEY = fc.random.key(0)
X = fc.random.normal(KEY, (2, 3, 6, 6))
T = np.array([0, 1])
NET = fc.compose(fc.conv2d(4, 3), fc.batch_norm(), fc.relu(), fc.flatten(), fc.linear(3))
PARAMS = NET.init(KEY, X.shape)
OPT = fc.sgd(0.1)
STATE = OPT.init(PARAMS)
GRADIENT = fc.value_and_grad(NET, fc.cross_entropy_loss())
GRADS = GRADIENT(PARAMS, X, T)[1]
STATE_DICT = fc.to_state_dict(PARAMS)


class Mine:
    """A layer of a user's own."""

    def init(self, key, shape, dtype=None):
        return ()

    def apply(self, params, x, *, train=False, key=None):
        return x

    def vjp(self, params, x, g, *, train=False, key=None):
        return (), g

    def out_shape(self, shape):
        return shape


class Tensor:
    """Stands for PyTorch's tensor, which messages know by its module."""

    __module__ = "torch"


class ReLU:
    """Stands for a module of torch.nn."""

    __module__ = "torch.nn.modules.activation"


class CrossEntropyLoss:
    """Stands for a loss of torch.nn."""

    __module__ = "torch.nn.modules.loss"


def two_values():
    _loss, _grads = GRADIENT(PARAMS, X, T)


def four_values():
    _loss, _grads, _params, _y = GRADIENT(PARAMS, X, T)


BRANCHED = fc.graph({"a": (fc.relu(), "x"), "b": (fc.relu(), "a"), "sum": (fc.add(), "a", "b")})


def fit(**options):
    return fc.fit(
        NET, fc.cross_entropy_loss(), OPT, (X, T), **{"epochs": 1, "key": KEY, "progress": False, **options}
    )


def step_with(opt):
    return opt.step(fc.trees.map(np.copy, GRADS), PARAMS, opt.init(PARAMS))


def plain_step_with(opt):
    """Step in reverse where no running statistics tell gradients from parameters."""
    net = fc.compose(fc.flatten(), fc.linear(3))
    params = net.init(KEY, X.shape)
    _, grads, params = fc.value_and_grad(net, fc.cross_entropy_loss())(params, X, T)
    return opt.step(grads, params, opt.init(params))


# What was written, and the message; ~ stands for any part of it.
MISTAKES = [
    # Sizes and options of layers
    (lambda: fc.conv2d(3, 16, 3), "conv2d takes no input channels: they follow from the input; write conv2d(16, 3)"),
    (lambda: fc.conv2d(3, 16, 3, 1, 1), "conv2d takes no input channels: they follow from the input; write conv2d(16, 3, stride=1, padding=1)"),
    (lambda: fc.conv2d(3, 16, kernel_size=3, padding=1), "conv2d takes no input channels: they follow from the input; write conv2d(16, 3, padding=1)"),
    (lambda: fc.conv2d(in_channels=3, out_channels=16, kernel_size=3), "conv2d takes no input channels: they follow from the input; write conv2d(16, 3)"),
    (lambda: fc.conv1d(3, 16, 3), "conv1d takes no input channels: they follow from the input; write conv1d(16, 3)"),
    (lambda: fc.conv3d(3, 16, 3, 2), "conv3d takes no input channels: they follow from the input; write conv3d(16, 3, stride=2)"),
    (lambda: fc.conv_transpose2d(64, 32, 2, 2), "conv_transpose2d takes no input channels: they follow from the input; write conv_transpose2d(32, 2, stride=2)"),
    (lambda: fc.conv2d(16), "conv2d: missing a required argument: 'kernel_size'; write conv2d(out_channels, kernel_size, *, ~"),
    (lambda: fc.conv2d(filters=16, kernel_size=3, strides=2), "conv2d: missing a required argument: 'out_channels'; write conv2d(16, 3, stride=2)"),
    (lambda: fc.conv2d(16, (3, 3), (1, 1)), "conv2d: too many positional arguments: expected (out_channels, kernel_size), got 3; write conv2d(16, (3, 3), stride=(1, 1))"),
    (lambda: fc.conv2d(16, 3, paddding=1), "conv2d: unexpected keyword argument 'paddding'; write conv2d(16, 3, padding=1)"),
    (lambda: fc.conv2d(16, 3, activation="relu"), "conv2d: no argument 'activation': an activation is a layer of its own, as in compose(conv2d(16, 3), relu())"),
    (lambda: fc.conv2d(16, 3, input_shape=(28, 28, 1)), "conv2d: no argument 'input_shape': net.init(key, shape) takes it"),
    (lambda: fc.conv2d(16, 3, data_format="channels_last"), "conv2d: no argument 'data_format': arrays are (N, C, H, W)"),
    (lambda: fc.conv2d(16, 3, device="cuda"), "conv2d: no argument 'device': parameters are moved by fconv.to_device(params, device)"),
    (lambda: fc.conv2d(16, 3, bias=0), "conv2d: expected bias to be True or False, got 0"),
    (lambda: fc.conv2d(16, 3, padding="SAME"), 'conv2d: padding must be a number, "same" or "valid", got \'SAME\''),
    (lambda: fc.linear(192, 10), "linear takes no input features: they follow from the input; write linear(10)"),
    (lambda: fc.linear(192, 10, bias=False), "linear takes no input features: they follow from the input; write linear(10, bias=False)"),
    (lambda: fc.linear(10, False), "linear: too many positional arguments: expected (out_features), got 2; write linear(10, bias=False)"),
    (lambda: fc.linear(192, bias=10), "linear: expected bias to be True or False, got 10"),
    (lambda: fc.linear(units=10), "linear: missing a required argument: 'out_features'; write linear(10)"),
    (lambda: fc.bilinear(3, 4, 5), "bilinear takes no input features: they follow from the inputs; write bilinear(5)"),
    (lambda: fc.batch_norm(64), "batch_norm takes no number of channels: it follows from the input; write batch_norm()"),
    (lambda: fc.batch_norm(64, momentum=0.01), "batch_norm takes no number of channels: it follows from the input; write batch_norm(momentum=0.01)"),
    (lambda: fc.batch_norm(eps=64), "batch_norm: expected eps from 0 to 1, got 64"),
    (lambda: fc.batch_norm(momentum=1.5), "batch_norm: expected momentum from 0 to 1, got 1.5"),
    (lambda: fc.batch_norm(epsilon=1e-3), "batch_norm: unexpected keyword argument 'epsilon'; write batch_norm(eps=0.001)"),
    (lambda: fc.instance_norm(64), "instance_norm takes no number of channels: it follows from the input; write instance_norm()"),
    (lambda: fc.group_norm(8, 64), "group_norm takes no number of channels: it follows from the input; write group_norm(8)"),
    (lambda: fc.layer_norm(64, 1e-6), "layer_norm: too many positional arguments: expected (normalized_shape), got 2; write layer_norm(64, eps=1e-06)"),
    (lambda: fc.max_pool2d(2, 2), "max_pool2d: too many positional arguments: expected (kernel_size), got 2; write max_pool2d(2, stride=2)"),
    (lambda: fc.avg_pool2d(pool_size=2), "avg_pool2d: missing a required argument: 'kernel_size'; write avg_pool2d(2)"),
    (lambda: fc.relu(inplace=True), "relu: no argument 'inplace': nothing is computed in place"),
    (lambda: fc.relu(X), "relu: too many positional arguments: expected none, got 1; write relu()"),
    (lambda: fc.dropout(50), "dropout: expected a probability p from 0 to 1, got 50"),
    (lambda: fc.dropout(rate=0.5), "dropout: unexpected keyword argument 'rate'; write dropout(0.5)"),
    (lambda: fc.embedding(100, 8, 0), "embedding: too many positional arguments: expected (num_embeddings, embedding_dim), got 3; write embedding(100, 8, padding_idx=0)"),
    (lambda: fc.upsample(2), "upsample: too many positional arguments: expected none, got 1; write upsample(scale_factor=2)"),
    # Networks
    (lambda: fc.compose([fc.relu(), fc.relu()]), "compose[0]: expected a layer, got list; write compose(*layers)"),
    (lambda: fc.compose(fc.relu(), fc.relu), "compose[1]: expected a layer, got function relu; was it meant to be called?"),
    (lambda: fc.compose(Mine), "compose[0]: expected a layer, got the class Mine; write Mine()"),
    (lambda: fc.compose(fc.relu(), ReLU()), "compose[1]: expected a layer, got torch.nn.modules.activation.ReLU; fconv.from_torch(module) gives a network and its parameters"),
    (lambda: fc.compose(fc.relu(), None), "compose[1]: expected a layer, got NoneType"),
    (lambda: fc.compose(F.relu), "compose[0]: expected a layer, got function relu; was it meant to be called?"),
    # Calls of networks
    (lambda: NET(PARAMS, X), "compose: a layer is not called: write net.apply(params, x)"),
    (lambda: NET(X), "compose: a layer is not called: write net.apply(params, x)"),
    (lambda: NET.apply(PARAMS, X, True), "compose.apply: too many positional arguments: expected (params, x), got 3; write compose.apply(params, x, train=True)"),
    (lambda: NET.apply(PARAMS, X, training=True), "compose.apply: unexpected keyword argument 'training'; write compose.apply(params, x, train=True)"),
    (lambda: NET.apply(X), "compose.apply: missing a required argument: 'x'; write compose.apply(params, x, *, train, key)"),
    (lambda: NET.apply(X, PARAMS), "compose: expected a tuple of parameters for 5 layers, got numpy array of float32 with shape (2, 3, 6, 6); the parameters come before x"),
    (lambda: NET.apply(None, X), "compose: expected a tuple of parameters for 5 layers, got NoneType; write params = net.init(key, shape)"),
    (lambda: fc.relu().apply(X, ()), "relu: expected no parameters, (), got numpy array of float32 with shape (2, 3, 6, 6)~"),
    (lambda: NET.parameters(), "Layer has no attribute 'parameters': parameters are a value of their own: params = net.init(key, shape)"),
    (lambda: NET.train(), "Layer has no attribute 'train': net.apply(params, x, train=True, key=key) is training"),
    (lambda: NET.eval(), "Layer has no attribute 'eval': net.apply(params, x) is inference, and net.apply(params, x, train=True) training"),
    (lambda: NET.state_dict(), "Layer has no attribute 'state_dict': write fconv.to_state_dict(params)"),
    (lambda: NET.to("cuda"), "Layer has no attribute 'to': write params = fconv.to_device(params, device)"),
    (lambda: NET.predict(X), "Layer has no attribute 'predict': write net.apply(params, x)"),
    (lambda: fc.dropout().apply((), X, train=True), "dropout: a key is needed in training (train=True); pass key=fconv.random.key(seed)"),
    # Keys and shapes
    (lambda: NET.init(0, X.shape), "compose.init: expected a key made by ~, got int; write fconv.random.key(0)"),
    (lambda: NET.init(X.shape, KEY), "compose.init: expected a key made by ~, got tuple; the key comes before the shape"),
    (lambda: NET.init(X.shape), "compose.init: missing a required argument: 'shape'; write compose.init(key, shape, dtype)"),
    (lambda: NET.init(KEY, X), "compose[0] conv2d: expected the input shape, batch axis included, got numpy array of float32 with shape (2, 3, 6, 6); write x.shape"),
    (lambda: NET.init(KEY, (3, 224, 224)), "compose[0] conv2d: expected an input of 4 axes (N, C, H, W), got shape (3, 224, 224); the batch axis seems to be missing: (1, 3, 224, 224)"),
    (lambda: NET.out_shape((3, 224, 224)), "compose[0] conv2d: expected an input of 4 axes (N, C, H, W), got shape (3, 224, 224); the batch axis seems to be missing: (1, 3, 224, 224)"),
    (lambda: fc.summary(NET, (3, 224, 224)), "compose[0] conv2d: expected an input of 4 axes (N, C, H, W), got shape (3, 224, 224); the batch axis seems to be missing: (1, 3, 224, 224)"),
    (lambda: NET.apply(PARAMS, X[0]), "compose[0] conv2d: expected an input of 4 axes (N, C, H, W), got shape (3, 6, 6); the batch axis seems to be missing: (1, 3, 6, 6)"),
    (lambda: NET.init(KEY, (60000, 28, 28)), "compose[0] conv2d: expected an input of 4 axes (N, C, H, W), got shape (60000, 28, 28); the batch or channel axis seems to be missing: (1, 60000, 28, 28) or (60000, 1, 28, 28)"),
    (lambda: fc.max_pool2d(2).out_shape((3, 8, 8)), "max_pool2d: expected an input of 4 axes (N, C, H, W), got shape (3, 8, 8); the batch axis seems to be missing: (1, 3, 8, 8)"),
    (lambda: fc.models.resnet18().out_shape((3, 224, 224)), "compose[conv1] conv2d: expected an input of 4 axes (N, C, H, W), got shape (3, 224, 224); the batch axis seems to be missing: (1, 3, 224, 224)"),
    (lambda: NET.apply(PARAMS, X.transpose(0, 2, 3, 1)), "compose[0] conv2d: expected 3 input channels, got 6 (input shape (2, 6, 6, 3)); it looks channels-last: x.transpose(0, 3, 1, 2) is (N, C, ...)"),
    # Arrays
    (lambda: NET.apply(PARAMS, Tensor()), "compose[0] conv2d: x must be a NumPy or CuPy array, got torch.Tensor; write tensor.numpy()"),
    (lambda: NET.apply(PARAMS, X.tolist()), "compose[0] conv2d: x must be a NumPy or CuPy array, got list; write numpy.asarray(..., dtype=...)"),
    (lambda: NET.apply(PARAMS, X.astype(np.uint8)), "compose[0] conv2d: x must be a real floating-point array, got uint8 (shape (2, 3, 6, 6)); convert it first, for instance x.astype('float32')"),
    (lambda: NET.apply(PARAMS, X.astype(np.float64)), "compose[0] conv2d: x is float64 but weight is float32; give them one dtype (x.astype(weight.dtype))"),
    # Losses
    (lambda: fc.mse_loss("sum"), "mse_loss: too many positional arguments: expected none, got 1; write mse_loss(reduction='sum')"),
    (lambda: fc.mse_loss(size_average=False), 'mse_loss: no argument \'size_average\': write reduction="mean" or reduction="sum"'),
    (lambda: fc.cross_entropy_loss(from_logits=True), "cross_entropy_loss: no argument 'from_logits': cross_entropy_loss takes logits, nll_loss takes log-probabilities"),
    (lambda: fc.cross_entropy_loss()(X, T), "cross_entropy: a loss is not called: write loss.apply(y, target)"),
    (lambda: fc.cross_entropy_loss().backward(), "Loss has no attribute 'backward': write loss, grads, params = fconv.value_and_grad(net, loss)(params, x, target)"),
    (lambda: fc.value_and_grad(NET, F.cross_entropy), "value_and_grad: expected a loss with apply and vjp, got the function cross_entropy; write fconv.cross_entropy_loss()"),
    (lambda: fc.value_and_grad(NET, F.binary_cross_entropy_with_logits), "value_and_grad: expected a loss with apply and vjp, got the function binary_cross_entropy_with_logits; write fconv.bce_with_logits_loss()"),
    (lambda: fc.value_and_grad(NET, fc.mse_loss), "value_and_grad: expected a loss with apply and vjp, got the function mse_loss; write fconv.mse_loss()"),
    (lambda: fc.value_and_grad(NET, CrossEntropyLoss()), "value_and_grad: expected a loss with apply and vjp, got a CrossEntropyLoss; write fconv.cross_entropy_loss()"),
    (lambda: fc.value_and_grad(fc.mse_loss(), NET), "value_and_grad: expected a layer, got fconv.losses.base.Loss; the network comes first, then the loss"),
    (lambda: GRADIENT(PARAMS, X, np.eye(3, dtype=int)[T]), "cross_entropy: expected labels of shape (2,) for an input of shape (2, 3), got (2, 3); write target.argmax(1), or target.astype(x.dtype) for probabilities; the output of shape (2, 3) comes from compose[4] linear"),
    (lambda: GRADIENT(PARAMS, X, np.eye(3)[T]), "cross_entropy: x is float32 but target is float64; give them one dtype (x.astype(target.dtype)); the output of shape (2, 3) comes from compose[4] linear"),
    (lambda: GRADIENT(PARAMS, X, T[:, None]), "cross_entropy: expected labels of shape (2,) for an input of shape (2, 3), got (2, 1); write target.reshape((2,)); the output of shape (2, 3) comes from compose[4] linear"),
    (lambda: GRADIENT(PARAMS, X, T.astype(np.float32)), "cross_entropy: expected integer class labels, got numpy array of float32 with shape (2,); ~"),
    (lambda: GRADIENT(PARAMS, X, [0, 1]), "cross_entropy: target must be a NumPy or CuPy array, got list; write numpy.asarray(..., dtype=...); ~"),
    (lambda: GRADIENT(PARAMS, X), "value_and_grad(net, loss): missing a required argument: 'target'; write value_and_grad(net, loss)(params, x, target, *, ~"),
    (lambda: GRADIENT(X, PARAMS, T), "compose: expected a tuple of parameters for 5 layers, got numpy array of float32 with shape (2, 3, 6, 6); the parameters come before x"),
    (two_values, "value_and_grad: expected 3 names for (loss, grads, params), got 2; write loss, grads, params = f(...): the third value is the parameters with refreshed running statistics"),
    (four_values, "value_and_grad: expected 3 names for (loss, grads, params), got 4; write loss, grads, params = f(...): ~"),
    # Optimizers and schedules
    (lambda: fc.sgd(PARAMS, 0.1), "sgd takes no parameters: its init(params) and step(params, grads, state) take them; write sgd(0.1)"),
    (lambda: fc.adam(PARAMS, lr=1e-3), "adam takes no parameters: its init(params) and step(params, grads, state) take them; write adam(0.001)"),
    (lambda: fc.adam(PARAMS), "adam: expected lr to be a number or a schedule, got a tuple; write opt = adam(lr=0.01) and opt.init(params)"),
    (lambda: fc.sgd(0.1, 0.9), "sgd: too many positional arguments: expected (lr), got 2; write sgd(0.1, momentum=0.9)"),
    (lambda: fc.adam(learning_rate=1e-3), "adam: unexpected keyword argument 'learning_rate'; write adam(0.001)"),
    (lambda: fc.sgd(0.1, momentum=150), "sgd: expected momentum from 0 to 1, got 150"),
    (lambda: step_with(fc.sgd(0.1)), "sgd.step: the first argument holds None, as gradients do; write opt.step(params, grads, state)"),
    (lambda: step_with(fc.clip_by_global_norm(fc.adam(), 1.0)), "clip_by_global_norm.step: the first argument holds None, as gradients do; write opt.step(params, grads, state)"),
    *[
        (lambda opt=opt: plain_step_with(opt), f"{name}.step: the first argument is the gradient of the second; write opt.step(params, grads, state)")
        for name, opt in {
            "sgd": fc.sgd(0.1, momentum=0.9), "adam": fc.adam(), "rmsprop": fc.ema(fc.rmsprop(), 0.9), "masked": fc.masked(fc.sgd(0.1), "1.*"),
            "by_name": fc.by_name({"*": fc.sgd(0.1)}), "mixed_precision": fc.mixed_precision(fc.sgd(0.1)), "clip_by_global_norm": fc.clip_by_global_norm(fc.adam(), 1.0),
        }.items()
    ],
    (lambda: OPT.step(PARAMS, GRADS), "sgd.step: missing a required argument: 'state'; write sgd.step(params, grads, state)"),
    (lambda: OPT.step(), "sgd.step: missing a required argument: 'params'; write sgd.step(params, grads, state)"),
    (lambda: OPT.zero_grad(), "Optimizer has no attribute 'zero_grad': gradients are values, and nothing adds up"),
    (lambda: OPT(PARAMS, GRADS), "sgd: an optimizer is not called: write params, state = opt.step(params, grads, state)"),
    (lambda: fc.train_step(NET, fc.mse_loss(), fc.sgd), "train_step: expected an optimizer, got function sgd; was it meant to be called?"),
    (lambda: fc.train_state(NET, OPT, X.shape, KEY), "train_state: expected a key made by ~, got tuple; the key comes before the shape"),
    (lambda: schedules.step(0.1, 30, 0.5), "step: too many positional arguments: expected (lr, step_size), got 3; write step(0.1, 30, gamma=0.5)"),
    (lambda: schedules.cosine(0.1, 10)(), "cosine(...): missing a required argument: 'count'; write cosine(...)(count)"),
    (lambda: fc.train_step(NET, OPT, fc.mse_loss()), "train_step: expected a loss with apply and vjp, got an Optimizer; the loss comes before the optimizer"),
    (lambda: fc.train_step(NET, fc.cross_entropy_loss(), OPT)(PARAMS, X, T), "train_step(net, loss, opt): expected a TrainState, got tuple; write state = train_state(net, opt, key, shape)"),
    (lambda: fc.train_state(OPT, NET, KEY, X.shape), "train_state: expected an optimizer, got Layer; the network and the loss come before the optimizer"),
    # Patterns and names
    (lambda: fc.value_and_grad(NET, fc.mse_loss(), trainable="5.*")(PARAMS, X, T), "value_and_grad: trainable: the pattern '5.*' matches no parameter; the nearest names are ~"),
    (lambda: fc.value_and_grad(NET, fc.mse_loss(), trainable=[]), 'value_and_grad: trainable: expected a pattern over dotted names such as "head.*", or several, got []'),
    (lambda: fc.value_and_grad(NET, fc.mse_loss(), outputs="y"), "value_and_grad: expected outputs to be True or False, got 'y'"),
    (lambda: fc.value_and_grad(NET, fc.mse_loss(), wrt="input"), "value_and_grad: expected wrt to be \"params\", \"x\" or (\"params\", \"x\"), got 'input'"),
    (lambda: fc.by_name({"4.*": OPT, "head": OPT}).init(PARAMS), "by_name: the pattern 'head' matches no parameter; the nearest names are ~"),
    (lambda: fc.by_name({"*": OPT, "4.*": OPT}).init(PARAMS), "by_name: no parameter is left for the pattern '4.*' after '*'; the first match counts: put the narrower pattern first"),
    (lambda: fc.frozen("4.*", OPT).init(PARAMS), 'frozen: expected a pattern over dotted names such as "head.*", or several, got sgd(lr=0.1)'),
    (lambda: fc.with_outputs(NET, []), 'with_outputs: expected names of layers, as ["features.8"], got []'),
    (lambda: fc.with_outputs(NET, ["7"]), "with_outputs: there is no layer '7'; the nearest names are ~"),
    (lambda: BRANCHED[1:3], "graph: the slice [1:3] leaves an input of 'b' open: 'a' lies outside it; fc.with_outputs(net, names) gives what a network computes on the way"),
    (lambda: NET[7], "compose: expected a position below 5, got 7"),
    (lambda: NET["7"], "compose: there is no layer '7'; the nearest names are ~"),
    # Losses of several outputs
    (lambda: fc.losses_by_name({"clas": (1.0, fc.mse_loss())}).apply({"class": X}, {}), "losses_by_name: the network has no output 'clas', which has a loss; the nearest names are 'class'"),
    (lambda: fc.losses_by_name({"class": (1.0, fc.mse_loss())}).apply({"class": X}, {}), "losses_by_name[class]: the target has no such entry: mse_loss: target must be a NumPy or CuPy array, got NoneType"),
    (lambda: fc.losses_by_name({"class": (1.0, fc.mse_loss())}).apply({"class": X}, {"class": X[:1]}), "losses_by_name[class]: mse_loss: expected a target of the input's shape (2, 3, 6, 6), got (1, 3, 6, 6)~"),
    (lambda: fc.losses_by_name({"class": (1.0, fc.mse_loss())}).apply(X, X), "losses_by_name: expected a dict of the outputs class, got numpy array of float32 with shape (2, 3, 6, 6)"),
    (lambda: fc.losses_by_name({"class": fc.mse_loss()}), "losses_by_name: expected (weight, loss) for the output 'class', got fconv.losses.base.Loss"),
    (lambda: fc.losses_by_name({"class": (float("nan"), fc.mse_loss())}), "losses_by_name: expected the weight of 'class' of 0 or more, got nan"),
    (lambda: -0.5 * fc.mse_loss(), "a loss: expected its factor of 0 or more, got -0.5"),
    # Training loops and data
    (lambda: fit(stop_early=2), "fit: stop_early needs validation data: give valid=(x, target), or leave stop_early out"),
    (lambda: fit(metrics=fc.metrics.accuracy), "fit: expected metrics to be functions in a list or dict, got accuracy; write metrics=[fconv.metrics.accuracy]"),
    (lambda: fit(key=0), "fit: expected a key made by ~, got int; write fconv.random.key(0)"),
    (lambda: fit(checkpoint=3), "Checkpointer: expected a path, got int"),
    (lambda: fc.fit(NET, OPT, fc.mse_loss(), (X, T), epochs=1, key=KEY), "fit: expected a loss with apply and vjp, got an Optimizer; the loss comes before the optimizer"),
    (lambda: fc.fit(NET, fc.mse_loss(), OPT, X, T, epochs=1, key=KEY), "fit: expected the training data to be a pair (x, target), got numpy array of float32 with shape (2, 3, 6, 6)"),
    (lambda: fc.data.train_test_split(X, T), "train_test_split: expected a key made by ~, got numpy array of float32 with shape (2, 3, 6, 6)"),
    (lambda: fc.random.normal(0, (2,)), "random.normal: expected a key made by ~, got int; write fconv.random.key(0)"),
    # State dicts and files
    (lambda: fc.from_state_dict(PARAMS, "net.pth"), "from_state_dict: expected a state dict, got str; write from_state_dict(params, fconv.load(path))"),
    (lambda: fc.save("net.npz", NET), "save: the tree cannot be stored: fconv.layer.Layer; write save(path, params)"),
    (lambda: fc.from_state_dict(STATE_DICT, PARAMS), "from_state_dict: the first argument is a state dict, and the second is parameters; write from_state_dict(params, state_dict)"),
    (lambda: fc.to_state_dict(NET), "to_state_dict: the tree is no array but fconv.layer.Layer; write params = net.init(key, shape)"),
    (lambda: fc.to_onnx(PARAMS, NET, X.shape, "net.onnx"), "to_onnx: expected a layer, got tuple of 5 entries, such as parameters; the network stands here"),
    (lambda: fc.save(PARAMS, "net.npz"), "save: expected a path, got tuple; write save(path, tree)"),
    (lambda: fc.load(PARAMS), "load: expected a path, got tuple"),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_says_what_to_write(mistake, message):
    with pytest.raises((TypeError, ValueError, AttributeError, IndexError)) as caught:
        mistake()
    said = str(caught.value)
    pattern = ".*".join(map(re.escape, message.split("~")))
    assert re.fullmatch(pattern, said, re.DOTALL), said
    for inner in ("<locals>", "<lambda>", "object at 0x", "array(["):
        assert inner not in said
    assert len(said) < 400


def test_there_are_ninety():
    assert len(MISTAKES) >= 90


def test_pictures_with_channels_last_are_doubted():
    for shape in ((8, 224, 320, 3), (8, 28, 28, 1)):
        with pytest.warns(
            UserWarning, match=r"^conv2d: .* looks channels-last, .* write x.transpose\(0, 3, 1, 2\)"
        ):
            fc.compose(fc.conv2d(8, 3, padding=1)).init(KEY, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in ((8, 64, 3, 3), (8, 3, 224, 3), (8, 3, 32, 32)):
            fc.conv2d(8, 3, padding=1).init(KEY, shape)


def test_a_forgotten_flatten_is_named_at_init_and_by_the_loss():
    net = fc.compose(fc.conv2d(8, 3), fc.relu(), fc.global_avg_pool(), fc.linear(10))
    place = re.escape("compose[3] linear: takes the last axis of pictures of shape (2, 8, 1, 1)")
    with pytest.warns(UserWarning, match=rf"^{place} for its input features; write flatten\(\) before it$"):
        params = net.init(KEY, X.shape)
    text = "the output of shape (2, 8, 1, 10) comes from compose[3] linear; write flatten() before compose[3]"
    with pytest.raises(ValueError, match=re.escape(text)):
        fc.value_and_grad(net, fc.cross_entropy_loss())(params, X, T)
    channels_last = fc.compose(fc.conv2d(8, 3), fc.layers.permute(0, 2, 3, 1), fc.linear(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        channels_last.init(KEY, X.shape)


def test_a_softmax_before_cross_entropy_is_doubted():
    body = fc.compose(fc.flatten(), fc.linear(3))
    with pytest.warns(
        UserWarning, match="the last layer of compose is softmax, and cross_entropy takes logits; leave"
    ):
        fc.value_and_grad(fc.compose(body, fc.compose(fc.softmax(1))), fc.cross_entropy_loss())
    with pytest.warns(
        UserWarning, match=r"is sigmoid, and .*with_logits takes logits; .* or write bce_loss\(\)"
    ):
        fc.value_and_grad(fc.compose(body, fc.sigmoid()), fc.bce_with_logits_loss())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fc.value_and_grad(fc.compose(body, fc.softmax(1)), fc.mse_loss())
        fc.value_and_grad(fc.compose(body, fc.log_softmax(1)), fc.nll_loss())
        fc.value_and_grad(fc.compose(fc.softmax(1), body), fc.cross_entropy_loss())
        fc.value_and_grad(fc.compose(), fc.cross_entropy_loss())


def test_lost_running_statistics_are_told():
    params = PARAMS
    for _ in range(2):
        _, grads, _ = GRADIENT(params, X, T)
        params, _ = OPT.step(params, grads, STATE)
    with pytest.warns(
        UserWarning,
        match=r"batch_norm: .* running statistics .* loss, grads, params = f\(params, x, target\)",
    ):
        NET.apply(params, X)
    _, grads, kept = GRADIENT(PARAMS, X, T)
    kept, _ = OPT.step(kept, grads, STATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NET.apply(PARAMS, X)
        NET.apply(kept, X)
        NET.apply(params, X, train=True)


def test_values_unpack_as_a_tuple_does():
    values = GRADIENT(PARAMS, X, T)
    loss, *rest = values
    assert len(values) == 3
    assert len(rest) == 2
    assert [each is other for each, other in zip(tuple(values), values, strict=True)] == [True] * 3
    for a, b, c in [values]:
        assert a is loss
        assert (b, c) == (rest[0], rest[1]) or (b is rest[0] and c is rest[1])


def test_only_a_gradient_and_its_own_parameters_are_told_to_change_places():
    f = fc.value_and_grad(fc.linear(1), fc.mse_loss())
    params = fc.linear(1).init(KEY, (2, 3))
    x, target = X[:, :, 0, 0], X[:, :1, 0, 0]
    _, first, _ = f(params, x, target)
    _, second, _ = f(params, x, target)
    OPT.step(first, second, OPT.init(first))  # gradients as parameters of their own
    OPT.step(params, params, OPT.init(params))
    OPT.step(fc.trees.map(np.copy, first), params, OPT.init(params))


def test_what_is_like_a_layer_may_hold_anything_else():
    part = Mine()
    part.extra = SimpleNamespace()
    assert fc.compose(part).apply(((),), X) is X
