"""The on-disk format, version 2: constants, and encoding and decoding of bytes.

No files and no maps here. The normative text is ``docs/format.md``; the two change together.
Decoding trusts nothing: whatever the bytes hold, it returns a value or raises `FormatError`.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

from .errors import FormatError

MAGIC = b"\x89MMS\r\n\x1a\n"
MAJOR = 2
MINOR = 0
SUFFIX = ".mmstats"

#: Endings of what may lie beside a stat file under the same name, and goes with it.
COMPANIONS = (".box", ".fault")

HEADER = struct.Struct("<8sHHIQQ16sQQQIiQ16sQQQ")
HEADER_BYTES = 128
assert HEADER.size == HEADER_BYTES

#: Where definitions begin when the identity texts before them are of ordinary length.
PAGE = 4096

#: Offsets of the header's words that change while a file lives.
COMMITTED_AT = 16
STATE_AT = 24
CLOSED_AT = 56
HEARTBEAT_AT = 64

STARTING, LIVE, CLOSED = 0, 1, 2

#: Header flag: the writer held a lock on byte 0 when it made the file.
LOCKED = 1

#: More than this of definitions or of values is no file of ours; it bounds a reader's memory.
MAX_REGION = 16 << 20
MAX_RECORD = 1 << 16
MAX_FAMILIES = 1 << 16

# Record kinds.
PADDING, IDENTITY, FAMILY, SERIES = 0, 1, 2, 3

#: Family flag: describes the process rather than its work (the default fields of a model).
DESCRIPTIVE = 1
#: Family flag: the value is set once and then stays.
STATIC = 2
#: Family flag: each value is followed by the time of its last change, ns since the epoch.
STAMPED = 4
#: Series flag: stands in for the label sets that were beyond the limit.
OVERFLOW = 1

RECORD = struct.Struct("<IHHQ")
RECORD_BYTES = RECORD.size
ATTRIBUTE = struct.Struct("<HHI")
FAMILY_HEAD = struct.Struct("<IBBBB")
SERIES_HEAD = struct.Struct("<II")

# Attribute tags.
KEY, VALUE, NAME, HELP, UNIT, LABEL_NAME, COLUMN, BOUNDS, STATE, LABEL_VALUE = range(1, 11)

#: A metric's meaning. The number is what the file holds.
KINDS = {
    1: "counter",
    2: "gauge",
    3: "histogram",
    4: "timer",
    5: "average",
    6: "moving_average",
    7: "text",
    8: "enum",
    9: "info",
    10: "bool",
    11: "struct",
}
KIND_CODES = {name: code for code, name in KINDS.items()}

#: How the values of several processes become one.
AGGREGATES = {1: "sum", 2: "min", 3: "max", 4: "mean", 5: "last", 6: "all"}
AGGREGATE_CODES = {name: code for code, name in AGGREGATES.items()}

#: How a value lies in its cell: one word, or two buffers behind the words `begun` and `seq`.
CELLS = {1: "u64", 2: "i64", 3: "f64", 4: "buffered"}
CELL_CODES = {name: code for code, name in CELLS.items()}

#: What a buffer's column holds. ``text`` is a word of length, then that many bytes at most.
COLUMN_TYPES = {1: "u64", 2: "i64", 3: "f64", 4: "text"}
COLUMN_CODES = {name: code for code, name in COLUMN_TYPES.items()}

#: Words before the first buffer of a buffered cell: begun, seq, bytes of one buffer.
BUFFERED_HEAD = 24


def align(size: int) -> int:
    """Round up to the next multiple of 8."""
    return (size + 7) & ~7


class Header(NamedTuple):
    """The first 128 bytes of a file. Times are ns since the epoch; 0 means unknown or not yet.

    Named tuples and no dataclasses here and wherever else a writer comes by: a frozen dataclass of
    this size takes 2 us to make, and to import dataclasses takes as long as all of a writer's modules.
    """

    minor: int
    first_definition: int
    committed: int
    state: int
    uuid: bytes
    created: int
    closed: int = 0
    heartbeat: int = 0
    pid: int = 0
    exit_status: int = -1
    start_ticks: int = 0
    boot_id: bytes = bytes(16)
    pid_namespace: int = 0
    flags: int = 0
    inode: int = 0

    def encode(self) -> bytes:
        return HEADER.pack(MAGIC, MAJOR, *self)


class Column(NamedTuple):
    """One column of a buffered cell: `count` words, or, of a text, at most `count` bytes."""

    name: str
    type: str
    count: int = 1  # type: ignore[assignment]  # a tuple's own count() is of no use here

    @property
    def size(self) -> int:
        """Bytes that the column takes in a buffer."""
        return 8 + align(self.count) if self.type == "text" else 8 * self.count


class Family(NamedTuple):
    """What a metric is: all but its values. Equal definitions encode to equal bytes."""

    name: str
    kind: str
    cell: str
    aggregate: str
    help: str = ""
    unit: str = ""
    labelnames: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    bounds: tuple[float, ...] = ()
    states: tuple[str, ...] = ()
    flags: int = 0

    @property
    def buffer_size(self) -> int:
        """Bytes of one buffer; 0 for a cell of one word."""
        return sum([column.size for column in self.columns])

    @property
    def cell_size(self) -> int:
        """Bytes of a value cell."""
        if self.cell == "buffered":
            return BUFFERED_HEAD + 2 * self.buffer_size
        return 16 if self.flags & STAMPED else 8

    def encode(self, number: int) -> bytes:
        """Its record, under a number that is its own in the file."""
        return encode_family(number, self)

    def encode_series(self, number: int, labels: tuple[str, ...], cell: int, flags: int) -> bytes:
        """The record of one of its series."""
        return encode_series(number, labels, cell, flags)


def attribute(tag: int, data: bytes) -> bytes:
    """One attribute of a record's body."""
    return ATTRIBUTE.pack(tag, 0, len(data)) + data + bytes(-len(data) & 7)


