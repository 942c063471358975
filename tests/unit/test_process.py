"""A process is known by more than its pid, and nothing that may live is called dead."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Program, wait_for

from mmstats import process, retention

Run = Callable[..., Program]

linux = pytest.mark.skipif(sys.platform != "linux", reason="open-file-description locks and /proc are Linux's")
needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0, reason="NOT TESTED: namespaces and mounts need root on Linux"
)
WAIT = "import sys; print('ready', flush=True); sys.stdin.readline()"


# The verdict.

INPUTS: dict[str, tuple[bool | None, ...]] = {
    "closed": (False, True),
    "locked": (False, True),
    "held": (False, True, None),
    "original": (False, True),
    "same_boot": (False, True, None),
    "same_namespace": (False, True),
    "running": (False, True, None),
}
#: Every combination that can come about: a pid is only of our namespace, and looked for, in our own boot.
CASES = [
    case
    for values in itertools.product(*INPUTS.values())
    for case in [dict(zip(INPUTS, values, strict=True))]
    if (case["same_boot"] or not case["same_namespace"]) and (case["same_namespace"] or case["running"] is None)
]
VERDICTS = {"alive": True, "dead": False, "unknown": None}
WORDS: dict[str, dict[bool | None, str]] = {
    "boot": {True: "same", False: "other", None: "?"},
    "namespace": {True: "ours", False: "other"},
    "process": {True: "runs", False: "gone", None: "?"},
    "lock": {True: "held", False: "free", None: "?"},
    "LOCKED": {True: "yes", False: "no"},
    "inode": {True: "original", False: "copy"},
    "closed": {True: "yes", False: "no"},
}
ARGUMENTS = {
    "boot": "same_boot", "namespace": "same_namespace", "process": "running", "lock": "held", "LOCKED": "locked",
    "inode": "original", "closed": "closed",
}  # fmt: skip


def documented() -> list[dict[str, str]]:
    """The rows of the decision table in the format's documentation."""
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8").partition("### Decision")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def row_of(case: dict[str, bool | None]) -> dict[str, str]:
    """The first row of the documented table that fits."""
    for row in documented():
        if all(
            row[head] == "*" or words[case[ARGUMENTS[head]]] in row[head].split("/") for head, words in WORDS.items()
        ):
            return row
    raise AssertionError(f"no row for {case}")


def judge(case: dict[str, Any]) -> bool | None:
    return process.judge(**case).alive


def test_the_verdict_is_that_of_the_documented_table_in_every_case() -> None:
    assert len(CASES) == 144
    assert set(documented()[0]) == {"row", "the writer is", *WORDS}
    wrong = [case for case in CASES if judge(case) is not VERDICTS[row_of(case)["the writer is"]]]
    assert not wrong


def test_every_row_of_the_documented_table_decides_something() -> None:
    assert {row_of(case)["row"] for case in CASES} == {row["row"] for row in documented()}


def test_nothing_that_may_live_is_called_dead() -> None:
    for case in CASES:
        if judge(case) is not False:
            continue
        # No process of its pid and start time runs here.
        assert case["running"] is not True
        # Someone holds the lock: only the death of the very process says that it is a child.
        assert not case["held"] or case["running"] is False
        if case["running"] is not False:
            # Whether the lock of a copy is free says nothing of the writer.
            assert case["original"]
            # It is known to be of this boot or of another one.
            assert case["same_boot"] is not None
            # In this boot there was a lock, and it is known to be free.
            assert not case["same_boot"] or (case["locked"] and case["held"] is False)


def test_nothing_that_must_be_dead_is_called_alive() -> None:
    for case in CASES:
        if judge(case) is True:
            assert case["held"] or case["running"]
            assert case["running"] is not False


def test_a_clean_end_alone_kills_nobody() -> None:
    for case in CASES:
        if judge({**case, "closed": True}) is False:
            assert judge({**case, "closed": False}) is False


def test_every_verdict_says_why() -> None:
    reasons: dict[str, set[bool | None]] = {}
    for case in CASES:
        life = process.judge(**case)  # type: ignore[arg-type]
        assert re.fullmatch(r"[a-z][a-z' -]+[a-z]", life.reason)
        reasons.setdefault(life.reason, set()).add(life.alive)
    assert all(len(verdicts) == 1 for verdicts in reasons.values())


# Who a process is.


@linux
def test_the_boot_has_an_id_of_16_bytes_that_stays() -> None:
    found = process.boot_id()
    assert len(found) == 16
    assert any(found)
    assert found == process.boot_id()
    assert process.pid_namespace() > 0


