"""The command fconv."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fconv as fc
from fconv.cli import main
from fconv.cli.app import one_line
from fconv.cli.printing import shortened, table
from tests.commands import weights

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


COMMAND = [sys.executable, "-m", "fconv"]


def started(*args, **options):
    environment = {**os.environ, "PYTHONPATH": ROOT}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*COMMAND, *args], env=environment, **pipes, **options)


# The group


def test_every_command_helps_with_an_example(run):
    assert run("--help").exit_code == 0
    for name, command in main.commands.items():
        shown = run(name, "--help")
        assert shown.exit_code == 0
        if name not in ("doctor", "models"):
            assert f"fconv {name} " in shown.output.split("Examples:")[1]
        assert all(option.help for option in command.params if option.param_type_name == "option")


def test_version(run):
    assert run("--version").output == f"fconv {fc.__version__}\n"


def test_an_unknown_command_is_a_usage_error(run):
    assert run("inspekt", "x").exit_code == 2


def test_errors_are_one_line_of_bounded_length():
    text = one_line(ValueError("a:\n  missing: b\n  unexpected: " + "c" * 3000))
    assert text.startswith("a: missing: b; unexpected: ccc")
    assert "\n" not in text
    assert len(text) < 1200


def test_bad_files_are_refused_in_one_line_and_with_traceback_on_request(run, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    shown = run("inspect", "bad.npz")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.startswith("fconv: ")
    assert shown.stderr.count("\n") == 1
    traced = run("--traceback", "inspect", "bad.npz")
    assert traced.exit_code == 1
    assert traced.stderr.startswith("Traceback (most recent call last):\n")
    assert "\nValueError: load: bad.npz is not a whole .npz file" in traced.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_the_shell(run, shell):
    shown = run("completion", shell)
    assert shown.exit_code == 0
    assert f"_FCONV_COMPLETE={shell}_complete" in shown.stdout


def test_completion_completes_the_names_of_networks():
    environment = {
        "_FCONV_COMPLETE": "bash_complete",
        "COMP_WORDS": "fconv summary resnet",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        COMMAND, env={**os.environ, "PYTHONPATH": ROOT, **environment}, capture_output=True, text=True
    )
    assert "plain,resnet18" in done.stdout.split()


def test_importing_the_library_does_not_import_click():
    code = "import sys, fconv; print([m for m in ('click', 'PIL', 'fconv.cli') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
class TestProcesses:
    def test_a_reader_that_leaves_early_is_met_in_silence(self, tmp_path):
        path = tmp_path / "many.npz"
        fc.save(path, {f"entry{i}": np.zeros(1) for i in range(5000)})
        process = started("inspect", str(path))
        assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        process.stderr.close()
        assert (process.wait(), errors) == (141, "")

    @pytest.mark.parametrize(
        ("sent", "status", "text"),
        [(signal.SIGINT, 130, "fconv: interrupted\n"), (signal.SIGTERM, 143, "fconv: terminated\n")],
    )
    def test_a_signal_ends_without_a_traceback(self, tmp_path, sent, status, text):
        (tmp_path / "slow.py").write_text(
            "import sys, time\ndef net():\n    print('here', flush=True)\n    time.sleep(60)\n",
        )
        process = started("summary", "slow:net", "--shape", "1,1", cwd=tmp_path)
        assert process.stdout.readline() == "here\n"
        time.sleep(0.1)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (status, text)

    def test_exit_statuses_reach_the_shell(self, tmp_path):
        fc.save(tmp_path / "a.npz", {"w": np.zeros(2)})
        fc.save(tmp_path / "b.npz", {"w": np.ones(2)})
        (tmp_path / "bad.npz").write_bytes(b"none")
        for files, status in ((("a.npz", "a.npz"), 0), (("a.npz", "b.npz"), 1), (("a.npz", "bad.npz"), 2)):
            process = started("diff", *files, cwd=tmp_path)
            process.communicate()
            assert process.returncode == status


# Printing


def test_tables_are_whole_in_a_pipe_and_shortened_on_a_terminal(monkeypatch):
    rows = [("a" * 50, "1"), ("b", "22")]
    assert table(rows, "<>")[0] == "a" * 50 + "   1"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    assert table(rows, "<>")[0] == "a" * 11 + "..." + "a" * 12 + "   1"
    assert shortened("abcdefghij", 7) == "ab...ij"


# inspect


@pytest.mark.parametrize("name", ["net.safetensors", "net.npz", "net.pt"])
def test_inspect_lists_entries_totals_and_metadata(run, name):
    fc.save(name, {"state_dict": weights(), "epoch": 3}, {"author": "someone"})
    shown = run("inspect", name)
    assert shown.exit_code == 0
    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert "state_dict.module.a.weight (2, 3) float32 24" in lines
    assert "2 entries, 8 numbers, 32 B" in lines
    assert "epoch: 3" in lines
    assert "author: someone" in lines
    found = json.loads(run("inspect", name, "--json").output)
    assert found["entries"][0] == {
        "name": "state_dict.module.a.weight", "shape": [2, 3], "dtype": "float32", "bytes": 24,
    }  # fmt: skip
    assert (found["numbers"], found["bytes"], found["values"]) == (8, 32, {"epoch": 3})
    assert found["file_bytes"] == os.path.getsize(name)


# convert


@pytest.mark.parametrize("source", ["a.safetensors", "a.npz", "a.pt"])
@pytest.mark.parametrize("target", ["b.safetensors", "b.npz", "b.pt"])
def test_convert_keeps_every_bit_and_the_metadata(run, source, target):
    fc.save(source, weights(), {"author": "someone"})
    shown = run("convert", source, target)
    assert shown.output.startswith(f"{source} -> {target}: 2 entries")
    assert run("diff", source, target).exit_code == 0
    assert fc.load_metadata(target)["author"] == "someone"


def test_convert_takes_the_state_dict_and_says_what_it_left_out(run):
    fc.save("run.npz", {"state_dict": weights(), "epoch": 3, "optimizer": {"step": 7, "m": np.ones(2)}})
    shown = run("convert", "run.npz", "net.npz", "--rename", "module.=net.", "--drop", "*.bias")
    assert "left out of run.npz: epoch, optimizer" in shown.output
    assert "not chosen: net.a.bias" in shown.output
    assert list(fc.load("net.npz")) == ["net.a.weight"]
    assert run("convert", "run.npz", "m.npz", "--entry", "optimizer").exit_code == 0
    assert list(fc.load("m.npz")) == ["m"]
    shown = run("convert", "run.npz", "n.npz", "--entry", "nothing")
    assert shown.exit_code == 1
    assert "expected an entry 'nothing', got state_dict, epoch, optimizer" in shown.stderr


def test_convert_finds_nested_parameters_of_ours(run):
    fc.save("run.npz", {"params": {"a": ({"weight": np.ones(2)}, ())}, "epoch": 3})
    assert run("convert", "run.npz", "net.npz").exit_code == 0
    assert list(fc.load("net.npz")) == ["a.0.weight"]


def test_convert_renames_and_casts(run):
    fc.save("a.npz", {**weights(np.float64), "steps": np.array(3)})
    done = run(
        "convert", "a.npz", "b.npz", "--strip-prefix", "module.", "--add-prefix", "x.", "--dtype", "float16",
        "--only", "x.*",
    )  # fmt: skip
    assert done.exit_code == 0
    found = fc.load("b.npz")
    assert {name: x.dtype.name for name, x in found.items()} == {
        "x.a.weight": "float16", "x.a.bias": "float16", "x.steps": "int64",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rename", "net.=x."], "no name begins with 'net.'"),
        (["--rename", "module.a.weight=module.a.bias"], "module.a.bias"),
        (["--drop", "fc.*"], "no name matches 'fc.*'"),
        (["--drop", "*"], "nothing is left"),
        (["--dtype", "float16"], "beyond the range of float16"),
    ],
)
def test_convert_refuses_what_cannot_be_meant_and_writes_nothing(run, options, message):
    fc.save("a.npz", {**weights(), "module.large": np.array([1e30], np.float32)})
    shown = run("convert", "a.npz", "b.npz", *options)
    assert shown.exit_code == 1
    assert message in shown.stderr
    assert os.listdir() == ["a.npz"]


def test_convert_overwrites_only_when_told_and_never_its_input(run):
    fc.save("a.npz", weights())
    fc.save("b.npz", {"old": np.zeros(1)})
    assert "exists; --force overwrites it" in run("convert", "a.npz", "b.npz").stderr
    assert list(fc.load("b.npz")) == ["old"]
    assert run("convert", "a.npz", "b.npz", "--force").exit_code == 0
    assert len(fc.load("b.npz")) == 2
    assert "is IN itself" in run("convert", "a.npz", "./a.npz", "--force").stderr


@pytest.mark.parametrize(
    "args",
    [("b.onnx",), ("b.npz", "--model", "lenet"), ("b.npz", "--rename", "x"), ("b.onnx", "--shape", "1,a")],
)
def test_convert_called_wrongly_ends_with_2(run, args):
    fc.save("a.npz", weights())
    assert run("convert", "a.npz", *args).exit_code == 2


# diff


def test_diff_names_everything_that_differs(run):
    same = {"same": np.array([1.0, np.nan])}
    fc.save(
        "a.npz", {**same, "only": np.zeros(2), "shape": np.zeros(2), "type": np.zeros(2), "value": np.ones(3)}
    )
    fc.save("b.npz", {
        **same, "new": np.zeros(2), "shape": np.zeros(3), "type": np.zeros(2, np.float32),
        "value": np.array([1, 1, 1.5]),
    })  # fmt: skip
    shown = run("diff", "a.npz", "b.npz")
    assert shown.exit_code == 1
    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert lines == [
        "only in a.npz", "only (2,)", "only in b.npz", "new (2,)", "of other shape", "shape (2,) (3,)",
        "of other dtype", "type float64 float32", "differing absolute relative", "value 0.5 0.333",
        "2 entries equal, 1 differing",
    ]  # fmt: skip
    found = json.loads(run("diff", "a.npz", "b.npz", "--json").output)
    assert found["equal"] is False
    assert found["differences"][-1] == {"name": "value", "absolute": 0.5, "relative": 1 / 3}


def test_diff_tolerates_what_it_is_told_to(run):
    fc.save("a.npz", {"w": np.ones(2)})
    fc.save("b.npz", {"w": np.ones(2, np.float32) + np.float32(0.01)})
    assert run("diff", "a.npz", "b.npz").exit_code == 1
    assert run("diff", "a.npz", "b.npz", "--tolerance", "0.02").exit_code == 1  # of another dtype
    assert run("diff", "a.npz", "b.npz", "--tolerance", "0.02", "--ignore-dtype").exit_code == 0
    assert run("diff", "a.npz", "b.npz", "--tolerance", "0.005", "--ignore-dtype").exit_code == 1


def test_diff_counts_nan_against_a_number_and_whole_numbers_beyond_floats(run):
    fc.save("a.npz", {"w": np.array([np.nan]), "n": np.array([2**60])})
    fc.save("b.npz", {"w": np.array([0.0]), "n": np.array([2**60 + 1])})
    found = json.loads(run("diff", "a.npz", "b.npz", "--json").output)
    assert [d["absolute"] for d in found["differences"]] == ["inf", 1.0]
    assert found["equal"] is False


# summary and models


def test_summary_of_a_network_by_name_and_of_ones_own(run, tmp_path, monkeypatch):
    shown = run("summary", "lenet", "--shape", "4,1,32,32", "--option", "num_classes=7")
    assert "fc3: linear        (4, 7)" in shown.output
    (tmp_path / "mine.py").write_text(
        "import fconv as fc\ndef net(n=2):\n    return fc.linear(n)\nother = 3\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert "(1, 5)" in run("summary", "mine:net", "--shape", "1,3", "--option", "n=5").output
    found = json.loads(run("summary", "mine:net", "--shape", "1,3", "--json").output)
    assert (found["params"], found["rows"][0]["kind"]) == (8, "linear")
    assert run("summary", "mine:net").exit_code == 2
    assert "mine has no nothing" in run("summary", "mine:nothing", "--shape", "1,3").stderr
    assert "got int" in run("summary", "mine:other", "--shape", "1,3").stderr


def test_summary_refuses_with_a_hint(run):
    assert "did you mean resnet18?" in run("summary", "resnet-18").stderr
    shown = run("summary", "lenet", "--option", "classes=3")
    assert shown.exit_code == 1
    assert "num_classes" in shown.stderr
    assert "conv1" in run("summary", "lenet", "--shape", "1,3,32").stderr
    assert run("summary", "lenet", "--option", "x").exit_code == 2


def test_models_lists_the_catalogue(run):
    names = [line.split()[0] for line in run("models").output.splitlines()[1:]]
    assert names == list(fc.models.MODELS)
    assert [model["name"] for model in json.loads(run("models", "--json").output)] == names


# doctor


def test_doctor_on_this_machine(run):
    start = time.perf_counter()
    found = json.loads(run("doctor", "--json").output)
    took = time.perf_counter() - start
    assert found["diagnosis"]["speed"] > 0
    assert found["machine"]["packages"]["numpy"] == np.__version__
    for advice in found["diagnosis"]["advice"]:
        assert advice["after"] >= 1.1 * advice["before"]
    assert took < 120  # alone on a machine it is about a second or two
