"""fconv doctor: what it sees, what it tries, what it advises."""

from __future__ import annotations

from dataclasses import replace

import pytest

import fconv as fc
from fconv.cli.doctor import conclusions, facts
from fconv.tools.diagnosis import Advice, Blas, Diagnosis, Machine, diagnose, examine, linux
from fconv.tools.diagnosis.advice import better_kernels
from fconv.tools.diagnosis.speed import speed_with

AVX512 = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl")
XEON = Machine(
    "Linux 6 x86_64", "CPython 3.11", "Intel Xeon", AVX512, 8, 8, None, 2**35, 2**34,
    {"numpy": "2.4", "cupy": None}, (Blas("numpy", "openblas", "0.3.30", "Haswell", 8),),
)  # fmt: skip


def measuring(**speeds):
    """Stand for a machine of these speeds by variable; anything else is at 220."""
    asked = []

    def measure(variables):
        asked.append(dict(variables))
        return max([speeds.get(name, 220.0) for name in variables] or [speeds.get("now", 220.0)])

    return measure, asked


def test_haswell_kernels_on_an_avx512_processor():
    measure, asked = measuring(OPENBLAS_CORETYPE=430.0)
    found = diagnose(XEON, measure)
    assert [str(a) for a in found.advice] == ["export OPENBLAS_CORETYPE=SkylakeX: 220 -> 430 GFLOP/s"]
    assert asked == [{}, {"OPENBLAS_CORETYPE": "SkylakeX"}, {}]
    said = "\n".join(conclusions(found))
    assert "Haswell kernels" in said
    assert "export OPENBLAS_CORETYPE=SkylakeX: 220 -> 430 GFLOP/s" in said


def test_the_engine_and_what_it_would_gain():
    lacking = replace(XEON, not_compiled="llvmlite is not there (No module named 'llvmlite')")
    assert dict(facts(lacking, Diagnosis(200.0, (), ())))["convolutions"] == "by NumPy"
    said = "\n".join(conclusions(Diagnosis(200.0, (), ()), lacking))
    assert "computed in NumPy: llvmlite is not there" in said
    assert "compiled" in dict(facts(XEON, Diagnosis(200.0, (), ())))["convolutions"]
    assert "NumPy" not in "\n".join(conclusions(Diagnosis(200.0, (), ()), XEON))


def test_the_doctor_is_a_function_too(capsys):
    fc.doctor()
    said = capsys.readouterr().out
    assert "convolutions" in said
    assert "float32 product" in said


def test_what_gains_nothing_is_not_advised_but_told():
    found = diagnose(XEON, measuring(OPENBLAS_CORETYPE=230.0)[0])
    assert found.advice == ()
    said = "\n".join(conclusions(found))
    assert "Nothing to change." in said
    assert "OPENBLAS_CORETYPE=SkylakeX: 220 -> 230 GFLOP/s" in said


def test_a_gain_that_does_not_last_is_not_believed():
    speeds = iter([100.0, 200.0, 195.0])  # slow at first, because something else ran
    found = diagnose(XEON, lambda variables: next(speeds))
    assert (found.speed, found.advice) == (195.0, ())


@pytest.mark.parametrize(
    ("kernels", "features", "better"),
    [
        ("Haswell", AVX512, "SkylakeX"), ("Zen", AVX512, "SkylakeX"), ("Sandybridge", AVX512, "SkylakeX"),
        ("SkylakeX", AVX512, None), ("Cooperlake", AVX512, None), ("Sapphirerapids", AVX512, None),
        ("Haswell", AVX512[:4], None), ("Zen", AVX512[:4], None), ("Nehalem", AVX512[:4], "Haswell"),
        ("PRESCOTT", AVX512[:4], "Haswell"), ("Haswell", (*AVX512[:4], "avx512f"), None),
        ("neoversen1", ("asimd",), None), ("", AVX512, None),
    ],
)  # fmt: skip
def test_kernels_that_the_processor_could_run(kernels, features, better):
    assert better_kernels(Blas("numpy", "openblas", "", kernels, 1), features) == better


