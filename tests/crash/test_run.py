"""``mmdebug run`` is a parent that nobody notices until something dies, and then it tells."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, wait_for

import mmstats
from mmdebug import children
from mmdebug.cgroup import memory_cgroup
from mmdebug.commands.run import LOG_BYTES, ended_badly, log
from mmdebug.records import Exit, SignalSent
from mmdebug.runner import SITE, tree_environment

RUN = (sys.executable, "-m", "mmdebug", "run")

STATS = """
import os, signal, subprocess, sys, time
import mmstats

class Stats(mmstats.MmStats):
    requests = mmstats.CounterField()

stats = Stats()
stats.requests.inc()
"""


class Run:
    """A started ``mmdebug run``, in a session of its own."""

    def __init__(self, arguments: Sequence[str], home: Path, env: dict[str, str], wrap: Sequence[str]) -> None:
        self.home = home
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env}
        self.process = subprocess.Popen(
            [*wrap, *RUN, *arguments], env=environ, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, self.process.communicate()
        return text.rstrip("\n")

    def finish(self, code: int) -> tuple[str, str]:
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == code, (self.process.returncode, out, err)
        return out, err


@pytest.fixture
def mmrun(home: Path) -> Iterator[Callable[..., Run]]:
    """Start ``mmdebug run``: ``mmrun(source)`` for a Python program, ``mmrun(command=[...])`` for any."""
    runs: list[Run] = []

    def start(
        source: str = "", *arguments: str, command: Sequence[str] = (), options: Sequence[str] = (),
        env: dict[str, str] | None = None, wrap: Sequence[str] = (),
    ) -> Run:  # fmt: skip
        command = command or [sys.executable, "-c", STATS + textwrap.dedent(source), *arguments]
        runs.append(Run([*options, "--", *command], home, env or {}, wrap))
        return runs[-1]

    yield start
    for run in runs:
        try:
            os.killpg(run.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        run.process.communicate()


def _snapshot(home: Path, pid: int) -> mmstats.Snapshot:
    (path,) = [path for path in home.glob(f"*-{pid}-*.mmstats") if path.name[0] != "."]
    return mmstats.read(path)


def _exit(home: Path, pid: int) -> Exit:
    found = children.read_exit(_snapshot(home, pid))
    assert found is not None, f"nobody recorded how {pid} ended"
    return found


# The exit code is the command's own.


@pytest.mark.parametrize(
    ("source", "code", "status"),
    [
        ("", 0, 0),
        ("sys.exit(3)", 3, 3 << 8),
        ("os._exit(255)", 255, 255 << 8),
        ("os.kill(os.getpid(), 9)", 137, 9),
        ("os.kill(os.getpid(), 15)", 143, 15),
    ],
)
def test_the_exit_code_is_the_commands_own_and_its_file_knows_it(home, mmrun, source, code, status):
    run = mmrun(f"print(os.getpid()); {source}")
    pid = int(run.line())
    run.finish(code)
    ended = _exit(home, pid)
    assert (ended.status, ended.parent) == (status, run.process.pid)
    assert ended.max_rss > 1 << 20


@pytest.mark.parametrize("name", ["no-such-command", "/no/such/command", "{tmp}/script"])
def test_a_command_that_is_not_there_is_127_and_says_so(mmrun, tmp_path, name):
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    name = name.format(tmp=tmp_path)
    out, err = mmrun(command=[name]).finish(127)
    assert out == "" and err.count("\n") == 1 and f"{name}: not found: " in err


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_command_that_can_not_be_run_is_126_and_says_so(mmrun, tmp_path, mode):
    (tmp_path / "script").write_text("not a program\n")
    (tmp_path / "script").chmod(mode)
    for name in (str(tmp_path / "script"), str(tmp_path)):
        _, err = mmrun(command=[name]).finish(126)
        assert err.count("\n") == 1 and "can't be run: " in err


def test_without_a_command_it_says_how_it_is_used(mmrun):
    done = subprocess.run(RUN, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and "mmdebug run -- COMMAND" in done.stderr


def test_the_commands_own_options_and_dashes_are_its_own(mmrun):
    command = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "--path", "x", "--", "--service=y"]
    assert mmrun(command=command).finish(0)[0] == "['--path', 'x', '--', '--service=y']\n"


def test_a_clean_end_prints_nothing(mmrun):
    assert mmrun("print('out'); print('err', file=sys.stderr)").finish(0) == ("out\n", "err\n")


# Signals.


HANDLING = """
def handle(number, frame):
    print("got", number, flush=True)
    if number == signal.SIGTERM:
        sys.exit(7)

