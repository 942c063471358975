"""For the pytest plugin: directories of its runs, which test processes died in them, and what is told of that.

A run's directory is in memory, below the user's own one for stat files: it goes with a run in which
nothing died, and the last few others stay to be looked into.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import mmstats
from mmstats import directory
from mmstats.commands.text import printable
from mmstats.errors import MmStatsError

from ..children import Ledger, mark_reported, was_reported
from ..ending import end_of
from ..postmortem import PostMortem, postmortem_of
from ..records import Activity, FaultFrame
from ..report import content

#: The stat that marks test processes, and says whether their session goes on.
MARK = "pytest"
#: Deaths that are told in full; events and frames of each.
MOST = 5
EVENTS, FRAMES = 5, 10
#: Directories of earlier runs of a project that stay.
KEEP = 3
#: Seconds in which a directory without a process in it may still be getting one.
YOUNG = 60
#: Seconds that a worker is waited for whose connection broke.
PATIENCE = 2.0
_LINE = 300
_PYTEST = re.compile(r"[/\\](?:_pytest|pluggy)[/\\]")
#: What a test process is busy with.
PHASES = ("setup", "call", "teardown", "collect")


@dataclass(frozen=True, slots=True)
class Death:
    """A test process that ended before its session did.

    worker: pytest-xdist's name of it; empty for the only process, or the controller
    test: the id of the test, or of what was being collected; empty for neither
    phase: one of `PHASES`, or nothing
    """

    found: PostMortem
    worker: str
    test: str
    phase: str


# Directories.


def new_directory(root: Path) -> str:
    """Make a directory for a run of the project at `root`, and remove the oldest of earlier runs."""
    home = _home(root)
    runs = sorted(_runs(home), key=_age)
    for run in runs[KEEP:]:
        if _age(run) > YOUNG and not any(found.alive is not False for found in mmstats.read_all(run).values()):
            shutil.rmtree(run, ignore_errors=True)
    return tempfile.mkdtemp(prefix="run-", dir=home)


def remove_at_exit(path: str) -> None:
    """Remove a run's directory when this process ends."""
    pid = os.getpid()

    def remove() -> None:
        if os.getpid() == pid:  # and not when a child ends that was forked from it
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)


def _home(root: Path) -> str:
    """Where the runs of the project at `root` are. Raises `OSError` if there is no place."""
    name = re.sub(r"[^\w.-]", "_", root.name, flags=re.ASCII)[:40] or "root"
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    home = os.path.join(_base(), "pytest", f"{name}-{digest}")
    os.makedirs(home, mode=0o700, exist_ok=True)
    return home


def _base() -> str:
    """The user's own directory for stat files, whatever `MMSTATS_PATH` says: that is the programs' business."""
    reason = ""
    for base in directory.defaults():
        try:
            os.makedirs(base, mode=0o700, exist_ok=True)
            refusal = directory.refuse(base)
        except OSError as error:
            refusal = str(error)
        if refusal is None:
            return base
        reason = refusal
    raise OSError(f"no directory to record into: {reason}; give --mmdebug-path")


def _runs(home: str) -> list[str]:
    try:
        return [os.path.join(home, name) for name in os.listdir(home) if name.startswith("run-")]
    except OSError:
        return []


def _age(path: str) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:
        return 0.0  # another run has just removed it


# Deaths.


def unseen(asked: str | None, root: Path) -> list[Death]:
    """The deaths of earlier runs that nobody was told of, in `asked` or else in the project's own directories."""
    found = []
    for path in [asked] if asked else sorted(_runs(_home(root)), key=_age):
        found += list(find(path))
    return found


def find(path: str, run: str = "") -> Iterator[Death]:
    """Test processes in a directory that died before their session ended and of whom nobody was told.

    run: only those of this run
    """
    try:
        fleet = mmstats.read_all(path)
    except MmStatsError:
        return  # it is gone
    for stats in fleet.values():
        marks = _marks(stats)
        # A forked child has its parent's mark.
        if stats.alive is not False or marks.get("session") != "on" or marks.get("pid") != str(stats.process.pid):
            continue
        if run in ("", marks.get("run")) and not was_reported(stats):
            yield _death(postmortem_of(stats), marks.get("worker", ""))


