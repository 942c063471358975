"""A client against a manhole that the test plays: what it asks, what it makes of answers, and whom it refuses."""

from __future__ import annotations

import base64
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from played import Played, polite, result
from support import Program, wait_for

import mmdebug
from mmdebug import endpoint
from mmdebug.client import connection as connections
from mmdebug.client import discovery, opening
from mmdebug.client.data import RemoteValue
from mmdebug.errors import AttachError, ConnectionLost, ProtocolError, RemoteError
from mmdebug.protocol import PREAMBLE, Message
from mmdebug.stacks import pyspy
from mmstats.errors import TargetError

Play = Callable[..., Played]


@pytest.fixture
def play(home: Path) -> Iterator[Play]:
    """``play(script)`` plays a manhole of this process; ``play(script, greeting=...)`` one with bad manners."""
    played: list[Played] = []

    def start(script: Callable[[Message], Any] = lambda message: [], **options: Any) -> Played:
        played.append(Played(home, polite(script), **options))
        return played[-1]

    yield start
    for one in played:
        one.close()


def attached(played: Played, **options: Any) -> mmdebug.Process:
    return mmdebug.connect(played.target, **options)


# Values.


def test_a_value_that_json_holds_comes_as_it_is_and_another_one_as_its_type_and_text(play: Play) -> None:
    def answer(message: Message) -> list[Message]:
        if message["code"] == "n":
            return [result(message, "[1, 2]", value=[1, 2])]
        if message["code"] == "None":
            return [result(message, "None", value=None)]
        return [result(message, "<Queue>", value_type="app.Queue", value_problem="no JSON")]

    with attached(play(answer)) as found:
        assert found.eval("n") == [1, 2]
        assert found.eval("None") is None
        queue = found.eval("app.queue")
    assert queue == RemoteValue("app.Queue", "<Queue>", {"text/plain": "<Queue>"}, "no JSON")
    assert repr(queue) == "<Queue>"


def test_a_table_comes_as_a_dataframe(play: Play) -> None:
    pyarrow, pandas = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None]})
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.Table.from_pandas(frame)
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    played = play(lambda message: [(result(message, "a b", arrow=True), body)])
    with attached(played) as found:
        assert found.eval("frame").equals(frame)


def test_what_a_command_prints_is_collected_or_handed_on_as_it_comes(play: Play) -> None:
    def answer(message: Message) -> list[Message]:
        pieces = [("stdout", "a"), ("stderr", "!"), ("stdout", "b\n")]
        streams: list[Message] = [
            {"type": "stream", "id": message["id"], "name": name, "text": text} for name, text in pieces
        ]
        begun: Message = {"type": "started", "id": message["id"], "where": "native", "reason": "the hub is blocked"}
        return [begun, *streams, result(message, "3", output={"bytes": 4, "dropped": 7})]

    with attached(play(answer)) as found:
        done = found.exec("code")
        assert (done.stdout, done.stderr, str(done), done.dropped) == ("ab\n", "!", "3", 7)
        assert done.reason == "the hub is blocked"
        came: list[Any] = []
        done = found.connection.execute(
            "code", on_stream=lambda name, text: came.append((name, text)), on_started=came.append
        )
    assert [came[0].where, *came[1:]] == ["native", ("stdout", "a"), ("stderr", "!"), ("stdout", "b\n")]
    assert done.stdout == ""


