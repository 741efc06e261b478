"""Optimizers against their rules number by number, what wraps them, and schedules."""

from __future__ import annotations

import functools
import inspect
import re

import numpy as np
import pytest

import fconv as fc
from fconv import schedules
from fconv.engine import compiled
from fconv.optimizers import passes
from fconv.testing.purity import call_purely, copied, same_bits
from tests.naive import optimizers as naive

GRADS = [0.5, -1.0, 2.0, 0.25, 0.0, -0.125, 3.0]
BETAS = {"betas": (0.8, 0.95), "eps": 1e-3}


def lr(count):
    return 0.1 / (1 + count)


# Optimizer, its options, and those under other names in the loop of numbers.
RULES = [
    *((fc.sgd, o, "sgd") for o in [
        {}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.9, "nesterov": True},
    ]),
    (fc.lion, {"betas": (0.7, 0.9)}, "lion"),
    *((f, o, "adam") for f in (fc.adam, fc.adamw) for o in [BETAS, {**BETAS, "amsgrad": True}]),
    (fc.nadam, {**BETAS, "momentum_decay": 0.1}, "nadam"),
    (fc.nadam, {**BETAS, "momentum_decay": 0.1, "decoupled_weight_decay": True}, "nadam"),
    *((fc.rmsprop, {"alpha": 0.8, "eps": 1e-3, **o}, "rmsprop") for o in [
        {}, {"centered": True}, {"momentum": 0.9}, {"momentum": 0.9, "centered": True},
    ]),
    (fc.adagrad, {"lr_decay": 0.2, "initial_accumulator_value": 0.1, "eps": 1e-3}, "adagrad"),
    (fc.adadelta, {"rho": 0.8, "eps": 1e-3}, "adadelta"),
]  # fmt: skip
MAKERS = [fc.sgd, fc.lion, fc.adam, fc.adamw, fc.nadam, fc.rmsprop, fc.adagrad, fc.adadelta]
# With all that any of them keeps.
FULL = [
    fc.sgd(0.1, momentum=0.9), fc.lion(), fc.adam(amsgrad=True), fc.adamw(), fc.nadam(),
    fc.rmsprop(momentum=0.9, centered=True), fc.adagrad(lr_decay=0.1), fc.adadelta(),
]  # fmt: skip
WRAPPED = [
    *FULL,
    fc.clip_by_global_norm(fc.adam(), 0.5), fc.clip_by_value(fc.adam(), 0.5),
    fc.accumulate_gradients(fc.nadam(schedules.cosine(0.1, 9)), 3), fc.ema(fc.sgd(0.1, momentum=0.9), decay=0.9),
    fc.accumulate_gradients(fc.ema(fc.clip_by_global_norm(fc.adam(), 1.0)), 2),
]  # fmt: skip


def name(value):
    return value.name if isinstance(value, fc.Optimizer) else getattr(value, "__name__", None)


def tree_of(i, dtype=np.float32):
    """Parameters, or gradients, of several shapes; one of no axes, one of no elements."""
    key = fc.random.fold_in(fc.random.key(5), i)
    shapes = {"w": (3, 2), "b": (2,), "scale": (), "empty": (0, 4)}
    drawn = {
        n: fc.random.normal(fc.random.fold_in(key, j), s, dtype) for j, (n, s) in enumerate(shapes.items())
    }
    return ({**drawn, "v": drawn["w"].T}, [drawn["b"]])


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(("maker", "options", "loop"), RULES, ids=name)
def test_every_optimizer_follows_its_rule(maker, options, loop, maximize, weight_decay):
    opt = maker(lr, **options, weight_decay=weight_decay, maximize=maximize)
    decoupled = maker in (fc.adamw, fc.lion) or options.get("decoupled_weight_decay")
    sign, coupled = (-1 if maximize else 1), (0 if decoupled else weight_decay)
    slopes = [lambda p, g=g: sign * g + coupled * p for g in GRADS]
    known = inspect.signature(reference := getattr(naive, loop)).parameters
    theirs = {k: v for k, v in options.items() if k in known}
    if decoupled:
        theirs["decay"] = weight_decay
    expected = reference(1.5, slopes, lr=lr, **theirs)
    params = {"w": np.array([1.5]), "stat": np.array([7])}
    state = opt.init(params)
    for g in GRADS:
        tree = {"w": np.array([g]), "stat": None}
        params, state = call_purely(opt.name, opt.step, params, tree, state)
    np.testing.assert_allclose(params["w"], [expected], rtol=1e-12)
    assert params["stat"].dtype == int
    assert params["stat"] == 7
    assert state["step"] == state["leaves"]["w"]["step"] == len(GRADS)
    assert state["leaves"]["stat"] == opt.init(params)["leaves"]["stat"]


