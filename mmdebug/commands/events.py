"""Print the events that a process recorded, whether it is alive or dead; --follow waits for more.

With --json each event is an object on a line of its own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from mmdebug.bundle import is_bundle, opened
from mmdebug.following import follow, recorded
from mmdebug.records import SEVERITIES, Event
from mmdebug.report import content
from mmstats import targets
from mmstats.commands import text
from mmstats.commands.console import Console
from mmstats.commands.options import positive
from mmstats.reader import seconds
from mmstats.values import plain

from .opening import add_target

HELP = "print the events of a process, and follow them"

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
            _print(console, recorded(bundle.path, options.severity), options)
        return 0
    path = os.path.realpath(targets.find_one(options.target, options.path).path)
    if not options.follow:
        _print(console, recorded(path, options.severity), options)
        return 0
    try:
        for number, new in enumerate(follow(path, options.severity)):
            _print(console, new, options, len(new) if number else options.last or BEFORE)
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return 0


def _print(console: Console, events: Sequence[Event], options: argparse.Namespace, most: int | None = None) -> None:
    most = most if most is not None else options.last
    for event in events[-most:] if most else events:
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