def record(kind: int, flags: int, cell: int, body: bytes) -> bytes:
    """A record of a definition stream. Raises `FormatError` if it is too long."""
    size = RECORD_BYTES + len(body)
    if size > MAX_RECORD:
        raise FormatError(f"a definition of {size} bytes is over the limit of {MAX_RECORD}: shorten its help or labels")
    return RECORD.pack(size, kind, flags, cell) + body


def encode_identity(key: str, values: tuple[str, ...]) -> bytes:
    """One fact about the process, such as its service; several values for a list such as argv."""
    body = attribute(KEY, key.encode("utf-8", "replace"))
    body += b"".join([attribute(VALUE, value.encode("utf-8", "replace")) for value in values])
    return record(IDENTITY, 0, 0, body)


def encode_family(number: int, family: Family) -> bytes:
    parts = [
        FAMILY_HEAD.pack(
            number, KIND_CODES[family.kind], AGGREGATE_CODES[family.aggregate], CELL_CODES[family.cell], 0
        ),
        attribute(NAME, family.name.encode()),
    ]
    if family.help:
        parts.append(attribute(HELP, family.help.encode()))
    if family.unit:
        parts.append(attribute(UNIT, family.unit.encode()))
    parts.extend(attribute(LABEL_NAME, label.encode()) for label in family.labelnames)
    for column in family.columns:
        head = struct.pack("<BxxxI", COLUMN_CODES[column.type], column.count)
        parts.append(attribute(COLUMN, head + column.name.encode()))
    if family.bounds:
        parts.append(attribute(BOUNDS, struct.pack(f"<{len(family.bounds)}d", *family.bounds)))
    parts.extend(attribute(STATE, state.encode()) for state in family.states)
    return record(FAMILY, family.flags, 0, b"".join(parts))


