"""Gradients of some parameters alone, of the input, and optimizers by name."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fconv as fc
from fconv import schedules
from fconv.engine.compiled.convolution import CompiledConvolution
from fconv.engine.cpu.convolution import NumpyConvolution
from fconv.testing import check_layer
from fconv.testing.purity import same_bits

KEY = fc.random.key(0)


def _net():
    return fc.compose(
        features=fc.compose(
            fc.conv2d(3, 3, padding=1), fc.batch_norm(), fc.relu(),
            fc.residual(fc.compose(fc.conv2d(3, 3, padding=1), fc.batch_norm(), fc.dropout(0.2))),
            fc.squeeze_excitation(2),
        ),
        flatten=fc.flatten(),
        head=fc.compose(fc.linear(4), fc.relu(), fc.linear(3)),
    )  # fmt: skip


def _case(dtype=np.float64):
    net, x = _net(), fc.random.normal(KEY, (4, 2, 5, 5), dtype)
    return net, net.init(KEY, x.shape, dtype), x, np.array([0, 2, 1, 1])


def _flat(tree):
    return {".".join(path): leaf for path, leaf in fc.trees.leaves_with_path(tree)}


def _moved(params, path, d):
    return fc.trees.map_with_path(lambda at, p: p + d if at == path else p, params)


def _given(params, grads):
    """Name the parameters that have a gradient."""
    return {".".join(path) for path, _, g in fc.trees.aligned(params, grads) if g is not None}


@pytest.mark.parametrize(
    "pattern", ["head.*", "head", "head.2", "*.bias", "features.3.*", ["features.0", "*.fc1.*"]]
)
def test_trainable_gives_the_gradients_of_the_whole_and_none_of_the_rest(pattern):
    net, params, x, t = _case()
    net = fc.compose(**dict(net.children.items()))
    live = [pattern] if isinstance(pattern, str) else pattern
    names = [n for n in _flat(params) if any(fc.arguments.patterns.matches(p, n) for p in live)]
    _loss, grads, _new = fc.value_and_grad(net, fc.cross_entropy_loss(), trainable=pattern)(
        params, x, t, key=KEY
    )
    trained = [n for n in names if "running" not in n and "num_batches" not in n]
    assert _given(params, grads) == set(trained)

    # The same by numbers: each gradient is the slope of the loss.
    def value(moved):
        return fc.value_and_grad(net, fc.cross_entropy_loss(), trainable=pattern)(moved, x, t, key=KEY)[0]

    for path, p, g in fc.trees.aligned(params, grads):
        if g is None or ".".join(path) not in trained[:: max(1, len(trained) // 3)]:
            continue
        d = fc.random.normal(KEY, p.shape, np.float64)
        up, down = (value(_moved(params, path, e * d)) for e in (1e-6, -1e-6))
        assert np.isclose((up - down) / 2e-6, (g * d).sum(), rtol=1e-5, atol=1e-8)


def test_all_trainable_is_all():
    net, params, x, t = _case()
    plain = fc.value_and_grad(net, fc.cross_entropy_loss())(params, x, t, key=KEY)
    assert same_bits(
        plain, fc.value_and_grad(net, fc.cross_entropy_loss(), trainable="*")(params, x, t, key=KEY)
    )


def test_frozen_batch_norm_stays_in_inference_mode():
    net, params, x, t = _case()
    f = fc.value_and_grad(net, fc.cross_entropy_loss(), trainable="head.*", outputs=True)
    _, _, new, _ = f(params, x, t, key=KEY)
    assert same_bits(new, params)
    net = fc.compose(fc.conv2d(3, 3), fc.batch_norm(), fc.flatten(), fc.linear(2))
    params = net.init(KEY, x.shape, np.float64)
    *_, y = fc.value_and_grad(net, fc.mse_loss(), trainable="3", outputs=True)(params, x, np.zeros((4, 2)))
    assert same_bits(y, net.apply(params, x))
    # One that is trained in part follows its batches.
    new = fc.value_and_grad(net, fc.mse_loss(), trainable=["1.bias", "3"])(params, x, np.zeros((4, 2)))[2]
    assert new[1]["num_batches_tracked"] == 1


class Counting:
    """A layer with a weight that counts the calls of its backward pass."""

    def __init__(self):
        self.calls = 0

    def init(self, key, shape, dtype=np.float32):
        return {"weight": np.ones((), dtype)}

    def apply(self, params, x, *, train=False, key=None):
        return params["weight"] * x

    def vjp(self, params, x, g, *, train=False, key=None):
        self.calls += 1
        return {"weight": (g * x).sum()}, params["weight"] * g

    def out_shape(self, shape):
        return shape


@pytest.mark.parametrize("build", [
    lambda a, b: fc.compose(a=a, b=b),
    lambda a, b: fc.graph({"a": (a, "x"), "b": (b, "a")}),
    lambda a, b: fc.compose(a=fc.repeat(a, 2, shared=True), b=fc.residual(b)),
])  # fmt: skip
def test_nothing_is_computed_on_the_way_to_what_is_frozen(build):
    a, b = Counting(), Counting()
    net = build(a, b)
    params = net.init(KEY, (2, 3))
    x = np.ones((2, 3), np.float32)
    fc.value_and_grad(net, fc.mse_loss(), trainable="b")(params, x, x)
    assert (a.calls, b.calls) == (0, 1)
    a.calls = b.calls = 0
    fc.value_and_grad(net, fc.mse_loss(), trainable="a")(params, x, x)
    assert a.calls
    assert b.calls == 1


def test_the_weight_gradient_of_a_frozen_convolution_is_not_computed(monkeypatch):
    net = fc.compose(stem=fc.conv2d(8, 1), body=fc.conv2d(6, 7, padding=3))
    x = np.ones((2, 8, 9, 9), np.float32)
    params, target = net.init(KEY, x.shape), np.zeros((2, 6, 9, 9), np.float32)

    def refuse(*args):
        raise AssertionError("a weight gradient")

    for plan in (CompiledConvolution, NumpyConvolution):
        monkeypatch.setattr(plan, "weight_gradient", refuse)
    fc.value_and_grad(net, fc.mse_loss(), trainable="*.bias")(params, x, target)
    with pytest.raises(AssertionError, match="a weight gradient"):
        fc.value_and_grad(net, fc.mse_loss())(params, x, target)


@pytest.mark.parametrize(("net", "shape"), [
    (fc.conv2d(2, 3, padding=1, padding_mode="reflect"), (1, 2, 5, 5)), (fc.batch_norm(), (3, 2)),
    (fc.instance_norm(affine=True, ndim=1), (2, 3, 5)), (fc.bilinear(2), ((2, 3), (2, 3))), (fc.group_norm(2), (2, 4, 3)),
    (fc.embedding(5, 2), (2, 3)), (fc.parameter(2, 3), ()),
])  # fmt: skip
def test_a_part_of_a_layer(net, shape):
    from fconv.derivatives.freezing import partly_trained

    params = net.init(KEY, shape, np.float64)
    x = fc.random.normal(KEY, shape, np.float64) if shape and isinstance(shape[0], int) else shape
    if shape and not isinstance(shape[0], int):
        x = tuple(fc.random.normal(KEY, s, np.float64) for s in shape)
    if net.name == "embedding":
        x = np.array([[0, 1, 4], [2, 2, 1]])
    whole = net.forward(params, x, train=True, key=KEY)
    g = np.ones_like(whole[0])
    names = fc.arguments.patterns.names_of(params)
    for name in names:
        part = partly_trained(net, params, {name}).forward(params, x, train=True, key=KEY)
        assert same_bits(part[:2], whole[:2])
        for input_grad in (True, False):
            (dwhole, dx), (dpart, dx_part) = whole[2](g, input_grad), part[2](g, input_grad)
            assert same_bits(dx, dx_part)
            expected = fc.trees.map_with_path(
                lambda at, p, d, name=name: d if ".".join(at) == name else None, params, dwhole)  # fmt: skip
            assert same_bits(dpart, expected)


def test_a_partly_trained_network_is_a_layer():
    from fconv.derivatives.freezing import partly_trained

    net, params, x, _ = _case()
    weights = {name for name in fc.arguments.patterns.names_of(params) if name.endswith("weight")}
    check_layer(partly_trained(net, params, weights), x, key=KEY)


@pytest.mark.parametrize(
    ("wrt", "train"), [("x", True), ("x", False), (("params", "x"), True), (("x", "params"), True)]
)
def test_the_gradient_of_the_input(wrt, train):
    net, params, x, t = _case()
    loss = fc.cross_entropy_loss()
    y, _, pull = net.forward(params, x, train=train, key=KEY)
    dparams, dx = pull(loss.vjp(y, t))
    value, grads, _, out = fc.value_and_grad(net, loss, wrt=wrt, outputs=True)(
        params, x, t, key=KEY, train=train
    )
    found = {"params": dparams, "x": dx}
    assert same_bits(grads, dx if wrt == "x" else tuple(found[each] for each in wrt))
    assert same_bits(out, y)
    assert value == loss.apply(y, t)


def test_the_gradient_of_the_input_keeps_the_training_mode():
    net, params, x, t = _case()
    new = fc.value_and_grad(net, fc.cross_entropy_loss(), wrt="x")(params, x, t, key=KEY)[2]
    assert new["features"][1]["num_batches_tracked"] == 1


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda *a: fc.value_and_grad(_net(), fc.mse_loss(), wrt="y"), ValueError,
     'value_and_grad: expected wrt to be "params", "x" or ("params", "x"), got \'y\''),
    (lambda *a: fc.value_and_grad(_net(), fc.mse_loss(), trainable=3), TypeError,
     "value_and_grad: trainable: expected a pattern over dotted names such as \"head.*\", or several, got 3"),
    (lambda p, x, t: fc.value_and_grad(_net(), fc.mse_loss(), trainable="haed.*")(p, x, t), ValueError,
     "value_and_grad: trainable: the pattern 'haed.*' matches no parameter; the nearest names are 'head', 'head.2'"),
    (lambda p, x, t: fc.masked(fc.sgd(0.1), "classifier.*").init(p), ValueError,
     "masked: the pattern 'classifier.*' matches no parameter; the nearest names are 'features', "),
    (lambda p, x, t: fc.by_name({"*": fc.sgd(0.1), "head.*": fc.adam()}).init(p), ValueError,
     "by_name: no parameter is left for the pattern 'head.*' after '*'; the first match counts"),
    (lambda p, x, t: fc.by_name({"head.*": fc.sgd(0.1)}).step(p, p, fc.by_name({"head.*": fc.sgd(0.1)}).init(p)),
     ValueError, "by_name: the parameter 'features.0.weight' fits none of the patterns 'head.*'; add \"*\""),
    (lambda *a: fc.by_name([fc.sgd(0.1)]), TypeError, "by_name: expected optimizers by pattern"),
    (lambda *a: fc.by_name({"a": fc.sgd}), TypeError, "by_name: expected an optimizer, got function sgd"),
    (lambda *a: fc.by_name({3: fc.sgd(0.1)}), TypeError, "by_name: expected a pattern"),
    (lambda *a: fc.masked(fc.sgd(0.1), None), TypeError, "masked: expected a pattern over dotted names"),
])  # fmt: skip
def test_errors(make, kind, message):
    _, params, x, t = _case()
    with pytest.raises(kind) as caught:
        make(params, x, t)
    assert message in str(caught.value)


def test_by_name_is_each_optimizer_on_its_own_parameters():
    net, params, x, t = _case()
    grads = fc.value_and_grad(net, fc.cross_entropy_loss())(params, x, t, key=KEY)[1]
    parts = {
        "features.0.*": fc.sgd(0.1, momentum=0.9),
        "features.*": None,
        "*": fc.adam(schedules.constant(0.01)),
    }
    opt, state = fc.by_name(parts), None
    state, new = opt.init(params), params
    alone = {"features.0.": fc.sgd(0.1, momentum=0.9), "head.": fc.adam(0.01)}
    old = {prefix: ({n: p for n, p in _flat(params).items() if n.startswith(prefix)}) for prefix in alone}
    states = {prefix: o.init(old[prefix]) for prefix, o in alone.items()}
    flat_grads = {".".join(path): g for path, _, g in fc.trees.aligned(params, grads)}
    for _ in range(3):
        assert opt.lr(state) == {"features.0.*": 0.1, "*": 0.01}
        new, state = opt.step(new, grads, state)
        for prefix, o in alone.items():
            gs = {n: flat_grads[n] for n in old[prefix]}
            old[prefix], states[prefix] = o.step(old[prefix], gs, states[prefix])
    for name, p in _flat(new).items():
        prefix = next((pre for pre in alone if name.startswith(pre)), None)
        assert same_bits(p, _flat(params)[name] if prefix is None else old[prefix][name])
    assert pickle.loads(pickle.dumps(opt)) == opt
    assert "features.0.*" in repr(opt)


def test_masked_and_frozen_are_two_sides_of_one_thing():
    net, params, x, t = _case()
    grads = fc.value_and_grad(net, fc.cross_entropy_loss())(params, x, t, key=KEY)[1]
    a = fc.masked(fc.adam(0.1), ["head.*", "features.0"])
    b = fc.frozen(fc.adam(0.1), ["features.[1-9]*"])
    assert same_bits(a.step(params, grads, a.init(params))[0], b.step(params, grads, b.init(params))[0])
    assert a.lr(a.init(params)) == b.lr(b.init(params)) == 0.1
    assert a != b
    assert a == fc.masked(fc.adam(0.1), ["head.*", "features.0"])


def test_a_trained_run_leaves_the_frozen_body_as_it_is(tmp_path):
    net, _, x, t = _case(np.float32)
    opt = fc.by_name({"head.*": fc.clip_by_global_norm(fc.ema(fc.adam(0.1)), 1.0), "*": None})
    step = fc.train_step(net, fc.cross_entropy_loss(), opt, trainable="head.*")
    state = first = fc.train_state(net, opt, KEY, x.shape)
    for _ in range(2):
        state, metrics = step(state, x, t)
    assert metrics["lr"] == {"head.*": 0.1}
    fc.save(tmp_path / "state.npz", state)
    assert same_bits(step(fc.load(tmp_path / "state.npz"), x, t)[0], step(state, x, t)[0])
    assert same_bits(state.params["features"], first.params["features"])
    assert not same_bits(state.params["head"], first.params["head"])


OPTIMIZERS = [
    fc.sgd(0.1, momentum=0.9), fc.adam(), fc.adamw(), fc.nadam(), fc.rmsprop(), fc.adagrad(), fc.adadelta(), fc.lion(),
    fc.clip_by_global_norm(fc.sgd(0.1), 1.0), fc.clip_by_value(fc.sgd(0.1), 1.0), fc.ema(fc.sgd(0.1)),
    fc.accumulate_gradients(fc.sgd(0.1), 2), fc.mixed_precision(fc.sgd(0.1)),
    fc.by_name({"0": fc.sgd(0.1), "*": fc.adam()}), fc.masked(fc.sgd(0.1), "0.weight"),
]  # fmt: skip


@pytest.mark.parametrize("opt", OPTIMIZERS, ids=lambda opt: opt.name)
def test_none_stands_for_the_gradients_of_a_whole_layer(opt):
    net = fc.compose(fc.linear(3), fc.residual(fc.linear(3)), fc.batch_norm())
    params = net.init(KEY, (2, 3))
    ones = fc.trees.map(np.ones_like, params)
    nothing = fc.trees.map(lambda p: None, params)
    leaves = (ones[0], nothing[1], nothing[2])
    short = (ones[0], {"body": None, "shortcut": ()}, None)
    a, b = (opt.step(params, grads, opt.init(params)) for grads in (leaves, short))
    assert same_bits(a, b)
    assert same_bits(a[0][1:], params[1:])
    assert same_bits(opt.step(params, None, opt.init(params))[0], params)
    assert opt.lr(opt.init(params)) is not None


class Silent(Counting):
    """A layer that gives None for all its parameters."""

    def vjp(self, params, x, g, *, train=False, key=None):
        return None, params["weight"] * g


def test_a_layer_may_give_none_for_all_its_parameters():
    shared = Silent()
    net = fc.graph({"a": (shared, "x"), "b": ("a", "a"), "c": (fc.linear(3), "b")})
    params, x = net.init(KEY, (2, 3)), np.ones((2, 3), np.float32)
    opt = fc.clip_by_global_norm(fc.sgd(0.1), 1.0)
    _, grads, _ = fc.value_and_grad(net, fc.mse_loss())(params, x, x)
    new, _ = opt.step(params, grads, opt.init(params))
    assert same_bits(new["a"], params["a"])
    assert not same_bits(new["c"], params["c"])
