"""What a report shows and in which order: choices that its text and its page have in common. Pure functions."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmstats.commands import text

from ..ending import End
from ..records import Activity, CapturedError, Event, ExceptionRecord, FaultFrame, FaultThread, Frame, Value

if TYPE_CHECKING:
    from ..postmortem import PostMortem

#: Causes, contexts and parts that are followed from one exception; what a file holds may be nested for ever.
MAX_LINKED = 24


@dataclass(frozen=True, slots=True)
class Linked:
    """An exception and how it is linked to the one that was shown before it; `depth` is how deep it stands."""

    relation: str
    depth: int
    error: CapturedError


def chain(error: CapturedError | None) -> list[Linked]:
    """An exception, then those that it came from, then the parts of a group."""
    found: list[Linked] = []
    waiting = [Linked("", 0, error)] if error is not None else []
    while waiting and len(found) < MAX_LINKED:
        linked = waiting.pop()
        found.append(linked)
        at, depth = linked.error, linked.depth
        parts = [Linked(f"part {number} of it", depth + 1, part) for number, part in enumerate(at.exceptions, 1)]
        waiting += reversed(parts[:MAX_LINKED])
        if at.cause is not None:
            waiting.append(Linked("caused by", depth, at.cause))
        elif at.context is not None:
            waiting.append(Linked("while handling", depth, at.context))
    return found


#: Notes of clients that came and went; what they ran says more.
QUIET = ("manhole.connected", "manhole.ended", "manhole.disconnected")


def is_quiet(event: Event) -> bool:
    """Whether it tells of a client what another event tells better."""
    return (event.kind == "note" and event.name in QUIET) or (event.kind == "log" and event.logger == "mmdebug.manhole")


def chosen_events(events: Sequence[Event], most: int, errors: int) -> list[Event]:
    """The newest `most` events, but the newest `errors` errors for certain, in the order of time.

    Quiet ones get what room others leave.
    """
    ordered = sorted(enumerate(events), key=lambda pair: (pair[1].time, pair[0]))
    sure = [pair for pair in ordered if pair[1].severity == "error"][-errors:] if errors else []
    room = max(most - len(sure), 0)
    taken = {number for number, _ in sure}
    others = [pair for pair in ordered if pair[0] not in taken]
    others.sort(key=lambda pair: not is_quiet(pair[1]))
    rest = others[-room:] if room else []
    return [event for _, event in sorted([*sure, *rest], key=lambda pair: (pair[1].time, pair[0]))]


def by_owner(activities: Iterable[Activity]) -> list[list[Activity]]:
    """Activities of one thread and context together, the outermost first; the oldest group comes first."""
    groups: dict[tuple[int, int], list[Activity]] = {}
    for activity in activities:
        groups.setdefault((activity.thread, activity.context), []).append(activity)
    for group in groups.values():
        group.sort(key=lambda activity: (activity.depth, activity.started))
    return sorted(groups.values(), key=lambda group: min(activity.started for activity in group))


def by_weight(exceptions: Iterable[ExceptionRecord]) -> list[ExceptionRecord]:
    """The fatal ones first, then the newest."""
    return sorted(exceptions, key=lambda record: (not record.fatal, -record.last))


def faulting(found: PostMortem) -> tuple[FaultThread | None, list[Activity]]:
    """The thread of the fault, and what was in flight in it."""
    if found.fault is None:
        return None, []
    thread = next((thread for thread in found.fault.threads if thread.current), None)
    if thread is None:
        return None, []
    inside = [activity for activity in found.activities if activity.thread == thread.ident]
    return thread, sorted(inside, key=lambda activity: (activity.depth, activity.started))


def moved(found: PostMortem) -> tuple[str, ...]:
    """Names of the series that moved last before the end."""
    return next((sample.moved for sample in reversed(found.samples) if sample.moved), ())


def owner(found: PostMortem, thread: int, context: int) -> str:
    """Whose something is: a thread by its name, and the greenlet or task in it."""
    if not thread:
        return ""
    name = found.box.threads.get(thread, "") if found.box is not None else ""
    return (name or f"thread {thread:#x}") + (f" / {context:#x}" if context else "")


def place_of(frame: FaultFrame) -> str:
    """``file:line``, the file by its name alone."""
    return f"{frame.file.rpartition('/')[2]}:{frame.line or '?'}"


def line_of(frame: Frame) -> str:
    """The line of source at which a frame stood, if it was to be had."""
    return next((source.strip() for number, source in frame.source if number == frame.line), "")


def fields(pairs: Iterable[tuple[str, Value]]) -> str:
    """``name=value`` of each pair; texts with blanks stand in quotes."""
    return " ".join([f"{name}={_value(value)}" for name, value in pairs])


def _value(value: Value) -> str:
    if isinstance(value, str) and value and not any(c.isspace() for c in value):
        return value
    return repr(value)


def sentence(event: Event) -> str:
    """What an event says: its name or message, its fields, and its place."""
    parts = [event.name, fields(event.fields.items()), f"({event.place})" if event.place else ""]
    return " ".join([part for part in parts if part]) + (" [cut]" if event.cut else "")


def commands(found: PostMortem, *, bundled: bool = False) -> list[tuple[str, str]]:
    """Where the rest is: commands, and what each one shows."""
    target = text.printable(shlex.quote(found.path))
    several = [(f"mmdebug postmortem {target} --html report.html", "all of it, as a page")]
    if any(record.error is not None for record in found.exceptions):
        several.append((f"mmdebug postmortem {target} --pdb", "walk the recorded frames and their locals"))
    if found.events:
        several.append((f"mmdebug events {target}", "all its events"))
    if not bundled:
        several.append((f"mmstats show {target} --all", "all its stats"))
    return several


# Times.


def moment(ns: int | None) -> str:
    """A time as people read it: local, with its offset from UTC."""
    if not ns:
        return "not known"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(ns / 1e9))
    except (OverflowError, ValueError, OSError):
        return f"{ns} ns"  # no time of this world: what is in the file is damaged


def relative(ns: int, end: End | None) -> str:
    """A time relative to the end: ``-0.312 s``; without an end the time itself."""
    if end is None:
        return moment(ns)
    seconds = (ns - end.time) / 1e9
    sign = "+" if seconds > 0 else "-"
    return f"{sign}{abs(seconds):.3f} s" if abs(seconds) < 100 else f"{sign}{text.age(abs(seconds))}"


def lasted(started: int, end: End | None) -> str:
    """How long something had lasted at the end."""
    if end is None or started > end.time:
        return "-"
    seconds = (end.time - started) / 1e9
    return f"{seconds:.3f} s" if seconds < 100 else text.age(seconds)
