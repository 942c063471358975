"""Read a ``.box`` file, of a live process or a dead one, into a `records.Box`.

Nothing is mapped, nothing locked, and nothing is trusted: what can't be read is said in `problems`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

import mmstats
from mmstats import layout as stat_layout
from mmstats.errors import FormatError, ReadError
from mmstats.values import LabelledValue

from . import parked
from .capture import errorcodec
from .layout import (
    HEAD,
    MAX_PLACES,
    RING,
    SAMPLE,
    SLOTS,
    RingFamily,
    RingRecord,
    SlotRecord,
    SlotsFamily,
    decode_place,
    decode_slots,
)
from .records import SEVERITIES, Activity, Box, Event, ExceptionRecord, ParkedGroup, Sample
from .ringevents import KINDS, event_of, name_of, read_ring

#: What is read of a box.
PLACES = {*[f"events.{severity}" for severity in SEVERITIES], "samples", "activities"}


def read_box(path: str | os.PathLike[str], names: Callable[[int], str] | None = None) -> Box:
    """Read one box.

    names: what the series is called whose value lies at an offset of the stat file; for `Sample.moved`

    Raises `mmstats.ReadError` if it can't be opened and `mmstats.FormatError` if it is no box.
    """
    path = os.fspath(path)
    snapshot = mmstats.read(path)
    places, problems = _read_places(path)
    events: list[Event] = []
    samples: list[Sample] = []
    activities: list[Activity] = []
    lost: dict[str, int] = {}
    for family, content in places:
        if isinstance(content, _Ring):
            if content.damaged:
                problems.append(f"damaged: {content.damaged} records of the ring {family.name!r} were left out")
            if family.name == "samples":
                samples += [_sample(record, names) for record in content.records if record.kind == SAMPLE]
            elif family.name.startswith("events."):
                severity = family.name.partition(".")[2]
                events += [event_of(record, severity) for record in content.records if record.kind in KINDS]
                if content.lost:
                    lost[family.name] = content.lost
        else:
            if content.damaged:
                problems.append(f"damaged: {content.damaged} slots of {family.name!r} were left out")
            activities += _activities(content.records)
            if content.lost:
                lost["activities"] = content.lost
    events.sort(key=lambda event: event.time)
    exceptions, problem = _exceptions(snapshot)
    problems += problem
    waiting, waited_at = _parked(snapshot, problems)
    overflow = snapshot.get("mmstats.overflow")
    if overflow is not None and overflow.value:
        lost["exceptions"] = int(overflow.value)  # type: ignore[arg-type]
    return Box(
        path=path,
        activities=tuple(activities),
        events=tuple(events),
        exceptions=tuple(exceptions),
        samples=tuple(samples),
        threads=_threads(snapshot),
        facts={key: texts[0] for key, texts in snapshot.identity.items() if len(texts) == 1},
        lost=lost,
        problems=(*snapshot.problems, *problems),
        parked=waiting,
        parked_at=waited_at,
    )


class _Ring:
    """A ring's records; `lost` counts those that were overwritten."""

    def __init__(self, records: list[RingRecord], damaged: int, lost: int) -> None:
        self.records = records
        self.damaged = damaged
        self.lost = lost


class _Slots:
    def __init__(self, records: list[SlotRecord], damaged: int, lost: int) -> None:
        self.records = records
        self.damaged = damaged
        self.lost = lost


