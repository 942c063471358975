"""How our objects look in IPython: pages and tables in a notebook, text in a terminal."""

from __future__ import annotations

import html
import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmstats.commands import text
from mmstats.commands.console import Console
from mmstats.errors import MmStatsError

from ..ending import end_of
from ..escape import clean
from ..postmortem import PostMortem
from ..records import Activity, Event, ExceptionRecord, Sample
from ..report import content, print_report

#: Rows that are shown; more are counted.
MOST_ROWS = 1000
#: Characters of a cell of a table.
MOST_TEXT = 600


@dataclass(frozen=True)
class Table:
    """Rows of texts that IPython shows as a table. It is also the sequence of `items`, one for each row.

    numeric: the columns that are aligned to the right
    empty: what is said where there are no rows
    """

    items: tuple[Any, ...]
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    empty: str = "nothing"

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __repr__(self) -> str:
        if not self.rows:
            return self.empty
        kept = Kept()
        console = Console(kept, colour=False, plain=True)
        console.table([header.upper() for header in _printable(self.headers)], self._shown(), self.numeric)
        if self._more():
            console.line(self._more())
        return kept.getvalue().rstrip("\n")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{html.escape(self.empty)}</p>"
        head = "".join([self._cell("th", i, header) for i, header in enumerate(_printable(self.headers))])
        body = [
            f"<tr>{''.join([self._cell('td', i, cell) for i, cell in enumerate(row)])}</tr>" for row in self._shown()
        ]
        more = f"<p>{self._more()}</p>" if self._more() else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{more}"

    def _cell(self, tag: str, column: int, value: str) -> str:
        side = "right" if column in self.numeric else "left"
        return f'<{tag} style="text-align: {side}; vertical-align: top">{html.escape(value)}</{tag}>'

    def _shown(self) -> list[list[str]]:
        """The rows, with nothing in them that could move a cursor."""
        return [_printable(row) for row in self.rows[-MOST_ROWS:]]

    def _more(self) -> str:
        left_out = len(self.rows) - MOST_ROWS
        return f"({left_out:,} more before these)" if left_out > 0 else ""


def _printable(cells: Iterable[str]) -> list[str]:
    return [text.printable(cell[:MOST_TEXT]) for cell in cells]


def table(records: Iterable[Any]) -> Table:
    """Events, activities, exceptions or samples of a process as a table, the newest at the end.

    Raises `TypeError` for records of another or of more than one kind.
    """
    items = tuple(records)
    kinds = {type(item) for item in items}
    if not kinds:
        return Table((), (), ())
    columns = _COLUMNS.get(kinds.pop())
    if columns is None or kinds:
        raise TypeError("a table is of events, activities, exceptions or samples, and of one kind of them")
    headers, row = columns
    return Table(items, headers, tuple([row(item) for item in items]), (0,))


def _of_event(event: Event) -> tuple[str, ...]:
    return _clock(event.time), event.severity, event.logger or event.kind, content.sentence(event)


def _of_activity(activity: Activity) -> tuple[str, ...]:
    return (
        _clock(activity.started),
        "  " * min(activity.depth, 8) + activity.name,
        content.fields(activity.fields.items()),
    )


def _of_exception(record: ExceptionRecord) -> tuple[str, ...]:
    message = record.error.message if record.error is not None else ""
    return _clock(record.last), f"{record.count:,}", record.type, message, record.how, record.place


def _of_sample(sample: Sample) -> tuple[str, ...]:
    from ..report.text import sample_value

    values = ", ".join([f"{name} {sample_value(name, value)}" for name, value in sample.values.items()])
    return _clock(sample.time), values, ", ".join(sample.moved)


_COLUMNS: dict[type, tuple[tuple[str, ...], Callable[[Any], tuple[str, ...]]]] = {
    Event: (("time", "severity", "logger", "what"), _of_event),
    Activity: (("since", "what", "fields"), _of_activity),
    ExceptionRecord: (("last", "count", "type", "message", "how", "place"), _of_exception),
    Sample: (("time", "values", "moved"), _of_sample),
}


def deaths_table(found: Sequence[PostMortem], empty: str) -> Table:
    """Deaths, the newest first as they come."""
    now = time.time_ns()
    rows = []
    for death in found[:MOST_ROWS]:
        end = end_of(death, now)
        when = ("" if end.exact else "after ") + content.moment(end.time) if end else "not known"
        who = death.process
        doing = " > ".join([activity.name for group in content.by_owner(death.activities)[:1] for activity in group])
        rows.append((when, who.service or "-", str(who.pid), doing or "-", death.verdict.summary))
    headers = ("when", "service", "pid", "in the middle of", "verdict")
    return Table(tuple(found[:MOST_ROWS]), headers, tuple(rows), (2,), empty)


def _clock(ns: int) -> str:
    """The time of day with milliseconds."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(ns // 1_000_000_000)) + f".{ns // 1_000_000 % 1000:03}"
    except (OverflowError, ValueError, OSError):
        return f"{ns} ns"  # no time of this world: what is in the file is damaged


# Post-mortems and processes, by IPython's formatters: they know what their classes need not know.


class Kept(io.StringIO):
    """Text that is shown by what can show all of Unicode."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


def as_text(found: PostMortem, *, everything: bool = False) -> str:
    """The report of ``mmdebug postmortem``."""
    kept = Kept()
    console = Console(kept, colour=False, plain=True)
    print_report(console, found, everything=everything)
    console.flush()
    return kept.getvalue().rstrip("\n")


def as_html(found: PostMortem) -> str | None:
    """The report as HTML; None, so that IPython shows the text, where there is no jinja2."""
    from ..report.html import fragment

    try:
        return fragment(found)
    except MmStatsError:
        return None


#: By the full names of classes: how they look as text, as HTML, and as what their values are.
_TEXT: dict[str, Callable[[Any], str]] = {
    "mmdebug.postmortem.PostMortem": as_text,
    "mmdebug.stacks.Stacks": lambda stacks: clean(str(stacks)),
}
_HTML: dict[str, Callable[[Any], str | None]] = {
    "mmdebug.postmortem.PostMortem": as_html,
    "mmdebug.processes.Process": lambda process: as_html(process.postmortem()),
}


def add_formatters(shell: Any) -> None:
    """Have `shell` show post-mortems, processes, and what these answered."""
    formatters = shell.display_formatter.formatters
    for name, show in _TEXT.items():
        module, _, kind = name.rpartition(".")

        def pretty(value: Any, printer: Any, cycle: bool, show: Callable[[Any], str] = show) -> None:
            printer.text(show(value))

        formatters["text/plain"].for_type_by_name(module, kind, pretty)
    for name, render in _HTML.items():
        module, _, kind = name.rpartition(".")
        formatters["text/html"].for_type_by_name(module, kind, render)


def remove_formatters(shell: Any) -> None:
    """Undo `add_formatters`."""
    formatters = shell.display_formatter.formatters
    for names, mime in ((_TEXT, "text/plain"), (_HTML, "text/html")):
        for name in names:
            formatters[mime].pop(name, None)