for number in {numbers}:
    signal.signal(number, handle)
print(os.getpid(), flush=True)
while True:
    time.sleep(1)
"""


def test_signals_are_handed_on_and_noted(home, mmrun):
    names = ("HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "TTIN", "TTOU", "ABRT", "RTMIN")
    numbers = [int(getattr(signal, f"SIG{name}")) for name in names]
    run = mmrun(HANDLING.format(numbers=[*numbers, int(signal.SIGTERM)]))
    pid = int(run.line())
    for number in numbers:
        run.process.send_signal(number)
        assert run.line() == f"got {number}"
    run.process.send_signal(signal.SIGTERM)
    assert run.line() == "got 15"
    _, err = run.finish(7)
    assert err == "", "an end that was asked for is no death"
    assert [sent.number for sent in _exit(home, pid).signals] == [*numbers, 15][-8:]


def test_a_program_that_does_not_handle_what_it_is_sent_dies_of_it_and_no_report_is_made(mmrun):
    run = mmrun("print(1); time.sleep(60)")
    run.line()
    run.process.terminate()
    assert run.finish(143)[1] == ""


def test_a_signal_before_the_program_is_there_is_not_lost(home, mmrun):
    run = mmrun("time.sleep(60)")
    proc = Path(f"/proc/{run.process.pid}")

    def held() -> bool:
        """Whether it holds signals back; while it waits for one, the kernel shows it as not held."""
        (mask,) = [line.split()[1] for line in (proc / "status").read_text().splitlines() if line.startswith("SigBlk")]
        started = (proc / f"task/{run.process.pid}/children").read_text()
        return bool(int(mask, 16) & 1 << (signal.SIGTERM - 1) or started)

    wait_for(held)
    run.process.terminate()
    run.finish(143)


def test_what_was_ignored_at_the_start_stays_ignored_and_nothing_else_changes(mmrun):
    command = ["grep", "-E", "SigBlk|SigIgn|Uid|NoNewPrivs", "/proc/self/status"]
    direct = _fields(subprocess.run(["nohup", *command], capture_output=True, text=True).stdout)
    through = _fields(mmrun(command=command, wrap=["nohup"]).finish(0)[0])
    assert int(direct["SigIgn"], 16) == 1 << (signal.SIGHUP - 1)
    # The C library's spawn ignores two signals of its own threads, which programs set up for themselves.
    through["SigIgn"] = f"{int(through['SigIgn'], 16) & ~(3 << 31):016x}"
    assert through == direct


def _fields(text: str) -> dict[str, str]:
    return dict([line.split(":\t", 1) for line in text.splitlines()])


def test_an_ignored_hangup_is_not_handed_on(mmrun):
    run = mmrun("print(1); time.sleep(0.1); print(sys.stdin.read())", wrap=["nohup"])
    run.line()
    run.process.send_signal(signal.SIGHUP)
    assert run.process.poll() is None
    run.finish(0)


@pytest.fixture
def terminal(home: Path) -> Iterator[Callable[..., tuple[int, int]]]:
    """Start ``mmdebug run`` on a terminal of its own: its pid, and the terminal's other end."""
    started: list[tuple[int, int]] = []

    def start(source: str) -> tuple[int, int]:
        pid, master = pty.fork()
        if not pid:
            # A shell without job control leads the session, so that the run can be stopped.
            os.environ.update(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
            os.execv(RUN[0], [RUN[0], "-c", SHELL, *RUN, "--", sys.executable, "-c", STATS + textwrap.dedent(source)])
        started.append((pid, master))
        return pid, master

    yield start
    for pid, master in started:
        os.close(master)
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(pid, 0)


#: What a shell does: a job in a process group of its own, in the foreground; it is told when that stops.
SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if not pid:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        print("shell: ended", os.waitstatus_to_exitcode(status), flush=True)
        sys.exit()
    os.tcsetpgrp(0, os.getpgrp())
    print("shell: stopped", os.WSTOPSIG(status), flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, pid)
    os.killpg(pid, signal.SIGCONT)
"""


def _until(master: int, text: str) -> str:
    seen = b""
    while text.encode() not in seen:
        try:
            seen += os.read(master, 4096)
        except OSError as error:
            raise AssertionError(f"no {text!r} in {seen!r}") from error
    return seen.decode()


def test_ctrl_c_reaches_the_program_once(terminal):
    _, master = terminal(
        """
        times = []
        signal.signal(signal.SIGINT, lambda *_: times.append(1))
        print("pid", os.getpid(), "ready")
        while not times:
            time.sleep(0.01)
        signal.signal(signal.SIGTERM, lambda *_: (print("times", len(times)), sys.exit(5)))
        os.kill(os.getppid(), signal.SIGTERM)  # comes by behind whatever else was handed on
        time.sleep(60)
        """
    )
    _until(master, "ready")
    os.write(master, b"\x03")
    _until(master, "times 1")
    _until(master, "shell: ended 5")


def test_ctrl_z_stops_both_and_both_go_on(terminal):
    _, master = terminal("print('pid', os.getpid(), os.getppid(), 'ready'); print('read', sys.stdin.readline())")
    _, child, parent, _ = _until(master, "ready").split()[:4]
    os.write(master, b"\x1a")
    _until(master, f"shell: stopped {int(signal.SIGTSTP)}")
    for pid in (child, parent):
        wait_for(
            lambda pid=pid: " T " in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:4], f"{pid} to stop"
        )
    os.write(master, b"fg\n")
    wait_for(
        lambda: " T " not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2][:4], "the program to go on"
    )
    os.write(master, b"typed\n")
    _until(master, "read typed")
    _until(master, "shell: ended 0")


# Orphans, pid 1, nesting.


def test_orphans_are_waited_for_and_their_ends_recorded(home, mmrun):
    run = mmrun(
        """
        middle = os.fork()
        if not middle:
            middle = os.getpid()
            if not os.fork():
                while os.getppid() == middle:
                    time.sleep(0.001)
                stats.requests.inc()
                print(os.getpid(), os.getppid())
                os.kill(os.getpid(), 11)
            os._exit(0)
        os.waitpid(middle, 0)
        sys.stdin.read()
        """
    )
    pid, parent = map(int, run.line().split())
    assert parent == run.process.pid
    wait_for(lambda: _snapshot(home, pid).process.exit_status is not None, "the orphan's status")
    assert os.WTERMSIG(_exit(home, pid).status) == signal.SIGSEGV and _exit(home, pid).parent == parent
    run.finish(0)


def test_as_pid_1_it_forwards_reaps_and_keeps_the_exit_code(home, mmrun, unshare):
    run = mmrun(
        """
        if not os.fork():
            if not os.fork():
                while os.getppid() != 1:
                    time.sleep(0.001)
                stats.requests.inc()
                print(os.getpid(), os.getppid())
                os._exit(4)
            os._exit(0)
        os.wait()
        print(os.getppid())
        time.sleep(60)
        """,
        wrap=unshare,
    )
    lines = sorted([run.line(), run.line()])
    assert lines[0] == "1" and lines[1].endswith(" 1")
    orphan = int(lines[1].split()[0])
    wait_for(lambda: _snapshot(home, orphan).process.exit_status == 4 << 8, "the orphan's status")
    (first,) = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)
    run.finish(143)


def test_a_run_in_a_run_works_and_a_death_is_told_once(home, mmrun):
    run = mmrun(
        command=[*RUN, "--", sys.executable, "-c", STATS + "print(os.getpid(), flush=True); os.kill(os.getpid(), 9)"]
    )
    pid = int(run.line())
    _, err = run.finish(137)
    assert err.count(f"pid {pid}") >= 1 and "recorded of this process" not in err
    assert _snapshot(home, pid).process.exit_status == 9
    assert "nobody was told" not in err
    assert not [path for path in home.glob("*.mmstats") if "mmdebug" in path.name], "a run records nothing of itself"


# Children of the program.


@pytest.mark.parametrize("patch", ["", "import gevent.monkey; gevent.monkey.patch_all()", "import gevent.os"])
@pytest.mark.parametrize(
    "spawn",
    [
        "pid = os.fork()\nif not pid:\n    victim()\n",
        "child = multiprocessing.get_context('fork').Process(target=victim)\nchild.start(); pid = child.pid\n",
        "child = subprocess.Popen([sys.executable, '-c', VICTIM]); pid = child.pid\n",
    ],
    ids=["fork", "multiprocessing", "subprocess"],
)
def test_the_ends_of_children_are_recorded_by_their_parents(home, mmrun, patch, spawn):
    run = mmrun(
        "import builtins\n" + patch + "\nimport multiprocessing\n"
        "VICTIM = 'import mmstats, os, signal\\nclass S(mmstats.MmStats):\\n    n = mmstats.CounterField()\\n"
        "S().n.inc(); signal.pause()'\n"
        "def victim():\n    stats.requests.inc(); signal.pause()\n"
        + spawn
        + "while not any(f'-{pid}-' in name for name in os.listdir(os.environ['MMSTATS_PATH']) if name[0] != '.'):\n"
        "    time.sleep(0.01)\n"
        "print(pid, os.getpid())\n"
        "os.kill(pid, 10)\n"
        "child.join() if hasattr(globals().get('child'), 'join') else child.wait() if 'child' in globals() else"
        " os.waitpid(pid, 0)\n"
    )
    pid, parent = map(int, run.line().split())
    run.finish(0)
    ended = _exit(home, pid)
    assert (ended.status, ended.parent) == (10, parent)
    assert [sent.number for sent in ended.signals] == [10]


GUNICORN = """
import os, time
import mmstats

class Stats(mmstats.MmStats):
    requests = mmstats.CounterField()

stats = Stats()

def app(environ, start_response):
    stats.requests.inc()
    if environ["PATH_INFO"] == "/hang":
        time.sleep(60)
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""


def _get(socket_path: Path, path: str) -> str:
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(socket_path))
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(4096):
            answer += part
    return answer.rpartition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize("worker", ["sync", "gevent"])
