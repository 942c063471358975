"""What goes wrong while somebody is attached, done for real: to a process that serves, by processes that ask it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attached
import pytest
from attached import LOOPS, PLACE, STYLES, WAIT, App, begun
from support import wait_for

import mmdebug
from mmdebug import endpoint
from mmdebug.errors import AttachError, ConnectionLost, RemoteError

Get = Callable[..., App]


@pytest.fixture(scope="module")
def get() -> Iterator[Get]:
    yield from attached.apps()


# What blocks the hub or the loop


@pytest.mark.parametrize("what", ["compute", "sleep_in_c", "want_the_lock"])
@pytest.mark.parametrize("style", LOOPS)
def test_a_blocked_hub_is_answered_natively_with_the_stacks_first(get: Get, style: str, what: str) -> None:
    app = get(style)
    with app.connect() as process:
        process.exec("forget()")
        process.exec(f"soon({what})")
        wait_for(lambda: process.eval("bool(blocked)", where="native"), "it to be blocked")
        result, started = begun(process, "marks.append('asked'); marks")
        assert (result.where, result.value) == ("native", ["asked"])
        assert started.where == "native" and "did not come to it" in started.reason
        # Of the moment before the code began: what blocks is there, and the code is not.
        assert started.stacks is not None
        assert what in str(started.stacks) and "marks.append" not in str(started.stacks)
        process.exec("free()", where="native")
        app.come_round()
        # The hub has found it gone.
        late = process.connection.execute("marks", value=True)
        assert (late.where, late.value) == (PLACE[style], ["asked"])


def test_the_stacks_of_a_blocked_hub_are_printed(get: Get) -> None:
    app = get("gevent")
    with app.connect() as process:
        process.exec("forget(); soon(compute)")
        wait_for(lambda: process.eval("bool(blocked)", where="native"), "it to be blocked")
        status, out, err = attached.run_command(app, "stacks", str(app.pid))
        assert (status, err) == (0, "") and "compute" in out
        status, out, err = attached.run_command(app, "eval", str(app.pid), "6 * 7")
        assert (status, out) == (0, "42\n")
        assert "compute" in err and "did not come to it" in err
        assert process.connection.where().answers is False
        process.exec("free()", where="native")
        app.come_round()
        assert process.connection.where().answers is True


LOGGING = """
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="LOG %(name)s %(message)s")
handler = logging.getLogger().handlers[0]

def hold_the_handler():
    with handler.lock:
        compute()

def wait_with_the_handler():
    with handler.lock:
        blocked.append(1)
        while not released:
            time.sleep(0.01)

