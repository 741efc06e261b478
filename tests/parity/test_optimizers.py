"""Optimizers and schedules against torch.optim."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest
import torch

import fconv as fc
from fconv import schedules

STEPS = 100
SHAPES = {"w": (3, 2), "b": (2,)}
START = {n: fc.random.normal(fc.random.key(i), s, np.float64) for i, (n, s) in enumerate(SHAPES.items())}
NOISE = [
    {n: fc.random.normal(fc.random.fold_in(fc.random.key(7 + j), i), s, np.float64) for j, (n, s) in enumerate(SHAPES.items())}
    for i in range(STEPS)
]  # fmt: skip
BETAS = [(0.9, 0.999), (0.6, 0.8)]
ADAM = {"betas": BETAS, "eps": [1e-8, 1e-2], "amsgrad": [False, True]}
SWITCH = [False, True]

# Optimizer, torch's, and the values of every option they share but the learning rate.
OPTIMIZERS = [
    (fc.sgd, torch.optim.SGD, {
        "momentum": [0.0, 0.5, 0.9], "dampening": [0.0, 0.4], "weight_decay": [0.0, 0.1],
        "nesterov": SWITCH,
    }),
    (fc.adam, torch.optim.Adam, {**ADAM, "weight_decay": [0.0, 0.1]}),
    (fc.adamw, torch.optim.AdamW, {**ADAM, "weight_decay": [0.0, 1e-2]}),
    (fc.nadam, torch.optim.NAdam, {
        "betas": BETAS, "eps": [1e-8, 1e-2], "weight_decay": [0.0, 0.1],
        "momentum_decay": [4e-3, 0.1], "decoupled_weight_decay": SWITCH,
    }),
    (fc.rmsprop, torch.optim.RMSprop, {
        "alpha": [0.99, 0.6], "eps": [1e-8, 1e-2], "weight_decay": [0.0, 0.1],
        "momentum": [0.0, 0.9], "centered": SWITCH,
    }),
    (fc.adagrad, torch.optim.Adagrad, {
        "lr_decay": [0.0, 0.1], "weight_decay": [0.0, 0.1],
        "initial_accumulator_value": [0.0, 0.5], "eps": [1e-10, 1e-2],
    }),
    (fc.adadelta, torch.optim.Adadelta, {
        "rho": [0.9, 0.5], "eps": [1e-6, 1e-2], "weight_decay": [0.0, 0.1],
    }),
]  # fmt: skip


def combinations(values):
    """Every combination at one learning rate, and the defaults at others."""
    yield {}
    yield from ({"lr": lr, "maximize": maximize} for lr in (0.0, 3e-4, 0.3) for maximize in SWITCH)
    names = [*values, "maximize", "lr"]
    for chosen in itertools.product(*values.values(), SWITCH, [0.05]):
        options = dict(zip(names, chosen, strict=True))
        if not (options.get("nesterov") and (not options["momentum"] or options["dampening"])):
            yield options


CASES = [(ours, theirs, o) for ours, theirs, values in OPTIMIZERS for o in combinations(values)]


def gradients(params, i):
    """Gradients that depend on the parameters; now and then one is missing, from the first step on."""
    return {n: None if n == "b" and i % 7 in (0, 4) else 0.2 * p + NOISE[i][n] for n, p in params.items()}


@pytest.fixture(autouse=True)
def double():
    # torch keeps NAdam's product of momenta in its default dtype, whatever the parameters have.
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def tensors():
    return {n: torch.from_numpy(p.copy()) for n, p in START.items()}


def torch_step(optimizer, ours, theirs):
    for n, g in ours.items():
        theirs[n].grad = None if g is None else torch.from_numpy(g)
    optimizer.step()


def assert_close(params, theirs):
    for n, p in params.items():
        np.testing.assert_allclose(p, theirs[n].numpy(), rtol=1e-10, atol=1e-10, err_msg=n)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join([c[0].__name__, *map(str, c[2].values())]))
def test_a_hundred_steps_stay_with_torch(case):
    maker, theirs, options = case
    params, at = START, tensors()
    opt, optimizer = maker(**options), theirs(at.values(), **options, foreach=False)
    state = opt.init(params)
    for i in range(STEPS):
        grads = gradients(params, i)
        torch_step(
            optimizer,
            {n: g if g is None else 0.2 * at[n].numpy() + NOISE[i][n] for n, g in grads.items()},
            at,
        )
        params, state = opt.step(params, grads, state)
    assert_close(params, at)
    for n, own in state["leaves"].items():
        kept = optimizer.state[at[n]]
        for k in own.keys() & kept.keys():
            np.testing.assert_allclose(own[k], kept[k].numpy(), rtol=1e-9, atol=1e-10, err_msg=k)


@pytest.mark.parametrize(("maker", "theirs", "values"), OPTIMIZERS, ids=[c[0].__name__ for c in OPTIMIZERS])
def test_defaults_are_torchs(maker, theirs, values):
    ours, expected = (inspect.signature(f).parameters for f in (maker, theirs))
    assert [n for n in expected if n in ours and n != "maximize"] == [n for n in ours if n != "maximize"]
    assert {n: p.default for n, p in ours.items()} == {n: expected[n].default for n in ours}
    assert ours.keys() == {*values, "maximize", "lr"}


@pytest.mark.parametrize("maker", [fc.sgd, fc.adam, fc.adagrad])
def test_a_run_of_torchs_goes_on_here(maker):
    """The state of a parameter is what torch.optim keeps, under its names."""
    theirs = {fc.sgd: torch.optim.SGD, fc.adam: torch.optim.Adam, fc.adagrad: torch.optim.Adagrad}[maker]
    options = {"momentum": 0.9} if maker is fc.sgd else {}
    at = tensors()
    optimizer = theirs(at.values(), lr=0.05, **options)
    for i in range(5):
        torch_step(optimizer, NOISE[i], at)
    params = {n: p.numpy().copy() for n, p in at.items()}
    leaves = {
        n: {"step": 5, **{k: v.numpy().copy() for k, v in optimizer.state[p].items() if k != "step"}}
        for n, p in at.items()
    }
    opt, state = maker(0.05, **options), {"step": 5, "leaves": leaves}
    for i in range(5, 10):
        torch_step(optimizer, NOISE[i], at)
        params, state = opt.step(params, NOISE[i], state)
    assert_close(params, at)


@pytest.mark.parametrize("limit", [0.0, 0.5, 3.0, 1e6])
@pytest.mark.parametrize(
    ("wrap", "clip"),
    [
        (fc.clip_by_global_norm, torch.nn.utils.clip_grad_norm_),
        (fc.clip_by_value, torch.nn.utils.clip_grad_value_),
    ],
)
def test_clipped_gradients_are_torchs(wrap, clip, limit):
    opt = wrap(fc.sgd(0.1), limit)
    params, at = START, tensors()
    state = opt.init(params)
    for i in range(20):
        grads = gradients(params, i)
        for n, g in grads.items():
            at[n].grad = None if g is None else torch.from_numpy(g.copy())
        clip(at.values(), limit)
        expected = {n: p if at[n].grad is None else p - 0.1 * at[n].grad.numpy() for n, p in params.items()}
        params, state = opt.step(params, grads, state)
        for n, p in params.items():
            np.testing.assert_allclose(p, expected[n], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999, 1.0])
def test_averages_are_torchs(decay):
    from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

    layer = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    net = fc.compose(fc.linear(2), fc.batch_norm())
    params = fc.from_state_dict(net.init(fc.random.key(0), (4, 3), np.float64), layer.state_dict())
    opt = fc.ema(fc.sgd(0.1), decay=decay)
    state, optimizer = opt.init(params), torch.optim.SGD(layer.parameters(), lr=0.1)
    average = AveragedModel(layer, avg_fn=get_ema_avg_fn(decay))
    average.update_parameters(layer)  # its first call copies
    loss_and_grad = fc.value_and_grad(net, fc.mse_loss())
    for i in range(20):
        x = fc.random.normal(fc.random.key(i), (4, 3), np.float64)
        _, grads, params = loss_and_grad(params, x, x[:, :2])
        params, state = opt.step(params, grads, state)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(layer(torch.from_numpy(x)), torch.from_numpy(x[:, :2])).backward()
        optimizer.step()
        average.update_parameters(layer)
    expected = average.module.state_dict()
    for n, value in fc.to_state_dict(fc.ema_params(state)).items():
        np.testing.assert_allclose(value, expected[n].numpy(), rtol=1e-10, atol=1e-12, err_msg=n)


S = torch.optim.lr_scheduler
CYCLES = [
    {"pct_start": pct, "anneal_strategy": anneal, "div_factor": div, "final_div_factor": final, "three_phase": phases}
    for pct, anneal, div, final, phases in itertools.product(
        [0.0, 0.25, 0.3, 1.0], ["cos", "linear"], [25.0, 4.0], [1e4, 1.0], SWITCH
    )
]  # fmt: skip
SCHEDULES = [
    *((schedules.step(0.3, n, gamma=g), lambda o, n=n, g=g: S.StepLR(o, n, g)) for n in (1, 7) for g in (0.1, 0.5)),
    *((schedules.multistep(0.3, m, gamma=g), lambda o, m=m, g=g: S.MultiStepLR(o, m, g))
      for m in ([5, 30], [9, 9, 2], []) for g in (0.1, 0.5)),
    *((schedules.exponential(0.3, g), lambda o, g=g: S.ExponentialLR(o, g)) for g in (0.9, 1.0)),
    *((schedules.cosine(0.3, n, eta_min=m), lambda o, n=n, m=m: S.CosineAnnealingLR(o, n, m))
      for n in (60, 17, 1) for m in (0.0, 0.01)),
    *((schedules.polynomial(0.3, n, p), lambda o, n=n, p=p: S.PolynomialLR(o, n, p))
      for n in (60, 5) for p in (0.5, 1.0, 2)),
    *((schedules.linear(0.3, start_factor=a, end_factor=b, total_iters=n), lambda o, a=a, b=b, n=n: S.LinearLR(o, a, b, n))
      for a in (1 / 3, 1.0) for b in (1.0, 0.2) for n in (5, 60)),
    *((schedules.one_cycle(0.3, 60, **c), lambda o, c=c: S.OneCycleLR(o, 0.3, 60, **c)) for c in CYCLES),
    (schedules.join([schedules.linear(0.3, start_factor=0.1, end_factor=1.0, total_iters=10), schedules.cosine(0.3, 50)], [10]),
     lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.1, 1.0, 10), S.CosineAnnealingLR(o, 50)], [10])),
    (schedules.join([schedules.constant(0.3), schedules.exponential(0.3, 0.9), schedules.step(0.3, 4)], [3, 20]),
     lambda o: S.SequentialLR(o, [S.ConstantLR(o, 1.0), S.ExponentialLR(o, 0.9), S.StepLR(o, 4)], [3, 20])),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "make"), SCHEDULES)
def test_schedules_are_torchs(schedule, make):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3, momentum=0.9)
    scheduler = make(optimizer)
    closed = getattr(scheduler, "_get_closed_form_lr", None)
    for count in range(60):
        # torch's recursions drift from its closed forms.
        np.testing.assert_allclose(schedule(count), scheduler.get_last_lr()[0], rtol=1e-9, atol=1e-15)
        if closed:
            np.testing.assert_allclose(schedule(count), closed()[0], rtol=1e-14, atol=1e-16)
        optimizer.step()
        if count < 59:
            scheduler.step()


def test_a_schedule_drives_the_same_run():
    cycle = {"pct_start": 0.2, "three_phase": True}
    params, at = START, tensors()
    opt = fc.adamw(schedules.one_cycle(0.05, 60, **cycle))
    optimizer = torch.optim.AdamW(at.values(), lr=0.05)
    scheduler = S.OneCycleLR(optimizer, 0.05, 60, cycle_momentum=False, **cycle)
    state = opt.init(params)
    for i in range(60):
        torch_step(optimizer, NOISE[i], at)
        params, state = opt.step(params, NOISE[i], state)
        scheduler.step()
    assert_close(params, at)
