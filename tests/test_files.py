"""Files: written whole or not at all, left by nobody, and locks on their folders."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import types

import numpy as np
import pytest

import fconv as fc
from fconv.data.idx import read_idx
from fconv.files import atomic as files
from fconv.files import checkpointer, locks
from fconv.testing.purity import same_bits
from fconv.vision.classifying import class_names
from fconv.vision.images import read_image

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX's files, signals and locks")
WRITE = """
import os, sys, time
import fconv.files.atomic
if sys.argv[2] == "named":
    vars(os).pop("O_TMPFILE", None)
with fconv.files.atomic.atomic_write(sys.argv[1]) as file:
    file.write(bytes(100_000))
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(name for name in os.listdir(folder) if name != ".fconv-lock")


def small(step):
    return {"w": np.full(3, step, np.float32), "step": step}


@pytest.fixture(params=["unnamed", "named"])
def way(request, monkeypatch):
    """Files without a name until they are whole, and those with a temporary one."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("Linux alone has files without a name")
    return request.param


@pytest.fixture
def writer():
    """Start a process that has written half of a file."""
    started = []

    def start(path, way):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path), way], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "half\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@posix
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_file_whose_writer_is_killed(tmp_path, writer, way, sent, monkeypatch):
    path = tmp_path / "net.npz"
    process = writer(path, way)
    if way == "named":
        assert len(names(tmp_path)) == 1
    elif names(tmp_path):
        pytest.skip("this file system has no files without a name")
    process.send_signal(sent)
    process.wait()
    monkeypatch.setattr(os, "getpid", lambda: process.pid)  # in a container each process is number 1
    fc.save(path, small(1))
    assert names(tmp_path) == ["net.npz"]


@posix
def test_what_another_process_is_writing_is_no_leftover(tmp_path, writer, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / "step-00000001.safetensors"
    process = writer(path, "named")
    writing = names(tmp_path)
    fc.save(path, small(2))
    run = fc.Checkpointer(tmp_path)
    run.save(2, small(2))
    assert names(tmp_path) == [*writing, path.name, "step-00000002.safetensors"]
    process.kill()
    process.wait()
    run.save(3, small(3))  # nothing is looked for again by a run that goes on
    assert names(tmp_path)[0] == writing[0]
    del run
    fc.Checkpointer(tmp_path).save(4, small(4))
    assert names(tmp_path) == [f"step-0000000{step}.safetensors" for step in (2, 3, 4)]


def test_other_files_that_look_like_leftovers_stay(tmp_path, way):
    others = [".a.npz.backup.part", ".a.npz.0123456789abcdef", ".b.npz.0123456789abcdef.part"]
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    fc.save(tmp_path / "a.npz", small(1))
    assert names(tmp_path) == sorted([*others, "a.npz"])


@posix
def test_a_leftover_taken_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    real, stolen = files._lock, []

    def late(handle):
        if not stolen:
            stolen.append(names(tmp_path))
            files.remove_leftovers(str(tmp_path), files.re.compile(r"a\.npz"))
            assert names(tmp_path) == []
        return real(handle)

    monkeypatch.setattr(files, "_lock", late)
    fc.save(tmp_path / "a.npz", small(1))
    assert len(stolen[0]) == 1
    assert names(tmp_path) == ["a.npz"]


def test_a_system_that_gives_no_name_to_a_file_without_one_gets_a_copy(tmp_path, monkeypatch):
    if not hasattr(os, "O_TMPFILE"):
        pytest.skip("Linux alone has files without a name")

    def forbidden(*args, **options):
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", forbidden)
    fc.save(tmp_path / "a.npz", small(1))
    assert same_bits(fc.load(tmp_path / "a.npz", mmap=False), small(1))
    assert names(tmp_path) == ["a.npz"]


def failing_folder(monkeypatch, number):
    """Let the flush of folders fail, and that of files succeed."""
    real = os.fsync

    def fsync(handle):
        if files.stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(files.os, "fsync", fsync)


@posix
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_folder_that_cannot_be_flushed_is_an_error_and_keeps_the_older_ones(tmp_path, monkeypatch, number):
    run = fc.Checkpointer(tmp_path, keep=1)
    run.save(1, small(1))
    with monkeypatch.context() as patch:
        failing_folder(patch, number)
        with pytest.raises(OSError, match=rf"the folder cannot be flushed: .*{tmp_path.name}") as info:
            run.save(2, small(2))
    assert info.value.errno == number
    assert run.steps() == [1, 2]
    run.save(2, small(2))
    assert run.steps() == [2]


@posix
def test_a_file_system_that_flushes_no_folders_is_no_error(tmp_path, monkeypatch):
    failing_folder(monkeypatch, errno.EINVAL)
    fc.save(tmp_path / "a.npz", small(1))
    assert fc.load(tmp_path / "a.npz")["step"] == 1


@posix
def test_every_folder_that_is_made_is_flushed(tmp_path, monkeypatch):
    flushed, real = [], os.fsync

    def fsync(handle):
        flushed.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("/proc tells which folder it is")
    monkeypatch.setattr(files.os, "fsync", fsync)
    files.make_folder(str(tmp_path / "a" / "b" / "c"))
    assert flushed == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        files.make_folder(str(tmp_path / "file"))


# What is no file


@pytest.fixture(params=["a FIFO", "a socket", "a device", "a folder"])
def odd(request, tmp_path, monkeypatch):
    """Put something that is no file where one is expected; give its kind and a function that does it."""
    kind, sockets = request.param, []

    def put(name):
        path = tmp_path / name
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a socket":
            monkeypatch.chdir(tmp_path)  # the names of sockets are short
            sockets.append(socket.socket(socket.AF_UNIX))
            sockets[-1].bind(name)
        elif kind == "a device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        return path

    yield kind, put
    for each in sockets:
        each.close()


READERS = [
    *(("load", f"x{suffix}", fc.load) for suffix in (".pt", ".npz", ".safetensors")),
    *(("load", f"x{suffix}", fc.load_metadata) for suffix in (".pt", ".npz", ".safetensors")),
    ("read_image", "x.png", read_image),
    ("read_idx", "x-idx1-ubyte", read_idx),
    ("class_names", "names.txt", class_names),
]


@posix
@pytest.mark.parametrize(("who", "name", "call"), READERS)
def test_what_is_no_file_is_refused_at_once(odd, who, name, call):
    kind, put = odd
    path = put(name)
    with pytest.raises(ValueError, match=f"^{who}: .*{name}: expected a regular file, got {kind}$"):
        call(path)


@posix
def test_an_onnx_model_that_is_no_file_is_refused_at_once(odd):
    pytest.importorskip("onnx")
    kind, put = odd
    path = put("x.onnx")
    with pytest.raises(ValueError, match=rf"^from_onnx: .*x\.onnx: expected a regular file, got {kind}$"):
        fc.from_onnx(path)


@posix
def test_a_fifo_put_there_meanwhile_does_not_wait(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "x.pt")
    before = os.stat(tmp_path / "file")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "stat", lambda path: before)
        with pytest.raises(ValueError, match="expected a regular file, got a FIFO"):
            fc.load(tmp_path / "x.pt")


@posix
def test_saving_takes_the_place_of_files_alone(odd, tmp_path):
    kind, put = odd
    path = put("x.npz")
    with pytest.raises(ValueError, match=rf"cannot write .*x\.npz: it is {kind}$"):
        fc.save(path, small(1))
    assert names(tmp_path) == ["x.npz"]
    put("step-00000002.safetensors")
    fc.Checkpointer(tmp_path).save(1, small(1))
    with pytest.warns(RuntimeWarning, match=f"expected a regular file, got {kind}"):
        assert fc.Checkpointer(tmp_path).latest()[0] == 1


# Locks

OTHER = "import sys, fconv; fconv.Checkpointer(sys.argv[1]).save(9, {})"


def refused_to_others(folder):
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(folder)], capture_output=True, text=True, check=False
    )
    return "is in use: another process" in done.stderr


@posix
@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_run_whose_folder_is_made_anew_has_its_lock_there(tmp_path, whole_folder):
    folder = tmp_path / "run"
    run = fc.Checkpointer(folder)
    run.save(1, small(1))
    if whole_folder:
        folder.rename(tmp_path / "away")
    else:
        (folder / ".fconv-lock").unlink()
    run.save(2, small(2))
    assert refused_to_others(folder)


@posix
@pytest.mark.parametrize("link", ["symbolic", "dangling", "hard"])
def test_a_lock_is_no_way_to_other_files(tmp_path, link):
    folder, precious = tmp_path / "run", tmp_path / "precious"
    folder.mkdir()
    if link != "dangling":
        precious.write_text("12")
    if link == "hard":
        os.link(precious, folder / ".fconv-lock")
    else:
        (folder / ".fconv-lock").symlink_to(precious)
    with pytest.raises(ValueError, match=r"^Checkpointer: .*\.fconv-lock is no lock of fconv; remove it"):
        fc.Checkpointer(folder).save(1, small(1))
    assert precious.exists() == (link != "dangling")
    assert link == "dangling" or precious.read_text() == "12"
    assert names(folder) == []


@posix
def test_a_file_that_has_the_locks_name_is_not_overwritten(tmp_path):
    (tmp_path / ".fconv-lock").write_text("my notes")
    with pytest.raises(ValueError, match="is no lock of fconv"):
        fc.Checkpointer(tmp_path).save(1, small(1))
    assert (tmp_path / ".fconv-lock").read_text() == "my notes"
    (tmp_path / ".fconv-lock").write_text("123456\n")  # of a run that has ended
    fc.Checkpointer(tmp_path).save(1, small(1))


@posix
@pytest.mark.parametrize(("number", "held"), [(errno.ENOLCK, True), (errno.EIO, False)])
def test_a_file_system_without_locks_refuses_nothing_and_one_that_fails_does(
    tmp_path, monkeypatch, number, held
):
    def lockf(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)
    if held:
        fc.Checkpointer(tmp_path).save(1, small(1))
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            fc.Checkpointer(tmp_path).save(1, small(1))
    assert names(tmp_path) == (["step-00000001.safetensors"] if held else [])


class Msvcrt(types.SimpleNamespace):
    """The lock of Windows: of one handle, mandatory, refused to every other and to the same one again."""

    LK_NBLCK = 2

    def __init__(self):
        super().__init__(locked=set())

    def locking(self, handle, mode, count):
        assert (mode, count) == (self.LK_NBLCK, 1)
        assert os.lseek(handle, 0, os.SEEK_CUR) > 1000  # what is locked cannot be read by others
        file = os.fstat(handle).st_ino
        if file in self.locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        self.locked.add(file)


def test_windows_has_a_lock_as_well(tmp_path, monkeypatch):
    windows = Msvcrt()
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    spec = importlib.util.spec_from_file_location("windows_locks", locks.__file__)
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        spec.loader.exec_module(module)
    monkeypatch.setattr(checkpointer, "locks", module)
    run = fc.Checkpointer(tmp_path)
    for step in (1, 2):
        run.save(step, small(step))
    fc.Checkpointer(tmp_path).save(3, small(3))  # the same process may
    assert len(windows.locked) == 1
    module._held.clear()  # as another process sees it
    with pytest.raises(
        BlockingIOError, match=rf"is in use: another process \(number {os.getpid()}\) saves there"
    ):
        fc.Checkpointer(tmp_path).save(4, small(4))