@linux
def test_my_own_start_is_known_and_the_same_for_others() -> None:
    me = process.myself()
    assert me == process.myself()
    assert me.pid == os.getpid()
    seen = subprocess.check_output(
        [sys.executable, "-c", f"from mmstats import process; print(process.start_ticks({me.pid}))"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
    )  # fmt: skip
    assert me.start_ticks > 0
    assert int(seen) == me.start_ticks == process.start_ticks(me.pid)


@linux
def test_a_start_lies_between_that_of_its_parent_and_now(run: Run) -> None:
    child = run(WAIT)
    child.line()
    now = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    ticks = process.start_ticks(child.pid)
    assert ticks
    assert process.myself().start_ticks <= ticks <= now
    assert process.witness(child.pid, ticks) is True


@linux
def test_a_killed_process_is_dead_while_its_parent_has_not_waited(run: Run) -> None:
    child = run(WAIT)
    child.line()
    ticks = process.start_ticks(child.pid)
    assert ticks
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: process.start_ticks(child.pid) is None, "the zombie to be told from a living process")
    os.kill(child.pid, 0)  # it is still there, as a zombie
    assert process.witness(child.pid, ticks) is False
    assert process.witness(child.pid, 0) is False
    child.process.wait()
    assert process.start_ticks(child.pid) is None
    assert process.witness(child.pid, ticks) is False


@linux
def test_a_stopped_process_lives(run: Run) -> None:
    child = run(WAIT)
    child.line()
    ticks = process.start_ticks(child.pid)
    os.kill(child.pid, signal.SIGSTOP)
    stat = Path(f"/proc/{child.pid}/stat")
    wait_for(lambda: b") T " in stat.read_bytes(), "it to stop")
    assert process.start_ticks(child.pid) == ticks
    assert process.witness(child.pid, ticks or 0) is True


@linux
def test_a_process_whose_main_thread_has_ended_lives(run: Run) -> None:
    child = run("""
        import ctypes, sys, threading
        threading.Thread(target=sys.stdin.readline).start()
        from mmstats import process
        print(process.myself().start_ticks, flush=True)
        ctypes.CDLL(None).pthread_exit(None)
    """)
    ticks = int(child.line())
    stat = Path(f"/proc/{child.pid}/stat")
    wait_for(lambda: b") Z " in stat.read_bytes(), "the end of the main thread")
    assert process.start_ticks(child.pid) == ticks
    assert process.witness(child.pid, ticks) is True
    child.kill()
    assert process.witness(child.pid, ticks) is False


@linux
@pytest.mark.parametrize("name", [b"a) Z 1 (b", b"))) X ((", b") Z 0 0 0 0 0", b"two words", b"\n\xff) (", b""])
def test_a_command_name_that_looks_like_a_zombies_fools_nobody(run: Run, name: bytes) -> None:
    child = run(f"""
        import ctypes, sys
        from mmstats import process
        before = process.myself().start_ticks
        assert ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0) == 0  # PR_SET_NAME
        assert process.myself().start_ticks == before
        print(before, flush=True)
        sys.stdin.readline()
    """)
    ticks = int(child.line())
    assert b"(" + name + b")" in Path(f"/proc/{child.pid}/stat").read_bytes()
    assert process.start_ticks(child.pid) == ticks
    assert process.witness(child.pid, ticks) is True


def test_the_pid_of_a_process_that_never_was_is_dead() -> None:
    nobody = 2**22 - 2 if not Path(f"/proc/{2**22 - 2}").exists() else 2**22 - 3  # the largest that Linux gives
    assert process.start_ticks(nobody) is None
    assert process.witness(nobody, 1) is False
    assert process.witness(nobody, 0) is False


@pytest.mark.parametrize("pid", [0, 2**31, 2**32 - 1, 2**64])
def test_a_pid_that_can_be_nobodys_is_unknown_and_not_dead(pid: int) -> None:
    assert process.start_ticks(pid) == 0
    assert process.witness(pid, 1) is None


@linux
def test_a_reused_pid_is_told_by_its_start() -> None:
    me = process.myself()
    assert process.witness(me.pid, me.start_ticks) is True
    for other in (1, me.start_ticks - 1, me.start_ticks + 1, 2**64 - 1):
        assert process.witness(me.pid, other) is False


@linux
def test_a_start_that_is_not_known_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    me = process.myself()
    assert process.witness(me.pid, 0) is None
    monkeypatch.setattr(process, "start_ticks", lambda pid: 0)
    assert process.witness(me.pid, me.start_ticks) is None


@linux
def test_out_of_descriptors_a_process_is_unknown_and_not_dead(run: Run) -> None:
    child = run("""
        import os, resource
        from mmstats import process
        me = process.myself()
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        print(process.start_ticks(me.pid), process.witness(me.pid, me.start_ticks), process.boot_id() == bytes(16))
    """)
    assert child.line() == "0 None True"


# In other namespaces and under odd mounts.


