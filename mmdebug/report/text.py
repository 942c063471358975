"""A post-mortem as text, on about one screen: what is not shown is counted, and `everything` shows it."""

from __future__ import annotations

import io
import shutil
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmstats.commands import text
from mmstats.commands.console import Console, identity
from mmstats.commands.show import rows_of

from ..compare import Series, standouts
from ..diagnosis import Cause
from ..diagnosis.clues import OF_SAMPLER
from ..ending import End, end_of
from ..records import CapturedError, ExceptionRecord, Frame
from . import content

if TYPE_CHECKING:
    from ..manifest import Manifest
    from ..postmortem import PostMortem


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each is shown."""

    evidence: int
    causes: int
    activities: int
    events: int
    errors: int
    exceptions: int
    frames: int
    linked: int
    fault: int
    stats: int
    parked: int


SCREEN = Limits(
    evidence=5,
    causes=3,
    activities=8,
    events=10,
    errors=4,
    exceptions=4,
    frames=3,
    linked=2,
    fault=5,
    stats=5,
    parked=5,
)
ALL = Limits(*[1 << 30] * 11)


@dataclass(frozen=True, slots=True)
class Page:
    """What all parts of a report need."""

    console: Console
    found: PostMortem
    end: End | None
    now: int
    width: int
    limits: Limits

    def line(self, content: str = "", indent: int = 0) -> None:
        """One line of text from a file, cut to the page."""
        self.console.line(" " * indent + self.cut(text.printable(content), self.width - indent))

    def paragraph(self, content: str, first: str = "", rest: str = "") -> None:
        """A text from a file, wrapped to the page."""
        lines = textwrap.wrap(text.printable(content), self.width, initial_indent=first, subsequent_indent=rest)
        for line in lines:
            self.console.line(line)

    def heading(self, content: str, state: str = "") -> None:
        """The begin of a part."""
        self.console.line()
        self.console.heading(self.cut(text.printable(content), self.width), state)

    def cut(self, content: str, width: int) -> str:
        if self.limits is ALL or len(content) <= width:
            return content
        mark = "..." if self.console.ascii_only else "…"
        return content[: max(width - len(mark), 0)] + mark

    def table(self, rows: Sequence[Sequence[str]], numeric: Sequence[int] = (), headers: Sequence[str] = ()) -> None:
        """Rows of texts from a file; the last column is cut to what room there is."""
        if not rows:
            return
        shown = [["  " + text.printable(row[0]), *[text.printable(cell) for cell in row[1:]]] for row in rows]
        heads = ["  " + headers[0], *headers[1:]] if headers else [""] * len(shown[0])
        for column in range(len(heads) - 1):
            for row in shown:
                row[column] = self.cut(row[column], self.width // len(heads))
        used = sum([max(len(row[i]) for row in [heads, *shown]) + 2 for i in range(len(heads) - 1)])
        for row in shown:
            row[-1] = self.cut(row[-1], max(self.width - used, 20))
        self.console.table(heads, shown, numeric)

    def more(self, count: int, what: str) -> None:
        """Say what is not shown."""
        if count > 0:
            self.console.line(f"  ({count:,} more {what}: --all shows them)")


def print_report(
    console: Console,
    found: PostMortem,
    *,
    everything: bool = False,
    bundle: Manifest | None = None,
    now: int | None = None,
    width: int | None = None,
) -> None:
    """Write the report.

    everything: nothing is left out or cut short
    bundle: of the tar that `found.path` is, if it is one
    now: when the files were read or saved, ns since the epoch; width: columns; by default what there is
    """
    now = now or (bundle.saved if bundle is not None else time.time_ns())
    columns = width or max(shutil.get_terminal_size((100, 50)).columns, 60)
    page = Page(console, found, end_of(found, now), now, columns, ALL if everything else SCREEN)
    _verdict(page)
    _who(page)
    _activities(page)
    _fault(page)
    _parked(page)
    _events(page)
    _exceptions(page)
    _stats(page)
    if everything:
        _samples(page)
    _rest(page, bundle)


def as_text(found: PostMortem) -> str:
    """The report without colours."""
    stream = io.StringIO()
    print_report(Console(stream, colour=False, plain=True), found)
    return stream.getvalue()


def _verdict(page: Page) -> None:
    found, verdict = page.found, page.found.verdict
    title = f", pid {found.process.pid}: {text.printable(verdict.state)}"
    service = page.cut(identity(found.process.service), page.width - len(title))
    page.console.heading(service + title, verdict.state)
    page.paragraph(verdict.summary)
    if verdict.state != "alive":
        page.paragraph(bracket_of(found, page.end), "  ", "  ")
    for number, cause in enumerate(verdict.causes[: 1 + page.limits.causes]):
        if number == 1:
            page.console.line("Other possible causes:")
        _cause(page, cause, number == 0)
    page.more(len(verdict.causes) - 1 - page.limits.causes, "causes")


def _cause(page: Page, cause: Cause, first: bool) -> None:
    if not first and page.limits is not ALL:
        page.line(f"{cause.confidence}: {cause.summary}", 2)
        return
    known = first and cause.summary.rstrip(".") in page.found.verdict.summary
    page.paragraph(f"{cause.confidence}{'' if known else f': {cause.summary}'} [{cause.name}]", "  ", "    ")
    for sign, items in (("+", cause.evidence), ("-", cause.against)):
        for item in items[: page.limits.evidence]:
            page.paragraph(item, f"    {sign} ", "      ")
        page.more(len(items) - page.limits.evidence, "of them")


def bracket_of(found: PostMortem, end: End | None) -> str:
    """When it ended, as closely as is known."""
    if end is None:
        return "When it ended is not known."
    if end.exact:
        return f"Times are relative to {content.moment(end.time)}, {end.how}."
    before = found.verdict.before or 0
    latest = f", by {content.lasted(end.time, End(before, False, ''))} at the most" if before >= end.time else ""
    return f"Times are relative to {content.moment(end.time)}, {end.how}: it ended after that{latest}."


def _who(page: Page) -> None:
    found = page.found
    who, stats = found.process, found.stats
    page.heading("Who it was")
    if who.argv:
        page.line(" ".join(who.argv), 2)
    facts = [f"host {who.host}"] if who.host else []
    facts += [f"uid {who.uid}"] if who.uid is not None else []
    facts += [f"{name} {version}" if name != "python" else version for name, version in who.versions.items()]
    if stats.created:
        lived = f", lived {content.lasted(stats.created, page.end)}" if page.end else ""
        facts.append(f"since {content.moment(stats.created)}{lived}")
    if facts:
        page.line(", ".join(facts), 2)
    page.line(found.path, 2)
    if page.limits is ALL:
        box_facts = dict(found.box.facts) if found.box is not None else {}
        page.table([*sorted(who.environ.items()), *sorted(box_facts.items())])


def _activities(page: Page) -> None:
    found = page.found
    if not found.activities:
        return
    page.heading(f"In flight at the end: {len(found.activities)}" if found.verdict.state != "alive" else "In flight")
    rows = []
    for group in content.by_owner(found.activities):
        outermost = min(activity.depth for activity in group)
        for activity in group:
            told = f"{activity.name} {content.fields(activity.fields.items())}".rstrip()
            inside = "  " * min(activity.depth - outermost, 8)
            whose = content.owner(found, activity.thread, activity.context)
            rows.append((content.lasted(activity.started, page.end), whose, inside + told))
    page.table(rows[: page.limits.activities], (0,))
    page.more(len(rows) - page.limits.activities, "activities")


def _fault(page: Page) -> None:
    fault = page.found.fault
    if fault is None:
        return
    thread, inside = content.faulting(page.found)
    page.heading(fault.headline or "Fault", "fail")
    if thread is not None:
        whose = thread.name or content.owner(page.found, thread.ident, 0)
        page.line(f"in {whose}, innermost call first:", 2)
        for frame in thread.frames[: page.limits.fault]:
            line = f", line {frame.line}" if frame.line is not None else ""
            page.line(f'File "{frame.file}"{line}, in {frame.function}', 4)
        page.more(len(thread.frames) - page.limits.fault, "frames")
        for activity in inside:
            page.line(f"it was in the middle of: {activity.name} {content.fields(activity.fields.items())}", 2)
    if page.limits is ALL:
        page.line("faulthandler wrote:", 2)
        for line in fault.text.splitlines():
            page.line(line, 4)


def _parked(page: Page) -> None:
    box = page.found.box
    if box is None or not box.parked:
        return
    total = sum([group.count for group in box.parked])
    page.heading(f"What waited, {total:,} in all, as of {content.relative(box.parked_at, page.end)}")
    rows = []
    for group in box.parked[: page.limits.parked]:
        calls = [f"{frame.function} ({content.place_of(frame)})" for frame in reversed(group.frames)]
        rows.append((f"{group.count:,}x", group.kind, " < ".join(calls if page.limits is ALL else calls[:3])))
    page.table(rows, (0,))
    page.more(len(box.parked) - page.limits.parked, "places")


def _events(page: Page) -> None:
    events = page.found.events
    if not events:
        return
    limits = page.limits
    shown = content.chosen_events(events, limits.events, limits.errors)
    page.heading(f"The last events, of {len(events):,}")
    rows = [
        (content.relative(event.time, page.end), event.severity.upper(), event.logger or event.kind,
         content.sentence(event))
        for event in shown
    ]  # fmt: skip
    page.table(rows, (0,))


def _exceptions(page: Page) -> None:
    records = content.by_weight(page.found.exceptions)
    if not records:
        return
    total = sum(record.count for record in records)
    page.heading(f"Exceptions: {len(records):,} distinct, {total:,} in all")
    for number, record in enumerate(records[: page.limits.exceptions]):
        _exception(page, record, number == 0 or page.limits is ALL)
    page.more(len(records) - page.limits.exceptions, "distinct exceptions")


def _exception(page: Page, record: ExceptionRecord, in_full: bool) -> None:
    message = record.error.message if record.error is not None else "(its details could not be read)"
    last = content.relative(record.last, page.end)
    whose = "" if record.how == "main thread" else content.owner(page.found, record.thread, record.context)
    where = f"{record.how}, {whose}" if whose else record.how
    title = f"{'fatal: ' if record.fatal else ''}{record.type}: {message}"
    if in_full and record.fatal:
        page.console.heading("  " + page.cut(text.printable(title), page.width - 2), "fail")
    else:
        page.line(title, 2)
    page.line(f"{record.count:,}x, last at {last}, {where}, at {record.place}", 4)
    if not in_full:
        return
    linked = content.chain(record.error)
    for number, link in enumerate(linked[: 1 + page.limits.linked]):
        if link.relation:
            page.line(f"{link.relation} {link.error.type}: {link.error.message}", 4 + 2 * link.depth)
        if number == 0 or page.limits is ALL:
            _traceback(page, link.error, 6 + 2 * link.depth)
    page.more(len(linked) - 1 - page.limits.linked, "exceptions that it came from")


def _traceback(page: Page, error: CapturedError, indent: int) -> None:
    frames = error.frames[-page.limits.frames :]
    left_out = len(error.frames) - len(frames)
    if left_out:
        page.console.line(f"{' ' * indent}({left_out:,} outer frames: --all shows them)")
    if error.frames_cut:
        page.console.line(f"{' ' * indent}({error.frames_cut:,} frames in the middle were not recorded)")
    for frame in frames:
        _frame(page, frame, indent)
    for note in error.notes:
        page.line(note, indent)
    if error.exceptions_cut:
        page.console.line(f"{' ' * indent}({error.exceptions_cut:,} more parts were not recorded)")


def _frame(page: Page, frame: Frame, indent: int) -> None:
    page.line(f'File "{frame.file}", line {frame.line}, in {frame.function}', indent)
    if page.limits is ALL:
        for number, source in frame.source:
            page.line(f"{'>' if number == frame.line else ' '} {number:>5}  {source.expandtabs(4)}", indent + 2)
        for name, value in frame.locals.items():
            page.line(f"{name} = {value}", indent + 4)
        if frame.cut:
            page.console.line(f"{' ' * (indent + 4)}({frame.cut:,} more locals were not recorded)")
        return
    if content.line_of(frame):
        page.line(content.line_of(frame), indent + 2)
    if frame.locals:
        page.line(", ".join([f"{name} = {value}" for name, value in frame.locals.items()]), indent + 2)


def _stats(page: Page) -> None:
    found, limits = page.found, page.limits
    odd = standouts(found, page.now) if found.siblings else []
    if odd:
        page.heading(f"Stats that stand out against its {len(found.siblings)} siblings")
        rows = [series_row(item) for item in odd[: limits.stats]]
        page.table(rows, (1,), ("NAME", "ITS VALUE", "THE SIBLINGS' MEDIAN (AND RANGE)"))
        page.more(len(odd) - limits.stats, "series")
    if odd and limits is not ALL:
        return
    stats = rows_of(found.stats, page.console.ascii_only, everything=limits is ALL)
    # The sampler's own always move, and must not push out what the program counts.
    named = sorted(_named(stats), key=lambda pair: pair[0].startswith(OF_SAMPLER))
    moved = {text.printable(name) for name in content.moved(found)}
    last = [(name, row) for name, row in named if name in moved]
    stats = [row for _, row in named]
    if limits is not ALL and any(not name.startswith(OF_SAMPLER) for name, _ in last):
        stats = [row for _, row in last]
        page.heading("The stats that moved last")
    else:
        page.heading("Its last stats")
    if not stats:
        page.console.line("  (none)")
    # Where there is nothing else to show, there is room for them.
    most = limits.stats if found.box is not None else max(limits.stats, 20)
    page.table([row[:3] for row in stats[:most]])
    page.more(len(stats) - most, "series")


def _named(rows: Iterable[tuple[str, str, str, str]]) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """Each row with its series' name and labels as they are noted where it moved; rows repeat no name."""
    name = ""
    for row in rows:
        name = row[0] or name
        yield (f"{name}{{{row[1]}}}" if row[1] else name), (name, *row[1:])


