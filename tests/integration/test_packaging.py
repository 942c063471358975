"""What is installed: a wheel and an sdist with all that a user needs, with a compiler or without."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support import ROOT

import mmstats

pytestmark = pytest.mark.skipif(
    not mmstats.cells.COMPILED, reason="building does not depend on the speed that this run is about"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The project as it would be checked out, without what was built in it."""
    target = tmp_path / "project"
    names = ["mmstats", "mmdebug", "setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"]
    target.mkdir()
    for name in names:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, target / name)
    return target


def build(source: Path, target: Path, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
    for name in ("setuptools", "Cython", "build"):
        if importlib.util.find_spec(name) is None:
            message = f"building needs {name}"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
    return subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", f"--{what}", "--outdir", str(target), str(source)],
        capture_output=True, text=True, timeout=240, env=dict(os.environ, **environment),
    )  # fmt: skip


def run_installed(wheel: Path, target: Path, code: str) -> str:
    """Run `code` with nothing but the wheel on the path."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MMSTATS_", "PYTHONPATH"))}
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {code}"],
        capture_output=True, text=True, timeout=60, env=environment, cwd=target,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WHAT_RUNS = """
import mmstats, mmdebug, mmstats.cells, mmdebug.rings
assert 'project' not in mmstats.__file__
assert mmstats.cells.COMPILED == mmdebug.rings.COMPILED
print(mmstats.cells.COMPILED)
"""

#: What is no module, and yet is needed.
DATA = {
    "mmstats/py.typed", "mmdebug/py.typed", "mmstats/cells.py", "mmstats/cells.pxd", "mmstats/_words.pxd",
    "mmdebug/rings.py", "mmdebug/rings.pxd", "mmdebug/_site/sitecustomize.py", "mmdebug/report/page.html",
    "mmdebug/report/body.html", "mmdebug/report/style.css",
}  # fmt: skip


def test_a_wheel_is_compiled_typed_and_complete(source: Path, tmp_path: Path) -> None:
    done = build(source, tmp_path, "wheel", MMSTATS_EXTENSION="require")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= DATA
    for module in ("mmstats/cells.", "mmdebug/rings."):
        assert any(name.startswith(module) and name.endswith(".so") for name in names)
    assert not any(name.startswith(("tests", "scripts", "docs")) or name.endswith(".c") for name in names)
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("METADATA"))).decode()
    runtime = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert runtime == [], "mmstats itself depends on nothing"
    assert run_installed(wheel, tmp_path / "installed", WHAT_RUNS) == "True"


def test_without_a_compiler_a_wheel_still_works_and_says_that_it_is_uncompiled(source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "no-compiler"
    done = build(source, tmp_path, "wheel", CC=str(broken), CXX=str(broken))
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert run_installed(wheel, tmp_path / "installed", WHAT_RUNS) == "False"


def test_what_can_only_be_compiled_in_part_is_not_compiled_at_all(source: Path, tmp_path: Path) -> None:
    """The modules share classes: a compiled one can't build on one that is not."""
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\ncase "$*" in *rings*) exit 1 ;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    done = build(source, tmp_path, "wheel", CC=str(compiler), CXX=str(compiler))
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert run_installed(wheel, tmp_path / "installed", WHAT_RUNS) == "False"


def test_a_wheel_that_must_be_compiled_fails_without_a_compiler(source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "no-compiler"
    done = build(source, tmp_path, "wheel", MMSTATS_EXTENSION="require", CC=str(broken), CXX=str(broken))
    assert done.returncode != 0
    assert not list(tmp_path.glob("*.whl"))


def test_an_sdist_holds_what_a_wheel_is_built_from(source: Path, tmp_path: Path) -> None:
    done = build(source, tmp_path, "sdist")
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        names = {name.partition("/")[2] for name in members.getnames()}
    assert names >= DATA | {"setup.py", "setup.cfg", "pyproject.toml", "LICENSE"}
    assert not any(name.endswith((".c", ".so")) for name in names)
