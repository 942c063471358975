"""The manhole in real programs: patched or not, forked or not, with clients that die and all kinds of bad luck."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from manhole_clients import Person, Raw, audit, connect, endpoint_of, opened
from support import ROOT, Program, wait_for

import mmdebug
from mmdebug import endpoint

Run = Callable[..., Program]

GEVENT = "from gevent import monkey; monkey.patch_all()"
SLEEP = "import time, sys\nprint('up', flush=True)\nfor line in sys.stdin: pass"
GEVENT_SLEEP = "import gevent\nprint('up', flush=True)\nwhile True: gevent.sleep(30)"
ASYNCIO = """
import asyncio
{policy}
async def main():
    print('up', flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
INSTALL = "import mmdebug.manhole\nassert mmdebug.manhole.install(service='web', namespace={'answer': 42})"

PROGRAMS = {
    "threads": (f"{INSTALL}\n{SLEEP}", "native"),
    "gevent": (f"{GEVENT}\n{INSTALL}\n{GEVENT_SLEEP}", "hub"),
    "gevent patched after the import": (f"import mmdebug.manhole\n{GEVENT}\n{INSTALL}\n{GEVENT_SLEEP}", "hub"),
    "gevent patched after install": (f"{INSTALL}\n{GEVENT}\n{GEVENT_SLEEP}", "hub"),
    "asyncio": (INSTALL + ASYNCIO.format(policy=""), "loop"),
    "uvloop": (
        INSTALL + ASYNCIO.format(policy="import uvloop; asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())"),
        "loop",
    ),
}


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("kind", PROGRAMS)
def test_it_answers_in_frames_and_in_text_to_several_at_once(run: Run, home: Path, kind: str) -> None:
    source, place = PROGRAMS[kind]
    if kind.startswith(("gevent", "uvloop")):
        pytest.importorskip(kind.partition(" ")[0])
    program = run(source)
    assert program.line() == "up"
    raw, person = Raw(connect(home, program.pid)), Person(connect(home, program.pid))
    person.until()
    reply = raw.run("answer * 2")
    assert (reply["data"]["text/plain"], reply["where"]) == ("84", place)
    assert person.type("x = answer + 1; print('hello'); x") == "hello\n43\n"
    assert raw.run("x")["name"] == "NameError"  # of another session
    # While one command runs, others are answered.
    number = raw.ask("exec", code="import time\nwhile True: time.sleep(0.01)", where="native")
    raw.reply(number, "started")
    assert person.type("x") == "43\n"
    raw.close()
    # The command of the client that left is stopped.
    wait_for(lambda: any(e.name == "manhole.disconnected" for e in audit(home, program.pid)))
    assert person.type("quit()") == "" and person.said == "closed"
    # Neither client, nor whatever they tried, has ended it.
    third = Raw(connect(home, program.pid))
    for end in ("exit()", "raise SystemExit(3)", "import sys; sys.exit()", "quit()"):
        assert third.run(end)["type"] == "error"
    assert third.run("1")["data"]["text/plain"] == "1"
    third.send({"type": "bye"})
    assert third.ended()
    assert program.process.poll() is None


def test_a_program_without_gevent_gets_none_of_it_and_manhole_itself_is_left_as_it_is(run: Run, home: Path) -> None:
    out, _ = run(
        f"""
        import sys, os, signal
        fork = os.fork
        {INSTALL.splitlines()[0]}
        assert mmdebug.manhole.install(service="web")
        print("gevent" in sys.modules, "eventlet" in sys.modules)
        import manhole
        print(manhole._MANHOLE, manhole._LOG.destination, os.fork is fork)
        # The program's own, beside ours.
        own = manhole.install(socket_path=os.environ["MMSTATS_PATH"] + "/own", verbose=False)
        while not os.path.exists(own.uds_name):
            pass
        print(type(own) is manhole.Manhole, os.path.exists(own.uds_name), mmdebug.manhole.installed())
        mmdebug.manhole.uninstall()
        print(os.path.exists(own.uds_name), mmdebug.manhole.installed())
        print(os.listdir(f"{{os.environ['MMSTATS_PATH']}}/manhole-{{os.getuid()}}"))
        """
    ).finish()
    assert out.splitlines() == ["False False", "None None True", "True True True", "True False", "[]"]


def test_nothing_is_imported_by_a_thread_of_ours(run: Run, home: Path) -> None:
    program = run(
        f"""
        {GEVENT}
        import _thread, sys
        from mmdebug import native
        import mmdebug.manhole
        assert mmdebug.manhole.install(service="web")
        main, found = native.get_ident(), []
        def hook(event, arguments):
            if event == "import" and native.get_ident() != main:
                found.append(arguments[0])
        sys.addaudithook(hook)
        import gevent
        print("up", flush=True)
        while True: gevent.sleep(30)
        """
    )
    program.line()
    person, raw = Person(connect(home, program.pid)), Raw(connect(home, program.pid))
    person.until()
    for line in ("1 + 1", "1 / 0", "%stacks", "%events", "%where", "%help", "'\\x1b'", "%native [1, 2]", "pri nt"):
        person.type(line)
    raw.run("{'a': [1.5, None]}", value=True)
    raw.run("import time\nwhile True: time.sleep(0.01)", timeout=0.05)
    raw.run("import time\nwhile True: time.sleep(0.01)", timeout=0.05, where="native")
    for kind, fields in (
        ("complete", {"code": "answer.", "cursor": 7}),
        ("inspect", {"code": "print", "cursor": 5, "detail": 1}),
        ("stats", {}),
        ("box", {}),
        ("events", {}),
        ("page", {"start": 0}),
    ):
        raw.reply(raw.ask(kind, **fields))
    assert raw.run("__main__.found")["data"]["text/plain"] == "[]"


@pytest.mark.parametrize("first", ["recorder", "manhole"])
def test_it_works_before_and_after_the_recorder_and_both_are_whole(run: Run, home: Path, first: str) -> None:
    calls = ["mmdebug.install(service='web')", "mmdebug.manhole.install()"]
    if first == "manhole":
        calls = ["mmdebug.manhole.install()", "mmdebug.event('between')", "mmdebug.install(service='web')"]
    program = run("import mmdebug.manhole\n" + "\n".join(calls) + f"\n{SLEEP}")
    program.line()
    Raw(connect(home, program.pid)).run("1")
    found = mmdebug.process(program.pid, home)
    assert found.stats.process.service == "web"
    assert found.box is not None and found.box.facts["faulthandler"] == "on"
    assert {"manhole.connected", "manhole.run"} <= {event.name for event in found.events}
    (fault,) = home.glob("*.fault")
    assert fault.name.startswith(f"web-{program.pid}-")
    program.process.send_signal(signal.SIGSEGV)
    program.process.wait()
    assert mmdebug.load(found.path).fault is not None


def test_who_did_what_is_in_the_box_of_a_process_that_was_killed_in_the_midst_of_it(run: Run, home: Path) -> None:
    program = run(f"{INSTALL}\n{SLEEP}")
    program.line()
    script = f"""
import os, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from manhole_clients import Raw, connect
raw = Raw(connect(Path({str(home)!r}), {program.pid}), {{"user": "ann", "host": "laptop"}})
raw.ask("exec", code="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
raw.ended()
"""
    (home / "client.py").write_text(script)
    client = subprocess.Popen([sys.executable, str(home / "client.py"), "--password", "hunter2secret"])
    assert client.wait() == 0
    assert program.process.wait() == -signal.SIGKILL
    events = {event.name: event.fields for event in audit(home, program.pid)}
    connected, ran = events["manhole.connected"], events["manhole.run"]
    assert (connected["pid"], connected["uid"], connected["claimed.user"]) == (client.pid, os.getuid(), "ann")
    assert "--password [redacted]" in str(connected["command"]) and "hunter2secret" not in repr(events)
    assert ran["code"] == "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert "manhole.ended" not in events


def test_the_programs_log_gets_a_line_and_never_holds_anybody_up(run: Run, home: Path) -> None:
    program = run(
        f"""
        {GEVENT}
        import logging, sys, gevent
        import mmdebug.manhole
        class Held(logging.Handler):
            lines = []
            def emit(self, record):
                self.lines.append(record.getMessage())
        handler = Held()
        logging.getLogger().addHandler(handler)
        handler.acquire()  # as by a greenlet that writes to a pipe that nobody reads
        assert mmdebug.manhole.install(service="web")
        print("up", flush=True)
        def free():
            handler.release()
        free.greenlet = gevent.getcurrent()
        while not Held.lines:
            gevent.sleep(0.01)
            if hasattr(free, "now"):
                handler.release()
                del free.now
        print(Held.lines[0], flush=True)
        gevent.sleep(600)
        """
    )
    program.line()
    raw = Raw(connect(home, program.pid))
    assert raw.run("'one\\ntwo'\n3")["data"]["text/plain"] == "3"
    assert raw.run("__main__.Held.lines")["data"]["text/plain"] == "[]"
    raw.run("__main__.free.now = True")
    assert f"pid {os.getpid()} (uid {os.getuid()}" in program.line()


def test_the_last_lines_of_the_log_are_written_before_the_end(run: Run, home: Path) -> None:
    program = run(
        f"""
        import logging, sys
        from mmdebug import native
        {INSTALL.splitlines()[0]}
        class Slow(logging.StreamHandler):
            def emit(self, record):
                native.original("time", "sleep")(0.02)
                super().emit(record)
        logging.basicConfig(level="INFO", handlers=[Slow(sys.stdout)])
        assert mmdebug.manhole.install(service="web")
        print("up", flush=True)
        sys.stdin.read()
        """
    )
    program.line()
    Raw(connect(home, program.pid)).run("1")
    out, err = program.finish()
    assert "disconnected: closing: the manhole was closed" in out and err == ""


def test_a_hub_too_large_a_program_to_look_for_it_is_known_all_the_same(run: Run, home: Path) -> None:
    program = run(
        f"""
        {GEVENT}
        import gevent, sys
        {INSTALL.splitlines()[0]}
        from mmdebug import mainloop
        mainloop.MAX_BLOCKS = 0
        gevent.get_hub()
        assert mmdebug.manhole.install(service="web")
        done = []
        def block():
            print("up", flush=True)
            while not done:
                pass
        gevent.spawn(block).join()
        gevent.sleep(600)
        """
    )
    program.line()
    raw = Raw(connect(home, program.pid))
    # Not "threads", whose code would run natively at once, and without a word.
    number = raw.ask("exec", code="__main__.done.append(1)")
    assert "hub did not come to it" in raw.reply(number, "started")["reason"]
    assert raw.reply(number)["where"] == "native" and raw.run("1")["where"] == "hub"


def test_a_socket_that_somebody_tidied_away_is_made_anew(run: Run, home: Path) -> None:
    program = run(
        f"""
        {INSTALL.splitlines()[0]}
        from mmdebug.manhole import door
        door.REFRESH = 0.02
        assert mmdebug.manhole.install(service="web")
        {SLEEP.splitlines()[0]}
        print("up", flush=True)
        sys.stdin.read()
        """
    )
    program.line()
    path = Path(endpoint_of(home, program.pid).path)
    os.utime(path, (1, 1))
    wait_for(lambda: path.stat().st_mtime > 1, "its file to look used")
    path.unlink()
    wait_for(path.exists, "it to listen again")
    assert Raw(connect(home, program.pid)).run("1")["type"] == "result"


# Forks and the end.


@pytest.mark.parametrize("patch", ["", GEVENT])
def test_a_child_listens_at_a_socket_of_its_own_and_has_nothing_of_the_parents(
    run: Run, home: Path, patch: str
) -> None:
    program = run(
        f"""
        {patch}
        import os, sys, time
        {INSTALL.splitlines()[0]}
        assert mmdebug.manhole.install(service="web")
        print("up", flush=True)
        sys.stdin.readline()
        for _ in range(2):
            pid = os.fork()
            if not pid:
                break
            print(pid, flush=True)
        while True:
            time.sleep(0.02)
        """
    )
    program.line()
    before = Raw(connect(home, program.pid))
    number = before.ask("exec", code="import time\nwhile not __main__.__dict__.get('done'): time.sleep(0.01)\n'done'")
    before.reply(number, "started")
    program.say()
    children = [int(program.line()), int(program.line())]
    # The client that was there while it forked goes on, in the midst of its command.
    assert before.reply(before.ask("ping"))["type"] == "pong"
    for pid in (*children, program.pid):
        raw = Raw(connect(home, pid))
        assert raw.welcome["pid"] == pid
        assert raw.run("import os; os.getpid()")["data"]["text/plain"] == str(pid)
        raw.close()
    other = Raw(connect(home, program.pid))
    other.run("__main__.done = True")
    assert before.reply(number, "result", "error")["data"]["text/plain"] == "'done'"
    # Nobody else holds the connections: the end of the parent is their end.
    program.kill()
    assert before.ended() and other.ended()
    assert Raw(connect(home, children[0])).run("1")["type"] == "result"
    for pid in children:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("patch", ["", GEVENT])
def test_what_a_session_holds_is_not_freed_in_a_child(run: Run, home: Path, patch: str) -> None:
    program = run(
        f"""
        {patch}
        import os, sys
        {INSTALL.splitlines()[0]}
        from mmdebug import native
        assert mmdebug.manhole.install(service="web")
        waitpid = native.original("os", "waitpid")  # gevent's can miss a child that ends at once
        print("up", flush=True)
        sys.stdin.readline()
        for _ in range(3):
            pid = os.fork()
            if not pid:
                os._exit(0)
            waitpid(pid, 0)
        print("forked", flush=True)
        sys.stdin.readline()
        """
    )
    program.line()
    raw, text = Raw(connect(home, program.pid)), home / "text"
    raw.run(f"file = open({str(text)!r}, 'w'); file.write('line\\n')")
    program.say()
    assert program.line() == "forked"
    raw.run("file.close()")
    assert text.read_text() == "line\n"


def test_who_is_there_when_the_program_sets_its_own_rules_has_to_come_in_anew(run: Run, home: Path) -> None:
    program = run(
        """
        import sys
        import mmdebug.manhole
        assert mmdebug.manhole.from_environment()
        print("up", flush=True)
        sys.stdin.readline()
        assert mmdebug.manhole.install(authorize=lambda access: False)
        print("set", flush=True)
        sys.stdin.readline()
        """,
        env={"MMDEBUG_MANHOLE": "1"},
    )
    program.line()
    before = Raw(connect(home, program.pid))
    assert before.run("1")["type"] == "result"
    program.say()
    assert program.line() == "set"
    message, _ = before.receive()
    assert message["kind"] == "closing" and "its own rules" in message["message"]
    assert before.ended()


def test_a_child_that_becomes_another_program_leaves_no_socket(run: Run, home: Path) -> None:
    program = run(
        f"""
        {INSTALL.splitlines()[0]}
        import os, subprocess, sys
        assert mmdebug.manhole.install(service="web")
        for _ in range(3):
            pid = os.fork()
            if not pid:
                os.execv("/bin/true", ["true"])
            os.waitpid(pid, 0)
            subprocess.run(["true"], check=True)
        print("done", flush=True)
        sys.stdin.read()
        """
    )
    program.line()
    assert [one.pid for one in endpoint.listening(str(home))] == [program.pid]
    assert Raw(connect(home, program.pid)).run("1")["type"] == "result"
    program.finish()


def test_a_clean_end_removes_the_socket_tells_the_clients_and_the_next_start_sweeps_up_after_a_kill(
    run: Run, home: Path
) -> None:
    killed, clean = run(f"{INSTALL}\n{SLEEP}"), run(f"{INSTALL}\n{SLEEP}")
    for program in (killed, clean):
        program.line()
    raw = Raw(connect(home, clean.pid))
    assert len(endpoint.listening(str(home))) == 2
    killed.kill()
    clean.finish()
    message, _ = raw.receive()
    assert (message["kind"], message["message"]) == ("closing", "the manhole was closed")
    assert raw.ended()
    assert [one.pid for one in endpoint.listening(str(home))] == [killed.pid]
    last = run(f"{INSTALL}\n{SLEEP}")
    last.line()
    assert [one.pid for one in endpoint.listening(str(home))] == [last.pid]


# Bad luck.


@pytest.mark.parametrize("kind", ["file", "dangling symlink", "stale socket", "directory", "full directory"])
def test_what_squats_on_its_name_does_not_keep_it_from_listening(run: Run, home: Path, kind: str) -> None:
    program = run(
        f"""
        import os, socket, sys
        from mmdebug.manhole import files
        files.uuid_of = lambda path: "0123abcd" * 4
        home = f"{{os.environ['MMSTATS_PATH']}}/manhole-{{os.getuid()}}"
        os.mkdir(home, 0o700)
        name = f"{{home}}/{{os.getpid()}}-0123abcd.sock"
        kind = {kind!r}
        if kind == "file":
            open(name, "w").close()
        elif kind == "dangling symlink":
            os.symlink("/nowhere/at/all", name)
        elif kind == "stale socket":
            os.chdir(home)
            socket.socket(socket.AF_UNIX).bind(os.path.basename(name))
        else:
            os.makedirs(name + ("/x" if kind == "full directory" else ""))
        {INSTALL.splitlines()[0]}
        assert mmdebug.manhole.install(service="web")
        print("up", flush=True)
        sys.stdin.read()
        """
    )
    program.line()
    number = "-1" if kind == "full directory" else ""
    listening = [one.name for one in endpoint.listening(str(home)) if one.name.endswith(f"{number}.sock")]
    descriptor = endpoint.open_directory(endpoint.directory_for(str(home), os.getuid()), os.getuid())
    connected = endpoint.connect(descriptor, listening[-1] if number else listening[0])
    os.close(descriptor)
    opened.append(connected)
    connected.settimeout(20)
    assert Raw(connected).run("1")["type"] == "result"
    program.finish()


def test_without_descriptors_it_rests_and_is_there_again_after_that(run: Run, home: Path) -> None:
    program = run(
        f"""
        {INSTALL.splitlines()[0]}
        import os, resource, sys
        assert mmdebug.manhole.install(service="web", max_clients=500)
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        print("up", flush=True)
        sys.stdin.readline()
        """
    )
    program.line()
    several = [connect(home, program.pid) for _ in range(40)]
    # Some have come in, and the others were hung up on: there is no descriptor for them.
    raws = []
    for each in several:
        try:
            raws.append(Raw(each))
        except (EOFError, OSError):
            each.close()
    assert 5 < len(raws) < 40
    for raw in raws[1:]:
        raw.close()
    wait_for(lambda: threads_of(program.pid) <= 4)
    assert Raw(connect(home, program.pid)).run("1")["type"] == "result"
    assert raws[0].run("1")["type"] == "result"


def test_a_program_that_closes_what_it_does_not_know_gets_nothing_of_ours_into_its_files(run: Run, home: Path) -> None:
    program = run(
        f"""
        {INSTALL.splitlines()[0]}
        import os, socket, sys
        assert mmdebug.manhole.install(service="web")
        os.closerange(3, 200)
        path = os.environ["MMSTATS_PATH"]
        files = [open(f"{{path}}/own-{{number}}", "w+") for number in range(5)]
        own = socket.socket(socket.AF_INET)
        own.bind(("127.0.0.1", 0))
        own.listen()
        print(own.getsockname()[1], flush=True)
        client, _ = own.accept()  # the program's own, and nobody else takes it
        client.sendall(b"from the program")
        client.close()
        sys.stdin.readline()
        mmdebug.manhole.uninstall()
        print([os.fstat(file.fileno()).st_size for file in files], own.fileno() > 0, flush=True)
        """
    )
    port = int(program.line())
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert client.recv(100) == b"from the program"
    program.say()
    assert program.line() == "[0, 0, 0, 0, 0] True"
    program.finish()


def test_connections_by_the_hundred_leave_nothing_behind(run: Run, home: Path) -> None:
    program = run(f"{INSTALL}\n{SLEEP}")
    program.line()
    raw = Raw(connect(home, program.pid))
    raw.run("import gc; gc.collect()")
    found = endpoint_of(home, program.pid)
    descriptor = endpoint.open_directory(found.directory, os.geteuid())
    before = None
    for number in range(600):
        client = endpoint.connect(descriptor, found.name)
        client.settimeout(20)
        if number % 3 == 1:
            client.sendall(b"\0mmdebug 1\n\0\0")
        elif number % 3 == 2:
            Raw(client)
        client.close()
        if number == 100:
            wait_for(lambda: threads_of(program.pid) <= 4)
            before = descriptors_of(program.pid)
    os.close(descriptor)
    wait_for(lambda: threads_of(program.pid) <= 4)
    assert before is not None
    wait_for(lambda: descriptors_of(program.pid) <= before)
    assert raw.run("len(__import__('threading').enumerate())")["data"]["text/plain"] in ("1", "2")


def test_more_clients_than_allowed_are_told_so(run: Run, home: Path) -> None:
    program = run(f"{INSTALL.splitlines()[0]}\nassert mmdebug.manhole.install(service='web', max_clients=2)\n{SLEEP}")
    program.line()
    first, second = Raw(connect(home, program.pid)), Raw(connect(home, program.pid))
    third = Raw(connect(home, program.pid))
    assert (third.welcome["kind"], third.welcome["message"]) == ("refused", "there are 2 clients already")
    assert third.ended()
    second.close()
    wait_for(lambda: Raw(connect(home, program.pid)).welcome["type"] == "welcome")
    assert first.run("1")["type"] == "result"


@pytest.mark.usefixtures("root")
def test_a_client_of_another_user_is_refused_and_noted(run: Run, home: Path) -> None:
    program = run(f"{INSTALL}\n{SLEEP}")
    program.line()
    found = endpoint_of(home, program.pid)
    # The directory keeps others out. Even where somebody opens a way round it, its owner is asked for.
    home.chmod(0o755)
    os.link(found.path, home / "way round")
    os.chmod(home / "way round", 0o666)
    script = f"""
import os, socket
os.chdir({str(home)!r})
os.setgid(65534); os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
try:
    client.connect({os.path.relpath(found.path, home)!r})
except PermissionError:
    print("kept out", flush=True)
client.connect("way round")
client.sendall(b"1 + 1\\n")
print(client.recv(1000))
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.startswith("kept out\n") and "refused: clients of uid 0 and of root are taken, and not of 65534" in out
    refused = wait_for(lambda: [event for event in audit(home, program.pid) if event.name == "manhole.refused"])[0]
    assert refused.fields["uid"] == 65534


# Opting in.


def test_without_manhole_it_says_what_to_install(run: Run) -> None:
    out, _ = run(
        """
        import importlib.machinery, sys
        sys.modules.pop("manhole", None)
        find = importlib.machinery.PathFinder.find_spec
        importlib.machinery.PathFinder.find_spec = lambda name, *rest: None if name == "manhole" else find(name, *rest)
        import mmdebug.manhole
        try:
            mmdebug.manhole.install()
        except Exception as error:
            print(type(error).__name__, error)
        """
    ).finish()
    assert out == "ConfigurationError mmdebug.manhole needs manhole: pip install 'mmstats[manhole]'\n"


def test_what_can_not_be_is_false_and_a_warning_and_the_program_goes_on(run: Run, home: Path) -> None:
    source = """
        import os, mmdebug.manhole
        print(mmdebug.manhole.install(service="web"), mmdebug.manhole.installed(), flush=True)
        """
    out, err = run(source, env={"MMDEBUG_DISABLE": "1"}).finish()
    assert (out, err) == ("False False\n", "")
    out, err = run(source, env={"MMSTATS_DISABLE": "1"}).finish()
    assert out == "False False\n" and "mmdebug lets no clients in: there is no stat file" in err
    (home / f"manhole-{os.getuid()}").mkdir(mode=0o755)
    os.chmod(home / f"manhole-{os.getuid()}", 0o755)
    out, err = run(source).finish()
    assert out == "False False\n" and "is open to others (mode 0755, and 0700 is needed)" in err


def run_command(home: Path, *command: str, **environ: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "MMSTATS_PATH": str(home), "PYTHONPATH": str(ROOT), **environ}
    return subprocess.Popen(
        [sys.executable, "-m", "mmdebug", "run", *command],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(("option", "read_only"), [("--manhole", False), ("--manhole=read-only", True)])
def test_mmdebug_run_opts_in_and_the_program_sets_its_options_then(home: Path, option: str, read_only: bool) -> None:
    source = (
        "import os, sys, mmdebug.manhole\n"
        "print(os.getpid(), mmdebug.manhole.installed(), flush=True)\n"
        "sys.stdin.readline()\n"
        "print(mmdebug.manhole.install(service='web', namespace={'answer': 42}, timeout=5.0), flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with run_command(home, option, "--", sys.executable, "-c", source) as process:
        assert process.stdin is not None and process.stdout is not None
        pid, installed = process.stdout.readline().split()
        assert installed == "True"
        before = Raw(connect(home, int(pid)))
        assert (before.welcome["read_only"], before.welcome["limits"]["timeout"]) == (read_only, 30.0)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "True\n"
        raw = Raw(connect(home, int(pid)))
        # Nothing gets more permissive than what the operator has said.
        assert (raw.welcome["read_only"], raw.welcome["limits"]["timeout"]) == (read_only, 5.0)
        reply = raw.run("answer")
        assert reply.get("kind") == "refused" if read_only else reply["data"]["text/plain"] == "42"
        process.communicate("\n")
    assert process.returncode == 0


def test_mmdebug_run_without_the_option_opens_nothing(home: Path) -> None:
    source = "import sys; print('mmdebug.manhole' in sys.modules)"
    with run_command(home, "--", sys.executable, "-c", source) as process:
        assert process.communicate()[0] == "False\n"
    assert endpoint.listening(str(home)) == []


# Arming.


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("USR9", "there is no such signal"),
        ("RTMIN+99", "there is no such signal"),
        ("USR1+1", "there is no such signal"),
        (0, "there is no such signal"),
        (True, "there is no such signal"),
        ("KILL", "has a meaning of its own"),
        ("SEGV", "has a meaning of its own"),
        ("TERM", "has a meaning of its own"),
        ("USR1", "has a handler already"),
    ],
)
def test_a_signal_that_can_not_be_had_is_refused(wanted: Any, told: str) -> None:
    from mmdebug.manhole.arming import Arm
    from mmstats.errors import ConfigurationError

    signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with pytest.raises(ConfigurationError, match=told):
            Arm(wanted, lambda: None)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_signals_are_known_by_number_and_name() -> None:
    from mmdebug.manhole.arming import number_of

    names = [12, "USR2", "SIGUSR2", "usr2", "RTMIN+3", "SIGRTMAX-2", "RTMIN"]
    least, most = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
    assert [number_of(name) for name in names] == [12, 12, 12, 12, least + 3, most - 2, least]


@pytest.mark.parametrize("patch", ["", GEVENT])
def test_nothing_listens_before_the_signal_also_in_children_and_a_signal_that_is_lost_is_not_offered(
    run: Run, home: Path, patch: str
) -> None:
    program = run(
        f"""
        {patch}
        import os, signal, sys, time
        {INSTALL.splitlines()[0]}
        assert mmdebug.manhole.install(service="web", signal="RTMIN+3")
        print("up", flush=True)
        child = os.fork()
        if child:
            print(child, flush=True)
            while not os.path.exists(os.environ["MMSTATS_PATH"] + "/go on"):
                time.sleep(0.02)
            signal.signal(signal.SIGRTMIN + 3, signal.SIG_IGN)  # as servers do for their own purposes
            if not os.fork():
                os._exit(0)
            print("taken", flush=True)
        while True:
            time.sleep(0.02)
        """
    )
    program.line()
    child = int(program.line())
    for pid in (program.pid, child):
        assert endpoint_of(home, pid, "arm").name.endswith(".arm")
    assert {one.kind for one in endpoint.listening(str(home))} == {"arm"}
    found = endpoint_of(home, child, "arm")
    descriptor = endpoint.open_directory(found.directory, os.getuid())
    note = endpoint.read_note(descriptor, found.name)
    os.close(descriptor)
    assert note is not None and (note["pid"], note["signal"]) == (child, signal.SIGRTMIN + 3)
    os.kill(child, note["signal"])
    assert Raw(connect(home, child)).run("1")["type"] == "result"
    assert [one.pid for one in endpoint.listening(str(home)) if one.kind == "socket"] == [child]
    (home / "go on").touch()
    program.line()
    assert program.pid not in [one.pid for one in endpoint.listening(str(home))]
    os.kill(child, signal.SIGKILL)


GUNICORN = """
import mmdebug.manhole
assert mmdebug.manhole.install(service="web", {options})
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"""


@pytest.mark.parametrize("options", ["", "signal='RTMIN+3'"])
def test_workers_of_a_preloading_gunicorn_have_their_own(home: Path, tmp_path: Path, options: str) -> None:
    pytest.importorskip("gunicorn")
    pytest.importorskip("gevent")
    (tmp_path / "served.py").write_text(GUNICORN.format(options=options))
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--preload",
        "-k",
        "gevent",
        "-w",
        "2",
        "-b",
        "127.0.0.1:0",
        "served:app",
    ]
    environment = {**os.environ, "MMSTATS_PATH": str(home), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    server = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        kind = "arm" if options else "socket"
        pids = wait_for(lambda: {one.pid for one in endpoint.listening(str(home)) if one.kind == kind} - {server.pid}
                        if len(endpoint.listening(str(home))) == 3 else None)  # fmt: skip
        port = _port(server)
        for pid in pids:
            if options:
                os.kill(pid, signal.SIGRTMIN + 3)
            raw = Raw(connect(home, pid))
            wait_for(lambda raw=raw: raw.reply(raw.ask("where"))["kind"] == "gevent")  # type: ignore[misc]
            reply = raw.run("import os; os.getpid()")
            assert (reply["where"], reply["data"]["text/plain"]) == ("hub", str(pid))
            raw.close()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.makefile("rb").read().endswith(b"hello")
    finally:
        server.terminate()
        assert server.wait(30) == 0
        assert server.stderr is not None
        server.stderr.close()
    assert endpoint.listening(str(home)) == []


def _port(server: subprocess.Popen[str]) -> int:
    assert server.stderr is not None
    for line in server.stderr:
        found = re.search(r"Listening at: http://127.0.0.1:(\d+)", line)
        if found:
            return int(found[1])
    raise AssertionError("gunicorn listens nowhere")
