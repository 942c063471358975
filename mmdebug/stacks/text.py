"""Stacks as text for people: the main thread first, then groups of alike ones, the largest first. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ..capture.safetext import clean
from . import KINDS, Frame, Stack, Stacks, Wait

#: Groups that are shown, and frames of each, the outermost and the innermost ones, unless all are asked for.
MAX_SHOWN = 40
OUTER, INNER = 6, 24
#: Characters of a line.
MAX_LINE = 160

_MARKS = ("site-packages/", "dist-packages/")
_BOLD, _DIM, _RED, _YELLOW = "1", "2", "31", "33"

_WAITS = {
    "lock": "waits for a lock",
    "queue": "waits for a queue",
    "event": "waits for an event",
    "socket": "waits for a socket",
    "sleep": "sleeps",
    "greenlet": "waits for a greenlet",
    "thread": "waits for a thread",
    "task": "waits for a task",
    "process": "waits for a process",
}


def render(stacks: Stacks, colour: bool = False, everything: bool = False) -> str:
    """All of it, without anything that could move a cursor.

    everything: all groups, and all their frames, instead of what a person can read
    """
    return "\n".join(_lines(stacks, _Paint(colour), everything))


class _Paint:
    """Colours for a terminal, or none."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text


def _lines(stacks: Stacks, paint: _Paint, everything: bool) -> Iterator[str]:
    yield headline(stacks)
    for problem in stacks.problems:
        yield paint(f"! {one_line(problem)}", _RED)
    ordered = ordered_of(stacks.stacks)
    shown = ordered if everything else ordered[:MAX_SHOWN]
    threads = [stack for stack in ordered if stack.kind == "thread"]
    for stack in shown:
        yield ""
        yield paint(heading(stack), _BOLD)
        if stack.wait is not None:
            yield paint(f"  {waiting(stack.wait)}", _YELLOW)
            if stack.wait.holder:
                yield paint(f"  held by {one_line(stack.wait.holder)}", _YELLOW)
        twin = _thread_of(stack, threads)
        if twin is not None:
            yield f"  in the thread {one_line(_named(twin))}, whose calls are above"
        else:
            yield from _frames(stack, paint, everything)
    rest = ordered[len(shown) :]
    if rest:
        yield ""
        yield f"and {sum([stack.count for stack in rest]):,} more stacks in {len(rest):,} groups: --all shows them"


def headline(stacks: Stacks) -> str:
    """What there is, in one line."""
    parts = []
    for kind in KINDS:
        count = stacks.total.get(kind, 0)
        if count:
            parts.append(f"{count:,} {kind}" if count == 1 else f"{count:,} {kind}s")
    source = "" if stacks.source == "manhole" else f", by {one_line(stacks.source)}"
    counted = ", ".join(parts) or "no stacks"
    return f"pid {stacks.pid}: {counted}; taken {_moment(stacks.taken)} in {stacks.seconds * 1000:.0f} ms{source}"


def ordered_of(stacks: Sequence[Stack]) -> list[Stack]:
    """The main thread first, the other threads, then all else, the largest groups first."""
    return sorted(stacks, key=lambda stack: (stack.kind != "thread", "MainThread" not in stack.names, -stack.count))


def heading(stack: Stack) -> str:
    """Who it is, or how many, and where from."""
    if stack.count == 1:
        name = one_line(_named(stack))
        who = name if stack.kind == "greenlet" and "greenlet" in name.lower() else f"{stack.kind} {name}"
    else:
        who = f"{stack.count:,} {stack.kind}s alike"
        names = ", ".join([one_line(name) for name in stack.names[:3]])
        who += f" ({names}{', ...' if stack.count > 3 else ''})" if names else ""
    place = origin(stack)
    spawned = f", spawned at {place}" if place else ""
    return f"{who}{', running' if stack.running else ''}{spawned}"


def origin(stack: Stack) -> str:
    """Where it was started: the innermost place in the program's own code."""
    own = [frame for frame in stack.spawned if not is_library(frame)] or stack.spawned
    return f"{one_line(short(own[-1].file))}:{own[-1].line} in {one_line(own[-1].function)}" if own else ""


def waiting(wait: Wait) -> str:
    """What it waits for, in words."""
    if wait.what not in _WAITS:
        return f"waits for {one_line(wait.detail)}" if wait.detail else "waits"
    if wait.what in ("greenlet", "task") and wait.detail:
        return f"waits for {one_line(wait.detail)}"
    return f"{_WAITS[wait.what]}{': ' if wait.detail else ''}{one_line(wait.detail)}"


def _frames(stack: Stack, paint: _Paint, everything: bool) -> Iterator[str]:
    rows = list(_repeated(stack.frames))
    cut = stack.cut
    if cut:
        yield paint(f"  ... {cut:,} outer calls are left out", _DIM)
    for number, (frame, times) in enumerate(rows):
        hidden = len(rows) - OUTER - INNER
        if not everything and hidden > 0 and OUTER <= number < OUTER + hidden:
            if number == OUTER:
                yield paint(f"  ... {hidden:,} more calls: --all shows them", _DIM)
            continue
        where = f"{short(frame.file)}:{frame.line if frame.line is not None else '?'}"
        line = f"  {one_line(where)} {one_line(frame.function)}"
        source = f"  {one_line(frame.source)}" if frame.source else ""
        yield paint(line, _DIM) + paint(source, _DIM) if is_library(frame) else line + source
        if times > 1:
            yield paint(f"    the same {times - 1:,} times more", _DIM)


def _repeated(frames: Sequence[Frame]) -> Iterator[tuple[Frame, int]]:
    """Each frame, and how many times it comes in a row: a recursion."""
    at = 0
    while at < len(frames):
        end = at
        while end < len(frames) and frames[end] == frames[at]:
            end += 1
        yield frames[at], end - at
        at = end


def _thread_of(stack: Stack, threads: Sequence[Stack]) -> Stack | None:
    if stack.kind == "thread" or not stack.running or not stack.frames:
        return None
    for thread in threads:
        if thread.frames[-len(stack.frames) :] == stack.frames:
            return thread
    return None


def _named(stack: Stack) -> str:
    return stack.names[0] if stack.names and stack.names[0] else str(stack.idents[0]) if stack.idents else "?"


def is_library(frame: Frame) -> bool:
    """Whether it is of an installed package or of the standard library."""
    return short(frame.file) != frame.file or frame.file.startswith("<frozen ")


def short(file: str) -> str:
    """A file of a library by its name within that; others in full."""
    for mark in _MARKS:
        _, found, rest = file.rpartition(mark)
        if found:
            return rest
    found, rest = file.rpartition("/lib/python3.")[1:]
    return rest.partition("/")[2] or file if found else file


def one_line(text: str) -> str:
    """Remote text on one line, with what is not printable spelled out, and not too long."""
    shown = clean(text).replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(shown) <= MAX_LINE else f"{shown[: MAX_LINE - 3]}..."


def _moment(nanoseconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(nanoseconds / 1e9))
    except (OverflowError, ValueError, OSError):
        return "at an unknown time"
