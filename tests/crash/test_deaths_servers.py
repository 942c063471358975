"""Processes that others end: gunicorn's workers for a timeout, those that hang, and a whole tree at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import victims
from dying import RUN, Start, causes, everything_said, first, starter
from support import ROOT, wait_for

import mmdebug
import mmstats
from mmdebug.postmortem import PostMortem


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    yield from starter(home)


# Hangs


def test_a_hang_that_is_killed_from_outside_is_told_from_other_kills(start: Start) -> None:
    """All at once, since only what hangs for ten seconds counts as that."""
    hanging = {(style, parent): start("hang", style, parent) for style in victims.STYLES for parent in ("alone", "run")}
    for victim in hanging.values():
        victim.await_ready()

    def stuck(path: str, style: str) -> bool:
        found = mmdebug.load(path)
        beat = found.stats.heartbeat
        long = bool(found.activities and beat and beat - found.activities[0].started > 10_500_000_000)
        return long and (style == "threads" or found.samples[-1].values.get("lag", 0.0) > 10.2)

    for (style, _), victim in hanging.items():
        wait_for(lambda: stuck(victim.path, style), "it to hang for long", 40)
    for (style, parent), victim in hanging.items():
        found = victim.kill(signal.SIGKILL)
        assert [(one.name, dict(one.fields)) for one in found.activities] == [("GET /report", {"customer": 7})]
        assert first(found) == ("hang", "likely"), (style, parent, found.verdict)
        assert causes(found)["killed"] == "possible"
        said = everything_said(found)
        assert "it was in GET /report for" in said
        # It waited, whatever the sampler itself did meanwhile.
        assert "it mostly waited" in said
        assert ("its main loop was behind by" in said) == (style != "threads")
        assert "something was recorded as late as" not in said, (style, parent, said)
        assert ("no parent noted how it ended" in said) == (parent == "alone")


# gunicorn

APP = """
import time
import mmdebug

try:
    from gevent import monkey
    sleep = monkey.get_original("time", "sleep")
except ImportError:
    sleep = time.sleep

def app(environ, start_response):
    path = environ["PATH_INFO"]
    with mmdebug.activity("GET " + path, user=42):
        mmdebug.event("request", path=path)
        if path == "/sleep":
            sleep(1000)
        if path == "/compute":
            sum(range(10**12))  # in C, without a look at signals
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

HOOKS = """
import mmdebug
from mmdebug.gunicorn import child_exit, worker_abort

def post_fork(server, worker):
    mmdebug.install(service="web")
"""


class Gunicorn:
    """A gunicorn with one worker, and a timeout of a second."""

    def __init__(self, home: Path, where: Path, by: str, worker: str) -> None:
        self._socket = str(where / "socket")
        (where / "app.py").write_text(APP)
        (where / "gunicorn.conf.py").write_text(HOOKS if by == "hooks" else "")
        self.process = subprocess.Popen(
            [*(RUN if by == "run" else ()), sys.executable, "-m", "gunicorn", "--timeout", "1", "--workers", "1",
             "--graceful-timeout", "1", "--worker-class", worker, "--bind", f"unix:{self._socket}", "app:app"],
            cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "MMSTATS_PATH": str(home), "PYTHONPATH": str(ROOT), "HOME": str(where)},
        )  # fmt: skip
        self._sockets: list[socket.socket] = []

    def answer(self, path: str) -> bytes:
        """The answer to a request."""
        asked = self.ask(path)
        with asked:
            return asked.recv(1000)

    def ask(self, path: str) -> socket.socket:
        """Send a request, once there is somebody to send it to."""

        def connected() -> socket.socket | None:
            assert self.process.poll() is None, self.process.communicate()
            made = socket.socket(socket.AF_UNIX)
            try:
                made.connect(self._socket)
            except OSError:
                made.close()
                return None
            return made

        made: socket.socket = wait_for(connected, "gunicorn to listen")
        self._sockets.append(made)
        made.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        return made

    def close(self) -> None:
        for made in self._sockets:
            made.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.communicate()