@pytest.mark.parametrize("opt", WRAPPED, ids=name)
def test_steps_are_pure_and_keep_dtype_and_shape(opt):
    for dtype in (np.float32, np.float64):
        params = tree_of(0, dtype)
        state = opt.init(params)
        for i in range(1, 6):
            before, given = copied((params, state)), tree_of(i, dtype)
            new, after = call_purely(opt.name, opt.step, params, given, state)
            assert same_bits((params, state), before)
            assert after["step"] == i
            params, state = new, after
        for old, p in zip(fc.trees.leaves(tree_of(0, dtype)), fc.trees.leaves(params), strict=True):
            assert isinstance(p, np.ndarray)
            assert (p.dtype, p.shape) == (old.dtype, old.shape)
        for kept in fc.trees.leaves(state):
            assert type(kept) in (int, float, np.ndarray)
            assert isinstance(kept, (int, float)) or kept.dtype == dtype


@pytest.mark.parametrize("maker", MAKERS, ids=name)
def test_numpy_options_do_not_widen_float32(maker):
    numbers = {
        k: np.float64(v.default)
        for k, v in inspect.signature(maker).parameters.items()
        if isinstance(v.default, float)
    }
    opt = maker(**{**numbers, "weight_decay": np.float64(0.1), "lr": lambda i: np.float64(0.1)})
    p = np.ones(3, np.float32)
    new, state = opt.step(p, p, opt.init(p))
    new, state = opt.step(new, p, state)
    assert new.dtype == np.float32
    assert all(x.dtype == np.float32 for x in state["leaves"].values() if isinstance(x, np.ndarray))


@pytest.mark.parametrize("opt", FULL, ids=name)
def test_a_leaf_without_a_gradient_waits(opt):
    """A step that it misses, it misses wholly: later it goes on as a fresh one would."""
    params = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    state = opt.init(params)
    g = np.array([0.5])
    for _ in range(4):
        params, state = opt.step(params, {"a": np.array([0.3, -1.0]), "b": None}, state)
    assert params["b"] == 3.0
    both, after = opt.step(params, {"a": None, "b": g}, state)
    assert both["a"] is params["a"]
    assert after["leaves"]["a"] is state["leaves"]["a"]
    alone = opt.step(np.array([3.0]), g, opt.init(np.array([3.0])))
    assert same_bits((both["b"], after["leaves"]["b"]), (alone[0], alone[1]["leaves"]))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("opt", WRAPPED, ids=name)
def test_a_saved_state_goes_on_bit_for_bit(tmp_path, opt, suffix):
    params = tree_of(0)
    state = opt.init(params)
    for i in range(1, 8):
        fc.save(tmp_path / f"run{suffix}", (params, state))
        loaded = fc.load(tmp_path / f"run{suffix}")
        assert same_bits(loaded, (params, state))
        params, state = opt.step(params, tree_of(i), state)
        assert same_bits(opt.step(loaded[0], tree_of(i), loaded[1]), (params, state))


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("lengths", [(1,), (2, 3, 4)])
def test_gradients_of_other_parameters_are_refused(kind, lengths):
    opt, params = fc.sgd(0.1, momentum=0.9), kind(np.ones(n) for n in (2, 3))
    with pytest.raises(
        ValueError, match=f"expected a {kind.__name__} of 2, got a {kind.__name__} of {len(lengths)}"
    ):
        opt.step(params, kind(np.ones(n) for n in lengths), opt.init(params))


def test_nan_gradients_are_not_masked():
    p = np.array([1.0, 2.0])
    for opt in WRAPPED[: len(FULL) + 2]:
        new, _ = opt.step(p, np.array([np.nan, np.inf]), opt.init(p))
        assert np.isnan(new[0]), opt.name


def test_gradients_are_shortened_together():
    params = (np.zeros(2), {"w": np.zeros((1, 1)), "stat": np.array(3)})
    opt = fc.clip_by_global_norm(fc.sgd(1.0), 1.0)
    state = opt.init(params)
    grads = (np.array([3.0, 0.0]), {"w": np.array([[-4.0]]), "stat": None})
    new, _ = call_purely("clip", opt.step, params, grads, state)
    np.testing.assert_allclose(new[0], [-3 / (5 + 1e-6), 0], rtol=1e-15)
    np.testing.assert_allclose(new[1]["w"], [[4 / (5 + 1e-6)]], rtol=1e-15)
    short = fc.trees.map(lambda g: g / 10, grads[0])
    np.testing.assert_array_equal(opt.step(params[0], short, opt.init(params[0]))[0], -short)
    nothing, _ = opt.step(params, fc.trees.map(lambda _: None, params), state)
    assert same_bits(nothing, params)


