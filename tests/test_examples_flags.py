"""Arguments that the examples refuse, what they leave alone then, and their help."""

from __future__ import annotations

import subprocess

import pytest

from tests.examples import TRAINING, command, final_states, results, runner, short

TRAINED = [*TRAINING, "own_layer"]
COMMON = ["--data", "--batch-size", "--lr", "--seed", "--out", "--device", "--resume", "--checkpoint-every"]


@pytest.fixture
def run(monkeypatch, capsys):
    return runner(monkeypatch, capsys)


def test_resuming_refuses_another_network_and_other_flags(run, tmp_path, photos):
    flags = short("noise2noise", "--out", tmp_path, "--network", "report2", data=photos)
    assert run("noise2noise", *flags).returncode == 0
    other = run("noise2noise", *flags, "--resume", "--network", "shallow")
    assert other.returncode == 1
    assert "5.bias" in other.stderr
    changed = run("noise2noise", *flags, "--resume", "--seed", 1, "--batch-size", 3)
    assert changed.returncode == 1
    assert "made with other flags: --batch-size 3 (was 2), --seed 1 (was 0)" in changed.stderr
    longer = run("noise2noise", *flags, "--resume", "--steps", 14)
    assert longer.returncode == 0, longer.stderr
    assert results(tmp_path)["steps"] == 14


def test_what_fails_to_start_leaves_a_finished_run_alone(run, tmp_path, photos):
    flags = short("noise2noise", "--network", "report2", "--out", tmp_path, data=photos)
    assert run("noise2noise", *flags).returncode == 0
    kept = final_states(tmp_path)
    for more in (["--crop", 400], ["--lr", 1e30], ["--device", "cuda"]):
        assert run("noise2noise", *flags, *more).returncode == 1
        assert final_states(tmp_path) == kept
    fewer = run("noise2noise", *flags, "--resume", "--steps", 3)
    assert "the checkpoint is of step 12, beyond the 3 asked for" in fewer.stderr
    copied = tmp_path / "others"
    copied.mkdir()
    for i, path in enumerate(sorted(photos.glob("p*.png"), reverse=True)):
        (copied / f"{i}.png").write_bytes(path.read_bytes())
    changed = run("noise2noise", *flags, "--resume", "--data", copied)
    assert "the checkpoint was made with other data than --data gives" in changed.stderr


def test_a_run_that_diverges_keeps_its_last_sound_checkpoint(run, tmp_path, photos):
    flags = ["--network", "report2", "--lr", 1e30, "--out", tmp_path, "--checkpoint-every", 100]
    done = run("noise2noise", *short("noise2noise", data=photos), *flags)
    assert "try a lower --lr and another --out" in done.stderr
    assert not list(tmp_path.glob("checkpoints/step-*"))


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--data", "nowhere"], "nowhere is not a folder"),
        (["--batch-size", "0"], "expected an integer of at least 1, got 0"),
        (["--checkpoint-every", "x"], "expected an integer of at least 1, got x"),
        (["--device", "tpu"], 'to_device: expected "cpu", "cuda" or "cuda:N", got \'tpu\''),
        (["--out", "/proc/nowhere"], ": "),
        (["--lr", "-1"], "argument --lr: expected a number of 0 or more, got -1"),
        (["--lr", "1e30"], "the loss is "),
        (["--network", "none"], "invalid choice: 'none'"),
    ],
)
def test_bad_flags_are_refused_in_one_line(run, tmp_path, photos, name, flags, text):
    out = [] if "--out" in flags else ["--out", tmp_path]
    done = run(name, *short(name, data=photos), *out, *flags)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert f"{name}: " in done.stderr


def test_pictures_smaller_than_a_crop_are_said(run, tmp_path, photos):
    done = run("noise2noise", *short("noise2noise", data=photos), "--crop", 400, "--out", tmp_path)
    assert done.returncode == 1
    assert "none of the 7 pictures in" in done.stderr
    assert "at least 400 are needed on each side" in done.stderr


@pytest.mark.parametrize("name", [*TRAINED, "image_filters", "pretrained"])
def test_help_says_what_every_flag_does(name):
    done = subprocess.run(command(name, "--help"), capture_output=True, text=True, timeout=120, check=True)
    text = done.stdout
    for flag in COMMON if name in TRAINED else ["--out"]:
        assert flag in text
    assert len(text) > 600
