"""What a process answered, as text for people. Pure; the screen escapes what needs it."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmstats.commands.console import Console
from mmstats.commands.show import rows_of
from mmstats.commands.text import age, duration, printable, size

from ..client.data import Inspection, Result, Welcome, Where
from ..errors import RemoteError
from ..records import Activity, Box, ExceptionRecord
from ..report import content

if TYPE_CHECKING:
    import mmstats

#: Characters of a service's name in the prompt, and of what else a process says of itself; and how many versions.
NAME = 30
VERSIONS = 10
PLACES = {"hub": "the hub", "loop": "the event loop", "main": "the main thread", "native": "a native thread"}
KINDS = {"gevent": "a gevent hub", "asyncio": "an asyncio loop", "threads": "plain threads"}
#: What `auto` means, by kind.
_DEFAULTS = {"gevent": "on the hub", "asyncio": "on the event loop", "threads": "in a native thread"}

#: What one can and can't do in the fallback, by kind.
FALLBACK = {
    "gevent": "gevent.sleep, queues and sockets work there on a private hub; gevent's subprocess does not, and"
    " greenlets of the application can't be woken from there.",
    "asyncio": "There is no event loop: `await` does not work there.",
    "threads": "",
}

_TITLES = {"timeout": "Stopped at the time limit", "interrupted": "Stopped"}

READ_ONLY = "This process takes questions only and runs no code (read-only): %help lists them."


def name(welcome: Welcome) -> str:
    """A process in few words."""
    return f"{printable(welcome.service)[:NAME] or 'process'} {welcome.pid}"


def banner(welcome: Welcome, uptime: float | None, where: str, timeout: float | None) -> str:
    """Who answered, and what holds for the session."""
    facts = [f"pid {welcome.pid}" + (f" on {welcome.host[:NAME]}" if welcome.host else "")]
    facts += [f"up {age(uptime)}"] if uptime is not None else []
    versions = [f"{name} {version}"[:NAME] for name, version in welcome.versions.items() if name != "python"]
    python = f"Python {welcome.python.partition(' ')[0][:NAME]}"
    runs = [KINDS.get(welcome.kind, welcome.kind), python, *versions[:VERSIONS]]
    lines = [f"{welcome.service[:NAME] or 'process'}, {', '.join(facts)}: {', '.join(runs)}"]
    if welcome.read_only:
        lines.append("Read-only: it answers questions and runs no code.")
    else:
        lines.append(f"Commands run {place(welcome, where)}; {limits(welcome, timeout)}.")
    idle = welcome.limits.get("idle")
    stays = f" After {age(idle)} without a question it ends the session." if idle else ""
    lines.append(f"%help lists what there is. Ctrl-D leaves: the process goes on.{stays}")
    return _joined(lines)


def place(welcome: Welcome, where: str) -> str:
    """Where commands go, as part of a sentence."""
    if where == "native":
        return "in a native thread"
    if where == "main":
        return "in the main thread, in the midst of what it does"
    default = _DEFAULTS.get(welcome.kind, "where the process decides")
    if where == "app" and welcome.kind == "threads":
        return "in the main thread"
    return default


def limits(welcome: Welcome, timeout: float | None) -> str:
    """What a command may take."""
    told = [
        "no time limit" if not timeout else f"{age(timeout)} at most" if timeout >= 60 else f"{timeout:g} s at most"
    ]
    for name, what in (("output", "of output"), ("result", "of a result")):
        limit = welcome.limits.get(name)
        told += [f"{size(limit)} {what}"] if limit else []
    return ", ".join(told)


def about_result(result: Result, start: int = 0) -> list[str]:
    """Sentences on what of a result is not there to see."""
    told = []
    if result.cut and result.shown is not None and result.total is not None and result.total > start + result.shown:
        told.append(
            f"(items {start + 1:,} to {start + result.shown:,} of {result.total:,}: %more shows the next)"
            if result.shown
            else f"(of {result.total:,} items the first one is too large to show: ask for a part of it)"
        )
    elif result.cut:
        told.append("(cut: not all of it is shown; ask for a part of it)")
    told += about_output(result.dropped)
    others = [mime for mime in result.data if mime != "text/plain"]
    if others:
        told.append(f"(also there as {', '.join(sorted(others))}: a notebook shows that)")
    return told


def about_output(dropped: int) -> list[str]:
    """A sentence on output that was lost."""
    if not dropped:
        return []
    return [
        f"({size(dropped)} of output were left out, as more than the limit for one command: print less at once, or"
        " into a file there)"
    ]


def failure(error: RemoteError) -> str:
    """What failed, without its traceback."""
    title = error.name if error.kind == "exception" else _TITLES.get(error.kind, error.kind.capitalize())
    if error.stuck:
        title = "Not stopped"
    message = str(error)
    return f"{title}." if message == error.kind else f"{title}: {message}" if title else message


def about_time(result: Result) -> list[str]:
    """How long it took, if that was long."""
    if result.seconds <= 1:
        return []
    return [f"({duration(result.seconds)}, in {PLACES.get(result.where, result.where)})"]


def next_start(result: Result, start: int) -> int | None:
    """Where the next part of a result begins; None if there is none."""
    if not result.cut or not result.shown or result.total is None or result.total <= start + result.shown:
        return None
    return start + result.shown


def fallback(reason: str, kind: str) -> str:
    """Why a command does not run where it was meant to, and what follows from that."""
    return _joined([line for line in (sentence(reason), FALLBACK.get(kind, "")) if line])


def sentence(text: str) -> str:
    """What was said, as a sentence of its own."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ")", ":")) or not text else ".")


