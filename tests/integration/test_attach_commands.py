"""The commands that ask live processes, on real ones: under threads, gevent and asyncio, here and through a command."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Program, wait_for

import mmdebug
from mmdebug.client.arm import caught
from mmdebug.commands import main
from mmdebug.errors import AttachError, ConnectionLost, RemoteError

pytest.importorskip("manhole")

BRIDGE = [sys.executable, "-m", "mmdebug"]

THREADS = """
import sys, mmdebug, mmdebug.manhole
mmdebug.install(service="threads")
jobs = [1, 2, 3]
mmdebug.event("first", n=1)
mmdebug.manhole.install(namespace={"jobs": jobs})
print("ready", flush=True)
for line in sys.stdin:
    mmdebug.event(line.strip())
"""

GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, time, gevent, mmdebug, mmdebug.manhole
mmdebug.install(service="gevent")
mmdebug.manhole.install(namespace={"jobs": [1, 2, 3]})
blocking = monkey.get_original("time", "sleep")
def block():
    print("blocked", flush=True)
    while not done:
        blocking(0.01)
done = []
print("ready", flush=True)
while gevent.get_hub().threadpool.apply(sys.stdin.readline):
    block()
    done.clear()
    print("free", flush=True)
"""

ASYNCIO = """
import asyncio, mmdebug, mmdebug.manhole
async def main():
    mmdebug.install(service="asyncio")
    mmdebug.manhole.install(namespace={"jobs": [1, 2, 3]})
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""

ARMED = """
import signal, sys, mmdebug, mmdebug.manhole
mmdebug.install(service="armed")
mmdebug.manhole.install(signal="SIGRTMIN+3")
print("ready", flush=True)
while sys.stdin.readline():
    signal.signal(signal.SIGRTMIN + 3, signal.SIG_DFL)
    print("deaf", flush=True)