@pytest.mark.parametrize("by", ["run", "hooks"])
def test_gunicorns_workers_ends_are_recorded_by_its_arbiter(home, mmrun, run, tmp_path, by, worker):
    (tmp_path / "web.py").write_text(GUNICORN)
    (tmp_path / "conf.py").write_text(
        "from mmdebug.gunicorn import child_exit, worker_abort\n" if by == "hooks" else ""
    )
    socket_path = tmp_path / "socket"
    gunicorn = [
        sys.executable, "-m", "gunicorn", "--chdir", str(tmp_path), "-c", str(tmp_path / "conf.py"), "-b",
        f"unix:{socket_path}", "-t", "1", "-w", "1", "-k", worker, "web:app",
    ]  # fmt: skip
    env = {"MMSTATS_SERVICE": "web"}
    started: Any = mmrun(command=gunicorn, env=env) if by == "run" else _Plain(gunicorn, env)
    try:
        wait_for(socket_path.exists, "gunicorn")
        killed = int(wait_for(lambda: _answer(socket_path), "an answer"))
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: _snapshot(home, killed).process.exit_status == 9, "the killed worker's status")
        assert _exit(home, killed).parent_service == "web"
        hung = int(wait_for(lambda: _answer(socket_path), "an answer"))
        assert hung != killed
        if worker == "sync":
            _answer(socket_path, "/hang")
            wait_for(lambda: _snapshot(home, hung).process.exit_status is not None, "the hung worker's status")
            assert [sent.number for sent in _exit(home, hung).signals][:1] == [signal.SIGABRT]
        process = started.process
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        if started.process.poll() is None:
            os.killpg(started.process.pid, signal.SIGKILL)
            started.process.communicate()


