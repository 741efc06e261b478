"""The short scripts and the notebook run as they stand, on data that comes inside packages."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import fconv as fc
from tests.test_examples import write_folder

SHORT = Path(__file__).parents[1] / "examples" / "short"
DOCS = Path(__file__).parents[1] / "docs" / "short.md"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a script in a folder of its own, and return its names and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        return runpy.run_path(str(SHORT / f"{name}.py"), run_name="__main__"), capsys.readouterr().out

    return call


def code_of(path):
    """Return the lines of a script, or of a notebook's cells of code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text.splitlines()
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code").splitlines()


def numbers(pattern, text):
    return [float(found) for found in re.findall(pattern + r"(-?\d[\d.e-]*)", text)]


def test_none_is_longer_than_forty_lines_and_all_are_in_the_docs():
    scripts = [*SHORT.glob("*.py"), *SHORT.glob("*.ipynb")]
    assert len(scripts) > 12
    page = DOCS.read_text(encoding="utf-8")
    for path in scripts:
        assert len(code_of(path)) <= 40, path.name
        assert f"short/{path.name}" in page, path.name


def test_fashion_mnist(run, tmp_path):
    _, said = run("fashion_mnist")
    assert numbers("test accuracy ", said)[-1] > 0.93
    assert fc.load("classifier.safetensors")[9]["bias"].shape == (10,)
    write_folder(tmp_path / "folder")
    _, said = run("fashion_mnist", tmp_path / "folder")
    assert len(numbers("test accuracy ", said)) == 3


def test_tested_layer(run):
    _, said = run("tested_layer")
    assert re.search(r"Gain +\(1, 4, 6, 6\) +4 ", said)


def test_finetune(run):
    names, said = run("finetune")
    assert "accuracy 1.00, the body is unchanged: True" in said
    fc.save("published.pth", {"state_dict": names["published"]})
    assert run("finetune", "published.pth")[1] == said


def test_export(run):
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    _, said = run("export")
    differences = numbers(r"difference: ", said)
    assert len(differences) == 3
    assert max(differences) < 1e-5


def test_early_stopping(run):
    names, said = run("early_stopping")
    losses = names["history"]["valid_loss"]
    assert re.search(r"after 4 epochs and 92 steps", said)
    assert 4 < len(losses) == names["state"].step // 23 <= 20
    assert len(losses) == 20 or min(losses[-3:]) >= min(losses[:-3])
    assert numbers("best network: accuracy ", said)[0] > 0.93
    assert Path("history.png").stat().st_size > 5000


def test_hessian_free(run):
    _, said = run("hessian_free")
    losses = numbers("loss ", said)
    assert len(losses) == 15
    assert losses[-1] < 0.05 < losses[0]
    assert numbers("accuracy ", said)[-1] > 0.95


def test_unet(run):
    _, said = run("unet")
    found = [float(v) for v in said.splitlines()[0].split(": ")[1].split()]
    assert len(found) == 4
    assert found[-1] > max(0.8, found[0])
    assert len(said.splitlines()) == 33


def test_rates(run):
    names, said = run("rates")
    init_key, _ = fc.random.split(fc.random.key(0))
    start = fc.to_state_dict(names["net"].init(init_key, names["x"].shape))
    end = fc.to_state_dict(names["state"].params)
    assert {name for name in end if (end[name] == start[name]).all()} == {
        "features.0.weight",
        "features.0.bias",
    }
    assert "'head': 0.003}" in said
    assert numbers("accuracy ", said)[-1] > 0.7


def test_saliency(run):
    names, said = run("saliency")
    found = numbers("accuracy ", said)
    assert found[0] > 0.9
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.4
    assert names["saliency"].max() == 1


def test_influence(run):
    pytest.importorskip("matplotlib")
    names, said = run("influence")
    assert numbers("accuracy ", said)[0] > 0.95
    assert Path("influence.png").stat().st_size > 10_000
    # The digits that push a wrong answer mostly bear its label.
    pushing = names["rise"][names["wrong"]].argsort(axis=1)[:, :-21:-1]
    share = np.mean(names["t"][pushing] == names["answers"][names["wrong"]][:, None])
    assert share > 2 * np.mean(names["t"] == names["answers"][names["wrong"]][:, None])


def test_two_inputs(run):
    _, said = run("two_inputs")
    assert numbers(", accuracy ", said)[0] > 0.98
    assert numbers("length: ", said)[0] < 0.3


def test_gan(run):
    names, said = run("gan", 50)
    assert np.isfinite([*numbers("discriminator ", said), *numbers("generator ", said)]).all()
    assert [len(line) for line in said.splitlines()[1:]] == [64] * 8
    assert names["params"]["generator"][4]["num_batches_tracked"] == 50
    assert run("gan", 50)[1] == said


def test_perceptual(run):
    names, said = run("perceptual")
    seen, pixels = numbers("seen ", said), numbers("pixels ", said)
    assert seen[-1] < seen[0] / 3
    assert pixels[-1] > pixels[0] + 3
    eye = fc.to_state_dict(names["params"]["eye"])
    assert all((eye[name] == x).all() for name, x in fc.to_state_dict(names["weights"]).items())


def test_notebook(tmp_path, monkeypatch):
    """Run its cells as Jupyter does: the value of a last expression is what is shown."""
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads((SHORT / "digits.ipynb").read_text(encoding="utf-8"))["cells"]
    names, shown = {}, []
    for cell in cells:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "cell", "exec"), names)
            if last is not None:
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    net, params, figure, confusion, _ = shown
    assert "conv2d" in net._repr_html_()
    assert "features.0.weight" in repr(params)
    assert len(figure.axes) == 3
    assert np.trace(confusion) > 0.9 * confusion.sum()
