"""The helpers that `cells` stands on when it is not compiled.

`_words.pxd` holds a C function of the same name and meaning for each. A pointer to words becomes
a memoryview of them, and an unbound pointer becomes None.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from operator import index as whole
from time import perf_counter as now
from time import time_ns as wall_ns
from typing import TYPE_CHECKING, Any

__all__ = [
    "MASK",
    "bucket",
    "bytes_at",
    "doubles_at",
    "now",
    "set_attribute",
    "single",
    "utf8",
    "utf8_size",
    "wall_ns",
    "whole",
    "words_at",
    "wrap",
]

MASK = (1 << 64) - 1
_SINGLE = struct.Struct("<f")

if TYPE_CHECKING:
    # Only C has these: uncompiled, nothing may be called between the stores of an update.

    def fence() -> None: ...

    def copy(target: Any, source: Any, size: int) -> None: ...


#: As in C: the way round a class' own ``__setattr__``.
set_attribute = object.__setattr__


def words_at(view: memoryview, offset: int) -> Any:
    return view[offset:].cast("Q")


def doubles_at(view: memoryview, offset: int) -> Any:
    return view[offset:].cast("d")


def bytes_at(view: memoryview, offset: int) -> Any:
    return view[offset:]


def bucket(bounds: Any, size: int, value: float) -> int:
    """The first of `size` sorted bounds that is not below `value`; `size` if there is none."""
    return bisect_left(bounds, value, 0, size)


def wrap(value: int, bits: int, signed: bool) -> int:
    """`value` as C keeps it in `bits` bits, and then as the 64 bits of the word that holds it."""
    value = whole(value) & ((1 << bits) - 1)
    if signed and value >> (bits - 1):
        value -= 1 << bits
    return value & MASK


def single(value: float) -> float:
    """`value` as C keeps it in a float."""
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    except struct.error:
        raise TypeError(f"must be real number, not {type(value).__name__}") from None
    return rounded


def utf8(value: str, size: int) -> bytes:
    data = value.encode()
    return data if len(data) == size else data[:size]


def utf8_size(value: str, limit: int) -> int:
    """Bytes of `value` in UTF-8, cut at a character's border so as not to pass `limit`."""
    if value.isascii():
        size = len(value)
        return size if size <= limit else limit
    data = value.encode()
    if len(data) <= limit:
        return len(data)
    while limit and data[limit] & 0xC0 == 0x80:
        limit -= 1
    return limit
