"""Values that constructors make: equal when made alike, hashed, printed, and pickled for other processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

import fconv as fc
from fconv import initializers, models, schedules
from fconv.models import blocks
from fconv.testing.purity import same_bits
from tests import SLOW
from tests.test_losses import LOSSES

KEY = fc.random.key(0)


class Doubled:
    """A layer of a user's own."""

    def __eq__(self, other):
        return type(self) is type(other)

    __hash__ = None

    def init(self, key, shape, dtype=np.float32):
        return ()

    def apply(self, params, x, *, train=False, key=None):
        return 2 * x

    def vjp(self, params, x, g, *, train=False, key=None):
        return (), 2 * g

    def out_shape(self, shape):
        return shape


def halving(count):
    return 0.5**count


# Each call is made twice, and differs from every other one. For layers and networks: a shape of the input.
LAYERS = {
    "fc.relu()": (2, 3), "fc.relu6()": (2, 3), "fc.leaky_relu()": (2, 3), "fc.leaky_relu(0.2)": (2, 3),
    "fc.prelu()": (2, 3), "fc.prelu(3, init=0.1)": (2, 3), "fc.elu(0.5)": (2, 3), "fc.selu()": (2, 3),
    "fc.celu()": (2, 3), "fc.gelu()": (2, 3), "fc.gelu('tanh')": (2, 3), "fc.silu()": (2, 3), "fc.mish()": (2, 3),
    "fc.softplus()": (2, 3), "fc.softsign()": (2, 3), "fc.tanh()": (2, 3), "fc.sigmoid()": (2, 3),
    "fc.log_sigmoid()": (2, 3), "fc.hardtanh()": (2, 3), "fc.hardtanh(-2, 2)": (2, 3), "fc.hardsigmoid()": (2, 3),
    "fc.hardswish()": (2, 3), "fc.threshold(0.1, 2.0)": (2, 3), "fc.tanhshrink()": (2, 3), "fc.softshrink()": (2, 3),
    "fc.hardshrink()": (2, 3), "fc.softmax()": (2, 3), "fc.softmax(0)": (2, 3), "fc.softmin()": (2, 3),
    "fc.log_softmax()": (2, 3), "fc.glu(1)": (2, 4), "fc.layers.scale_shift(2.0, 1.0)": (2, 3),
    "fc.layers.power(2.0)": (2, 3), "fc.layers.exp()": (2, 3), "fc.layers.log()": (2, 3), "fc.layers.sqrt()": (2, 3),
    "fc.layers.sin()": (2, 3), "fc.layers.cos()": (2, 3), "fc.layers.reciprocal()": (2, 3), "fc.layers.abs()": (2, 3),
    "fc.layers.erf()": (2, 3), "fc.layers.clamp(min=0.0)": (2, 3), "fc.linear(3)": (2, 4),
    "fc.linear(3, bias=False)": (2, 4), "fc.linear(3, weight_init=initializers.normal(std=0.1))": (2, 4),
    "fc.linear(3, weight_init=initializers.normal(std=0.2))": (2, 4), "fc.conv1d(2, 3)": (2, 3, 5),
    "fc.conv2d(2, 3)": (2, 3, 5, 5), "fc.conv2d(2, 3, padding=1)": (2, 3, 5, 5),
    "fc.conv2d(2, (3, 1))": (2, 3, 5, 5), "fc.conv2d(2, 3, padding=1, padding_mode='reflect')": (2, 3, 5, 5),
    "fc.conv2d(2, 3, algorithm='direct')": (2, 3, 5, 5), "fc.conv3d(2, 2)": (1, 2, 3, 3, 3),
    "fc.conv_transpose1d(2, 3)": (2, 3, 5), "fc.conv_transpose2d(2, 3, stride=2)": (2, 3, 5, 5),
    "fc.conv_transpose3d(2, 2)": (1, 2, 3, 3, 3), "fc.max_pool1d(2)": (2, 3, 6), "fc.max_pool2d(2)": (2, 3, 6, 6),
    "fc.max_pool2d(3, stride=2)": (2, 3, 6, 6), "fc.max_pool3d(2)": (1, 2, 4, 4, 4), "fc.avg_pool1d(2)": (2, 3, 6),
    "fc.avg_pool2d(2)": (2, 3, 6, 6), "fc.avg_pool3d(2)": (1, 2, 4, 4, 4), "fc.lp_pool1d(2, 2)": (2, 3, 6),
    "fc.lp_pool2d(2, 2)": (2, 3, 6, 6), "fc.lp_pool3d(2, 2)": (1, 2, 4, 4, 4),
    "fc.adaptive_avg_pool1d(2)": (2, 3, 5), "fc.adaptive_avg_pool2d(2)": (2, 3, 5, 5),
    "fc.adaptive_avg_pool3d(2)": (1, 2, 3, 3, 3), "fc.adaptive_max_pool1d(2)": (2, 3, 5),
    "fc.adaptive_max_pool2d((2, 1))": (2, 3, 5, 5), "fc.adaptive_max_pool3d(2)": (1, 2, 3, 3, 3),
    "fc.layers.global_avg_pool()": (2, 3, 5), "fc.layers.global_max_pool()": (2, 3, 5),
    "fc.upsample(scale_factor=2)": (2, 3, 4, 4), "fc.upsample(size=7, mode='bilinear')": (2, 3, 4, 4),
    "fc.pixel_shuffle(2)": (2, 8, 3, 3), "fc.pixel_unshuffle(2)": (2, 3, 4, 4), "fc.channel_shuffle(2)": (2, 4, 3, 3),
    "fc.pad([1, 2])": (2, 3, 4), "fc.pad([1, 2], value=1.0)": (2, 3, 4), "fc.unfold(2)": (2, 3, 4, 4),
    "fc.fold(4, 2)": (2, 12, 9), "fc.batch_norm()": (4, 3), "fc.batch_norm(eps=1e-3)": (4, 3),
    "fc.instance_norm()": (2, 3, 4), "fc.instance_norm(ndim=1)": (2, 3, 4), "fc.layer_norm(4)": (2, 3, 4),
    "fc.layer_norm((3, 4))": (2, 3, 4), "fc.rms_norm(4)": (2, 3, 4), "fc.group_norm(2)": (2, 4, 3),
    "fc.local_response_norm(3)": (2, 4, 3, 3), "fc.dropout(0.3)": (2, 3), "fc.dropout1d(0.3)": (2, 3, 4),
    "fc.dropout2d(0.3)": (2, 3, 4, 4), "fc.dropout3d(0.3)": (1, 2, 3, 3, 3), "fc.alpha_dropout(0.3)": (2, 3),
    "fc.embedding(5, 2)": (2, 3), "fc.embedding(5, 2, padding_idx=1)": (2, 3), "fc.bilinear(2)": ((2, 3), (2, 4)),
    "fc.identity()": (2, 3), "fc.flatten()": (2, 3, 4), "fc.reshape(2, -1)": (2, 3, 4),
    "fc.layers.view(2, 12)": (2, 3, 4), "fc.layers.unflatten(1, (2, -1))": (2, 4),
    "fc.layers.narrow(1, 0, 2)": (2, 3), "fc.layers.slice_along(1, 0, 2)": (2, 3), "fc.layers.chunk(2, 0, dim=1)": (2, 4),
    "fc.layers.split(2, 0, dim=1)": (2, 4), "fc.layers.permute(0, 2, 1)": (2, 3, 4),
    "fc.layers.transpose(1, 2)": (2, 3, 4), "fc.layers.squeeze(1)": (2, 1, 4), "fc.layers.unsqueeze(1)": (2, 3),
    "fc.layers.mean(1)": (2, 3), "fc.layers.sum(1)": (2, 3), "fc.layers.amax(1)": (2, 3),
    "fc.add()": ((2, 3), (2, 3)), "fc.add(stretch=False)": ((2, 3), (2, 3)), "fc.subtract()": ((2, 3), (2, 3)),
    "fc.multiply()": ((2, 3), (1, 3)), "fc.divide()": ((2, 3), (2, 3)), "fc.maximum()": ((2, 3), (2, 3)), "fc.expand_like(None, -1)": ((1, 3), (4, 2)),
    "fc.minimum()": ((2, 3), (2, 3)), "fc.matmul()": ((2, 3), (3, 4)), "fc.concat()": ((2, 3), (2, 4)),
    "fc.concat(0)": ((2, 3), (1, 3)), "fc.concat_padded()": ((2, 3, 4), (2, 3, 5)), "fc.stack()": ((2, 3), (2, 3)),
    "fc.parameter(2, 3)": (), "fc.parameter(2, 3, trained=False)": (),
    "fc.call('conv2d', padding=1)": ((1, 2, 4, 4), (3, 2, 3, 3)),
    "fc.call('l1_loss', ['x', 'target'])": ((2, 3), (2, 3)),
    "fc.squeeze_excitation(2)": (2, 4, 3, 3), "fc.squeeze_excitation(squeeze_channels=2)": (2, 4, 3, 3),
    "fc.squeeze_excitation(reduction=2, activation=fc.silu())": (2, 4, 3, 3),
    "fc.depthwise_separable_conv2d(2, 3)": (2, 3, 5, 5),
    "fc.depthwise_separable_conv2d(2, 3, between=fc.relu())": (2, 3, 5, 5),
    "fc.compose()": (2, 3), "fc.compose(fc.linear(3), fc.relu())": (2, 3), "fc.compose(fc.relu(), fc.linear(3))": (2, 3),
    "fc.compose(a=fc.linear(3), b=fc.relu())": (2, 3), "fc.compose(b=fc.linear(3), a=fc.relu())": (2, 3),
    "fc.compose(fc.conv2d(2, 3), fc.batch_norm(), fc.dropout(0.1))": (2, 3, 5, 5), "fc.compose(Doubled())": (2, 3),
    "fc.compose(Doubled(), Doubled())": (2, 3), "fc.residual(fc.linear(3))": (2, 3),
    "fc.residual(fc.linear(4), fc.linear(4, bias=False))": (2, 3), "fc.parallel(fc.linear(4), fc.relu())": (2, 3),
    "fc.parallel(fc.linear(3), fc.relu(), merge='sum')": (2, 3),
    "fc.parallel(fc.linear(3), fc.relu(), merge=fc.add())": (2, 3),
    "fc.parallel(a=fc.linear(3), b=fc.relu())": (2, 3), "fc.repeat(fc.linear(3), 2)": (2, 3),
    "fc.repeat(fc.linear(3), 2, shared=True)": (2, 3), "fc.repeat(fc.linear(3), 3)": (2, 3),
    "fc.graph({'a': (fc.linear(3), 'x'), 'b': ('a', 'a'), 'c': (fc.add(), 'a', 'b')})": (2, 3),
    "fc.graph({'a': (fc.linear(3), 'x'), 'b': ('a', 'a'), 'c': (fc.add(), 'b', 'a')})": (2, 3),
    "fc.graph({'a': [fc.relu(), 'p'], 'b': [fc.add(), 'q', 'p']}, inputs=['p', 'q'], outputs=['a', 'b'])":
        {"p": (2, 3), "q": (2, 3)},
    "fc.with_outputs(fc.compose(fc.linear(3), fc.relu()), ['0', '1'])": (2, 3),
    "fc.with_outputs(fc.compose(fc.linear(3), fc.relu()), '0')": (2, 3),
    "fc.fused(fc.conv2d(2, 3), fc.relu())": (2, 3, 5, 5), "fc.fused(fc.linear(3), fc.add(), fc.silu())": ((2, 3), (2, 3)),
    **dict.fromkeys((f"fc.{name}()" for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cosh", "floor", "round", "sign", "sinh", "tan",
        "amin", "prod", "logsumexp", "std", "var", "vector_norm")), (2, 3)),
    "fc.power_of(2.0)": (2, 3), "fc.max(1)": (2, 3), "fc.min(1)": (2, 3), "fc.cumsum(1)": (2, 3),
    "fc.cumprod(1)": (2, 3), "fc.var(1, correction=0)": (2, 3), "fc.vector_norm(1, 1)": (2, 3),
    "fc.expand(4, 2, 3)": (2, 3), "fc.tile(2, 1)": (2, 3), "fc.flip(1)": (2, 3), "fc.roll(1, 1)": (2, 3),
    "fc.select(1, 0)": (2, 3), "fc.index_select(1, [0, 2])": (2, 3), "fc.index_select(1, [2, 0])": (2, 3),
    "fc.gather(1, [[0, 1]])": (2, 3), "fc.index((None, [0, 1]))": (2, 3), "fc.movedim(1, 0)": (2, 3),
    "fc.masked_fill([True, False, True], 0.0)": (2, 3), "fc.masked_fill([True, True, False], 0.0)": (2, 3),
    "fc.stochastic_depth(0.3)": (2, 3), "fc.stochastic_depth(0.3, 'batch')": (2, 3),
    "fc.where([True, False, True])": ((2, 3), (2, 3)), "fc.pow()": ((2, 3), (2, 3)),
    "fc.compare('less')": ((2, 3), (2, 3)), "fc.compare('equal')": ((2, 3), (2, 3)),
    "fc.choose()": ((2, 3), (2, 3), (3,)), "fc.constant([1.0, 2.0])": (2, 3), "fc.constant(np.arange(3))": (2, 3),
    "fc.einsum('ij,jk->ik')": ((2, 3), (3, 4)), "fc.einsum('ij->ji')": (2, 3),
    "fc.scaled_dot_product_attention()": ((2, 3, 4), (2, 5, 4), (2, 5, 4)),
    "fc.scaled_dot_product_attention(is_causal=True)": ((2, 3, 4), (2, 5, 4), (2, 5, 4)),
    "models.lenet(num_classes=3)": (1, 1, 16, 16), "models.resnet20()": (1, 3, 8, 8), "models.resnet32()": None,
    "models.resnet56()": None, "models.resnet18()": None, "models.resnet34()": None,
    "models.resnet18(5)": None, "models.resnet50()": None, "models.resnet50(zero_init_residual=True)": (2, 1, 32, 32),
    "models.vgg11()": None, "models.vgg16()": None, "models.vgg11_bn()": None, "models.vgg16_bn()": None,
    "models.mobilenet_v2()": None, "models.unet(width=4)": (2, 1, 16, 16), "models.dncnn(layers=3)": (1, 1, 6, 6),
    "models.espcn()": (1, 3, 5, 5), "models.fsrcnn()": (1, 1, 5, 5), "models.srresnet(blocks=1, width=4)": (1, 3, 4, 4),
    "models.noise2noise()": (1, 3, 4, 4), "models.noise2noise_strided()": (1, 3, 4, 4),
    "models.noise2noise_shallow()": (1, 3, 8, 8), "models.noise2noise_unet()": None,
    "models.srgan(blocks=1, width=4)": (1, 3, 5, 4), "models.srvgg(convs=1, width=4)": (1, 3, 5, 4),
}  # fmt: skip
OTHERS = [
    *(f"fc.{name}_loss()" for name in (
        "mse", "l1", "smooth_l1", "huber", "poisson_nll", "gaussian_nll", "bce", "bce_with_logits", "nll",
        "cross_entropy", "kl_div", "hinge_embedding", "margin_ranking", "soft_margin", "triplet_margin",
        "cosine_embedding", "ssim", "total_variation")),
    "fc.l1_penalty()", "fc.l2_penalty()", "fc.losses_by_name({'a': (1, fc.mse_loss())})",
    "fc.losses_by_name({'a': (2, fc.mse_loss())})", "fc.mse_loss() + 0.1 * fc.l1_loss()", "2 * fc.mse_loss()",
    "fc.mse_loss(reduction='sum')", "fc.bce_loss(weight=np.array([1.0, 2.0]))", "fc.bce_loss(weight=np.array([1.0, 3.0]))",
    "fc.bce_loss(weight=np.array([1.0, 2.0], np.float32))", "fc.bce_loss(weight=np.array([1.0, np.nan]))",
    *(f"fc.{name}()" for name in ("sgd", "lion", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta")),
    "fc.sgd(0.1)", "fc.sgd(0.1, momentum=0.9)", "fc.sgd(schedules.step(0.1, 3))", "fc.sgd(halving)",
    "fc.clip_by_global_norm(fc.sgd(), 1.0)", "fc.clip_by_global_norm(fc.adam(), 1.0)", "fc.clip_by_value(fc.sgd(), 1.0)",
    "fc.private_sgd(0.1, max_norm=1.0, noise_multiplier=1.0, key=KEY)",
    "fc.private_sgd(0.1, max_norm=1.0, noise_multiplier=1.0, key=KEY + np.uint64(1))",
    "fc.accumulate_gradients(fc.sgd(), 4)", "fc.ema(fc.sgd())", "fc.ema(fc.sgd(), decay=0.9)", "fc.mixed_precision(fc.sgd())",
    "fc.by_name({'*': fc.sgd()})", "fc.by_name({'*': fc.adam()})", "fc.masked(fc.sgd(), '*')", "fc.frozen(fc.sgd(), '*')",
    "fc.ema(fc.clip_by_value(fc.sgd(schedules.cosine(0.1, 5)), 2.0))",
    "schedules.constant(0.1)", "schedules.step(0.1, 3)", "schedules.multistep(0.1, [2, 4])",
    "schedules.exponential(0.1, 0.9)", "schedules.cosine(0.1, 10)", "schedules.cosine(0.1, 11)",
    "schedules.polynomial(0.1, 10)", "schedules.linear(0.1)", "schedules.warmup(0.1, 3)", "schedules.warmup(halving, 3)", "schedules.one_cycle(0.1, 10)",
    "schedules.join([schedules.linear(0.1), schedules.cosine(0.1, 5), halving], [3, 8])",
    "initializers.constant(0.1)", "initializers.zeros()", "initializers.ones()", "initializers.uniform()",
    "initializers.normal()", "initializers.normal(std=0.1)", "initializers.fan_in_uniform()",
    "initializers.kaiming_uniform()", "initializers.kaiming_normal()", "initializers.kaiming_normal(mode='fan_out')",
    "initializers.xavier_uniform()", "initializers.xavier_normal()", "initializers.lecun_uniform()",
    "initializers.lecun_normal()",
]  # fmt: skip
MADE = {text: eval(text) for text in (*LAYERS, *OTHERS)}


def test_every_constructor_is_here():
    called = set(re.findall(r"(?:fc|layers|models|schedules|initializers)\.(\w+)\(", " ".join(MADE)))
    public = (
        set(fc.layers.__all__)
        | set(fc.networks.__all__)
        | set(fc.losses.__all__)
        | set(fc.optimizers.__all__)
    )
    public |= set(models.__all__) | set(blocks.__all__) | {"call", "parameter"}
    public |= {
        name for module in (schedules, initializers) for name, made in vars(module).items()
        if hasattr(made, "__wrapped__") and not name.startswith("_")
    }  # fmt: skip
    others = {"Loss", "Optimizer", "Summary", "summary", "part", "ema_params", "MODELS", "Model"}
    others |= {"from_optimizer_state_dict", "to_optimizer_state_dict"}
    assert public - others <= called


@pytest.mark.parametrize("text", MADE)
def test_made_alike_and_pickled_is_equal(text):
    made, again = MADE[text], eval(text)
    assert made is not again
    assert made == again
    assert hash(made) == hash(again)
    pickled = pickle.loads(pickle.dumps(made))
    assert pickled == made
    assert hash(pickled) == hash(made)
    assert repr(pickled) == repr(made)
    assert type(pickled) is type(made)
    assert copy.deepcopy(made) is made
    for inner in ("<locals>", "<lambda>", "object at 0x"):
        assert inner not in repr(made).replace(repr(halving), "")


def test_made_otherwise_is_unequal():
    kinds = {text: text.partition("(")[0] for text in MADE}
    same = [(a, b) for a, b in combinations(MADE, 2) if kinds[a] == kinds[b] and MADE[a] == MADE[b]]
    assert not same
    assert len(set(MADE.values())) == len(MADE)
    assert fc.relu() != "relu"


def test_arguments_that_mean_the_same_are_equal():
    assert fc.conv2d(4, 3) == fc.conv2d(out_channels=4, kernel_size=(3, 3), stride=[1, 1])
    assert fc.layer_norm(5) == fc.layer_norm([5])
    assert fc.reshape(2, -1) == fc.reshape((2, -1))
    assert fc.sgd(lr=1) == fc.sgd(1.0, momentum=0)
    assert schedules.join(iter([halving, halving]), [3]) == schedules.join((halving, halving), (3,))
    assert fc.bce_loss(weight=np.array([1.0, np.nan])) == fc.bce_loss(weight=np.array([1.0, np.nan]))
    assert len({fc.relu(), fc.relu(), fc.relu6()}) == 2


def test_what_is_made_is_its_own_whatever_becomes_of_the_arguments():
    weight, nodes, milestones = np.array([1.0, 2.0, 3.0]), {"a": [fc.relu(), "x"]}, [2, 4]
    makers = [
        lambda: fc.cross_entropy_loss(weight=weight), lambda: fc.graph(nodes), lambda: fc.graph(nodes, inputs="x"),
        lambda: schedules.multistep(0.1, milestones),
    ]  # fmt: skip
    before = [make() for make in makers]
    alike = [make() for make in makers]
    weight[0], milestones[0], nodes["a"][0] = 9, 3, fc.tanh()
    after = [make() for make in makers]
    assert before == alike
    assert not any(one == other for one, other in zip(before, after, strict=True))
    y, target = np.zeros((3, 3)), np.array([0, 1, 2])
    assert before[0].apply(y, target) == fc.cross_entropy_loss(weight=np.array([1.0, 2.0, 3.0])).apply(
        y, target
    )
    x = np.array([2.0])
    assert before[1].apply({"a": ()}, x) == 2.0
    assert pickle.loads(pickle.dumps(before[1])).apply({"a": ()}, x) == 2.0
    assert before[3](2) == 0.1 * 0.1


def test_layers_of_a_users_own_pickle_by_their_functions():
    layer = fc.Layer(init_of_own, apply_of_own, vjp_of_own, shape_of_own, name="own")
    pickled = pickle.loads(pickle.dumps(fc.compose(layer, fc.relu())))
    assert pickled == fc.compose(layer, fc.relu())
    x = np.array([-1.0, 2.0])
    assert pickled.forward(((), ()), x)[2](x)[1].tolist() == [0.0, 6.0]
    opt = pickle.loads(pickle.dumps(fc.Optimizer(init_of_own, step_of_own)))
    assert opt == fc.Optimizer(init_of_own, step_of_own)
    assert opt.step(1, 2, 3) == (-1, 3)


def test_a_layer_changed_by_replace_says_why_it_does_not_pickle():
    changed = replace(fc.conv2d(4, 3), name="changed")
    assert changed == changed
    assert changed != fc.conv2d(4, 3)
    with pytest.raises(pickle.PicklingError, match=r"^changed: a Layer made of another's functions"):
        pickle.dumps(fc.compose(changed))


def init_of_own(key, shape, dtype=np.float32):
    return ()


def apply_of_own(params, x, *, train=False, key=None):
    return 3 * x


def vjp_of_own(params, x, g, *, train=False, key=None):
    return (), 3 * g


def shape_of_own(shape):
    return shape


def step_of_own(params, grads, state):
    return params - grads, state


def results(values):
    """Compute with each value: parameters, outputs and gradients; losses; steps; rates; draws."""
    return {text: _result(text, value) for text, value in values.items()}


def _result(text, value):
    if text in LAYERS:
        return None if LAYERS[text] is None else _of_layer(text, value, LAYERS[text])
    if isinstance(value, fc.losses.Loss):
        name = text.removeprefix("fc.").partition("_loss(")[0]
        _, y, target = LOSSES.get(name, LOSSES["mse"])
        if "losses_by_name" in text:
            y, target = {"a": y}, {"a": target}
        if "np.array" in text:
            dtype = np.float32 if "float32" in text else np.float64
            y, target = y[:, :2].astype(dtype), target[:, :2].astype(dtype)
        return value.apply(y, target), value.vjp(y, target)
    if isinstance(value, fc.Optimizer):
        params, grads = np.array([1.0, -2.0], np.float32), np.array([3.0, 0.5], np.float32)
        state = value.init(params)
        for _ in range(3):
            each = value.name == "private_sgd"  # whose gradients are those by each example
            params, state = value.step(params, grads[None] if each else grads, state)
        return params, state
    if text.startswith("schedules."):
        return [value(count) for count in range(15)]
    return value(KEY, (3, 2), np.dtype(np.float32))


def _of_layer(text, layer, shape):
    params = layer.init(KEY, shape)
    x = np.array([[0, 1, 2], [3, 4, 1]]) if "embedding" in text else _drawn(shape)
    y, refreshed, pull = layer.forward(params, x, train=True, key=KEY)
    return params, y, refreshed, pull(fc.trees.map(np.ones_like, y))


def _drawn(shape):
    if isinstance(shape, dict):
        return {name: _drawn(each) for name, each in shape.items()}
    if shape == () or isinstance(shape[0], tuple):
        return tuple(map(_drawn, shape))
    return 0.5 + abs(fc.random.normal(KEY, shape))


@pytest.mark.parametrize(("method", "every"), [("spawn", 1 if SLOW else 4), ("forkserver", 7)])
def test_another_process_computes_the_same_bits(method, every):
    sent = dict(list(MADE.items())[::every])
    with multiprocessing.get_context(method).Pool(1) as pool:
        there = pool.apply(results, (sent,))
    here = results(sent)
    different = [text for text in sent if not same_bits(here[text], there[text])]
    assert not different
