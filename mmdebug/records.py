"""What was recorded in a process, as a reader finds it: frozen data between the file and a report.

Times are ns since the epoch. A `thread` is the number that `threading.get_ident` gives, a `context`
the `id` of the greenlet or asyncio task, 0 for none. Texts are as they stand in the file: escape
them before they go to a terminal or into a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: What a field of an event or an activity can be.
Value = str | int | float | bool | None

#: The rings of events, from the least severe to the most.
SEVERITIES = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a breadcrumb (kind ``event``), a log record (``log``) or a note of ours (``note``).

    name: the event's name, or the log record's message
    logger, place: of a log record: who logged it, and ``file:line function``
    cut: whether something of it did not fit
    """

    time: int
    severity: str
    kind: str
    name: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    logger: str = ""
    place: str = ""
    thread: int = 0
    context: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that a thread, greenlet or task was in the middle of.

    depth: how many others of the same thread and context it stands in
    """

    name: str
    started: int
    fields: Mapping[str, Value] = field(default_factory=dict)
    thread: int = 0
    context: int = 0
    depth: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a recorded traceback.

    source: the lines around `line`, as ``(number, text)``; empty where there were none to be had
    locals: the names and the bounded, redacted texts of their values
    cut: how many locals were left out
    """

    file: str
    function: str
    line: int
    source: tuple[tuple[int, str], ...] = ()
    locals: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0


@dataclass(frozen=True, slots=True)
class CapturedError:
    """An exception with its traceback, its causes, and its parts if it is a group.

    type: the qualified name of its class, without ``builtins.``
    frames: the outermost call first, as Python prints them
    frames_cut: how many frames were left out in the middle
    cut_after: how many of `frames` stand before those that were left out
    cause, context: as ``__cause__`` and ``__context__``; a suppressed context is None
    exceptions: the parts of a group; `exceptions_cut` says how many more there were
    """

    type: str
    message: str
    frames: tuple[Frame, ...] = ()
    frames_cut: int = 0
    notes: tuple[str, ...] = ()
    cause: CapturedError | None = None
    context: CapturedError | None = None
    exceptions: tuple[CapturedError, ...] = ()
    exceptions_cut: int = 0
    cut_after: int = 0


@dataclass(frozen=True, slots=True)
class ExceptionRecord:
    """All occurrences of one error: the same type at the same place, come by in the same way.

    how: where it surfaced: ``main thread``, ``thread``, ``unraisable``, ``greenlet``, ``task``,
        ``cell``, ``logged`` or ``captured``
    place: ``file:line function`` of the innermost frame
    fatal: whether it ended the process, as the one that nobody caught in the main thread does
    error: the last one, in full; None if it could not be read
    """

    type: str
    place: str
    how: str
    count: int
    first: int
    last: int
    thread: int = 0
    context: int = 0
    fatal: bool = False
    error: CapturedError | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What the runtime sampler saw at one moment.

    values: such as ``rss`` (bytes), ``cpu`` (seconds so far), ``threads``, ``greenlets``, ``fds``, ``lag`` (seconds)
    moved: names of the series whose values were others than a sample before; `more` counts what did not fit
    """

    time: int
    values: Mapping[str, float] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class FaultFrame:
    """A line of faulthandler's: no locals, no source."""

    file: str
    line: int | None
    function: str


@dataclass(frozen=True, slots=True)
class FaultThread:
    """A thread in faulthandler's text; `current` is the one in which it happened."""

    ident: int
    current: bool
    frames: tuple[FaultFrame, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What faulthandler wrote: `headline` is its first line, such as ``Fatal Python error: Segmentation fault``."""

    headline: str
    threads: tuple[FaultThread, ...]
    text: str


@dataclass(frozen=True, slots=True)
class SignalSent:
    """A signal that the process' parent sent it, as the parent noted it."""

    time: int
    number: int


@dataclass(frozen=True, slots=True)
class Exit:
    """What a parent that waited for the process wrote into its file.

    status: the raw wait status
    time: when the parent was told
    parent: the parent's pid; `parent_service` its service
    oom_kills: the cgroup's counter of killed processes, before the process started and after it ended; None: not known
    max_rss: its peak of resident memory in bytes; 0 for not known
    cgroup: the parent's memory cgroup, whose counter it is
    """

    status: int
    time: int
    parent: int = 0
    parent_service: str = ""
    signals: tuple[SignalSent, ...] = ()
    oom_kills_before: int | None = None
    oom_kills_after: int | None = None
    max_rss: int = 0
    cgroup: str = ""


@dataclass(frozen=True, slots=True)
class ParkedGroup:
    """Greenlets or asyncio tasks (`kind`) that waited at the same place; the innermost frame is the last."""

    kind: str
    count: int
    frames: tuple[FaultFrame, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """All that a process' ``.box`` file holds. Sequences are in the order of time.

    parked: what waited when that was last sampled, at the time `parked_at`; 0 if it is not sampled
    lost: how many there were that the file holds no more, or never had room for, by what they are
    threads: names of threads
    facts: what the recorder said of itself and of the process' surroundings at its start
    """

    path: str
    activities: tuple[Activity, ...] = ()
    events: tuple[Event, ...] = ()
    exceptions: tuple[ExceptionRecord, ...] = ()
    samples: tuple[Sample, ...] = ()
    threads: Mapping[int, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    parked: tuple[ParkedGroup, ...] = ()
    parked_at: int = 0
