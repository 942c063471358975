"""Programs that really run out of memory, by a limit of their own and by one of their cgroup."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from dying import PARENTS, UNTOLD, Start, causes, everything_said, first, starter
from support import wait_for


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    yield from starter(home)


def limited(kibibytes: int) -> tuple[str, ...]:
    """What goes before a command that gets so much address space."""
    return ("sh", "-c", f'ulimit -v {kibibytes}; exec "$@"', "sh")


# RLIMIT_AS


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("style", ["threads", "gevent"])
@pytest.mark.parametrize("death", ["ask_for_too_much", "exhaust"])
def test_a_memory_error_that_nobody_caught_is_want_of_memory(start: Start, death: str, style: str, parent: str) -> None:
    if style == "gevent":
        pytest.importorskip("gevent", reason="NOT TESTED: gevent is not here")
    victim = start(death, style, parent, before=limited(300_000))
    assert "MemoryError" in victim.end(1)
    found = victim.read()
    assert found.problems == ()
    assert causes(found) == {"out_of_memory": "certain"}, found.verdict
    (record,) = [one for one in found.exceptions if one.fatal]
    assert (record.type, record.how) == ("MemoryError", "main thread")
    assert "its address space was limited to 293 MiB (RLIMIT_AS)" in everything_said(found)


@pytest.mark.parametrize("parent", PARENTS)
def test_with_hardly_any_address_space_the_recorder_still_works(start: Start, parent: str) -> None:
    victim = start("wait", "threads", parent, within=limited(160_000))
    victim.await_ready()
    found = victim.kill(9)
    assert found.box is not None and found.problems == ()
    assert [one.name for one in found.activities] == ["GET /users/<id>", "db.query"] * 3 or len(found.activities) == 6
    assert [one.name for one in found.events if one.kind == "event"] == ["cache.miss"]
    assert causes(found) == (UNTOLD if parent == "alone" else {"killed": "certain"})


# A cgroup's limit


@dataclass(frozen=True)
class Cgroup:
    """A memory cgroup of ours, of 100 MiB."""

    path: Path

    @property
    def joined(self) -> tuple[str, ...]:
        """What goes before a command that is to run in it."""
        return ("sh", "-c", f'echo $$ > {self.path}/cgroup.procs; exec "$@"', "sh")

    @property
    def kills(self) -> int:
        name = "memory.oom_control" if (self.path / "memory.oom_control").exists() else "memory.events"
        lines = (self.path / name).read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    root = Path("/sys/fs/cgroup")
    v1 = (root / "memory/memory.limit_in_bytes").exists()
    path = (root / "memory" if v1 else root) / f"mmdebug-test-{os.getpid()}"
    limits = [("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")] if v1 else [("memory.max", "memory.swap.max")]
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"NOT TESTED: a memory cgroup can't be made here: {error}")
    try:
        try:
            for memory, swap in limits:
                (path / memory).write_text(str(100 << 20))
                try:
                    (path / swap).write_text(str(100 << 20) if v1 else "0")
                except OSError:
                    pass  # the kernel does not count swap
            made = Cgroup(path)
            assert made.kills == 0
        except (OSError, StopIteration) as error:
            pytest.skip(f"NOT TESTED: a memory cgroup can't be limited here: {error}")
        yield made
    finally:
        wait_for(lambda: not (path / "cgroup.procs").read_text(), "the cgroup's processes to be gone")
        path.rmdir()


def test_a_kill_for_want_of_memory_is_certain_to_a_parent_in_the_same_cgroup(start: Start, cgroup: Cgroup) -> None:
    victim = start("grow", "threads", "run", before=cgroup.joined)
    victim.end(137)
    assert cgroup.kills == 1
    found = victim.read()
    assert first(found) == ("oom_killed", "certain")
    assert "in the middle of load everything" in found.verdict.summary
    assert "rose from 0 to 1" in everything_said(found)
    assert [one.name for one in found.activities] == ["load everything"]


def test_without_a_parent_a_kill_for_want_of_memory_is_not_asserted(start: Start, cgroup: Cgroup) -> None:
    victim = start("grow", "threads", "alone", before=cgroup.joined)
    victim.end(-9)
    assert cgroup.kills == 1
    found = victim.read()
    assert {name: how for name, how in causes(found).items() if name != "oom_killed"} == UNTOLD
    assert causes(found).get("oom_killed", "possible") == "possible"
    assert "count rose" not in everything_said(found) and "of out-of-memory kills rose" not in everything_said(found)


def test_who_reads_it_in_the_same_cgroup_sees_that_the_count_rose(start: Start, cgroup: Cgroup) -> None:
    victim = start("grow", "threads", "alone", before=cgroup.joined)
    victim.end(-9)
    found = _postmortem(victim.path, cgroup.joined)
    causes = [(cause["name"], cause["confidence"]) for cause in found["verdict"]["causes"]]
    assert causes[0] == ("oom_killed", "likely")
    assert "it may have been another process of it" in str(found["verdict"])


def test_a_parent_in_another_cgroup_does_not_speak_for_it(start: Start, cgroup: Cgroup) -> None:
    victim = start("grow", "threads", "run", within=cgroup.joined)
    victim.end(137)
    assert cgroup.kills == 1
    found = victim.read()
    assert first(found)[0] in ("killed", "oom_killed")
    # It was the kernel, and for want of memory: the count of the parent's own cgroup is of no meaning here.
    assert "the kernel did not do it for want of memory" not in everything_said(found)


def _postmortem(path: str, before: Sequence[str]) -> dict:  # type: ignore[type-arg]
    command = [*before, sys.executable, "-m", "mmdebug", "postmortem", path, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout)["postmortem"])
