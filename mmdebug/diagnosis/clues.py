"""What follows from the evidence at once, and the words for it: what the rules of `diagnosis` stand on.

Nothing here weighs causes. All is pure; texts of files are cut, and whoever prints them escapes them.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from ..records import Activity, CapturedError, ExceptionRecord, FaultThread
from .verdict import Evidence

SECOND = 1_000_000_000
#: From here on, what does not move counts as stuck.
LONG = 10 * SECOND
#: How far back from the end something may have had to do with it.
RECENT = 60 * SECOND

#: The sampler's own series: they move whatever the program does.
OF_SAMPLER = ("runtime.", "mmdebug.")

NO_RECORDER = "there was no recorder in it: nothing is known of its exceptions and events"


@dataclass(frozen=True, slots=True)
class Clues:
    """The evidence, and what is read out of it.

    number, code: the signal that ended it, or its exit code; both None if its parent noted none that means anything
    closed: whether it closed its file
    end: the best time for the end; `exact` if the end was noted, else it is the last sign of life
    worked: the last time at which the program did something: an event, an activity, an exception, a stat that moved
    fatal: the exception that ended the main thread
    crashed: whether faulthandler wrote of a fatal error; `crash_thread` is the thread in which that was
    """

    evidence: Evidence
    number: int | None
    code: int | None
    core: bool
    closed: bool
    after: int | None
    before: int | None
    end: int | None
    exact: bool
    worked: int | None
    fatal: ExceptionRecord | None
    crashed: bool
    crash_thread: FaultThread | None

    @property
    def headline(self) -> str:
        return self.evidence.fault.headline if self.evidence.fault else ""

    @property
    def status_known(self) -> bool:
        return self.number is not None or self.code is not None

    @property
    def ended(self) -> bool:
        """Whether it is known to have ended, or its main thread."""
        told = self.status_known or self.crashed or self.closed or self.fatal is not None
        return told or self.evidence.state == "died" or self.evidence.truncated_boot

    @property
    def traceless(self) -> bool:
        """It died, and neither a parent nor faulthandler says how."""
        return self.evidence.state == "died" and not (self.closed or self.status_known or self.crashed)

    def sent(self, number: int | None) -> int | None:
        """When its parent last sent it that signal; None if it noted none."""
        ended = self.evidence.exit
        times = [one.time for one in ended.signals if one.number == number] if ended and number else []
        return max(times, default=None)

    def none_sent(self, name: str) -> str:
        """For where its parent noted no such signal: a parent that noted the status alone noted no time either."""
        noted = self.evidence.exit is not None and self.evidence.exit.time > 0
        return f"its parent noted no {name} of its own" if noted else f"whether its parent sent {name} is not known"

    def since(self, time: int) -> int:
        """ns from `time` to the end, or to the last sign of life; never below 0, as clocks are set back."""
        return max(0, self.end - time) if self.end is not None else 0

    def recent(self, time: int) -> bool:
        return self.end is None or self.since(time) <= RECENT

    def ago(self, time: int) -> str:
        """Such as ``2.1 s before the end``."""
        if self.end is None:
            return "at a time that can't be placed"
        return f"{span(self.since(time))} before {'the end' if self.exact else 'its last sign of life'}"

    def last(self, name: str) -> tuple[float, int] | None:
        """The last sampled value of that name and the time of it."""
        for sample in reversed(self.evidence.samples):
            value = sample.values.get(name)
            if value is not None and math.isfinite(value):
                return value, sample.time
        return None


def gather(evidence: Evidence) -> Clues:
    """Read the clues out of the evidence."""
    number, code, core = _status(evidence.exit.status) if evidence.exit else (None, None, False)
    closed = evidence.state == "closed" or evidence.closed is not None
    worked = _latest(
        [one.time for one in evidence.events],
        [one.started for one in evidence.activities],
        [one.last for one in evidence.exceptions],
        [one.time for one in evidence.samples if not all(name.startswith(OF_SAMPLER) for name in one.moved)],
    )
    life = _latest([one.time for one in evidence.samples], [worked, evidence.heartbeat, evidence.created])
    crashed = bool(evidence.fault and evidence.fault.headline.startswith("Fatal Python error"))
    fatal = max((one for one in evidence.exceptions if one.fatal), key=lambda one: one.last, default=None)
    after = life if evidence.closed is None else evidence.closed
    ended = (evidence.exit.time or None if evidence.exit else None) or evidence.closed
    before = ended
    if before is None and (evidence.state in ("died", "closed") or crashed or number is not None or code is not None):
        before = evidence.found or None
    if after is not None and before is not None and after > before:
        after = None  # the clock was set back in between: then only the later observer bounds the end
    return Clues(
        evidence, number, code, core, closed, after, before,
        end=ended if ended is not None else life,
        exact=ended is not None,
        worked=worked,
        fatal=None if fatal is None or fatal.type == "SystemExit" else fatal,
        crashed=crashed,
        crash_thread=next((one for one in evidence.fault.threads if one.current), None) if evidence.fault else None,
    )  # fmt: skip


def _status(status: int) -> tuple[int | None, int | None, bool]:
    """Signal, exit code and whether it dumped core, of a wait status; done by hand as os' functions reject bad ones."""
    if not 0 <= status <= 0xFFFF:
        return None, None, False
    number = status & 0x7F
    if number == 0:
        return None, status >> 8, False
    if number == 0x7F:  # stopped or continued: no end
        return None, None, False
    return number, None, bool(status & 0x80)


