"""From evidence to ranked causes: a pure function over a table of rules, each a hypothesis.

A rule sees the clues and the causes that the rules before it found, and returns a `Cause` or None.
The specific come before the general: SIGKILL is why a process ended only as long as nothing says
why it was sent. So a general rule is silent once a cause is certain, and merely possible, "for
another reason", once one is likely. Nothing is claimed that the evidence does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from signal import Signals

from . import clues as words
from .clues import NO_RECORDER, Clues, closed_line, parent, signal_name, span, status_lines
from .crashes import CRASHES, crash, stack_overflow
from .hangs import hang
from .verdict import CONFIDENCES, Cause, Evidence, Verdict

__all__ = ["CONFIDENCES", "RULES", "Cause", "Evidence", "Verdict", "diagnose"]

Found = tuple[Cause, ...]

#: What a signal usually means where nothing else explains it.
HINTS = {
    "SIGHUP": "SIGHUP comes when a terminal or session ends, or from somebody who asks for a reload",
    "SIGPIPE": "SIGPIPE comes of writing to a closed pipe or socket; Python ignores it unless told not to",
    "SIGALRM": "SIGALRM comes from a timer of the process itself that nobody handled",
    "SIGXCPU": "SIGXCPU comes from the kernel at the limit of CPU time (RLIMIT_CPU)",
    "SIGXFSZ": "SIGXFSZ comes from the kernel at the limit of a file's size (RLIMIT_FSIZE)",
    "SIGSYS": "SIGSYS comes from the kernel at a system call that is forbidden, as seccomp filters do",
    "SIGUSR2": "SIGUSR2 ends those that don't handle it; gunicorn's workers set it back to that",
}


def surest(found: Found) -> str:
    """The best confidence so far, as far as it explains an end: ``certain``, ``likely`` or nothing."""
    names = {cause.confidence for cause in found}
    return next((name for name in CONFIDENCES[:2] if name in names), "")


# Why it was killed


def worker_timeout(clues: Clues, found: Found) -> Cause | None:
    """gunicorn sends SIGABRT to a worker that does not answer in time, then SIGKILL; it does so for nothing else."""
    known = clues.status_known
    # A gevent worker takes SIGABRT as a request to leave, and may still end with 0.
    if known and clues.number not in (Signals.SIGABRT, Signals.SIGKILL) and clues.code not in (0, 1):
        return None
    told = [
        one
        for one in clues.evidence.events[-1000:]
        if (one.name.lower() == "gunicorn.worker_abort" or "worker timeout" in one.name.lower())
        and clues.recent(one.time)
    ]
    ended = clues.evidence.exit
    # Its workers have the command line of their arbiter, whatever that calls itself.
    called = [ended.parent_service.lower() if ended else "", *clues.evidence.command[:4]]
    is_gunicorn = bool(ended) and any("gunicorn" in name.rpartition("/")[2] for name in called)
    aborted = clues.sent(Signals.SIGABRT)
    if aborted is None or not known:
        if not told or (clues.crashed and "Aborted" not in clues.headline):
            return None
        confidence = "likely"
    else:
        if not (told or is_gunicorn):
            return None
        answered = clues.number != Signals.SIGKILL or clues.sent(Signals.SIGKILL) is not None
        confidence = "certain" if answered and clues.recent(aborted) and clues.fatal is None else "likely"
    evidence = status_lines(clues)
    if is_gunicorn and aborted is not None:
        evidence.append("gunicorn sends SIGABRT to a worker only when its timeout is over")
    for one in told[-2:]:
        evidence.append(f"{one.kind} {words.short(one.name)!r} {clues.ago(one.time)}")
    if clues.crashed:
        evidence.append("SIGABRT made faulthandler write where each thread was")
    against = [] if known else ["no parent noted how it ended"]
    if known and aborted is None:
        against.append(clues.none_sent("SIGABRT"))
    if clues.number == Signals.SIGKILL and clues.sent(Signals.SIGKILL) is None:
        against.append(clues.none_sent("SIGKILL"))
    summary = f"Killed by {parent(clues)} because of a timeout."
    return Cause("worker_timeout", summary, confidence, tuple(evidence), tuple(against))


def oom_killed(clues: Clues, found: Found) -> Cause | None:
    """Only from a count that rose, or from memory near the limit. A count that stood still excludes it."""
    if not (clues.number == Signals.SIGKILL or clues.traceless):
        return None
    counts, held = words.oom_counts(clues), words.memory(clues)
    rose = counts is not None and counts[1] > counts[0]
    near = held is not None and held[0] >= 0.9
    if not (rose if counts else near):
        return None
    evidence = status_lines(clues) if clues.number else []
    against = []
    confidence = "possible"
    if counts:
        evidence.append(f"the cgroup's count of out-of-memory kills rose from {counts[0]} to {counts[1]} ({counts[2]})")
        # The count is the whole cgroup's: it says "this one" only of a process that held most of the memory itself.
        alone = held is not None and held[0] >= 0.5
        by_parent = clues.evidence.exit is not None and clues.evidence.exit.oom_kills_after is not None
        confidence = "certain" if alone and by_parent and clues.number else "likely"
        if confidence != "certain":
            against.append("the count is of the whole cgroup: it may have been another process of it")
    if held:
        evidence.append(held[1])
    if not counts:
        against.append("the cgroup's count of out-of-memory kills is not known")
    if (killed := clues.sent(Signals.SIGKILL)) is not None:
        confidence = "possible"
        against.append(f"its parent itself sent it SIGKILL {clues.ago(killed)}")
    summary = "The kernel killed it because its cgroup was out of memory."
    if confidence == "possible":
        summary = "The kernel may have killed it for its memory."
    elif clues.traceless:
        summary = "It died without a trace as the kernel killed processes of its cgroup for want of memory."
    return Cause("oom_killed", summary, confidence, tuple(evidence), tuple(against))


def machine_stopped(clues: Clues, found: Found) -> Cause | None:
    if not clues.evidence.truncated_boot or clues.closed or clues.evidence.exit or clues.crashed:
        return None
    evidence = ("its file is of an earlier boot of the machine", closed_line(clues))
    against = ("it may have died earlier in that boot, unseen",)
    return Cause("machine_stopped", "The machine went down while it ran.", "likely", evidence, against)


# What it did itself


def uncaught(clues: Clues, found: Found) -> Cause | None:
    """An exception that nobody caught in the main thread: also a MemoryError, and Ctrl-C's KeyboardInterrupt."""
    record = clues.fatal
    if record is None:
        return None
    evidence = words.exception_lines(clues, record) + status_lines(clues)
    against = []
    interrupted = record.type == "KeyboardInterrupt"
    if clues.number is not None or clues.code == 0:
        fits = interrupted and clues.number == Signals.SIGINT
        confidence = "certain" if fits else "possible"
        if not fits:
            against.append("its parent was told another end than such an exception makes")
    elif clues.code is not None:
        confidence = "certain" if clues.code == 1 or (interrupted and clues.code == 130) else "likely"
        if confidence != "certain":
            against.append(f"exit code {clues.code} is not the 1 that such an exception makes by itself")
    else:
        confidence = "certain" if clues.closed and not clues.crashed else "likely"
        evidence.append(closed_line(clues))
        against += ["no parent noted how it ended"] if confidence == "likely" else []
    if interrupted:
        return Cause("interrupted", "Ended by SIGINT (Ctrl-C).", confidence, tuple(evidence), tuple(against))
    error = words.error_words(record)
    if record.type.endswith("MemoryError"):
        evidence += _address_limit(clues)
        if not clues.evidence.address_limit:
            evidence.append("no limit of its address space is known: a single oversized request fails too")
        summary = f"Out of memory, which nobody caught in the main thread: {error}."
        return Cause("out_of_memory", summary, confidence, tuple(evidence), tuple(against))
    summary = f"An exception that nobody caught in the main thread: {error}."
    return Cause("uncaught_exception", summary, confidence, tuple(evidence), tuple(against))


