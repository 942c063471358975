"""One session over a real socket: who speaks, what is answered, what ends it. The code's runner is a dummy here."""

from __future__ import annotations

import gc
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from manhole_clients import Person, Raw
from support import wait_for

from mmdebug import endpoint, protocol
from mmdebug.manhole import access, channel, desk, places, plain, session, threads
from mmdebug.manhole.access import Access
from mmdebug.manhole.session import Session
from mmdebug.manhole.settings import Settings
from mmdebug.manhole.threads import Thread, Wake
from mmstats.errors import ConfigurationError


class Dummy:
    """Stands for the executor: answers when it is told to."""

    made: ClassVar[list[Dummy]] = []

    def __init__(self, namespace: dict[str, Any], settings: Settings, wake: Callable[[], None], take: Any) -> None:
        self.namespace = namespace
        self.wake = wake
        self.requests: list[Any] = []
        self.frames: list[Any] = []
        self.interrupts = 0
        self.closed = False
        Dummy.made.append(self)

    def submit(self, request: Any) -> None:
        self.requests.append(request)
        if request.code.startswith("answer"):
            self.answer(request.code)
        elif request.code == "fail":
            raise RuntimeError("no threads")

    def answer(self, text: str, **fields: Any) -> None:
        reply = {
            "type": "result", "id": self.requests[-1].id, "data": {"text/plain": text}, "metadata": {}, "cut": False,
            "where": "native", "seconds": 0.5, "output": {"bytes": 0, "dropped": 0}, **fields,
        }  # fmt: skip
        self.frames.append((reply, b""))
        self.wake()

    def interrupt(self, why: str = "interrupted") -> str:
        self.interrupts += 1
        self.answer("", type="error", kind="interrupted", message="stopped", traceback=[], advice="", name="")
        return "told"

    def tick(self) -> float | None:
        return None

    def outgoing(self) -> list[Any]:
        found, self.frames = self.frames, []
        return found

    def close(self) -> None:
        self.closed = True


class Served:
    """A session in a thread of its own, and the other end of its socket."""

    def __init__(self, settings: Settings, refusal: str = "") -> None:
        here, there = socket.socketpair()
        self.client = here
        here.settimeout(20)
        credentials = endpoint.Credentials(os.getpid(), os.geteuid(), os.getegid())
        self.session = Session(1, there, credentials, settings, refusal)
        self.over = False
        self.thread = Thread(self._run, lambda: self.session.wake())
        self.thread.start()

    def _run(self) -> None:
        self.over = self.session.serve(self.thread.leaves)

    def ended(self) -> bool:
        return self.over and not self.thread.alive