def series_row(item: Series) -> tuple[str, str, str]:
    """A series that stands out: its name, its value, and that of the others."""
    inside = ",".join([f"{name}={value}" for name, value in item.labels])
    what = "" if item.what == "value" else f" {item.what}"
    unit = "" if item.what in ("per second", "count") else item.unit

    def show(value: float) -> str:
        return text.number(value, unit)

    name = item.name + (f"{{{inside}}}" if inside else "") + what
    beside = f"{show(item.median)} ({show(item.low)} to {show(item.high)}, of {item.others})"
    return name, show(item.value), beside


def _samples(page: Page) -> None:
    samples = page.found.samples
    if not samples:
        return
    page.heading("Samples of the runtime")
    rows = []
    for sample in samples:
        values = ", ".join([f"{name} {sample_value(name, value)}" for name, value in sample.values.items()])
        more = f" and {sample.more} more" if sample.more else ""
        told = f"{values}; moved: {', '.join(sample.moved)}{more}" if sample.moved else values
        rows.append((content.relative(sample.time, page.end), told))
    page.table(rows, (0,))


#: Units of what the sampler measures.
_UNITS = {"rss": "bytes", "cpu": "seconds", "lag": "seconds"}


def sample_value(name: str, value: float) -> str:
    """A number of the sampler's with its unit."""
    return text.number(value, _UNITS.get(name, ""))


