"""The training loop: what it computes, how it stops, and how it goes on."""

from __future__ import annotations

import os

import numpy as np
import pytest

import fconv as fc
from fconv import schedules
from fconv.data import batches
from fconv.testing.purity import same_bits

KEY = fc.random.key(0)
X = fc.random.normal(KEY, (50, 4))
T = (X[:, 0] > 0).astype(np.int64)
TRAIN, VALID = (X[:37], T[:37]), (X[37:], T[37:])
LOSS = fc.cross_entropy_loss()


def _net():
    return fc.compose(fc.linear(8), fc.batch_norm(), fc.relu(), fc.dropout(0.2), fc.linear(2))


def _fit(epochs=3, valid=VALID, opt=None, **options):
    settings = {"key": KEY, "batch_size": 8, "progress": False, "metrics": [fc.metrics.accuracy], **options}
    return fc.fit(
        _net(), LOSS, opt or fc.adam(schedules.cosine(0.05, 15)), TRAIN, valid, epochs=epochs, **settings
    )


class Interrupting:
    """A metric that raises what Ctrl-C raises, at one of its calls."""

    def __init__(self, at):
        self.at, self.calls = at, 0

    def __call__(self, y, target):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return fc.metrics.accuracy(y, target)


def test_it_is_the_loop_over_the_public_functions():
    state, history = _fit()
    net, opt = _net(), fc.adam(schedules.cosine(0.05, 15))
    shuffle, run = fc.random.split(KEY)
    own = fc.train_state(net, opt, run, (8, 4))
    step = fc.train_step(net, LOSS, opt)
    for epoch in range(3):
        total = 0.0
        for x, t in batches(*TRAIN, batch_size=8, key=fc.random.fold_in(shuffle, epoch)):
            own, found = step(own, x, t)
            total += float(found["loss"]) * len(x)
        assert history["loss"][epoch] == pytest.approx(total / 37)
        assert history["lr"][epoch] == found["lr"]
    assert same_bits(state, own)
    assert state.step == 15
    y = net.apply(state.params, VALID[0])
    assert history["valid_loss"][-1] == pytest.approx(float(LOSS.apply(y, VALID[1])), rel=1e-5)
    assert history["valid_accuracy"][-1] == pytest.approx(fc.metrics.accuracy(y, VALID[1]))
    assert {len(values) for values in history.values()} == {3}
    assert same_bits(_fit()[0], state)


@pytest.mark.parametrize("at", [1, 4, 5, 6, 7, 9, 20])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, at):
    whole, expected = _fit(metrics={"accuracy": fc.metrics.accuracy}, checkpoint=tmp_path / "whole")
    metric = Interrupting(at)
    state, history = _fit(metrics={"accuracy": metric}, checkpoint=tmp_path / "run")
    assert metric.calls == at
    assert state.step < 15 or len(history["loss"]) < 3
    resumed, found = _fit(metrics={"accuracy": fc.metrics.accuracy}, checkpoint=tmp_path / "run")
    assert same_bits(resumed, whole)
    assert found == expected
    best = [fc.load(tmp_path / name / "best.safetensors") for name in ("run", "whole")]
    assert same_bits(*best)


def test_more_epochs_go_on_from_the_last(tmp_path):
    whole = _fit(epochs=4)
    _fit(epochs=2, checkpoint=tmp_path)
    assert same_bits(_fit(epochs=4, checkpoint=str(tmp_path))[0], whole[0])
    assert _fit(epochs=4, checkpoint=fc.Checkpointer(tmp_path))[1] == whole[1]  # nothing is left to do


def test_early_stopping_and_the_best_parameters(tmp_path):
    rising = fc.sgd(lambda count: 0.0 if count < 10 else 1e3)
    _, history = _fit(epochs=50, opt=rising, stop_early=2, checkpoint=tmp_path)
    losses = history["valid_loss"]
    best = min(range(len(losses)), key=losses.__getitem__)
    assert len(losses) == best + 3 < 50
    params = fc.load(tmp_path / "best.safetensors")
    y = _net().apply(params, VALID[0])
    assert float(LOSS.apply(y, VALID[1])) == pytest.approx(losses[best], rel=1e-5)
    assert len(_fit(epochs=50, opt=rising, stop_early=2, checkpoint=tmp_path)[1]["loss"]) == len(losses)


def test_several_inputs_and_outputs_rates_by_name_and_no_validation(capsys):
    net = fc.graph(
        {"a": (fc.linear(3), "p"), "b": (fc.linear(3), "q"), "sum": (fc.add(), "a", "b"), "class": (fc.linear(2), "sum"),
         "box": (fc.linear(1), "sum")}, inputs=["p", "q"], outputs=["class", "box"],
    )  # fmt: skip
    loss = fc.losses_by_name({"class": (1, LOSS), "box": (0.5, fc.mse_loss())})
    opt = fc.by_name({"class": fc.adam(0.1), "*": fc.sgd(0.01)})
    data = {"p": X, "q": -X}, {"class": T, "box": X[:, :1]}
    state, history = fc.fit(net, loss, opt, data, epochs=2, key=KEY, batch_size=20)
    assert history["lr"] == [{"class": 0.1, "*": 0.01}] * 2
    assert history["loss"][1] < history["loss"][0]
    assert state.step == 6
    assert capsys.readouterr().err.splitlines()[1].startswith("epoch 2/2 loss ")


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    _fit(epochs=1, progress=True)
    assert "\repoch 1/1 [" + "#" * 30 + "] loss " in capsys.readouterr().err


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    figure = fc.plot_history(_fit()[1], tmp_path / "history.png")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "lr", "accuracy"]
    assert os.path.getsize(tmp_path / "history.png") > 1000
    with pytest.raises(ValueError, match="plot_history: expected the history of one epoch or more, got none"):
        fc.plot_history({})


@pytest.mark.parametrize(("options", "kind", "message"), [
    ({"valid": None, "stop_early": 3}, ValueError, "fit: stop_early needs validation data: give valid=(x, target)"),
    ({"stop_early": 0}, ValueError, "fit: stop_early must be at least 1, got 0"),
    ({"epochs": 0}, ValueError, "fit: epochs must be at least 1, got 0"),
    ({"batch_size": 0}, ValueError, "fit: batch_size must be at least 1, got 0"),
    ({"valid": X}, TypeError, "fit: expected valid to be a pair (x, target), got "),
    ({"valid": (X, T[:3])}, ValueError, "fit: expected valid to hold arrays of one length above 0, got [3, 50]"),
    ({"valid": (X, "t")}, TypeError, "fit: expected valid to hold arrays of examples, got "),
    ({"metrics": {"loss": fc.metrics.accuracy}}, ValueError, "fit: the name 'loss' stands for something else"),
    ({"metrics": {"acc": 3}}, TypeError, "fit: expected the metric 'acc' to be a function of (y, target), got 3"),
])  # fmt: skip
def test_errors(options, kind, message):
    with pytest.raises(kind) as caught:
        _fit(**options)
    assert message in str(caught.value)


def test_folders_of_other_runs(tmp_path):
    _fit(epochs=1, checkpoint=tmp_path / "a")
    with pytest.raises(
        ValueError, match=r"is of a run with .*'batch_size': 8.*, this one has .*'batch_size': 5"
    ):
        _fit(epochs=2, checkpoint=tmp_path / "a", batch_size=5)
    fc.Checkpointer(tmp_path / "b").save(3, {"weight": X})
    with pytest.raises(ValueError, match="was not saved by fit; give another folder"):
        _fit(checkpoint=tmp_path / "b")