class _Plain:
    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT), **env}, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


def _answer(socket_path: Path, path: str = "/") -> str:
    try:
        return _get(socket_path, path)
    except OSError:
        return ""


# What is told, and when.


def test_a_bad_end_is_told_of_at_the_end_and_not_again(home, mmrun):
    run = mmrun("print(os.getpid()); sys.stdout.flush(); os.kill(os.getpid(), 9)")
    pid = int(run.line())
    _, err = run.finish(137)
    assert f"pid {pid}" in err
    assert mmrun("").finish(0)[1] == ""


def test_a_death_that_nobody_was_told_of_is_told_of_at_the_next_start_and_once(home, mmrun):
    run = mmrun("print(os.getpid()); sys.stdin.read()")
    pid = int(run.line())
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    wait_for(lambda: _snapshot(home, pid).alive is False, "its end")
    assert mmrun("", options=["--no-report"]).finish(0)[1] == ""
    _, err = mmrun("").finish(0)
    assert "nobody was told of" in err and f"pid {pid}, " in err
    assert mmrun("").finish(0)[1] == ""


def test_a_death_below_the_command_is_told_of_though_the_command_ended_well(home, mmrun):
    run = mmrun(
        """
        pid = os.fork()
        if not pid:
            stats.requests.inc()
            os.kill(os.getpid(), 11)
        os.waitpid(pid, 0)
        print(pid)
        """
    )
    pid = int(run.line())
    assert f"pid {pid}" in run.finish(0)[1]