"""


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Program]]]:
    """One process of each kind. The tests only ask them."""
    home = tmp_path_factory.mktemp("stats", numbered=True)
    home.chmod(0o700)
    programs = {}
    for name, source in (("threads", THREADS), ("gevent", GEVENT), ("asyncio", ASYNCIO)):
        programs[name] = Program(source, home)
    for program in programs.values():
        assert program.line() == "ready"
    yield home, programs
    for program in programs.values():
        program.kill()
        for stream in (program.process.stdin, program.process.stdout, program.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def there(living: tuple[Path, dict[str, Program]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Program]:
    """Look where those processes are."""
    monkeypatch.setenv("MMSTATS_PATH", str(living[0]))
    return living[1]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


# ps.


def test_ps_lists_who_can_be_attached_to(there: dict[str, Program], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "ps")
    rows = {line.split()[1]: line.split() for line in out.splitlines()[1:]}
    assert status == 0
    assert set(rows) == set(there)
    for name, row in rows.items():
        assert (row[0], row[2], row[4:]) == (str(there[name].pid), "alive", ["open", "on"])
    _, out, _ = said(capsys, "ps", "--json", "--service", "threads")
    (row,) = json.loads(out)["processes"]
    assert row["manhole"] == "open" and row["recorder"] is True and row["since"] > 1e9
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(row["sockets"][0])


def test_ps_lists_a_dead_one_only_if_it_is_asked_to(
    run: Callable[..., Program], capsys: pytest.CaptureFixture[str]
) -> None:
    program = run(THREADS)
    program.line()
    program.kill()
    assert said(capsys, "ps")[1].startswith("No live process")
    out = said(capsys, "ps", "--all")[1]
    assert out.splitlines()[1].split()[2:] != [] and "died" in out and "none" in out


def test_ps_shows_whose_they_are_if_not_all_are_one_s_own(
    there: dict[str, Program], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "USER" not in said(capsys, "ps")[1]
    monkeypatch.setattr("mmdebug.commands.ps.owner", lambda candidate: 4_000_000)
    lines = said(capsys, "ps")[1].splitlines()
    assert lines[0].endswith("USER") and all(line.endswith("4000000") for line in lines[1:])


def test_ps_of_a_service_that_nobody_is_names_it(there: dict[str, Program], capsys: pytest.CaptureFixture[str]) -> None:
    assert "of the service 'nobody'" in said(capsys, "ps", "--service", "nobody")[1]


def test_what_can_not_work_is_said_before_anything_is_asked(
    there: dict[str, Program], capsys: pytest.CaptureFixture[str]
) -> None:
    for code in ("import os", "x = 1", ""):
        status, _, err = said(capsys, "eval", "threads", code)
        assert status == 1 and "`mmdebug exec` runs statements" in err
    status, _, err = said(capsys, "attach", "--json", "threads")
    assert status == 1 and "mmdebug eval --json" in err


def test_what_connects_is_not_imported_by_the_other_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import mmdebug.commands as c, sys; c.parser(); print(*sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    known = set(done.stdout.split())
    assert not {name for name in known if name.startswith(("mmdebug.client", "mmdebug.terminal", "mmdebug.manhole"))}
    assert not known & {"mmdebug.processes", "mmdebug.endpoint", "asyncio"}


# eval and exec.


@pytest.mark.parametrize("kind", ["threads", "gevent", "asyncio"])
def test_eval_prints_the_value(there: dict[str, Program], capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert said(capsys, "eval", kind, "jobs") == (0, "[1, 2, 3]\n", "")
    _, out, _ = said(capsys, "eval", "--json", str(there[kind].pid), "{'n': len(jobs)}")
    told = json.loads(out)
    assert (told["ok"], told["value"], told["type"]) == (True, {"n": 3}, "dict")
    assert told["where"] == {"threads": "native", "gevent": "hub", "asyncio": "loop"}[kind]


@pytest.mark.parametrize("kind", ["threads", "gevent", "asyncio"])
def test_what_is_printed_there_comes_out_here_on_its_own_stream(
    there: dict[str, Program], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    code = "import sys; print('out \\x1b[31m'); print('err', file=sys.stderr)"
    assert said(capsys, "exec", kind, code) == (0, "out \n", "err\n")


def test_a_failure_there_is_a_traceback_on_stderr_and_an_exit_code_here(
    there: dict[str, Program], capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = said(capsys, "eval", "threads", "1 / 0")
    assert (status, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):") and err.endswith(
        "ZeroDivisionError: division by zero\n"
    )
    status, out, err = said(capsys, "eval", "--json", "threads", "1 / 0")
    told = json.loads(out)
    assert status == 1 and not told["ok"]
    assert (told["error"]["kind"], told["error"]["name"]) == ("exception", "ZeroDivisionError")


def test_a_file_or_the_standard_input_runs_there(
    there: dict[str, Program],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = tmp_path / "script.py"
    script.write_bytes("# coding: latin-1\nfor job in jobs:\n    print(job, 'ä')\n".encode("latin-1"))
    assert said(capsys, "exec", "threads", "-f", str(script)) == (0, "1 ä\n2 ä\n3 ä\n", "")
    monkeypatch.setattr("sys.stdin", io.StringIO("print(sum(jobs))"))
    assert said(capsys, "exec", "threads", "-f", "-") == (0, "6\n", "")
    assert said(capsys, "exec", "threads")[0] == 1
    assert "more than the 262,144 characters" in said(capsys, "exec", "threads", "-f", "/dev/zero")[2]


def test_options_may_stand_anywhere(there: dict[str, Program], capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["exec", "threads", "--native", "print(1)"], ["exec", "threads", "--timeout", "9", "print(1)"]):
        assert said(capsys, *words) == (0, "1\n", "")
    assert said(capsys, "exec", "--native", "threads", "print(1)", "--timeout", "9") == (0, "1\n", "")
    with pytest.raises(SystemExit):
        main(["exec", "--help"])
    assert "TARGET [CODE]" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("closed", "words", "out"),
    [
        (">&-", "eval threads jobs", ""),
        ("<&-", "eval threads jobs", "[1, 2, 3]\n"),
        ("<&-", "exec threads -f -", ""),
        ("<&-", "attach threads", ""),
        ("<&- 2>&-", "exec threads print(1)", "1\n"),
    ],
)
def test_a_standard_stream_that_is_closed_is_one_that_leads_nowhere(
    there: dict[str, Program], closed: str, words: str, out: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *BRIDGE, *words.split()], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, out, "")


def test_notes_are_none_of_the_json_if_stderr_is_closed(there: dict[str, Program]) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *BRIDGE, "eval", "--json", "nobody", "1"],
        stdout=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], told["error"]["kind"]) == (1, False, "attach")
    assert "nobody" in told["error"]["message"]


def test_a_time_limit_ends_a_loop(there: dict[str, Program], capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = said(capsys, "exec", "--timeout", "0.2", "--native", "gevent", "while True: pass")
    assert status == 1
    assert "limit of 0.2 s" in err


def test_a_blocked_hub_is_told_of_with_its_stacks_first(
    there: dict[str, Program], capsys: pytest.CaptureFixture[str]
) -> None:
    program = there["gevent"]
    program.say()
    assert program.line() == "blocked"
    try:
        status, out, err = said(capsys, "eval", "gevent", "jobs")
    finally:
        said(capsys, "exec", "--native", "gevent", "__main__.done.append(1)")
    assert program.line() == "free"
    assert (status, out) == (0, "[1, 2, 3]\n")
    assert 0 < err.find(" block\n") < err.find("0.5 s"), err


def test_ctrl_c_stops_the_command_there_and_is_our_exit_code(there: dict[str, Program]) -> None:
    code = "print('begun', flush=True)\nwhile True: pass"
    command = subprocess.Popen(
        [*BRIDGE, "exec", "threads", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "begun\n"
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=20)
    assert command.returncode == 130, err
    assert "Interrupted" in err
    with mmdebug.connect("threads") as found:
        assert found.eval("len(jobs)") == 3


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_second_ctrl_c_says_that_the_code_may_go_on(
    there: dict[str, Program], tmp_path: Path, options: list[str]
) -> None:
    begun = tmp_path / "begun"
    command = subprocess.Popen(
        [*BRIDGE, "exec", "threads", *options, f"open({str(begun)!r}, 'w').close()\nwhile True: pass"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(begun.exists)
    os.kill(there["threads"].pid, signal.SIGSTOP)  # it will not answer before we let it
    try:
        command.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(1)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=20)
    finally:
        os.kill(there["threads"].pid, signal.SIGCONT)
    assert command.returncode == 130, err
    assert "it may go on there" in err
    if options:
        told = json.loads(out)
        assert (told["ok"], told["error"]["kind"]) == (False, "interrupted")


def test_ctrl_c_ends_a_script_in_a_pipe_as_it_ends_a_command(there: dict[str, Program], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    command = subprocess.Popen(
        [*BRIDGE, "attach", "threads", "--native"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert command.stdin is not None
    command.stdin.write(f"open({str(begun)!r}, 'w').close(); exec('while True: pass')\nprint('not run')\n")
    command.stdin.flush()
    wait_for(begun.exists)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=20)
    assert (command.returncode, out) == (130, ""), err


def test_ctrl_c_stops_a_flood_as_well(there: dict[str, Program]) -> None:
    command = subprocess.Popen(
        [*BRIDGE, "exec", "--timeout", "0", "threads", "while True: print('x' * 50)"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert command.stdout is not None
    assert command.stdout.readline().strip() == "x" * 50
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=20)
    assert command.returncode == 130, err


def test_what_only_our_own_programs_run_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert "attach" in out and "bridge" not in out


def test_attach_works_line_by_line_in_a_pipe(there: dict[str, Program]) -> None:
    done = subprocess.run(
        [*BRIDGE, "attach", "threads"], input="n = len(jobs)\nn + 1\n", capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr


# Through a command.


def test_all_of_it_works_through_a_command(there: dict[str, Program], capsys: pytest.CaptureFixture[str]) -> None:
    via = ["eval", "--via", "env", "--remote", shlex.join(BRIDGE), "threads", "jobs"]
    status, out, err = said(capsys, *via)
    # On a busy machine the other end may take its time, which is said.
    assert (status, out) == (0, "[1, 2, 3]\n") and err in ("", "mmdebug: waiting for an answer of threads by env ...\n")
    with mmdebug.connect("threads", via=["env"], remote=BRIDGE) as found:
        assert found.pid == there["threads"].pid and found.alive
        assert found.stats.process.service == "threads"
        assert [event.name for event in found.events if event.kind == "event"][:1] == ["first"]
        assert found.activities == () and found.stacks().total["thread"] >= 1
        assert found.postmortem().process.pid == found.pid
        followed = found.events(follow=True)
        while next(followed).name != "first":
            pass
        there["threads"].say("later")
        while next(followed).name != "later":
            pass
        followed.close()
        assert found.exec("print(len(jobs))").stdout == "3\n"


def test_a_process_asked_from_a_script_is_the_same_object_as_a_recorded_one(there: dict[str, Program]) -> None:
    with mmdebug.process("asyncio") as found:
        assert found.eval("jobs") == [1, 2, 3]
        assert found.exec("import asyncio\nawait asyncio.sleep(0)\n'slept'").value == "slept"
        assert isinstance(found.eval("object()"), mmdebug.processes.RemoteValue)
        assert found.stacks().total["task"] >= 1
        with pytest.raises(RemoteError, match="no_such_name"):
            found.eval("no_such_name")
        assert found.pid == there["asyncio"].pid and "alive" in repr(found)


# Deaths.


def test_a_death_in_the_midst_of_a_command_is_told_with_what_it_left(
    run: Callable[..., Program], capsys: pytest.CaptureFixture[str]
) -> None:
    program = run(THREADS)
    program.line()
    status, _, err = said(capsys, "exec", str(program.pid), "import os; os.kill(os.getpid(), 9)")
    program.process.wait()
    assert status == 1
    assert f"threads {program.pid} has died" in err and "mmdebug postmortem" in err
    status, _, err = said(capsys, "eval", str(program.pid), "1")
    assert status == 1 and f"threads {program.pid} is dead" in err


def test_with_json_a_death_and_a_dead_target_are_told_as_json_as_well(
    run: Callable[..., Program], capsys: pytest.CaptureFixture[str]
) -> None:
    program = run(THREADS)
    program.line()
    status, out, err = said(capsys, "exec", "--json", str(program.pid), "import os; os.kill(os.getpid(), 9)")
    program.process.wait()
    told = json.loads(out)
    assert (status, told["ok"], told["error"]["kind"]) == (1, False, "lost")
    assert "has died" in told["error"]["message"] and "mmdebug postmortem" in err
    status, out, err = said(capsys, "eval", "--json", str(program.pid), "1")
    told = json.loads(out)
    assert (status, told["ok"], told["error"]["kind"]) == (1, False, "attach")
    assert "is dead" in told["error"]["message"] and "is dead" in err


def test_a_lost_connection_has_the_post_mortem(run: Callable[..., Program]) -> None:
    program = run(THREADS)
    program.line()
    found = mmdebug.connect(program.pid)
    program.kill()
    with pytest.raises(ConnectionLost, match="has died") as lost:
        found.eval("jobs")
    assert lost.value.postmortem.process.pid == program.pid
    with pytest.raises(AttachError, match="is dead"):
        found.eval("jobs")
    assert found.events, "what it left can still be read"


def test_a_stopped_process_is_said_to_be_stopped(run: Callable[..., Program]) -> None:
    program = run(THREADS)
    program.line()
    os.kill(program.pid, signal.SIGSTOP)
    with pytest.raises(AttachError, match="it is stopped, as by SIGSTOP"):
        mmdebug.connect(program.pid, timeout=0.2)


# Arming.


def test_arm_has_a_process_listen_and_only_once(
    run: Callable[..., Program], capsys: pytest.CaptureFixture[str]
) -> None:
    program = run(ARMED)
    program.line()
    status, out, _ = said(capsys, "ps")
    assert out.splitlines()[1].split()[4] == "armed"
    assert f"mmdebug arm {program.pid}" in said(capsys, "eval", "armed", "1")[2]
    status, out, err = said(capsys, "arm", "armed")
    assert (status, err) == (0, "")
    assert out == f"armed {program.pid} listens since SIGRTMIN+3: mmdebug attach {program.pid}\n"
    assert said(capsys, "eval", "armed", "1 + 1") == (0, "2\n", "")
    _, out, _ = said(capsys, "arm", "--json", "armed")
    assert json.loads(out)["signal"] is None


def test_a_signal_that_is_not_caught_any_more_is_never_sent(
    run: Callable[..., Program], capsys: pytest.CaptureFixture[str]
) -> None:
    program = run(ARMED)
    program.line()
    number = signal.SIGRTMIN + 3
    assert caught(program.pid, number)
    program.say()
    assert program.line() == "deaf"
    wait_for(lambda: not caught(program.pid, number))
    status, _, err = said(capsys, "arm", "armed")
    assert status == 1 and "does not catch SIGRTMIN+3 any more" in err
    program.say()
    assert program.line() == "deaf", "it lives"


def test_a_note_of_another_process_is_not_followed(run: Callable[..., Program], home: Path) -> None:
    program = run(ARMED)
    program.line()
    (note,) = home.glob("manhole-*/*.arm")
    told: dict[str, Any] = json.loads(note.read_text())
    for change in ({"pid": os.getpid()}, {"start_time": told["start_time"] + 1}, {"signal": signal.SIGKILL}):
        note.write_text(json.dumps({**told, **change}))
        assert main(["arm", "armed"]) == 1
    assert program.process.poll() is None


def test_arming_who_has_no_manhole_says_how_to_opt_in(
    run: Callable[..., Program], capsys: pytest.CaptureFixture[str]
) -> None:
    program = run("import mmdebug\nmmdebug.install(service='none')\nprint('ready')\ninput()")
    program.line()
    status, _, err = said(capsys, "arm", "none")
    assert status == 1 and "mmdebug run --manhole" in err
