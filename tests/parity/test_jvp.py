"""Forward mode, Gauss-Newton products and gradient penalties against torch.func and double backward."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fconv as fc
from fconv import functional as F
from fconv import random, trees
from fconv.testing import strategies as fst
from fconv.testing.purity import check_close
from tests.cases import CASES
from tests.data.record import torch_function
from tests.test_jvp import tangents_of
from tests.test_jvp_networks import tangent_of

# What torch.func.jvp imports the first time it is called.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

SAMPLE = [
    "adaptive_max_pool2d", "avg_pool2d", "batch_norm", "bilinear", "celu", "conv2d", "conv3d",
    "conv_transpose2d", "cosine_embedding_loss", "cross_entropy", "cumprod", "gelu", "glu", "group_norm",
    "huber_loss", "instance_norm", "interpolate", "kl_div", "layer_norm", "linear", "log_softmax",
    "logsumexp", "lp_pool2d", "max_pool2d", "mish", "normalize", "pad", "pixel_shuffle", "prelu", "softmax",
    "std", "triplet_margin_loss", "unfold",
]  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
@settings(max_examples=6)
@given(data=st.data(), key=fst.keys())
def test_functions_have_pytorchs_tangents(name, data, key):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    assume(np.isfinite(function(*args, **options)).all())
    assume(name != "prelu" or args[0].all())  # at 0 torch's two modes differ from each other
    tangents = tangents_of(function, args, options, key)
    parameters = list(inspect.signature(function).parameters)
    moved = {parameters.index(a): t for a, t in zip(function.arrays, tangents, strict=True) if t is not None}
    assume(all(place < len(args) for place in moved))

    def tensor(a):
        return torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a

    def theirs(*xs):
        held = [tensor(a) for a in args]
        for place, x in zip(moved, xs, strict=True):
            held[place] = x
        return torch_function(name)(*held, **{k: tensor(v) for k, v in options.items()})

    primals = tuple(tensor(args[place]) for place in moved)
    try:
        _, dy = torch.func.jvp(theirs, primals, tuple(map(tensor, moved.values())))
    except RuntimeError:  # torch refuses some empty batches, where only the shape can be compared
        if all(primal.numel() for primal in primals):
            raise
        assert function.jvp(tangents, *args, **options).shape == function(*args, **options).shape
        return
    ours = function.jvp(tangents, *args, **options)
    assume(np.isfinite(ours).all() and torch.isfinite(dy).all())
    check_close(name, "the tangents of fconv and torch", ours, dy.numpy(), 1e-10, 1.0)


def networks():
    conv = fc.conv2d(4, 3, padding=1)
    return {
        "chain": fc.compose(conv, fc.batch_norm(), fc.relu(), fc.max_pool2d(2), fc.flatten(), fc.linear(3)),
        "residual": fc.residual(fc.compose(conv, fc.group_norm(2), fc.silu(), fc.conv2d(3, 3, padding=1))),
        "branches": fc.parallel(conv, fc.compose(fc.conv2d(2, 1), fc.tanh())),
    }


def called(net, params):
    """Return PyTorch's function of a dict of parameters and an input, and the parameters."""
    module = fc.to_torch_module(net, params).double()
    module.train()
    state = {k: v.detach().double() for k, v in module.named_parameters()}
    buffers = {k: v.clone() for k, v in module.named_buffers()}

    def function(own, x):
        return torch.func.functional_call(module, {**own, **{k: v.clone() for k, v in buffers.items()}}, (x,))

    return function, state


@pytest.mark.parametrize("name", networks())
def test_networks_have_pytorchs_tangents(name):
    net = networks()[name]
    x = random.normal(random.key(0), (2, 3, 6, 6), np.float64)
    params = net.init(random.key(1), x.shape, np.float64)
    function, state = called(net, params)
    y, dparams = net.apply(params, x, train=True), net.vjp(params, x, net.apply(params, x), train=True)[0]
    moved = tangent_of(dparams, random.key(2))
    dx = random.normal(random.key(3), x.shape, np.float64)
    by_name = {".".join(path): torch.from_numpy(t) for path, t in trees.leaves_with_path(moved)}
    theirs, dtheirs = torch.func.jvp(
        function, (state, torch.from_numpy(x)), ({k: by_name[k] for k in state}, torch.from_numpy(dx))
    )
    ours, dours = fc.jvp(net, params, x, moved, dx, train=True)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-11)
    np.testing.assert_allclose(dours, dtheirs.numpy(), atol=1e-10)
    np.testing.assert_array_equal(ours, y)


def test_columns_are_those_of_jacrev():
    net = networks()["chain"]
    x = random.normal(random.key(0), (2, 3, 4, 4), np.float64)
    params = net.init(random.key(1), x.shape, np.float64)
    function, state = called(net, params)
    theirs = torch.func.jacrev(lambda x: function(state, x))(torch.from_numpy(x)).numpy().reshape(6, x.size)
    columns = [
        fc.jvp(net, params, x, None, e.reshape(x.shape), train=True)[1].ravel() for e in np.eye(x.size)
    ]
    np.testing.assert_allclose(np.stack(columns, axis=1), theirs, atol=1e-11)


@pytest.mark.parametrize(
    "act", [fc.leaky_relu(0.2), fc.tanh(), fc.gelu(), fc.softplus()], ids=lambda a: a.name
)
def test_penalties_are_those_of_double_backward(act):
    net = fc.compose(
        fc.conv2d(4, 3, stride=2, padding=1), act, fc.conv2d(6, 3), act, fc.flatten(), fc.linear(1)
    )
    x = random.normal(random.key(0), (3, 2, 8, 8), np.float64)
    params = net.init(random.key(1), x.shape, np.float64)
    function, state = called(net, params)
    leaves = {k: v.clone().requires_grad_() for k, v in state.items()}
    points = torch.from_numpy(x).requires_grad_()
    (g,) = torch.autograd.grad(function(leaves, points).sum(), points, create_graph=True)
    theirs = ((g.flatten(1).norm(dim=1) - 1) ** 2).mean()
    theirs.backward()
    penalty, grads = fc.gradient_penalty(net, params, x)
    np.testing.assert_allclose(penalty, theirs.item(), rtol=1e-12)
    for path, grad in trees.leaves_with_path(grads):
        expected = leaves[".".join(path)].grad
        np.testing.assert_allclose(grad, 0 if expected is None else expected.numpy(), atol=1e-11)
