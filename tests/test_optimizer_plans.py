"""Steps of arrays like those of a step before are planned: each parameter moves as it would alone."""

import numpy as np
import pytest

import fconv as fc
from tests.convolutions import channels_last

OPTIMIZERS = {
    "sgd": lambda: fc.sgd(lr=0.1),
    "momentum": lambda: fc.sgd(lr=0.1, momentum=0.9, weight_decay=0.01),
    "schedule": lambda: fc.sgd(lr=lambda step: 0.1 / (1 + step), momentum=0.9),
    "adam": lambda: fc.adam(lr=0.01),
    "lion": lambda: fc.lion(lr=0.01),
    "rmsprop": lambda: fc.rmsprop(lr=0.01, momentum=0.5, centered=True),
    "nadam": lambda: fc.nadam(lr=0.01),
}
SHAPES = ((3,), (4, 3, 3, 3), (5, 2, 1, 1), (), (1,), (40, 1000))


def drawn(seed, dtype="float32", last=False):
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]
    return tuple({"weight": channels_last(x) if last and x.ndim == 4 else x} for x in arrays)


def same(a, b):
    ours, theirs = dict(fc.trees.leaves_with_path(a)), dict(fc.trees.leaves_with_path(b))
    assert list(ours) == list(theirs)  # entries of a state in the same order, as files list them
    for path, x in ours.items():
        y = theirs[path]
        assert type(x) is type(y), path
        assert np.array_equal(x, y, equal_nan=True), path
        assert getattr(x, "dtype", None) == getattr(y, "dtype", None), path


def alone(make, params, grads, state):
    """Step each parameter by an optimizer of its own, which has seen no step before."""
    found = []
    for p, g, own in zip(params, grads, state["leaves"], strict=True):
        new, after = make().step((p,), (g,), {"step": state["step"], "leaves": (own,)})
        found.append((new[0], after["leaves"][0]))
    return tuple(p for p, _ in found), {"step": state["step"] + 1, "leaves": tuple(o for _, o in found)}


def follow(make, change, steps=5):
    """Take steps, of which `change(i, params, grads, state)` alters what is given; all as each alone."""
    opt, params = make(), drawn(0)
    state = opt.init(params)
    for i in range(steps):
        given = change(i, params, drawn(i + 1), state)
        kept = fc.trees.map(np.copy, given)
        expected = alone(make, *given)
        params, state = opt.step(*given)
        same((params, state), expected)
        same(fc.trees.map(np.copy, given), kept)  # nothing was written to


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_later_steps_are_those_of_each_parameter_alone(name):
    follow(OPTIMIZERS[name], lambda i, p, g, state: (p, g, state))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_some_parameters_have_no_gradient_in_some_steps(name):
    def change(i, p, g, state):
        return p, tuple({"weight": None} if i % 2 and k < 3 else each for k, each in enumerate(g)), state

    follow(OPTIMIZERS[name], change)


def test_no_parameter_has_a_gradient():
    follow(OPTIMIZERS["momentum"], lambda i, p, g, state: (p, (None,) * len(p) if i == 3 else g, state))


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_gradients_and_states_may_lie_otherwise_in_a_later_step(name):
    def unaligned(x):
        memory = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        memory[...] = x
        return memory

    def change(i, p, g, state):
        if i == 2:
            g = drawn(i + 1, last=True)
        if i == 3:
            g = tuple({"weight": unaligned(each["weight"])} for each in g)
        if i == 4:
            g = tuple({"weight": np.repeat(each["weight"][..., None], 2, -1)[..., 0]} for each in g)
        if i == 5:
            state = fc.trees.map(lambda x: x.copy() if np.ndim(x) else x, state)
            turned = [dict(reversed(own["weight"].items())) for own in state["leaves"]]
            state["leaves"] = tuple({"weight": own} for own in turned)
        return p, g, state

    follow(OPTIMIZERS[name], change, 7)


def with_first(state, **entries):
    """Return a state with other entries of the first parameter."""
    first, *rest = state["leaves"]
    return {**state, "leaves": ({"weight": {**first["weight"], **entries}}, *rest)}


