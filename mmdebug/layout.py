"""What a ``.box`` file holds beside the records of `mmstats.layout`: rings and slots.

Encoding and decoding of bytes; no files. The normative text is ``docs/format.md``. Decoding trusts
nothing: whatever the bytes hold, it returns a value or raises `FormatError`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mmstats import layout
from mmstats.errors import FormatError

from .records import Value

SUFFIX = ".box"
FAULT_SUFFIX = ".fault"

#: Kinds of definition records.
RING, SLOTS = 4, 5
#: Attribute tags in them, beside ``NAME``.
SIZE, COUNT = 11, 12

#: Bytes before the data of a ring, and before the first slot.
HEAD = 64
#: Bytes before the fields of a ring's record, and of a slot.
RECORD_HEAD = 32
SLOT_HEAD = 48

#: Bytes of a ring's record at most, and of its texts.
MAX_RECORD = 4096
MAX_NAME = 2048
MAX_KEY = 64
MAX_TEXT = 512

#: What a reader takes for possible.
MAX_RING = 1 << 20
MAX_SLOTS = 1 << 14
MAX_SLOT = 1 << 12
#: Bytes of all rings and slots of a file together, and fields of one record.
MAX_PLACES = 1 << 21
MAX_FIELDS = 256

# Kinds of a ring's records, and types of fields. CUT says that something did not fit.
PADDING, EVENT, LOG, NOTE, SAMPLE = 0, 1, 2, 3, 4
TEXT, INTEGER, FLOAT, BOOL, NONE = 1, 2, 3, 4, 5
CUT = 128

_WORD = struct.Struct("<Q")
_INTEGER = struct.Struct("<q")
_FLOAT = struct.Struct("<d")
_RECORD = struct.Struct("<IBBxxQQQ")
_FIELD = struct.Struct("<BBH")
_RING = struct.Struct("<QQQQ")
_SLOT = struct.Struct("<QQQQQII")

#: A field as it stands in a file: its key and its value.
Field = tuple[str, Value]


class RingFamily(NamedTuple):
    """A ring: the newest records, in `capacity` bytes. It stands where `mmstats.layout.Family` does."""

    name: str
    capacity: int
    labelnames: tuple[str, ...] = ()
    cell: str = "ring"
    flags: int = 0

    @property
    def cell_size(self) -> int:
        return HEAD + self.capacity

    def encode(self, number: int) -> bytes:
        """Nothing: its one record is that of its series."""
        return b""

    def encode_series(self, number: int, labels: tuple[str, ...], cell: int, flags: int) -> bytes:
        body = layout.attribute(layout.NAME, self.name.encode()) + _number(SIZE, self.capacity)
        return layout.record(RING, flags, cell, body)


class SlotsFamily(NamedTuple):
    """A table of `count` slots of `size` bytes for what is in progress."""

    name: str
    count: int  # type: ignore[assignment]  # a tuple's own count() is of no use here
    size: int
    labelnames: tuple[str, ...] = ()
    cell: str = "slots"
    flags: int = 0

    @property
    def cell_size(self) -> int:
        return HEAD + self.count * self.size

    def encode(self, number: int) -> bytes:
        """Nothing: its one record is that of its series."""
        return b""

    def encode_series(self, number: int, labels: tuple[str, ...], cell: int, flags: int) -> bytes:
        body = layout.attribute(layout.NAME, self.name.encode())
        body += _number(SIZE, self.size) + _number(COUNT, self.count)
        return layout.record(SLOTS, flags, cell, body)


def _number(tag: int, value: int) -> bytes:
    return layout.attribute(tag, _WORD.pack(value))


def decode_place(kind: int, body: bytes) -> RingFamily | SlotsFamily:
    """A record of kind `RING` or `SLOTS`. Raises `FormatError`."""
    name, numbers = "", {SIZE: 0, COUNT: 0}
    for tag, data in layout.attributes(body):
        if tag == layout.NAME:
            name = data.decode("utf-8", "replace")
        elif tag in numbers:
            if len(data) != 8:
                raise FormatError("damaged: a number is not of eight bytes")
            numbers[tag] = _WORD.unpack(data)[0]
    size, count = numbers[SIZE], numbers[COUNT]
    if kind == RING:
        if size % 8 or not MAX_RECORD * 4 <= size <= MAX_RING:
            raise FormatError(f"damaged: a ring of {size} bytes")
        return RingFamily(name, size)
    if size % 8 or not SLOT_HEAD < size <= MAX_SLOT or not 0 < count <= MAX_SLOTS:
        raise FormatError(f"damaged: {count} slots of {size} bytes")
    return SlotsFamily(name, count, size)


class RingRecord(NamedTuple):
    """A record of a ring: its head, and its fields as they come; the first ones have no keys."""

    kind: int
    time: int
    thread: int
    context: int
    cut: bool
    fields: list[Field]


class SlotRecord(NamedTuple):
    """What a slot that is taken holds; `number` counts the takings."""

    number: int
    started: int
    thread: int
    context: int
    cut: bool
    fields: list[Field]


def decode_fields(data: bytes) -> list[Field]:
    """Fields one after the other, up to the end or to a type of 0. Raises `FormatError`."""
    found: list[Field] = []
    at, end = 0, len(data)
    while end - at >= _FIELD.size and len(found) < MAX_FIELDS:
        kind, length, size = _FIELD.unpack_from(data, at)
        if not kind:
            break
        at += _FIELD.size
        if length + size > end - at:
            raise FormatError("damaged: a field is longer than its record")
        key = data[at : at + length].decode("utf-8", "replace")
        raw = data[at + length : at + length + size]
        at += length + size
        found.append((key, _value(kind & ~CUT, raw)))
    return found


def _value(kind: int, raw: bytes) -> Value:
    if kind == TEXT:
        return raw.decode("utf-8", "replace")
    if kind == NONE:
        return None
    if len(raw) == 8:
        if kind == INTEGER:
            number: int = _INTEGER.unpack(raw)[0]
            return number
        if kind == FLOAT:
            real: float = _FLOAT.unpack(raw)[0]
            return real
        if kind == BOOL:
            return raw != bytes(8)
    raise FormatError("damaged: a field of an unknown type or of a wrong size")


class RingState(NamedTuple):
    """A ring's head: bytes `tail` to `head`, counted from the beginning, are there; `written` counts all records."""

    head: int
    tail: int
    capacity: int
    written: int


