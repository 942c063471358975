"""Strings of a program on their way into a record: without secrets, bounded, and always fit to be encoded."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from mmstats import redact

#: How many characters beyond a cut are looked at, so that a secret across the cut is still seen as one.
MARGIN = 256
LONGEST_NAME = 200


def clean(text: str) -> str:
    """An exact str as text that can be encoded: other than newlines and tabs, what is not printable is escaped."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text])


def fitted(text: str, size: int) -> str:
    """`text` in at most `size` bytes of UTF-8, with ``... [N more]`` in the place of the characters that were cut."""
    if len(text) * 4 <= size or len(text.encode("utf-8", "surrogatepass")) <= size:
        return text
    room = size - len(f"... [{len(text)} more]")
    if room < 0:
        return "..."[: max(size, 0)]
    kept = first_bytes(text, room)
    return f"{kept}... [{len(text) - len(kept)} more]"


def first_bytes(text: str, size: int) -> str:
    """The first characters of `text` that fit into `size` bytes of UTF-8."""
    if len(text) * 4 <= size:
        return text
    data = text.encode("utf-8", "surrogatepass")
    end = max(size, 0)
    if len(data) <= end:
        return text
    while end and data[end] & 0xC0 == 0x80:  # in the middle of a character
        end -= 1
    return data[:end].decode("utf-8", "surrogatepass")


def plain(value: str, size: int) -> str:
    """A str without secrets, escaped as `clean` does it, in about `size` bytes; its lines stay lines."""
    piece, length = str.__getitem__(value, slice(0, size + MARGIN)), str.__len__(value)
    shown = redacted(piece, length - len(piece), size)
    more = max(length, len(shown)) - len(shown) if len(piece) < length else 0
    return fitted(clean(shown), size) if not more else f"{fitted(clean(shown), size)}... [{more} more]"


def redacted(piece: str, beyond: int, limit: int) -> str:
    """An exact str without secrets, of no more than `limit` characters if `beyond` more of it were not looked at."""
    text = without_secrets(piece)
    if beyond <= 0:
        return text
    # What stands at the end of the piece, if nothing was taken out there, may be the beginning of a secret.
    size = len(redact.REDACTED)
    last = text.rfind(redact.REDACTED)
    keep = max(0, min(limit, max(len(text) - MARGIN, last + size if last >= 0 else 0)))
    mark = text.find(redact.REDACTED, max(0, keep - size + 1), keep + size)
    return text[: mark + size if 0 <= mark < keep or mark == keep == 0 else keep]


_SIGNS = re.compile("[=:<>@\"']")
_LONG_WORD = re.compile(r"[\w+/.-]{12}")


def without_secrets(text: str) -> str:
    """`redact.text`, but quick for a text that none of its patterns can match.

    Each of them needs a sign, an option's dashes, a word of twelve characters, or one of two words.
    """
    if (
        _SIGNS.search(text) is None
        and _LONG_WORD.search(text) is None
        and "--" not in text
        and "bearer" not in (lowered := text.lower())
        and "basic" not in lowered
    ):
        return text
    return redact.text(text)


@lru_cache(2048)
def _secret_name(name: str) -> bool:
    return redact.secret_name(name)


def is_secret(name: Any) -> bool:
    """Whether something with this name, key or first half of a pair is secret. Only strings and bytes can say so."""
    kind = type(name)
    if kind is str:
        return _secret_name(name) if len(name) <= 48 else redact.secret_name(name[:LONGEST_NAME])
    if issubclass(kind, str):
        return redact.secret_name(str.__getitem__(name, slice(0, LONGEST_NAME)))
    if issubclass(kind, bytes):
        return redact.secret_name(bytes.__getitem__(name, slice(0, LONGEST_NAME)).decode("latin-1"))
    return False