def _address_limit(clues: Clues) -> list[str]:
    limit = clues.evidence.address_limit
    lines = [f"its address space was limited to {words.size(limit)} (RLIMIT_AS)"] if limit else []
    if sampled := clues.last("rss"):
        lines.append(f"its resident memory was {words.size(sampled[0])} {clues.ago(sampled[1])}")
    return lines


def leaving(clues: Clues, found: Found) -> Cause | None:
    """By itself: through Python's end (`clean_exit`, `exit_code`), or past it (`os_exit`)."""
    if clues.number is not None or surest(found) == "certain" or not (clues.closed or clues.code is not None):
        return None
    confidence = "possible" if surest(found) else "certain"
    evidence = [closed_line(clues), *status_lines(clues)]
    against = []
    code = clues.code
    if not clues.closed:
        name = "os_exit"
        summary = (
            f"It left with exit code {code} past Python's own end: os._exit(), C's exit(), or an exec of a program."
        )
        if not clues.evidence.boxed:
            evidence.append(NO_RECORDER)
    elif code:
        name, summary = "exit_code", f"It ended by itself with exit code {code}, as sys.exit() does."
        if code > 128:
            evidence.append(f"{code} is 128 + {code - 128}: programs use it after {signal_name(code - 128)}")
        evidence.append("no uncaught exception was recorded" if clues.evidence.boxed else NO_RECORDER)
    else:
        name, summary = "clean_exit", "It ended cleanly."
        if code is None:
            if surest(found):
                return None
            confidence, summary = "likely", "It ended by itself, cleanly by its own account."
            against.append("its exit code is not known: after sys.exit(1) its file looks the same")
            if not clues.evidence.boxed:
                against.append(NO_RECORDER)
    return Cause(name, summary, confidence, tuple(evidence), tuple(against))


