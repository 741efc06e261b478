"""Gauss-Newton products and gradient penalties against matrices and differences."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F
from fconv import trees

KEY = fc.random.key(0)
X = fc.random.normal(KEY, (3, 2, 6, 6), np.float64)
NET = fc.compose(
    fc.conv2d(3, 3), fc.batch_norm(), fc.tanh(), fc.avg_pool2d(2), fc.flatten(), fc.dropout(0.2), fc.linear(4)
)
PARAMS = NET.init(KEY, X.shape, np.float64)
LABELS = np.array([0, 3, 1])
PROBABILITIES = F.softmax(fc.random.normal(fc.random.key(1), (3, 4), np.float64))
WEIGHT = np.array([1.0, 2.0, 0.5, 3.0])


def drawn(seed, like=PARAMS):
    """Draw a tangent of the parameters."""
    paths = [path for path, _ in trees.leaves_with_path(like)]
    keys = dict(zip(paths, fc.random.split(fc.random.key(seed), len(paths)), strict=True))
    still = ("running_mean", "running_var", "num_batches_tracked")
    return trees.map_with_path(
        lambda path, p: None if path[-1] in still else fc.random.normal(keys[path], p.shape, p.dtype), like
    )


def dot(a, b):
    return sum(float((p * q).sum()) for _, p, q in trees.aligned(a, b) if p is not None)


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (fc.mse_loss(), PROBABILITIES),
        (fc.mse_loss(reduction="sum"), PROBABILITIES),
        (fc.cross_entropy_loss(), LABELS),
        (fc.cross_entropy_loss(reduction="sum", label_smoothing=0.1), LABELS),
        (fc.cross_entropy_loss(weight=WEIGHT, ignore_index=3), LABELS),
        (fc.cross_entropy_loss(weight=WEIGHT, label_smoothing=0.2), PROBABILITIES),
        (fc.cross_entropy_loss() + 0.5 * fc.cross_entropy_loss(reduction="sum"), LABELS),
    ],
)
def test_curvature_is_the_slope_of_the_losss_gradient(loss, target):
    y, t = fc.random.normal(KEY, (2, 3, 4), np.float64)
    h = 1e-5
    slope = (loss.vjp(y + h * t, target) - loss.vjp(y - h * t, target)) / (2 * h)
    np.testing.assert_allclose(loss.curvature(y, target, t), slope, atol=1e-9)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("loss", "target"), [(fc.mse_loss(), PROBABILITIES), (fc.cross_entropy_loss(), LABELS)]
)
def test_the_product_is_that_of_the_matrix(loss, target, train):
    options = {"train": train, "key": KEY}
    u, v = drawn(5), drawn(6)
    y, ju = fc.jvp(NET, PARAMS, X, u, None, **options)
    _, jv = fc.jvp(NET, PARAMS, X, v, None, **options)
    product = fc.ggn_product(NET, loss, PARAMS, X, target, v, **options)
    trees.aligned(PARAMS, product)
    assert product[1]["running_mean"] is None
    np.testing.assert_allclose(dot(u, product), (ju * loss.curvature(y, target, jv)).sum(), rtol=1e-12)
    symmetric = fc.ggn_product(NET, loss, PARAMS, X, target, u, **options)
    np.testing.assert_allclose(dot(v, symmetric), dot(u, product), rtol=1e-10)
    assert dot(v, product) >= 0


def test_the_product_is_the_hessian_where_the_network_is_linear():
    net = fc.compose(fc.flatten(), fc.linear(4))
    params = net.init(KEY, X.shape, np.float64)
    v, h = drawn(2, params), 1e-5
    f = fc.value_and_grad(net, fc.cross_entropy_loss())
    ends = [f(trees.map(lambda p, t, s=s: p + s * h * t, params, v), X, LABELS)[1] for s in (1, -1)]
    product = fc.ggn_product(net, fc.cross_entropy_loss(), params, X, LABELS, v)
    for _, a, b, c in trees.aligned(product, *ends):
        np.testing.assert_allclose(a, (b - c) / (2 * h), rtol=1e-5, atol=1e-7)


def test_the_diagonal_of_few_outputs_is_estimated():
    net = fc.compose(fc.flatten(), fc.linear(2, bias=False))
    x = X[:1, :, :2, :2]
    params = net.init(KEY, x.shape, np.float64)
    exact = np.zeros(16)
    for i in range(16):
        v = ((), {"weight": np.eye(16)[i].reshape(2, 8)})
        exact[i] = fc.ggn_product(net, fc.mse_loss(), params, x, np.zeros((1, 2)), v)[1]["weight"].ravel()[i]
    few, many = (
        fc.ggn_diagonal(net, fc.mse_loss(), params, x, np.zeros((1, 2)), key=KEY, samples=n)[1][
            "weight"
        ].ravel()
        for n in (4, 400)
    )
    assert np.linalg.norm(many - exact) < 0.25 * np.linalg.norm(few - exact)
    again = fc.ggn_diagonal(net, fc.mse_loss(), params, x, np.zeros((1, 2)), key=KEY, samples=4)
    np.testing.assert_array_equal(again[1]["weight"].ravel(), few)
    full = fc.ggn_diagonal(NET, fc.cross_entropy_loss(), PARAMS, X, LABELS, key=KEY, samples=1)
    assert full[1]["running_var"] is None


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (fc.l1_loss(), "l1_loss"),
        (fc.mse_loss(reduction="none"), "mse_loss"),
        (fc.mse_loss() + fc.huber_loss(), "weighted_sum"),
    ],
)
def test_losses_without_a_known_curvature_are_refused(loss, name):
    message = f"{name} are not known; expected mse_loss"
    with pytest.raises(ValueError, match=f"ggn_product: the second derivatives of {message}"):
        fc.ggn_product(NET, loss, PARAMS, X, PROBABILITIES, PARAMS)
    with pytest.raises(ValueError, match=f"ggn_diagonal: the second derivatives of {message}"):
        fc.ggn_diagonal(NET, loss, PARAMS, X, PROBABILITIES, key=KEY)


def test_a_vector_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="jvp: the tangent of the parameters has another structure"):
        fc.ggn_product(NET, fc.mse_loss(), PARAMS, X, PROBABILITIES, PARAMS[:2])
    with pytest.raises(ValueError, match=r"ggn_diagonal: samples must be at least 1, got 0"):
        fc.ggn_diagonal(NET, fc.mse_loss(), PARAMS, X, PROBABILITIES, key=KEY, samples=0)


ACTIVATIONS = [
    fc.relu(), fc.relu6(), fc.leaky_relu(0.2), fc.hardtanh(), fc.hardswish(), fc.tanh(), fc.sigmoid(),
    fc.softplus(2.0), fc.silu(), fc.gelu(), fc.gelu(approximate="tanh"), fc.elu(0.7), fc.selu(), fc.celu(0.5),
    fc.mish(), fc.softsign(), fc.log_sigmoid(), fc.tanhshrink(), fc.exp(), fc.sin(), fc.power(3.0),
]  # fmt: skip


def check_penalty(net, x, norm=1.0):
    params = net.init(KEY, x.shape, np.float64)
    penalty, grads = fc.gradient_penalty(net, params, x, norm=norm)

    def value(params):
        y, _, pull = net.forward(params, x)
        g = pull(np.ones_like(y))[1]
        return ((np.sqrt((g * g).sum(axis=tuple(range(1, g.ndim)))) - norm) ** 2).mean()

    np.testing.assert_allclose(penalty, value(params), rtol=1e-12)
    v = drawn(3, params)
    ends = [value(trees.map(lambda p, t, h=h: p + h * t, params, v)) for h in (1e-5, -1e-5)]
    np.testing.assert_allclose(dot(v, grads), (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-7)
    assert trees.same_structure(grads, params)
    assert all(g.dtype == np.float64 for g in trees.leaves(grads))


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda layer: layer.name)
def test_penalty_of_a_critic(act):
    check_penalty(
        fc.compose(fc.conv2d(3, 3, stride=2, padding=1), act, fc.flatten(), fc.linear(3), act, fc.linear(1)),
        X,
    )


def test_penalty_of_branches_and_of_what_is_linear():
    net = fc.compose(
        fc.residual(fc.compose(fc.conv2d(2, 3, padding=1, padding_mode="reflect"), fc.tanh())),
        fc.parallel(fc.upsample(scale_factor=2), fc.conv_transpose2d(1, 2, stride=2)),
        fc.pad((1, 0, 1, 0)), fc.max_pool2d(2), fc.dropout(0.3), fc.avg_pool2d(3), fc.identity(), fc.flatten(), fc.linear(1),
    )  # fmt: skip
    check_penalty(net, X, norm=0.5)
    shared = fc.graph(
        {"a": (fc.linear(6), "x"), "act": (fc.silu(), "a"), "b": ("a", "act"), "end": (fc.add(), "b", "x")}
    )
    check_penalty(fc.compose(shared, fc.flatten(), fc.linear(1)), X)


def test_gradients_of_length_0_have_a_penalty_and_no_direction():
    net = fc.linear(1)
    penalty, grads = fc.gradient_penalty(
        net, {"weight": np.zeros((1, 2)), "bias": np.zeros(1)}, np.ones((3, 2))
    )
    assert penalty == 1.0
    assert not grads["weight"].any()


@pytest.mark.parametrize(
    ("layer", "name"),
    [(fc.batch_norm(), "batch_norm"), (fc.layer_norm(last_axes=1), "layer_norm"), (fc.softmax(), "softmax"), (fc.erf(), "erf"),
     (fc.parallel(fc.identity(), fc.identity(), merge=fc.multiply()), "multiply"), (fc.pad((1, 1), value=2.0), "pad")],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_other_layers_have_no_penalty(layer, name):
    net = fc.compose(fc.conv2d(3, 3), layer)
    with pytest.raises(
        ValueError, match=rf"gradient_penalty\[1.*\] {name}: its second derivative is not known"
    ):
        fc.gradient_penalty(net, net.init(KEY, X.shape, np.float64), X)


def test_what_is_no_batch_has_no_penalty():
    for x in ({"x": X}, np.arange(3), np.zeros(())):
        with pytest.raises(TypeError, match="gradient_penalty: expected a floating-point array"):
            fc.gradient_penalty(fc.linear(1), (), x)
    with pytest.raises(ValueError, match="gradient_penalty: expected norm of 0 or more, got -1"):
        fc.gradient_penalty(fc.linear(1), (), X, norm=-1)
