"""States of torch.optim without PyTorch, and those that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from tests.data import record_lightning

PARAMS = {"a": {"weight": np.ones((2, 3)), "running_mean": np.zeros(2)}, "b": {"weight": np.ones((2, 3))}}
NAMES = ["b.weight", "a.weight"]
OPT = fc.adam(0.1)


def theirs():
    """The state dict of torch.optim.Adam after three steps."""
    states = {
        i: {
            "step": np.array(3.0, np.float32),
            "exp_avg": np.full((2, 3), 1.0 + i),
            "exp_avg_sq": np.full((2, 3), 4.0),
        }
        for i in range(2)
    }
    options = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False}
    return {"state": states, "param_groups": [{**options, "foreach": None, "params": [0, 1]}]}


def read(found=None, opt=OPT, names=NAMES, **options):
    return fc.from_optimizer_state_dict(opt, PARAMS, found or theirs(), names=names, **options)


def test_numbers_become_names():
    state = read()
    assert state["step"] == 3
    assert state["leaves"]["a"]["weight"]["step"] == 3
    assert (state["leaves"]["a"]["weight"]["exp_avg"] == 2).all()
    assert (state["leaves"]["b"]["weight"]["exp_avg"] == 1).all()
    assert state["leaves"]["a"]["running_mean"]["step"] == 0
    grads = {"a": {"weight": np.ones((2, 3)), "running_mean": None}, "b": None}
    assert OPT.step(PARAMS, grads, state)[1]["step"] == 4


def test_nothing_is_shared_with_what_was_given():
    found = theirs()
    state = read(found)
    found["state"][1]["exp_avg"][:] = 7
    assert (state["leaves"]["a"]["weight"]["exp_avg"] == 2).all()


@pytest.mark.parametrize("extension", [".pt", ".npz", ".safetensors"])
def test_files_hold_them(extension, tmp_path):
    written = fc.to_optimizer_state_dict(OPT, PARAMS, read(), names=NAMES)
    fc.save(tmp_path / f"optimizer{extension}", {"optimizer": written, "epoch": 3})
    found = fc.load(tmp_path / f"optimizer{extension}")["optimizer"]
    assert found["param_groups"][0]["param_names"] == NAMES
    state = fc.from_optimizer_state_dict(OPT, PARAMS, found)
    assert fc.trees.same_structure(state, read())
    np.testing.assert_array_equal(state["leaves"]["b"]["weight"]["exp_avg"], np.ones((2, 3)))


def test_entries_that_do_not_fit_are_listed():
    found = theirs()
    del found["state"][0]["exp_avg"]
    found["state"][1]["exp_avg_sq"] = np.ones(2)
    found["state"][1]["max_exp_avg_sq"] = np.ones((2, 3))
    found["state"][5] = {"exp_avg": np.ones(4)}
    with pytest.raises(ValueError, match="does not fit") as caught:
        read(found)
    assert str(caught.value) == (
        "from_optimizer_state_dict: the state dict does not fit:\n"
        "  missing: b.weight.exp_avg (2, 3)\n"
        "  unexpected: a.weight.max_exp_avg_sq (2, 3); state[5].exp_avg (4,)\n"
        "  misshapen: a.weight.exp_avg_sq: expected (2, 3), got (2,)"
    )
    with pytest.raises(ValueError, match="misshapen"):
        read(found, strict=False)
    del found["state"][1]["exp_avg_sq"]
    state = read(found, strict=False)
    assert not state["leaves"]["b"]["weight"]["exp_avg"].any()
    assert (state["leaves"]["a"]["weight"]["exp_avg"] == 2).all()


def test_a_parameter_without_a_number_is_missing():
    found = theirs()
    found["param_groups"][0]["params"] = [0]
    del found["state"][1]
    with pytest.raises(ValueError, match=r"missing: a\.weight\.step \(\); a\.weight\.exp_avg \(2, 3\)"):
        read(found, names=["b.weight"])
    head = fc.masked(OPT, "b")
    state = fc.from_optimizer_state_dict(head, PARAMS, found, names=["b.weight"])
    assert state["step"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": None}, r"numbers for the parameters: write names=\[name for name, _ in module"),
        ({"names": ["b.weight"]}, r"param_groups\[0\] has 2 parameters, and 1 names are given"),
        ({"names": ["b.weight", "a.weigh"]}, "no parameter is named 'a.weigh'; the nearest names"),
        ({"names": ["b.weight", "b.weight"]}, "'b.weight' is named twice"),
        ({"names": [NAMES, []]}, "names for each of the 1 parameter groups, got 2 lists"),
        ({"opt": fc.lion()}, "lion: torch.optim has no such optimizer"),
        ({"opt": fc.adam(0.2)}, r"param_groups\[0\]: lr: expected 0.2, as of opt, got 0.1"),
        ({"opt": fc.adam(0.1, amsgrad=True)}, r"missing: a.weight.max_exp_avg_sq \(2, 3\); b"),
        ({"step": -1}, "step must be at least 0, got -1"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        read(**change)


@pytest.mark.parametrize("names", [[NAMES, 3], [NAMES, [3]], 3])
def test_names_that_are_no_text_are_refused(names):
    with pytest.raises(TypeError, match="names"):
        read(names=names)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"w": np.ones(2)}, "with state and param_groups, got a dict of w"),
        ([1], "with state and param_groups, got list"),
        ({"state": {}, "param_groups": [{"params": ["w"]}]}, r"params of integers in param_groups\[0\]"),
        ({"state": {0: 3}, "param_groups": []}, r"entries by name in state\[0\], got"),
        (fc.sgd(0.1), "with state and param_groups, got fconv.optimizers"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_what_is_no_state_dict_of_an_optimizer_is_refused(found, message):
    with pytest.raises(TypeError, match=message):
        read(found)


def test_steps_are_integers():
    found = theirs()
    found["state"][0]["step"] = np.array(2.5)
    with pytest.raises(ValueError, match=r"b\.weight\.step: expected integers for int64, got float64"):
        read(found)
    found["state"][0]["step"] = np.array(-2.0)
    with pytest.raises(ValueError, match=r"the step of b.weight must be at least 0, got -2"):
        read(found)


def test_sgd_with_a_schedule_needs_the_count():
    group = {"lr": 0.1 * 0.5**3, "momentum": 0.9, "params": [0, 1]}
    found = {"state": {i: {"momentum_buffer": np.ones((2, 3))} for i in range(2)}, "param_groups": [group]}
    opt = fc.sgd(fc.schedules.exponential(0.1, 0.5), momentum=0.9)
    with pytest.raises(
        ValueError, match="keeps no count of steps, on which the schedule of sgd depends; write step="
    ):
        read(found, opt)
    state = read(found, opt, step=3)
    assert state["step"] == state["leaves"]["a"]["weight"]["step"] == 3
    with pytest.raises(ValueError, match=r"lr: expected 0.025, as of opt, got 0.0125"):
        read(found, opt, step=2)


def test_groups_of_several_optimizers_need_names_for_each():
    opt = fc.by_name({"a": fc.sgd(0.1), "b": fc.sgd(0.2)})
    state = opt.init(PARAMS)
    with pytest.raises(ValueError, match="one optimizer for the parameters of a group, got 2 optimizers"):
        fc.to_optimizer_state_dict(opt, PARAMS, state, names=NAMES)
    found = fc.to_optimizer_state_dict(opt, PARAMS, state, names=[["b.weight"], ["a.weight"]])
    assert [(g["lr"], g["params"]) for g in found["param_groups"]] == [(0.2, [0]), (0.1, [1])]


def test_every_parameter_with_a_state_needs_a_name():
    with pytest.raises(ValueError, match=r"names for all parameters with a state, got none for a\.weight"):
        fc.to_optimizer_state_dict(OPT, PARAMS, read(), names=["b.weight"])


class Mine:
    """Somebody's own optimizer."""

    def init(self, params):
        return {"count": 0}

    def step(self, params, grads, state):
        return params, {"count": state["count"] + 1}