def _rest(page: Page, bundle: Manifest | None) -> None:
    page.console.line()
    for note in notes(page.found, bundle):
        page.paragraph(note, "note: ", "      ")
    page.console.heading("Where to look for the rest")
    rows = content.commands(page.found, bundled=bundle is not None)
    page.console.table(("", ""), [(f"  {command}", what) for command, what in rows])


def notes(found: PostMortem, bundle: Manifest | None) -> Iterable[str]:
    """What is not there, and why: a line each."""
    if bundle is not None:
        yield f"as it was judged when it was saved, {content.moment(bundle.saved)}, on {bundle.host or 'some machine'}"
        yield from bundle.notes
    if found.box is None and any(".box" in problem for problem in found.problems):
        yield "its recorder's file could not be read, so there are no events, activities or exceptions"
    elif found.box is None:
        yield (
            "no recorder was on in it, so there are no events, activities or exceptions:"
            " `mmdebug run -- COMMAND` or `mmdebug.install()` switches it on"
        )
    else:
        assert found.box is not None
        lost = [f"{count:,} {what}" for what, count in sorted(found.box.lost.items()) if count]
        if lost:
            yield f"overwritten by newer ones, or without room: {', '.join(lost)}"
    if found.box is not None and not found.events and not found.exceptions and not found.activities:
        yield "its recorder holds no event, no activity and no exception"
    yield from found.problems