@needs_root
def test_a_pid_that_a_new_process_really_has_got_again_is_no_longer_the_old_one(run: Run) -> None:
    program = run(
        """
        import os, signal, time
        from mmstats import process
        def start():
            pid = os.fork()
            if not pid:
                signal.pause()
            return pid
        old = start()
        ticks = process.start_ticks(old)
        os.kill(old, signal.SIGKILL)
        os.waitpid(old, 0)
        print(process.witness(old, ticks))
        tick = 1 / os.sysconf("SC_CLK_TCK")
        while time.clock_gettime(time.CLOCK_BOOTTIME) < (ticks + 2) * tick:
            pass
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(old - 1))
        new = start()
        print(new == old, process.witness(old, ticks), process.witness(new, process.start_ticks(new)))
        os.kill(new, signal.SIGKILL)
        """,
        wrap=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
    )
    assert program.line() == "False"
    assert program.line() == "True False True"


@needs_root
def test_with_the_proc_of_another_namespace_no_process_is_called_dead(run: Run) -> None:
    program = run(
        """
        import os
        from mmstats import process
        me = process.myself()
        print(me.pid, me.start_ticks, process.witness(me.pid, 12345), process.witness(me.pid + 1, 12345))
        """,
        wrap=("unshare", "--pid", "--fork", "--kill-child"),  # its /proc is the one outside
    )
    assert program.line() == "1 0 None False"


@needs_root
def test_a_process_that_is_hidden_from_us_is_unknown_and_not_dead(run: Run) -> None:
    hidden = run(WAIT)
    hidden.line()
    program = run(
        f"""
        import os, subprocess
        from mmstats import process
        subprocess.check_call(["mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"])
        os.setgroups([]); os.setgid(54321); os.setuid(54321)
        assert not os.path.exists("/proc/{hidden.pid}"), "not hidden"
        print(process.start_ticks({hidden.pid}), process.witness({hidden.pid}, 12345), process.myself().start_ticks > 0)
        """,
        wrap=("unshare", "--mount"),
    )
    assert program.line() == "0 None True"


@needs_root
def test_in_a_time_namespace_nobody_is_called_dead_for_its_start(run: Run) -> None:
    """Its clock shows the start of the same process at another time."""
    shifted = ("unshare", "--time", "--boottime", "1000")
    program = run(RECORD)
    path = program.line()
    look = f"from mmstats import retention; print(retention.writer_of({path!r})[1].alive)"
    assert run(look, wrap=shifted).line() == "True"
    me = process.myself()
    witness = f"from mmstats import process; print(process.witness({me.pid}, {me.start_ticks}))"
    assert run(witness).line() == "True"
    assert run(witness, wrap=shifted).line() == "None"
    inside = run(RECORD, wrap=shifted)
    path = inside.line()
    assert retention.writer_of(path)[1].alive is True
    inside.kill()
    assert retention.writer_of(path)[1].alive is False


@needs_root
def test_without_proc_little_is_known_and_nothing_raises(run: Run) -> None:
    program = run(
        """
        import os, subprocess
        from mmstats import process
        subprocess.check_call(["mount", "-t", "tmpfs", "none", "/proc"])
        me = process.myself()
        print(me == process.Identity(os.getpid(), 0, bytes(16), 0), process.witness(me.pid, 12345))
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        print(process.witness(pid, 12345))
        """,
        wrap=("unshare", "--mount"),
    )
    assert program.line() == "True None"
    assert program.line() == "False"


RECORD = """
    import sys, mmstats
    class Stats(mmstats.MmStats):
        n = mmstats.CounterField()
    stats = Stats(service="web")
    print(stats.filename, flush=True)
    sys.stdin.readline()
"""


