"""Who gets in, what they may do, what they can break, and what is known of it afterwards. With real processes."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attached
import pytest
from attached import NOBODY, App, Raw
from support import Program, wait_for

import mmdebug
from mmdebug import endpoint, protocol
from mmdebug.errors import AttachError, ConnectionLost, RemoteError
from mmdebug.evidence import stem_of
from mmdebug.layout import SUFFIX

Get = Callable[..., App]
Run = Callable[..., Program]


@pytest.fixture(scope="module")
def get() -> Iterator[Get]:
    yield from attached.apps()


def notes(app: App, name: str) -> list[dict[str, Any]]:
    """The fields of what was noted under a name."""
    return [dict(one.fields) for one in mmdebug.process(app.pid, app.home).events if one.name == f"manhole.{name}"]


# Other users

BECOME_NOBODY = f"""
import os, socket, sys
import manhole
import mmdebug, mmdebug.manhole, mmdebug.processes, mmdebug.postmortem
from mmdebug import endpoint, protocol
from mmdebug.manhole import house
from mmdebug.stacks import take
import encodings.ascii, encodings.unicode_escape
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
"""

STRANGER = """
pid, home, path = sys.argv[1:]

def everything(connected):
    said = b""
    try:
        while data := connected.recv(65536):
            said += data
    except ConnectionResetError:
        pass
    return said

def attach():
    try:
        mmdebug.connect(int(pid), path=home)
    except mmdebug.errors.MmStatsError as error:
        print(str(error).replace(chr(10), " "), flush=True)

attach()
sys.stdin.readline()
attach()
frames = socket.socket(socket.AF_UNIX)
frames.connect(path)
frames.sendall(protocol.PREAMBLE + protocol.encode({"type": "hello", "protocol": 1, "origin": {"user": "root"}})
    + protocol.encode({"type": "exec", "id": 1, "code": "marks.append('by nobody')"}))
