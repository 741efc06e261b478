"""Gradients by each example are those of a loop over batches of one, and what mixes examples is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fconv as fc
from fconv import trees
from fconv.layer import has_trained
from fconv.losses.base import each_gradient, loss_forward
from tests.device import standin
from tests.test_layers import LAYERS, input_of
from tests.test_losses import LOSSES

KEY = fc.random.key(0)


def drawn(i, *shape):
    return fc.random.normal(fc.random.key(i), shape, np.float64)


def looped(net, loss, params, x, target, train):
    f = fc.value_and_grad(net, loss)
    one = [
        f(params, *(trees.map(lambda a, i=i: a[i : i + 1], tree) for tree in (x, target)), train=train)[1]
        for i in range(len(trees.leaves(x)[0]))
    ]
    return trees.map(lambda _, *gs: None if gs[0] is None else np.stack(gs), params, *one)


def masked(net, loss, params, x, target, train):
    """Take one backward pass of the whole batch for each example."""
    y, _, pull = net.forward(params, x, train=train, key=KEY)
    dy = each_gradient(loss, y, target)
    each = []
    for i in range(len(y)):
        g = np.zeros_like(dy)
        g[i] = dy[i]
        each.append(pull(g)[0])
    return trees.map(lambda _, *gs: None if gs[0] is None else np.stack(gs), params, *each)


def assert_close(grads, expected, tolerance=1e-10):
    assert trees.same_structure(grads, expected)
    for (path, own), (_, other) in zip(
        trees.leaves_with_path(grads), trees.leaves_with_path(expected), strict=True
    ):
        assert own.shape == other.shape, path
        assert own.dtype == other.dtype, path
        np.testing.assert_allclose(
            own, other, rtol=0, atol=tolerance * max(1, abs(other).max()), err_msg=path
        )


def norms_of(grads):
    return np.sqrt(sum((g.reshape(len(g), -1) ** 2).sum(axis=1) for g in trees.leaves(grads)))


def mixing(layer, params, x, train):
    """Return whether the output of one example changes with another's input, or has no axis of examples."""
    y = layer.apply(params, x, train=train, key=KEY)
    other = x.copy()
    other[1] = other[0] if x.dtype.kind == "i" else 0.5 * other[1] + 0.25
    changed = layer.apply(params, other, train=train, key=KEY)
    return y.shape[:1] != x.shape[:1] or not np.array_equal(np.delete(y, 1, 0), np.delete(changed, 1, 0))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name, train):
    layer, shape = LAYERS[name]
    x = input_of(layer, drawn(1, 4, *shape[1:]) + 0.1)
    params = trees.map(
        lambda p: p if p.dtype.kind == "i" else p + 0.1 * abs(drawn(2, *p.shape)),
        layer.init(KEY, x.shape, float),
    )
    loss = fc.mse_loss()
    f, norms = fc.per_example_gradients(layer, loss), fc.per_example_norms(layer, loss)
    try:
        apart = not mixing(layer, params, x, train)
    except (ValueError, TypeError):  # made for other batches
        return
    y = layer.apply(params, x, train=train, key=KEY)
    target = drawn(3, *y.shape)
    if not apart:
        with pytest.raises(
            ValueError, match=r"mix|folds the axis of examples|expected an output with a leading axis"
        ):
            f(params, x, target, key=KEY, train=train)
        return
    for reference in (masked,) if train else (masked, looped):
        assert_close(
            f(params, x, target, key=KEY, train=train), reference(layer, loss, params, x, target, train)
        )
    expected = norms_of(f(params, x, target, key=KEY, train=train)) if trees.leaves(params) else np.zeros(4)
    np.testing.assert_allclose(norms(params, x, target, key=KEY, train=train), expected, rtol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_with_parameters_has_a_formula(name):
    """A layer that knows none is called once an example, which no layer of fconv may come to."""
    layer, shape = LAYERS[name]
    x = input_of(layer, drawn(1, *shape))
    params = layer.init(KEY, x.shape, float)
    if layer.children or not has_trained(layer, params):
        return
    if layer.name == "bilinear":  # it takes two inputs, and stands in the table within another layer
        layer, x = fc.bilinear(3), (x, x)
        params = layer.init(KEY, (x[0].shape, x[1].shape), float)
    y, _, pull = layer.forward(params, x)
    grads, _ = pull(y, each=("of each",))
    for p, g in zip(trees.leaves(params), [grads[n] for n in params], strict=True):
        assert g is None or g.shape == (shape[0], *p.shape)


def group_normed_resnet20():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fconv.models.resnet_cifar.batch_norm", lambda: fc.group_norm(4))
        return fc.models.resnet20()


DIGITS = fc.compose(
    fc.conv2d(32, 3, padding=1), fc.group_norm(8), fc.relu(), fc.max_pool2d(2),
    fc.conv2d(64, 3, padding=1), fc.group_norm(8), fc.relu(), fc.max_pool2d(2),
    fc.flatten(), fc.linear(10),
)  # fmt: skip


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: DIGITS, (1, 8, 8)),
        (fc.models.lenet, (1, 28, 28)),
        (group_normed_resnet20, (3, 16, 16)),
    ],
    ids=["digits", "lenet", "resnet20"],
)
def test_networks(build, shape):
    net, loss = build(), fc.cross_entropy_loss()
    x, labels = drawn(1, 3, *shape), np.array([3, 0, 7])
    params = net.init(KEY, x.shape, float)
    grads = fc.per_example_gradients(net, loss)(params, x, labels)
    expected = looped(net, loss, params, x, labels, True)
    assert_close(grads, expected)
    norms = fc.per_example_norms(net, loss)(params, x, labels)
    np.testing.assert_allclose(norms, norms_of(expected), rtol=1e-10)
    mean = fc.value_and_grad(net, loss)(params, x, labels)[1]
    assert_close(trees.map(lambda g: g.mean(axis=0), grads), mean)


