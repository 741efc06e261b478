"""A short run of the fuzzer over every reader; the long one is the tox environment fuzz."""

import pytest

from tests.fuzz import __main__ as fuzzer
from tests.fuzz.__main__ import TARGETS, available, fuzz


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    if not available(name):
        pytest.skip("needs onnx")
    assert fuzz(name, 300, 1, tmp_path) == 0


def harmed(data):
    if b"\xff" in data:
        raise KeyError(data)


def swollen(data):
    return bytes(200_000_000 + 20 * len(data)).replace(b"\0", b"a")


@pytest.mark.parametrize(("read", "runs", "text"), [(harmed, 300, "KeyError"), (swollen, 2, "MB for")])
def test_the_fuzzer_sees_a_crash_and_memory(read, runs, text, monkeypatch, tmp_path, capsys):
    if read is swollen and not fuzzer.Memory().known:
        pytest.skip("needs Linux's /proc")
    make = fuzzer.target("pickle")[0]
    monkeypatch.setattr(fuzzer, "target", lambda name: (make[:1], read))
    assert fuzz("pickle", runs, 1, tmp_path) > 0
    assert any(tmp_path.iterdir())
    assert text in capsys.readouterr().out
