"""``mmdebug attach`` driven as a person does it: through a terminal, in a live process."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from support import ROOT, Program, wait_for

VICTIM = """
import gevent, os, sys, time
import mmdebug, mmdebug.manhole

jobs = ["a", "b", "c"]

def describe(job):
    \"\"\"What a job is.\"\"\"
    return f"job {job}"

def block(seconds):
    time.sleep(seconds)  # not gevent's: the hub stands still

def block_until(path):
    while not os.path.exists(path):
        time.sleep(0.01)

mmdebug.install(service="web")
mmdebug.manhole.install(namespace={"jobs": jobs, "describe": describe, "block": block, "block_until": block_until})
print("ready", flush=True)
gevent.get_hub().threadpool.spawn(sys.stdin.read).get()
"""

QUIET = """
import sys
import mmdebug, mmdebug.manhole
mmdebug.install(service="quiet")
mmdebug.manhole.install(read_only=%s)
print("ready", flush=True)
sys.stdin.read()
"""

CTRL_C, CTRL_D, UP, TAB = "\x03", "\x04", "\x1b[A", "\t"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("terminal") / "stats"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(scope="module")
def web(place: Path) -> Iterator[Program]:
    """A gevent program that all tests of this module attach to."""
    file = place.parent / "web.py"
    file.write_text(VICTIM)
    program = Program(f"import runpy; runpy.run_path({str(file)!r}, run_name='__main__')", place)
    try:
        assert program.line() == "ready"
        yield program
    finally:
        end(program)


def end(program: Program) -> None:
    program.process.kill()
    program.process.communicate()


class Terminal:
    """A terminal in which ``mmdebug attach`` runs."""

    def __init__(self, target: str, place: Path, state: Path, *options: str, **environ: str) -> None:
        self.draws = "--plain" not in options and environ.get("TERM") != "dumb"
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "mmdebug", "attach", "--path", str(place), target, *options],
            encoding="utf-8", timeout=20, dimensions=(30, 100),
            env={
                **os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(state), "TERM": "xterm", "LANG": "C.UTF-8",
                "PROMPT_TOOLKIT_NO_CPR": "1", "NO_COLOR": "", **environ,
            },
        )  # fmt: skip

    def prompt(self, number: int) -> str:
        """Wait for the prompt of the command of this number; returns what came before it."""
        return self.expect(f"[{number}]: ")

    def expect(self, text: str) -> str:
        """Wait for a text; returns what came before it, without what moves the cursor."""
        self.child.expect_exact(text)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "", str(self.child.before))

    def send(self, text: str) -> None:
        self.child.send(text)

    def ask(self, text: str, number: int) -> str:
        """Send a command and wait for the next prompt, which has this number; returns what came between."""
        self.send(text + "\r")
        return self.after(number)

    def clear(self, number: int) -> None:
        """Press Ctrl-C at a prompt and wait for the next one."""
        self.send(CTRL_C)
        self.after(number)

    def after(self, number: int) -> str:
        """Wait for the next prompt; the one that is there is drawn once more before it is done."""
        if self.draws:
            self.expect("\x1b[?2004l")
        return self.prompt(number)

    def end(self, status: int = 0) -> str:
        """Wait until it has ended by itself; returns what it still wrote."""
        self.child.expect(pexpect.EOF)
        said = str(self.child.before)
        self.child.close()
        assert self.child.exitstatus == status, said
        return said


Attach = Callable[..., Terminal]


@pytest.fixture
def attach(place: Path, tmp_path: Path) -> Iterator[Attach]:
    """``attach(*options, target=..., **environ)`` starts one, without colours; all are ended after the test."""
    started = []

    def start(*options: str, target: str = "web", colour: str = "never", **environ: str) -> Terminal:
        terminal = Terminal(target, place, tmp_path / "state", "--color", colour, *options, **environ)
        started.append(terminal)
        return terminal

    yield start
    for terminal in started:
        terminal.child.close(force=True)


@pytest.fixture
def other(place: Path) -> Iterator[Callable[[bool], Program]]:
    """Programs that a test may kill."""
    started = []

    def start(read_only: bool) -> Program:
        program = Program(QUIET % read_only, place)
        started.append(program)
        assert program.line() == "ready"
        return program

    yield start
    for program in started:
        end(program)


def test_a_person_looks_around_and_leaves_and_the_process_goes_on(web: Program, attach: Attach) -> None:
    terminal = attach()
    banner = terminal.prompt(1)
    assert f"web, pid {web.pid}" in banner
    assert "gevent" in banner
    assert "%help" in banner
    assert "4611" in terminal.ask("4610 + 1", 2)
    assert "ZeroDivisionError" in terminal.ask("1/0", 3)
    assert "What a job is." in terminal.ask("describe?", 3)
    assert "return f" in terminal.ask("describe??", 3)
    assert "MainThread" in terminal.ask("%stacks", 3)
    assert "manhole" in terminal.ask("%events", 3)
    assert "%native" in terminal.ask("%help", 3)
    assert "it answered" in terminal.ask("%where", 3)
    terminal.send(CTRL_D)
    assert f"web {web.pid} goes on" in terminal.end()
    assert web.process.poll() is None


def test_several_lines_are_edited_as_one_command(web: Program, attach: Attach) -> None:
    terminal = attach()
    terminal.prompt(1)
    terminal.send("for job in jobs:\r")
    terminal.expect("...: ")
    terminal.send("print(job * 3)\r")  # indented by itself
    terminal.expect("...: ")
    assert "aaa\r\nbbb\r\nccc\r\n" in terminal.ask("", 2)
    assert "'cc'" in terminal.ask("(jobs[2]\r * 2)", 3)
    terminal.send("exit\r")
    terminal.end()


def test_tab_completes_from_the_process_and_never_holds_up_typing(web: Program, attach: Attach) -> None:
    terminal = attach()
    terminal.prompt(1)
    terminal.send("describ" + TAB)
    terminal.expect("e")
    assert "job 7" in terminal.ask("(7)", 2)
    terminal.send("jobs.a" + TAB)
    terminal.expect("ppend")
    terminal.clear(2)
    os.kill(web.pid, signal.SIGSTOP)
    try:
        terminal.send("jo" + TAB + "#typed")
        terminal.expect("typed")
    finally:
        os.kill(web.pid, signal.SIGCONT)
    terminal.clear(2)
    terminal.send("%sta" + TAB)
    terminal.expect("%stats")
    terminal.clear(2)
    assert "'b'" in terminal.ask("jobs[1]", 3)


def test_history_lasts_over_sessions_and_keeps_no_secrets(web: Program, attach: Attach, tmp_path: Path) -> None:
    first = attach()
    first.prompt(1)
    first.ask("x = 'first ' + 'session'; x", 2)
    first.ask("password = 'hunter2'", 3)
    first.send(CTRL_D)
    first.end()
    second = attach()
    second.prompt(1)
    second.send(UP)
    second.expect("first")
    assert "first session" in second.ask("", 2)
    second.send(CTRL_D)
    second.end()
    path = tmp_path / "state" / "mmdebug" / "history"
    assert "hunter2" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_ctrl_c_clears_the_line_and_stops_what_runs(web: Program, attach: Attach) -> None:
    terminal = attach()
    terminal.prompt(1)
    terminal.send("jobs.clear()" + CTRL_C)
    terminal.prompt(1)
    terminal.send("while True:\r    print('it computes')\r\r")
    terminal.expect("computes")
    terminal.send(CTRL_C)
    assert "Stopped" in terminal.prompt(2)
    terminal.send("import gevent; print('it ' + 'waits'); gevent.sleep(1000)\r")
    terminal.expect("it waits")
    terminal.send(CTRL_C)
    assert "Stopped" in terminal.prompt(3)
    assert "['a', 'b', 'c']" in terminal.ask("jobs", 4)


def test_a_second_ctrl_c_stops_waiting(web: Program, attach: Attach) -> None:
    terminal = attach("--native")
    terminal.prompt(1)
    terminal.send("print('it ' + 'runs'); block_until('/nowhere')\r")
    terminal.expect("it runs")
    os.kill(web.pid, signal.SIGSTOP)  # it will not answer before we let it
    try:
        given_up = False
        for _ in range(200):
            terminal.send(CTRL_C)  # two at once may arrive as one
            given_up = terminal.child.expect_exact(["Not waited for any longer", pexpect.TIMEOUT], 0.05) == 0
            if given_up:
                break
        assert given_up
    finally:
        os.kill(web.pid, signal.SIGCONT)
    terminal.prompt(2)
    terminal.send("%stacks\r")  # Ctrl-C that came late may have drawn the prompt once more
    terminal.expect("MainThread")
    terminal.prompt(2)
    terminal.send(CTRL_D)
    terminal.end()


def test_what_can_not_be_stopped_is_said_and_the_session_goes_on(web: Program, attach: Attach) -> None:
    terminal = attach("--native")
    terminal.prompt(1)
    terminal.send("print('it ' + 'sleeps'); block(3)\r")
    terminal.expect("it sleeps")
    terminal.send(CTRL_C)
    told = terminal.prompt(2)
    assert "could not be stopped" in told
    assert "block" in told
    assert "'a'" in terminal.ask("jobs[0]", 3)


def test_a_blocked_hub_is_answered_from_a_native_thread_with_the_stacks_first(
    web: Program, attach: Attach, tmp_path: Path
) -> None:
    terminal = attach()
    terminal.prompt(1)
    terminal.ask(f"import gevent; g = gevent.spawn_later(0.05, block_until, {str(tmp_path / 'go')!r})", 2)
    assert "not answered" in terminal.ask("%where", 2)
    told = terminal.ask("'an' + 'swer'", 3)
    assert told.index("block_until") < told.index("subprocess does not") < told.index("'answer'")
    (tmp_path / "go").touch()
    assert "ne" in terminal.ask("g.get(timeout=20) or 'none'", 4)


def test_a_terminal_that_changes_its_size_is_drawn_anew(web: Program, attach: Attach) -> None:
    terminal = attach()
    terminal.prompt(1)
    terminal.send("sum(\r[40_000,\r")
    terminal.expect("...: ")
    terminal.expect("...: ")
    terminal.child.setwinsize(10, 24)
    terminal.expect("[1]: ")  # drawn again
    terminal.send("2_345]")
    terminal.child.setwinsize(40, 120)
    terminal.expect("[1]: ")
    assert "42345" in terminal.ask(")", 2)


def test_a_long_result_is_paged(web: Program, attach: Attach) -> None:
    terminal = attach(PAGER="tr 0-9 A-J")
    terminal.prompt(1)
    told = terminal.ask("list(range(100_000))", 2)
    assert "of 100,000: %more shows the next" in told
    more = terminal.ask("%more", 2)
    assert "of 100,000" in more
    terminal.ask("1000 * 2 + 345", 3)
    assert "CDEF" in terminal.ask("%less", 3)


def test_events_are_followed_until_ctrl_c(web: Program, attach: Attach) -> None:
    terminal = attach()
    terminal.prompt(1)
    terminal.ask("import mmdebug; mmdebug.event('before.' + 'this')", 2)
    terminal.send("%events -f\r")
    terminal.expect("before.this")
    terminal.send(CTRL_C)
    terminal.prompt(2)
    assert "4" in terminal.ask("2 + 2", 3)


def test_colours_are_used_unless_they_are_not_wanted(web: Program, attach: Attach) -> None:
    terminal = attach(colour="auto")
    terminal.child.expect(r"\x1b\[0;[0-9;]*32[0-9;]*mweb")
    terminal.prompt(1)
    assert "\x1b[3" in terminal.ask("1/0", 2)
    for quiet in (attach(colour="auto", NO_COLOR="1"), attach()):
        quiet.prompt(1)
        told = quiet.ask("1/0", 2)
        assert "ZeroDivisionError" in told
        assert "\x1b[3" not in told


def test_a_dumb_terminal_is_asked_line_by_line_without_escapes(web: Program, attach: Attach) -> None:
    for terminal in (attach(TERM="dumb"), attach("--plain")):
        told = terminal.prompt(1)
        terminal.send("for job in jobs:\r")
        told += terminal.expect("...: ")
        terminal.send("    print(job * 3)\r")
        told += terminal.expect("...: ") + terminal.ask("", 2)
        assert "ccc" in told
        assert "\x1b[3" not in told
        terminal.send("block(1000)" + CTRL_C)
        terminal.prompt(2)
        terminal.send(CTRL_D)
        assert "goes on" in terminal.end()


def test_a_read_only_process_takes_questions_only_and_its_death_ends_the_prompt(
    attach: Attach, other: Callable[[bool], Program]
) -> None:
    program = other(True)
    terminal = attach(target=str(program.pid))
    assert "Read-only" in terminal.prompt(1)
    assert "runs no code" in terminal.ask("1 + 1", 1)
    assert "MainThread" in terminal.ask("%stacks", 1)
    program.kill()  # and nothing is typed
    assert "has died" in terminal.end(1)


def test_a_process_that_dies_in_a_command_is_told_with_what_it_left(
    attach: Attach, other: Callable[[bool], Program]
) -> None:
    program = other(False)
    terminal = attach(target=str(program.pid))
    terminal.prompt(1)
    terminal.send("import os, mmdebug; mmdebug.event('last.words'); os.kill(os.getpid(), 9)\r")
    told = terminal.end(1)
    assert "has died" in told
    assert f"mmdebug postmortem {program.pid}" in told or "mmdebug postmortem /" in told
    wait_for(lambda: program.process.poll() is not None)


@pytest.mark.parametrize("options", [(), ("--plain",)])
def test_what_is_printed_after_its_command_is_shown_at_the_prompt(
    web: Program, attach: Attach, place: Path, options: tuple[str, ...]
) -> None:
    terminal = attach(*options)
    terminal.prompt(1)
    terminal.ask("import gevent.event; describe.go = gevent.event.Event()", 2)
    terminal.ask("describe.late = gevent.spawn(lambda: print('LA' + 'TE', describe.go.wait()))", 3)
    assert pipe(place, "describe.go.set(); describe.late.join()").returncode == 0
    if options:
        terminal.send("\r")  # it waits for that, and for nothing else
    terminal.expect("LATE True")
    terminal.prompt(3)


def pipe(place: Path, text: str, *options: str, blocked: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked.split()!r}));" if blocked else "import sys;"
    code += "from mmdebug.commands import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "attach", "--path", str(place), "web", *options],
        input=text, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_pipe_gets_results_and_nothing_else(web: Program, place: Path) -> None:
    done = pipe(
        place, "len(jobs)\nfor job in jobs:\n    x = job\n\n    print(x, end='')\nx\n", blocked="prompt_toolkit"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\nabc\n'c'\n", "")


def test_a_pipe_gets_what_was_printed_after_its_command(web: Program, place: Path) -> None:
    done = pipe(
        place, "import gevent; g = gevent.spawn_later(0.1, print, 'LATE')\ngevent.sleep(0.5); print('second')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "LATE\nsecond\n", "")


def test_a_pipe_whose_last_command_failed_is_a_failure(web: Program, place: Path) -> None:
    done = pipe(place, "1/0\nlen(jobs)\n")
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert "ZeroDivisionError" in done.stderr
    done = pipe(place, "len(jobs)\n1/0")
    assert (done.returncode, done.stdout) == (1, "3\n")