class Scaled:
    """A layer of a user's own, whose gradient fconv has no formula for."""

    name = "scaled"

    def init(self, key, shape, dtype=np.float32):
        return {"scale": np.ones(shape[1:], dtype), "seen": np.zeros((), dtype)}

    def apply(self, params, x, *, train=False, key=None):
        drawn = 1 if key is None or not train else fc.random.uniform(key, x.shape, x.dtype)
        return params["scale"] * x * drawn

    def vjp(self, params, x, g, *, train=False, key=None):
        drawn = 1 if key is None or not train else fc.random.uniform(key, x.shape, x.dtype)
        return {"scale": (g * x * drawn).sum(axis=0), "seen": None}, g * drawn * params["scale"]

    def out_shape(self, shape):
        return shape


CONV = fc.conv2d(2, 3, padding=1)
WIRED = {
    "shared": fc.graph(
        {"a": (CONV, "x"), "act": (fc.tanh(), "a"), "b": ("a", "act"), "s": (fc.add(), "a", "b")}
    ),
    "repeated": fc.repeat(fc.compose(CONV, fc.tanh()), 3, shared=True),
    "repeated, own parameters": fc.repeat(CONV, 2),
    "residual": fc.residual(fc.compose(CONV, fc.relu()), fc.conv2d(2, 1)),
    "parallel": fc.parallel(a=CONV, b=fc.compose(fc.group_norm(2), fc.conv2d(3, 1))),
    "excited": fc.squeeze_excitation(1),
    "excited, shared": fc.repeat(fc.squeeze_excitation(1), 2, shared=True),
    "separable": fc.depthwise_separable_conv2d(3, 3, between=fc.group_norm(2)),
    "padded": fc.conv2d(3, 3, padding=1, padding_mode="reflect"),
    "depthwise": fc.conv2d(4, 3, groups=2),
    "fused": fc.networks.fused(fc.conv2d(2, 1), fc.relu()),
    "with a constant": fc.graph(
        {
            "c": (fc.constant(np.arange(4.0)), "x"), "a": (CONV, "x"), "r": (fc.unsqueeze(0), "c"),
            "s": (fc.add(), "a", "r"),
        }
    ),
    "of one value": fc.compose(fc.conv2d(2, 1), fc.adaptive_avg_pool2d(1), fc.flatten(), fc.linear(1)),
    "own": fc.compose(CONV, Scaled()),
    "folded within an example": fc.compose(fc.flatten(2), fc.permute(0, 2, 1), fc.linear(3), fc.layer_norm()),
}  # fmt: skip


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("name", WIRED)
def test_wired(name, key):
    net, loss = WIRED[name], fc.mse_loss()
    x = drawn(1, 4, 2, 4, 4)
    params = trees.map(lambda p: p + 0.1 * drawn(2, *p.shape), net.init(KEY, x.shape, float))
    target = drawn(3, *net.apply(params, x).shape)
    grads = fc.per_example_gradients(net, loss)(params, x, target, key=key)
    reference = looped if key is None else masked
    expected = reference(net, loss, params, x, target, True)
    assert_close(grads, expected)
    norms = fc.per_example_norms(net, loss)(params, x, target, key=key)
    np.testing.assert_allclose(norms, norms_of(expected), rtol=1e-10)


def test_masks_are_those_of_the_whole_batch():
    net, loss = fc.compose(fc.linear(8), fc.dropout(0.5), fc.linear(2)), fc.mse_loss()
    x, target = drawn(1, 6, 5), drawn(2, 6, 2)
    params = net.init(KEY, x.shape, float)
    grads = fc.per_example_gradients(net, loss)(params, x, target, key=KEY)
    mean = fc.value_and_grad(net, loss)(params, x, target, key=KEY)[1]
    assert_close(trees.map(lambda g: g.mean(axis=0), grads), mean)


