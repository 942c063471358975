"""Decode files of mmstats 0.x (format version 1).

The machine's own byte order and sizes, nothing aligned: a version byte, then fields until a label
size of 0 or the end of the file. Such a file says nothing of its writer but what its fields say.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from .errors import FormatError

VERSION = 1
UNBUFFERED = 0xFF

#: More than this is no file of mmstats 0.x, whose files took a few pages. It bounds a reader's time and memory.
MAX_BYTES = 1 << 20

_TYPE = re.compile(r"[bBhHiIlLqQfd?]|[1-9][0-9]{0,4}s")
_SIZE = struct.Struct("=H")


@dataclass(frozen=True, slots=True)
class FieldV1:
    """One field: `type` is a `struct` format of one item."""

    label: str
    type: str
    value: int | float | bool | str


def decode(data: bytes) -> tuple[list[FieldV1], str]:
    """All fields, and what is wrong with the rest of the file; empty if nothing is.

    Raises `FormatError` for what is no file of version 1 at all.
    """
    if not data or data[0] != VERSION:
        raise FormatError("not a stat file of mmstats 0.x")
    fields: list[FieldV1] = []
    at = 1
    try:
        while at < len(data):
            label, at = _sized(data, at)
            if not label:
                break
            field, at = _field(data, at, label.decode("utf-8", "replace"))
            fields.append(field)
    except (FormatError, struct.error) as error:
        if not fields:
            raise FormatError(f"damaged: {error}") from error
        return fields, f"damaged behind the field {fields[-1].label[:80]!r}: {error}"
    return fields, ""


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    if len(data) - at < _SIZE.size:
        if not any(data[at:]):
            return b"", len(data)
        raise FormatError("it is cut off")
    (size,) = _SIZE.unpack_from(data, at)
    at += _SIZE.size
    if size > len(data) - at:
        raise FormatError("a size reaches beyond the end of the file")
    return data[at : at + size], at + size


def _field(data: bytes, at: int, label: str) -> tuple[FieldV1, int]:
    raw, at = _sized(data, at)
    type_ = raw.decode("ascii", "replace")
    if not _TYPE.fullmatch(type_):
        raise FormatError(f"{label[:80]!r} is of an unknown type")
    size = struct.calcsize(type_)
    if at >= len(data):
        raise FormatError("it is cut off")
    write_buffer = data[at]
    at += 1
    if write_buffer == UNBUFFERED:
        current, end = at, at + size
    elif write_buffer in (0, 1):
        current, end = at + size * (write_buffer ^ 1), at + 2 * size
    else:
        raise FormatError(f"{label[:80]!r} has an unknown buffer")
    if end > len(data):
        raise FormatError("it is cut off")
    (value,) = struct.unpack_from(type_, data, current)
    if isinstance(value, bytes):
        value = value.partition(b"\0")[0].decode("utf-8", "replace")
    return FieldV1(label, type_, value), end