def inspection(found: Inspection) -> str:
    """All that is known of a name, without its source."""
    if not found.found:
        return f"{found.name or 'That'} is not known there."
    rows = [("Signature", found.signature), ("Type", found.type), ("Text", found.text)]
    rows.append(("File", f"{found.file}:{found.line}" if found.line is not None else found.file))
    lines = []
    for label, value in rows:
        if value:
            lines.append(f"{label + ':':<11}{_indented(value.rstrip())}")
    if found.doc:
        lines += ["Docstring:", found.doc.rstrip()]
    return "\n".join(lines) or f"{found.name}: nothing is known of it."


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 11)


def whereabouts(found: Where, chosen: str, welcome: Welcome) -> str:
    """Where commands run, and whether that place comes to them."""
    lines = [] if welcome.read_only else [f"Commands run {place(welcome, chosen)} (%where {chosen})."]
    name = found.place or KINDS.get(found.kind, found.kind)
    if found.answers:
        took = f" after {duration(found.seconds)}" if found.seconds is not None else ""
        lines.append(f"{name}: it answered{took}.")
    else:
        took = f" for {duration(found.seconds)}" if found.seconds is not None else ""
        lines.append(f"{name}: it has not answered{took}. %stacks shows what it is doing.")
    if found.places and not welcome.read_only:
        lines.append(f"To choose: %where {' | '.join(dict.fromkeys(('auto', *found.places)))}")
    return _joined(lines)


def stats(snapshot: mmstats.Snapshot, containing: str | None, ascii_only: bool) -> str:
    """Its fields as a table."""
    rows = rows_of(snapshot, ascii_only, everything=containing is not None, containing=containing)
    if not rows:
        return "(no fields)" if containing is None else f"(no fields with {containing!r} in their name)"
    stream = io.StringIO()
    Console(stream, colour=False, plain=True).table(("NAME", "LABELS", "VALUE", "HELP"), rows)
    lines = [stream.getvalue().rstrip("\n"), *[f"note: {printable(problem)}" for problem in snapshot.problems]]
    return "\n".join(lines)


def activities(box: Box, now: int | None = None) -> str:
    """What is in progress, and since when."""
    if not box.activities:
        return "Nothing is in progress, as far as it records that."
    now = now or time.time_ns()
    lines = []
    for group in content.by_owner(box.activities):
        outermost = min(activity.depth for activity in group)
        lines += [_activity(activity, box, outermost, now) for activity in group]
    return _joined(lines)


def _activity(activity: Activity, box: Box, outermost: int, now: int) -> str:
    seconds = max(now - activity.started, 0) / 1e9
    lasts = f"{seconds:.3f} s" if seconds < 100 else age(seconds)
    inside = "  " * min(activity.depth - outermost, 8)
    told = f"{activity.name} {content.fields(activity.fields.items())}".rstrip()
    return f"{lasts:>10}  {_owner(box, activity.thread, activity.context)}  {inside}{told}"


def _owner(box: Box, thread: int, context: int) -> str:
    name = box.threads.get(thread) or (f"thread {thread:#x}" if thread else "-")
    return f"{name} / {context:#x}" if context else name


def exceptions(box: Box) -> str:
    """The distinct errors, the newest first, each with a number."""
    if not box.exceptions:
        return "No exceptions were recorded."
    lines = []
    for number, record in enumerate(content.by_weight(box.exceptions), 1):
        message = record.error.message[:200] if record.error is not None else "(its details can't be read)"
        lines.append(f"{number:>3}. {record.type}: {message}")
        lines.append(f"     {record.count:,}x, last at {content.moment(record.last)}, {record.how}, at {record.place}")
    return _joined([*lines, "%exceptions N shows one with its frames and their locals."])


def exception(record: ExceptionRecord) -> str:
    """One error with its frames, and what it came from."""
    lines = [f"{record.count:,}x, last at {content.moment(record.last)}, {record.how}"]
    for link in content.chain(record.error):
        error = link.error
        lines.append(f"{link.relation + ': ' if link.relation else ''}{error.type}: {error.message}")
        lines += [f"  {note}" for note in error.notes]
        for frame in error.frames:
            lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.function}')
            source = content.line_of(frame)
            lines += [f"    {source}"] if source else []
            lines += [f"      {name} = {value}" for name, value in frame.locals.items()]
    return _joined(lines)


def _joined(lines: Sequence[str]) -> str:
    """Lines of which none can become two."""
    return "\n".join([printable(line) for line in lines])


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns."""
    width = max([len(left) for left, _ in rows], default=0)
    return "\n".join([f"{left.ljust(width)}  {right}".rstrip() for left, right in rows])
