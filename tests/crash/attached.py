"""Live programs with a manhole, for the tests that attach to them: each style of program, and what they all can do."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from support import ROOT, Program, wait_for

import mmdebug
import mmstats
from mmdebug import endpoint, protocol
from mmdebug.client.data import Started
from mmdebug.errors import AttachError
from mmdebug.processes import Process
from mmdebug.protocol import Message

NOBODY = 65534

#: What all have: how often they came round, what clients' code left behind, and ways to block the main thread.
COMMON = """
import collections, itertools, logging, operator, os, signal, sys, threading, time
import mmdebug.manhole
from mmdebug import native

ticks, marks, hit, blocked, released = [0], [], [], [], []
real_sleep = native.original("time", "sleep")
lock = native.allocate_lock()
reading, writing = os.pipe()

def compute():
    blocked.append(1)
    while not released:
        pass

def sleep_in_c():
    blocked.append(1)
    real_sleep(1.5)

def want_the_lock():
    lock.acquire()  # somebody has it, and waits
    blocked.append(1)
    lock.acquire()

def read_in_c():
    # Without an instruction of Python's between the two.
    collections.deque(itertools.starmap(operator.call, [(blocked.append, 1), (os.read, reading, 1)]))

def free():
    released.append(1)
    if lock.locked():
        lock.release()

def say_marks(*_):
    print("marks", marks, flush=True)

signal.signal(signal.SIGUSR1, say_marks)

def forget():
    for one in (blocked, released, marks, hit):
        one.clear()
"""

MAIN = {
    "gevent": """
from gevent import monkey
monkey.patch_all()
import gevent, gevent.event
{common}
def soon(function):
    return gevent.spawn_later(0.01, function)

def innocent():
    while True:
        try:
            for number in range(500):
                pass
            ticks[0] += 1
            gevent.sleep(0.002)
        except BaseException as error:
            hit.append(repr(error))

{install}
gevent.spawn(innocent)
print("ready", flush=True)
gevent.event.Event().wait()
""",
    "asyncio": """
import asyncio
{common}
def soon(function):
    asyncio.get_running_loop().call_later(0.01, function)

async def innocent():
    while True:
        try:
            for number in range(500):
                pass
            ticks[0] += 1
            await asyncio.sleep(0.002)
        except BaseException as error:
            hit.append(repr(error))

async def main():
    spinning = asyncio.create_task(innocent())
    {install}
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
""",
    "threads": """
{common}
{install}
print("ready", flush=True)
while True:
    try:
        for number in range(500):
            pass
        ticks[0] += 1
        real_sleep(0.002)
    except BaseException as error:
        hit.append(repr(error))
""",
}
MAIN["uvloop"] = "import uvloop" + MAIN["asyncio"].replace("asyncio.run(", "uvloop.run(")
LOOPS = ("gevent", "asyncio", "uvloop")
STYLES = (*LOOPS, "threads")
#: Where code runs by default.
PLACE = {"gevent": "hub", "asyncio": "loop", "uvloop": "loop", "threads": "native"}
#: Statements that wait for long in the way of the program.
WAIT = {
    "gevent": "gevent.sleep(1000)",
    "asyncio": "await asyncio.sleep(1000)",
    "uvloop": "await asyncio.sleep(1000)",
    "threads": "while True: time.sleep(0.01)",
}


def source(style: str, install: str = "mmdebug.manhole.install(service='victim')") -> str:
    return MAIN[style].format(common=COMMON, install=install)


class App:
    """A program that runs, with what it printed as it comes."""

    def __init__(self, code: str, home: Path, env: dict[str, str] | None = None, wrap: tuple[str, ...] = ()) -> None:
        self.home = home
        self.program = Program(code, home, env, wrap)
        self.printed: list[str] = []
        self.complained: list[str] = []
        self._readers = [
            threading.Thread(target=self._drain, args=pair, daemon=True)
            for pair in ((self.program.process.stdout, self.printed), (self.program.process.stderr, self.complained))
        ]
        for reader in self._readers:
            reader.start()
        try:
            wait_for(lambda: "ready" in self.printed or self.program.process.poll() is not None, "it to be ready")
            assert self.program.process.poll() is None, self.complained
        except AssertionError:
            self.kill()
            raise AssertionError(f"it did not begin: {self.printed} {self.complained}") from None

    @staticmethod
    def _drain(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))

    @property
    def pid(self) -> int:
        """The program's own, which another may have started."""
        return self.program.pid

    def connect(self, pid: int | None = None) -> Process:
        try:
            return mmdebug.connect(pid or self.pid, path=self.home, timeout=20)
        except AttachError:
            how = self.program.process.poll()
            if pid is None and how is not None:
                raise AssertionError(f"it has ended, {how}: {self.printed[-5:]} {self.complained[-40:]}") from None
            raise

    def natively(self, expression: str) -> Any:
        """The value of an expression, whatever the main thread does."""
        with self.connect() as asked:
            return asked.eval(expression, where="native")

    def come_round(self) -> None:
        """Wait until its own work goes on."""
        with self.connect() as asked:
            before = asked.eval("ticks[0]", where="native")
            wait_for(lambda: asked.eval("ticks[0]", where="native") > before + 2, "its own work to go on")

    @property
    def stats(self) -> mmstats.Snapshot:
        return mmdebug.process(self.pid, self.home).stats

    @property
    def end(self) -> endpoint.Endpoint:
        """Where it listens."""
        [found] = [one for one in endpoint.listening(str(self.home)) if one.pid == self.pid]
        return found

    def raw(self) -> socket.socket:
        """A socket connected to it, that has said nothing yet."""
        found = self.end
        descriptor = endpoint.open_directory(found.directory, found.uid)
        try:
            connected: socket.socket = endpoint.connect(descriptor, found.name)
        finally:
            os.close(descriptor)
        connected.settimeout(20)
        return connected

    def kill(self) -> None:
        process = self.program.process
        process.kill()
        process.wait()
        for reader in self._readers:
            reader.join(20)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