def test_examples_are_looked_at_once_for_a_shape():
    calls = []
    double = fc.Layer(
        init=lambda key, shape, dtype=None: (),
        apply=lambda params, x, *, train=False, key=None: 2 * x,
        vjp=lambda params, x, g, *, train=False, key=None: calls.append(len(x)) or ((), 2 * g),
        out_shape=lambda shape: shape,
    )
    net = fc.compose(fc.linear(3), double)
    params, f = net.init(KEY, (4, 2), float), fc.per_example_gradients(net, fc.mse_loss())
    for count in (1, 4, 5, 4):
        f(params, drawn(1, count, 2), drawn(2, count, 3))
    assert calls == [1, 4, 4, 4, 5, 4]


def test_several_inputs_and_outputs():
    net = fc.graph(
        {"a": (fc.linear(3), "x"), "b": (fc.linear(3), "z"), "s": (fc.multiply(), "a", "b")},
        inputs=("x", "z"), outputs=("s", "a"),
    )  # fmt: skip
    x = {"x": drawn(1, 4, 2), "z": drawn(2, 4, 5)}
    target = {"s": drawn(3, 4, 3), "a": np.array([0, 2, 1, 1])}
    loss = fc.losses_by_name({"s": (2.0, fc.l1_loss()), "a": (0.5, fc.cross_entropy_loss())})
    params = net.init(KEY, trees.map(lambda a: a.shape, x), float)
    assert_close(
        fc.per_example_gradients(net, loss)(params, x, target), looped(net, loss, params, x, target, True)
    )


def test_bilinear():
    net, loss = fc.bilinear(3), fc.mse_loss()
    x, target = (drawn(1, 4, 2, 3), drawn(2, 4, 2, 2)), drawn(3, 4, 2, 3)
    params = net.init(KEY, ((4, 2, 3), (4, 2, 2)), float)
    assert_close(
        fc.per_example_gradients(net, loss)(params, x, target), looped(net, loss, params, x, target, True)
    )