def test_optimizers_of_ones_own_work_in_wrappers_and_are_refused_here():
    opt = fc.ema(Mine())
    assert opt.step(PARAMS, PARAMS, opt.init(PARAMS))[1]["optimizer"] == {"count": 1}
    with pytest.raises(ValueError, match="Mine: expected a state that its init gave"):
        read(opt=opt)
    with pytest.raises(TypeError, match=r"expected an optimizer, got .*Mine"):
        read(opt=Mine())


def test_a_run_of_lightnings_goes_on_here():
    checkpoint = fc.load(record_lightning.FILE)
    assert checkpoint["hyper_parameters"]["width"] == 4
    assert isinstance(checkpoint["hyper_parameters"]["args"], fc.Placeholder)
    weights = fc.rename(fc.find_state_dict(checkpoint), {"model.": ""})
    net, x = fc.compose(fc.linear(4), fc.batch_norm(), fc.linear(3)), record_lightning.batch()
    params = fc.from_state_dict(net.init(fc.random.key(0), x.shape, np.float64), weights)
    opt = fc.adamw(record_lightning.RATE)
    state = fc.from_optimizer_state_dict(opt, params, checkpoint["optimizer_states"][0], names=weights)
    assert state["step"] == checkpoint["global_step"] == 4
    loss_and_grad = fc.value_and_grad(net, fc.mse_loss())
    for _ in range(record_lightning.STEPS):
        _, grads, params = loss_and_grad(params, x, x)
        params, state = opt.step(params, grads, state)
    for name, value in fc.to_state_dict(params).items():
        np.testing.assert_allclose(value, checkpoint["after"][name], 1e-10, 1e-10, err_msg=name)
