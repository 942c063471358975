"""A client whose connection ends, or whose consumer is slow: what has come is not lost, and neither is the reason."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from played import WELCOME, Played, polite, result
from support import wait_for

import mmdebug
from mmdebug import endpoint
from mmdebug.client import bridge, opening, transport
from mmdebug.client import connection as connections
from mmdebug.client.connection import Connection
from mmdebug.errors import AttachError, ConnectionLost
from mmdebug.protocol import Message
from mmstats.errors import MmStatsError

Play = Callable[..., Played]

#: A manhole at the other end of ``--via`` that answers nothing.
MUTE = f"""
import os
from mmdebug import protocol
os.write(1, protocol.PREAMBLE + protocol.encode({WELCOME!r}))
while os.read(0, 1 << 16):
    pass
"""


@pytest.fixture
def play(home: Path) -> Iterator[Play]:
    played: list[Played] = []

    def start(script: Callable[[Message], Any] = lambda message: []) -> Played:
        played.append(Played(home, polite(script)))
        return played[-1]

    yield start
    for one in played:
        one.close()


@pytest.fixture
def mute() -> Iterator[mmdebug.Process]:
    with mmdebug.connect("x", via=[sys.executable, "-c", MUTE]) as found:
        yield found


def stream(message: Message, text: str, name: str = "stdout") -> Message:
    return {"type": "stream", "id": message["id"], "name": name, "text": text}


# What has come.


def test_an_answer_that_came_while_what_is_printed_was_taken_slowly_is_an_answer(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BEYOND", 0.05)
    answered = threading.Event()

    def answer(message: Message) -> Iterator[Message]:
        yield stream(message, "begun")
        taken.wait(20)
        yield result(message, "done")
        answered.set()

    def slow(name: str, text: str) -> None:
        taken.set()
        assert answered.wait(20)
        time.sleep(0.2)

    taken = threading.Event()
    with mmdebug.connect(play(answer).target) as found:
        assert found.connection.execute("x", timeout=0.05, on_stream=slow).text == "done"


def test_who_never_stops_sending_does_not_put_off_the_end_of_the_time(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BEYOND", 0.05)
    monkeypatch.setattr(connections, "MAX_BEYOND", 1 << 20)

    def answer(message: Message) -> Iterator[Message]:
        while True:
            yield stream(message, "x" * 10_000)

    with mmdebug.connect(play(answer).target) as found, pytest.raises(ConnectionLost, match="no answer came in time"):
        found.connection.execute("x", timeout=0.05, on_stream=lambda name, text: None)


def test_what_is_printed_after_the_end_of_its_command_is_handed_on(play: Play) -> None:
    def answer(message: Message) -> list[Message]:
        if message["type"] == "ping":
            return [stream({"id": 1}, "late"), stream({"id": 1}, "!", "stderr"), {"type": "pong", "id": message["id"]}]
        return [result(message, "begun")]

    came: list[tuple[str, str]] = []

    def take(name: str, text: str) -> None:
        came.append((name, text))
        raise KeyboardInterrupt if name == "stderr" else ValueError

    with mmdebug.connect(play(answer).target) as found:
        found.exec("x")
        found.connection.ping()  # nobody takes it
        found.connection.on_late = take
        found.connection.ping()
        found.connection.on_late = lambda name, text: came.append((name, text))
        found.connection.ping()
    assert came == [("stdout", "late"), ("stderr", "!")] * 2


def test_the_stats_are_asked_for_without_the_box(play: Play) -> None:
    played = play(lambda message: [({"type": message["type"], "id": message["id"]}, b"no file")])
    with mmdebug.connect(played.target) as found, pytest.raises(MmStatsError):
        found.connection.stats()
    assert not played.heard_of("box")


# Why it ended.


def test_a_session_that_ended_while_nobody_asked_says_why(play: Play) -> None:
    answered = threading.Event()

    def answer(message: Message) -> Iterator[Message]:
        yield result(message, "1")
        answered.wait(20)
        yield {"type": "error", "id": None, "kind": "closing", "message": "idle", "advice": "attach anew"}
        raise EOFError

    with mmdebug.connect(play(answer).target) as found:
        connection = found.connection
        assert found.exec("x").text == "1"
        answered.set()
        hung_up = select.poll()
        hung_up.register(connection._transport._socket.fileno(), 0)  # type: ignore[attr-defined]
        assert hung_up.poll(20_000)
        with pytest.raises(ConnectionLost, match="idle; attach anew"):
            connection.execute("x")


def test_the_far_end_of_via_hands_on_what_a_server_said_before_it_hung_up() -> None:
    ours, server = socket.socketpair()
    inside, asking = os.pipe()
    answered, outside = os.pipe()
    server.sendall(b"it is full")
    server.close()
    os.write(asking, b"hello")
    ours.setblocking(False)
    relay = threading.Thread(target=bridge.relay, args=(inside, outside, ours))
    relay.start()
    relay.join(20)
    assert not relay.is_alive()
    assert os.read(answered, 100) == b"it is full"
    ours.close()
    for descriptor in (inside, asking, answered, outside):
        os.close(descriptor)


@pytest.mark.parametrize("way", ["local", "via"])
def test_closing_by_another_thread_ends_what_waits_with_an_error_of_ours(
    play: Play, mute: mmdebug.Process, way: str
) -> None:
    found = mute if way == "via" else mmdebug.connect(play().target)
    connection = found.connection
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            connection.execute("x", timeout=None)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: connection._waiting, "the question")
    connection.close()
    thread.join(20)
    assert not thread.is_alive()
    assert [(type(error), str(error)) for error in raised] == [(ConnectionLost, "the connection was closed")]
    assert connection._transport.receive(None, -1) == b""


# Time.


def test_a_limit_of_more_than_24_days_is_a_limit() -> None:
    ours, theirs = socket.socketpair()
    way = transport.Local(ours)
    theirs.sendall(b"x")
    assert way.receive(1e10, None) == b"x"
    assert transport._milliseconds(1e300) < 1 << 31
    way.close()
    theirs.close()


@pytest.mark.parametrize("what", ["receive", "ended"])
def test_a_command_that_floods_its_stderr_is_not_waited_for_longer_than_others(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    way = transport.Via(["sh", "-c", "echo much >&2; cat"])
    monkeypatch.setattr(way, "_read_err", lambda: None)  # so there is always more
    asked: dict[str, Callable[[], Any]] = {"receive": lambda: way.receive(0.2, None), "ended": way.ended}
    waiting = threading.Thread(target=asked[what], daemon=True)
    waiting.start()
    waiting.join(20)
    ended = not waiting.is_alive()
    way.close()
    assert ended


def test_a_process_that_takes_in_no_clients_is_given_up(home: Path) -> None:
    _, descriptor = endpoint.make_directory(str(home))
    name = endpoint.name_for(os.getpid(), "0123abcd")
    waiting = [endpoint.bind(descriptor, name)]
    try:
        for _ in range(endpoint.BACKLOG + 1):
            waiting.append(endpoint.connect(descriptor, name, timeout=0))
        with pytest.raises(AttachError, match=r"takes in no clients now, and many wait already.*py-spy"):
            mmdebug.connect(os.getpid(), timeout=0.1)
        later = threading.Timer(0.1, lambda: waiting[0].accept()[0].close())
        later.start()
        endpoint.connect(descriptor, name, timeout=60).close()
        later.join()
    finally:
        for one in waiting:
            one.close()
        os.close(descriptor)


# Threads.


def test_a_question_is_answered_while_another_thread_follows_events(play: Play) -> None:
    def answer(message: Message) -> list[Message]:
        return [{"type": "pong", "id": message["id"]}] if message["type"] == "ping" else []

    with mmdebug.connect(play(answer).target) as found:
        connection = found.connection
        ended: list[BaseException] = []

        def follow() -> None:
            try:
                next(connection.events(follow=True))
            except BaseException as error:
                ended.append(error)

        following = threading.Thread(target=follow)
        following.start()
        wait_for(lambda: connection._waiting, "who follows")
        asking = threading.Thread(target=connection.ping)
        asking.start()
        asking.join(10)
        answered = not asking.is_alive()
        connection.close()
        following.join(20)
        asking.join(20)
    assert answered
    assert [type(error) for error in ended] == [ConnectionLost]


def test_threads_share_the_connection_of_a_process_and_closing_leaves_none(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = play(lambda message: [])
    found = mmdebug.connect(played.target)
    found.close()
    opened = opening.open_local

    def slow(*arguments: Any) -> Connection:
        time.sleep(0.1)
        return opened(*arguments)

    monkeypatch.setattr(opening, "open_local", slow)
    shared: list[Connection] = []
    threads = [threading.Thread(target=lambda: shared.append(found.connection)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    found.close()
    assert len(shared) == 4 and len(set(shared)) == 1 and shared[0].closed


def test_what_is_asked_of_a_process_elsewhere_after_its_end_opens_no_connection_that_stays(play: Play) -> None:
    played = play(lambda message: [({"type": message["type"], "id": message["id"]}, b"no file")])
    found = mmdebug.connect(played.target)
    found.close()
    for _ in range(2):
        with pytest.raises(MmStatsError):
            found.stats  # noqa: B018
    assert len(played.heard_of("hello")) == 2
    assert found.connection is found.connection
    assert len(played.heard_of("hello")) == 2
    found.close()
    wait_for(lambda: len(played.heard_of("bye")) == 2, "both goodbyes")


@pytest.mark.parametrize("kind", ["page", "complete", "inspect"])
def test_what_nobody_waits_for_any_more_is_interrupted(play: Play, kind: str) -> None:
    def answer(message: Message) -> list[Message]:
        if message["type"] == kind:
            os.kill(os.getpid(), signal.SIGINT)
        return [{"type": "pong", "id": message["id"]}] if message["type"] == "ping" else []

    played = play(answer)
    with mmdebug.connect(played.target) as found:
        connection = found.connection
        asked: dict[str, Callable[[], Any]] = {
            "page": lambda: connection.page(0),
            "complete": lambda: connection.complete("x", 1),
            "inspect": lambda: connection.inspect("x", 1),
        }
        with pytest.raises(KeyboardInterrupt):
            asked[kind]()
        connection.ping()
    assert [message["of"] for message in played.heard_of("interrupt")] == [played.heard_of(kind)[0]["id"]]


# Who can't be reached.


def test_a_directory_that_is_open_to_others_is_named(home: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", "import mmdebug; mmdebug.install(service='web'); print(1, flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdout is not None and program.stdout.readline()
    path, descriptor = endpoint.make_directory(str(home))
    os.close(descriptor)
    os.chmod(path, 0o755)
    try:
        with pytest.raises(AttachError, match=r"can't be reached: .*manhole-\d+ is not used: it is open to others"):
            mmdebug.connect("web")
    finally:
        program.communicate(b"\n")


def test_a_directory_that_is_not_used_does_not_hide_the_next_one(play: Play, tmp_path: Path) -> None:
    from mmdebug.client import discovery

    played = play()
    (good,) = discovery.choose(played.target).sockets
    bad = endpoint.Endpoint(str(tmp_path / "nowhere"), good.name, good.pid, good.uuid, good.uid, good.kind)
    opening.connect_to(discovery.Candidate(None, (bad, good))).close()
    with pytest.raises(AttachError, match=r"can't be attached to: .*nowhere"):
        opening.connect_to(discovery.Candidate(None, (bad,)))
