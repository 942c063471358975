"""What all tests share: a directory of stat files of their own, and real programs to run in it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import Program

import mmstats
from mmstats import cells, registry

# How wide the terminal is that the tests were started in is none of what they print.
os.environ.pop("COLUMNS", None)

# What a shell has its background jobs ignore, the programs that are tested would ignore as well.
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="also run the long tortures")


def pytest_report_header() -> str:
    return f"mmstats {mmstats.__version__}, cells {'compiled' if cells.COMPILED else 'uncompiled'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--torture"):
        for item in items:
            if "torture" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="long: give --torture"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for stat files, and a process that records nothing yet."""
    directory = tmp_path / "stats"
    directory.mkdir(mode=0o700)
    for name in [name for name in os.environ if name.startswith("MMSTATS_") and name != "MMSTATS_PURE_PYTHON"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MMSTATS_PATH", str(directory))
    monkeypatch.setattr(registry, "_registries", {})
    yield directory
    for used in list(registry._registries.values()):
        for model in list(used._models):
            model.remove()


@pytest.fixture
def run(home: Path) -> Iterator[Callable[..., Program]]:
    """Start programs: ``run(source, env=..., wrap=...)`` returns a `Program`; all are killed at the end."""
    programs: list[Program] = []

    def start(source: str, env: dict[str, str] | None = None, wrap: tuple[str, ...] = ()) -> Program:
        program = Program(source, home, env, wrap)
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.process.kill()
        program.process.wait()
        for stream in (program.process.stdin, program.process.stdout, program.process.stderr):
            if stream is not None:
                stream.close()


# What crash tests need of the machine: file systems of their own, namespaces, other users.


@pytest.fixture
def mount() -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs of a size, such as ``"1m"``, and return its path. Needs root.

    Not below ``tmp_path``: a mount that outlives a killed test would stop pytest, in any later run, from
    clearing its directories.
    """
    mounted: list[Path] = []

    def make(size: str) -> Path:
        path = Path(tempfile.mkdtemp(prefix="mmstats-tmpfs-"))
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path)], capture_output=True, text=True
        )
        if done.returncode:
            path.rmdir()
            pytest.skip(f"NOT TESTED: a tmpfs can't be mounted here: {done.stderr.strip()}")
        mounted.append(path)
        return path

    yield make
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)
        path.rmdir()


@pytest.fixture
def unshare() -> tuple[str, ...]:
    """What to put before a command so that it runs as pid 1 of a pid namespace of its own. Needs root."""
    command = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: pid namespaces can't be made here")
    return command


@pytest.fixture
def root() -> None:
    """For tests that change to another uid."""
    if os.getuid():
        pytest.skip("NOT TESTED: only root can become another user")
