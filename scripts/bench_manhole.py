"""What a manhole costs and how fast it answers: the part of `scripts/bench` that is about live attach."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

METHOD = """\
Manhole: gevent programs with `patch_all()` in processes of their own, that serve nothing. Connect: from the
call to the first prompt, ours with all checks. Round trip: `1 + 1`, its answer and the next prompt; medians.
Blocked: the hub runs a loop in Python; the time until the stacks of that are here. Stacks: 5,000 greenlets
that wait, and the longest gap that a greenlet sees which ticks every millisecond, less the same without
stacks. Beside ours: manhole, which needs `patch_all(thread=False)`, and gevent.backdoor, which lives on the
hub. Unused: CPU time over some seconds and the private memory that install() adds, medians of several."""

VICTIM = """
import gc, os, signal, sys, time
from gevent import monkey
monkey.patch_all(thread={thread})
import gevent
native_sleep = monkey.get_original("time", "sleep")

def spin(number, frame):
    end = time.monotonic() + 4
    while time.monotonic() < end:
        pass

signal.signal(signal.SIGUSR1, spin)
longest = 0.0

def tick():
    global longest
    last = time.monotonic()
    while True:
        gevent.sleep(0.001)
        now = time.monotonic()
        longest = max(longest, now - last)
        last = now

def wait(event):
    event.wait()

{setup}
print("ready", flush=True)
gevent.get_hub()
{last}
while True:
    gevent.sleep(3600)
"""
OURS = "import mmdebug.manhole\nassert mmdebug.manhole.install(service='bench')"
MANHOLE = "import manhole\nmanhole.install(verbose=False, socket_path=os.environ['BENCH_SOCKET'])"
BACKDOOR = (
    "from gevent.backdoor import BackdoorServer\n"
    "server = BackdoorServer(('127.0.0.1', 0))\nserver.start()\nprint(server.server_port, flush=True)"
)
PARKED = (
    "from gevent.event import Event\nevents = [Event() for _ in range(5000)]\n"
    "parked = [gevent.spawn(wait, one) for one in events]\ngevent.sleep(0)"
)


@contextlib.contextmanager
def victim(environment: dict[str, str], setup: str, last: str = "", thread: bool = True) -> Iterator[Any]:
    """A gevent program that has run `setup`."""
    program = subprocess.Popen(
        [sys.executable, "-c", VICTIM.format(setup=setup, last=last, thread=thread)],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield program
    finally:
        program.kill()
        program.wait()
        assert program.stdout is not None
        program.stdout.close()


def line(program: Any) -> str:
    found: str = program.stdout.readline().strip()
    assert found, "the program has ended"
    return found


def median_ms(function: Callable[[], Any], rounds: int) -> float:
    """Milliseconds, the median of several calls; the first one does not count."""
    took = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        function()
        took.append((time.perf_counter() - start) * 1e3)
    return statistics.median(took[1:])


class Prompt:
    """A peer's text mode: what is printed until the next prompt."""

    def __init__(self, address: Any) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(5)
        self.socket.connect(address)
        self.until_prompt()

    def until_prompt(self) -> bytes:
        found = b""
        while not found.endswith(b">>> "):
            piece = self.socket.recv(65536)
            assert piece, found
            found += piece
        return found

    def ask(self, code: str) -> bytes:
        self.socket.sendall(code.encode() + b"\n")
        return self.until_prompt()

    def close(self) -> None:
        self.socket.close()


def ours(environment: dict[str, str], rounds: int) -> dict[str, float]:
    """Milliseconds of connecting, of a round trip, and of the stacks of a blocked hub."""
    import mmdebug

    found = {}
    with victim(environment, OURS) as program:
        line(program)

        def connect() -> None:
            with mmdebug.connect(program.pid):
                pass

        found["connect"] = median_ms(connect, rounds)
        with mmdebug.connect(program.pid) as process:

            def ask() -> None:
                assert process.eval("1 + 1") == 2

            found["round trip"] = median_ms(ask, rounds)
            program.send_signal(signal.SIGUSR1)
            time.sleep(0.1)
            start = time.perf_counter()
            result = process.exec("1 + 1")
            found["blocked"] = (time.perf_counter() - start) * 1e3
            assert result.where == "native", result
            assert "spin" in str(process.stacks())
    return found


def peer(environment: dict[str, str], setup: str, rounds: int, thread: bool) -> dict[str, float | None]:
    """The same of a peer; None for an answer that did not come within five seconds."""
    found: dict[str, float | None] = {}
    with victim(environment, setup, thread=thread) as program:
        address: Any = environment["BENCH_SOCKET"]
        if setup == BACKDOOR:
            address = ("127.0.0.1", int(line(program)))
        line(program)

        def connect() -> None:
            Prompt(address).close()

        found["connect"] = median_ms(connect, rounds)
        prompt = Prompt(address)

        def ask() -> None:
            assert b"2" in prompt.ask("1 + 1")

        found["round trip"] = median_ms(ask, rounds)
        program.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        start = time.perf_counter()
        prompt.socket.settimeout(3)
        try:
            prompt.ask("1 + 1")
            found["blocked"] = (time.perf_counter() - start) * 1e3
        except TimeoutError:
            found["blocked"] = None
        prompt.close()
    return found


def stacks(environment: dict[str, str], rounds: int) -> dict[str, float]:
    """Milliseconds that the stacks of 5,000 greenlets take, and for which a ticking greenlet is held at most."""
    import mmdebug

    with victim(environment, f"{OURS}\n{PARKED}", "gevent.spawn(tick)") as program:
        line(program)
        with mmdebug.connect(program.pid) as process:

            def take() -> None:
                found = process.stacks()
                assert found.total["greenlet"] >= 5000, found.total

            def longest() -> float:
                value = process.eval("__main__.longest")
                process.exec("__main__.longest = 0.0")
                return float(value) * 1e3

            total = median_ms(take, rounds)
            longest()
            time.sleep(1)
            quiet = longest()
            held = []
            for _ in range(rounds):
                take()
                held.append(longest())
    return {"total": total, "held": statistics.median(held), "quiet": quiet}


def unused(environment: dict[str, str], seconds: float, rounds: int) -> dict[str, float]:
    """What install() adds to a program with the recorder on that sleeps: seconds of CPU and KiB of private memory."""
    recorder = "import mmdebug\nmmdebug.install(service='bench', interval=3600)"
    found: dict[str, list[float]] = {"with": [], "without": [], "cpu": []}
    for _ in range(rounds):
        for name, setup in (("without", recorder), ("with", f"{recorder}\n{OURS}")):
            with victim(environment, setup) as program:
                line(program)
                time.sleep(0.3)
                found[name].append(private(program.pid))
                if name == "with":
                    before = cpu(program.pid)
                    time.sleep(seconds)
                    found["cpu"].append(cpu(program.pid) - before)
    return {
        "memory": statistics.median(found["with"]) - statistics.median(found["without"]),
        "cpu": statistics.median(found["cpu"]) / seconds * 100,
    }


def private(pid: int) -> float:
    """KiB that a process shares with nobody."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for row in file:
            if row.startswith("Private_"):
                total += int(row.split()[1])
    return float(total)


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has had, all threads, by the scheduler's own count."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9