def test_the_norm_of_float32_gradients_does_not_overflow():
    g = np.full(4, 1e30, np.float32)
    opt = fc.clip_by_global_norm(fc.sgd(1.0), 1.0)
    np.testing.assert_allclose(opt.step(0 * g, g, opt.init(g))[0], -0.5, rtol=1e-6)


def test_accumulated_gradients_are_one_step_with_their_mean():
    inner = fc.adam(lr, weight_decay=0.1)
    opt = fc.accumulate_gradients(inner, 3)
    params = {"w": np.ones(2), "late": np.ones(1), "stat": np.array(5)}
    expected, theirs = params, inner.init(params)
    state = opt.init(params)
    for turn in range(4):
        draws = [fc.random.normal(fc.random.key(10 * turn + i), (2,), np.float64) for i in range(3)]
        for i, w in enumerate(draws):
            held = params
            late = np.array([6.0]) if i == 1 else None
            params, state = call_purely(
                "accumulate", opt.step, params, {"w": w, "late": late, "stat": None}, state
            )
            assert (params is held) == (i < 2)
        mean = {"w": sum(draws) / 3, "late": np.array([2.0]), "stat": None}
        expected, theirs = inner.step(expected, mean, theirs)
        assert state["step"] == 3 * turn + 3
        assert state["optimizer"]["step"] == turn + 1
    np.testing.assert_allclose(params["w"], expected["w"], rtol=1e-12)
    np.testing.assert_allclose(params["late"], expected["late"], rtol=1e-12)
    assert params["stat"] == 5


def test_averages_follow_the_parameters():
    opt = fc.ema(fc.sgd(1.0), decay=0.75)
    params = {"w": np.array([1.0]), "stat": np.array([0.5])}
    state = opt.init(params)
    average = params["w"]
    for i, g in enumerate(GRADS):
        params = {**params, "stat": np.array([float(i)])}
        params, state = call_purely("ema", opt.step, params, {"w": np.array([g]), "stat": None}, state)
        average = 0.75 * average + 0.25 * params["w"]
    for wrapped in (state, {"step": 0, "optimizer": state}):
        found = fc.ema_params(wrapped)
        np.testing.assert_array_equal(found["w"], average)
        assert found["stat"] == len(GRADS) - 1


def test_every_optimizer_trains_a_network():
    net = fc.compose(fc.conv2d(4, 3), fc.batch_norm(), fc.relu(), fc.flatten(), fc.linear(2))
    t = np.arange(16) % 2
    x = fc.random.normal(fc.random.key(0), (16, 1, 5, 5)) + t[:, None, None, None].astype(np.float32)
    for opt in WRAPPED:
        step = fc.train_step(net, fc.cross_entropy_loss(), opt)
        state = fc.train_state(net, opt, fc.random.key(1), x.shape)
        state, first = step(state, x, t)
        for _ in range(40):
            state, last = step(state, x, t)
        assert last["loss"] < first["loss"], opt.name


