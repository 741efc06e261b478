"""Compare a module, the network read from it, and the module made from that."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

import fconv as fc


class Of(nn.Module):
    """A module of parts, whose forward is a function of the module and its inputs."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def drawn(shape, seed=1):
    """Draw float64 inputs: one, or several by name."""
    if isinstance(shape, dict):
        return {name: drawn(s, seed + i) for i, (name, s) in enumerate(shape.items())}
    return fc.random.normal(fc.random.key(seed), shape, np.float64)


def shaken(module):
    """Move parameters and statistics off the special values that norms start with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.3 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
    return module


def by_name(outputs):
    """Name the outputs of a module as `from_torch` names them."""
    if isinstance(outputs, (tuple, list)):
        return {f"output{i}": y for i, y in enumerate(outputs)}
    return outputs if isinstance(outputs, dict) else {"": outputs}


def run(module, x, train, call=None):
    """Return outputs, gradients of the outputs, of inputs and of parameters, and the state afterwards."""
    module = copy.deepcopy(module).train(train)
    named = x if isinstance(x, dict) else {"": x}
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in named.items()}
    # In-place operations are not allowed on leaves.
    entering = {name: tensor * 1 for name, tensor in tensors.items()}
    if call is not None:
        result = call(module, entering)
    else:
        result = module(**entering) if isinstance(x, dict) else module(entering[""])
    outputs = by_name(result)
    gs = {name: drawn(tuple(y.shape), 7 + i) for i, (name, y) in enumerate(outputs.items())}
    sum((y * torch.from_numpy(gs[name])).sum() for name, y in outputs.items()).backward()
    return (
        {name: y.detach().numpy() for name, y in outputs.items()},
        gs,
        {name: tensor.grad for name, tensor in tensors.items()},
        {name: p.grad for name, p in module.named_parameters()},
        module.state_dict(),
    )


def check_network(net, params, module, x, train, call=None, scaled=False):
    """Compare a network with a module: outputs, gradients, running statistics.

    With `scaled`, gradients may differ by 1e-8 of the largest, for deep networks whose gradients
    of biases before a norm are rounding around 0.
    """
    outputs, gs, input_grads, grads, state = run(module, x, train, call)
    y, refreshed, pullback = net.forward(params, x, train=train, key=fc.random.key(0))
    lone = "" in outputs
    ys = {"": y} if lone else y
    assert ys.keys() == outputs.keys()
    for name, expected in outputs.items():
        scale = abs(expected).max() if scaled else 1.0
        np.testing.assert_allclose(ys[name], expected, rtol=1e-10, atol=1e-10 * scale, err_msg=name)
    largest = max(float(g.abs().max()) for g in [*grads.values(), *input_grads.values()] if g is not None)
    slack = 1e-8 * (largest if scaled else 1.0)
    dparams, dx = pullback(gs[""] if lone else gs)
    for name, g in (dx if isinstance(dx, dict) else {"": dx}).items():
        expected = input_grads[name].numpy()
        np.testing.assert_allclose(g, expected, rtol=1e-8, atol=slack, err_msg=name)
    found = {".".join(path): g for path, _, g in fc.trees.aligned(params, dparams)}
    trained = {name: g for name, g in found.items() if g is not None}
    assert trained.keys() == grads.keys()
    for name, g in trained.items():
        expected = np.zeros_like(g) if grads[name] is None else grads[name].numpy()
        np.testing.assert_allclose(g, expected, rtol=1e-8, atol=slack, err_msg=name)
    for name, value in fc.to_state_dict(refreshed).items():
        np.testing.assert_allclose(value, state[name].numpy(), rtol=1e-10, atol=1e-12, err_msg=name)


def same_bits(ours, theirs):
    """Require state dicts of the same names, dtypes, shapes and bits."""
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name], tensor), name


def check_both_ways(module, shape, given=None, call=None, modes=(False, True), back=True):
    """Read a module, compare, make a module of the network, compare, and read that again.

    Parameters
    ----------
    module : torch.nn.Module
        With one name for each tensor.
    shape : tuple of int, or dict of them
        Of the inputs to compare on.
    given : tuple of int, optional
        What `from_torch` is told of the shape.
    call : callable, optional
        How the module is called with its inputs by name, if not with keywords.
    modes : sequence of bool
        train= to compare in.
    back : bool
        Make a module again.

    Returns
    -------
    Layer
        The network.
    """
    module = shaken(module.double())
    before = copy.deepcopy(module.state_dict())
    net, params = fc.from_torch(module, given)
    x = drawn(shape)
    same_bits(fc.to_torch(params), before)
    for train in modes:
        check_network(net, params, module, x, train, call)
    same_bits(module.state_dict(), before)
    if back:
        again = fc.to_torch_module(net, params, shape)
        same_bits(again.state_dict(), before)
        for train in modes:
            check_network(net, params, again, x, train)
        third, third_params = fc.from_torch(again, given)
        same_bits(fc.to_torch(third_params), before)
        for train in modes:
            check_network(third, third_params, module, x, train, call)
    return net
