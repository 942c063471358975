"""Collect all there is about one process: its files, its cgroup, the processes beside it.

What can't be read is left out and said; a broken box is no reason not to show the stats.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, replace

import mmstats
from mmstats import layout as stat_layout
from mmstats.errors import MmStatsError
from mmstats.fleet import files

from . import cgroup, exits, fault
from .boxreader import read_box
from .diagnosis.verdict import Evidence
from .layout import SUFFIX
from .records import Box, Exit, Fault

#: Processes of the same service that are compared with, the newest ones.
MAX_SIBLINGS = 20


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found about one process, before it is judged."""

    stats: mmstats.Snapshot
    box: Box | None
    fault: Fault | None
    exit: Exit | None
    evidence: Evidence
    problems: tuple[str, ...]


def stem_of(path: str) -> str:
    """A file's path without the ending that says which of a process' files it is."""
    for suffix in (stat_layout.SUFFIX, SUFFIX, fault.SUFFIX):
        if path.endswith(suffix):
            return path[: -len(suffix)]
    return path


def collect(stats: mmstats.Snapshot) -> Findings:
    """Read everything that lies beside a stat file. Raises nothing of its own."""
    stem = stem_of(stats.path)
    problems: list[str] = list(stats.problems)
    box = _box(stem + SUFFIX, stats, problems)
    found_fault = None
    try:
        found_fault = fault.read(stem + fault.SUFFIX)
    except OSError as error:
        problems.append(f"{stem}{fault.SUFFIX}: {error.strerror}")
    ended = _of_its_cgroup(exits.read_exit(stats), box)
    return Findings(stats, box, found_fault, ended, _evidence(stats, box, found_fault, ended), tuple(problems))


def _of_its_cgroup(ended: Exit | None, box: Box | None) -> Exit | None:
    """Without the parent's counts of OOM kills, unless the process is known to have been in the parent's cgroup."""
    if ended is None or (box is not None and ended.cgroup and box.facts.get("cgroup") == ended.cgroup):
        return ended
    return replace(ended, oom_kills_before=None, oom_kills_after=None)


def _box(path: str, stats: mmstats.Snapshot, problems: list[str]) -> Box | None:
    if not os.path.lexists(path):
        return None
    try:
        box = read_box(path, stats.series_at)
    except MmStatsError as error:
        problems.append(str(error))
        return None
    problems += box.problems
    return box


def _evidence(stats: mmstats.Snapshot, box: Box | None, found: Fault | None, ended: Exit | None) -> Evidence:
    who = stats.process
    facts = box.facts if box is not None else {}
    start, now = _number(facts.get("oom_kills")), None
    if start is not None and who.host == socket.gethostname() and _same_boot(stats):
        now = _oom_kills(facts.get("cgroup", ""))
    return Evidence(
        state=who.state,
        reason=who.reason,
        exit=ended,
        fault=found,
        boxed=box is not None,
        activities=box.activities if box is not None else (),
        events=box.events if box is not None else (),
        exceptions=box.exceptions if box is not None else (),
        samples=box.samples if box is not None else (),
        threads=dict(box.threads) if box is not None else {},
        main_thread=_number(facts.get("main_thread")) or 0,
        created=stats.created,
        closed=stats.closed_at if who.closed else None,
        heartbeat=stats.heartbeat,
        found=time.time_ns(),
        oom_kills_start=start if now is not None else None,
        oom_kills_found=now,
        memory_limit=_number(facts.get("memory_limit")),
        address_limit=_number(facts.get("address_limit")),
        truncated_boot=who.reason == "written before this machine was last started",
        command=who.argv,
        fault_handler={"on": True, "off": False}.get(facts.get("faulthandler", "")),
    )


def _same_boot(stats: mmstats.Snapshot) -> bool:
    from mmstats.process import boot_id

    return stats.process.boot_id == boot_id()


def _oom_kills(path: str) -> int | None:
    """The counter of a cgroup now; only where we are in the same one, as one of a name may be made anew."""
    mine = cgroup.memory_cgroup()
    return mine.oom_kills if mine is not None and path == mine.path else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else None


def siblings_of(stats: mmstats.Snapshot) -> tuple[mmstats.Snapshot, ...]:
    """The other processes of the same service in the same directory, alive or dead, the newest first."""
    service = stats.process.service
    home = os.path.dirname(os.path.abspath(stats.path))
    if not service:
        return ()
    found = []
    try:
        candidates = files(home)
    except MmStatsError:
        return ()
    for path in candidates:
        if os.path.basename(path).startswith(service[:64]) and os.path.realpath(path) != os.path.realpath(stats.path):
            try:
                other = mmstats.read(path)
            except MmStatsError:
                continue  # `mmstats ls` tells of it
            if other.process.service == service:
                found.append(other)
    found.sort(key=lambda snapshot: snapshot.created or 0, reverse=True)
    return tuple(found[:MAX_SIBLINGS])