def encode_series(number: int, labels: tuple[str, ...], cell: int, flags: int = 0) -> bytes:
    """`cell` is the offset of the value cell from the start of the file."""
    body = SERIES_HEAD.pack(number, 0)
    body += b"".join([attribute(LABEL_VALUE, value.encode("utf-8", "replace")) for value in labels])
    return record(SERIES, flags, cell, body)


def encode_padding(size: int) -> bytes:
    """A record that says nothing, to bring what follows to a chosen offset; at least 16 bytes."""
    return RECORD.pack(size, PADDING, 0, 0) + bytes(size - RECORD_BYTES)


def decode_header(data: bytes) -> Header:
    """Decode and check the first 128 bytes. Raises `FormatError`."""
    if len(data) < HEADER_BYTES:
        raise FormatError(f"only {len(data)} bytes long: not a stat file, or cut off")
    if not data.startswith(MAGIC):
        raise FormatError("not a stat file: it does not begin with the magic bytes of the format")
    _, major, *rest = HEADER.unpack_from(data)
    if major != MAJOR:
        raise FormatError(
            f"written in format {major}.{rest[0]}, and this is a reader of format {MAJOR}: upgrade mmstats"
        )
    header = Header._make(rest)
    first, committed = header.first_definition, header.committed
    if first < HEADER_BYTES or first % 8 or committed < first or committed % 8:
        raise FormatError("damaged: the header's offsets contradict each other")
    if committed > MAX_REGION:
        raise FormatError(f"damaged: it claims {committed} bytes of definitions, over the limit of {MAX_REGION}")
    return header


def records(data: bytes, start: int, end: int) -> list[tuple[int, int, int, int, int]]:
    """Split ``data[start:end]`` into ``(position, size, kind, flags, cell)``.

    Stops at the first record that cannot be one; then the last entry does not reach `end`.
    """
    found = []
    unpack = RECORD.unpack_from
    while end - start >= RECORD_BYTES:
        size, kind, flags, cell = unpack(data, start)
        if size < RECORD_BYTES or size % 8 or size > end - start or size > MAX_RECORD:
            break
        found.append((start, size, kind, flags, cell))
        start += size
    return found


def attributes(body: bytes) -> list[tuple[int, bytes]]:
    """Split a record's body into ``(tag, value)``. Raises `FormatError`."""
    found = []
    at, end = 0, len(body)
    while at < end:
        if end - at < ATTRIBUTE.size:
            raise FormatError("damaged: an attribute is cut off")
        tag, _, size = ATTRIBUTE.unpack_from(body, at)
        at += ATTRIBUTE.size
        if size > end - at:
            raise FormatError("damaged: an attribute is longer than its record")
        found.append((tag, body[at : at + size]))
        at += align(size)
    return found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def decode_identity(body: bytes) -> tuple[str, tuple[str, ...]]:
    key, values = "", []
    for tag, data in attributes(body):
        if tag == KEY:
            key = _text(data)
        elif tag == VALUE:
            values.append(_text(data))
    return key, tuple(values)


def _column(data: bytes) -> Column:
    if len(data) < 8:
        raise FormatError("damaged: a column's description is cut off")
    code, count = struct.unpack_from("<BxxxI", data)
    if code not in COLUMN_TYPES or not 0 < count <= MAX_RECORD:
        raise FormatError("damaged: a column's description makes no sense")
    return Column(_text(data[8:]), COLUMN_TYPES[code], count)