def test_a_death_below_a_run_that_lives_is_left_for_that_to_tell(home, mmrun):
    first = mmrun(
        """
        pid = os.fork()
        if not pid:
            stats.requests.inc()
            os.kill(os.getpid(), 11)
        os.waitpid(pid, 0)
        print(pid)
        sys.stdin.read()
        """
    )
    pid = int(first.line())
    assert mmrun("").finish(0)[1] == ""
    assert f"pid {pid}" in first.finish(0)[1]


def test_a_real_oom_kill_is_counted_in_the_file_of_the_dead(home, mmrun, root):
    group = memory_cgroup()
    if group is None:
        pytest.skip("NOT TESTED: no memory cgroup here")
    made = Path(group.path) / f"mmdebug-run-{os.getpid()}"
    try:
        made.mkdir()
        limit = next(made / name for name in ("memory.limit_in_bytes", "memory.max") if (made / name).exists())
        limit.write_text(str(128 << 20))
    except (OSError, StopIteration) as error:
        if made.exists():
            made.rmdir()
        pytest.skip(f"NOT TESTED: a cgroup can't be made here: {error}")
    try:
        enter = ("sh", "-c", f'echo $$ > {made}/cgroup.procs; exec "$@"', "sh")
        run = mmrun("print(os.getpid()); eaten = [os.urandom(1 << 20) for _ in range(1024)]", wrap=enter)
        pid = int(run.line())
        _, err = run.finish(137)
        ended = _exit(home, pid)
        assert (ended.status, ended.oom_kills_before, ended.oom_kills_after) == (9, 0, 1)
        assert 32 << 20 < ended.max_rss <= 128 << 20
        assert f"pid {pid}" in err
    finally:
        wait_for(lambda: not made.exists() or _removed(made), "the cgroup's end")


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False  # the kernel takes a moment to see that its last process is gone
    return True


