"""A short run of the fuzzer over every reader; the long one is the tox environment fuzz."""

import pytest

from tests.fuzz.__main__ import TARGETS, fuzz


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    assert fuzz(name, 300, 1, tmp_path) == 0


@pytest.mark.filterwarnings("ignore")
def test_the_fuzzer_sees_a_crash(monkeypatch, tmp_path):
    make, read = TARGETS["pickle"]

    def harmed(data):
        if b"\xff" in data:
            raise KeyError(data)
        return read(data)

    monkeypatch.setitem(TARGETS, "pickle", (lambda: make()[:1], harmed))
    assert fuzz("pickle", 300, 1, tmp_path) > 0
    assert any(tmp_path.iterdir())
