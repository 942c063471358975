"""Events as they are in a box's rings: read while they are written, by another process or by the same one."""

from __future__ import annotations

import os

from .layout import EVENT, HEAD, LOG, NOTE, Field, RingFamily, RingRecord, RingState, decode_ring, decode_ring_state
from .records import Event

KINDS = {EVENT: "event", LOG: "log", NOTE: "note"}


def read_ring(
    descriptor: int, cell: int, family: RingFamily, start: int = 0
) -> tuple[RingState, list[RingRecord], int]:
    """A ring's state, its records from byte `start` on, and how many of these are damaged. Raises `FormatError`.

    Three reads, in this order: up to where there are records, the records, from where they still are.
    """
    state = decode_ring_state(os.pread(descriptor, HEAD, cell), family)
    if state.head == start:
        return state, [], 0
    data = os.pread(descriptor, family.capacity, cell + HEAD)
    after = decode_ring_state(os.pread(descriptor, HEAD, cell), family)
    tail = max(state.tail, min(after.tail, state.head))
    records, damaged = decode_ring(data, state, max(tail, start) if start <= state.head else tail)
    return state, records, damaged


def name_of(fields: list[Field]) -> str:
    """The name that comes first in a record."""
    return str(fields[0][1]) if fields else ""


def event_of(record: RingRecord, severity: str) -> Event:
    """A record of a ring of events; `severity` is the ring's."""
    logger = place = ""
    rest = record.fields[1:]
    if record.kind == LOG and len(rest) >= 4:
        (_, logger_), (_, file), (_, line), (_, function) = rest[:4]
        logger, place = str(logger_), f"{file}:{line} {function}"
        rest = rest[4:]
    return Event(
        time=record.time,
        severity=severity,
        kind=KINDS[record.kind],
        name=name_of(record.fields),
        fields=dict(rest),
        logger=logger,
        place=place,
        thread=record.thread,
        context=record.context,
        cut=record.cut,
    )
