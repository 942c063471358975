"""What `mmdebug` says of a process' files, and what it does not."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Program, wait_for

import mmdebug
import mmstats
from mmstats.process import Life

VICTIM = """
import sys, mmstats
class S(mmstats.MmStats):
    jobs = mmstats.CounterField(help="Jobs done")
stats = S(service="worker")
stats.jobs.inc(3)
print("ready")
sys.stdin.read()
"""

RECORDED = """
import sys, mmdebug
assert mmdebug.install(service="worker")
mmdebug.event("started", step=1)
with mmdebug.activity("job 7", queue="low"):
    print("ready")
    sys.stdin.read()
"""


def victim(run: Callable[..., Program], source: str = VICTIM) -> Program:
    program = run(source)
    program.line()
    return program


@pytest.fixture
def killed(run: Callable[..., Program], home: Path) -> Path:
    victim(run).kill()
    return next(home.glob("worker-*.mmstats"))


def with_status(path: Path, status: int) -> Path:
    """The same file as a parent leaves it that waited and wrote down how the process ended."""
    data = bytearray(path.read_bytes())
    data[76:80] = struct.pack("<i", status)
    with path.open("r+b") as file:
        file.write(data)
    return path


def test_a_killed_process_died_and_left_its_stats(killed: Path) -> None:
    found = mmdebug.load(killed)
    assert found.verdict.state == "died"
    assert found.stats["jobs"].value == 3
    assert found.process.service == "worker"
    assert found.process.alive is False
    assert found.problems == ()
    assert found.box is None
    assert (found.activities, found.events, found.exceptions, found.samples) == ((), (), (), ())


def test_a_killed_process_with_a_recorder_left_what_it_was_doing(run: Callable[..., Program], home: Path) -> None:
    victim(run, RECORDED).kill()
    found = mmdebug.load(next(home.glob("worker-*.mmstats")))
    (activity,) = found.activities
    assert (activity.name, dict(activity.fields)) == ("job 7", {"queue": "low"})
    assert [(event.name, dict(event.fields)) for event in found.events] == [("started", {"step": 1})]
    assert "job 7" in found.verdict.summary
    assert found.problems == ()


@pytest.mark.parametrize("suffix", [".mmstats", ".box", ".fault"])
def test_any_file_of_a_process_leads_to_all_of_them(run: Callable[..., Program], home: Path, suffix: str) -> None:
    victim(run, RECORDED).kill()
    assert mmdebug.load(next(home.glob(f"worker-*{suffix}"))).activities[0].name == "job 7"


def test_a_process_that_ended_by_itself_closed_its_file(run: Callable[..., Program], home: Path) -> None:
    victim(run).finish()
    found = mmdebug.load(next(home.glob("worker-*")))
    assert found.verdict.state == "closed"
    assert found.stats.closed_at is not None
    assert mmdebug.deaths(home) == []


def test_a_clean_end_leaves_no_empty_fault_file(run: Callable[..., Program], home: Path) -> None:
    victim(run, RECORDED).finish()
    assert list(home.glob("*.fault")) == []
    assert mmdebug.load(next(home.glob("worker-*.mmstats"))).activities == ()


def test_a_live_process_is_not_called_dead(run: Callable[..., Program], home: Path) -> None:
    victim(run)
    found = mmdebug.load(next(home.glob("worker-*")))
    assert found.verdict.state == "alive"
    assert found.process.alive is True


def test_a_process_is_one_object_alive_and_dead(run: Callable[..., Program], home: Path) -> None:
    program = victim(run, RECORDED)
    found = mmdebug.process("worker", home)
    assert found.pid == program.pid
    assert found.alive is True
    assert [activity.name for activity in found.activities] == ["job 7"]
    program.kill()
    wait_for(lambda: found.alive is False)
    assert [event.name for event in found.events] == ["started"]
    assert found.postmortem().verdict.state == "died"
    assert "worker" in repr(found)


def test_of_several_processes_of_a_service_the_newest_live_one_is_meant(
    run: Callable[..., Program], home: Path
) -> None:
    first, second = victim(run), victim(run)
    assert mmdebug.process("worker", home).pid == second.pid
    second.kill()
    assert mmdebug.process("worker", home).pid == first.pid
    with pytest.raises(mmstats.TargetError):
        mmdebug.process("nobody", home)


def test_a_copy_of_a_live_process_file_is_unknown(run: Callable[..., Program], home: Path, tmp_path: Path) -> None:
    victim(run)
    copy = tmp_path / "copy.mmstats"
    copy.write_bytes(next(home.glob("worker-*")).read_bytes())
    assert mmdebug.load(copy).verdict.state == "unknown"
    assert mmdebug.load(copy, life=Life(False, "it was dead when it was saved")).verdict.state == "died"


@pytest.mark.parametrize(("status", "cause"), [(9, "killed"), (3 << 8, "os_exit"), (0, "os_exit"), (15, "terminated")])
def test_a_wait_status_in_the_file_is_certain(killed: Path, status: int, cause: str) -> None:
    found = mmdebug.load(with_status(killed, status))
    assert found.exit is not None
    assert found.exit.status == status
    assert found.verdict.causes[0].name == cause


def test_deaths_come_newest_first_and_by_service(run: Callable[..., Program], home: Path) -> None:
    pids = []
    for _ in range(2):
        program = victim(run)
        program.kill()
        pids.append(program.pid)
    found = mmdebug.deaths(home)
    assert [death.process.pid for death in found] == pids[::-1]
    assert [other.process.pid for other in found[0].siblings] == pids[:1]
    assert mmdebug.deaths(home, service="nobody") == []


def test_an_error_that_nobody_caught_is_a_death_even_though_the_file_was_closed(
    run: Callable[..., Program], home: Path
) -> None:
    run("import mmdebug; mmdebug.install(service='worker'); raise LookupError('gone')").finish(1)
    (found,) = mmdebug.deaths(home)
    assert found.verdict.state == "closed"
    assert found.verdict.causes[0].name == "uncaught_exception"
    assert [error.fatal for error in found.exceptions] == [True]


def test_a_postmortem_as_a_text_is_its_report(run: Callable[..., Program], home: Path) -> None:
    victim(run, RECORDED).kill()
    (found,) = mmdebug.deaths(home)
    assert "In flight at the end: 1" in str(found)
    assert "\x1b" not in str(found)


def test_a_postmortem_is_frozen_and_goes_into_json(run: Callable[..., Program], home: Path) -> None:
    victim(run, RECORDED).kill()
    (found,) = mmdebug.deaths(home)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.path = "elsewhere"  # type: ignore[misc]
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["verdict"]["state"] == "died"
    assert document["activities"][0]["name"] == "job 7"
    assert document["stats"]["values"]["runtime.rss"]["kind"] == "gauge"


def test_what_is_no_stat_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x89MMS")
    with pytest.raises(mmstats.FormatError):
        mmdebug.load(tmp_path / "x")
    with pytest.raises(mmstats.ReadError):
        mmdebug.load(tmp_path / "nothing")


def test_a_broken_box_does_not_hide_the_stats(killed: Path) -> None:
    killed.with_suffix(".box").write_bytes(b"nothing of ours")
    found = mmdebug.load(killed)
    assert found.stats["jobs"].value == 3
    assert found.box is None
    assert len(found.problems) == 1


def test_a_file_of_version_1_has_no_ending_to_tell(tmp_path: Path) -> None:
    name = b"sys.pid"
    (tmp_path / "old").write_bytes(
        b"\x01" + struct.pack("=H", len(name)) + name + struct.pack("=H", 1) + b"I\xff" + struct.pack("=I", 4242)
    )
    found = mmdebug.load(tmp_path / "old")
    assert found.verdict.state == "unknown"
    assert found.process.pid == 4242
    assert mmdebug.load(tmp_path / "old", life=Life(False, "it was dead when it was saved")).verdict.state == "died"
