"""The helpers that `rings` stands on when it is not compiled; `rings.pxd` holds the C ones."""

from __future__ import annotations

import re
import struct
from typing import Any

from .native import original

_WORD = struct.Struct("<Q")
_DOUBLE = struct.Struct("<d")
_HEAD = struct.Struct("<BBH")

#: Short ASCII that no rule of `mmstats.redact` can have anything against: nothing that parts a name
#: from a value, no run that is as long and as mixed as a token, no "bearer" or "basic" before a blank.
_PLAIN = re.compile(r"(?!.*--)(?!.*[rRcC][ \t])(?!.*[\w-]{11})[A-Za-z0-9_ \t./,;!?()\[\]{}<*+|&#$^~\\-]{0,32}\Z")


def plain(text: str) -> bool:
    """Whether `text` is short and can't hold a secret that has a form; False only says to look closer."""
    return _PLAIN.match(text) is not None


def fits(value: int) -> bool:
    """Whether `value` is a signed 64-bit integer."""
    return -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF


def put_word(target: Any, at: int, word: int) -> None:
    _WORD.pack_into(target, at, word)


def put_double(target: Any, at: int, value: float) -> None:
    _DOUBLE.pack_into(target, at, value)


def put_head(target: Any, at: int, kind: int, key: int, size: int) -> None:
    """The four bytes before a field: its type, and the lengths of its key and of its value."""
    _HEAD.pack_into(target, at, kind, key, size)


def put(target: Any, at: int, data: bytes, size: int) -> None:
    target[at : at + size] = data


#: The number of the current thread, also where a monkey patch would have it be that of a greenlet.
thread_ident = original("_thread", "get_ident")