"""


@pytest.mark.parametrize("holder", ["hold_the_handler", "wait_with_the_handler"])
def test_a_lock_of_logging_that_a_greenlet_holds_keeps_nobody_waiting(get: Get, holder: str) -> None:
    app = get("gevent", LOGGING + "mmdebug.manhole.install()")
    with app.connect() as process:
        process.exec("forget()")
        process.exec(f"soon({holder})")
        wait_for(lambda: process.eval("bool(blocked)", where="native"), "the lock to be held")
        with app.connect() as other:  # whose coming is logged, too
            tag = f"{holder} asked"
            result = other.connection.execute(f"{tag!r}", timeout=5)
            assert result.where == ("native" if holder == "hold_the_handler" else "hub")
            assert holder in str(other.stacks())
            assert not any(tag in line for line in app.printed)
            other.exec("free()", where="native")
            # What was to be logged is, when the lock can be had.
            wait_for(
                lambda: any(line.startswith("LOG mmdebug.manhole") and tag in line for line in app.printed), "a log"
            )
    app.come_round()


# Several clients


@pytest.mark.parametrize("style", STYLES)
def test_five_clients_and_the_program_print_without_cross_talk(get: Get, style: str) -> None:
    app = get(style)
    pause = {"gevent": "gevent.sleep(0)", "threads": "time.sleep(0.0001)"}.get(style, "await asyncio.sleep(0)")
    before = len(app.printed)
    with app.connect() as process:
        process.exec(
            "def chatter():\n  number = 0\n  while not released:\n    print('app', number, flush=True); number += 1\n"
            "    time.sleep(0.001)\n"
            "forget(); __main__.chat = native.start_thread(chatter)"
        )
        wait_for(lambda: len(app.printed) > before, "the program to print")

        def talk(number: int) -> str:
            with app.connect() as client:
                code = f"for at in range(200):\n  print('client', {number}, at)\n  {pause}"
                result = client.exec(code)
                assert result.where == PLACE[style] and result.stderr == ""
                return result.stdout

        with ThreadPoolExecutor(5) as pool:
            said = list(pool.map(talk, range(5)))
        process.exec("free()")
    for number, text in enumerate(said):
        assert text == "".join([f"client {number} {at}\n" for at in range(200)])
    lines = app.printed[before:]
    assert lines == [f"app {number}" for number in range(len(lines))]
    assert app.complained == []


# Commands that are told to end

LOOPING = [(style, "auto") for style in STYLES] + [("gevent", "native"), ("asyncio", "native"), ("threads", "main")]


@pytest.mark.parametrize(("style", "where"), LOOPING)
def test_a_client_that_is_killed_takes_its_infinite_loop_with_it(get: Get, style: str, where: str) -> None:
    app = get(style)
    app.natively("forget()")
    code = "try:\n  marks.append('begun')\n  while True: pass\nfinally:\n  marks.append('ended')"
    client = attached.command(app, "exec", str(app.pid), code, "--where", where, "--timeout", "0")
    with app.connect() as process:
        wait_for(lambda: process.eval("marks == ['begun']", where="native"), "it to run")
        client.send_signal(signal.SIGKILL)
        client.communicate()
        wait_for(lambda: process.eval("marks == ['begun', 'ended']", where="native"), "it to end")
        app.come_round()
        assert process.eval("hit") == []


@pytest.mark.parametrize("style", STYLES)
def test_a_client_that_is_killed_takes_what_waits_with_it(get: Get, style: str) -> None:
    app = get(style)
    app.natively("forget()")
    code = f"try:\n  marks.append('begun')\n  {WAIT[style]}\nfinally:\n  marks.append('ended')"
    client = attached.command(app, "attach", str(app.pid), "--timeout", "0", stdin=subprocess.PIPE)
    assert client.stdin is not None
    client.stdin.write(code + "\n")
    client.stdin.close()
    client.stdin = None
    with app.connect() as process:
        wait_for(lambda: process.eval("marks == ['begun']", where="native"), "it to run")
        client.send_signal(signal.SIGKILL)
        client.communicate()
        wait_for(lambda: process.eval("marks == ['begun', 'ended']", where="native"), "it to end")
        assert process.eval("hit") == []


def interrupted(process: Any, code: str, **options: Any) -> RemoteError:
    """How code ends that is interrupted once it has said that it runs."""
    connection = process.connection

    def press(name: str, text: str) -> None:
        connection.interrupt()

    with pytest.raises(RemoteError) as caught:
        connection.execute(f"print('begun')\n{code}", on_stream=press, timeout=None, **options)
    return caught.value


@pytest.mark.parametrize(("style", "where"), LOOPING)
def test_an_infinite_loop_is_interrupted(get: Get, style: str, where: str) -> None:
    app = get(style)
    with app.connect() as process:
        process.exec("forget()")
        error = interrupted(process, "while True: pass", where=where)
        assert (error.kind, error.stuck) == ("interrupted", False)
        assert error.where == ("main" if where == "main" else "native" if where == "native" else PLACE[style])
        assert "<mmdebug " in "\n".join(error.traceback)
        app.come_round()
        again = process.connection.execute("6 * 7, hit", value=True, where=where)
        assert again.value is None and again.text == "(42, [])"


@pytest.mark.parametrize("style", LOOPS)
def test_what_waits_is_interrupted_and_an_innocent_one_beside_it_never(get: Get, style: str) -> None:
    app = get(style)
    mixed = WAIT[style].replace("1000", "0")
    with app.connect() as process:
        process.exec("forget()")
        for _ in range(10):
            for code in (WAIT[style], f"while True:\n  sum(range(300))\n  {mixed}"):
                error = interrupted(process, code)
                assert (error.kind, error.stuck, error.where) == ("interrupted", False, PLACE[style])
        app.come_round()
        assert process.eval("hit") == []


@pytest.mark.parametrize(
    ("style", "where"), [("gevent", "auto"), ("asyncio", "auto"), ("threads", "auto"), ("threads", "main")]
)
def test_a_call_of_c_that_can_not_be_stopped_is_said_and_the_session_goes_on(get: Get, style: str, where: str) -> None:
    app = get(style)
    with app.connect() as process:
        process.exec("forget()")
        connection = process.connection

        def press() -> None:
            wait_for(lambda: app.natively("bool(blocked)"), "it to be in that call")
            connection.interrupt()

        pressing = threading.Thread(target=press)
        pressing.start()
        with pytest.raises(RemoteError) as caught:
            connection.execute("read_in_c()", where=where, timeout=None)
        pressing.join(20)
        error = caught.value
        assert (error.kind, error.stuck) == ("interrupted", True)
        assert "could not be stopped" in error.advice
        assert "read_in_c" in str(error.stacks)
        # The same session, while that call still lasts.
        result, started = begun(process, "6 * 7")
        assert result.value == 42 and result.where == "native"
        if style != "threads":
            assert "read_in_c" in str(started.stacks)
        process.exec("os.write(writing, b'.')", where="native")
        app.come_round()
        assert process.connection.execute("6 * 7").where == PLACE[style]
        assert process.eval("hit") == []


# Forks and deaths

FORK = {
    "gevent": "def fork():\n  child = os.fork()\n  if not child: __import__('gevent').sleep(1000)\n  return child",
    "asyncio": "def fork():\n  child = os.fork()\n  while not child: real_sleep(1000)\n  return child",
    "threads": "def fork():\n  child = os.fork()\n  while not child: real_sleep(1000)\n  return child",
}


@pytest.mark.parametrize("style", ["gevent", "asyncio", "threads"])
def test_a_child_has_a_manhole_of_its_own_and_none_of_its_parents_clients(get: Get, style: str) -> None:
    app = get(style, alone=True)
    child = 0
    try:
        with app.connect() as process:
            process.exec("held = 'the session of the parent'")
            process.exec(FORK[style] + "\n__main__.fork = fork")
            where = "main" if style == "threads" else "auto"
            child = process.eval("fork()", where=where)
            assert child != app.pid and process.eval("os.getpid()") == app.pid
            assert process.eval("held") == "the session of the parent"

            def listens() -> bool:
                return any(one.pid == child for one in endpoint.listening(str(app.home)))

            wait_for(listens, "the child to listen")
            with app.connect(child) as younger:
                assert younger.eval("os.getpid()", where="native") == child
                with pytest.raises(RemoteError, match="held"):
                    younger.eval("held", where="native")
                os.kill(app.pid, signal.SIGKILL)
                app.program.process.wait()
                # The child holds no copy of the parent's sockets: the end comes.
                with pytest.raises(ConnectionLost, match="has died"):
                    process.eval("1")
                assert younger.eval("6 * 7", where="native") == 42
    finally:
        if child:
            os.kill(child, signal.SIGKILL)


def test_a_process_that_is_killed_is_told_with_its_postmortem(get: Get) -> None:
    app = get("gevent", alone=True)
    victim = mmdebug.process(app.pid, app.home)
    client = attached.command(app, "exec", str(app.pid), "gevent.sleep(1000)")
    process = app.connect()

    def both_wait() -> bool:
        return [one.name for one in victim.events].count("manhole.run") == 2

    found: list[BaseException] = []

    def ask() -> None:
        try:
            process.exec("import gevent; gevent.sleep(1000)")
        except BaseException as error:
            found.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(both_wait, "both to wait")
    os.kill(app.pid, signal.SIGKILL)
    app.program.process.wait()
    asking.join(20)
    [error] = found
    assert isinstance(error, ConnectionLost), error
    assert f"{app.pid} has died" in str(error)
    assert error.postmortem.verdict.summary in str(error)
    assert "manhole.run" in [one.name for one in error.postmortem.events]
    out, err = client.communicate(timeout=20)
    assert client.returncode == 1 and out == ""
    assert f"{app.pid} has died" in err and error.postmortem.verdict.summary in err
    with pytest.raises(AttachError, match=r"is dead .* `mmdebug postmortem .*` tells what ended it"):
        process.eval("1")


# What is in the way of the socket

SQUATTED = """
import mmdebug, mmdebug.manhole, sys
from mmdebug.manhole import files
mmdebug.install()
print(files.stats_path(), flush=True)
print("ready", flush=True)
sys.stdin.readline()
print(mmdebug.manhole.install(), flush=True)
sys.stdin.readline()
"""


def squat(what: str, directory: Path, name: str) -> Any:
    path = directory / name
    precious = directory.parent / "precious"
    precious.write_text("as it was")
    if what == "a file":
        path.write_text("squatter")
    elif what == "an empty directory":
        path.mkdir()
    elif what == "a directory":
        (path / "inner").mkdir(parents=True)
    elif what == "a dangling link":
        path.symlink_to(directory.parent / "nowhere")
    elif what == "a link to a file":
        path.symlink_to(precious)
    else:
        descriptor = endpoint.open_directory(str(directory), os.geteuid())
        made = endpoint.bind(descriptor, name)
        os.close(descriptor)
        if what == "a foreign socket":
            return made
        made.close()
    return None


@pytest.mark.parametrize(
    "what",
    [
        "a file", "an empty directory", "a directory", "a dangling link", "a link to a file", "a stale socket",
        "a foreign socket",
    ],
)  # fmt: skip
def test_what_is_in_the_way_of_the_socket_keeps_nobody_out(get: Get, what: str) -> None:
    app = get("squatted", code=SQUATTED, alone=True)
    path = app.printed[0]
    _, descriptor = endpoint.make_directory(str(app.home))
    os.close(descriptor)
    directory = app.home / f"manhole-{os.geteuid()}"
    name = endpoint.name_for(app.pid, mmdebug.process(app.pid, app.home).stats.uuid[:8])
    foreign = squat(what, directory, name)
    app.program.say()
    wait_for(lambda: "True" in app.printed, "it to listen")
    with app.connect() as process:
        assert process.eval("6 * 7") == 42
        assert process.path == path
    assert (directory.parent / "precious").read_text() == "as it was"
    assert not (directory.parent / "nowhere").exists()
    if what == "a directory":
        assert (directory / name / "inner").is_dir()
    if foreign is not None:
        foreign.close()
    # At its end it takes away what is its own.
    app.program.say()
    app.program.process.wait(20)
    assert [one for one in endpoint.listening(str(app.home)) if one.name != name] == []


def test_a_path_that_is_too_long_for_a_socket_is_none(get: Get, tmp_path: Path) -> None:
    home = tmp_path.joinpath(*["d" * 60] * 4)
    home.mkdir(parents=True)
    app = get("threads", alone=True, home=home)
    assert len(app.end.path) > 300
    with app.connect() as process:
        assert process.eval("6 * 7") == 42
    assert attached.run_command(app, "eval", str(app.pid), "6 * 7")[:2] == (0, "42\n")


# Too much


@pytest.mark.parametrize("style", ["gevent", "asyncio", "threads"])
def test_a_gibibyte_of_output_takes_no_memory_and_does_not_hold_up_the_program(get: Get, style: str) -> None:
    app = get(style)
    app.natively("forget()")
    pause = {"gevent": "gevent.sleep(0)", "asyncio": "await asyncio.sleep(0)", "threads": "pass"}[style]
    before = attached.status(app.pid, "VmHWM")
    code = (
        "text = 'x' * (1 << 14) + '\\n'\nbefore = ticks[0]\n"
        f"for number in range(1 << 16):\n  print(text, end='')\n  if not number % 64: {pause}\n"
        "print(text, file=sys.stderr)\nmarks.append(ticks[0] - before)"
    )
    # A child's peak begins with that of who started it: so a small program does.
    peak = (
        "import resource, subprocess, sys\ndone = subprocess.run(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\nsys.exit(done.returncode)"
    )
    client = [sys.executable, "-c", peak, sys.executable, "-m", "mmdebug", "exec", str(app.pid), code]
    done = subprocess.run(client, capture_output=True, text=True, env=attached.environment(app), timeout=120)
    assert done.returncode == 0, done.stderr
    assert 1000 << 10 < len(done.stdout) <= 1 << 20
    assert "of what it printed were over the limit" in done.stderr
    assert attached.status(app.pid, "VmHWM") - before < 16 << 10  # KiB
    assert 5 << 10 < int(done.stderr.split()[-1]) < 150 << 10
    with app.connect() as process:
        [ticks] = process.eval("marks")
        assert ticks > 3
        assert process.eval("hit") == []


def test_a_client_that_never_reads_holds_up_nothing_and_is_cut_off(get: Get) -> None:
    app = get("gevent")
    app.natively("forget()")
    before = attached.status(app.pid, "VmHWM")
    deaf = attached.Raw(app.raw())
    deaf.hello()
    deaf.ask("exec", 1, code="for _ in range(2000):\n  print('x' * (1 << 20))\nmarks.append(1)")
    wait_for(lambda: app.natively("marks") == [1], "it to have printed")

    def ask_on() -> None:
        for number in range(2, 10_000):
            deaf.ask("box", number)

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        ask_on()
    deaf.socket.close()
    app.come_round()
    assert attached.status(app.pid, "VmHWM") - before < 64 << 10  # KiB
