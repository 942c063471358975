"""How a child ended is written into its file by whoever waited for it, and read back; nothing else is touched."""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import ROOT

import mmstats
from mmdebug import children
from mmdebug.exits import decode_exit
from mmdebug.records import Exit, SignalSent
from mmstats import layout

PROGRAM = """
import os, signal, sys
import mmstats

class Stats(mmstats.MmStats):
    requests = mmstats.CounterField(labelnames=("path",))

stats = Stats()
stats.requests.labels("/").inc()
print("ready", flush=True)
exec(sys.argv[1])
"""
WAIT = "sys.stdin.read()"


@pytest.fixture
def start(home: Path) -> Iterator[Callable[[str], int]]:
    """Start a program that has a file and then runs some code; returns its pid, and nobody has waited for it."""
    programs: list[subprocess.Popen[str]] = []

    def begin(code: str) -> int:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        programs.append(program)
        assert program.stdout is not None and program.stdout.readline() == "ready\n"
        return program.pid

    yield begin
    for program in programs:
        program.kill()
        program.wait()
        for stream in (program.stdin, program.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def watched() -> Iterator[None]:
    children.watch()
    yield
    children.unwatch()


def _file(home: Path, pid: int) -> Path:
    (path,) = home.glob(f"*-{pid}-*.mmstats")
    return path


def _exit(home: Path, pid: int) -> Exit | None:
    return children.read_exit(mmstats.read(_file(home, pid)))


def _die(pid: int, number: int = signal.SIGKILL) -> int:
    os.kill(pid, number)
    return os.waitpid(pid, 0)[1]


# What is written, and into what.


def test_what_a_parent_knows_is_read_back_as_it_was_written(home, start):
    pid = start(WAIT)
    status = _die(pid)
    now = time.time_ns()
    ended = Exit(status, now, 77, "web", (SignalSent(now, 15), SignalSent(now + 1, 9)), 3, 4, 1 << 20)
    assert children.record_exit(pid, ended, children.files_of(pid))
    snapshot = mmstats.read(_file(home, pid))
    assert children.read_exit(snapshot) == ended
    assert snapshot.process.exit_status == status == 9
    assert snapshot.problems == ()
    assert snapshot["requests"]["/"].value == 1


def test_only_the_last_signals_are_kept_and_none_from_before_the_file(home, start):
    pid = start(WAIT)
    _die(pid)
    now = time.time_ns()
    signals = (SignalSent(5, 1), *[SignalSent(now + i, 15) for i in range(20)])
    assert children.record_exit(pid, Exit(9, now, signals=signals), children.files_of(pid))
    found = _exit(home, pid)
    assert found is not None and found.signals == signals[-8:]


def test_an_end_is_recorded_once(home, start):
    pid = start(WAIT)
    _die(pid)
    assert children.record_exit(pid, Exit(9, 5), children.files_of(pid))
    before = _file(home, pid).read_bytes()
    assert not children.record_exit(pid, Exit(11, 6), children.files_of(pid))
    assert _file(home, pid).read_bytes() == before


def test_nothing_is_written_while_the_writer_lives(home, start):
    pid = start(WAIT)
    before = _file(home, pid).read_bytes()
    assert not children.record_exit(pid, Exit(9, 5), children.files_of(pid))
    assert not children.mark_reported(str(_file(home, pid)))
    assert _file(home, pid).read_bytes() == before


def _patched(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("at", "data"),
    [(72, b"\1\0\0\0"), (76, b"\0\0\0\0"), (88, b"x" * 16), (104, b"x" * 8), (0, b"y"), (80, b"\1" + bytes(7))],
    ids=["another pid", "known already", "another boot", "another namespace", "no stat file", "older than its parent"],
)
def test_a_file_that_may_be_anothers_is_left_alone(home, start, at, data):
    pid = start(WAIT)
    _die(pid)
    _patched(_file(home, pid), at, data)
    before = _file(home, pid).read_bytes()
    assert not children.record_exit(pid, Exit(9, 5), children.files_of(pid))
    assert _file(home, pid).read_bytes() == before


def test_a_file_of_another_start_of_the_same_pid_is_left_alone(home, start):
    pid = start(WAIT)
    _die(pid)
    assert not children.record_exit(pid, Exit(9, 5), children.files_of(pid), start_ticks=1)
    assert _exit(home, pid) is None


def test_a_link_is_not_followed_and_a_fifo_stops_nobody(home, start, tmp_path):
    pid = start(WAIT)
    _die(pid)
    path = _file(home, pid)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert not children.record_exit(pid, Exit(9, 5), children.files_of(pid))
    path.unlink()
    os.link(elsewhere, path)
    assert not children.record_exit(pid, Exit(9, 5), children.files_of(pid))
    path.unlink()
    os.mkfifo(path)
    assert not children.record_exit(pid, Exit(9, 5), children.files_of(pid))
    assert mmstats.read(elsewhere).process.exit_status is None


def test_where_definitions_have_no_room_left_the_status_alone_is_written(home, start):
    pid = start(WAIT)
    _die(pid)
    path = _file(home, pid)
    header = layout.decode_header(path.read_bytes()[:128])
    # A family of no meaning to readers, whose cell stands right behind.
    record = layout.RECORD.pack(16, 99, 0, header.committed + 24)
    _patched(path, header.committed, record)
    _patched(path, layout.COMMITTED_AT, (header.committed + 16).to_bytes(8, "little"))
    assert children.record_exit(pid, Exit(9, 5, 77), children.files_of(pid))
    assert _exit(home, pid) == Exit(9, 0)
    assert layout.decode_header(path.read_bytes()[:128]).committed == header.committed + 16


def test_behind_damaged_definitions_nothing_is_added(home, start):
    pid = start(WAIT)
    _die(pid)
    path = _file(home, pid)
    first = layout.decode_header(path.read_bytes()[:128]).first_definition
    _patched(path, first, b"\xff\xff\xff\xff")
    before = path.read_bytes()
    assert not children.mark_reported(str(path))
    assert path.read_bytes() == before


def test_a_file_that_was_cut_short_does_not_grow(home, start):
    pid = start(WAIT)
    _die(pid)
    path = _file(home, pid)
    committed = layout.decode_header(path.read_bytes()[:128]).committed
    os.truncate(path, committed + 8)
    assert not children.mark_reported(str(path))
    assert path.stat().st_size == committed + 8


def test_another_users_file_is_left_alone(home, start, root):
    pid = start(WAIT)
    _die(pid)
    path = _file(home, pid)
    path.chmod(0o666)
    home.chmod(0o777)
    for parent in home.parents:
        if parent != Path("/"):
            os.chmod(parent, os.stat(parent).st_mode | 0o011)
    child = os.fork()
    if not child:
        os.setuid(65534)
        os._exit(children.mark_reported(str(path)))
    assert os.waitpid(child, 0)[1] == 0
    assert not children.was_reported(mmstats.read(path))


def test_a_death_is_marked_as_told_of(home, start):
    pid = start(WAIT)
    _die(pid)
    assert not children.was_reported(mmstats.read(_file(home, pid)))
    assert children.mark_reported(str(_file(home, pid)))
    assert children.record_exit(pid, Exit(9, 5), children.files_of(pid))
    snapshot = mmstats.read(_file(home, pid))
    assert children.was_reported(snapshot) and children.read_exit(snapshot) == Exit(9, 5)


def test_many_who_add_at_once_leave_a_file_that_reads(home, start):
    pid = start(WAIT)
    _die(pid)
    path = str(_file(home, pid))
    forks = []
    for _ in range(8):
        child = os.fork()
        if not child:
            for _ in range(20):
                children.mark_reported(path)
            os._exit(0)
        forks.append(child)
    for child in forks:
        os.waitpid(child, 0)
    snapshot = mmstats.read(path)
    assert snapshot.problems == () and children.was_reported(snapshot)
    assert snapshot["requests"]["/"].value == 1


@pytest.mark.parametrize(
    "texts",
    [
        ("time=1", "time", "=", "", "signal=", "signal=9", "signal=@", "signal=9@", "signal=99@1", "signal=-9@1"),
        ("time=1", "parent=x", "max_rss=" + "9" * 10000, "oom_kills_before=-1", "oom_kills_after=²", "\0=\xff"),
        ("time=1", *["signal=9@x"] * 10000),
    ],
)
def test_hostile_texts_are_left_out(texts):
    assert decode_exit(texts, 9) == Exit(9, 1)


def test_of_many_texts_few_are_taken():
    found = decode_exit(["signal=9@1"] * 10**6 + ["parent_service=" + "x" * 10**6], 9)
    assert len(found.signals) == 8 and len(found.parent_service) <= 64


# Finding files.


def test_files_are_found_by_the_pid_in_their_names(home, start):
    pid = start(WAIT)
    for name in (f"a-{pid}1-00000000.mmstats", f".b-{pid}-00000000.mmstats.tmp", f"{pid}-{pid}x-1.mmstats", "x"):
        (home / name).touch()
    assert children.files_of(pid) == [str(_file(home, pid))]


# Watching.

WAYS: dict[str, Callable[[int], object]] = {
    "wait": lambda pid: os.wait(),
    "waitpid": lambda pid: os.waitpid(pid, 0),
    "waitpid -1": lambda pid: os.waitpid(-1, 0),
    "wait3": lambda pid: os.wait3(0),
    "wait4": lambda pid: os.wait4(pid, 0),
    "waitid": lambda pid: os.waitid(os.P_PID, pid, os.WEXITED),
    "waitid all": lambda pid: os.waitid(os.P_ALL, 0, os.WEXITED),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("code", "status"), [("os._exit(3)", 3 << 8), ("os.kill(os.getpid(), 15)", 15), ("", 0)])
def test_every_way_to_wait_records_the_status(home, start, watched, way, code, status):
    pid = start(code)
    began = time.time_ns()
    result = WAYS[way](pid)
    found = _exit(home, pid)
    assert found is not None and found.status == status
    assert found.parent == os.getpid() and found.signals == ()
    assert began - 10**9 <= found.time <= time.time_ns()
    assert bool(found.max_rss) == (way in ("wait3", "wait4"))
    assert getattr(result, "si_pid", None) == pid or result[0] == pid  # type: ignore[index]


def test_a_core_dump_is_part_of_the_status_also_by_waitid(home, start, watched):
    pid = start("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()")
    found = os.waitid(os.P_PID, pid, os.WEXITED)
    ended = _exit(home, pid)
    assert ended is not None and os.WTERMSIG(ended.status) == signal.SIGABRT
    assert os.WCOREDUMP(ended.status) == (found is not None and found.si_code == os.CLD_DUMPED)


def test_who_only_looks_or_asks_too_early_records_nothing(home, start, watched):
    pid = start(WAIT)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None
    os.kill(pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert _exit(home, pid) is None
    os.waitpid(pid, 0)
    ended = _exit(home, pid)
    assert ended is not None
    assert [sent.number for sent in ended.signals] == [signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL]


def test_signals_that_were_not_sent_are_not_noted(home, start, watched):
    pid = start(WAIT)
    os.kill(pid, 0)
    with pytest.raises(OSError, match="Invalid argument"):
        os.kill(pid, 1000)
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)  # it leads no group
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    ended = _exit(home, pid)
    assert ended is not None and [sent.number for sent in ended.signals] == [signal.SIGTERM]


def test_the_wrappers_look_and_fail_as_what_they_wrap(watched):
    for name in ("wait", "waitpid", "wait3", "wait4", "waitid", "kill", "killpg"):
        ours = getattr(os, name)
        assert ours.__name__ == name and ours.__doc__ == ours.__wrapped__.__doc__
        assert inspect.signature(ours) == inspect.signature(ours.__wrapped__)
    with pytest.raises(ChildProcessError):
        os.waitpid(2**22 + 1, 0)
    for wrong in ((), (1,), ("x", 0), (1, 0, 0)):
        with pytest.raises(TypeError):
            os.waitpid(*wrong)
        with pytest.raises(TypeError):
            os.kill(*wrong)


def test_watching_twice_wraps_once_and_unwatching_restores():
    originals = {name: getattr(os, name) for name in dir(os)}
    children.watch()
    first = os.waitpid
    children.watch()
    assert os.waitpid is first
    children.unwatch()
    assert {name: getattr(os, name) for name in dir(os)} == originals
    assert subprocess.Popen._internal_poll.__defaults__ is None or all(
        value is not first for value in subprocess.Popen._internal_poll.__defaults__
    )


def test_nothing_is_wrapped_when_all_is_switched_off(monkeypatch):
    monkeypatch.setenv("MMDEBUG_DISABLE", "1")
    original = os.waitpid
    children.watch()
    assert os.waitpid is original


def test_a_child_of_subprocess_is_recorded_however_it_is_waited_for(home, watched):
    command = [sys.executable, "-c", PROGRAM, WAIT]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for wait in (lambda p: p.wait(), lambda p: p.wait(20), lambda p: p.communicate(), _poll):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as program:
            assert program.stdout is not None
            program.stdout.readline()
            program.terminate()
            wait(program)
        ended = _exit(home, program.pid)
        assert ended is not None and ended.status == signal.SIGTERM
        assert [sent.number for sent in ended.signals] == [signal.SIGTERM]


def _poll(program: subprocess.Popen[bytes]) -> None:
    while program.poll() is None:
        os.sched_yield()


def test_many_threads_may_wait_at_once(home, start, watched):
    pids = [start(WAIT) for _ in range(8)]
    threads = [threading.Thread(target=os.waitpid, args=(pid, 0)) for pid in pids]
    for thread in threads:
        thread.start()
    for number, pid in enumerate(pids, 1):
        os.kill(pid, signal.SIGRTMIN + number)
    for thread in threads:
        thread.join()
    assert [_exit(home, pid).status for pid in pids] == [signal.SIGRTMIN + n for n in range(1, 9)]  # type: ignore[union-attr]


def test_a_failure_to_record_is_no_failure_to_wait(home, start, watched, monkeypatch):
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(children.Ledger, "ended", broken)
    monkeypatch.setattr(children.Ledger, "sent", broken)
    pid = start(WAIT)
    assert _die(pid) == 9


def test_without_a_directory_waiting_goes_on(home, start, watched):
    pid = start(WAIT)
    shutil.rmtree(home)
    assert _die(pid) == 9


# OOM kills.


class _Group:
    path, oom_kills = "/group", 5


def test_of_children_that_were_killed_together_each_shows_that_the_count_rose(monkeypatch):
    group = _Group()
    monkeypatch.setattr(children, "memory_cgroup", lambda: group)
    ledger = children.Ledger()
    group.oom_kills = 7
    assert ledger.count_kills()[:2] == (5, 7)
    assert ledger.count_kills()[:2] == (5, 7)


def test_an_oom_kill_of_yesterday_is_not_of_today(monkeypatch):
    group, now = _Group(), [10**18]
    monkeypatch.setattr(children, "memory_cgroup", lambda: group)
    monkeypatch.setattr(children.time, "time_ns", lambda: now[0])
    ledger = children.Ledger()
    group.oom_kills = 6
    assert ledger.count_kills()[:2] == (5, 6)
    now[0] += 86400 * 10**9
    assert ledger.count_kills()[:2] == (6, 6)


def test_counts_of_another_cgroup_are_not_compared(monkeypatch):
    group = _Group()
    monkeypatch.setattr(children, "memory_cgroup", lambda: group)
    ledger = children.Ledger()
    group.path, group.oom_kills = "/other", 9
    assert ledger.count_kills()[:2] == (None, 9)
    monkeypatch.setattr(children, "memory_cgroup", lambda: None)
    assert ledger.count_kills()[:2] == (None, None)


def test_what_is_remembered_of_strangers_has_a_bound():
    ledger = children.Ledger()
    for pid in range(2, 5000):
        for _ in range(20):
            ledger.sent(pid, 15)
    assert len(ledger._signals) <= children.CHILDREN
    assert all(len(sent) <= 8 for sent in ledger._signals.values())
