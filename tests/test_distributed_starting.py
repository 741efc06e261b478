"""The communicator that a process is given, and the launch of ranks."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from fconv import distributed
from fconv.distributed import communication, launching


def test_communicator_of_one_process_needs_no_mpi(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(communication, "_known", [])
    comm = distributed.communicator()
    assert (comm.rank, comm.size) == (0, 1)
    assert distributed.communicator(timeout=5) is comm
    with pytest.raises(ValueError, match="communicator: expected timeout"):
        distributed.communicator(timeout=0)


def test_mpi4py_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setattr(communication, "_known", [])
    with pytest.raises(ImportError, match=r"one of 4 processes that mpiexec started.*'fconv-nn\[mpi\]'"):
        distributed.communicator()


def test_an_mpi_of_another_kind_is_refused(monkeypatch):
    fake = SimpleNamespace(
        COMM_WORLD=SimpleNamespace(size=1), Get_library_version=lambda: "MPICH Version: 5\n"
    )
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=fake))
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setattr(communication, "_known", [])
    with pytest.raises(ValueError, match=r"started 4 processes, but the MPI of mpi4py \(MPICH Version: 5\)"):
        distributed.communicator()


STARTER = """
import os, sys
ranks, attempt = int(sys.argv[2]), int(os.environ["FCONV_LAUNCH_RESTARTS"])
print("\\n".join(sys.argv[1:]), file=open(sys.argv[-1], "a"))
up = 2 if attempt == 0 else ranks  # of 4, as after the loss of a machine
for rank in range(up):
    sys.stderr.write(f"\\x1efconv rank {rank} is process {rank} on elsewhere\\n")
print("what the ranks print")
sys.exit({STATUS} if attempt < 2 else 0)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("status", "least", "starts"), [(75, 1, [4, 2, 2]), (75, 4, [4, 4, 4]), (1, 1, [4])])
def test_launch_starts_as_many_ranks_as_there_are(tmp_path, capfd, status, least, starts):
    (tmp_path / "starter.py").write_text(STARTER.replace("{STATUS}", str(status)))
    noted = tmp_path / "noted"
    code = launching.launch(
        ["train.py", str(noted)], 4, least=least, mpiexec=f"{sys.executable} {tmp_path / 'starter.py'}"
    )
    words = noted.read_text().split()
    assert [int(words[i + 1]) for i, word in enumerate(words) if word == "-n"] == starts
    assert code == (0 if status == 75 else 1)
    out, err = capfd.readouterr()
    assert out.count("what the ranks print") == len(starts)
    assert "\x1e" not in err
    assert ("and only 2 of 4 came up; starting 2 ranks again" in err) == (starts == [4, 2, 2])


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_launch_gives_up_in_the_end(tmp_path, capfd):
    (tmp_path / "starter.py").write_text("import sys; sys.exit(75)")
    code = launching.launch(
        ["train.py"], 1, most_restarts=2, mpiexec=f"{sys.executable} {tmp_path / 'starter.py'}"
    )
    assert code == 75
    assert "it has been started again 2 times, and is not any more" in capfd.readouterr().err


def test_launch_without_mpiexec_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=r"launch: there is no mpiexec; pip install 'fconv-nn\[mpi\]'"):
        launching.find_mpiexec()