STATE = fc.adam().init(np.ones(2))
BAD = [
    *((lambda m=m: m(-1), ValueError, f"{m.__name__}: expected lr of 0 or more, got -1") for m in MAKERS),
    *((lambda m=m: m("1"), TypeError, f"{m.__name__}: expected lr to be a number, got '1'") for m in MAKERS),
    *((lambda m=m: m(weight_decay=float("nan")), ValueError, f"{m.__name__}: expected weight_decay of 0 or more, got nan") for m in MAKERS),
    *((lambda m=m: m(eps=-1), ValueError, f"{m.__name__}: expected eps of 0 or more, got -1") for m in MAKERS[2:]),
    *((lambda m=m: m(betas=(0.9, 1)), ValueError, f"{m.__name__}: expected betas[1] from 0 to below 1, got 1") for m in MAKERS[1:5]),
    (lambda: fc.adam(betas=0.9), TypeError, "adam: expected betas to be two numbers, got 0.9"),
    (lambda: fc.sgd(momentum=True), TypeError, "sgd: expected momentum to be a number, got True"),
    (lambda: fc.sgd(nesterov=True), ValueError, "sgd: nesterov needs a momentum and no dampening, got momentum=0"),
    (lambda: fc.sgd(momentum=0.9, dampening=0.1, nesterov=True), ValueError, "sgd: nesterov needs a momentum and no dampening"),
    (lambda: fc.nadam(momentum_decay=-1), ValueError, "nadam: expected momentum_decay of 0 or more"),
    (lambda: fc.rmsprop(alpha=-1), ValueError, "rmsprop: expected alpha from 0 to 1, got -1"),
    (lambda: fc.adagrad(initial_accumulator_value=-1), ValueError, "adagrad: expected initial_accumulator_value of 0 or more"),
    (lambda: fc.adadelta(rho=2), ValueError, "adadelta: expected rho from 0 to 1, got 2"),
    (lambda: fc.adam().init([1.0]), TypeError, "adam: 0 must be a NumPy or CuPy array, got float"),
    (lambda: fc.adam().step(np.ones(2), np.ones(2), ()), ValueError, "adam: expected a state that its init gave, with step and leaves"),
    (lambda: fc.sgd().step(np.ones(2), np.ones(2), STATE), ValueError, "sgd: expected a state that its init gave, at the parameter"),
    (lambda: fc.adam().step((np.ones(2),), (2.0,), {"step": 0, "leaves": (STATE["leaves"],)}), ValueError, "adam: expected a gradient of float64 and shape (2,) for 0, got 2.0"),
    (lambda: fc.sgd().step([np.ones(2, int)], [np.ones(2, int)], fc.sgd().init([np.ones(2, int)])), TypeError, "sgd: 0 must be a real floating-point array"),
    (lambda: fc.clip_by_global_norm(fc.sgd, 1), TypeError, "clip_by_global_norm: expected an optimizer, got function sgd; was it meant to be called?"),
    (lambda: fc.clip_by_global_norm(fc.sgd(), -1), ValueError, "clip_by_global_norm: expected max_norm of 0 or more, got -1"),
    (lambda: fc.clip_by_global_norm(fc.adam(), 1).step((np.ones(2),), (np.ones(3),), {"step": 0, "leaves": ((),)}), ValueError, "clip_by_global_norm: expected a gradient of float64 and shape (2,) for 0"),
    (lambda: fc.clip_by_value(fc.sgd(), None), TypeError, "clip_by_value: expected clip_value to be a number, got None"),
    (lambda: fc.clip_by_value(3, 1), TypeError, "clip_by_value: expected an optimizer, got int"),
    (lambda: fc.accumulate_gradients(fc.sgd(), 0), ValueError, "accumulate_gradients: every must be at least 1, got 0"),
    (lambda: fc.accumulate_gradients(fc.sgd(), 1.5), TypeError, "accumulate_gradients: every must be an integer, got 1.5"),
    (lambda: fc.ema(fc.sgd(), decay=1.5), ValueError, "ema: expected decay from 0 to 1, got 1.5"),
    (lambda: fc.ema(fc.sgd), TypeError, "ema: expected an optimizer, got function sgd"),
    (lambda: fc.ema_params(STATE), ValueError, "ema_params: expected the state of an optimizer that ema made"),
    (lambda: schedules.constant(-1), ValueError, "constant: expected lr of 0 or more, got -1"),
    (lambda: schedules.step(1, 0), ValueError, "step: step_size must be at least 1, got 0"),
    (lambda: schedules.step(1, 2.0), TypeError, "step: step_size must be an integer, got 2.0"),
    (lambda: schedules.multistep(1, 3), TypeError, "multistep: expected milestones to be a sequence of integers, got 3"),
    (lambda: schedules.multistep(1, [3, -1]), ValueError, "multistep: milestones[1] must be at least 0, got -1"),
    (lambda: schedules.exponential(1, -0.5), ValueError, "exponential: expected gamma of 0 or more, got -0.5"),
    (lambda: schedules.cosine(1, 10, eta_min=-1), ValueError, "cosine: expected eta_min of 0 or more"),
    (lambda: schedules.polynomial(1, 10, None), TypeError, "polynomial: expected power to be a number"),
    (lambda: schedules.warmup(-1, 2), ValueError, "warmup: expected schedule of 0 or more, got -1"),
    (lambda: schedules.warmup(0.1, 0), ValueError, "warmup: steps must be at least 1, got 0"),
    (lambda: schedules.linear(1, start_factor=2), ValueError, "linear: expected start_factor from 0 to 1, got 2"),
    (lambda: schedules.one_cycle(1, 10, pct_start=1.5), ValueError, "one_cycle: expected pct_start from 0 to 1, got 1.5"),
    (lambda: schedules.one_cycle(1, 10, anneal_strategy="sin"), ValueError, "one_cycle: expected anneal_strategy \"cos\" or \"linear\", got 'sin'"),
    (lambda: schedules.one_cycle(1, 10, div_factor=0), ValueError, "one_cycle: expected div_factor above 0, got 0"),
    (lambda: schedules.join([schedules.constant(1)], []), ValueError, "join: expected two schedules or more and one milestone fewer, got 1 schedules and 0 milestones"),
    (lambda: schedules.join([schedules.constant(1)] * 3, [5, 5]), ValueError, "join: expected increasing milestones, got [5, 5]"),
    (lambda: schedules.join([0.1, 0.2], [5]), TypeError, "join: expected schedules, functions of the step count, got 0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_options_are_named(call, kind, text):
    with pytest.raises(kind, match="^" + re.escape(text)):
        call()


SCHEDULES = [
    schedules.constant(0.1), schedules.step(0.1, 3), schedules.multistep(0.1, (2, 4)),
    schedules.exponential(0.1, 0.9), schedules.cosine(0.1, 10), schedules.polynomial(0.1, 10),
    schedules.linear(0.1), schedules.warmup(0.1, 4), schedules.one_cycle(0.1, 10), schedules.one_cycle(0.1, 10, three_phase=True),
    schedules.join([schedules.linear(0.1), schedules.cosine(0.1, 5), schedules.constant(0)], [3, 8]),
]  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_give_plain_floats(schedule):
    for count in range(15):
        assert type(schedule(count)) is float
        for same in (np.int64(count), np.int32(count), np.array(count)):
            assert type(schedule(same)) is float
            assert schedule(same) == schedule(count)
        assert 0 <= schedule(count) <= 0.1 * (1 + 1e-15)


def test_one_cycle_at_its_edges():
    assert schedules.one_cycle(1.0, 1)(0) == 1 / 25 / 1e4
    peak_first = schedules.one_cycle(1.0, 10, pct_start=0.1)
    assert peak_first(0) == 1.0
    for three_phase in (False, True):
        cycle = schedules.one_cycle(1.0, 10, three_phase=three_phase)
        assert cycle(9) == cycle(10) == cycle(1000) == 1 / 25 / 1e4


def test_a_schedule_is_asked_for_the_count_of_steps_before():
    asked = []
    for opt in (
        fc.sgd(lambda i: asked.append(i) or 0.1),
        fc.clip_by_value(fc.adam(lambda i: asked.append(i) or 0.1), 1.0),
    ):
        p = np.ones(1)
        functools.reduce(lambda at, g: opt.step(at[0], g, at[1]), [p] * 3, (p, opt.init(p)))
    assert asked == [0, 1, 2, 0, 1, 2]


@pytest.mark.skipif(
    not compiled.wished() or compiled.problem() is not None, reason=f"no kernels: {compiled.problem()}"
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "opt",
    [
        fc.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.1), fc.sgd(0.1, maximize=True), fc.lion(0.1),
        fc.adam(0.1, weight_decay=0.1), fc.adamw(schedules.exponential(0.1, 0.9), amsgrad=True), fc.nadam(0.1),
        fc.rmsprop(0.1, centered=True, momentum=0.5), fc.adagrad(0.1, lr_decay=0.1), fc.adadelta(0.1),
    ],
    ids=lambda opt: opt.name,
)  # fmt: skip
@pytest.mark.parametrize("none", [(), ("one",)], ids=["axes", "no axes among them"])
def test_one_pass_over_all_arrays_gives_the_same_bits(opt, dtype, none, monkeypatch):
    """Updates are compiled, in any memory order; NumPy's operations are the reference."""
    shapes = {"a": (7, 5), "b": (3,), "turned": (4, 6), "large": (50, 700), "empty": (0, 2)}
    shapes |= dict.fromkeys(none, ())
    key = iter(fc.random.split(fc.random.key(0), 30))
    params = {name: fc.random.normal(next(key), shape, dtype) for name, shape in shapes.items()}
    params["turned"] = np.asfortranarray(params["turned"])
    steps = [
        {name: fc.random.normal(next(key), shape, dtype) for name, shape in shapes.items()} for _ in range(3)
    ]
    steps[1]["a"][2] = [np.nan, np.inf, -np.inf, 0.0, -0.0]

    def trained():
        at, state = params, opt.init(params)
        for grads in steps:
            at, state = call_purely(opt.name, opt.step, at, grads, state)
        return at, state

    found = trained()
    assert found[0]["turned"].flags.f_contiguous
    monkeypatch.setattr(passes, "formulas_serve", lambda *arrays: False)
    for a, b in zip(fc.trees.leaves(found), fc.trees.leaves(trained()), strict=True):
        np.testing.assert_array_equal(a, b)
