"""Text from files is escaped before it reaches the terminal: names, texts, values, errors."""

from __future__ import annotations

import argparse
import json
import pickle

import numpy as np
import pytest

import fconv as fc
from tests.test_hostile_pt import archive

EVIL = "a\x1b]0;owned\x07\x1b[31m\x9b2J\x7f\u202e\u2028\r\nforged: line"
SHOWN = r"a\x1b]0;owned\x07\x1b[31m\x9b2J\x7f\u202e\u2028"


@pytest.fixture
def evil(tmp_path):
    arrays = {EVIL: np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    fc.save(tmp_path / "x.npz", arrays)
    fc.save(tmp_path / "x.safetensors", arrays, {EVIL: EVIL})
    held = {"state_dict": arrays, EVIL: EVIL, "o": argparse.Namespace(**{EVIL: EVIL}), "epoch": 3}
    (tmp_path / "x.pt").write_bytes(archive(pickle.dumps(held, 2).replace(b"argparse", b"arg\x1b[2Jse")))
    fc.save(tmp_path / "y.npz", {EVIL: np.zeros(2, np.float32), EVIL + "2": np.ones(1)})
    (tmp_path / "damaged.pt").write_bytes(archive(b"\x80\x02c" + EVIL.split("\r")[0].encode() + b"\nx\nQ."))
    return tmp_path


COMMANDS = {
    "inspect": [["inspect", f"x.{kind}"] for kind in ("npz", "safetensors", "pt")],
    "convert": [
        ["convert", "x.pt", "z.npz", "--entry", "state_dict"], ["convert", "x.npz", "z.npz", "--drop", "a*"],
        ["convert", "x.npz", "z.npz", "--rename", f"{EVIL}=c"],
        ["convert", "x.npz", "z.npz", "--only", EVIL + "?"],
    ],
    "diff": [["diff", "x.npz", "y.npz"], ["diff", "y.npz", "x.pt"]],
    "errors": [
        ["inspect", "damaged.pt"], ["--traceback", "inspect", "damaged.pt"], ["inspect", EVIL],
        ["convert", "x.pt", "z.npz", "--entry", EVIL], ["summary", EVIL], ["convert", "x.npz", EVIL],
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_no_control_character_reaches_the_terminal(name, evil, run, monkeypatch):
    monkeypatch.chdir(evil)
    for args in COMMANDS[name]:
        found = run(*args)
        text = found.output + found.stderr
        assert text.replace("\n", "").isprintable(), args
        assert not any(line.startswith("forged") for line in text.splitlines()), args
        assert name == "errors" or SHOWN in text or "not chosen" in text or found.exit_code, args


def test_json_is_whole_and_escaped(evil, run):
    for kind in ("npz", "safetensors", "pt"):
        text = run("inspect", str(evil / f"x.{kind}"), "--json").output
        assert text.replace("\n", "").isprintable()
        names = [entry["name"] for entry in json.loads(text)["entries"]]
        assert any(name.endswith(EVIL) for name in names)


def test_a_summary_escapes_the_names_of_nodes(capsys):
    net = fc.graph({EVIL: (fc.relu(), "x"), "y": (fc.relu(), EVIL)})
    fc.summary(net, (1, 2))
    text = capsys.readouterr().out
    assert SHOWN in text
    assert text.replace("\n", "").isprintable()
    assert "\nforged" not in text
