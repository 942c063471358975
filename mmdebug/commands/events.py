"""Print the events that a process recorded, whether it is alive or dead; --follow waits for more.

With --json each event is an object on a line of its own.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mmdebug.bundle import is_bundle, opened
from mmdebug.records import SEVERITIES, Event
from mmdebug.report import content
from mmstats import retention, targets
from mmstats.commands import text
from mmstats.commands.console import Console
from mmstats.commands.options import positive
from mmstats.errors import FormatError, ReadError
from mmstats.reader import seconds
from mmstats.values import plain

from .opening import add_target

HELP = "print the events of a process, and follow them"

#: Seconds between two looks.
INTERVAL = 0.2
#: Earlier events that are shown before those that are waited for.
BEFORE = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser, "target")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the process has ended")
    parser.add_argument("--severity", choices=SEVERITIES, default="debug", help="only these and worse ones")
    parser.add_argument("--last", type=positive(int), metavar="N", help=f"only the last N (with --follow: {BEFORE})")


def run(options: argparse.Namespace, console: Console) -> int:
    if is_bundle(options.target):
        with opened(options.target) as bundle:
            _print(console, _events(bundle.path, options), options)
        return 0
    path = os.path.realpath(targets.find_one(options.target, options.path).path)
    if not options.follow:
        _print(console, _events(path, options), options)
        return 0
    try:
        _follow(console, path, options)
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return 0


def _events(path: str, options: argparse.Namespace) -> list[Event]:
    """The events of the box beside a stat file that are asked for, in the order of time."""
    from mmdebug.boxreader import read_box

    box = path.removesuffix(".mmstats") + ".box"
    if not os.path.exists(box):
        raise ReadError(f"{box} is not there: no recorder was on; `mmdebug run` or mmdebug.install() switches it on")
    wanted = SEVERITIES[SEVERITIES.index(options.severity) :]
    return [event for event in read_box(box).events if event.severity in wanted]


def _follow(console: Console, path: str, options: argparse.Namespace) -> None:
    seen = _events(path, options)
    _print(console, seen, options, options.last or BEFORE)
    while True:
        alive = _alive(path)
        try:
            found = _events(path, options)
        except ReadError:
            if not alive or not os.path.exists(path):
                return  # deleted after the end
            found = seen  # being changed at this moment: it is looked at again
        _print(console, new_events(seen, found), options, len(found))
        seen = found
        if not alive:
            return
        time.sleep(INTERVAL)


def _alive(path: str) -> bool:
    """Whether the writer may still write: looked at before its last events are read."""
    try:
        return retention.writer_of(path)[1].alive is not False
    except (OSError, FormatError):
        return False  # deleted


def new_events(before: Sequence[Event], after: Sequence[Event]) -> Iterator[Event]:
    """Those of `after` that `before` did not have yet. Also one that appears late, between older ones."""
    known = Counter([_key(event) for event in before])
    for event in after:
        key = _key(event)
        if known[key]:
            known[key] -= 1
        else:
            yield event


def _key(event: Event) -> tuple[Any, ...]:
    return (event.time, event.severity, event.kind, event.name, event.thread, event.context)


def _print(console: Console, events: Any, options: argparse.Namespace, most: int | None = None) -> None:
    found = list(events)
    most = most if most is not None else options.last
    for event in found[-most:] if most else found:
        if options.json:
            console.json("events", {"event": to_dict(event)}, compact=True)
        else:
            console.line(line_of(event))
    console.flush()


def line_of(event: Event) -> str:
    """An event on a line, for people."""
    day, clock, *zone = content.moment(event.time).split(" ") if event.time else ("-", "-")
    millis = f"{event.time // 1_000_000 % 1000:03d}"
    when = f"{day} {clock}.{millis}" if zone else f"{event.time} ns"
    whom = event.logger or event.kind
    return f"{when}  {event.severity.upper():7}  {text.printable(whom)}  {text.printable(content.sentence(event))}"


def to_dict(event: Event) -> dict[str, Any]:
    """Builtin types only; the time in seconds since the epoch."""
    return {
        "time": seconds(event.time),
        "severity": event.severity,
        "kind": event.kind,
        "name": event.name,
        "fields": plain(dict(event.fields)),
        "logger": event.logger,
        "place": event.place,
        "thread": event.thread,
        "context": event.context,
        "cut": event.cut,
    }
