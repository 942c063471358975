"""What tests use beside fixtures: real programs, and waiting with a deadline."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def need(what: str, *modules: str) -> None:
    """Skip a test of `what`, loudly, where these are not installed; under CI that is a failure."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        message = f"NOT TESTED: {what}, for which {' and '.join(missing)} must be installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


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

    def __init__(
        self,
        source: str,
        home: Path,
        env: dict[str, str] | None = None,
        wrap: tuple[str, ...] = (),
        arguments: Iterable[object] = (),
    ) -> None:
        environment = dict(os.environ, MMSTATS_PATH=str(home), PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
        environment.update(env or {})
        self.process = subprocess.Popen(
            [*wrap, sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
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
