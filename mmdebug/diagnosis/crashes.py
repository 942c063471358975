"""The hypotheses of a crash: by faulthandler's text, by the signal that the parent was told, or by both."""

from __future__ import annotations

from signal import Signals

from ..records import FaultFrame
from .clues import Clues, age, innermost, memory, short, signal_name, status_lines, thread_name
from .verdict import Cause

#: faulthandler's words, the signal, the cause's name, and for people what it is and most often the work of.
KINDS = (
    (
        "Segmentation fault",
        Signals.SIGSEGV,
        "segmentation_fault",
        "a segmentation fault (SIGSEGV)",
        "a bad pointer in C",
    ),
    ("Bus error", Signals.SIGBUS, "bus_error", "a bus error (SIGBUS)", "a mapped file that was cut, or a full disk"),
    ("Aborted", Signals.SIGABRT, "abort", "an abort (SIGABRT)", "C code that called abort()"),
    ("Floating point exception", Signals.SIGFPE, "floating_point_exception", "SIGFPE", "a division by 0 in C code"),
    ("Illegal instruction", Signals.SIGILL, "illegal_instruction", "SIGILL", "code built for another CPU"),
)
CRASHES = frozenset(int(kind[1]) for kind in KINDS)
#: The interpreter's own fatal errors end in abort().
OTHER = ("", Signals.SIGABRT, "abort", "an abort (SIGABRT)", "an interpreter that gave up")
#: From that many frames on, and with no more functions than that, a stack counts as endless recursion.
DEEP, FEW = 60, 6


def stack_overflow(clues: Clues, found: tuple[Cause, ...]) -> Cause | None:
    if not clues.crashed or any(cause.confidence == "certain" for cause in found):
        return None
    told = any(word in clues.headline for word in ("_Py_CheckRecursiveCall", "Cannot recover from stack overflow"))
    frames = clues.crash_thread.frames if clues.crash_thread else ()
    again = "Segmentation fault" in clues.headline and _repeats(frames)
    if not told and not again:
        return None
    confidence, against = _fit(clues, Signals.SIGABRT if told else Signals.SIGSEGV)
    if again:
        # A deep recursion may also have run into another fault at its end.
        confidence = "likely" if confidence == "certain" else confidence
        against.append("Python's text shows a deep recursion, not how large the C stack was")
    evidence = _where(clues)
    if frames:
        some = list(dict.fromkeys(short(frame.function, 40) for frame in frames))[:3]
        many = f"{len(frames)} or more" if len(frames) >= 99 else str(len(frames))
        evidence.append(f"{many} frames on its stack, of {', '.join(some)}: recursion")
    summary = "It overflowed the stack of a thread by endless recursion."
    return Cause("stack_overflow", summary, confidence, tuple(evidence), tuple(against))


def _repeats(frames: tuple[FaultFrame, ...]) -> bool:
    """Whether the innermost frames go round in a few functions."""
    return len(frames) >= DEEP and len({(one.file, one.function) for one in frames[:DEEP]}) <= FEW


def crash(clues: Clues, found: tuple[Cause, ...]) -> Cause | None:
    """SIGSEGV and its like. A signal that its parent sent is no crash, whatever faulthandler wrote then."""
    sure = [cause for cause in found if cause.confidence == "certain"]
    if sure or clues.sent(clues.number) is not None:
        return None
    known = next((kind for kind in KINDS if clues.number == kind[1]), None)
    if clues.crashed:
        line = clues.headline.replace("Floating-point", "Floating point")
        kind = next((kind for kind in KINDS if line.startswith(f"Fatal Python error: {kind[0]}")), OTHER)
        confidence, against = _fit(clues, kind[1])
    elif known:
        kind, confidence, against = known, "certain", []
    else:
        return None
    if any(cause.confidence == "likely" for cause in found):
        confidence = "possible"
    evidence = _where(clues)
    if not clues.crashed:
        if clues.evidence.fault_handler:
            evidence.append("a fault handler was on, and wrote nothing")
        elif clues.evidence.fault_handler is False:
            evidence.append("no fault handler was on: where it happened is not known")
        if kind[1] == Signals.SIGABRT:
            evidence.append("Python's own fatal errors are told on stderr alone, and end like this")
        evidence.append(f"somebody can also have sent it; {clues.none_sent(signal_name(kind[1]))}")
    if (held := memory(clues)) and held[0] >= 0.9:
        evidence.append(held[1])
    begin = "Perhaps ended" if confidence == "possible" else "Ended"
    summary = f"{begin} by {kind[3]}, most often the work of {kind[4]}."
    return Cause(kind[2], summary, confidence, tuple(evidence), tuple(against))


def _fit(clues: Clues, number: int) -> tuple[str, list[str]]:
    """How sure a text of faulthandler's makes that signal, given what else is known of the end."""
    child = "a child that it forked may have written that text"
    if clues.number is not None:
        if clues.number == number:
            return "certain", []
        return "likely", [f"{signal_name(clues.number)} ended it in the end"]
    if clues.code is not None:
        return "possible", [f"it left with exit code {clues.code}, by itself: {child}"]
    if clues.closed:
        return "likely", [f"it closed its file: this was at its very end, or {child}"]
    if clues.evidence.state == "died":
        return "certain", []
    return "likely", ["whether it is dead can't be told from here"]


def _where(clues: Clues) -> list[str]:
    """The headline, the thread with its innermost frame, and what that thread was in."""
    lines = []
    if clues.crashed:
        lines.append(f"faulthandler wrote {short(clues.headline, 160)!r}")
    thread = clues.crash_thread
    if thread is not None and clues.crashed:
        at = ""
        if thread.frames:
            top = thread.frames[0]
            at = f", at {short(top.file, 120)}:{top.line if top.line is not None else '?'} {short(top.function, 60)}"
        lines.append(f"it happened in {thread_name(clues, thread.ident, thread.name)}{at}")
        mine = innermost(tuple([one for one in clues.evidence.activities if one.thread == thread.ident]))
        lines += [f"that thread was in {age(clues, one)}" for one in mine[:3]]
        if len(mine) > 3:
            lines.append(f"and in {len(mine) - 3} more, of other greenlets or tasks")
    return lines + status_lines(clues)