print(everything(frames), flush=True)
plain = socket.socket(socket.AF_UNIX)
plain.connect(path)
plain.sendall(b"marks.append('by nobody')\\n")
print(everything(plain), flush=True)
"""


@pytest.mark.usefixtures("root")
def test_a_client_of_another_user_is_refused_on_both_sides_and_audited(get: Get, tmp_path: Path) -> None:
    app = get("threads", alone=True)
    end = app.end
    app.home.chmod(0o755)
    script = tmp_path / "stranger.py"
    script.write_text(BECOME_NOBODY + STRANGER)
    stranger = Program(
        f"import sys; exec(open({str(script)!r}).read())", app.home, arguments=(app.pid, app.home, end.path)
    )
    try:
        assert str(app.pid) in stranger.line()
        # Somebody has opened what was closed: that does not let anybody in.
        for path in (end.directory, end.path, app.stats.path):
            os.chmod(path, 0o777)
        stranger.say()
        assert "has no manhole (those of other users can't be seen)" in stranger.line()
        said = stranger.line()
        assert "clients of uid 0 and of root are taken, and not of 65534" in said and "welcome" not in said
        said = stranger.line()
        assert "refused" in said and ">>>" not in said
        assert stranger.process.wait(20) == 0
    finally:
        stranger.process.kill()
        stranger.process.communicate()
    os.chmod(end.directory, 0o700)
    refused = wait_for(lambda: len(notes(app, "refused")) >= 2 and notes(app, "refused"), "both to be noted")
    assert [(one["uid"], one["pid"], one["what"]) for one in refused] == [(NOBODY, stranger.pid, "connect")] * 2
    assert notes(app, "connected") == notes(app, "run") == []
    assert app.natively("marks") == []


@pytest.mark.usefixtures("root")
def test_root_attaches_to_a_process_of_another_user_only_through_that_users_own_directory(get: Get) -> None:
    home = Path("/tmp") / f"mmstats-of-nobody-{os.getpid()}"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    try:
        code = BECOME_NOBODY + attached.source("threads")
        app = get("nobody", code=code, alone=True, home=home)
        with app.connect() as process:
            assert process.eval("os.getuid()") == NOBODY
            assert process.connection.welcome.uid == NOBODY
        end = app.end
        assert end.uid == NOBODY and os.stat(end.directory).st_uid == NOBODY
        for owner, mode in ((0, 0o700), (12345, 0o700), (NOBODY, 0o750), (NOBODY, 0o701)):
            os.chown(end.directory, owner, owner)
            os.chmod(end.directory, mode)
            with pytest.raises(AttachError):
                app.connect()
        # What it has is moved to a directory of root's own name: that is none of its.
        os.chown(end.directory, 0, 0)
        os.chmod(end.directory, 0o700)
        os.rename(end.directory, home / "manhole-0")
        with pytest.raises(AttachError, match="is not trusted: uid 65534 listens there, and uid 0 should"):
            app.connect()
    finally:
        for path in sorted(home.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        home.rmdir()


IMPOSTOR = """
import os, sys
from mmdebug import endpoint
{become}
home, name = sys.argv[1:]
directory, descriptor = endpoint.make_directory(home)
endpoint.unlink(descriptor, name)
listener = endpoint.bind(descriptor, name)
print("ready", flush=True)
connected, _ = listener.accept()
connected.settimeout(20)
print(connected.recv(1000), flush=True)
"""


@pytest.mark.parametrize("uid", [0, NOBODY])
def test_an_impostor_gets_no_word_out_of_a_client(get: Get, uid: int) -> None:
    if uid and os.getuid():
        pytest.skip("NOT TESTED: only root can become another user")
    # Another user's pretends to be a process that did not opt in; one of the same user takes the place of a real one.
    app = get("threads", "mmdebug.install()" if uid else "mmdebug.manhole.install()", alone=True)
    stats = mmdebug.process(app.pid, app.home).stats
    name = endpoint.name_for(app.pid, stats.uuid[:8])
    if uid:
        app.home.chmod(0o777)
    become = f"os.setgroups([]); os.setgid({uid}); os.setuid({uid})" if uid else ""
    impostor = Program(IMPOSTOR.format(become=become), app.home, arguments=(app.home, name))
    try:
        assert impostor.line() == "ready"
        says = f"is not trusted: pid {impostor.pid} listens there, and pid {app.pid} should"
        with pytest.raises(AttachError, match=says):
            app.connect()
        assert impostor.line() == "b''"
        status, out, _ = attached.run_command(app, "eval", str(app.pid), "'secret of the client'")
        assert status != 0 and out == ""
    finally:
        impostor.process.kill()
        impostor.process.communicate()


# What comes over the wire


def _frame(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("!II", len(header), len(body)) + header + body


HELLO = protocol.encode({"type": "hello", "protocol": 1, "origin": {}})
MALFORMED = {
    "no frame": b"\xff" * 100,
    "an oversized header": struct.pack("!II", protocol.MAX_HEADER + 1, 0),
    "the largest sizes": b"\xff" * 8,
    "a body": struct.pack("!II", 2, 1) + b"{}x",
    "no JSON": _frame(b"{"),
    "no UTF-8": _frame(b'{"type": "\xff\xfe"}'),
    "no object": _frame(b"[1]"),
    "no type": _frame(b"{}"),
    "a number for a type": _frame(b'{"type": 7}'),
    "NaN": _frame(b'{"type": "ping", "id": NaN}'),
    "too deep": _frame(b'{"type": "ping", "id": ' + b"[" * 50 + b"]" * 50 + b"}"),
    "deep enough to end a recursion": _frame(b'{"type": "ping", "id": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "no number": _frame(b'{"type": "exec", "code": "marks.append(1)"}'),
    "a negative number": _frame(b'{"type": "exec", "id": -1, "code": "marks.append(1)"}'),
    "a truth for a number": _frame(b'{"type": "exec", "id": true, "code": "marks.append(1)"}'),
    "a huge number": _frame(b'{"type": "ping", "id": 1' + b"0" * 5000 + b"}"),
}


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("when", ["at first", "after the hello"])
def test_what_is_no_protocol_ends_that_connection_with_an_error_and_nothing_else(
    get: Get, what: str, when: str
) -> None:
    app = get("threads")
    with app.connect() as beside:
        client = Raw(app.raw())
        if when == "at first":
            client.socket.sendall(protocol.PREAMBLE + MALFORMED[what])
        else:
            assert client.hello()["type"] == "welcome"
            client.socket.sendall(MALFORMED[what])
        error = client.next()
        assert (error["type"], error["kind"], error["id"]) == ("error", "protocol", None)
        assert client.ended()
        client.socket.close()
        assert beside.eval("marks") == []


WRONG = [
    {"type": "nothing of ours"}, {"type": "hello", "protocol": 1}, {"type": "exec"}, {"type": "exec", "code": 7},
    {"type": "exec", "code": "marks.append(1)", "where": "nowhere"},
    {"type": "exec", "code": "marks.append(1)", "mode": ["cell"]},
    {"type": "exec", "code": "marks.append(1)", "timeout": -1},
    {"type": "exec", "code": "marks.append(1)", "timeout": "1"},
    {"type": "exec", "code": "marks.append(1)", "timeout": 1e300},
    {"type": "exec", "code": "marks.append(1)", "value": "yes"},
    {"type": "exec", "code": "marks.append(1)" + " " * protocol.MAX_CODE},
    {"type": "complete", "code": "mar", "cursor": "end"}, {"type": "complete", "code": "mar", "cursor": -1},
    {"type": "inspect", "code": "marks", "cursor": 2, "detail": 9}, {"type": "page", "start": -1},
    {"type": "interrupt"}, {"type": "interrupt", "of": 0}, {"type": "stacks", "all": 1},
    {"type": "events", "severity": "worst"}, {"type": "events", "last": -1}, {"type": "events", "follow": "yes"},
]  # fmt: skip


def test_a_request_with_wrong_fields_is_answered_and_the_session_goes_on(get: Get) -> None:
    app = get("threads")
    client = Raw(app.raw())
    client.hello()
    for number, wrong in enumerate(WRONG, 1):
        client.socket.sendall(protocol.encode({**wrong, "id": number}))
        answer = client.next()
        assert (answer["type"], answer["kind"], answer["id"]) == ("error", "protocol", number), (wrong, answer)
    client.ask("exec", 100, code="6 * 7")
    assert client.last(100)["data"]["text/plain"] == "42"
    # One at a time: a second command is not run, while questions are answered.
    client.ask("exec", 101, code="time.sleep(1000)")
    assert client.next()["type"] == "started"
    for number, kind in enumerate(("exec", "complete", "inspect", "page"), 102):
        client.ask(kind, number, code="marks.append(1)", cursor=3, start=0)
        assert client.next()["kind"] == "busy"
    for number, kind in enumerate(("ping", "stacks", "stats", "box", "events", "where"), 110):
        client.ask(kind, number)
        assert client.last(number)["type"] in (kind, "pong")
    client.socket.close()
    assert app.natively("marks") == []


def test_whatever_bytes_come_the_listener_survives(get: Get) -> None:
    app = get("threads")
    before = (attached.status(app.pid, "Threads"), attached.descriptors(app.pid))
    words = [*MALFORMED.values(), protocol.PREAMBLE, HELLO, *[protocol.encode({**wrong, "id": 5}) for wrong in WRONG]]
    for seed in range(150):
        chance = random.Random(seed)
        data = bytearray(protocol.PREAMBLE + HELLO if chance.random() < 0.7 else b"")
        data += b"".join(chance.choices(words, k=chance.randrange(4)))
        for _ in range(chance.choice((0, 0, 1, 5))):
            if data:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if data and chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        client = app.raw()
        try:
            at = 0
            while at < len(data):
                size = chance.choice((1, 7, 100, 1 << 20))
                client.sendall(data[at : at + size])
                at += size
            if chance.random() < 0.2:
                client.shutdown(chance.choice((socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)))
            if chance.random() < 0.1:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        client.close()
    with app.connect() as process:
        assert process.eval("marks") == []

    def settled() -> bool:
        return (attached.status(app.pid, "Threads"), attached.descriptors(app.pid)) <= before

    wait_for(settled, "all of it to be gone")


# What clients do to the process


@pytest.mark.parametrize("style", attached.STYLES)
@pytest.mark.parametrize("where", ["auto", "native"])
def test_no_end_of_a_session_is_the_end_of_the_process(get: Get, style: str, where: str) -> None:
    app = get(style)
    with app.connect() as process:
        for code in (
            "raise SystemExit(3)",
            "exit()",
            "quit(1)",
            "import sys; sys.exit('bye')",
            "raise KeyboardInterrupt",
        ):
            with pytest.raises(RemoteError) as caught:
                process.exec(code, where=where)
            assert caught.value.kind == "exception"
        for code, name in (("input('name? ')", "EOFError"), ("breakpoint()", "RuntimeError")):
            with pytest.raises(RemoteError) as caught:
                process.exec(code, where=where)
            assert caught.value.name == name
        # What closes or changes the streams of the process does so to it alone, and it can be undone.
        process.exec(
            "import sys; saved = sys.stdout; sys.stdout = None; print('nowhere'); sys.stdout = saved", where=where
        )
        assert process.exec("print('here')", where=where).stdout == "here\n"
        assert process.eval("6 * 7", where=where) == 42
    with app.connect() as process:
        assert process.eval("hit") == []
    assert app.program.process.poll() is None and app.complained == []


def test_a_session_that_closes_descriptors_of_ours_is_its_own_end_at_most(get: Get) -> None:
    app = get("threads", alone=True)
    opened = {int(name) for name in os.listdir(f"/proc/{app.pid}/fd")}
    with app.connect() as process:
        theirs = {int(name) for name in os.listdir(f"/proc/{app.pid}/fd")} - opened
        assert theirs
        # Those of its own session: socket and pipe.
        with pytest.raises(ConnectionLost):
            process.exec("".join([f"os.close({number})\n" for number in theirs]) + "time.sleep(0.2)")
    with app.connect() as process:
        assert process.eval("6 * 7") == 42
        # All but the first three: also the listener's.
        try:
            process.exec("os.closerange(3, 200)")
        except (ConnectionLost, RemoteError):
            pass
    wait_for(lambda: _answers(app), "it to listen again")
    assert app.program.process.poll() is None


def _answers(app: App) -> bool:
    """Whether it can be attached to now."""
    try:
        with app.connect() as process:
            return bool(process.eval("6 * 7") == 42)
    except (AttachError, ValueError):
        return False


def test_the_end_of_what_a_client_sends_and_a_broken_pipe_end_its_session(get: Get) -> None:
    app = get("gevent")
    before = attached.descriptors(app.pid)
    ways, printed = ("half a frame", "reset", "no more to read"), len(app.printed)
    for number in range(150):
        client = Raw(app.raw())
        client.hello()
        client.ask("exec", 1, code="for _ in range(1000):\n  print('x' * 1000)\n  gevent.sleep(0)\nmarks.append(1)")
        time.sleep(number % 10 / 2000)
        how = ways[number % 3]
        if how == "half a frame":
            client.socket.sendall(HELLO[:-3])
            client.socket.shutdown(socket.SHUT_WR)
            assert client.ended()
        elif how == "no more to read":
            client.socket.shutdown(socket.SHUT_RD)
        client.socket.close()
    wait_for(lambda: attached.descriptors(app.pid) <= before, "the sessions to end")
    # A program that writes into `mmdebug`, and one that stops reading from it.
    out = subprocess.run(
        f"echo 'print(\"x\" * 5000000)' | {attached.line_of('attach', str(app.pid))} | head -c 10",
        shell=True, capture_output=True, text=True, env=attached.environment(app), timeout=60,
    )  # fmt: skip
    assert out.stdout == "x" * 10 and "Traceback" not in out.stderr
    app.come_round()
    assert app.program.process.poll() is None
    assert app.printed[printed:] == [], "what was printed as the sessions ended"


@pytest.mark.parametrize(("style", "number"), [("gevent", 10_000), ("threads", 2000)])
def test_thousands_of_connections_in_a_row_leave_nothing_behind(get: Get, style: str, number: int) -> None:
    app = get(style)

    def greeted(raw: Raw) -> bool:
        try:
            return raw.hello()["type"] == "welcome"
        except (ConnectionResetError, EOFError):  # those before it have not ended yet, and it is one too many
            return False

    def connect(count: int) -> int:
        end = app.end
        descriptor = endpoint.open_directory(end.directory, end.uid)
        answered = 0
        try:
            for at in range(count):
                client = endpoint.connect(descriptor, end.name)
                if at % 10 == 0:
                    client.settimeout(20)
                    raw = Raw(client)
                    if greeted(raw) and at % 50 == 0:
                        raw.ask("exec", 1, code="6 * 7")
                        assert raw.last(1)["data"]["text/plain"] == "42"
                        answered += 1
                client.close()
        finally:
            os.close(descriptor)
        return answered

    def state() -> tuple[int, int]:
        return attached.status(app.pid, "Threads"), attached.descriptors(app.pid)

    before = state()
    connect(300)
    wait_for(lambda: state() <= before, "the first to be gone")
    memory = attached.status(app.pid, "VmRSS")
    assert connect(number) > number / 50 / 4
    wait_for(lambda: state() <= before, "threads and descriptors to be gone")
    assert attached.status(app.pid, "VmRSS") - memory < 2 << 10  # KiB
    with app.connect() as process:
        assert process.eval("6 * 7") == 42


# What a process allows


def test_a_manhole_for_questions_evaluates_nothing(get: Get) -> None:
    install = "mmdebug.manhole.install(read_only=True, namespace=dict(trap=Trap()))"
    trap = (
        "class Trap:\n  def __repr__(self): marks.append('repr'); return 'trap'\n"
        "  def __getattr__(self, name): marks.append(name); raise AttributeError(name)\n"
        "  def __dir__(self): marks.append('dir'); return []\n"
    )
    app = get("gevent", trap + install)
    with app.connect() as process:
        connection = process.connection
        assert connection.welcome.read_only and connection.welcome.names == ()
        asked = [
            lambda: process.eval("marks.append(1)"), lambda: process.exec("marks.append(1)"),
            lambda: process.exec("marks.append(1)", where="native"),
            lambda: connection.complete("trap.", 5), lambda: connection.inspect("trap.name", 6),
            lambda: connection.inspect("trap", 3, 1), lambda: connection.page(0),
        ]  # fmt: skip
        for ask in asked:
            with pytest.raises(RemoteError) as caught:
                ask()
            assert caught.value.kind == "refused"
        assert connection.stacks().total and connection.stats().process.pid == app.pid
        assert connection.where().kind == "gevent" and connection.ping() > 0
        assert [one.name for one in connection.events(last=100)].count("manhole.refused") == len(asked)
    status, out, err = attached.run_command(app, "eval", str(app.pid), "marks.append(1)")
    assert (status, out) == (1, "") and "read-only" in err
    plain = app.raw()
    plain.sendall(b"marks.append(1)\n%stacks\nexit()\n")
    said = attached.everything(plain)
    plain.close()
    assert b"read-only" in said and b"innocent" in said
    # It did nothing: its own word for it.
    os.kill(app.pid, signal.SIGUSR1)
    wait_for(lambda: "marks []" in app.printed, "it to say so")


AUTHORIZE = (
    "asked = []\n"
    "def authorize(access):\n"
    "  asked.append((access.action, access.peer.uid, access.peer.pid, access.code, access.where))\n"
    "  if 'slow' in access.code: released.clear(); real_sleep(2.5)\n"
    "  if 'fails' in access.code: raise ValueError('of the program')\n"
    "  if 'exits' in access.code: raise SystemExit(3)\n"
    "  if 'truth' in access.code: return 'yes'\n"
    "  if 'locks' in access.code: lock.acquire(); lock.acquire()\n"
    "  return 'no' not in access.code\n"
)


def test_the_application_has_a_veto(get: Get) -> None:
    app = get("gevent", AUTHORIZE + "mmdebug.manhole.install(authorize=authorize)")
    with app.connect() as process:
        for code, why in (
            ("'no'", "said no"), ("'slow'", "did not answer in 1 s"), ("'fails'", "failed: ValueError"),
            ("'exits'", "failed: SystemExit"), ("'truth'", "said no"), ("'locks'", "did not answer in 1 s"),
        ):  # fmt: skip
            with pytest.raises(RemoteError, match=why) as caught:
                process.exec(f"marks.append({code})")
            assert caught.value.kind == "denied"
        with pytest.raises(RemoteError, match="said no"):
            process.connection.complete("'no'.sp", 7)
        assert process.eval("marks") == []
        actions = process.eval("[list(one) for one in asked]")
        me = [os.getuid(), os.getpid()]
        assert actions[0] == ["connect", *me, "", ""]
        assert actions[1] == ["exec", *me, "marks.append('no')", "auto"]
        process.exec("lock.release()")
    denied = notes(app, "refused")
    assert len(denied) == 7 and denied[0]["code"] == "marks.append('no')" and denied[0]["what"] == "exec"
    assert "marks.append('no')" not in [one.get("code") for one in notes(app, "run")]


def test_a_veto_at_the_door_keeps_a_client_out(get: Get) -> None:
    app = get("threads", "mmdebug.manhole.install(authorize=lambda access: access.action != 'connect')")
    with pytest.raises(AttachError, match="said no"):
        app.connect()
    plain = app.raw()
    plain.sendall(b"marks.append(1)\n")
    assert b"denied" in attached.everything(plain)
    plain.close()
    assert attached.run_command(app, "eval", str(app.pid), "1")[0] != 0
    assert notes(app, "run") == [] and len(notes(app, "refused")) == 3


def connected(app: App) -> mmdebug.Process:
    """A connection, once there is a place for it."""

    def attempt() -> mmdebug.Process | None:
        try:
            return app.connect()
        except AttachError:
            return None

    found: mmdebug.Process = wait_for(attempt, "a place")
    return found


def test_clients_that_are_idle_or_too_many_are_sent_away(get: Get) -> None:
    app = get("asyncio", "mmdebug.manhole.install(idle_timeout=1, max_clients=2)")
    first, second = Raw(app.raw()), Raw(app.raw())
    assert first.hello()["type"] == second.hello()["type"] == "welcome"
    with pytest.raises(AttachError, match="there are 2 clients already"):
        app.connect()
    # It is not idle as long as its command runs.
    first.ask("exec", 1, code="await asyncio.sleep(1.5); 6 * 7")
    error = second.next()
    assert (error["kind"], error["id"]) == ("closing", None) and "nothing was asked for 1 s" in error["message"]
    assert second.ended()
    # It hangs up a moment before its place is free.
    with connected(app) as process:
        assert process.eval("6 * 7") == 42
        assert first.last(1)["data"]["text/plain"] == "42"
        assert first.next()["kind"] == "closing" and first.ended()
        with pytest.raises(ConnectionLost, match="nothing was asked"):
            wait_for(process.connection.look, "the end")
    first.socket.close()
    second.socket.close()
    whys = [one["why"] for one in notes(app, "disconnected")]
    assert sum("nothing was asked for 1 s" in why for why in whys) == 3


# The audit


@pytest.mark.parametrize("where", ["auto", "native"])
def test_what_a_client_runs_is_in_the_box_before_it_runs(get: Get, where: str) -> None:
    app = get("gevent", alone=True)
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(ConnectionLost, match="has died") as caught, app.connect() as process:
        process.exec(code, where=where)
    last = caught.value.postmortem.events[-1]
    assert last.name == "manhole.run" and last.fields["code"] == code
    assert (last.fields["pid"], last.fields["uid"]) == (os.getpid(), os.getuid())
    [came] = [one for one in caught.value.postmortem.events if one.name == "manhole.connected"]
    assert "python" in came.fields["command"] and came.fields["how"] == "frames"
    assert came.fields["claimed.user"]


def test_secrets_in_what_was_run_are_in_no_byte_of_the_box(get: Get) -> None:
    app = get("threads", alone=True)
    secret = "Zq77xKvW7tQj9LmP3"
    codes = [
        f"password = {secret!r}",
        f"connect('postgres://user:{secret}@host/db')",
        f"headers = {{'Authorization': 'Bearer {secret}'}}",
        f"login(token={secret!r}, region='eu')",
        f"api_key = '''{secret}'''\n" + "x = 1\n" * 500 + f"\nsecret = {secret!r}",
    ]
    with app.connect() as process:
        for code in codes:
            try:
                process.exec(code)
            except RemoteError:
                pass
            process.connection.complete(code, len(code))
            process.connection.inspect(code, len(code))
        # Who may run code may read everything: there nothing is taken out.
        assert process.eval("password") == secret
    client = attached.run_command(app, "eval", str(app.pid), f"dict(password={secret!r})")
    assert secret in client[1]
    runs = notes(app, "run")
    assert [one["code"].partition(" ")[0] for one in runs[:1]] == ["password"] and len(runs) == 7
    path = mmdebug.process(app.pid, app.home).path
    left = Path(stem_of(path) + SUFFIX).read_bytes() + Path(path).read_bytes()
    assert b"region='eu'" in left and b"manhole.run" in left
    assert secret.encode()[:10] not in left


LOGGED = (
    "class Where(logging.Handler):\n  def emit(self, record):\n"
    "    marks.append([record.getMessage(), native.get_ident() == native.main_ident()])\n"
    "logging.getLogger('mmdebug.manhole').addHandler(Where())\n"
    "logging.getLogger('mmdebug.manhole').setLevel('INFO')\n"
)


@pytest.mark.parametrize("style", ["gevent", "threads"])
def test_the_audit_is_logged_from_the_programs_own_hub_and_no_line_of_it_can_be_forged(get: Get, style: str) -> None:
    app = get(style, LOGGED + "mmdebug.manhole.install()")
    with app.connect() as process:
        process.exec("'audited'\nWARNING = 'forged'", where="native")
        said = wait_for(
            lambda: [one for one in process.eval("marks", where="native") if "audited" in one[0]], "the line"
        )
        for text, in_main in said:
            assert "\n" not in text and f"pid {os.getpid()}" in text
            assert in_main == (style == "gevent")


def test_json_of_a_refusal_is_whole(get: Get) -> None:
    app = get("gevent", AUTHORIZE + "mmdebug.manhole.install(authorize=authorize)")
    status, out, _ = attached.run_command(app, "eval", str(app.pid), "'no'", "--json")
    found = json.loads(out)
    assert status == 1 and not found["ok"] and found["error"]["kind"] == "denied"