Serve = Callable[..., Served]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setattr(session, "Executor", Dummy)
    monkeypatch.setattr(Dummy, "made", [])
    served: list[Served] = []

    def start(refusal: str = "", **options: Any) -> Served:
        served.append(Served(Settings(**options), refusal))
        return served[-1]

    yield start
    for one in served:
        one.client.close()
        wait_for(one.ended, "the session's end")


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the audit wrote: names, fields."""
    from mmdebug import recorder

    found: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(recorder, "note", lambda name, severity="info", /, **fields: found.append((name, fields)))
    return found


# Who speaks.


def test_who_sends_the_preamble_speaks_in_frames(serve: Serve) -> None:
    raw = Raw(serve().client)
    welcome = raw.welcome
    assert (welcome["type"], welcome["protocol"], welcome["pid"]) == ("welcome", 1, os.getpid())
    assert welcome["limits"] == {"timeout": 30.0, "idle": 1800.0, "output": 1 << 20, "result": 1 << 16}
    assert raw.reply(raw.ask("ping"))["type"] == "pong"
    raw.send({"type": "bye"})
    assert raw.ended()


def test_who_sends_text_or_nothing_is_a_person(serve: Serve) -> None:
    for typed in ("", "answer 1\n"):
        person = Person(serve().client)
        person.socket.sendall(typed.encode())
        text = person.until(f">>> {typed}>>> " if typed else ">>> ")  # the answer may come with the banner, or later
        assert text.startswith("mmdebug ") and f"pid {os.getpid()}" in text
        assert person.type("answer 2") == "answer 2\n"
        assert person.type("exit()") == "" and person.said == "closed"


@pytest.mark.parametrize("pieces", [[11], [1, 10], [4, 4, 3]])
def test_a_preamble_that_comes_late_or_in_pieces_still_switches_to_frames(serve: Serve, pieces: list[int]) -> None:
    client = serve().client
    person = Person(client)
    person.until()  # it was taken for a person
    rest = protocol.PREAMBLE
    for size in pieces:
        client.sendall(rest[:size])
        rest = rest[size:]
    raw = Raw(client, greet=False)
    raw.send({"type": "hello", "protocol": 1})
    assert raw.receive()[0]["type"] == "welcome"
    assert raw.run("answer")["type"] == "result"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"\0mmdebug 2\n", "not the preamble of version 1"),
        (b"\0rubbish and more", "not the preamble of version 1"),
        (protocol.PREAMBLE + protocol.encode({"type": "ping", "id": 1}), "has to be a hello"),
        (protocol.PREAMBLE + protocol.encode({"type": "hello", "protocol": 2}), "speaks version 1"),
        (protocol.PREAMBLE + protocol.encode({"type": "hello"}), "protocol is no whole number"),
    ],
)
def test_another_beginning_is_refused_in_a_frame(serve: Serve, sent: bytes, told: str) -> None:
    raw = Raw(serve().client, greet=False)
    raw.socket.sendall(sent)
    message, _ = raw.receive()
    assert (message["type"], message["kind"], message["id"]) == ("error", "protocol", None)
    assert told in message["message"]
    assert raw.ended()


def test_a_hello_that_never_comes_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "HELLO", 0.05)
    for beginning in (protocol.PREAMBLE, protocol.PREAMBLE[:5]):
        raw = Raw(serve().client, greet=False)
        raw.socket.sendall(beginning)
        assert raw.receive()[0]["message"] == "no hello came"
        assert raw.ended()


# What is wrong with what comes.


def frame(header: bytes, body: int = 0) -> bytes:
    return struct.pack("!II", len(header), body) + header


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("!II", protocol.MAX_HEADER + 1, 0),
        frame(b'{"type":"ping","id":1}', 1),
        frame(b"\x80\x04pickle"),
        frame(b"[1]"),
        frame(b'{"id":1}'),
        frame(b'{"type":7}'),
        frame(b'{"type":"x","a":' + b"[" * 30 + b"]" * 30 + b"}"),
        frame(b'{"type":"ping","id":NaN}'),
        frame(b'{"type":"ping"}'),
        frame(b'{"type":"ping","id":0}'),
        frame(b'{"type":"ping","id":true}'),
        frame(b'{"type":"ping","id":1e300}'),
    ],
)
def test_a_frame_that_is_none_ends_the_connection_with_an_error(serve: Serve, sent: bytes) -> None:
    raw = Raw(serve().client)
    raw.socket.sendall(sent)
    message, _ = raw.receive()
    assert (message["type"], message["kind"]) == ("error", "protocol")
    assert raw.ended()


def test_half_a_frame_and_the_end_is_just_the_end(serve: Serve) -> None:
    served = serve()
    raw = Raw(served.client)
    raw.socket.sendall(struct.pack("!II", 100, 0) + b'{"type"')
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.ended()
    wait_for(served.ended)


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("dance", {}, "no request is called 'dance'"),
        ("exec", {}, "code is no text"),
        ("exec", {"code": "x" * (protocol.MAX_CODE + 1)}, "262144 are allowed"),
        ("exec", {"code": "1", "mode": "single"}, "mode is none of"),
        ("exec", {"code": "1", "where": "moon"}, "where is none of"),
        ("exec", {"code": "1", "timeout": -1}, "timeout is no number"),
        ("exec", {"code": "1", "value": 1}, "value is neither"),
        ("complete", {"code": "1", "cursor": "1"}, "cursor is no whole"),
        ("page", {"start": -1}, "start is no whole"),
        ("interrupt", {}, "of is no whole"),
        ("events", {"severity": "bad"}, "severity is none of"),
        ("stacks", {"all": "yes"}, "all is neither"),
    ],
)
def test_a_request_that_is_wrong_is_told_so_and_the_session_goes_on(
    serve: Serve, kind: str, fields: dict[str, Any], told: str
) -> None:
    raw = Raw(serve().client)
    reply = raw.reply(raw.ask(kind, **fields))
    assert (reply["type"], reply["kind"]) == ("error", "protocol")
    assert told in reply["message"]
    assert raw.run("answer")["data"] == {"text/plain": "answer"}


# Running.


def test_a_request_comes_to_the_executor_as_it_was_meant(serve: Serve) -> None:
    raw = Raw(serve(timeout=7.0, namespace={"app": 1}).client)
    raw.run("answer", mode="eval", where="native", value=True)
    raw.run("answer", timeout=0)
    raw.run("answer", timeout=2.5)
    raw.reply(raw.ask("complete", code="answer", cursor=3))
    (dummy,) = Dummy.made
    first, second, third, fourth = dummy.requests
    assert (first.kind, first.mode, first.where, first.timeout, first.value) == ("exec", "eval", "native", 7.0, True)
    assert (second.timeout, third.timeout) == (None, 2.5)
    assert (fourth.kind, fourth.cursor) == ("complete", 3)
    assert dummy.namespace["app"] == 1 and dummy.namespace["__name__"] == "__mmdebug__"


def test_a_session_sees_the_names_of_main_as_they_are_at_each_look(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    import __main__

    raw = Raw(serve().client)
    raw.run("answer")
    names = Dummy.made[0].namespace
    monkeypatch.setattr(__main__, "mmdebug_probe", 1, raising=False)
    assert eval("mmdebug_probe + len('ab')", names) == 3
    monkeypatch.setattr(__main__, "mmdebug_probe", 2)
    exec("def f():\n  return [mmdebug_probe for _ in '1']", names)
    assert eval("f()", names) == [2]
    exec("mmdebug_probe = 9", names)
    assert eval("f()", names) == [9] and __main__.mmdebug_probe == 2
    with pytest.raises(NameError, match="mmdebug_nothing"):
        eval("mmdebug_nothing", names)


def test_one_command_at_a_time_and_questions_are_answered_meanwhile(serve: Serve) -> None:
    raw = Raw(serve().client)
    first = raw.ask("exec", code="wait")
    assert raw.reply(raw.ask("exec", code="other"))["kind"] == "busy"
    assert raw.reply(raw.ask("ping"))["type"] == "pong"
    assert raw.reply(raw.ask("where"))["places"]
    stacks = raw.reply(raw.ask("stacks"))
    assert b'"kind":"thread"' in stacks["body"]
    raw.ask("interrupt", of=first)
    assert raw.reply(first)["kind"] == "interrupted"
    assert raw.run("answer")["type"] == "result"


def test_a_hub_that_does_not_answer_is_asked_once_by_all_who_want_to_know(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Callable[[], None]] = []
    monkeypatch.setattr(places.Places, "call", lambda self, function: asked.append(function) or True)
    monkeypatch.setattr(desk, "ANSWER", 0.02)
    raw = Raw(serve().client)
    for _ in range(3):
        assert raw.reply(raw.ask("where"))["answers"] is False
    monkeypatch.setattr(desk, "ANSWER", 20.0)
    numbers = [raw.ask("where") for _ in range(desk.ASKED + 1)]
    assert raw.reply(numbers[-1])["kind"] == "busy"
    [answer] = [one for one in asked if isinstance(one, desk._Probe)]
    answer()
    assert raw.reply(numbers[-2])["answers"] is True


def test_interrupting_what_does_not_run_says_so(serve: Serve) -> None:
    raw = Raw(serve().client)
    assert "nothing of the number 99" in raw.reply(raw.ask("interrupt", of=99))["how"]


def test_a_runner_that_fails_is_an_error_and_no_end(serve: Serve) -> None:
    raw = Raw(serve().client)
    reply = raw.run("fail")
    assert (reply["kind"], reply["name"]) == ("exception", "RuntimeError")
    assert raw.run("answer")["type"] == "result"


def test_a_reply_too_large_for_a_frame_is_an_error(serve: Serve) -> None:
    raw = Raw(serve().client)
    reply = raw.run("answer" + "x" * 10)
    assert reply["type"] == "result"
    number = raw.ask("exec", code="wait")
    wait_for(lambda: len(Dummy.made[0].requests) == 2)
    Dummy.made[0].answer("x" * protocol.MAX_HEADER)
    reply = raw.reply(number)
    assert (reply["type"], reply["kind"]) == ("error", "refused")


def test_read_only_evaluates_nothing_and_answers_questions(serve: Serve, noted: list[Any]) -> None:
    raw = Raw(serve(read_only=True).client)
    assert raw.welcome["read_only"] is True and raw.welcome["names"] == []
    for kind, fields in (
        ("exec", {"code": "1"}),
        ("page", {"start": 0}),
        ("complete", {"code": "a", "cursor": 1}),
        ("inspect", {"code": "a", "cursor": 1}),
    ):
        assert raw.reply(raw.ask(kind, **fields))["kind"] == "refused"
    assert raw.reply(raw.ask("stacks"))["type"] == "stacks"
    assert Dummy.made == []
    refused = [fields for name, fields in noted if name == "manhole.refused"]
    assert [fields["what"] for fields in refused] == ["exec", "page", "complete", "inspect"]


# Whom the application lets do what.


def asking(answers: dict[str, Any]) -> tuple[Callable[[Access], Any], list[Access]]:
    asked: list[Access] = []

    def authorize(access: Access) -> Any:
        asked.append(access)
        answer = answers.get(access.action, True)
        return answer() if callable(answer) else answer

    return authorize, asked


def test_the_application_is_asked_for_the_client_and_each_request(serve: Serve) -> None:
    authorize, asked = asking({})
    raw = Raw(serve(authorize=authorize).client, {"user": "ann", "host": "laptop"})
    raw.run("answer", where="main")
    raw.reply(raw.ask("stacks"))
    raw.reply(raw.ask("ping"))
    number = raw.ask("page", start=0)  # it shows the program's objects anew
    wait_for(lambda: len(Dummy.made[0].requests) == 2)
    raw.reply(raw.ask("interrupt", of=number))
    assert [access.action for access in asked] == ["connect", "exec", "stacks", "page"]
    peer = asked[1].peer
    assert (asked[1].code, asked[1].where) == ("answer", "main")
    assert (peer.pid, peer.uid, peer.origin) == (os.getpid(), os.geteuid(), {"user": "ann", "host": "laptop"})
    assert "pytest" in peer.command or "python" in peer.command


def test_a_thread_that_asks_the_application_leaves_nothing_behind(serve: Serve) -> None:
    # As logging does; Python before 3.13 keeps what it makes for a thread that it does not know.
    before = threading.active_count()
    raw = Raw(serve(authorize=lambda access: threading.current_thread() is not None).client)
    for _ in range(3):
        raw.run("answer")
    wait_for(lambda: threading.active_count() == before)


@pytest.mark.parametrize("answer", [False, None, 1, "yes", lambda: 1 / 0, lambda: (_ for _ in ()).throw(SystemExit)])
def test_all_but_true_denies_and_is_noted_and_nothing_runs(serve: Serve, noted: list[Any], answer: Any) -> None:
    authorize, _ = asking({"exec": answer})
    raw = Raw(serve(authorize=authorize).client)
    reply = raw.run("answer")
    assert reply["kind"] == "denied"
    assert Dummy.made == []
    ((_, fields),) = [item for item in noted if item[0] == "manhole.refused"]
    assert (fields["what"], fields["code"]) == ("exec", "answer")
    assert not [item for item in noted if item[0] == "manhole.run"]


def test_no_answer_in_time_denies_and_others_are_answered_meanwhile(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "PATIENCE", 0.3)
    release = threading.Event()
    authorize, _ = asking({"exec": lambda: release.wait(20)})
    raw = Raw(serve(authorize=authorize).client)
    number = raw.ask("exec", code="answer")
    assert raw.receive_of(raw.ask("ping")) == "pong"
    assert raw.reply(raw.ask("complete", code="a", cursor=1))["kind"] == "busy"
    reply = raw.reply(number)
    release.set()
    assert (reply["kind"], Dummy.made) == ("denied", [])
    assert "did not answer" in reply["message"]


def test_a_command_that_waits_for_the_application_can_be_interrupted(serve: Serve) -> None:
    release = threading.Event()
    authorize, _ = asking({"exec": lambda: release.wait(20)})
    raw = Raw(serve(authorize=authorize).client)
    number = raw.ask("exec", code="answer")
    raw.ask("interrupt", of=number)
    assert raw.reply(number)["kind"] == "interrupted"
    release.set()
    assert raw.reply(raw.ask("ping"))["type"] == "pong"
    assert Dummy.made == []


def test_an_application_that_never_answers_gets_no_more_questions(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "PATIENCE", 0.02)
    monkeypatch.setattr(access, "HANGING", 2)
    release = threading.Event()
    authorize, asked = asking({"exec": lambda: release.wait(20)})
    raw = Raw(serve(authorize=authorize).client)
    assert [raw.run("answer")["kind"] for _ in range(4)] == ["denied"] * 4
    assert len(asked) == 3  # to connect, and twice
    release.set()
    wait_for(lambda: not access._asking)


@pytest.mark.parametrize("person", [True, False])
def test_a_client_that_may_not_connect_is_told_and_sent_away(serve: Serve, noted: list[Any], person: bool) -> None:
    authorize, _ = asking({"connect": False})
    client = serve(authorize=authorize).client
    if person:
        client.sendall(b"answer\n")
        assert "denied: the application's authorize said no" in Person(client).until()
    else:
        raw = Raw(client)
        assert raw.welcome["kind"] == "denied"
        assert raw.ended()
    assert [name for name, _ in noted] == ["manhole.refused"]


def test_a_refused_client_is_told_why_in_its_own_way(serve: Serve) -> None:
    assert "refused: too many" in Person(serve(refusal="too many").client).until()
    raw = Raw(serve(refusal="too many").client)
    assert (raw.welcome["type"], raw.welcome["kind"], raw.welcome["message"]) == ("error", "refused", "too many")
    assert raw.ended()


# Who did what.


def test_all_is_noted_before_it_runs_without_secrets_and_with_its_end(serve: Serve, noted: list[Any]) -> None:
    raw = Raw(serve().client, {"user": "ann", "host": "laptop", "tty": "", "rubbish": "x"})
    number = raw.ask("exec", code="connect(password='hunter2secret')\n" + "x = 1\n" * 500)
    wait_for(lambda: Dummy.made and Dummy.made[0].requests)
    names = [name for name, _ in noted]
    assert names == ["manhole.connected", "manhole.run"]
    connected, run = noted[0][1], noted[1][1]
    assert (connected["claimed.user"], connected["claimed.host"], connected["how"]) == ("ann", "laptop", "frames")
    assert (run["pid"], run["uid"], run["request"]) == (os.getpid(), os.geteuid(), number)
    assert run["code"].startswith("connect(password=[redacted])\nx = 1\n") and "x = 1" in run["code.3"]
    assert "hunter2secret" not in repr(noted)
    Dummy.made[0].answer("done")
    raw.reply(number)
    raw.close()
    wait_for(lambda: noted[-1][0] == "manhole.disconnected")
    ended = noted[2]
    assert (ended[0], ended[1]["how"], ended[1]["seconds"], ended[1]["where"]) == (
        "manhole.ended", "result", 0.5, "native",
    )  # fmt: skip


def test_a_flood_of_other_texts_leaves_no_hole_in_what_is_noted(
    serve: Serve, noted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmdebug import sanitize

    monkeypatch.setattr(sanitize.Allowance, "spent", lambda self, now: True)
    Raw(serve().client).run("answer = 'something not seen before'")
    assert noted[1][1]["code"] == "answer = 'something not seen before'"


# What ends it.


def test_a_client_that_has_gone_has_its_command_stopped(serve: Serve, noted: list[Any]) -> None:
    served = serve()
    raw = Raw(served.client)
    raw.ask("exec", code="wait")
    wait_for(lambda: Dummy.made and Dummy.made[0].requests)
    raw.close()
    wait_for(served.ended)
    assert Dummy.made[0].closed
    assert [name for name, _ in noted][-2:] == ["manhole.ended", "manhole.disconnected"]


def test_an_idle_client_is_sent_away_and_a_busy_one_is_not(serve: Serve) -> None:
    raw = Raw(serve(idle_timeout=0.15).client)
    number = raw.ask("exec", code="wait")
    patient = time.monotonic() + 0.3
    while time.monotonic() < patient:
        raw.reply(raw.ask("ping"))
    other = Raw(serve(idle_timeout=0.15).client)
    assert other.receive()[0]["kind"] == "closing"  # in the time of which the first one waits for its command
    assert other.ended()
    Dummy.made[0].answer("done")
    assert raw.reply(number)["type"] == "result"
    assert raw.receive()[0]["message"] == "nothing was asked for 0.15 s"
    assert raw.ended()
    assert "closing: nothing was asked for" in Person(serve(idle_timeout=0.05).client).until("\n\n")


def test_a_client_that_does_not_read_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MOST", 1 << 20)
    monkeypatch.setattr(desk, "BATCH", 10)
    served = serve()
    raw = Raw(served.client)
    try:
        for _ in range(10_000):
            raw.ask("stacks")
    except OSError:
        pass
    wait_for(served.ended)


def test_the_process_end_is_told(serve: Serve) -> None:
    served = serve()
    raw = Raw(served.client)
    served.session.end("the process ends")
    message, _ = raw.receive()
    assert (message["kind"], message["message"]) == ("closing", "the process ends")
    assert raw.ended()


def test_a_session_can_step_aside_and_go_on_as_if_nothing_had_been(serve: Serve) -> None:
    served = serve()
    raw = Raw(served.client)
    number = raw.ask("exec", code="wait")
    wait_for(lambda: Dummy.made and Dummy.made[0].requests)
    threads.pause([served.thread])
    assert not served.thread.alive
    raw.ask("ping")
    Dummy.made[0].answer("done")
    threads.resume([served.thread])
    assert {raw.receive()[0]["type"], raw.receive()[0]["type"]} == {"pong", "result"}
    assert raw.run("answer")["id"] == number + 2


def test_sessions_leave_no_descriptors(serve: Serve) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for how in range(6):
        served = serve()
        raw = Raw(served.client)
        raw.ask("events", follow=True)
        if how % 2:
            raw.ask("exec", code="wait")
        raw.receive()
        raw.close()
        wait_for(served.ended)
        del served.session
    Dummy.made.clear()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


# A person.


def test_what_a_person_sees_moves_no_cursor(serve: Serve) -> None:
    person = Person(serve().client)
    person.until()
    assert person.type("answer \x1b[2J\x9b31m\u202e\ttab") == "answer \\x1b[2J\\x9b31m\\u202e\ttab\n"


def test_a_person_types_several_lines(serve: Serve) -> None:
    person = Person(serve().client)
    person.until()
    assert person.type("def answer():", "... ") == ""
    assert person.type("    return 1", "... ") == ""
    person.socket.sendall(b"\r\n")
    wait_for(lambda: Dummy.made and Dummy.made[0].requests)
    assert Dummy.made[0].requests[0].code == "def answer():\n    return 1\n"


def test_lines_that_come_at_once_run_one_after_the_other_and_the_end_is_waited_for(serve: Serve) -> None:
    person = Person(serve().client)
    person.socket.sendall(b"answer 1\n\nanswer 2\n# nothing\nanswer 3")
    person.socket.shutdown(socket.SHUT_WR)
    text = person.until("never")
    assert person.said == "closed"
    assert [text.count(f"answer {number}\n") for number in (1, 2, 3)] == [1, 1, 1]
    assert text.index("answer 1") < text.index("answer 2") < text.index("answer 3")


def test_a_person_that_hangs_up_has_its_command_stopped(serve: Serve) -> None:
    served = serve()
    person = Person(served.client)
    person.until()
    person.socket.sendall(b"wait\n")
    wait_for(lambda: Dummy.made and Dummy.made[0].requests)
    person.close()
    wait_for(served.ended)
    assert Dummy.made[0].closed


def test_the_percent_words_ask_and_choose(serve: Serve) -> None:
    person = Person(serve().client)
    person.until()
    assert "%stacks" in person.type("%help")
    assert "%dance is not known" in person.type("%dance")
    assert "thread MainThread" in person.type("%stacks")
    assert "native" in person.type("%where")
    assert "no stat file" in person.type("%stats")
    assert "can't be read" in person.type("%events")
    person.type("%native")
    person.type("answer")
    person.type("%main answer")
    assert [request.where for request in Dummy.made[0].requests] == ["native", "main"]


def test_a_line_without_an_end_is_not_kept_for_ever(serve: Serve) -> None:
    served = serve()
    person = Person(served.client)
    person.until()
    try:
        person.socket.sendall(b"x" * (protocol.MAX_CODE + 100_000))
    except OSError:
        pass
    assert "that is too long" in person.until("never")
    wait_for(served.ended)


def test_a_block_of_many_lines_is_bounded_and_what_follows_is_not_run_alone(serve: Serve) -> None:
    served = serve()
    person = Person(served.client)
    person.until()
    lines = [b"if 0:", *[b"  x = 1"] * (plain.MAX_BLOCK // 8 + 10), b"", b"answer"]
    person.socket.sendall(b"\n".join(lines))
    assert "that is too long" in person.until("never")
    wait_for(served.ended)
    assert Dummy.made == []


@pytest.mark.parametrize(
    ("source", "complete"),
    [
        ("1", True),
        ("", True),
        ("# only this", True),
        ("1 +", True),
        ("(1,", False),
        ("'''", False),
        ("x = \\", False),
        ("if 1:", False),
        ("if 1:\n  x", False),
        ("if 1:\n  x\n", True),
        ("for x in y: print(x)", False),
        ("@decorated", False),
        ("await f()", True),
        ("async def f():\n  pass\n", True),
        ("'\\d\\z' + f'{x!r:\\>3}'", True),
        ("x = r'\\d'\n", True),
        ("(" * 5000, True),
        ("1 1", True),
        ("\0", True),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_prompt_knows_when_code_is_complete_and_warns_of_nothing(source: str, complete: bool) -> None:
    assert plain.complete(source) is complete


# Parts.


@pytest.mark.parametrize(
    "wrong",
    [
        {"where": "hub"},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": "1"},
        {"idle_timeout": -1},
        {"max_clients": 0},
        {"max_clients": True},
        {"max_output": -1},
        {"max_result": 10},
        {"authorize": 1},
        {"namespace": {1: 2}},
        {"namespace": [1]},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Settings(**wrong)


def test_a_wake_writes_to_no_file_that_got_its_number(tmp_path: Any) -> None:
    wake = Wake()
    ends = [wake.fileno(), wake._write]
    for end in ends:
        os.close(end)
    others = [os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT) for number in range(2)]
    assert others == ends
    os.pwrite(others[0], b"precious", 0)
    wake()
    assert wake.clear() is False
    wake.close()
    assert [os.path.getsize(tmp_path / str(number)) for number in range(2)] == [8, 0]
    for other in others:
        os.close(other)  # they are open still


def test_a_thread_that_has_ended_is_not_started_by_the_end_of_a_pause() -> None:
    ran: list[int] = []
    wake = Wake()
    thread = Thread(lambda: ran.append(1), wake)
    thread.start()
    wait_for(lambda: not thread.alive)
    threads.pause([thread])
    threads.resume([thread])
    thread.stop()
    threads.pause([thread])
    threads.resume([thread])
    assert ran == [1]