def unseen_exception(clues: Clues, found: Found) -> Cause | None:
    if (
        clues.code != 1
        or clues.evidence.boxed
        or surest(tuple([one for one in found if one.name not in ("exit_code", "os_exit")]))
    ):
        return None
    summary = "Perhaps an uncaught exception ended it: that gives exit code 1 too."
    return Cause("uncaught_exception", summary, "possible", (*status_lines(clues), NO_RECORDER))


# The signal, where nothing says why


def by_signal(clues: Clues, found: Found) -> Cause | None:
    """The signal that ended it, by its parent or by somebody unknown. Crashes are not told here."""
    number = clues.number
    if number is None or surest(found) == "certain":
        return None
    name, sent = signal_name(number), clues.sent(number)
    if sent is None and number in CRASHES:
        return None
    outside = "killed_by_parent" if sent is not None else "killed" if name == "SIGKILL" else "signal"
    kind = {"SIGTERM": "terminated", "SIGINT": "interrupted"}.get(name, outside)
    if sent is not None:
        summary = f"I{parent(clues)[1:]} ended it with {name}."
    elif name == "SIGKILL":
        summary = "Killed with SIGKILL; who sent it can't be told."
    else:
        summary = f"Ended by {name}, which it did not handle; who sent it can't be told."
    evidence, against = status_lines(clues), []
    asked = clues.sent(Signals.SIGTERM)
    if sent is None:
        evidence.append(clues.none_sent(name))
    elif asked is not None and number == Signals.SIGKILL and asked <= sent:
        summary = summary[:-1] + f", {span(sent - asked)} after a SIGTERM that had not ended it."
    if clues.closed:
        evidence.append(closed_line(clues))
    if name in HINTS:
        evidence.append(HINTS[name])
    counts = words.oom_counts(clues)
    if number == Signals.SIGKILL and sent is None and counts and counts[1] <= counts[0]:
        evidence.append(f"the kernel did not do it for want of memory: its cgroup's count of such kills is {counts[1]}")
    confidence = "certain"
    if surest(found):
        confidence = "possible"
        against.append("a likelier reason is known: then this is but how it was done")
    return Cause(kind, summary, confidence, tuple(evidence), tuple(against))


# Without a trace: what can't be told apart


def untold_kill(clues: Clues, found: Found) -> Cause | None:
    if not clues.traceless:
        return None
    summary = "It died without a trace: what ended it can't be told, perhaps SIGKILL."
    if surest(found):
        summary = "Perhaps somebody killed it with SIGKILL for another reason."
    return Cause("killed", summary, "possible", _untold(clues))


def untold_term(clues: Clues, found: Found) -> Cause | None:
    if not clues.traceless or surest(found):
        return None
    return Cause("terminated", "Perhaps SIGTERM ended it: unhandled, it leaves no trace.", "possible", _untold(clues))


def untold_exit(clues: Clues, found: Found) -> Cause | None:
    if not clues.traceless or surest(found):
        return None
    against = [f"it was in the middle of {busy}: few leave from there"] if (busy := words.doing(clues)) else []
    summary = "Perhaps it left past Python's own end: os._exit(), C's exit(), or an exec of a program."
    return Cause("os_exit", summary, "possible", _untold(clues), tuple(against))