@needs_root
def test_a_process_in_another_container_is_judged_by_its_lock(run: Run) -> None:
    program = run(RECORD, wrap=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"))
    path = program.line()
    header, life, _ = retention.writer_of(path)
    assert header.pid == 1
    assert life == process.Life(True, "its file is locked")
    program.kill()
    wait_for(lambda: retention.writer_of(path)[1].alive is not True, "the death of the container's process")
    assert retention.writer_of(path)[1] == process.Life(False, "the lock on its file is free")


# Locks.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(bytes(16))
    return made


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    """Open for reading only, as a reader has it."""
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def holder(path: Path, then: str = "sys.stdin.readline()") -> str:
    return f"""
import os, sys
from mmstats import process
held = os.open({str(path)!r}, os.O_RDWR | os.O_CLOEXEC)
print(process.lock(held), flush=True)
{then}
"""


@linux
def test_a_lock_is_seen_through_a_descriptor_that_may_only_read(run: Run, path: Path, descriptor: int) -> None:
    assert process.lock_held(descriptor) is False
    program = run(holder(path))
    assert program.line() == "True"
    assert process.lock_held(descriptor) is True
    path.chmod(0o400)
    again = os.open(path, os.O_RDONLY)
    assert process.lock_held(again) is True
    os.close(again)


@linux
def test_a_lock_dies_with_a_process_that_was_killed(run: Run, path: Path, descriptor: int) -> None:
    program = run(holder(path))
    program.line()
    assert process.lock_held(descriptor) is True
    program.kill()
    assert process.lock_held(descriptor) is False


@linux
@pytest.mark.parametrize("end", ["os._exit(3)", "os.abort()", "os.execv('/bin/true', ['true'])", "sys.exit()"])
def test_a_lock_dies_with_its_process_however_that_ends(run: Run, path: Path, descriptor: int, end: str) -> None:
    program = run(holder(path, f"sys.stdin.readline(); import resource; resource.setrlimit(4, (0, 0)); {end}"))
    program.line()
    assert process.lock_held(descriptor) is True
    program.say()
    program.process.wait(20)
    assert process.lock_held(descriptor) is False


@linux
def test_a_lock_outlives_the_close_of_another_descriptor_of_its_file(run: Run, path: Path, descriptor: int) -> None:
    program = run(holder(path, f"""
other = os.open({str(path)!r}, os.O_RDWR)
print(process.lock_held(other), flush=True)
os.close(other)
open({str(path)!r}, "rb").close()
print(process.lock_held(os.open({str(path)!r}, os.O_RDONLY)), flush=True)
sys.stdin.readline()
"""))  # fmt: skip
    assert [program.line() for _ in range(3)] == ["True"] * 3
    assert process.lock_held(descriptor) is True


@linux
def test_asking_for_a_lock_neither_takes_nor_frees_it(run: Run, path: Path, descriptor: int) -> None:
    asker = os.open(path, os.O_RDWR)
    for _ in range(3):
        assert process.lock_held(asker) is False
    assert process.lock_held(descriptor) is False  # the asker holds nothing
    program = run(holder(path))
    program.line()
    for _ in range(3):
        assert process.lock_held(asker) is True
    os.close(asker)
    assert process.lock_held(descriptor) is True


@linux
def test_only_one_can_hold_a_lock(run: Run, path: Path) -> None:
    mine = os.open(path, os.O_RDWR)
    assert process.lock(mine)
    assert process.lock(mine)  # twice is once
    assert process.lock_held(mine) is False  # one's own lock is in nobody's way
    program = run(holder(path))
    assert program.line() == "False"
    os.close(mine)


@linux
def test_a_forked_child_that_keeps_the_locked_description_keeps_the_lock(run: Run, path: Path, descriptor: int) -> None:
    program = run(holder(path, """
child = os.fork()
if not child:
    while True:
        import signal; signal.pause()
print(child, flush=True)
sys.stdin.readline()
"""))  # fmt: skip
    program.line()
    child = int(program.line())
    try:
        program.kill()
        assert process.lock_held(descriptor) is True
    finally:
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: process.lock_held(descriptor) is False, "the death of the child")


@linux
def test_a_writer_whose_child_keeps_its_file_is_dead_all_the_same(run: Run, home: Path) -> None:
    program = run("""
        import ctypes, os, sys, mmstats
        class Stats(mmstats.MmStats):
            n = mmstats.CounterField()
        stats = Stats(service="web")
        child = ctypes.CDLL(None).fork()  # no fork hook of Python's runs
        if not child:
            while True:
                os.read(os.pipe()[0], 1)
        print(child, stats.filename, flush=True)
        sys.stdin.readline()
    """)
    child, _, file = program.line().partition(" ")
    try:
        assert retention.writer_of(file)[1] == process.Life(True, "its file is locked")
        program.kill()
        assert retention.writer_of(file)[1] == process.Life(False, "a child of it keeps its file")
    finally:
        os.kill(int(child), signal.SIGKILL)


@linux
def test_a_lock_that_cannot_be_taken_or_looked_at_is_unknown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readable = os.open(path, os.O_RDONLY)
    assert process.lock(readable) is False  # a lock for writing needs a descriptor that writes
    os.close(readable)
    assert process.lock(readable) is False
    assert process.lock_held(readable) is None
    monkeypatch.setattr(process, "_CAN_LOCK", False)
    writable = os.open(path, os.O_RDWR)
    assert process.lock(writable) is False
    assert process.lock_held(writable) is None
    os.close(writable)


@linux
def test_processes_and_locks_are_unknown_where_the_system_has_none(run: Run) -> None:
    program = run("""
        import sys
        sys.modules["fcntl"] = None
        from mmstats import process
        print(process.lock(1), process.lock_held(1))
    """)
    assert program.line() == "False None"