def test_no_examples_give_no_gradients():
    x = np.zeros((0, 1, 8, 8))
    params = DIGITS.init(KEY, (1, 1, 8, 8), float)
    grads = fc.per_example_gradients(DIGITS, fc.cross_entropy_loss())(params, x, np.zeros(0, int))
    assert all(g.shape == (0, *p.shape) for p, g in zip(*map(trees.leaves, (params, grads)), strict=True))
    assert fc.per_example_norms(DIGITS, fc.cross_entropy_loss())(params, x, np.zeros(0, int)).shape == (0,)
    own = fc.compose(Scaled())
    params = own.init(KEY, (1, 2), float)
    assert fc.per_example_gradients(own, fc.mse_loss())(params, x[:, 0, :2, 0], x[:, 0, :2, 0])[0][
        "scale"
    ].shape == (0, 2)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_that_of_batches_of_one(name):
    loss, y, target = LOSSES[name]
    lone = replace(loss, each=None)
    for own, other in zip(
        *map(trees.leaves, (each_gradient(f, y, target) for f in (loss, lone))), strict=True
    ):
        np.testing.assert_allclose(own, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("make", [fc.cross_entropy_loss, fc.nll_loss])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weighted_and_ignored_labels(make, reduction):
    loss = make(weight=np.array([0.5, 0.0, 3.0]), ignore_index=2, reduction=reduction)
    y, target = drawn(1, 4, 3, 2), np.array([[0, 2], [2, 2], [1, 0], [1, 1]])
    expected = [loss_forward(loss, y[i : i + 1], target[i : i + 1])[1]() for i in range(4)]
    np.testing.assert_allclose(loss.each(y, target), np.concatenate(expected), rtol=1e-12)


REFUSED = {
    "batch_norm": (
        fc.compose(CONV, fc.batch_norm()), (4, 2, 3, 3),
        r"compose\[1\] batch_norm: statistics of the batch mix its examples; write group_norm",
    ),
    "folded": (
        fc.compose(fc.linear(4), fc.flatten(0), fc.linear(1)), (4, 5, 3),
        r"compose\[1\] flatten: folds the axis of examples into another: its input has the shape \(4, 5, 4\)",
    ),
    "turned": (
        fc.residual(fc.compose(fc.permute(1, 0, 2), fc.linear(4), fc.permute(1, 0, 2))), (4, 4, 4),
        r"residual\[body\] compose\[2\] permute: mixes the examples",
    ),
    "turned round": (fc.compose(fc.linear(3), fc.flip(0)), (4, 3), r"compose\[1\] flip: mixes the examples"),
    "a pair turned round": (fc.compose(fc.linear(3), fc.flip(0)), (2, 3), r"flip: mixes the examples"),
    "added up": (fc.compose(fc.linear(3), fc.cumsum(0)), (2, 3), r"cumsum: mixes the examples"),
    "softened": (fc.compose(fc.linear(3), fc.softmax(0)), (4, 3), r"softmax: mixes the examples"),
    "without an axis": (fc.linear(4), (4,), r"linear: mixes the examples"),
    "averaged": (fc.compose(fc.linear(3), fc.mean(0, keepdim=True)), (4, 3), r"mean: folds the axis"),
}  # fmt: skip


@pytest.mark.parametrize("make", [fc.per_example_gradients, fc.per_example_norms])
@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_examples_is_refused_by_name(make, name):
    net, shape, message = REFUSED[name]
    x = drawn(1, *shape)
    params = net.init(KEY, shape, float)
    y = net.apply(params, x)
    with pytest.raises(ValueError, match=message):
        make(net, fc.mse_loss())(params, x, drawn(2, *y.shape))


def test_batch_norm_in_inference_mode():
    net, loss = fc.compose(CONV, fc.batch_norm(), fc.relu()), fc.mse_loss()
    x, target = drawn(1, 4, 2, 3, 3), drawn(2, 4, 2, 3, 3)
    params = net.init(KEY, x.shape, float)
    params[1]["running_mean"], params[1]["running_var"] = drawn(3, 2), abs(drawn(4, 2))
    grads = fc.per_example_gradients(net, loss)(params, x, target, train=False)
    assert grads[1]["running_mean"] is None
    assert_close(grads, looped(net, loss, params, x, target, False))


def test_parameters_without_examples_are_refused():
    net = fc.graph({"p": (fc.parameter(3),), "s": (fc.add(), "x", "p")})
    message = r"per_example_gradients: graph\[p\] parameter: .* loop over batches of one"
    with pytest.raises(ValueError, match=message):
        fc.per_example_gradients(net, fc.mse_loss())
    fixed = fc.graph(
        {"p": (fc.parameter(3, trained=False),), "s": (fc.add(), "x", "p"), "l": (fc.linear(1), "s")}
    )
    params = fixed.init(KEY, (2, 3), float)
    grads = fc.per_example_gradients(fixed, fc.mse_loss())(params, drawn(1, 2, 3), drawn(2, 2, 1))
    assert grads["p"] is None
    assert grads["l"]["weight"].shape == (2, 1, 3)
    late = fc.graph(
        {"c": (fc.constant(np.ones((1, 3))), "x"), "l": (fc.linear(3), "c"), "s": (fc.add(), "x", "l")}
    )
    params = late.init(KEY, (2, 3), float)
    with pytest.raises(ValueError, match=r"l\.weight is used where there is no axis of examples"):
        fc.per_example_gradients(late, fc.mse_loss())(params, drawn(1, 2, 3), drawn(2, 2, 3))


def test_bad_arguments():
    net, x = fc.linear(2), drawn(1, 3, 4)
    params = net.init(KEY, x.shape, float)
    f = fc.per_example_gradients(net, fc.mse_loss())
    with pytest.raises(TypeError, match="per_example_norms: expected a layer"):
        fc.per_example_norms(fc.mse_loss(), net)
    with pytest.raises(TypeError, match="per_example_gradients: expected a loss"):
        fc.per_example_gradients(net, net)
    with pytest.raises(ValueError, match=r"expected an input with a leading axis of examples, got \(\)"):
        f(params, np.zeros(()), x)
    with pytest.raises(ValueError, match=r"per_example_gradients: mse_loss: expected a target .*\(3, 2\)"):
        f(params, x, x)
    with pytest.raises(TypeError, match="linear: x must be a real floating-point array"):
        f(params, np.ones((3, 4), int), x)
    with pytest.raises(ValueError, match="expected a scalar loss"):
        fc.per_example_gradients(net, fc.mse_loss(reduction="none"))(params, x, x[:, :2])
    with pytest.raises(TypeError, match="expected a key"):
        f(params, x, x[:, :2], key=0)


def test_on_the_stand_in():
    with standin.installed():
        net, loss = (
            fc.compose(CONV, fc.group_norm(1), fc.relu(), fc.flatten(), fc.linear(3)),
            fc.cross_entropy_loss(),
        )
        x, labels = drawn(1, 4, 2, 5, 5), np.array([0, 2, 1, 1])
        params = net.init(KEY, x.shape, float)
        there = [fc.to_device(tree, "cuda") for tree in (params, x, labels)]
        for make in (fc.per_example_gradients, fc.per_example_norms):
            found = fc.to_device(make(net, loss)(*there), "cpu")
            assert_close(found, make(net, loss)(params, x, labels))
