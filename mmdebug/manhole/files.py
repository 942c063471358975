"""What this process has recorded, for its clients: its files as they are now, and its events as they come."""

from __future__ import annotations

import math
import os
from typing import Any

from mmstats import layout as stat_layout
from mmstats.errors import FormatError

from .. import recorder
from ..layout import MAX_PLACES, RING, RingFamily, decode_place
from ..protocol import MAX_BODY
from ..records import SEVERITIES, Event, Value
from ..ringevents import KINDS, event_of, read_ring
from .threads import close, identity


def stats_path() -> str | None:
    """The path of this process' stat file; None where there is none."""
    box = recorder.box()
    found: str | None = box.stats.filename if box is not None else None
    return found


def box_path() -> str | None:
    box = recorder.box()
    found: str | None = box.filename if box is not None else None
    return found


def uuid_of(path: str) -> str:
    """The uuid that a stat file says it has. Raises `OSError` and `FormatError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return stat_layout.decode_header(os.pread(descriptor, stat_layout.HEADER_BYTES, 0)).uuid.hex()
    finally:
        os.close(descriptor)


def content(path: str | None) -> tuple[bytes, str]:
    """A file's bytes as they are now; without any, why."""
    if path is None:
        return b"", "this process has no such file: what it records stays in its own memory"
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BODY + 1)
    except OSError as error:
        return b"", f"{path}: {error.strerror}"
    if len(data) > MAX_BODY:
        return b"", f"{path} is larger than what one message may have"
    return data, ""


class Events:
    """The events in this process' own box.

    Raises `OSError` and `FormatError` when it is made; a box has all its rings from its beginning.
    """

    def __init__(self, severity: str) -> None:
        path = box_path()
        if path is None:
            raise FormatError("nothing is recorded here: the box could not be made")
        wanted = SEVERITIES[SEVERITIES.index(severity) :]
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._file = identity(self._descriptor)
        try:
            self._rings = [(ring, at) for ring, at in self._find() if ring.name.partition(".")[2] in wanted]
        except BaseException:
            self.close()
            raise
        self._seen = [0] * len(self._rings)

    def _find(self) -> list[tuple[RingFamily, int]]:
        header = stat_layout.decode_header(os.pread(self._descriptor, stat_layout.HEADER_BYTES, 0))
        definitions = os.pread(self._descriptor, min(header.committed, MAX_PLACES), 0)
        found = []
        for at, size, kind, _, cell in stat_layout.records(definitions, header.first_definition, len(definitions)):
            if kind == RING:
                ring = decode_place(kind, definitions[at + stat_layout.RECORD_BYTES : at + size])
                if isinstance(ring, RingFamily) and ring.name.startswith("events."):
                    found.append((ring, cell))
        return found

    def new(self) -> list[dict[str, Any]]:
        """Those that came since the last call, in the order of time, as JSON."""
        found: list[Event] = []
        for number, (ring, cell) in enumerate(self._rings):
            try:
                state, records, _ = read_ring(self._descriptor, cell, ring, self._seen[number])
            except (OSError, FormatError):
                continue
            self._seen[number] = state.head
            severity = ring.name.partition(".")[2]
            found += [event_of(record, severity) for record in records if record.kind in KINDS]
        found.sort(key=lambda event: event.time)
        return [to_dict(event) for event in found]

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        close(descriptor, self._file)


def _json(value: Value) -> Value:
    return None if type(value) is float and not math.isfinite(value) else value


def to_dict(event: Event) -> dict[str, Any]:
    """As the protocol has it: the time in ns since the epoch."""
    return {
        "time": event.time,
        "severity": event.severity,
        "kind": event.kind,
        "name": event.name,
        "fields": {key: _json(value) for key, value in event.fields.items()},
        "logger": event.logger,
        "place": event.place,
        "thread": event.thread,
        "context": event.context,
        "cut": event.cut,
    }