def _marks(stats: mmstats.Snapshot) -> Mapping[str, str]:
    """What a test process says of itself; nothing for other processes."""
    found = stats.get(MARK)
    marks = found.value if found is not None and found.kind == "info" else None
    return marks if isinstance(marks, Mapping) else {}


def _death(found: PostMortem, worker: str) -> Death:
    """A test's activities are those of the thread that has the first one of its name."""
    named = next((one for one in found.activities if one.name in ("test", "collect") and "nodeid" in one.fields), None)
    if named is None:
        return Death(found, worker, "", "")
    inside = [one for one in found.activities if one.thread == named.thread and one.started >= named.started]
    phase = next((one.name for one in inside if one.name in PHASES), "")
    if named.name == "collect":
        # The innermost: a module stands in its directory.
        named = [one for one in inside if one.name == "collect" and "nodeid" in one.fields][-1]
    return Death(found, worker, _nodeid(found, named), phase)


def _nodeid(found: PostMortem, named: Activity) -> str:
    """The whole id, which an event has even where it was too long for the activity."""
    if named.name == "test":
        for event in reversed(found.events):
            if event.kind == "event" and event.name == "test" and event.time >= named.started:
                return str(event.fields.get("nodeid", ""))
    return str(named.fields["nodeid"])


def note_end(ledger: Ledger, program: Any) -> None:
    """Write into a worker's file how it ended: its parent alone is told.

    program: its `subprocess.Popen`
    """
    try:
        code = program.wait(timeout=PATIENCE)
    except Exception:
        return  # its connection broke, and it lives; or it is no Popen: then how it ended stays unknown
    if isinstance(code, int):
        ledger.ended(program.pid, -code if code < 0 else code << 8)


def mark_told(death: Death) -> None:
    """Have neither a later run nor ``mmdebug run`` tell it again."""
    mark_reported(death.found.path)


# What is told. All that comes from files is made printable.


def title(death: Death) -> str:
    """Who died, and in which test."""
    who = f"{death.worker} (pid {death.found.process.pid})" if death.worker else f"pid {death.found.process.pid}"
    if not death.test:
        return printable(f"{who} died outside of any test")
    return printable(f"{who} died in {death.test} ({death.phase or 'between its phases'})")


def lines(death: Death) -> Iterator[str]:
    """The verdict, the fault's stack, what was in flight, and the last events."""
    for line in _lines(death.found):
        text = printable(line)
        yield text if len(text) <= _LINE else text[: _LINE - 3] + "..."
    yield f"  all of it: mmdebug postmortem {printable(death.found.path)}"
    yield ""


def _lines(found: PostMortem) -> Iterator[str]:
    yield f"  {found.verdict.summary}"
    for cause in found.verdict.causes[:1]:
        yield f"    {cause.confidence} [{cause.name}]:"
        yield from [f"    + {item}" for item in cause.evidence]
        yield from [f"    - {item}" for item in cause.against]
    if found.fault is not None:
        yield f"  {found.fault.headline}, innermost call first:"
        thread, _ = content.faulting(found)
        for frame in _own_frames(thread.frames) if thread is not None else ():
            yield f'    File "{frame.file}", line {frame.line}, in {frame.function}'
    end = end_of(found, time.time_ns())
    yield "  in flight:"
    for group in content.by_owner(found.activities):
        for one in group:
            told = f"{one.name} {content.fields(one.fields.items())}".rstrip()
            yield f"    {content.lasted(one.started, end):>9}  {'  ' * min(one.depth, 8)}{told}"
    events = content.chosen_events(found.events, EVENTS, 2)
    if events:
        yield "  last events:"
    for event in events:
        yield f"    {content.relative(event.time, end):>9}  {event.severity.upper()}  {content.sentence(event)}"


def _own_frames(frames: Sequence[FaultFrame]) -> Sequence[FaultFrame]:
    """The innermost frames, down to pytest's own: what called the test tells nothing."""
    own = list(takewhile(lambda frame: not _PYTEST.search(frame.file), frames))
    return (own or frames)[:FRAMES]
