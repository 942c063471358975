"""The events of a box as they come: what was recorded, and what is new at each look."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mmstats import retention
from mmstats.errors import FormatError, ReadError

from .boxreader import read_box
from .evidence import stem_of
from .layout import SUFFIX
from .records import SEVERITIES, Event

#: Seconds between two looks.
INTERVAL = 0.2


def recorded(path: str, severity: str = "debug") -> list[Event]:
    """The events of the box beside the stat file `path`, of this severity and worse, in the order of time.

    Raises `mmstats.ReadError`, also if there is no box.
    """
    box = stem_of(path) + SUFFIX
    if not os.path.exists(box):
        raise ReadError(f"{box} is not there: no recorder was on; `mmdebug run` or mmdebug.install() switches it on")
    wanted = SEVERITIES[SEVERITIES.index(severity) :]
    return [event for event in read_box(box).events if event.severity in wanted]


def follow(path: str, severity: str = "debug") -> Iterator[list[Event]]:
    """What there is, and then what has come at each look, until the process has ended."""
    seen = recorded(path, severity)
    yield seen
    while True:
        alive = _alive(path)
        try:
            found = recorded(path, severity)
        except ReadError:
            if not alive or not os.path.exists(path):
                return  # deleted after the end
            found = seen  # being changed at this moment: it is looked at again
        yield list(new_events(seen, found))
        seen = found
        if not alive:
            return
        time.sleep(INTERVAL)


def new_events(before: Sequence[Event], after: Sequence[Event]) -> Iterator[Event]:
    """Those of `after` that `before` did not have yet. Also one that appears late, between older ones."""
    known = Counter([_key(event) for event in before])
    for event in after:
        key = _key(event)
        if known[key]:
            known[key] -= 1
        else:
            yield event


def _alive(path: str) -> bool:
    """Whether the writer may still write: looked at before its last events are read."""
    try:
        return retention.writer_of(path)[1].alive is not False
    except (OSError, FormatError):
        return False  # deleted


def _key(event: Event) -> tuple[Any, ...]:
    return (event.time, event.severity, event.kind, event.name, event.thread, event.context)
