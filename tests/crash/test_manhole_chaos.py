"""Clients that do everything at once, and leave in every way at every moment: what stays is a program as it was before.

What the other tests show one by one is mixed here, since commands, interruptions and ends of sessions that overlap
have ended a program, or blocked it for ever, when each of them alone did not.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import attached
import pytest
from attached import App, Raw
from support import wait_for

from mmdebug.protocol import Message

Get = Callable[..., App]

#: Seconds that the clients go on: always, and as a torture.
SHORT, LONG = 5.0, 120.0
CLIENTS = 4
#: A wait for nothing, in the midst of a loop.
TURN = {
    "gevent": "gevent.sleep(0)",
    "asyncio": "await asyncio.sleep(0)",
    "uvloop": "await asyncio.sleep(0)",
    "threads": "time.sleep(0)",
}
CODE = (
    "6 * 7",
    "1 / 0",
    "input('nobody answers')",
    "while True: pass",
    "[object() for _ in range(100_000)]",
    "gc.collect()",
    "def down(n): return down(n - 1) if n else n\ndown(300)",
    "with contextlib.redirect_stdout(io.StringIO()):\n  for _ in range(200): print('a', 'b')",
    "class Freed:\n  def __del__(self):\n    for _ in range(1000): pass\nfor _ in range(500): Freed()",
    "soon(lambda: print('later'))",
    "while True:\n  {turn}",
    "for _ in range(1000):\n  print('client', '*' * 1000)\n  {turn}",
    "{wait}",
)
QUESTIONS = ("stacks", "stats", "events", "box", "where", "ping", "interrupt")


@pytest.fixture
def get() -> Iterator[Get]:
    yield from attached.apps()


class Clients:
    """Several at once, until it is over or one of them has met what can't be."""

    def __init__(self, app: App, style: str, seconds: float) -> None:
        self.app = app
        self.style = style
        self.sessions = 0
        self.problems: list[str] = []
        self._over = time.monotonic() + seconds

    def run(self) -> None:
        threads = [threading.Thread(target=self._client, args=(random.Random(seed),)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, chance: random.Random) -> None:
        while time.monotonic() < self._over and not self.problems:
            try:
                self._session(chance)
            except (BrokenPipeError, ConnectionResetError, EOFError, TimeoutError):
                pass  # it was one too many, or its own command takes longer than it waits
            except Exception as error:
                self.problems.append(repr(error))

    def _session(self, chance: random.Random) -> None:
        client = Raw(self.app.raw())
        try:
            client.socket.settimeout(1)
            if client.hello()["type"] != "welcome":
                return
            self.sessions += 1
            number = 0
            for request in self._requests(chance):
                number += 1
                client.ask(request.pop("type"), number, **request)
                if chance.random() < 0.3:
                    time.sleep(chance.random() * chance.choice((0.001, 0.01, 0.3)))
            if chance.random() < 0.4:
                client.last(chance.randint(1, number))
            if chance.random() < 0.5:
                client.socket.shutdown(chance.choice((socket.SHUT_RD, socket.SHUT_WR)))
        finally:
            client.socket.close()

    def _requests(self, chance: random.Random) -> Iterator[Message]:
        for number in range(1, chance.randint(2, 15)):
            if number == 1 or chance.random() < 0.3:
                code = chance.choice(CODE).format(turn=TURN[self.style], wait=attached.WAIT[self.style])
                where = chance.choice(("auto", "auto", "native", "main"))
                yield {"type": "exec", "code": code, "where": where, "timeout": chance.choice((0.05, 0.3, 2))}
            elif chance.random() < 0.2:
                yield {"type": "complete", "code": "threading.Th", "cursor": 12}
            else:
                kind = chance.choice(QUESTIONS)
                more: Message = {"interrupt": {"of": number - 1}, "events": {"follow": True}}.get(kind, {})
                yield {"type": kind, **more}


def survived(get: Get, style: str, seconds: float) -> None:
    app = get(style, alone=True)
    with app.connect() as process:
        process.exec("import contextlib, gc, io, threading")

    def state() -> tuple[int, int]:
        return attached.status(app.pid, "Threads"), attached.descriptors(app.pid)

    before = state()
    clients = Clients(app, style, seconds)
    clients.run()
    assert app.program.process.poll() is None, app.complained[-40:]
    assert clients.problems == [] and clients.sessions > 2 * seconds
    # All that they ran is ended, though some of it could not be at once.
    wait_for(lambda: state() <= before, "threads and descriptors to be gone", 40)
    app.come_round()
    with app.connect() as process:
        assert process.eval("6 * 7", where="app") == 42
        assert process.eval("hit") == [], "what was raised in the program's own code"
    assert app.complained == []
    assert [line for line in app.printed if "client" in line] == []


@pytest.mark.parametrize("style", attached.STYLES)
def test_whatever_clients_do_at_once_the_program_goes_on(get: Get, style: str) -> None:
    survived(get, style, SHORT)


@pytest.mark.torture
@pytest.mark.timeout(400)
@pytest.mark.parametrize("style", attached.STYLES)
def test_whatever_clients_do_for_a_long_time_the_program_goes_on(get: Get, style: str) -> None:
    survived(get, style, LONG)
