"""What the tests of deaths share: start a victim, alone or under ``mmdebug run``, have it die, read what it left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import ROOT

import mmdebug
from mmdebug.postmortem import PostMortem

HERE = Path(__file__).parent

#: A parent that records how its child ended.
RUN = (sys.executable, "-m", "mmdebug", "run", "--no-report", "--")

#: Whether somebody was told how it ended: that makes what can be known.
PARENTS = ("alone", "run")

#: All that can be said of a death without a trace. Nothing else may be claimed, and none of it more than possible.
UNTOLD = {"killed": "possible", "terminated": "possible", "os_exit": "possible", "crashed": "possible"}


@dataclass
class Victim:
    """A program of `victims`, running. `pid` is its own, not that of a parent which wraps it."""

    process: subprocess.Popen[str]
    pid: int
    path: str

    def await_ready(self) -> None:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text == "ready\n", (text, self.process.communicate())

    def end(self, status: int | None = None) -> str:
        """Wait for the end of the whole; returns what was printed on stderr."""
        _, err = self.process.communicate(timeout=60)
        assert status is None or self.process.returncode == status, (self.process.returncode, err)
        return err

    def kill(self, number: int) -> PostMortem:
        """Send it a signal, from outside, and read what it left."""
        os.kill(self.pid, number)
        self.end()
        return self.read()

    def read(self) -> PostMortem:
        return mmdebug.load(self.path)


class Starter:
    """Starts victims; all are gone at the end."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._processes: list[subprocess.Popen[str]] = []

    def __call__(
        self,
        death: str,
        style: str = "threads",
        parent: str = "alone",
        *,
        before: Sequence[str] = (),
        within: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> Victim:
        """``before`` stands before all of the command, ``within`` before that of the victim itself."""
        source = f"import sys; sys.path.insert(0, {str(HERE)!r}); import victims; victims.main({death!r}, {style!r})"
        around = [*before, *(RUN if parent == "run" else ()), *within]
        environment = {**os.environ, "MMSTATS_PATH": str(self._home), "PYTHONPATH": str(ROOT), **(env or {})}
        process = subprocess.Popen(
            [*around, sys.executable, "-c", source], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()
        pid, path = line.rstrip("\n").split(maxsplit=1)
        return Victim(process, int(pid), path)

    def close(self) -> None:
        for process in self._processes:
            try:
                os.killpg(process.pid, 9)
            except ProcessLookupError:
                pass
            process.communicate()


Start = Callable[..., Victim]


def starter(home: Path) -> Iterator[Starter]:
    """The body of a fixture ``start``."""
    start = Starter(home)
    yield start
    start.close()


def causes(found: PostMortem) -> dict[str, str]:
    """The names of the causes, the first one first, and how sure each is."""
    return {cause.name: cause.confidence for cause in found.verdict.causes}


def first(found: PostMortem) -> tuple[str, str]:
    """The first cause's name, and how sure it is."""
    return next(iter(causes(found).items()), ("", ""))


def everything_said(found: PostMortem) -> str:
    """All that a verdict says, for and against."""
    verdict = found.verdict
    lines = [line for cause in verdict.causes for line in (cause.summary, *cause.evidence, *cause.against)]
    return "\n".join([verdict.summary, *lines])