class Placed(Protocol):
    """What has left its files somewhere."""

    home: Path


def command(app: Placed, *words: str, **options: Any) -> subprocess.Popen[str]:
    """`mmdebug` in a process of its own."""
    line = [sys.executable, "-m", "mmdebug", *words]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(app), **options
    )


def line_of(*words: str) -> str:
    """A command of `mmdebug` as a line for a shell."""
    return shlex.join([sys.executable, "-m", "mmdebug", *words])


def environment(app: Placed) -> dict[str, str]:
    """The one in which `mmdebug` finds this program."""
    return {**os.environ, "MMSTATS_PATH": str(app.home), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def run_command(app: Placed, *words: str) -> tuple[int, str, str]:
    """Its exit code, and what it printed on stdout and stderr."""
    started = command(app, *words)
    out, err = started.communicate(timeout=60)
    return started.returncode, out, err


class Raw:
    """A client by hand: frames, one after the other."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._decoder = protocol.Decoder()
        self._came: list[Message] = []
        self._greeted = False

    def hello(self, **origin: str) -> Message:
        try:
            self.socket.sendall(protocol.PREAMBLE + protocol.encode({"type": "hello", "protocol": 1, "origin": origin}))
        except BrokenPipeError:
            pass  # it was turned away before it had said a word; what was answered can be read
        return self.next()

    def ask(self, kind: str, number: int, **fields: Any) -> None:
        self.socket.sendall(protocol.encode({"type": kind, "id": number, **fields}))

    def next(self) -> Message:
        """The next message. Raises `EOFError` at the end."""
        while not self._came:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            if not self._greeted:
                assert data.startswith(protocol.PREAMBLE), data
                data, self._greeted = data[len(protocol.PREAMBLE) :], True
            self._came += [message for message, _ in self._decoder.feed(data)]
        return self._came.pop(0)

    def last(self, number: int) -> Message:
        """The last reply to a request."""
        while True:
            message = self.next()
            if message.get("id") == number and message["type"] not in ("started", "stream"):
                return message

    def ended(self) -> bool:
        """Wait for the end; whether it came."""
        try:
            while True:
                self.next()
        except (EOFError, ConnectionResetError):
            return True


def everything(connected: socket.socket) -> bytes:
    """All that comes, up to the end."""
    parts = []
    try:
        while data := connected.recv(1 << 16):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def status(pid: int, name: str) -> int:
    """A number of /proc/<pid>/status, such as VmRSS in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def apps() -> Iterator[Callable[..., App]]:
    """Start programs, each kind once: ``get(style, install)``; ``alone=True`` for one that the test may ruin."""
    shared: dict[tuple[str, str], App] = {}
    running: list[App] = []
    places: list[Path] = []

    def get(style: str, install: str | None = None, *, alone: bool = False, home: Path | None = None,
            code: str | None = None, env: dict[str, str] | None = None, wrap: tuple[str, ...] = ()) -> App:  # fmt: skip
        for package in {"gevent": ("gevent",), "uvloop": ("uvloop",)}.get(style, ()):
            pytest.importorskip(package, reason=f"NOT TESTED: {package} is not here")
        whole = code if code is not None else source(style) if install is None else source(style, install)
        app = None if alone else shared.get((style, whole))
        if app is None:
            if home is None:
                home = Path(tempfile.mkdtemp(prefix="mmstats-attached-"))
                places.append(home)
            app = App(whole, home, env, wrap)
            running.append(app)
            if not alone:
                shared[style, whole] = app
        return app

    yield get
    for app in running:
        app.kill()
    for place in places:
        shutil.rmtree(place, ignore_errors=True)


def begun(process: Process, code: str, **options: Any) -> tuple[Any, Started]:
    """The result of code, and how it began."""
    seen: list[Started] = []
    result = process.connection.execute(code, value=True, on_started=seen.append, **options)
    [started] = seen
    return result, started
