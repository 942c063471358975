"""The types that the packages ship: the public API is checked as its users' programs would be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TYPING = ROOT / "tests" / "typing"

pytest.importorskip("mypy")


def mypy(path: Path, cache: Path) -> list[str]:
    """What ``mypy --strict`` finds in a program, as lines of ``line: message``."""
    config = cache / "mypy.ini"
    config.write_text("[mypy]\n")  # not the project's own: a user has none of it
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context",
            "--config-file", str(config), "--cache-dir", str(cache), "--follow-imports", "silent",
            "--ignore-missing-imports", path.name,
        ],
        cwd=path.parent, env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return [line.removeprefix(f"{path.name}:") for line in done.stdout.splitlines() if ": note: " not in line]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_the_public_api_has_the_types_that_programs_rely_on(cache: Path) -> None:
    assert mypy(TYPING / "api.py", cache) == []


def test_mistakes_are_found_before_they_run(cache: Path) -> None:
    source = (TYPING / "mistakes.py").read_text(encoding="utf-8").splitlines()
    expected = {number for number, line in enumerate(source, 1) if line.endswith("# error")}
    found = mypy(TYPING / "mistakes.py", cache)
    assert {int(line.partition(":")[0]) for line in found} == expected, found