def test_only_deaths_of_the_asked_service_are_told_of(home, mmrun, run):
    for service in ("web", "other"):
        program = run(f"import mmstats; m = mmstats.MmStats(service={service!r}); print(1); input()")
        program.line()
        program.kill()
    _, err = mmrun("", options=["--service", "web"]).finish(0)
    assert "web, pid" in err and "other, pid" not in err
    _, err = mmrun("").finish(0)
    assert "other, pid" in err and "web, pid" not in err


def test_many_deaths_are_counted_and_marked(home, mmrun, run):
    for number in range(5):
        program = run(f"import mmstats; m = mmstats.MmStats(service='s{number}'); print(1); input()")
        program.line()
        program.kill()
    _, err = mmrun("").finish(0)
    assert err.count(", pid ") == 3 and "and 2 more" in err
    assert mmrun("").finish(0)[1] == ""


def test_the_service_and_the_directory_are_those_of_the_options(mmrun, tmp_path):
    source = "print(os.environ['MMSTATS_SERVICE'], stats.filename); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    run = mmrun(source, options=["--service", "named", "--path", str(tmp_path / "there")])
    assert run.line().startswith(f"named {tmp_path}/there/named-")
    assert "named" in run.finish(137)[1]


def test_deaths_go_to_the_termination_log_which_stays_small(home, mmrun, run, tmp_path):
    path = tmp_path / "termination-log"
    path.write_text("x" * 100 + "\n")
    env = {"MMDEBUG_TERMINATION_LOG": str(path)}
    program = run("import mmstats; m = mmstats.MmStats(service='old'); print(1); input()")
    program.line()
    program.kill()
    child = mmrun("print(os.getpid()); sys.stdout.flush(); os.kill(os.getpid(), 9)", env=env)
    pid = int(child.line())
    child.finish(137)
    text = path.read_text()
    assert text.index(f"pid {pid}, ") < text.index(f"old, pid {program.pid}, ") < text.index("xxx")


def test_the_termination_log_is_cut_at_a_line_and_nothing_else_is_written_to(tmp_path, monkeypatch):
    path = tmp_path / "log"
    monkeypatch.setenv("MMDEBUG_TERMINATION_LOG", str(path))
    log(["nobody asked"])
    assert not path.exists()
    path.touch()
    for number in range(100):
        log([f"{number} " + "é" * 100])
        assert path.stat().st_size <= LOG_BYTES
    lines = path.read_text().splitlines()
    assert lines[0].startswith("99 ") and all(line.endswith("é" * 100) for line in lines)
    log(["é" * 10000])
    assert path.stat().st_size == LOG_BYTES
    path.unlink()
    os.mkfifo(path)
    log(["a FIFO"])


def test_a_hostile_file_keeps_no_command_from_running(home, mmrun):
    (home / "bad-1-00000000.mmstats").write_bytes(b"\x89MMS\r\n\x1a\n\2\0" + os.urandom(5000))
    os.mkfifo(home / "bad-2-00000000.mmstats")
    assert mmrun("print('fine')").finish(0)[0] == "fine\n"


def _sent(*numbers: int, at: int = 10**18) -> tuple[SignalSent, ...]:
    return tuple([SignalSent(at, number) for number in numbers])


