"""The recorder across forks: each process has files of its own, and knows nothing of its parent's work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Program, wait_for

import mmdebug

FORKING = """
import os, sys, time, warnings
{patch}
import mmdebug
mmdebug.install(service="web", interval=0.1)
mmdebug.event("of the parent")
with mmdebug.activity("parent's work"):
    pid = os.fork()
    if pid == 0:
        if {record}:
            mmdebug.event("of the child")
            activity = mmdebug.activity("child's work")
            activity.__enter__()
        print(os.getpid(), flush=True)
        while True:
            time.sleep(0.05)
    sys.stdin.read()
"""

GEVENT = "from gevent import monkey; monkey.patch_all()"


def processes(home: Path) -> dict[int, mmdebug.Process]:
    found = [mmdebug.Process(str(path)) for path in home.glob("web-*.mmstats")]
    return {process.pid: process for process in found}


@pytest.mark.parametrize("patch", ["", GEVENT])
def test_a_child_records_into_files_of_its_own(run: Callable[..., Program], home: Path, patch: str) -> None:
    program = run(FORKING.format(patch=patch, record=True))
    child = int(program.line())
    found = processes(home)
    assert set(found) == {program.pid, child}
    assert [event.name for event in found[program.pid].events] == ["of the parent"]
    assert [event.name for event in found[child].events] == ["of the child"]
    assert [activity.name for activity in found[program.pid].activities] == ["parent's work"]
    assert [activity.name for activity in found[child].activities] == ["child's work"]
    # The sampler's thread was not forked, and yet both are sampled.
    for pid in (program.pid, child):
        wait_for(lambda pid=pid: found[pid].box.samples and found[pid].stats.heartbeat)  # type: ignore[misc, union-attr]
        before = found[pid].stats.heartbeat
        wait_for(lambda pid=pid, before=before: found[pid].stats.heartbeat != before)  # type: ignore[misc]
    os.kill(child, 9)
    wait_for(lambda: found[child].postmortem().verdict.state == "died")
    assert found[program.pid].alive is True
    program.finish()


def test_a_child_that_records_nothing_is_found_all_the_same(run: Callable[..., Program], home: Path) -> None:
    program = run(FORKING.format(patch="", record=False))
    child = int(program.line())
    wait_for(lambda: child in processes(home))
    assert processes(home)[child].events == ()
    os.kill(child, 9)
    program.finish()


def test_an_activity_that_began_before_the_fork_ends_in_the_child_without_harm(
    run: Callable[..., Program], home: Path
) -> None:
    out, _ = run(
        """
        import os, mmdebug
        mmdebug.install(service="web")
        with mmdebug.activity("shared"):
            pid = os.fork()
        with mmdebug.activity("later"):
            if pid:
                os.waitpid(pid, 0)
            path = mmdebug.process(os.getpid())
            print(os.getpid() if pid else "child", [activity.name for activity in path.activities], flush=True)
        """
    ).finish()
    assert sorted(line.split(" ", 1)[1] for line in out.splitlines()) == ["['later']", "['later']"]


def test_a_child_that_becomes_another_program_leaves_no_file(run: Callable[..., Program], home: Path) -> None:
    run(
        """
        import os, sys, subprocess, mmdebug
        mmdebug.install(service="web")
        for _ in range(3):
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            pid = os.fork()
            if not pid:
                os.execv(sys.executable, [sys.executable, "-c", "pass"])
            os.waitpid(pid, 0)
        """
    ).finish()
    assert len(list(home.glob("*.mmstats"))) == 1


def test_a_fork_makes_no_warning_of_threads(run: Callable[..., Program], home: Path) -> None:
    """Python 3.12 and later warn of a fork while there are several threads; the sampler is not to be one of them."""
    _, err = run(
        """
        import os, mmdebug
        mmdebug.install(service="web", interval=0.05)
        for _ in range(20):
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
        """,
        env={"PYTHONWARNINGS": "error"},
    ).finish()
    assert err == ""


def test_multiprocessing_children_close_their_files(run: Callable[..., Program], home: Path) -> None:
    run(
        """
        import multiprocessing, time, mmdebug
        def work():
            mmdebug.event("in the child")
        if __name__ == "__main__":
            mmdebug.install(service="web")
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start()
            process.join()
        """
    ).finish()
    found = [process.postmortem() for process in processes(home).values()]
    assert len(found) == 2
    assert {each.verdict.state for each in found} == {"closed"}


def test_the_files_go_together(run: Callable[..., Program], home: Path) -> None:
    """Six have died: the one that comes next leaves five, each with its box."""
    for _ in range(7):
        program = run("import sys, mmdebug; mmdebug.install(service='web'); print('ready'); sys.stdin.read()")
        program.line()
        program.kill()
    for suffix in (".mmstats", ".box", ".fault"):
        assert len(list(home.glob(f"web-*{suffix}"))) == 6, suffix  # five and the one that came last
    stems = {path.stem for path in home.iterdir()}
    assert len(stems) == 6


def test_a_box_is_closed_to_others_whatever_the_stat_file_is(run: Callable[..., Program], home: Path) -> None:
    program = run(
        "import os; os.umask(0)\nimport sys, mmdebug; mmdebug.install(service='web'); print('ready'); sys.stdin.read()",
        env={"MMSTATS_MODE": "0644"},
    )
    program.line()
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in home.iterdir()}
    assert modes == {".mmstats": 0o644, ".box": 0o600, ".fault": 0o600}


def test_a_service_named_later_renames_all_of_a_process_files(run: Callable[..., Program], home: Path) -> None:
    program = run(
        """
        import sys, mmdebug, mmstats
        mmdebug.install()
        class S(mmstats.MmStats):
            n = mmstats.CounterField()
        S(service="late")
        mmdebug.event("x")
        print("ready")
        sys.stdin.read()
        """
    )
    program.line()
    assert {path.name.split("-")[0] for path in home.iterdir()} == {"late"}
    assert [event.name for event in mmdebug.process("late", home).events] == ["x"]


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: a tmpfs of one's own is Linux'")
def test_without_room_for_a_box_the_program_goes_on(run: Callable[..., Program], mount: Callable[[str], Path]) -> None:
    small = mount("128k")
    program = run(
        """
        import logging, mmdebug
        print(mmdebug.install(service="web"))
        for number in range(1000):
            mmdebug.event("x", number=number)
        with mmdebug.activity("a"):
            try:
                1 / 0
            except Exception:
                logging.exception("failed")
                mmdebug.capture_exception()
        print("went on")
        """,
        env={"MMSTATS_PATH": str(small)},
    )
    out, err = program.finish()
    assert out.splitlines()[-1] == "went on"
    assert "no box could be made" in err