@pytest.fixture
def gunicorn(home: Path, tmp_path: Path) -> Iterator[Callable[[str, str], Gunicorn]]:
    pytest.importorskip("gunicorn", reason="NOT TESTED: gunicorn is not here")
    running: list[Gunicorn] = []

    def start(by: str, worker: str) -> Gunicorn:
        if worker == "gevent":
            pytest.importorskip("gevent", reason="NOT TESTED: gevent is not here")
        running.append(Gunicorn(home, tmp_path, by, worker))
        return running[-1]

    yield start
    for server in running:
        server.close()


def _dead_worker(home: Path) -> PostMortem | None:
    """The worker that has died, once its parent has noted how."""
    for path in home.glob("*.mmstats"):
        if path.name[0] != "." and mmstats.read(path).alive is False:
            found = mmdebug.load(path)
            if found.exit is not None:
                return found
    return None


@pytest.mark.parametrize(
    ("by", "worker", "path"),
    [
        ("run", "sync", "/sleep"), ("run", "sync", "/compute"), ("run", "gevent", "/sleep"),
        ("hooks", "sync", "/sleep"), ("hooks", "gevent", "/sleep"), ("hooks", "gevent", "/compute"),
    ],
)  # fmt: skip
def test_a_worker_that_gunicorn_kills_for_a_timeout(
    gunicorn: Callable[[str, str], Gunicorn], home: Path, by: str, worker: str, path: str
) -> None:
    server = gunicorn(by, worker)
    assert server.answer("/fine").startswith(b"HTTP/1.")
    server.ask(path)
    found: PostMortem = wait_for(lambda: _dead_worker(home), "the worker's death to be noted")
    name, confidence = first(found)
    # gevent's worker comes to an orderly end after SIGABRT, which leaves room for a doubt.
    assert name == "worker_timeout" and confidence in ("certain", "likely"), (found.verdict, found.exit)
    assert "because of a timeout" in found.verdict.summary
    assert "its parent sent it SIGABRT" in everything_said(found)
    assert [dict(one.fields) for one in found.events if one.name == "request"] == [{"path": "/fine"}, {"path": path}]
    if path == "/compute":
        # It never came to handle SIGABRT: so it was killed in the middle of it.
        assert [one.name for one in found.activities] == [f"GET {path}"]
        assert "in the middle of GET /compute" in found.verdict.summary


def test_a_worker_that_gunicorn_stops_did_not_time_out(gunicorn: Callable[[str, str], Gunicorn], home: Path) -> None:
    server = gunicorn("hooks", "sync")
    assert server.answer("/fine").startswith(b"HTTP/1.")
    os.kill(server.process.pid, signal.SIGTERM)
    server.process.communicate(timeout=30)
    found: PostMortem = wait_for(lambda: _dead_worker(home), "the worker's end to be noted")
    assert causes(found) == {"clean_exit": "certain"}, found.verdict
    assert mmdebug.deaths() == []


# All at once


def test_a_tree_that_is_killed_as_a_whole_is_told_of_at_the_next_start(start: Start, home: Path) -> None:
    victim = start("wait", "threads", "run")
    victim.await_ready()
    os.killpg(victim.process.pid, signal.SIGKILL)
    victim.end(-signal.SIGKILL)
    wait_for(lambda: mmstats.read(victim.path).alive is False, "the victim to be gone")
    command = [*[part for part in RUN if part != "--no-report"], sys.executable, "-c", "print('second life')"]
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == "second life\n"
    assert "deaths that nobody was told of yet" in again.stderr
    assert f"pid {victim.pid}, ended after" in again.stderr
    assert "what ended it can't be told, perhaps SIGKILL, in the middle of GET /users/<id>" in again.stderr
    third = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (third.stdout, third.stderr) == ("second life\n", "")
    found = victim.read()
    assert first(found) == ("killed", "possible") and found.exit is None
    assert time.time_ns() > (found.verdict.before or 0) > (found.verdict.after or 0) > 0
