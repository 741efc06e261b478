"""The command fconv on ONNX files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import fconv as fc
from fconv.cli import main

pytest.importorskip("onnx")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, list(args), prog_name="fconv")


@pytest.fixture
def params(run):
    net = fc.models.lenet(num_classes=3)
    params = net.init(fc.random.key(0), (1, 1, 32, 32))
    fc.save("net.npz", params)
    options = ("--model", "lenet", "--option", "num_classes=3", "--shape", "1,1,32,32")
    shown = run("convert", "net.npz", "net.onnx", *options)
    assert shown.exit_code == 0
    return params


def test_weights_go_there_and_back(run, params):
    assert run("convert", "net.onnx", "back.pt").exit_code == 0
    assert run("diff", "net.npz", "back.pt").exit_code == 0
    assert run("diff", "net.onnx", "back.pt").exit_code == 0


def test_inspect_lists_initializers_and_what_the_network_is(run, params):
    found = json.loads(run("inspect", "net.onnx", "--json").output)
    listed = {entry["name"]: (tuple(entry["shape"]), entry["bytes"]) for entry in found["entries"]}
    assert {n: (x.shape, x.nbytes) for n, x in fc.to_state_dict(params).items()}.items() <= listed.items()
    assert "1, 32, 32" in found["metadata"]["inputs"]
    assert "2 Conv" in found["metadata"]["operators"]


def test_summary_and_predict_run_the_file(run, params):
    image = pytest.importorskip("PIL.Image")
    values = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    image.fromarray(values).save("digit.png")
    assert "61,111 trained" in run("summary", "net.onnx", "--shape", "1,1,32,32").output
    by_file = run("predict", "net.onnx", "digit.png", "--shape", "1,1,32,32", "--json")
    by_name = run("predict", "lenet", "digit.png", "--weights", "net.npz", "--json")
    assert by_file.exit_code == by_name.exit_code == 0
    for one, other in zip(
        *(json.loads(shown.output)[0]["classes"] for shown in (by_file, by_name)), strict=True
    ):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], rel=1e-5)


def test_files_that_are_none_are_refused(run):
    with open("bad.onnx", "wb") as file:
        file.write(b"none of it")
    for args in (
        ("inspect", "bad.onnx"),
        ("convert", "bad.onnx", "x.npz"),
        ("summary", "bad.onnx", "--shape", "1"),
    ):
        shown = run(*args)
        assert shown.exit_code == 1
        assert shown.stderr.startswith("fconv: ")
        assert "bad.onnx" in shown.stderr


def test_convert_knows_the_usual_shape(run, params):
    options = ("--model", "lenet", "--option", "num_classes=3")
    assert run("convert", "net.npz", "usual.onnx", *options).exit_code == 0
    with open("net.onnx", "rb") as one, open("usual.onnx", "rb") as other:
        assert one.read() == other.read()