def decode_family(body: bytes, flags: int) -> tuple[int, Family]:
    """Decode a family's record: its number and what it says. Raises `FormatError`.

    A kind or aggregation that a newer writer invented becomes ``gauge``, ``struct`` or ``all``:
    the value is still readable by its cell and its columns.
    """
    if len(body) < FAMILY_HEAD.size:
        raise FormatError("damaged: a family's record is cut off")
    number, kind_code, aggregate_code, cell_code, _ = FAMILY_HEAD.unpack_from(body)
    if number >= MAX_FAMILIES or cell_code not in CELLS:
        raise FormatError("damaged: a family's record makes no sense")
    name = help_text = unit = ""
    labelnames, columns, states = [], [], []
    bounds: tuple[float, ...] = ()
    for tag, data in attributes(body[FAMILY_HEAD.size :]):
        if tag == NAME:
            name = _text(data)
        elif tag == HELP:
            help_text = _text(data)
        elif tag == UNIT:
            unit = _text(data)
        elif tag == LABEL_NAME:
            labelnames.append(_text(data))
        elif tag == COLUMN:
            columns.append(_column(data))
        elif tag == BOUNDS:
            if len(data) % 8:
                raise FormatError("damaged: a histogram's bounds are cut off")
            bounds = struct.unpack(f"<{len(data) // 8}d", data)
        elif tag == STATE:
            states.append(_text(data))
    cell = CELLS[cell_code]
    if (cell == "buffered") != bool(columns):
        raise FormatError("damaged: a family's cell and columns contradict each other")
    family = Family(
        name,
        KINDS.get(kind_code, "struct" if columns else "gauge"),
        cell,
        AGGREGATES.get(aggregate_code, "all"),
        help_text,
        unit,
        tuple(labelnames),
        tuple(columns),
        bounds,
        tuple(states),
        flags,
    )
    _check_columns(family)
    return number, family


#: The columns of timers and moving averages.
WINDOW_COLUMNS = (
    ("count", "u64"),
    ("sum", "f64"),
    ("last", "f64"),
    ("min", "f64"),
    ("max", "f64"),
    ("window_count", "u64"),
    ("window_sum", "f64"),
)

#: The columns that a kind promises; a family of that kind without them is damaged.
REQUIRED_COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    "histogram": (("count", "u64"), ("sum", "f64"), ("buckets", "u64")),
    "timer": WINDOW_COLUMNS,
    "average": (("count", "u64"), ("sum", "f64")),
    "moving_average": WINDOW_COLUMNS,
    "text": (("text", "text"),),
    "info": (("text", "text"),),
}


def _check_columns(family: Family) -> None:
    """What a kind promises must be there, or a reader of values would stumble over it."""
    required = REQUIRED_COLUMNS.get(family.kind)
    if required is None:
        if family.columns and family.kind != "struct":
            raise FormatError(f"damaged: a {family.kind} has columns")
        if family.kind == "struct" and not family.columns:
            raise FormatError("damaged: a struct has no columns")
        if family.kind in ("enum", "bool") and family.cell != "u64":
            raise FormatError(f"damaged: a {family.kind} is kept in a word of another type")
    else:
        found = family.columns[: len(required)]
        if tuple([(column.name, column.type) for column in found]) != required:
            raise FormatError(f"damaged: a {family.kind} lacks the columns of its kind")
        single = [column for column in found if column.type != "text" and column.name != "buckets"]
        if any(column.count != 1 for column in single):
            raise FormatError(f"damaged: a column of a {family.kind} has several words")
    if family.kind == "histogram":
        bounds = family.bounds
        if family.columns[2].count != len(bounds) + 1 or not bounds:
            raise FormatError("damaged: a histogram's bounds and buckets differ in number")
        if not all(a < b for a, b in pairwise(bounds)) or not _finite(bounds[0], bounds[-1]):
            raise FormatError("damaged: a histogram's bounds are not finite or do not rise")
    if family.columns and family.flags & STAMPED and family.columns[-1] != Column("time", "u64"):
        raise FormatError("damaged: a stamped cell has no column for its time")


def _finite(*numbers: float) -> bool:
    return all(abs(number) < float("inf") for number in numbers)


def decode_series(body: bytes) -> tuple[int, tuple[str, ...]]:
    """Decode a series' record: its family's number and its label values. Raises `FormatError`."""
    if len(body) < SERIES_HEAD.size:
        raise FormatError("damaged: a series' record is cut off")
    number, _ = SERIES_HEAD.unpack_from(body)
    return number, tuple([_text(data) for tag, data in attributes(body[SERIES_HEAD.size :]) if tag == LABEL_VALUE])
