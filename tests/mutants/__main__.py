"""The command."""

from __future__ import annotations

import argparse
import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import mutants
from tests.mutants.aims import PARTS, TESTS
from tests.mutants.running import Runner


def main() -> int:
    """Read the options and collect the tests."""
    parser = argparse.ArgumentParser(description=mutants.__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=500, help="how many to run (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--exact", action="store_true", help="vjps and kernels under tests/test_adjoint.py alone"
    )
    parser.add_argument("--paths", nargs="*", default=[], help="only files that begin so, such as engine/cpu")
    parser.add_argument(
        "--limit",
        type=float,
        default=20,
        help="seconds of processor time beyond what tests take (default 20)",
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no mutant after so many")
    parser.add_argument("--log", default="mutants.jsonl", help="a line each; those in it are not run again")
    parser.add_argument("--again", metavar="LOG", help="run those again that survived in a log")
    parser.add_argument("--caught", metavar="LOG", help="take over what was caught in a log, by fewer tests")
    given = parser.parse_args()
    os.environ.update(FCONV_TEST_PROFILE="mutants", MPLBACKEND="Agg", PYTHONDONTWRITEBYTECODE="1")
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)  # a child that is forked would wait for OpenMP's, which it does not have
    parts = {p.split("/")[0] for p in given.paths} or set(PARTS)
    patterns = [p for name, each in TESTS.items() if name.split("/")[0] in parts for p in each]
    names = {"test_adjoint"}
    if not given.exact:
        names |= {re.match(r"(?:parity/)?[a-z_]+[a-z]", p)[0] for p in patterns} | {"test_functions"}  # type: ignore[index]
    files = sorted({str(p) for name in names for p in Path("tests").glob(f"{name}*.py")})
    options = ["-q", "-s", "-p", "no:cacheprovider", "--assert=plain", "--tb=short"]
    return int(pytest.main([*options, *files], plugins=[Runner(given)]))


if __name__ == "__main__":
    raise SystemExit(main())
