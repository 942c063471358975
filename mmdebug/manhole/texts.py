"""A value as a bounded text, as a prompt shows it: Python's containers are laid out, all else is its own ``repr``.

Unlike the texts of a post-mortem these are what a person has asked for. So the program's own ``__repr__`` is called,
caught and cut, and nothing is redacted.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..capture.safetext import first_bytes
from ..capture.safetypes import type_name
from .output import byte_size

#: Items of each container, and levels of them.
MAX_ITEMS = 100
MAX_LEVELS = 6
#: Columns up to which a container stays on one line.
WIDTH = 79
#: Whole numbers of more bits are not written out: Python itself refuses that.
MAX_BITS = 14_000


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as text.

    cut: whether there is more of it than the text
    count: how many items, or characters of a text, are shown; None if it has no parts
    total: how many there are
    """

    text: str
    cut: bool
    count: int | None = None
    total: int | None = None


def show(value: Any, limit: int, start: int = 0) -> Shown:
    """`value` in at most `limit` bytes of UTF-8; items or characters from `start` on. Calls the program's code."""
    layout = _layout(value)
    writer = _Writer(limit - 200)
    if layout is None:
        return _show_text(value, writer, limit, start)
    total = layout.length(value)
    parts: list[str] = []
    for text in writer.items(value, layout, start, 1):
        # An item that takes the whole page is shown in part; else it begins the next one.
        if writer.left < 0 and parts:
            break
        parts.append(text)
    end = min(start + len(parts), total)
    more = total - end
    if start:
        text = "\n".join(_rows([*parts, ""], WIDTH, layout.mapping)).rstrip() or "[no more items]"
    else:
        if more:
            parts.append(f"... [{more} more]")
        text = layout.joined(value, parts, 0)
    text, fits = _within(text, limit)
    return Shown(text, bool(more) or writer.cut or not fits, end - start, total)


def _show_text(value: Any, writer: _Writer, limit: int, start: int) -> Shown:
    kind = type(value)
    whole = value if kind is str or kind is bytes else writer.repr_of(value)
    total = len(whole)
    if kind is str or kind is bytes:
        # As many characters as surely fit when each is escaped, but for those that need none.
        piece = whole[start : start + limit]
        while len(piece) > 16 and byte_size(repr(piece)) > limit:
            piece = piece[: len(piece) // 2]
        text = repr(piece)
        end = start + len(piece)
    else:
        text = first_bytes(_encodable(whole[start : start + limit]), limit)
        end = start + len(text)
    cut = end < total
    if not cut and not start:
        return Shown(text, writer.cut)
    return Shown(text, cut or writer.cut, end - start, total)


def _within(text: str, limit: int) -> tuple[str, bool]:
    text = _encodable(text)
    if byte_size(text) <= limit:
        return text, True
    return first_bytes(text, limit - 10) + "...", False


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


class _Layout:
    """How the containers of a type are written."""

    def __init__(self, opening: str, closing: str, base: Any, mapping: bool = False, named: bool = False) -> None:
        self.opening = opening
        self.closing = closing
        self.mapping = mapping
        self.named = named
        self.base = base

    def length(self, value: Any) -> int:
        return int(self.base.__len__(value))

    def items(self, value: Any, start: int, count: int) -> list[Any]:
        """Some items, or pairs, taken at once as far as that goes: other threads may change it meanwhile."""
        if hasattr(self.base, "__getitem__") and not self.mapping and self.base is not deque:
            return list(self.base.__getitem__(value, slice(start, start + count)))
        found: Iterable[Any] = self.base.items(value) if self.mapping else self.base.__iter__(value)
        for _ in range(3):
            try:
                return list(islice(found, start, start + count))
            except RuntimeError:  # it changed its size
                found = self.base.items(value) if self.mapping else self.base.__iter__(value)
        return []

    def joined(self, value: Any, parts: list[str], indent: int) -> str:
        opening, closing = self.opening, self.closing
        if not parts and self.base in (set, frozenset):
            return "set()" if self.base is set and not self.named else f"{_short(value)}()"
        if self.named:
            before = f"{_factory(value)}, " if self.base is defaultdict else ""
            opening, closing = f"{_short(value)}({before}{opening}", f"{closing})"
        if self.base is tuple and len(parts) == 1 and not self.named:
            closing = ",)"
        line = f"{opening}{', '.join(parts)}{closing}"
        if not parts or (indent + len(line) <= WIDTH and "\n" not in line):
            return line
        inner = " " * (indent + 1)
        laid = f"\n{inner}".join(_rows(parts, WIDTH - indent - 1, self.mapping))
        return f"{opening}\n{inner}{laid}{closing}" if len(opening) > 1 else f"{opening}{laid}{closing}"


def _rows(parts: list[str], width: int, mapping: bool) -> list[str]:
    """Items with commas between them, as many in a row as `width` holds; pairs, and what has several lines, alone."""
    *several, last = parts
    items = [*[f"{part}," for part in several], last]
    if mapping or any("\n" in part for part in parts):
        return items
    rows: list[str] = []
    row, room = [items[0]], width - len(items[0])
    for item in items[1:]:
        if len(item) + 1 > room:
            rows.append(" ".join(row))
            row, room = [], width + 1
        row.append(item)
        room -= len(item) + 1
    return [*rows, " ".join(row)]


def _short(value: Any) -> str:
    return type_name(type(value)).rpartition(".")[2]


def _factory(value: Any) -> str:
    try:
        return repr(value.default_factory)[:200]
    except Exception:
        return "?"


_BUILTIN = type(list.__repr__)
_EMPTY: dict[str, str] = {}
_KEYS, _VALUES, _ITEMS = type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items())

