"""Runs of torch.optim that go on here, and runs of ours that go on there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import fconv as fc

SHAPES = {"a.weight": (3, 2), "b.weight": (3, 2), "a.bias": (2,)}
START = {n: fc.random.normal(fc.random.key(i), s, np.float64) for i, (n, s) in enumerate(SHAPES.items())}
NOISE = [
    {
        n: fc.random.normal(fc.random.fold_in(fc.random.key(9 + j), i), s, np.float64)
        for j, (n, s) in enumerate(SHAPES.items())
    }
    for i in range(40)
]
ORDER = ["b.weight", "a.bias", "a.weight"]
"""As torch.optim gets them, which is not the order of the tree; two have one shape."""

CASES = [
    (fc.sgd, torch.optim.SGD, {}),
    (fc.sgd, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (fc.sgd, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "maximize": True}),
    (fc.adam, torch.optim.Adam, {}),
    (fc.adam, torch.optim.Adam, {"amsgrad": True, "weight_decay": 0.1, "betas": (0.8, 0.9)}),
    (fc.adamw, torch.optim.AdamW, {}),
    (fc.adamw, torch.optim.AdamW, {"amsgrad": True, "weight_decay": 0.1}),
    (fc.nadam, torch.optim.NAdam, {"momentum_decay": 0.1}),
    (fc.rmsprop, torch.optim.RMSprop, {}),
    (fc.rmsprop, torch.optim.RMSprop, {"momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    (fc.adagrad, torch.optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    (fc.adadelta, torch.optim.Adadelta, {}),
]  # fmt: skip
IDS = ["-".join([ours.__name__, *map(str, options.values())]) for ours, _, options in CASES]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def nested(flat):
    """The same parameters as a tree."""
    return {
        "a": {"weight": flat["a.weight"], "bias": flat["a.bias"]},
        "b": {"weight": flat["b.weight"], "running_mean": np.zeros(2)},
    }


def gradients(flat, i):
    """Gradients that depend on the parameters; that of a.bias is missing at every third step."""
    found = {n: 0.2 * p + NOISE[i][n] for n, p in flat.items() if n in SHAPES}
    return {**found, "a.bias": None if i % 3 == 0 else found["a.bias"]}


def ours_step(opt, params, state, i):
    grads = nested(gradients(fc.to_state_dict(params), i))
    grads["b"]["running_mean"] = None
    return opt.step(params, grads, state)


def torch_steps(optimizer, at, steps):
    for i in steps:
        for n, g in gradients({n: p.numpy() for n, p in at.items()}, i).items():
            at[n].grad = None if g is None else torch.from_numpy(g)
        optimizer.step()


def tensors(flat):
    return {n: torch.from_numpy(np.array(flat[n])) for n in SHAPES}


def assert_close(params, at):
    for n, p in fc.to_state_dict(params).items():
        if n in at:
            np.testing.assert_allclose(p, at[n].numpy(), rtol=1e-12, atol=1e-12, err_msg=n)


def optimizer_of(case, at, named=False):
    _, theirs, options = case
    given = [(n, at[n]) if named else at[n] for n in ORDER]
    return theirs(given, lr=0.05, **options)


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("by_file", [False, True])
def test_a_run_of_torchs_goes_on_here(case, named, by_file, tmp_path):
    at = tensors(START)
    optimizer = optimizer_of(case, at, named)
    torch_steps(optimizer, at, range(20))
    params, found = nested({n: p.numpy().copy() for n, p in at.items()}), optimizer.state_dict()
    if by_file:
        torch.save(found, tmp_path / "optimizer.pt")
        found = fc.load(tmp_path / "optimizer.pt")
    opt = case[0](0.05, **case[2])
    state = fc.from_optimizer_state_dict(opt, params, found, names=None if named else ORDER)
    torch_steps(optimizer, at, range(20, 40))
    for i in range(20, 40):
        params, state = ours_step(opt, params, state, i)
    assert_close(params, at)


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize("first", [0, 1, 20])
def test_a_run_of_ours_goes_on_in_torch(case, by_file, first, tmp_path):
    opt, params = case[0](0.05, **case[2]), nested(START)
    state = opt.init(params)
    for i in range(first):
        params, state = ours_step(opt, params, state, i)
    found = fc.to_optimizer_state_dict(opt, params, state, names=ORDER)
    if by_file:
        fc.save(tmp_path / "optimizer.pt", found)
        found = torch.load(tmp_path / "optimizer.pt")
    else:
        found = fc.to_torch(found)
    at = tensors(fc.to_state_dict(params))
    optimizer = optimizer_of(case, at)
    optimizer.load_state_dict(found)
    torch_steps(optimizer, at, range(first, first + 20))
    for i in range(first, first + 20):
        params, state = ours_step(opt, params, state, i)
    assert_close(params, at)


def test_groups_have_rates_and_decays_of_their_own():
    at = tensors(START)
    groups = [
        {"params": [at["b.weight"], at["a.weight"]], "lr": 0.1, "weight_decay": 0.3},
        {"params": [at["a.bias"]], "weight_decay": 0.0},
    ]
    names = [["b.weight", "a.weight"], ["a.bias"]]
    optimizer = torch.optim.AdamW(groups, lr=0.02)
    torch_steps(optimizer, at, range(20))
    params = nested({n: p.numpy().copy() for n, p in at.items()})
    inner = fc.by_name(
        {
            "*.running_mean": None,
            "*.bias": fc.adamw(0.02, weight_decay=0.0),
            "*": fc.adamw(0.1, weight_decay=0.3),
        }
    )
    for opt in (inner, fc.clip_by_global_norm(inner, 1e9), fc.ema(inner), fc.accumulate_gradients(inner, 1)):
        state = fc.from_optimizer_state_dict(opt, params, optimizer.state_dict(), names=names)
        again = fc.to_optimizer_state_dict(opt, params, state, names=names)
        beside = tensors(fc.to_state_dict(params))
        other = torch.optim.AdamW([{"params": [beside[n] for n in group]} for group in names])
        other.load_state_dict(fc.to_torch(again))
        torch_steps(other, beside, range(20, 40))
        moved = params
        for i in range(20, 40):
            moved, state = ours_step(opt, moved, state, i)
        assert_close(moved, beside)
    torch_steps(optimizer, at, range(20, 40))
    assert_close(moved, at)


def test_a_module_goes_on_by_the_names_of_its_state_dict():
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    net = fc.compose(fc.linear(3), fc.batch_norm(), fc.linear(3))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    opt = fc.sgd(0.1, momentum=0.9)
    x = fc.random.normal(fc.random.key(1), (5, 3), np.float64)

    def torch_step():
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(x)).backward()
        optimizer.step()

    for _ in range(3):
        torch_step()
    params = fc.from_state_dict(net.init(fc.random.key(0), x.shape, np.float64), module.state_dict())
    state = fc.from_optimizer_state_dict(opt, params, optimizer.state_dict(), names=module.state_dict())
    loss_and_grad = fc.value_and_grad(net, fc.mse_loss())
    for _ in range(3):
        torch_step()
        _, grads, params = loss_and_grad(params, x, x)
        params, state = opt.step(params, grads, state)
    expected = module.state_dict()
    for n, p in fc.to_state_dict(params).items():
        np.testing.assert_allclose(p, expected[n].numpy(), 1e-11, 1e-11, err_msg=n)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_options_that_differ_are_listed(case):
    at = tensors(START)
    optimizer = optimizer_of(case, at)
    torch_steps(optimizer, at, range(2))
    opt = case[0](0.07, **{**case[2], "weight_decay": 0.25})
    params = nested(START)
    with pytest.raises(ValueError, match="options differ") as caught:
        fc.from_optimizer_state_dict(opt, params, optimizer.state_dict(), names=ORDER)
    assert "param_groups[0]: lr: expected 0.07, as of opt, got 0.05" in str(caught.value)
    assert "param_groups[0]: weight_decay: expected 0.25, as of opt, got" in str(caught.value)
    state = fc.from_optimizer_state_dict(opt, params, optimizer.state_dict(), names=ORDER, strict=False)
    ours_step(opt, params, state, 2)


def test_the_rate_is_that_of_the_schedule():
    at = tensors(START)
    optimizer = torch.optim.Adam([at[n] for n in ORDER], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    params = nested(START)
    for i in range(20):
        torch_steps(optimizer, at, [i])
        schedule.step()
    opt = fc.adam(fc.schedules.cosine(0.3, 50))
    params = nested({n: p.numpy().copy() for n, p in at.items()})
    state = fc.from_optimizer_state_dict(opt, params, optimizer.state_dict(), names=ORDER)
    for i in range(20, 40):
        torch_steps(optimizer, at, [i])
        schedule.step()
        params, state = ours_step(opt, params, state, i)
    assert_close(params, at)
    written = fc.to_optimizer_state_dict(opt, params, state, names=ORDER)
    assert written["param_groups"][0]["lr"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


def test_adam_and_adamw_are_told_apart():
    at = tensors(START)
    for ours, theirs in itertools.permutations((("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW))):
        optimizer = theirs[1]([at[n] for n in ORDER], lr=0.05, weight_decay=0.1)
        torch_steps(optimizer, at, range(2))
        opt = getattr(fc, ours[0])(0.05, weight_decay=0.1)
        with pytest.raises(ValueError, match="decoupled_weight_decay: expected"):
            fc.from_optimizer_state_dict(opt, nested(START), optimizer.state_dict(), names=ORDER)