@pytest.mark.parametrize(
    ("state", "ended", "asked", "bad"),
    [
        ("alive", None, None, False),
        ("unknown", None, None, False),
        ("closed", None, None, False),
        ("died", None, None, True),
        ("died", Exit(0, 10**18), None, False),
        ("closed", Exit(1 << 8, 10**18), None, True),
        ("closed", Exit(1 << 8, 10**18, signals=_sent(15)), None, False),
        ("closed", Exit(1 << 8, 10**18, signals=_sent(6)), None, True),
        ("closed", Exit(1 << 8, 10**18, signals=_sent(15, at=10**17)), None, True),
        ("closed", Exit(1 << 8, 10**18), 10**18, False),
        ("died", Exit(15, 10**18, signals=_sent(15)), None, False),
        ("died", Exit(15, 10**18), None, True),
        ("died", Exit(15, 10**18), 10**18, False),
        ("died", Exit(9, 10**18, signals=_sent(15, 9)), 10**18, True),
        ("died", Exit(11, 10**18), 10**18, True),
        ("closed", Exit(2, 10**18), None, False),
        ("died", Exit(0x7F, 10**18), None, True),
    ],
)
def test_what_is_worth_telling_of(state, ended, asked, bad):
    assert ended_badly(state, ended, asked) is bad


# Opting in.


def test_an_existing_sitecustomize_still_runs_as_itself(mmrun, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.here = (__name__, __file__); value = 5\n")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    out, _ = mmrun(
        "import sitecustomize; print(*here, sitecustomize.value, len(os.waitpid.__wrapped__.__name__))", env=env
    ).finish(0)
    assert out.split() == ["sitecustomize", str(tmp_path / "sitecustomize.py"), "5", "7"]


def test_an_existing_sitecustomize_that_fails_is_told_of_as_ever_and_the_process_is_opted_in(mmrun, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("raise ValueError('its own')\n")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    out, err = mmrun("print(os.waitpid.__wrapped__.__name__)", env=env).finish(0)
    assert out == "waitpid\n" and "ValueError: its own" in err


def test_a_python_that_has_no_mmdebug_installed_finds_this_one_and_nothing_beside_it(mmrun):
    command = [
        sys.executable,
        "-c",
        f"import sys, mmdebug; print(mmdebug.__file__, {str(ROOT)!r} in sys.path)",
    ]
    run = mmrun(command=["env", f"PYTHONPATH={SITE}", *command])
    out, err = run.finish(0)
    assert out.split() == [str(ROOT / "mmdebug" / "__init__.py"), "False"] and err == ""


def test_a_broken_installation_costs_one_line_and_not_the_program(mmrun, tmp_path):
    site = tmp_path / "mmdebug" / "_site"
    site.mkdir(parents=True)
    (site / "sitecustomize.py").write_text((Path(SITE) / "sitecustomize.py").read_text())
    (site.parent / "__init__.py").write_text("raise RuntimeError('broken')\n")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", "print('fine')"], env=environ, capture_output=True, text=True)
    assert done.stdout == "fine\n" and done.returncode == 0
    assert done.stderr == "mmdebug: nothing is recorded of this process: RuntimeError: broken\n"


@pytest.mark.parametrize("value", ["1", "yes"])
def test_switched_off_it_is_a_parent_and_nothing_else(home, mmrun, value):
    source = "print(os.getpid(), hasattr(os.waitpid, '__wrapped__'), 'mmdebug' in sys.modules); os.kill(os.getpid(), 9)"
    run = mmrun(source, env={"MMDEBUG_DISABLE": value})
    pid, wrapped, imported = run.line().split()
    assert (wrapped, imported) == ("False", "False")
    assert run.finish(137) == ("", "")
    assert _snapshot(home, int(pid)).process.exit_status is None


def test_the_environment_is_added_to_and_nested_runs_add_once():
    first = tree_environment({"PYTHONPATH": "/a:/b", "X": "1"}, "1.2.3")
    assert first == {"PYTHONPATH": f"{SITE}:/a:/b", "X": "1", "MMDEBUG_RUN": "1.2.3"}
    assert tree_environment(first, "n")["PYTHONPATH"] == first["PYTHONPATH"]
    assert tree_environment({}, "n")["PYTHONPATH"] == SITE
    assert tree_environment({"PYTHONPATH": ""}, "n")["PYTHONPATH"] == SITE