class Mapped(np.ndarray):
    """Numbers in a file, as numpy.memmap."""


def test_a_number_may_be_an_array_of_another_class_in_a_later_step():
    def change(i, p, g, state):
        if i == 2:
            number = state["leaves"][0]["weight"]["mu_product"]
            state = with_first(state, mu_product=np.array(number).view(Mapped))
        return p, g, state

    follow(OPTIMIZERS["nadam"], change)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_parameters_may_have_taken_different_numbers_of_steps(name):
    def change(i, p, g, state):
        if i == 2:
            state = with_first(state, step=7)
        if i == 3:
            state = with_first(state, step=np.array(7))
        return p, g, state

    follow(OPTIMIZERS[name], change)


def test_another_dtype_comes_between():
    opt = OPTIMIZERS["momentum"]()
    for dtype in ("float32", "float64", "float32", "float16", "float64"):
        params, grads = drawn(0, dtype), drawn(1, dtype)
        state = opt.init(params)
        same(opt.step(params, grads, state), alone(OPTIMIZERS["momentum"], params, grads, state))


def test_networks_in_turn_with_one_optimizer():
    opt = OPTIMIZERS["adam"]()
    networks = [drawn(seed)[: seed + 1] for seed in range(6)]
    states = [opt.init(p) for p in networks]
    for i in range(3):
        for k, params in enumerate(networks):
            grads = drawn(i + 9)[: k + 1]
            expected = alone(OPTIMIZERS["adam"], params, grads, states[k])
            networks[k], states[k] = opt.step(params, grads, states[k])
            same((networks[k], states[k]), expected)


def test_numpy_takes_over_where_kernels_are_not_wished(monkeypatch):
    opt = OPTIMIZERS["adam"]()
    params, grads = drawn(0), drawn(1)
    state = opt.init(params)
    for wished in ("1", "1", "0", "1"):
        monkeypatch.setenv("FCONV_JIT", wished)
        found = opt.step(params, grads, state)
        expected = alone(OPTIMIZERS["adam"], params, grads, state)
        for x, y in zip(fc.trees.leaves(found), fc.trees.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6)


class Other:
    """An array of another library, which only names itself."""


FAULTS = {
    "shape": "expected a gradient of float32", "dtype": "expected a gradient of float32",
    "missing": "trees differ", "kind": "expected a state that its init gave",
    "list": "0.weight", "other": "0.weight",
    "kept": "momentum_buffer of 0.weight must be", "foreign": "momentum_buffer of 0.weight must be",
    "number": "0.weight must be a NumPy or CuPy array, got float",
    "parameter": "0.weight must be a NumPy or CuPy array, got tests",
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_first_step_refuses_a_later_one_does_too(fault):
    opt = OPTIMIZERS["momentum"]()
    params, grads = drawn(0), drawn(1)
    state = opt.init(params)
    for _ in range(3):
        params, state = opt.step(params, grads, state)
    wrong = {
        "shape": (params, ({"weight": np.ones(4, "f")}, *grads[1:]), state),
        "dtype": (params, ({"weight": np.ones(3)}, *grads[1:]), state),
        "missing": (params, grads[1:], state),
        "kind": (params, grads, {**state, "leaves": ({"weight": {"step": 1}}, *state["leaves"][1:])}),
        "list": (params, ({"weight": [1.0, 1.0, 1.0]}, *grads[1:]), state),
        "other": (params, ({"weight": Other()}, *grads[1:]), state),
        "kept": (params, grads, with_first(state, momentum_buffer=[1.0, 1.0, 1.0])),
        "foreign": (params, grads, with_first(state, momentum_buffer=Other())),
        "number": (({"weight": 1.0}, *params[1:]), grads, state),
        "parameter": (({"weight": Other()}, *params[1:]), grads, state),
    }[fault]
    errors = []
    for made in (opt, OPTIMIZERS["momentum"]()):
        with pytest.raises((ValueError, TypeError)) as error:
            made.step(*wrong)
        errors.append((type(error.value), str(error.value)))
    assert FAULTS[fault] in errors[0][1]
    assert errors[0] == errors[1]
