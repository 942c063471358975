"""What all tests share: a directory of stat files of their own, and real programs to run in it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mmstats
from mmstats import cells, registry

ROOT = Path(__file__).resolve().parent.parent


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


def wait_for(condition: Callable[[], Any], what: str = "the condition", seconds: float = 20.0) -> Any:
    """Wait until `condition` returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.005)


class Program:
    """A real Python program, run in a process of its own, talked to over its pipes."""

    def __init__(self, source: str, home: Path, env: dict[str, str] | None = None, wrap: tuple[str, ...] = ()) -> None:
        environment = dict(os.environ, MMSTATS_PATH=str(home), PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
        environment.update(env or {})
        self.process = subprocess.Popen(
            [*wrap, sys.executable, "-c", textwrap.dedent(source)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """The next line that it prints; fails if it ends instead."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        if not text:
            assert self.process.stderr is not None
            raise AssertionError(f"the program ended with {self.process.wait()}: {self.process.stderr.read()}")
        return text.rstrip("\n")

    def say(self, text: str = "") -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL it, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def finish(self, status: int | None = 0, seconds: float = 60.0) -> tuple[str, str]:
        """Close its input, wait for its end, and return what it printed on stdout and stderr."""
        out, err = self.process.communicate(timeout=seconds)
        assert status is None or self.process.returncode == status, (self.process.returncode, out, err)
        return out, err


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