#: Each type whose repr is one of Python's containers', by that repr.
_LAYOUTS: dict[Any, _Layout] = {
    list.__repr__: _Layout("[", "]", list),
    tuple.__repr__: _Layout("(", ")", tuple),
    set.__repr__: _Layout("{", "}", set),
    frozenset.__repr__: _Layout("{", "}", frozenset, named=True),
    dict.__repr__: _Layout("{", "}", dict, mapping=True),
    OrderedDict.__repr__: _Layout("{", "}", OrderedDict, mapping=True, named=True),
    defaultdict.__repr__: _Layout("{", "}", defaultdict, mapping=True, named=True),
    deque.__repr__: _Layout("[", "]", deque, named=True),
    _KEYS.__repr__: _Layout("[", "]", _KEYS, named=True),
    _VALUES.__repr__: _Layout("[", "]", _VALUES, named=True),
    _ITEMS.__repr__: _Layout("[", "]", _ITEMS, named=True),
}


def _layout(value: Any) -> _Layout | None:
    for kind in type.__dict__["__mro__"].__get__(type(value)):
        own = kind.__dict__.get("__repr__")
        if own is not None:
            found = _LAYOUTS.get(own) if type(own) is _BUILTIN else None
            if found is not None and found.base is set and type(value) is not set:
                return _Layout("{", "}", set, named=True)
            return found
    return None


class _Writer:
    """The room that is left, in bytes, and whether something was left out of what is inside."""

    def __init__(self, room: int) -> None:
        self.left = room
        self.cut = False
        self._path: set[int] = set()

    def items(self, value: Any, layout: _Layout, start: int, level: int, indent: int = 1) -> Iterator[str]:
        """The texts of some items, one after another."""
        for item in layout.items(value, start, MAX_ITEMS):
            before = self.left
            if layout.mapping:
                key = self.node(item[0], level, indent)
                last = len(key) - (key.rfind("\n") + 1)
                text = f"{key}: {self.node(item[1], level, indent + min(last + 2, 40))}"
            else:
                text = self.node(item, level, indent)
            self.left = min(self.left, before - byte_size(text) - 2)
            yield text

    def node(self, value: Any, level: int, indent: int) -> str:
        layout = _layout(value)
        if layout is None:
            text = self.leaf(value)
            self.left -= len(text)
            return text
        if id(value) in self._path:
            return f"{layout.opening}...{layout.closing}"
        total = layout.length(value)
        if total and (level >= MAX_LEVELS or self.left <= 0):
            self.cut = True
            return f"{layout.opening}... [{total} more]{layout.closing}"
        self._path.add(id(value))
        try:
            parts: list[str] = []
            for text in self.items(value, layout, 0, level + 1, indent + 1):
                parts.append(text)
                if self.left <= 0:
                    break
        finally:
            self._path.discard(id(value))
        if total > len(parts):
            self.cut = True
            parts.append(f"... [{total - len(parts)} more]")
        return layout.joined(value, parts, indent)

    def leaf(self, value: Any) -> str:
        """A value within a container, cut to what is left."""
        room = max(self.left, 40)
        if type(value) is str or type(value) is bytes:
            text = repr(value[: room + 1])
            more = len(value) - room
        else:
            text = self.repr_of(value)
            more = len(text) - room
            text = text[:room]
        if more > 0:
            self.cut = True
            return f"{text[:room]}... [{more} more]"
        return text

    def repr_of(self, value: Any) -> str:
        """What the value says of itself, as an exact str."""
        if type(value) is int and value.bit_length() > MAX_BITS:
            self.cut = True
            return f"<int of {value.bit_length()} bits>"
        try:
            text = repr(value)
        except Exception as error:  # the program's code; what is no Exception ends the command
            return f"<{type_name(type(value))} at {id(value):#x}, whose repr raised {type_name(type(error))}>"
        return str.__getitem__(text, slice(None))
