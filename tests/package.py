"""Build wheel and sdist, check their files, try the wheel in a clean environment: python -m tests.package."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SDIST = [
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CITATION.cff",
    "pyproject.toml",
    "tox.ini",
]
FOLDERS = ["fconv", "tests", "examples", "docs", "benchmarks"]
TRIAL = """
import io, numpy as np, fconv as fc
x = fc.random.normal(fc.random.key(0), (8, 1, 8, 8)); t = np.arange(8) % 2
net = fc.compose(fc.conv2d(4, 3), fc.batch_norm(), fc.relu(), fc.flatten(), fc.linear(2))
key, loss = fc.random.key(1), fc.cross_entropy_loss()
state, history = fc.fit(net, loss, fc.adam(1e-2), (x, t), epochs=9, key=key, progress=False)
assert history["loss"][-1] < history["loss"][0]
fc.save("net.pt", fc.to_state_dict(state.params))
fc.from_state_dict(state.params, fc.load("net.pt"))
print("trained, saved and loaded with fconv", fc.__version__, "from", fc.__file__)
"""


def tracked() -> set[str]:
    """List the files of the working tree that are not ignored."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


def check_wheel(path: Path, files: set[str]) -> None:
    """Compare the wheel's files with the package's."""
    held = set(zipfile.ZipFile(path).namelist())
    package = {name for name in files if name.startswith("fconv/")}
    info = {name for name in held if ".dist-info/" in name}
    assert held - info == package, f"wheel: {sorted((held - info) ^ package)}"
    for name in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        assert any(found.endswith(f".dist-info/{name}") for found in info), f"wheel: {name} is missing"


def check_sdist(path: Path, files: set[str]) -> None:
    """Compare the sdist's files with those of the repository."""
    with tarfile.open(path) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    wanted = {name for name in files if name in SDIST or name.split("/")[0] in FOLDERS}
    assert set(SDIST) <= held, f"sdist: {sorted(set(SDIST) - held)} missing"
    assert held - {"PKG-INFO", ".gitignore"} == wanted, (
        f"sdist: {sorted((held - {'PKG-INFO', '.gitignore'}) ^ wanted)}"
    )


def main() -> None:
    """Build, check, try."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        subprocess.run(
            [sys.executable, "-m", "build", "--outdir", made, str(ROOT)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
        files = tracked()
        check_wheel(wheel, files)
        check_sdist(sdist, files)
        print(f"{wheel.name}: {wheel.stat().st_size >> 10} kB; {sdist.name}: {sdist.stat().st_size >> 10} kB")

        venv.create(folder / "clean", with_pip=True)
        python = folder / "clean" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True)
        subprocess.run([python, "-c", TRIAL], check=True, cwd=made)
        subprocess.run([python.with_name("fconv"), "inspect", "net.pt"], check=True, cwd=made)


if __name__ == "__main__":
    main()
