"""How a manhole gets into programs of all kinds: under gunicorn and `mmdebug run`, by a signal, however patched."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attached
import pytest
from attached import STYLES, App
from support import ROOT, Program, wait_for

import mmdebug
from mmdebug import endpoint
from mmdebug.client.arm import arm
from mmdebug.errors import AttachError, RemoteError

Get = Callable[..., App]
Run = Callable[..., Program]


@pytest.fixture(scope="module")
def get() -> Iterator[Get]:
    yield from attached.apps()


# gunicorn

GUNICORN_APP = """
import mmdebug.manhole
loaded = mmdebug.manhole.install({options})
requests = []

def app(environ, start_response):
    requests.append(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


class Gunicorn:
    """A gunicorn that has loaded its application before it forks a worker of gevent's."""

    def __init__(self, home: Path, where: Path, options: str) -> None:
        self.home = home
        self._socket = str(where / "socket")
        (where / "app.py").write_text(GUNICORN_APP.format(options=options))
        # Patched before the application is loaded, as gevent asks for with --preload.
        (where / "gunicorn.conf.py").write_text("from gevent import monkey\nmonkey.patch_all()\n")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--worker-class", "gevent",
             "--graceful-timeout", "1", "--bind", f"unix:{self._socket}", "app:app"],
            cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "MMSTATS_PATH": str(home), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.pid = self.process.pid

    def answer(self) -> bool:
        """Whether a worker answers a request."""
        assert self.process.poll() is None, self.process.communicate()
        with socket.socket(socket.AF_UNIX) as made:
            try:
                made.connect(self._socket)
                made.sendall(b"GET /asked HTTP/1.0\r\n\r\n")
                return made.recv(1000).startswith(b"HTTP/1.")
            except OSError:
                return False

    def ends(self, kind: str) -> set[int]:
        """The pids of those that listen, or wait for their signal."""
        return {one.pid for one in endpoint.listening(str(self.home)) if one.kind == kind}

    def close(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.communicate()


@pytest.fixture
def gunicorn(home: Path, tmp_path: Path) -> Iterator[Callable[[str], Gunicorn]]:
    pytest.importorskip("gunicorn", reason="NOT TESTED: gunicorn is not here")
    pytest.importorskip("gevent", reason="NOT TESTED: gevent is not here")
    running: list[Gunicorn] = []

    def start(options: str) -> Gunicorn:
        running.append(Gunicorn(home, tmp_path, options))
        wait_for(running[-1].answer, "a worker to answer")
        return running[-1]

    yield start
    for server in running:
        server.close()


def test_each_worker_of_a_preloading_gunicorn_is_armed_by_its_signal(gunicorn: Callable[[str], Gunicorn]) -> None:
    server = gunicorn("signal='RTMIN+3'")
    wait_for(lambda: len(server.ends("arm")) == 3, "the parent and its workers to wait for it")
    assert server.ends("socket") == set()
    first, second = sorted(server.ends("arm") - {server.pid})
    with pytest.raises(AttachError, match=f"mmdebug arm {first}"):
        mmdebug.connect(first, path=server.home)
    status, out, err = attached.run_command(server, "arm", str(first))
    assert (status, err) == (0, "") and "SIGRTMIN+3" in out
    assert server.ends("socket") == {first}
    with mmdebug.connect(first, path=server.home) as worker:
        result = worker.connection.execute("import os, app; os.getpid()", value=True)
        assert (result.where, result.value) == ("hub", first)
        assert worker.connection.welcome.kind == "gevent"
        # A new worker, in the place of one that was killed, can be armed just so.
        os.kill(second, signal.SIGKILL)
        third = wait_for(lambda: server.ends("arm") - {server.pid, first, second}, "another worker").pop()
        assert attached.run_command(server, "arm", str(third))[0] == 0
        with mmdebug.connect(third, path=server.home) as other:
            assert other.eval("__import__('os').getpid()") == third
        # The signals of gunicorn itself do what they always did.
        assert worker.eval("__import__('os').getppid()") == server.pid
    os.kill(server.pid, signal.SIGTERM)
    _, err = server.process.communicate(timeout=30)
    assert server.process.returncode == 0 and "Traceback" not in err, err


def test_each_worker_of_a_preloading_gunicorn_has_a_manhole_of_its_own(gunicorn: Callable[[str], Gunicorn]) -> None:
    server = gunicorn("")
    wait_for(lambda: len(server.ends("socket")) == 3, "the parent and its workers to listen")
    asked = []
    for pid in sorted(server.ends("socket") - {server.pid}):
        with mmdebug.connect(pid, path=server.home) as worker:
            result = worker.connection.execute("import app, os; os.getpid()", value=True)
            assert (result.where, result.value) == ("hub", pid)
            asked += worker.eval("app.requests")
            assert worker.eval("app.loaded") is True
    assert asked and set(asked) == {"/asked"}
    with mmdebug.connect(server.pid, path=server.home) as parent:
        assert parent.eval("__import__('os').getpid()") == server.pid
    # A new one in the place of a worker that was killed, in the midst of a session.
    pid = min(server.ends("socket") - {server.pid})
    others = server.ends("socket")
    with mmdebug.connect(pid, path=server.home) as worker:
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(AttachError, match="has died"):
            worker.connection.ping()
    new = wait_for(lambda: server.ends("socket") - others, "a new worker to listen").pop()
    with mmdebug.connect(new, path=server.home) as worker:
        assert worker.eval("__import__('os').getpid()") == new


# By a signal

ARMED = "print(mmdebug.manhole.install(signal='RTMIN+5'))"


@pytest.mark.parametrize("style", STYLES)
def test_nothing_listens_before_the_signal_comes(get: Get, style: str) -> None:
    app = get(style, ARMED)
    assert app.end.kind == "arm"
    with pytest.raises(AttachError, match=f"`mmdebug arm {app.pid}` has it listen"):
        app.connect()
    status, out, _ = attached.run_command(app, "ps")
    assert status == 0 and "armed" in out
    status, out, err = attached.run_command(app, "arm", str(app.pid))
    assert (status, err) == (0, "") and f"mmdebug attach {app.pid}" in out
    with app.connect() as process:
        assert process.eval("6 * 7") == 42
    status, out, err = attached.run_command(app, "arm", str(app.pid))
    assert status == 0 and "listens already" in out
    app.come_round()


@pytest.mark.parametrize(
    "ruin",
    ["signal.signal(signal.SIGRTMIN + 5, signal.SIG_DFL)", "signal.signal(signal.SIGRTMIN + 5, signal.SIG_IGN)"],
)
def test_a_signal_that_is_not_caught_is_not_sent(get: Get, ruin: str) -> None:
    # As by a program that sets its signals anew, after that.
    app = get("threads", f"{ARMED}\n{ruin}", alone=True)
    status, out, err = attached.run_command(app, "arm", str(app.pid))
    assert status != 0 and out == "" and "does not catch" in err
    assert app.program.process.poll() is None
    with pytest.raises(AttachError, match=r"does not catch SIGRTMIN\+5 any more"):
        arm(str(app.pid), str(app.home))
    # And what is not armed is sent nothing at all.
    other = get("threads", "mmdebug.install()")
    status, out, err = attached.run_command(other, "arm", str(other.pid))
    assert status != 0 and "has no manhole" in err
    assert other.program.process.poll() is None


def test_a_signal_that_has_a_handler_is_refused(run: Run) -> None:
    program = run(
        """
        import signal, mmdebug.manhole
        from mmstats.errors import ConfigurationError

        def mine(number, frame):
            print("mine", flush=True)

        signal.signal(signal.SIGUSR2, mine)
        for wanted in ("USR2", "SIGUSR2", 12, "KILL", "CHLD", "INT", "TERM", "RTMIN+400", "nothing"):
            try:
                print(mmdebug.manhole.install(signal=wanted))
            except ConfigurationError as error:
                print("refused:", str(error).split(";")[0], flush=True)
        print(mmdebug.manhole.installed(), flush=True)
        signal.raise_signal(signal.SIGUSR2)
        """
    )
    out, err = program.finish()
    lines = out.splitlines()
    assert err == "" and len([line for line in lines if line.startswith("refused:")]) == 9, out
    assert "has a handler already" in lines[0] and lines[-2:] == ["False", "mine"]


# `mmdebug run`

RUN = [sys.executable, "-m", "mmdebug", "run", "--no-report"]
UNAWARE = """
import sys, time
ticks = [0]
marks = []
print("ready", flush=True)
while True:
    ticks[0] += 1
    time.sleep(0.01)
"""


def test_a_program_that_knows_nothing_of_it_gets_a_manhole_by_run(get: Get) -> None:
    app = get("run", code=UNAWARE, alone=True, wrap=(*RUN, "--manhole", "--service", "unaware", "--"))
    with mmdebug.connect("unaware", path=app.home) as process:
        assert process.pid != app.pid  # that is `mmdebug run`
        assert process.eval("__main__.marks.append(1) or marks") == [1]
        inside = process.pid
    status, out, _ = attached.run_command(app, "eval", "unaware", "ticks[0] > 0")
    assert (status, out) == (0, "True\n")
    os.kill(inside, signal.SIGKILL)


def test_run_can_allow_questions_only_and_the_program_can_not_undo_that(get: Get) -> None:
    code = "import mmdebug.manhole\nmmdebug.manhole.install(namespace={'app': 1})\n" + UNAWARE
    app = get("run", code=code, alone=True, wrap=(*RUN, "--manhole=read-only", "--service", "unaware", "--"))
    with mmdebug.connect("unaware", path=app.home) as process:
        assert process.connection.welcome.read_only
        with pytest.raises(RemoteError, match="read-only"):
            process.eval("marks.append(1)")
        assert process.stacks().total["thread"] >= 1
        os.kill(process.pid, signal.SIGKILL)


# gevent, patched at any time

ORDERS = {
    "before our import": "PATCH\nimport mmdebug.manhole\nmmdebug.manhole.install()\n",
    "after our import": "import mmdebug.manhole\nPATCH\nmmdebug.manhole.install()\n",
    "after install": "import mmdebug.manhole\nmmdebug.manhole.install()\nPATCH\n",
    "without threads": "PATCH_SOME\nimport mmdebug.manhole\nmmdebug.manhole.install()\n",
    "not at all": "import mmdebug.manhole\nmmdebug.manhole.install()\n",
}
GEVENT = """
import sys, gevent, gevent.event
ticks = [0]
def tick():
    while True:
        ticks[0] += 1
        gevent.sleep(0.005)
gevent.spawn(tick)
print("ready", flush=True)
gevent.event.Event().wait()
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", ORDERS)
def test_it_does_not_matter_when_gevent_patches(get: Get, order: str) -> None:
    pytest.importorskip("gevent", reason="NOT TESTED: gevent is not here")
    begin = ORDERS[order].replace("PATCH_SOME", "from gevent import monkey\nmonkey.patch_all(thread=False)")
    app = get(
        "order", code=begin.replace("PATCH", "from gevent import monkey\nmonkey.patch_all()") + GEVENT, alone=True
    )
    with app.connect() as first, app.connect() as second:
        for process in (first, second):
            result = process.connection.execute("before = ticks[0]; gevent.sleep(0.05); ticks[0] > before", value=True)
            assert (result.where, result.value) == ("hub", True)
            natively = process.connection.execute("gevent.sleep(0.01); 6 * 7", where="native", value=True)
            assert (natively.where, natively.value) == ("native", 42)
        assert "tick" in str(first.stacks())


# asyncio


@pytest.mark.parametrize("style", ["asyncio", "uvloop"])
def test_await_works_where_there_is_a_loop(get: Get, style: str) -> None:
    app = get(style)
    with app.connect() as process:
        assert process.connection.welcome.kind == "asyncio"
        code = "import asyncio\nbefore = ticks[0]\nawait asyncio.sleep(0.05)\nticks[0] > before"
        result = process.connection.execute(code, value=True)
        assert (result.where, result.value) == ("loop", True)
        assert process.eval("await asyncio.sleep(0, 'the value')") == "the value"
        process.exec("async def both():\n  return await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))")
        assert process.eval("await both()") == [1, 2]
        process.exec("task = asyncio.create_task(asyncio.sleep(1000, name := 'kept'))")
        assert process.eval("task.done()") is False
        assert "innocent" in str(process.stacks())
        assert process.eval("task.cancel()") is True
        with pytest.raises(RemoteError, match="no event loop to await on"):
            process.exec("await asyncio.sleep(0)", where="native")
    out = attached.run_command(app, "eval", str(app.pid), "await asyncio.sleep(0, 42)")
    assert out[:2] == (0, "42\n")


def test_threads_are_shown_and_asked_without_a_loop(get: Get) -> None:
    app = get(
        "threads",
        "threading.Thread(target=lambda: real_sleep(1000), name='pool-7', daemon=True).start()\n"
        "mmdebug.manhole.install()",
    )
    with app.connect() as process:
        assert process.connection.welcome.kind == "threads"
        assert "pool-7" in str(process.stacks())
        for where, place, in_main in (("auto", "native", False), ("main", "main", True), ("app", "main", True)):
            code = "native.get_ident() == native.main_ident()"
            result = process.connection.execute(code, value=True, where=where)
            assert (result.where, result.value) == (place, in_main)


# Plain text


def talk(app: App, *lines: str) -> str:
    """What a person sees that says these lines, and leaves."""
    connected = app.raw()
    try:
        connected.sendall("".join([f"{line}\n" for line in lines]).encode())
        return attached.everything(connected).decode()
    finally:
        connected.close()


@pytest.mark.parametrize("style", STYLES)
def test_lines_of_text_are_enough(get: Get, style: str) -> None:
    app = get(style)
    said = talk(
        app, "marks.append('by text')", "for number in (1, 2):", "    print('number', number)", "", "1 / 0",
        "'\\x1b[31m'", "print('\\x1b[31mred')", "%where", "%native native.get_ident() == native.main_ident()",
        "%stacks", "%events 5", "%help", "%nothing", "exit()", "marks.append('after the end')",
    )  # fmt: skip
    assert said.startswith("mmdebug ") and ">>> " in said and "... " in said
    for part in (
        "number 1\nnumber 2\n",
        "ZeroDivisionError: division by zero",
        "False\n",
        "manhole.run",
        "%nothing is not known",
    ):
        assert part in said, (part, said)
    assert "\x1b" not in said and "red" in said
    with app.connect() as process:
        assert process.eval("marks") == ["by text"]
        process.exec("marks.clear()")


def test_a_silent_person_is_greeted_and_frames_still_work_then(get: Get) -> None:
    app = get("threads")
    client = app.raw()
    greeting = client.recv(1 << 16)  # it waits for a moment whether frames come
    while not greeting.endswith(b">>> "):
        greeting += client.recv(1 << 16)
    assert greeting.startswith(b"mmdebug ")
    raw = attached.Raw(client)
    assert raw.hello()["pid"] == app.pid
    raw.ask("exec", 1, code="6 * 7")
    assert raw.last(1)["data"]["text/plain"] == "42"
    client.close()


def test_what_is_typed_into_nc_is_run(get: Get) -> None:
    # Of the several programs of that name not all know the option.
    helps = subprocess.run(["nc", "-h"], capture_output=True, text=True, timeout=30) if shutil.which("nc") else None
    if helps is None or "-U" not in helps.stdout + helps.stderr:
        message = "NOT TESTED: there is no nc with -U here (netcat-openbsd)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    app = get("gevent")
    done = subprocess.run(
        ["nc", "-U", app.end.path], input="6 * 7\nexit()\n", capture_output=True, text=True, timeout=30
    )
    assert ">>> 42\n" in done.stdout