def untold_crash(clues: Clues, found: Found) -> Cause | None:
    if not clues.traceless or surest(found):
        return None
    evidence = list(_untold(clues))
    against = []
    if clues.evidence.fault_handler:
        against.append(
            "a fault handler was on and wrote nothing; only Python's own fatal errors would go to stderr instead"
        )
    elif clues.evidence.fault_handler is None:
        evidence.append("whether a fault handler was on is not known")
    else:
        evidence.append("no fault handler was on: a crash would have left no text")
    summary = "Perhaps it crashed in C code, by SIGSEGV, SIGABRT or their like."
    return Cause("crashed", summary, "possible", tuple(evidence), tuple(against))


def _untold(clues: Clues) -> tuple[str, ...]:
    lines = [closed_line(clues), *(status_lines(clues) or ["no parent noted how it ended"])]
    return tuple(lines if clues.evidence.boxed else [*lines, NO_RECORDER])


# What is worth a look beside


def memory_error_seen(clues: Clues, found: Found) -> Cause | None:
    """A MemoryError shortly before a death that nothing explains."""
    seen = [one for one in clues.evidence.exceptions if one.type.endswith("MemoryError") and not one.fatal]
    if not seen or surest(found) or not (clues.traceless or clues.number or clues.code):
        return None
    record = max(seen, key=lambda one: one.last)
    if not clues.recent(record.last):
        return None
    evidence = (*words.exception_lines(clues, record), *_address_limit(clues))
    summary = "Perhaps it ran out of memory: a MemoryError was recorded shortly before."
    against = ("that MemoryError did not itself end it",)
    return Cause("out_of_memory", summary, "possible", evidence, against)


def uncaught_elsewhere(clues: Clues, found: Found) -> Cause | None:
    """An exception that ended a thread, greenlet or task, which ends no process by itself."""
    if any(cause.name == "clean_exit" and cause.confidence == "certain" for cause in found):
        return None
    seen = [
        one
        for one in clues.evidence.exceptions
        if one.how in ("thread", "greenlet", "task") and not one.fatal and clues.recent(one.last)
    ]
    if not seen:
        return None
    record = max(seen, key=lambda one: one.last)
    summary = f"Perhaps it began with {words.error_words(record)}, which nobody caught in a {record.how}."
    against = (f"an exception in a {record.how} does not by itself end the process",)
    evidence = tuple(words.exception_lines(clues, record))
    return Cause(f"uncaught_in_{record.how}", summary, "possible", evidence, against)


Rule = Callable[[Clues, Found], Cause | None]

#: In the order of asking; among equally sure causes also the order of the ranks.
RULES: tuple[Rule, ...] = (
    worker_timeout, oom_killed, stack_overflow, uncaught, machine_stopped, hang, crash, by_signal, leaving,
    unseen_exception, untold_kill, untold_term, untold_exit, untold_crash, memory_error_seen, uncaught_elsewhere,
)  # fmt: skip


def diagnose(evidence: Evidence) -> Verdict:
    """Rank what may have ended the process, each cause with what speaks for and against it. Never raises."""
    if evidence.state == "alive":
        summary = "It is alive: this is no post-mortem." + _reason(evidence)
        return Verdict(evidence.state, summary)
    clues = words.gather(evidence)
    if not clues.ended:
        summary = "Whether it is dead can't be told from here." + _reason(evidence)
        return Verdict(evidence.state, summary, (), clues.after, None)
    found: Found = ()
    for rule in RULES:
        cause = rule(clues, found)
        if cause is not None:
            found += (cause,)
    ranked = tuple(sorted(found, key=lambda cause: CONFIDENCES.index(cause.confidence)))
    return Verdict(evidence.state, _summary(clues, ranked), ranked, clues.after, clues.before)


def _summary(clues: Clues, ranked: Found) -> str:
    if not ranked:
        return "It ended; how can't be told." + _reason(clues.evidence)
    busy = words.doing(clues, (clues.crash_thread.ident or None) if clues.crash_thread else None)
    what = ranked[0].summary.removesuffix(".") + (f", in the middle of {busy}." if busy else ".")
    # Cause and confidence are shown apart; this sentence has to say by itself how sure it is.
    return f"Most likely: {what[0].lower()}{what[1:]}" if ranked[0].confidence == "likely" else what


def _reason(evidence: Evidence) -> str:
    return f" ({words.short(evidence.reason, 200)})" if evidence.reason else ""
