"""The benchmarks themselves, without any library that they compare with."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks import agreement, cli, machine, page, plots, report, results
from benchmarks.cases import WHATS, Conv, Step
from benchmarks.conductor import Worker, WorkerError
from benchmarks.libraries import CHANNELS_LAST, CONTIGUOUS, LIBRARIES, NotServed, device, load
from benchmarks.report import TITLES
from benchmarks.table import FLOAT64, PARTS, SHAPES, STEPS, find, jobs
from tests.device import raw_kernels, standin

ROOT = Path(__file__).parents[1]
LITTLE = [
    Conv(2, 4, 6, 5, 3, 1, 1),
    Conv(2, 4, (7, 9), 6, 3, 2, 1, groups=2),
    Conv(2, 3, 8, 3, 3, 1, 2, groups=3, dilation=2),
    Conv(2, 4, 5, 3, 4, 2, 1, transposed=True),
    Conv(1, 3, 4, 2, 9, 3, 0, transposed=True),
    Conv(2, 3, 11, 4, 5, 1, 2, ndim=1),
    Conv(2, 2, 5, 3, 3, 1, 1, ndim=3),
    Conv(2, 4, 6, 5, 3, 1, 1, dtype="float64"),
]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_every_job_of_a_part_has_a_name_of_its_own_and_is_found_by_it(part, quick):
    found = jobs(part, quick)
    assert len({job.name for job in found}) == len(found) > 0
    assert all(find(part, job.name, quick) == job for job in found)


def test_every_library_has_a_look_in_the_plots():
    assert plots.LOOKS.keys() >= LIBRARIES.keys()


def test_every_part_has_a_title():
    assert TITLES.keys() == PARTS.keys()


def test_the_tables_hold_what_was_asked_for():
    assert len(SHAPES) == 22
    assert {case.name.removesuffix(" float64") for case in FLOAT64} <= {case.name for case in SHAPES}
    assert SHAPES[12].name == "1,3,860x1600,3,3,1,0"
    assert SHAPES[18].out_shape == (8, 1, 150, 150)
    assert SHAPES[20].name == "conv1d 32,64,4096,64,9,1,4"
    assert [job.case.batch for job in jobs("scaling") if (job.axis, job.what) == ("batch", "vjp")] == [
        8, 16, 32, 64, 128, 256,
    ]  # fmt: skip


@pytest.mark.parametrize("case", LITTLE, ids=lambda case: case.name)
def test_the_simple_ways_compute_what_fconv_does(case):
    ours = load("fconv")
    for what in WHATS:
        expected = ours.numpy(ours.convolution(case, what, CONTIGUOUS)())
        assert sum(y.nbytes for y in expected) == case.results_bytes(what)
        if what == "forward":
            assert expected[0].shape == case.out_shape
        last = ours.numpy(ours.convolution(case, what, CHANNELS_LAST)())
        for found in (last, *(load(n).convolution(case, what, "")() for n in ("im2col", "shifts", "loops"))):
            error, _ = agreement.difference(dict(enumerate_names(found)), dict(enumerate_names(expected)))
            assert error < 1


@pytest.fixture
def on_the_device():
    with standin.installed():
        device.choose("cuda")
        yield
        device.choose("cpu")


@pytest.mark.skipif(raw_kernels.compiler() is None, reason="no C++ compiler to run kernels on the CPU with")
@pytest.mark.parametrize("case", LITTLE, ids=lambda case: case.name)
def test_the_same_on_a_gpu(on_the_device, case):
    for what in WHATS:
        found = []
        for name in ("fconv", "im2col"):
            library, before = load(name), len(standin.waits)
            run = library.convolution(case, what, CONTIGUOUS)
            results_there = run()
            assert standin.waits[before:] == ["synchronize"]
            found.append(dict(enumerate_names(library.numpy(results_there))))
        assert agreement.difference(*found)[0] < 1


def test_the_gpu_is_named(on_the_device, monkeypatch):
    monkeypatch.setattr(device, "_PRODUCT", 64)
    assert "stand-in, cupy 14" in device.details()


@pytest.mark.parametrize("what", WHATS[:2])
@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST])
def test_passes_read_and_write_what_they_say(what, layout):
    for job in jobs("passes", quick=True):
        if job.what == what:
            x, g = job.case.arrays()
            found = load("fconv").passing(job.case, what, layout)()
            assert found[0].shape == (x if what == "vjp" else g).shape
            assert job.case.least_bytes(what) >= found[0].nbytes + (g if what == "vjp" else x).nbytes


def test_a_training_step_on_a_gpu(on_the_device):
    from benchmarks.networks import weights

    case = STEPS[5].small()
    values = weights(case.network, case.shape)
    take, momentum = load("fconv").step(case, values, CONTIGUOUS, 0.0, "float64")
    assert take() > take()
    assert all(type(value) is np.ndarray for value in momentum().values())


def test_a_gpu_is_given_larger_batches_too():
    batches = {job.case.batch for job in jobs("conv", device="cuda")}
    assert {64, 256} <= batches
    assert len({job.name for job in jobs("conv", device="cuda")}) == len(jobs("conv", device="cuda"))
    assert jobs("steps", device="cuda")[-1].case.shape == (256, 3, 64, 64)


def enumerate_names(arrays):
    return ((f"y{i}", np.asarray(a)) for i, a in enumerate(arrays))


def test_loops_refuse_what_would_take_too_long():
    with pytest.raises(NotServed, match="1605632 windows"):
        load("loops").convolution(SHAPES[1], "forward", CONTIGUOUS)


def test_a_step_is_taken_by_fconv_and_its_momentum_has_the_names_of_the_weights():
    from benchmarks.networks import weights

    case = STEPS[5].small()
    values = weights(case.network, case.shape)
    take, momentum = load("fconv").step(case, values, CHANNELS_LAST, 0.0, "float64")
    assert take() > take() > take()
    assert list(momentum()) == list(values)


def test_targets_have_the_shape_of_what_the_networks_give():
    from benchmarks.networks import in_fconv

    for case in STEPS:
        shape = in_fconv(case.network, dropout=0.0).out_shape(case.shape)
        assert shape == ((case.shape[0], case.target) if isinstance(case.target, int) else case.target)
        assert isinstance(case, Step)


def test_disagreement_is_found_and_pytorch_is_the_judge():
    right = {"y0": np.ones(3), "y1": np.array([2.0])}
    wrong = {"y0": np.array([1.0, 1.0, 1.001]), "y1": np.array([2.0])}
    missing, lost = {"y0": np.ones(3)}, {**right, "y1": np.array([np.nan])}
    ways = [("fconv", CONTIGUOUS), ("torch", CONTIGUOUS), ("jax", CONTIGUOUS), ("numba", CONTIGUOUS)]
    found = agreement.disagreements(dict(zip(ways, (wrong, right, missing, lost), strict=True)))
    assert set(found) == {ways[0], ways[2], ways[3]}
    assert found[ways[0]].startswith("disagrees with torch (contiguous) in y0: 5 times")
    assert agreement.disagreements({}) == {}


def test_training_has_to_agree_more_closely_than_results():
    a, b = (
        {"loss": np.array([1.0]), "x": np.array([1.0])},
        {"loss": np.array([1 + 1e-5]), "x": np.array([1.0])},
    )
    assert agreement.difference(a, b) == (pytest.approx(10, rel=1e-3), "loss")


def record(library, layout, seconds, case="a", **more):
    return {"what": "forward", "axis": "", "case": case, "library": library, "layout": layout,
            "seconds": seconds, **more}  # fmt: skip


def test_ratios_take_the_better_memory_order_of_each():
    lines = results.Lines([
        record("fconv", CONTIGUOUS, 3.0), record("fconv", CHANNELS_LAST, 2.0),
        record("torch", CONTIGUOUS, 8.0), record("torch", CHANNELS_LAST, 4.0),
        record("fconv", CONTIGUOUS, 1.0, "b"), record("torch", CONTIGUOUS, 0.5, "b"),
        {**record("jax", CONTIGUOUS, None), "not_served": "why"},
    ])  # fmt: skip
    assert lines.ratios("fconv", "torch") == {"a": 0.5, "b": 2.0}
    found = {words: results.mean(ratios) for words, ratios in results.summary(lines)}
    assert found == {
        "PyTorch, better order": pytest.approx(1.0),
        "PyTorch, contiguous": pytest.approx(0.5**0.5),
        "PyTorch, both contiguous": pytest.approx(0.75**0.5),
    }


@pytest.mark.parametrize("name", ["agreement", "page", "report", "results"])
def test_examples_in_docstrings(name):
    module = import_module(f"benchmarks.{name}")
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS, extraglobs={"np": np})
    assert failed == 0
    assert tried > 0


def test_a_page_without_marks_or_results_of_small_inputs_are_refused(tmp_path):
    text = f"# Title\n{page.BEGIN}\nold\n{page.END}\nend\n"
    assert page.filled(text, "new") == f"# Title\n{page.BEGIN}\n\nnew\n{page.END}\nend\n"
    with pytest.raises(ValueError, match="expected the page to hold the lines"):
        page.filled("# Title", "new")
    with pytest.raises(ValueError, match="conv were run with --quick"):
        page.fill(tmp_path / "page.md", {"conv": {"header": {"quick": True}, "records": []}})
    page.filled((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"), "")


def test_processors_are_chosen_from_those_allowed():
    assert machine.vectors({"avx2", "sse"}) == "AVX2"
    assert machine.vectors({"avx2", "avx512dq"}) == "AVX-512"
    assert len(machine.cpus(1)) <= 1


@pytest.fixture
def worker(tmp_path):
    with (tmp_path / "log").open("w") as log:
        found = Worker("im2col", threads=1, cpus=[], coretype="", quick=True, log=log)
        yield found
        found.close()


def test_a_worker_tells_what_failed_and_goes_on(worker):
    with pytest.raises(WorkerError, match="KeyError"):
        worker.ask(60, "time", layout="nowhere", seconds=0)
    assert worker.ask(60, "about")["versions"] == {"numpy": np.__version__}


def test_a_worker_that_does_not_answer_in_time_is_ended(worker):
    with pytest.raises(WorkerError, match="no answer within 0 s"):
        worker.ask(0, "about")
    assert not worker.alive


def run(*flags):
    command = [sys.executable, "-m", "benchmarks", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_command_measures_and_reports(tmp_path):
    pytest.importorskip("matplotlib")
    only = "^(conv|memory) forward 2,3,32,64|side 1,16,16"
    done = run("--quick", "conv", "scaling", "memory", "--only", only,
               "--libraries", "fconv,im2col", "--out", tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| `2,3,32,64,3,1,1` |" in done.stdout
    assert "Small inputs" in done.stdout
    records = json.loads((tmp_path / "conv.json").read_text())["records"]
    assert [(r["library"], r["layout"]) for r in records] == [
        ("fconv", CONTIGUOUS), ("fconv", CHANNELS_LAST), ("im2col", CONTIGUOUS),
    ]  # fmt: skip
    assert all(r["seconds"] > 0 for r in records)
    memory = json.loads((tmp_path / "memory.json").read_text())["records"]
    assert len(memory) == 3
    assert all(r["peak"] >= r["before"] > 0 for r in memory)
    assert (tmp_path / "scaling.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "results.md").read_text() in done.stdout
    again = run("--report", "--docs", "--out", tmp_path)
    assert again.returncode == 2
    assert "run with --quick" in again.stderr


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["nothing"], "expected parts of conv, vjp, weight"),
        (["--only", "("], "--only: expected a regular expression, got '('"),
        (["--libraries", "tensorflow"], "--libraries: expected names of fconv"),
        (["--device", "cuda", "memory"], "memory: measures the host's memory"),
        (["--device", "cuda", "--libraries", "jax"], "expected names of fconv, torch, im2col, got 'jax'"),
        (["--rounds", "0"], "expected an integer of 1 or more, got 0"),
    ],
)
def test_bad_arguments_are_refused(flags, text, capsys):
    with pytest.raises(SystemExit):
        cli.main(flags)
    assert text in capsys.readouterr().err


def test_help_names_every_part():
    text = run("--help").stdout
    for word in (*PARTS, "--only", "--rounds", "--libraries", "--quick", "--out"):
        assert word in text


def test_numbers_keep_their_significant_digits():
    assert report.number(0.00999) == "0.00999"
    assert report.number(99.96) == "100"