@pytest.mark.parametrize(("threads", "word"), [(1, "fewer than could"), (64, "more than can run")])
def test_threads_are_compared_with_what_can_run(threads, word):
    blas = Blas("numpy", "openblas", "0.3.30", "SkylakeX", threads)
    machine = replace(XEON, blas=(blas,), quota=3.5)
    measure, asked = measuring(OPENBLAS_NUM_THREADS=500.0)
    found = diagnose(machine, measure)
    assert asked[1] == {"OPENBLAS_NUM_THREADS": "4"}
    assert [str(a) for a in found.advice] == ["export OPENBLAS_NUM_THREADS=4: 220 -> 500 GFLOP/s"]
    assert word in found.advice[0].why


def test_other_libraries_have_variables_of_their_own():
    measure, asked = measuring()
    diagnose(replace(XEON, blas=(Blas("numpy", "mkl", "2024", "", 2),)), measure)
    assert asked[1:] == [{"MKL_NUM_THREADS": "8"}]
    measure, asked = measuring()
    diagnose(replace(XEON, blas=(Blas("numpy", "accelerate", "", "", 0),)), measure)
    assert asked[1:] == []


def test_a_machine_that_cannot_be_measured():
    found = diagnose(XEON, lambda variables: None)
    assert found == Diagnosis(None, (), ())
    assert "nothing to advise" in "\n".join(conclusions(found))


def test_all_that_is_advised_has_figures():
    advice = Advice("A", "1", "because", 10.0, 20.0)
    for line in conclusions(Diagnosis(10.0, (advice,), (advice,))):
        if "A=1" in line:
            assert "10 -> 20 GFLOP/s" in line


def test_facts_of_a_bare_machine():
    bare = Machine("Other", "3.13", "unknown", (), 1, 1)
    said = dict(facts(bare, Diagnosis(None, (), ())))
    assert said["instructions"] == "not known"
    assert "memory" not in said
    assert said["GPU"] == "none that CUDA's driver shows"
    with_gpu = dict(facts(replace(XEON, gpus=("NVIDIA H200",), cuda_driver="12.8"), Diagnosis(1.0, (), ())))
    assert with_gpu["GPU"] == "NVIDIA H200, the driver knows CUDA 12.8"
    assert "extra cuda12" in with_gpu[""]


def test_the_real_machine():
    machine = examine()
    assert machine.cores >= machine.allowed >= machine.usable >= 1
    assert machine.numpy_blas is not None
    assert machine.packages["numpy"]
    speed = speed_with({})
    assert speed is not None
    assert speed > 0.1


def test_a_child_that_fails_gives_nothing(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert speed_with({}) is None


def test_files_of_linux(tmp_path):
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (cgroup / "a" / "b").mkdir(parents=True)
    (proc / "cpuinfo").write_text("model name\t: A CPU\nflags\t\t: avx2 fma\n\nmodel name\t: other\n")
    (proc / "meminfo").write_text("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  900 kB\n")
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    assert linux.cpu_name(proc) == "A CPU"
    assert linux.cpu_flags(proc) == ("avx2", "fma")
    assert linux.cpu_quota(proc, cgroup) is None
    assert linux.memory(proc, cgroup) == (1000 * 1024, 900 * 1024)
    (cgroup / "a" / "cpu.max").write_text("150000 100000\n")
    (cgroup / "a" / "b" / "cpu.max").write_text("max 100000\n")
    (cgroup / "a" / "memory.max").write_text("512000\n")
    (cgroup / "a" / "memory.current").write_text("500000\n")
    assert linux.cpu_quota(proc, cgroup) == 1.5
    assert linux.memory(proc, cgroup) == (512000, 12000)
    assert linux.cpu_flags(tmp_path / "none") == ()
    assert linux.memory(tmp_path / "none", tmp_path / "none") == (None, None)
    assert replace(XEON, quota=1.5).usable == 2
