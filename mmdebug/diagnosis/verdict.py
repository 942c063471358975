"""What goes into a diagnosis and what comes out: frozen data, no rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..records import Activity, Event, ExceptionRecord, Exit, Fault, Sample

#: How sure a cause is, the surest first.
CONFIDENCES = ("certain", "likely", "possible")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of how one process ended. Times are ns since the epoch; None is not known.

    state: ``alive``, ``closed`` (it closed its file), ``died`` or ``unknown``; `reason` says how that is known
    exit: what the parent that waited wrote, if one did
    boxed: whether there was a recorder: without one, no exception and no event says that there was none
    heartbeat: the last time at which the sampler said that it lives
    found: when this evidence was collected; 0 is not known
    oom_kills_start, oom_kills_found: the cgroup's counter of killed processes at the process' start and when this
        was collected; only given where both are of the same cgroup
    memory_limit: bytes, of the cgroup
    address_limit: bytes, of RLIMIT_AS
    truncated_boot: whether the machine went down under it: the file is of an earlier boot
    command: its command line
    fault_handler: whether faulthandler was on, ready to write its text; None is not known
    """

    state: str
    reason: str = ""
    exit: Exit | None = None
    fault: Fault | None = None
    boxed: bool = False
    activities: tuple[Activity, ...] = ()
    events: tuple[Event, ...] = ()
    exceptions: tuple[ExceptionRecord, ...] = ()
    samples: tuple[Sample, ...] = ()
    threads: dict[int, str] = field(default_factory=dict)
    main_thread: int = 0
    created: int | None = None
    closed: int | None = None
    heartbeat: int | None = None
    found: int = 0
    oom_kills_start: int | None = None
    oom_kills_found: int | None = None
    memory_limit: int | None = None
    address_limit: int | None = None
    truncated_boot: bool = False
    fault_handler: bool | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cause:
    """One hypothesis: a whole answer to the question of what ended the process.

    name: a stable identifier, such as ``oom_killed``
    confidence: ``certain``, ``likely`` or ``possible``; of all causes of a verdict at most one is ``certain``
    """

    name: str
    summary: str
    confidence: str
    evidence: tuple[str, ...] = ()
    against: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a process ended: the likeliest cause first.

    state: as in `Evidence`
    summary: one sentence for people
    after, before: the time of the end lies between these; None where nothing bounds it
    """

    state: str
    summary: str
    causes: tuple[Cause, ...] = ()
    after: int | None = None
    before: int | None = None