def _latest(*times: Iterable[int | None]) -> int | None:
    return max((time for some in times for time in some if time is not None), default=None)


# Words


def span(ns: float) -> str:
    """A duration in ns for people."""
    seconds = max(0.0, ns / SECOND)
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} d"


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def short(text: str, limit: int = 100) -> str:
    """On one line, and no longer than that."""
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def parent(clues: Clues) -> str:
    """Such as ``its parent gunicorn (pid 10)``."""
    ended = clues.evidence.exit
    service = f" {short(ended.parent_service, 40)}" if ended and ended.parent_service else ""
    return f"its parent{service}" + (f" (pid {ended.parent})" if ended and ended.parent else "")


def status_lines(clues: Clues) -> list[str]:
    """What its parent was told, and which signals it had sent, the last ones."""
    ended = clues.evidence.exit
    if ended is None:
        return []
    if clues.number is not None:
        what = f"that {signal_name(clues.number)} ended it" + (", with a core dump" if clues.core else "")
    elif clues.code is not None:
        what = f"that it left with exit code {clues.code}"
    else:
        what = f"the wait status {ended.status}, which is none of an end"
    lines = [f"{parent(clues)} was told {what}"]
    for one in ended.signals[-5:]:
        lines.append(f"its parent sent it {signal_name(one.number)} {clues.ago(one.time)}")
    return lines


def closed_line(clues: Clues) -> str:
    if not clues.closed:
        return "its file was never marked as closed"
    at = clues.evidence.closed
    late = f" {clues.ago(at)}" if at is not None and clues.since(at) >= SECOND else ""
    return f"it closed its file{late}, as Python does at its own end"


def oom_counts(clues: Clues) -> tuple[int, int, str] | None:
    """The cgroup's counts of killed processes before and after, and of when they are; the parent's are preferred."""
    found, ended = clues.evidence, clues.evidence.exit
    if ended and ended.oom_kills_before is not None and ended.oom_kills_after is not None:
        return (
            ended.oom_kills_before,
            ended.oom_kills_after,
            "as its parent read them before and after",
        )
    if found.oom_kills_start is not None and found.oom_kills_found is not None:
        return found.oom_kills_start, found.oom_kills_found, "at its start and when its file was found"
    return None


def memory(clues: Clues) -> tuple[float, str] | None:
    """How much of the cgroup's limit it held by the last sample or at its peak, as a share and in words."""
    limit, ended = clues.evidence.memory_limit, clues.evidence.exit
    if not limit or limit < 0:
        return None
    sizes = []
    if sampled := clues.last("rss"):
        sizes.append((sampled[0], f"its resident memory was {size(sampled[0])} {clues.ago(sampled[1])}"))
    if ended and ended.max_rss > 0:
        sizes.append((ended.max_rss, f"its resident memory was {size(ended.max_rss)} at its peak"))
    if not sizes:
        return None
    held, words = max(sizes)
    return held / limit, f"{words}, which is {100 * held / limit:.0f} % of the limit of {size(limit)}"


def thread_name(clues: Clues, ident: int, name: str = "") -> str:
    found = clues.evidence
    name = short(found.threads.get(ident, "") or name, 40)
    if ident == 0:
        return "a thread that it does not tell"
    if ident == found.main_thread:
        return "the main thread"
    return f"thread {name}" if name else f"thread {ident:#x}"


def innermost(activities: tuple[Activity, ...]) -> list[Activity]:
    """Of each thread, greenlet and task only what it was in the very middle of, the oldest first."""
    deepest: dict[tuple[int, int], Activity] = {}
    for one in activities:
        known = deepest.get((one.thread, one.context))
        if known is None or (one.depth, one.started) > (known.depth, known.started):
            deepest[one.thread, one.context] = one
    return sorted(deepest.values(), key=lambda one: (one.started, one.name))


def age(clues: Clues, one: Activity) -> str:
    """Such as ``GET /report for 31 s``."""
    return f"{short(one.name)} for {'' if clues.exact else 'at least '}{span(clues.since(one.started))}"


def doing(clues: Clues, thread: int | None = None) -> str:
    """The oldest activity in flight, and what was the innermost in it; of that thread, if it had any. May be empty."""
    found = clues.evidence.activities
    some = tuple([one for one in found if one.thread == thread]) or found
    if not some:
        return ""
    oldest = min(some, key=lambda one: (one.started, one.depth, one.name))
    inner = innermost(tuple([one for one in some if (one.thread, one.context) == (oldest.thread, oldest.context)]))
    return age(clues, oldest) + (f", and in that {age(clues, inner[0])}" if inner[0] != oldest else "")


def exception_lines(clues: Clues, record: ExceptionRecord) -> list[str]:
    """Where, when and with which message; and what it came of."""
    error = record.error
    lines = [f"{error_words(record)}, {clues.ago(record.last)}"]
    if record.place:
        lines.append(f"it was raised at {short(record.place, 160)}")
    if record.count > 1:
        lines.append(f"it came {record.count} times, the first {clues.ago(record.first)}")
    root = error
    for _ in range(20):  # as deep as a chain may be recorded; more is no help
        if root is None or (root.cause or root.context) is None:
            break
        root = root.cause or root.context
    if root is not None and root is not error:
        lines.append(f"at the root of it was {_message(root.type, root)}")
    return lines


def error_words(record: ExceptionRecord) -> str:
    """Such as ``ValueError: no such page``."""
    return _message(record.type, record.error)


def _message(name: str, error: CapturedError | None) -> str:
    return short(name, 60) + (f": {short(error.message, 200)}" if error and error.message else "")