def decode_ring_state(data: bytes, family: RingFamily) -> RingState:
    """The first bytes of a ring. Raises `FormatError`."""
    if len(data) < _RING.size:
        raise FormatError("cut off: a ring's head is missing")
    state = RingState(*_RING.unpack_from(data))
    if state.capacity != family.capacity or not 0 <= state.head - state.tail <= state.capacity:
        raise FormatError(f"damaged: the head of the ring {family.name!r} makes no sense")
    return state


def decode_ring(data: bytes, state: RingState, tail: int) -> tuple[list[RingRecord], int]:
    """The records of a ring's `data` from byte `tail` on, the oldest first, and how many are damaged."""
    found: list[RingRecord] = []
    at, damaged = tail, 0
    while at < state.head:
        start = at % state.capacity
        if start + 8 > len(data):
            damaged += 1
            break
        size = int.from_bytes(data[start : start + 4], "little")
        kind = data[start + 4]
        if size < 8 or size % 8 or size > state.head - at or start + size > state.capacity:
            damaged += 1
            break
        at += size
        if kind == PADDING:
            continue
        if size < RECORD_HEAD or start + size > len(data):
            damaged += 1
            continue
        _, _, flags, time, thread, context = _RECORD.unpack_from(data, start)
        try:
            fields = decode_fields(data[start + RECORD_HEAD : start + size])
        except FormatError:
            damaged += 1
            continue
        found.append(RingRecord(kind, time, thread, context, bool(flags & 1), fields))
    return found, damaged


def decode_slots(before: bytes, data: bytes, after: bytes, family: SlotsFamily) -> tuple[list[SlotRecord], int]:
    """What is in progress, and how many slots are damaged.

    The three are the bytes of the table, read one after the other: a slot's number is taken from the
    first, what it holds from the second, and whether it changed meanwhile from the third.
    """
    found: list[SlotRecord] = []
    damaged = 0
    shortest = min(len(before), len(data), len(after))
    for slot in range(family.count):
        at = HEAD + slot * family.size
        if at + family.size > shortest:
            damaged += 1
            break
        done = _WORD.unpack_from(before, at + 8)[0]
        if not done or _WORD.unpack_from(after, at)[0] != done:
            continue
        _, _, started, thread, context, size, flags = _SLOT.unpack_from(data, at)
        if size > family.size - SLOT_HEAD:
            damaged += 1
            continue
        try:
            fields = decode_fields(data[at + SLOT_HEAD : at + SLOT_HEAD + size])
        except FormatError:
            damaged += 1
            continue
        found.append(SlotRecord(done, started, thread, context, bool(flags & 1), fields))
    found.sort(key=lambda record: record.number)
    return found, damaged