def test_output_beyond_a_limit_is_counted_and_not_kept(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_COLLECTED", 1000)
    piece = "x" * 300

    def answer(message: Message) -> list[Message]:
        return [{"type": "stream", "id": message["id"], "name": "stdout", "text": piece}] * 10 + [result(message)]

    with attached(play(answer)) as found:
        done = found.exec("flood")
    assert (len(done.stdout), done.dropped) == (900, 2100)


def test_what_failed_there_is_raised_here_with_all_that_is_known(play: Play) -> None:
    def answer(message: Message) -> list[Message]:
        return [
            {"type": "stream", "id": message["id"], "name": "stdout", "text": "begun"},
            {
                "type": "error", "id": message["id"], "kind": "exception", "name": "KeyError", "message": "'k'",
                "traceback": ["Traceback", "KeyError: 'k'"], "where": "hub", "seconds": 2, "advice": "ask again",
            },
        ]  # fmt: skip

    with attached(play(answer)) as found, pytest.raises(RemoteError, match="'k'") as caught:
        found.exec("code")
    error = caught.value
    assert (error.kind, error.name, error.traceback) == ("exception", "KeyError", ("Traceback", "KeyError: 'k'"))
    assert (error.where, error.seconds, error.advice, error.stdout) == ("hub", 2.0, "ask again", "begun")


def test_a_time_limit_is_sent_as_it_is_meant(play: Play) -> None:
    played = play(lambda message: [result(message)])
    with attached(played) as found:
        found.exec("a")
        found.exec("b", timeout=2.5)
        found.exec("c", timeout=None)
    assert [message["timeout"] for message in played.heard_of("exec")] == [None, 2.5, 0]


def test_only_what_can_not_run_is_shown_in_a_notebook_unless_it_is_trusted(play: Play) -> None:
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n...").decode()
    data = {"text/plain": "t", "text/html": "<script>", "image/svg+xml": "<svg/>", "image/png": image}
    with attached(play(lambda message: [result(message, data=data)])) as found:
        done = found.exec("plot")
    assert done._repr_mimebundle_()[0] == {"text/plain": "t", "image/png": image}
    assert connections.data.trusted(done)._repr_mimebundle_()[0] == data


# Questions.


def test_completions_and_inspections_are_data(play: Play) -> None:
    def answer(message: Message) -> list[Message]:
        if message["type"] == "complete":
            match = {"text": "append", "start": 2, "end": 4, "type": "function", "signature": "(x)"}
            return [{"type": "completions", "id": message["id"], "matches": [match], "more": True}]
        known = {"found": True, "name": "f", "value_type": "function", "signature": "(x)", "doc": "d"}
        place = {"file": "a.py", "line": 3, "source": "", "text": "all"}
        return [{"type": "inspection", "id": message["id"], **known, **place}]

    with attached(play(answer)) as found:
        (match,) = found.connection.complete("a.ap", 4)
        known = found.connection.inspect("f", 1)
    assert (match.text, match.start, match.end, match.type, match.signature) == ("append", 2, 4, "function", "(x)")
    assert (known.found, known.name, known.type, known.line, known.text) == (True, "f", "function", 3, "all")


def test_events_come_until_nobody_wants_more_and_other_questions_are_answered_meanwhile(play: Play) -> None:
    def event(number: int) -> Message:
        return {"time": number, "severity": "info", "kind": "event", "name": f"e{number}", "fields": {"n": number}}

    def answer(message: Message) -> list[Message]:
        if message["type"] == "events":
            return [{"type": "events", "id": message["id"], "events": [event(n)], "more": True} for n in (1, 2, 3)]
        if message["type"] == "ping":
            return [{"type": "pong", "id": message["id"]}]
        return []

    played = play(answer)
    with attached(played) as found:
        events = found.connection.events(follow=True)
        first = next(events)
        assert (first.name, first.time, first.fields) == ("e1", 1, {"n": 1})
        found.connection.ping()
        assert next(events).name == "e2"
        events.close()
        found.connection.ping()
        asked = played.heard_of("events")[0]["id"]
        assert [message["of"] for message in played.heard_of("interrupt")] == [asked]


# Interrupting.


class Endless:
    """A command that ends when it is interrupted, and not before."""

    def __init__(self, pressed: int = 0) -> None:
        self.running = 0
        self.began = threading.Event()
        self._pressed = pressed

    def __call__(self, message: Message) -> list[Message]:
        if message["type"] == "exec" and message["code"] == "endless":
            self.running = message["id"]
            self.began.set()
            if self._pressed:
                os.kill(os.getpid(), signal.SIGINT)
            return []
        if message["type"] == "interrupt":
            if self._pressed > 1:
                self._pressed = 0
                os.kill(os.getpid(), signal.SIGINT)
                return []
            done: Message = {"type": "error", "id": message["of"], "kind": "interrupted", "message": "stopped"}
            return [{"type": "interrupted", "id": message["id"], "how": "by force"}, done]
        return [result(message, "done")] if message["type"] == "exec" else []


def test_a_command_is_interrupted_by_another_thread(play: Play) -> None:
    endless = Endless()
    with attached(play(endless)) as found:
        thread = threading.Thread(target=lambda: (endless.began.wait(20), found.connection.interrupt()))
        thread.start()
        with pytest.raises(RemoteError, match="stopped") as caught:
            found.exec("endless")
        thread.join()
        assert caught.value.kind == "interrupted"
        assert found.exec("next").text == "done"


def test_ctrl_c_interrupts_the_command_there_and_the_answer_is_waited_for(play: Play) -> None:
    played = play(Endless(pressed=1))
    with attached(played) as found, pytest.raises(RemoteError) as caught:
        found.exec("endless")
    assert caught.value.kind == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_stops_waiting_and_the_connection_can_still_be_used(play: Play) -> None:
    played = play(Endless(pressed=2))
    with attached(played) as found:
        with pytest.raises(KeyboardInterrupt):
            found.exec("endless")
        assert found.exec("next").text == "done"


def test_ctrl_c_that_another_handler_makes_an_exception_interrupts_as_well(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attached(play(Endless())) as found:
        transport = found.connection._transport
        receive = transport.receive

        def pressed(*arguments: Any) -> Any:
            monkeypatch.setattr(transport, "receive", receive)
            raise KeyboardInterrupt

        monkeypatch.setattr(transport, "receive", pressed)
        with pytest.raises(RemoteError) as caught:
            found.exec("endless")
    assert caught.value.kind == "interrupted"


# Ends.


def test_no_answer_beyond_the_time_limit_ends_the_connection(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BEYOND", 0.05)
    with attached(play()) as found:
        before = found.connection
        with pytest.raises(ConnectionLost, match="no answer came in time"):
            found.exec("silence", timeout=0.05)
        assert before.closed
        with pytest.raises(ConnectionLost, match="no answer came in time"):
            before.ping()


def test_a_session_that_the_process_ends_says_why(play: Play) -> None:
    ending: Message = {"type": "error", "id": None, "kind": "closing", "message": "idle for 30 minutes"}
    with attached(play(lambda message: [ending])) as found, pytest.raises(ConnectionLost, match="idle for 30 minutes"):
        found.exec("code")


def test_a_process_that_hangs_up_and_lives_is_not_called_dead(play: Play) -> None:
    def answer(message: Message) -> list[Message]:
        raise EOFError

    with attached(play(answer)) as found, pytest.raises(ConnectionLost, match="still lives") as caught:
        found.exec("code")
    assert caught.value.postmortem is None


def test_closing_says_goodbye_and_leaves_no_descriptor(play: Play) -> None:
    before = set(os.listdir("/proc/self/fd"))
    played = play()
    opened = len(os.listdir("/proc/self/fd"))
    attached(played).close()
    wait_for(lambda: played.heard_of("bye"), "the goodbye")
    assert len(os.listdir("/proc/self/fd")) <= opened + 1  # the other end, which is the test's own
    assert before


# Who is talked to.


def test_what_a_shell_prints_before_the_greeting_is_skipped(play: Play) -> None:
    with attached(play(lambda m: [result(m, "1")], greeting=b"Welcome to web-0\r\n>>> " + PREAMBLE)) as found:
        assert found.exec("x").text == "1"


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"\0mmdebug 1\r\n", "ask for no terminal"),
        (b"\0mmdebug 2\n", "another version"),
        (b"HTTP/1.1 400 Bad Request\r\n" * 10_000, "no manhole"),
    ],
)
def test_who_does_not_speak_our_protocol_is_told_apart(play: Play, greeting: bytes, said: str) -> None:
    with pytest.raises((AttachError, ProtocolError), match=said):
        attached(play(greeting=greeting))


