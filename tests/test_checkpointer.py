"""Checkpointer: which file is kept, which is found, and who may save."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fconv as fc
from fconv.files import atomic as files
from fconv.testing.purity import same_bits

NET = fc.compose(fc.conv2d(2, 3), fc.batch_norm(), fc.relu(), fc.flatten(), fc.dropout(0.3), fc.linear(3))
OPT = fc.adam(1e-2)
STEP = fc.train_step(NET, fc.cross_entropy_loss(), OPT)


def fresh():
    return fc.train_state(NET, OPT, fc.random.key(1), (4, 1, 6, 6))


def trained(state, last):
    while state.step < last:
        x = fc.random.normal(fc.random.fold_in(fc.random.key(2), state.step), (4, 1, 6, 6))
        state, _ = STEP(state, x, np.arange(4) % 3)
    return state


def names(folder):
    return sorted(name for name in os.listdir(folder) if name != ".fconv-lock")


def small(step):
    return {"w": np.full(3, step, np.float32), "step": step}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_run_resumed_from_its_checkpoint_ends_bit_for_bit(tmp_path, suffix):
    whole = trained(fresh(), 6)
    run = fc.Checkpointer(tmp_path / "deep" / "run", keep=2, suffix=suffix)
    assert run.latest() is None
    assert run.steps() == []
    state = fresh()
    for step in range(1, 4):
        state = trained(state, step)
        path = run.save(step, state, metadata={"epoch": str(step)})
    assert fc.load_metadata(path)["epoch"] == "3"
    found = fc.Checkpointer(tmp_path / "deep" / "run", suffix=suffix).latest()
    assert found[0] == 3
    assert type(found[1]) is fc.TrainState
    assert same_bits(found[1], state)
    assert same_bits(trained(found[1], 6), whole)
    assert same_bits(trained(run.restore(2), 6), whole)


def test_which_steps_are_saved_and_kept(tmp_path):
    run = fc.Checkpointer(tmp_path, keep=2, every=3, keep_every=6)
    paths = {step: run.save(step, small(step)) for step in range(20)}
    assert [step for step, path in paths.items() if path] == [0, 3, 6, 9, 12, 15, 18]
    assert run.steps() == [0, 6, 12, 15, 18]
    assert os.path.basename(run.save(19, small(19), force=True)) == "step-00000019.safetensors"
    assert run.steps() == [0, 6, 12, 18, 19]
    assert fc.Checkpointer(tmp_path, keep=1).save(np.int64(20), small(20))
    assert run.steps() == [20]


def test_other_files_are_left_alone(tmp_path):
    others = [
        *("step-1.safetensors", "step-0000000001.safetensors", "astep-00000001.safetensors", "notes.txt"),
        *(
            "step-00000001.npz",
            "step-00000001.safetensors.bak",
            "best.safetensors",
            ".notes.txt.0123456789abcdef.part",
        ),
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    run = fc.Checkpointer(tmp_path, keep=1)
    for step in (1, 2, 3):
        run.save(step, small(step))
    assert names(tmp_path) == sorted([*others, "step-00000003.safetensors"])
    assert run.latest()[0] == 3


def test_a_damaged_newest_one_is_passed_over_and_stays(tmp_path):
    run = fc.Checkpointer(tmp_path, keep=2)
    for step in (1, 2, 3):
        run.save(step, small(step))
    newest = tmp_path / "step-00000003.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1  # a bit of the last array, which no size or name betrays
    newest.write_bytes(data)
    again = fc.Checkpointer(tmp_path, keep=2)
    with pytest.warns(RuntimeWarning, match=r"step-00000003\.safetensors is passed over: .* checksum"):
        step, state = again.latest()
    assert step == 2
    assert same_bits(state, small(2))
    assert newest.read_bytes() == data
    (tmp_path / "step-00000009.safetensors").write_bytes(b"")
    again.save(3, small(3))  # in the place of the damaged one; the other is no obstacle
    assert again.steps() == [2, 3, 9]
    again.save(4, small(4))
    again.save(5, small(5))
    assert again.steps() == [4, 5, 9]
    with pytest.warns(RuntimeWarning, match=r"step-00000009\.safetensors is passed over"):
        assert fc.Checkpointer(tmp_path).latest()[0] == 5


def test_no_whole_one_among_several_is_an_error(tmp_path):
    (tmp_path / "step-00000001.safetensors").write_bytes(b"")
    (tmp_path / "step-00000002.safetensors").write_bytes(bytes(100))
    with (
        pytest.warns(RuntimeWarning, match="passed over"),
        pytest.raises(ValueError, match=r"none of the 2 checkpoints in .* is whole"),
    ):
        fc.Checkpointer(tmp_path).latest()


def test_a_step_before_a_whole_later_one_is_refused(tmp_path):
    run = fc.Checkpointer(tmp_path, keep=2)
    run.save(5, small(5))
    with pytest.raises(ValueError, match=r"cannot save step 1: .* has a checkpoint of step 5"):
        run.save(1, small(1))
    assert run.steps() == [5]
    run.save(5, small(6))
    assert run.latest()[1]["step"] == 6


def test_options_and_steps_are_checked(tmp_path):
    for options, kind, text in [
        ({"keep": 0}, ValueError, "keep must be at least 1"),
        ({"every": 0}, ValueError, "every must be at least 1"),
        ({"keep_every": 0}, ValueError, "keep_every must be at least 1"),
        ({"keep": 1.5}, TypeError, "keep must be an integer"),
        ({"suffix": ".txt"}, ValueError, "Checkpointer: expected a file extension of"),
    ]:
        with pytest.raises(kind, match=text):
            fc.Checkpointer(tmp_path, **options)
    run = fc.Checkpointer(tmp_path / "run")
    with pytest.raises(ValueError, match=r"Checkpointer\.save: step must be at least 0"):
        run.save(-1, ())
    with pytest.raises(TypeError, match="step must be an integer"):
        run.save(1.0, ())
    with pytest.raises(TypeError, match="cannot be stored"):
        run.save(1, {"f": print})
    with pytest.raises(FileNotFoundError):
        run.restore(7)
    assert names(tmp_path / "run") == []


def test_two_processes_cannot_save_in_one_folder(tmp_path):
    pytest.importorskip("fcntl")
    run = fc.Checkpointer(tmp_path)
    run.save(1, small(1))
    fc.Checkpointer(tmp_path).save(2, small(2))  # the same process may
    code = (
        "import sys, fconv\n"
        "run = fconv.Checkpointer(sys.argv[1])\n"
        "print(run.latest()[0])\n"
        "try: run.save(3, {})\n"
        "except BlockingIOError as error: print(error)\n"
    )

    def other():
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout.splitlines()

    assert other() == [
        "2",
        f"Checkpointer: {tmp_path} is in use: another process (number {os.getpid()}) saves there",
    ]
    del run
    assert other() == ["2"]
    assert fc.Checkpointer(tmp_path).steps() == [1, 2, 3]


def test_the_guides_script_ends_the_same_however_often_it_is_stopped(tmp_path, monkeypatch):
    guide = (Path(__file__).parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")
    script = guide.partition("## Checkpoints of a run")[2].partition("```python\n")[2].partition("```")[0]
    ends = []
    for stops in [(20,), (7, 9, 16, 20)]:
        folder = tmp_path / str(len(stops))
        folder.mkdir()
        monkeypatch.chdir(folder)
        for stop in stops:
            names = {}
            exec(script.replace("state.step < 20", f"state.step < {stop}"), names)
        assert fc.Checkpointer("run").steps() == [10, 15, 20]
        ends.append(names["state"])
    assert ends[0].step == 20
    assert same_bits(*ends)


def test_restored_arrays_do_not_hold_the_file(tmp_path):
    run = fc.Checkpointer(tmp_path, keep=1)
    run.save(1, {"w": np.arange(10_000.0)})
    state = run.restore(1)
    (tmp_path / "step-00000001.safetensors").write_bytes(b"")  # cut off in place, as a map would not survive
    assert state["w"].sum() == 49_995_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="none of the 1"):
            run.latest()


def test_a_copy_of_the_folder_costs_the_lock_until_the_next_save(tmp_path):
    pytest.importorskip("fcntl")
    run = fc.Checkpointer(tmp_path / "run")
    run.save(1, small(1))
    shutil.copytree(tmp_path / "run", tmp_path / "backup")  # closes the lock's file in this process
    run.save(2, small(2))
    code = "import sys, fconv; fconv.Checkpointer(sys.argv[1]).save(3, {})"
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert "is in use: another process" in other.stderr


def test_what_this_process_is_writing_is_no_leftover(tmp_path):
    run = fc.Checkpointer(tmp_path)
    with files.atomic_write(tmp_path / "step-00000007.safetensors") as file:
        file.write(b"half")
        run.save(1, small(1))
    assert names(tmp_path) == ["step-00000001.safetensors", "step-00000007.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o604])
def test_a_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "a.safetensors"
    fc.save(path, small(1))
    path.chmod(mode)
    fc.save(path, small(2))
    assert path.stat().st_mode & 0o777 == mode


def test_names_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("a" * 240 + ".npz")
    fc.save(path, small(1))
    assert fc.load(path)["step"] == 1
