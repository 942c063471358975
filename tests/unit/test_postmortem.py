"""What `mmdebug` says of a file, and what it does not."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Program

import mmdebug
import mmstats
from mmdebug.postmortem import ending_of

VICTIM = """
import sys, mmstats
class S(mmstats.MmStats):
    jobs = mmstats.CounterField(help="Jobs done")
stats = S(service="worker")
stats.jobs.inc(3)
print("ready")
sys.stdin.read()
"""


@pytest.fixture
def killed(run: Callable[..., Program], home: Path) -> Path:
    program = run(VICTIM)
    program.line()
    program.kill()
    return next(home.glob("worker-*"))


def with_status(path: Path, status: int) -> Path:
    """The same file as a parent leaves it that waited and wrote down how the process ended."""
    data = bytearray(path.read_bytes())
    data[76:80] = struct.pack("<i", status)
    with path.open("r+b") as file:
        file.write(data)
    return path


def test_a_killed_process_died_and_left_its_stats(killed: Path) -> None:
    found = mmdebug.load(killed)
    assert found.ending.state == "died"
    assert found.stats["jobs"].value == 3
    assert found.process.service == "worker"
    assert found.process.alive is False
    assert found.problems == ()
    assert any("never marked as closed" in item for item in found.ending.evidence)


def test_a_process_that_ended_by_itself_closed_its_file(run: Callable[..., Program], home: Path) -> None:
    program = run(VICTIM)
    program.line()
    program.finish()
    found = mmdebug.load(next(home.glob("worker-*")))
    assert found.ending.state == "closed"
    assert found.stats.closed_at is not None
    assert mmdebug.deaths(home) == []


def test_a_live_process_is_not_called_dead(run: Callable[..., Program], home: Path) -> None:
    program = run(VICTIM)
    program.line()
    found = mmdebug.load(next(home.glob("worker-*")))
    assert found.ending.state == "alive"
    assert found.process.alive is True


def test_a_copy_of_a_live_process_file_is_unknown(run: Callable[..., Program], home: Path, tmp_path: Path) -> None:
    program = run(VICTIM)
    program.line()
    copy = tmp_path / "copy.mmstats"
    copy.write_bytes(next(home.glob("worker-*")).read_bytes())
    assert mmdebug.load(copy).ending.state == "unknown"


@pytest.mark.parametrize(
    ("status", "words"), [(9, "killed by SIGKILL"), (3 << 8, "exited with 3"), (0, "exited with 0")]
)
def test_a_wait_status_in_the_file_is_put_into_words(killed: Path, status: int, words: str) -> None:
    found = mmdebug.load(with_status(killed, status))
    assert any(words in item for item in found.ending.evidence)
    assert found.process.exit_status == status


def test_deaths_come_newest_first_and_by_service(run: Callable[..., Program], home: Path) -> None:
    pids = []
    for _ in range(2):
        program = run(VICTIM)
        program.line()
        program.kill()
        pids.append(program.pid)
    assert [found.process.pid for found in mmdebug.deaths(home)] == pids[::-1]
    assert mmdebug.deaths(home, service="nobody") == []


def test_a_postmortem_is_frozen_and_goes_into_json(killed: Path) -> None:
    found = mmdebug.load(killed)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.path = "elsewhere"  # type: ignore[misc]
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["ending"]["state"] == "died"
    assert document["values"]["jobs"]["value"] == 3


def test_what_is_no_stat_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x89MMS")
    with pytest.raises(mmstats.FormatError):
        mmdebug.load(tmp_path / "x")
    with pytest.raises(mmstats.ReadError):
        mmdebug.load(tmp_path / "nothing")


def test_a_file_of_version_1_has_no_ending_to_tell(tmp_path: Path) -> None:
    name = b"sys.pid"
    (tmp_path / "old").write_bytes(
        b"\x01" + struct.pack("=H", len(name)) + name + struct.pack("=H", 1) + b"I\xff" + struct.pack("=I", 4242)
    )
    snapshot = mmstats.read(tmp_path / "old")
    assert ending_of(snapshot).state == "unknown"
    assert snapshot.process.pid == 4242