def test_a_process_that_does_not_answer_is_said_to_be_waited_for_and_then_given_up(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LONG", 0.02)
    told: list[str] = []
    from mmdebug.processes import connect

    with pytest.raises(AttachError, match="did not answer within"):
        connect(play(greeting=b"").target, timeout=0.1, note=told.append)
    assert told == [f"waiting for an answer of process {os.getpid()} ..."]


def test_a_refusal_is_told_with_its_advice(home: Path) -> None:
    refusal: Message = {"type": "error", "id": None, "kind": "refused", "message": "16 are here", "advice": "wait"}
    played = Played(home, lambda message: [refusal])
    try:
        with pytest.raises(AttachError, match="16 are here; wait"):
            attached(played)
    finally:
        played.close()


def test_an_impostor_that_listens_in_the_name_of_another_process_is_refused(home: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    played = Played(home, polite(lambda message: []), pid=other.pid)
    try:
        with pytest.raises(AttachError, match=f"pid {os.getpid()} listens there, and pid {other.pid} should"):
            attached(played)
        assert played.heard == []
    finally:
        played.close()
        other.communicate()


def test_a_directory_that_is_open_to_others_is_not_used(play: Play, home: Path) -> None:
    played = play()
    os.chmod(endpoint.directory_for(str(home), os.getuid()), 0o755)
    with pytest.raises(TargetError):
        attached(played)


def test_a_socket_that_a_dead_process_left_behind_is_said_to_be_one(home: Path) -> None:
    _, descriptor = endpoint.make_directory(str(home))
    endpoint.bind(descriptor, endpoint.name_for(os.getpid(), "0123abcd")).close()
    os.close(descriptor)
    with pytest.raises(AttachError, match="left behind: nobody listens there"):
        mmdebug.connect(os.getpid())


def test_an_impostor_of_another_user_is_refused_by_root(home: Path, root: None) -> None:
    home.chmod(0o755)
    for parent in home.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    target = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    evil = home / "manhole-4242"
    evil.mkdir(mode=0o700)
    os.chown(evil, 4242, 4242)
    (evil / f"{target.pid}-0123abcd.sock").touch()
    candidate = discovery.choose(str(target.pid))
    played = Played(home, polite(lambda message: []))
    try:
        (end,) = candidate.sockets
        connected = opening.endpoint.connect(played.descriptor, played.name)
        with connected:
            assert opening._impostor(candidate, end, connected) == "uid 0 listens there, and uid 4242 should"
    finally:
        played.close()
        target.communicate()


# Through another command.


@pytest.fixture
def bridge() -> list[str]:
    return [sys.executable, "-m", "mmdebug"]


def test_the_protocol_goes_through_a_command_also_large_answers(play: Play, bridge: list[str]) -> None:
    large = "x" * 900_000
    played = play(lambda message: [result(message, large, value=len(message["code"]))])
    with attached(played, via=["env"], remote=bridge) as found:
        assert found.pid == os.getpid()
        done = found.exec("y" * 200_000)
        assert (done.value, done.text) == (200_000, large)
        assert "elsewhere" in repr(found)
    assert played.heard[0]["origin"]["via"] == "env"
    wait_for(lambda: played.heard_of("bye"), "the goodbye")


def test_the_other_end_says_why_it_reaches_nobody(home: Path, bridge: list[str]) -> None:
    with pytest.raises(AttachError, match="nothing is known of 'nobody'"):
        mmdebug.connect("nobody", via="env", remote=shlex.join(bridge))


def test_a_command_that_fails_is_told_with_its_last_words(capfd: pytest.CaptureFixture[str]) -> None:
    script = "import sys; print('Permission \x1b[31mdenied', file=sys.stderr); sys.exit(255)"
    with pytest.raises(ConnectionLost, match=r"ended with 255: Permission \\x1b\[31mdenied"):
        mmdebug.connect("web", via=[sys.executable, "-c", script])
    assert capfd.readouterr().err == "Permission \\x1b[31mdenied\n"
    with pytest.raises(ConnectionLost, match="ended with 127"):
        mmdebug.connect("web", via=["/nowhere/ssh", "host"])


def test_what_ssh_hands_to_a_shell_is_quoted(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nshift\neval \"printf '<%s>' $*\" >&2\nexit 255\n")
    ssh.chmod(0o755)
    with pytest.raises(ConnectionLost, match="<python3><-m><mmdebug><bridge><--><a b; c>"):
        mmdebug.connect("a b; c", via=[str(ssh), "host"])


# Who can be attached to.


RECORDED = """
import mmdebug
mmdebug.install(service="web")
print("ready")
input()
"""


def test_a_process_without_a_manhole_says_how_to_opt_in_and_a_dead_one_where_to_look(
    run: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = run(RECORDED)
    program.line()
    monkeypatch.setattr(pyspy, "find", lambda: None)
    with pytest.raises(AttachError, match="py-spy, which could show its threads, is not installed"):
        mmdebug.process("web").stacks()
    with pytest.raises(AttachError, match=r"has no manhole.*mmdebug.manhole.install\(\).*run --manhole"):
        mmdebug.connect("web")
    program.kill()
    with pytest.raises(AttachError, match=rf"web {program.pid} is dead.*mmdebug postmortem .*\.mmstats"):
        mmdebug.connect(program.pid)


def test_events_are_a_tuple_and_can_be_followed(run: Callable[..., Program]) -> None:
    program = run(
        """
        import mmdebug, sys
        mmdebug.install(service="web")
        mmdebug.event("first")
        print("ready", flush=True)
        for line in sys.stdin:
            mmdebug.event(line.strip())
        """
    )
    program.line()
    found = mmdebug.process("web")
    assert isinstance(found.events, tuple) and [event.name for event in found.events][-1] == "first"
    followed = found.events(follow=True, last=1)
    assert next(followed).name == "first"
    program.say("second")
    assert next(followed).name == "second"
    program.finish()
    assert [event.name for event in followed if event.kind == "event"] == []


def test_a_target_that_nobody_knows_is_none(home: Path) -> None:
    with pytest.raises(TargetError, match="nothing is known of 'nobody'"):
        mmdebug.connect("nobody")


# What whoever has a value or an error of another process prints, without thinking of terminals.

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202ereversed\r\x1b[31mred"


def test_what_prints_itself_brings_no_control_characters_and_has_the_text_as_it_came(play: Play) -> None:
    def answer(message: Message) -> list[Message]:
        if message["code"] == "fail":
            return [{"type": "error", "id": message["id"], "kind": "exception", "name": "E", "message": EVIL}]
        return [result(message, EVIL, value_type=EVIL)]

    with attached(play(answer)) as found:
        value, done = found.eval("x"), found.exec("x")
        with pytest.raises(RemoteError) as caught:
            found.exec("fail")
    lost = ConnectionLost(EVIL)
    for shown in (repr(value), str(value), repr(done), str(done), str(caught.value), f"{lost}", repr(lost)):
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(shown), shown
    for bundle in (value._repr_mimebundle_(), done._repr_mimebundle_()):
        assert "\x1b" not in bundle[0]["text/plain"]
    assert value.text == done.text == caught.value.message == EVIL


# Ends that are noticed by whoever happens to look.


def test_a_look_takes_note_of_the_end_and_waits_for_nothing(play: Play) -> None:
    hang_up = threading.Event()

    def answer(message: Message) -> list[Message]:
        if message["type"] == "ping":
            hang_up.set()
            return [
                {"type": "pong", "id": message["id"]},
                {"type": "error", "id": None, "kind": "closing", "message": "the session was idle"},
            ]
        return []

    with attached(play(answer)) as found:
        connection = found.connection
        connection.look()
        assert not connection.closed, "nothing came: nothing has changed"
        with connection._turn:
            other = threading.Thread(target=connection.look)
            other.start()
            other.join(10)
            assert not other.is_alive(), "whoever has the turn notices it"
        connection.ping()  # its answer came, although the end came with it
        assert hang_up.is_set()

        def ended() -> bool:
            try:
                connection.look()
            except ConnectionLost as error:
                return str(error) == "the session was idle"
            return False

        wait_for(ended, "the end to be noticed")
        assert connection.closed
        with pytest.raises(ConnectionLost, match="the session was idle"):
            connection.look()


def test_an_end_that_a_thread_has_noticed_keeps_its_post_mortem_for_the_others(play: Play) -> None:
    def answer(message: Message) -> list[Message]:
        raise EOFError

    left = object()
    with attached(play(answer)) as found:
        connection = found.connection
        connection._lost = lambda reason: ConnectionLost("web has died", left)
        noticed: list[BaseException] = []

        def complete() -> None:
            try:
                connection.complete("x", 1)
            except ConnectionLost as error:
                noticed.append(error)

        thread = threading.Thread(target=complete)
        thread.start()
        thread.join(20)
        assert len(noticed) == 1
        for ask in (connection.look, connection.ping, lambda: connection.execute("x")):
            with pytest.raises(ConnectionLost, match="web has died") as caught:
                ask()
            assert caught.value.postmortem is left


# Targets.


def test_of_several_of_a_service_it_is_said_which_one_is_asked(run: Callable[..., Program]) -> None:
    source = """
        import mmdebug, sys
        mmdebug.install(service="web")
        print("ready", flush=True)
        sys.stdin.readline()
        """
    for program in (several := [run(source) for _ in range(2)]):
        program.line()
    said: list[str] = []
    chosen = discovery.choose("web", note=said.append).pid
    (other,) = {program.pid for program in several} - {chosen}
    assert said == [f"web {chosen} is the newest of 2 that 'web' means; the others are {other}"]
    assert discovery.choose(str(other), note=said.append).pid == other and len(said) == 1


def test_a_live_process_that_left_nothing_is_told_apart_from_one_that_is_not_there(run: Callable[..., Program]) -> None:
    program = run("import sys; print('ready', flush=True); sys.stdin.readline()")
    program.line()
    with pytest.raises(TargetError, match=rf"process {program.pid} lives, and has left no file in .*--path"):
        mmdebug.connect(program.pid)
    with pytest.raises(TargetError, match="nothing is known of"):
        mmdebug.connect(1 << 30)
