"""Checkpointer: saves that fail, runs that are killed, and files that cannot be read or removed."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

import numpy as np
import pytest

import fconv as fc
from fconv.files import atomic as files
from fconv.files import checkpointer
from tests import crash
from tests.test_checkpointer import names, small


class StopError(Exception):
    pass


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), StopError()])
@pytest.mark.parametrize("where", ["convert", "write", "fsync", "replace"])
def test_a_write_that_fails_half_way_leaves_the_old_ones(tmp_path, monkeypatch, suffix, error, where):
    run = fc.Checkpointer(tmp_path, keep=1, suffix=suffix)
    run.save(1, small(1))
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    calls = []

    def fail_at_the_second(function):
        def failing(*args):
            calls.append(1)
            if len(calls) == (2 if where in ("convert", "write") else 1):
                raise error
            return function(*args)

        return failing

    if where == "convert":
        from fconv.files.formats import npz, safetensors

        for room in (npz, safetensors):
            monkeypatch.setattr(room, "asnumpy", fail_at_the_second(room.asnumpy))
    elif where == "write":
        real = os.fdopen

        def full(handle, mode):
            file = real(handle, mode, buffering=0)
            return FullDisk(file, fail_at_the_second(file.write))

        monkeypatch.setattr(files.os, "fdopen", full)
    else:
        if where == "replace":  # a new file that has no name yet needs none
            monkeypatch.delattr(os, "O_TMPFILE", raising=False)
        monkeypatch.setattr(files.os, where, fail_at_the_second(getattr(os, where)))
    with pytest.raises(type(error)):
        run.save(2, {"a": np.ones(5), "b": np.ones(6), "c": np.ones(7)})
    monkeypatch.undo()
    assert calls
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    assert run.latest()[0] == 1
    run.save(2, small(2))
    assert run.steps() == [2]


class FullDisk:
    def __init__(self, file, write):
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path):
    run = fc.Checkpointer(tmp_path)
    left = tmp_path / ".step-00000007.safetensors.0123456789abcdef.part"
    left.write_bytes(b"half")
    assert run.latest() is None  # reading removes nothing: another may be writing
    assert left.exists()
    run.save(1, small(1))
    assert names(tmp_path) == ["step-00000001.safetensors"]


def test_an_old_one_that_cannot_be_removed_does_not_stop_the_run(tmp_path, monkeypatch):
    run = fc.Checkpointer(tmp_path, keep=1)
    run.save(1, small(1))
    monkeypatch.setattr(
        checkpointer.os, "unlink", lambda path: (_ for _ in ()).throw(PermissionError("busy"))
    )
    with pytest.warns(RuntimeWarning, match="cannot remove an old one: busy"):
        run.save(2, small(2))
    assert run.steps() == [1, 2]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_what_cannot_be_read_for_a_moment_is_not_taken_for_damaged(tmp_path, monkeypatch, number):
    run = fc.Checkpointer(tmp_path, keep=2)
    for step in (1, 2, 3):
        run.save(step, small(step))
    kept = (tmp_path / "step-00000003.safetensors").read_bytes()
    again = fc.Checkpointer(tmp_path, keep=2)
    real = checkpointer.load

    def failing(path, **options):
        if "00000003" in path:
            raise OSError(number, os.strerror(number), path)
        return real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpointer, "load", failing)
        with pytest.raises(OSError, match=os.strerror(number)):
            again.latest()
        with pytest.raises(OSError, match=os.strerror(number)):
            again.save(2, small(9))  # it could be of another run that step 3 belongs to
    assert again.steps() == [2, 3]
    assert again.latest()[0] == 3
    assert (tmp_path / "step-00000003.safetensors").read_bytes() == kept


class KilledError(BaseException):
    """Ends a save where a signal would end the process."""


def test_there_are_never_more_than_promised(tmp_path, monkeypatch):
    """However often a run is killed after a checkpoint has its name and before an older one is removed."""
    keep, step, real = 2, 0, os.unlink

    for removed_before in (0, 0, 1, 0, 2, 1):
        removals = iter(range(removed_before))

        def unlink(path, removals=removals):
            assert len(names(tmp_path)) <= keep + 1
            if next(removals, None) is None:
                raise KilledError
            real(path)

        run = fc.Checkpointer(tmp_path, keep=keep)
        assert run.latest() is None or run.latest()[0] == step
        with monkeypatch.context() as patch, suppress(KilledError):
            patch.setattr(checkpointer.os, "unlink", unlink)
            for _ in range(4):
                run.save(step + 1, small(step + 1))
                step += 1
                assert run.steps() == list(range(max(1, step + 1 - keep), step + 1))
        step = run.steps()[-1]
        assert len(names(tmp_path)) <= keep + 1
    fc.Checkpointer(tmp_path, keep=keep).save(step + 1, small(step + 1))
    assert names(tmp_path) == [f"step-{s:08d}.safetensors" for s in (step, step + 1)]


def test_what_a_crash_left_to_remove_stays_where_the_newer_ones_are_damaged(tmp_path, monkeypatch):
    run = fc.Checkpointer(tmp_path, keep=3)
    for step in (1, 2, 3):
        run.save(step, small(step))
    for step in (2, 3):
        (tmp_path / f"step-0000000{step}.safetensors").write_bytes(b"")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    again = fc.Checkpointer(tmp_path, keep=2)
    with monkeypatch.context() as patch:
        patch.setattr(checkpointer, "save", full)
        with pytest.raises(OSError, match="No space left"):
            again.save(4, small(4))
    assert again.steps() == [1, 2, 3]  # the only whole one was not removed for one that was never written
    again.save(4, small(4))
    again.save(5, small(5))
    assert [step for step in again.steps() if (tmp_path / again.path(step)).stat().st_size] == [4, 5]


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_run_killed_at_random_moments_loses_nothing(tmp_path):
    counts = crash.run(tmp_path, kills=6, seed=1)
    assert counts["kills"] == 6
    assert counts["saving"] >= 2
