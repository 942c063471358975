"""What a dead process left: who it was, what it was doing, how it ended, as one object.

Nothing is claimed that the files do not say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import mmstats
from mmstats.errors import MmStatsError, TargetError
from mmstats.process import Life
from mmstats.targets import find, only

from .diagnosis import Verdict, diagnose
from .evidence import collect, siblings_of, stem_of
from .records import Activity, Box, Event, ExceptionRecord, Exit, Fault, Sample


@dataclass(frozen=True, slots=True, repr=False)
class PostMortem:
    """One process, read after its end. Of a live one it is what there is so far.

    path: its stat file
    process: who it was
    verdict: how it ended, and what speaks for and against each cause
    stats: its last stats
    box: what it recorded; None if there was no recorder
    fault: what faulthandler wrote
    exit: what a parent that waited for it wrote
    siblings: other processes of the same service, the newest first
    problems: what could not be read, for people
    """

    path: str
    process: mmstats.Process
    verdict: Verdict
    stats: mmstats.Snapshot
    box: Box | None = None
    fault: Fault | None = None
    exit: Exit | None = None
    siblings: tuple[mmstats.Snapshot, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def activities(self) -> tuple[Activity, ...]:
        """What was in progress, in the order of its start."""
        return self.box.activities if self.box is not None else ()

    @property
    def events(self) -> tuple[Event, ...]:
        """The last events and log records, the newest last."""
        return self.box.events if self.box is not None else ()

    @property
    def exceptions(self) -> tuple[ExceptionRecord, ...]:
        """The distinct errors, the one that came last at the end."""
        return self.box.exceptions if self.box is not None else ()

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What the sampler saw, the newest last."""
        return self.box.samples if self.box is not None else ()

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only, as ``mmdebug postmortem --json`` prints them. Times are seconds since the epoch."""
        return {
            "verdict": _plain(self.verdict),
            "activities": _plain(self.activities),
            "events": _plain(self.events),
            "exceptions": _plain(self.exceptions),
            "samples": _plain(self.samples),
            "fault": _plain(self.fault),
            "exit": _plain(self.exit),
            "recorded": self.box is not None,
            "parked": _plain(self.box.parked) if self.box is not None else [],
            "threads": {str(ident): name for ident, name in self.box.threads.items()} if self.box is not None else {},
            "lost": dict(self.box.lost) if self.box is not None else {},
            "siblings": [
                {"path": other.path, "pid": other.process.pid, "state": other.process.state} for other in self.siblings
            ],
            "stats": self.stats.to_dict(),
            "problems": list(self.problems),
        }

    def to_frame(self) -> Any:
        """The last stats as a pandas DataFrame. Needs pandas."""
        return self.stats.to_frame()

    def _repr_html_(self) -> str | None:
        """For notebooks; None without jinja2, so that they show the text."""
        from .report.html import fragment

        try:
            return fragment(self)
        except MmStatsError:
            return None

    def __repr__(self) -> str:
        who = self.process
        causes = [cause.name for cause in self.verdict.causes[:1]]
        return f"<PostMortem {who.service} {who.pid}: {', '.join([self.verdict.state, *causes])}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """In a terminal's IPython: the report."""
        printer.text(repr(self) if cycle else str(self).rstrip())

    def __str__(self) -> str:
        """The report, as ``mmdebug postmortem`` prints it where there are no colours."""
        from .report.text import as_text

        return as_text(self)


#: Fields that hold ns since the epoch.
_TIMES = frozenset(("time", "started", "first", "last", "after", "before"))


def _plain(value: Any, name: str = "") -> Any:
    """A dataclass of `records` as builtin types that JSON can hold."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name), field.name) for field in fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if name in _TIMES and isinstance(value, int):
        return value / 1e9
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def load(path: str | os.PathLike[str], *, life: Life | None = None) -> PostMortem:
    """Read what a process left; `path` is its stat file or any file of its that lies beside.

    life: whether its writer lives, where that is known better than can be seen now, as of a saved copy

    Raises `mmstats.ReadError` if it can't be opened and `mmstats.FormatError` if it is no stat file.
    """
    path = os.fspath(path)
    if not path.endswith(".mmstats") and os.path.exists(stem_of(path) + ".mmstats"):
        path = stem_of(path) + ".mmstats"
    stats = mmstats.read(path)
    return postmortem_of(stats if life is None else stats.judged(life))


def postmortem_of(stats: mmstats.Snapshot) -> PostMortem:
    """The post-mortem of a stat file that was read already."""
    found = collect(stats)
    verdict = diagnose(found.evidence)
    return PostMortem(
        stats.path,
        stats.process,
        verdict,
        stats,
        found.box,
        found.fault,
        found.exit,
        siblings_of(stats),
        found.problems,
    )


def ended_badly(found: PostMortem) -> bool:
    """Whether a process ended otherwise than it should: killed, crashed, with an error or a status of its own."""
    if found.verdict.state not in ("died", "closed"):
        return False
    first = found.verdict.causes[0].name if found.verdict.causes else ""
    if first == "os_exit" and found.exit is not None and found.exit.status == 0:
        return False  # as Celery's children leave
    return first != "clean_exit"


def deaths(path: str | os.PathLike[str] | None = None, *, service: str | None = None) -> list[PostMortem]:
    """All processes that ended badly, the one that started last first."""
    return list(_newest(os.fspath(path) if path is not None else None, service))


def choose(target: str | None, path: str | None = None, *, service: str | None = None) -> PostMortem:
    """The post-mortem that `target` asks for: of a service its newest death, without one the newest of all.

    Raises `mmstats.TargetError` if there is none, or if the target may mean several.
    """
    if target is None:
        found = next(iter(_newest(path, service)), None)
        if found is None:
            whose = f" of {service!r}" if service else ""
            raise TargetError(f"no process{whose} has died here; `mmstats ls` shows those that are")
        return found
    if os.sep in target and not os.path.isdir(target):
        return load(target)
    candidates = find(target, path)
    if all(candidate.process.service == target for candidate in candidates):
        for candidate in reversed(candidates):
            if candidate.process.state in ("died", "closed"):
                found = postmortem_of(candidate)
                if ended_badly(found):
                    return found
        states = ", ".join(sorted({candidate.process.state for candidate in candidates}))
        raise TargetError(f"no process of {target!r} has died: they are {states}")
    dead = [candidate for candidate in candidates if candidate.alive is False]
    return postmortem_of(only(target, dead or candidates))


def _newest(path: str | None, service: str | None) -> Iterator[PostMortem]:
    """Deaths, one after the other, the newest first: only those that are asked for are read in full."""
    fleet = mmstats.read_all(path, service=service)
    for stats in reversed(list(fleet.values())):
        if stats.process.state in ("died", "closed"):
            found = postmortem_of(stats)
            if ended_badly(found):
                yield found