def _read_places(path: str) -> tuple[list[tuple[Any, Any]], list[str]]:
    """Each ring and table of a file, with what it holds, and what is wrong."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ReadError(f"{path}: not a regular file")
        header = stat_layout.decode_header(os.pread(descriptor, stat_layout.HEADER_BYTES, 0))
        definitions = os.pread(descriptor, header.committed, 0)
        found: list[tuple[Any, Any]] = []
        problems: list[str] = []
        names: set[str] = set()
        total = 0
        for at, size, kind, _, cell in stat_layout.records(definitions, header.first_definition, len(definitions)):
            if kind not in (RING, SLOTS):
                continue
            try:
                family = decode_place(kind, definitions[at + stat_layout.RECORD_BYTES : at + size])
                if family.name not in PLACES:
                    continue  # of a newer recorder
                if cell % 8 or not 0 < cell < 1 << 62:
                    raise FormatError(f"damaged: {family.name!r} lies nowhere")
                if family.name in names:
                    raise FormatError(f"damaged: {family.name!r} is there twice")
                names.add(family.name)
                # Bounded before it is read: a small file must not stand for any amount of memory.
                total += family.cell_size
                if total > MAX_PLACES:
                    raise FormatError(f"damaged: its rings take more than the limit of {MAX_PLACES} bytes")
                if isinstance(family, RingFamily):
                    found.append((family, _read_ring(descriptor, cell, family)))
                else:
                    found.append((family, _read_slots(descriptor, cell, family)))
            except FormatError as error:
                problems.append(str(error))
        return found, problems
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _read_ring(descriptor: int, cell: int, family: RingFamily) -> _Ring:
    state, records, damaged = read_ring(descriptor, cell, family)
    return _Ring(records, damaged, max(state.written - len(records) - damaged, 0))


def _read_slots(descriptor: int, cell: int, family: SlotsFamily) -> _Slots:
    before, data, after = [os.pread(descriptor, family.cell_size, cell) for _ in range(3)]
    if len(before) < HEAD:
        raise FormatError(f"cut off: {family.name!r} is missing")
    records, damaged = decode_slots(before, data, after, family)
    return _Slots(records, damaged, int.from_bytes(before[16:24], "little"))


def _sample(record: RingRecord, names: Callable[[int], str] | None) -> Sample:
    fields = dict(record.fields[1:])
    moved = str(fields.pop("moved", ""))
    more = fields.pop("more", 0)
    offsets = [int(offset, 36) for offset in moved.split() if offset.isalnum() and offset.isascii() and len(offset) < 8]
    known = [names(offset) for offset in offsets] if names is not None else []
    return Sample(
        time=record.time,
        values={key: float(value) for key, value in fields.items() if isinstance(value, (int, float))},
        moved=tuple(dict.fromkeys([name for name in known if name])),
        more=more if isinstance(more, int) else 0,
    )


def _activities(records: list[SlotRecord]) -> list[Activity]:
    """With their depths: what is in progress in one thread and context is nested in the order of its start."""
    depths: dict[tuple[int, int], int] = {}
    found = []
    for record in records:
        where = (record.thread, record.context)
        depth = depths.get(where, 0)
        depths[where] = depth + 1
        found.append(
            Activity(
                name=name_of(record.fields),
                started=record.started,
                fields=dict(record.fields[1:]),
                thread=record.thread,
                context=record.context,
                depth=depth,
                cut=record.cut,
            )
        )
    return found


def _exceptions(snapshot: mmstats.Snapshot) -> tuple[list[ExceptionRecord], list[str]]:
    """The distinct errors, by the time of their last occurrence, and what could not be read."""
    found: list[ExceptionRecord] = []
    problems: list[str] = []
    family = snapshot.get("exceptions")
    if isinstance(family, LabelledValue) and family.labelnames == ("type", "place", "how"):
        for labels, value in family.items():
            _add(found, problems, (str(labels[0]), str(labels[1]), str(labels[2])), value.value, False)
    fatal = snapshot.get("fatal")
    if fatal is not None and isinstance(fatal.value, Mapping):
        values = fatal.value
        _add(found, problems, ("", str(values.get("place", "")), str(values.get("how", ""))), values, True)
    found.sort(key=lambda record: record.last)
    return found, problems


def _add(
    found: list[ExceptionRecord], problems: list[str], labels: tuple[str, str, str], values: Any, fatal: bool
) -> None:
    if not isinstance(values, Mapping):
        return
    numbers = {}
    for key in ("count", "first", "last", "thread", "context"):
        number = values.get(key, 0)
        numbers[key] = number if isinstance(number, int) else 0
    if not numbers["count"]:
        return
    error = None
    try:
        error = errorcodec.decode(str(values.get("error", "")).encode())
    except FormatError as reason:
        problems.append(f"an exception's traceback could not be read: {reason}")
    type_, place, how = labels
    found.append(
        ExceptionRecord(
            type=type_ or (error.type if error is not None else ""),
            place=place,
            how=how,
            fatal=fatal,
            error=error,
            **numbers,
        )
    )


def _parked(snapshot: mmstats.Snapshot, problems: list[str]) -> tuple[tuple[ParkedGroup, ...], int]:
    value = snapshot.get("parked")
    found = value.value if value is not None else None
    if not isinstance(found, Mapping) or not isinstance(found.get("time"), int) or not found["time"]:
        return (), 0
    try:
        return parked.decode(str(found.get("groups", ""))), found["time"]
    except FormatError as error:
        problems.append(str(error))
        return (), 0


def _threads(snapshot: mmstats.Snapshot) -> dict[int, str]:
    value = snapshot.get("threads")
    names = value.value if value is not None else None
    if not isinstance(names, Mapping):
        return {}
    return {int(ident): str(name) for ident, name in names.items() if str(ident).isdecimal() and len(str(ident)) < 20}
