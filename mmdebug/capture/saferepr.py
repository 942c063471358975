"""Texts of values for the moment at which a program fails: bounded, redacted, and without running any of its code.

No ``__repr__``, ``__str__``, ``__len__``, ``__iter__``, ``__getattr__``, property or metaclass of the program is
called, since such code may raise, hang, lie or change what it looks at. Values are read by the methods of the
built-in types and by the descriptors that CPython itself made. A real type is asked for by `type`, never by
`isinstance` (which asks ``__class__``), and types are looked up by `id` (a metaclass may define ``__hash__``).

Not for terminals or pages: what is printable stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mmstats import redact

from .safetext import LONGEST_NAME, MARGIN, first_bytes, fitted, is_secret, redacted
from .safetypes import Kind, int_text, name_text

#: A string of this many characters counts as a node more: redaction takes a time in proportion to the length.
_CHARACTERS_OF_A_NODE = 64

UNREADABLE = "<unreadable>"
CYCLE = "<cycle>"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a value is shown.

    depth: how many levels of containers and objects
    items: of each container or object
    string: bytes of each string, before escapes
    nodes: values in the whole text
    bytes: of the whole text in UTF-8, marks of what was cut included
    """

    depth: int = 4
    items: int = 16
    string: int = 256
    nodes: int = 200
    bytes: int = 2048


DEFAULT = Budget()


def saferepr(value: object, budget: Budget = DEFAULT) -> str:
    """A text of `value` within `budget`, without secrets. Never raises."""
    return Texts().of(value, budget)


def named(name: str, value: object, budget: Budget = DEFAULT) -> str:
    """As `saferepr`; ``[redacted]`` if `name` says that it is secret and `value` is not None."""
    return Texts().named(name, value, budget)


class Texts:
    """Texts of many values that share a budget.

    nodes, size: how many values and bytes are left for all of them
    """

    def __init__(self, nodes: int = 1 << 60, size: int = 1 << 60) -> None:
        self.nodes = nodes
        self.size = size
        self._kinds: dict[int, tuple[type, Kind]] = {}
        # Many frames have the same self. The value is kept with its text, so that no other one gets its number.
        self._whole: dict[int, tuple[object, Budget, str]] = {}

    @property
    def spent(self) -> bool:
        """Whether there is nothing left."""
        return self.nodes <= 0 or self.size <= 0

    def of(self, value: object, budget: Budget = DEFAULT) -> str:
        """A text of `value`. Never raises."""
        kind = type(value)
        try:
            if (value is None or kind is bool or kind is float or kind is int) and budget.bytes >= 400 < self.size:
                text = int_text(value) if kind is int else repr(value)  # type: ignore[arg-type]
                self.nodes -= 1
                self.size -= len(text)
                return text
            known = self._whole.get(id(value)) if kind is not str else None
            if known is not None and known[1] is budget and len(known[2]) * 4 <= self.size:
                self.size -= len(known[2])
                return known[2]
            writer = Writer(budget, min(budget.nodes, self.nodes), min(budget.bytes, self.size), self._kinds)
            before = writer.nodes
            try:
                text = fitted(writer.node(value, budget.depth), min(budget.bytes, self.size))
            finally:
                self.nodes -= before - max(writer.nodes, 0)
            if kind is not str and self.size >= budget.bytes and writer.nodes > 0:
                self._whole[id(value)] = (value, budget, text)
            self.size -= len(text)
            return text
        except (MemoryError, RecursionError):
            return fitted("<no room to read it>", budget.bytes)
        except Exception:  # whatever it is, the program that is failing must not fail of us
            return fitted(UNREADABLE, budget.bytes)

    def named(self, name: str, value: object, budget: Budget = DEFAULT) -> str:
        """As `of`, redacted by its name as well. Never raises."""
        try:
            if value is not None and is_secret(name):
                self.nodes -= 1
                self.size -= len(redact.REDACTED)
                return redact.REDACTED
        except (MemoryError, RecursionError):
            return redact.REDACTED
        return self.of(value, budget)


class Writer:
    """The text of one value: what is left of its budget, and the containers that it is in."""

    __slots__ = ("budget", "kinds", "left", "nodes", "path")

    def __init__(self, budget: Budget, nodes: int, left: int, kinds: dict[int, tuple[type, Kind]]) -> None:
        self.budget = budget
        self.nodes = nodes
        self.left = left
        self.kinds = kinds
        self.path: set[int] = set()

    def node(self, value: object, depth: int) -> str:
        """One value, and what is in it down to `depth` levels."""
        self.nodes -= 1
        if self.nodes < 0 or self.left <= 0:
            return "..."
        kind = type(value)
        if kind is str:
            text = self.string(value)  # type: ignore[arg-type]
        elif value is None or kind is bool or kind is float:
            text = repr(value)
        elif kind is int:
            text = int_text(value)  # type: ignore[arg-type]
        else:
            return self.other(value, kind, depth)
        self.left -= len(text)
        return text

    def other(self, value: object, kind: type, depth: int) -> str:
        cached = self.kinds.get(id(kind))
        if cached is None:
            # The type is kept with its number, so that no other type gets the same one.
            cached = self.kinds[id(kind)] = (kind, Kind(kind))
        how = cached[1]
        if id(value) in self.path:
            return CYCLE
        self.path.add(id(value))
        left = self.left
        try:
            text = how.read(self, value, depth, how)
        finally:
            self.path.discard(id(value))
        self.left = min(self.left, left - len(text))
        return text

    def string(self, value: str) -> str:
        limit = self.budget.string
        length = str.__len__(value)
        piece = str.__getitem__(value, slice(0, limit + MARGIN))
        self.nodes -= len(piece) // _CHARACTERS_OF_A_NODE
        text = redacted(piece, length - len(piece), limit)
        shown = first_bytes(text, limit)
        more = (length if length > len(piece) else len(text)) - len(shown)
        return repr(shown) if more <= 0 else f"{shown!r}... [{more} more]"

    def octets(self, base: Any, value: Any) -> str:
        limit = self.budget.string
        length = base.__len__(value)
        piece = bytes(base.__getitem__(value, slice(0, limit + MARGIN))).decode("latin-1")
        self.nodes -= len(piece) // _CHARACTERS_OF_A_NODE
        text = redacted(piece, length - len(piece), limit)
        shown = text[: max(limit, 0)]
        more = (length if length > len(piece) else len(text)) - len(shown)
        quoted = repr(shown.encode("latin-1"))
        return quoted if more <= 0 else f"{quoted}... [{more} more]"

    def listed(self, found: Iterator[Any] | list[Any], total: int, one: Callable[[Any], str]) -> str:
        """Items, each by `one`, parted by commas, as many as the budget lets; the rest is counted."""
        parts: list[str] = []
        for item in found:
            if len(parts) >= self.budget.items or self.nodes <= 0 or self.left <= 0:
                break
            parts.append(one(item))
            self.left -= 2
        if total > len(parts):
            parts.append(f"... [{total - len(parts)} more]")
        return ", ".join(parts)

    def sequence(self, found: list[Any], total: int, depth: int) -> str:
        """Items one after another; one that is named as secret by the item before it is redacted."""
        if depth <= 0:
            return f"... [{total} more]" if total else ""
        hidden = _hidden(found, total)
        return self.listed(
            list(enumerate(found)),
            total,
            lambda item: redact.REDACTED if item[0] in hidden else self.node(item[1], depth - 1),
        )

    def pairs(self, found: list[tuple[Any, Any]], total: int, depth: int, sign: str = ": ") -> str:
        """Keys and values, or attributes if `sign` is ``=``."""
        if depth <= 0:
            return f"... [{total} more]" if total else ""
        return self.listed(found, total, lambda pair: self._pair(pair[0], pair[1], depth, sign))

    def _pair(self, key: object, value: object, depth: int, sign: str) -> str:
        if sign == "=":
            text = name_text(key)
            self.left -= len(text)
        else:
            text = self.node(key, depth - 1)
        # A key that is no string may have a name all the same: a member of an enum, a tuple.
        kind = type(key)
        secret = is_secret(key) or (
            kind is not int and not issubclass(kind, (str, bytes)) and redact.secret_name(text[:LONGEST_NAME])
        )
        if secret and value is not None:
            self.nodes -= 1
            self.left -= len(redact.REDACTED)
            return f"{text}{sign}{redact.REDACTED}"
        return f"{text}{sign}{self.node(value, depth - 1)}"


def _hidden(found: list[Any], total: int) -> set[int]:
    """Which items are secrets: the other half of ``("password", "x")``, and what follows ``--password``."""
    hidden: set[int] = set()
    for index, item in enumerate(found[:-1]):
        if index in hidden or not issubclass(type(item), (str, bytes)) or found[index + 1] is None:
            continue
        base: Any = str if issubclass(type(item), str) else bytes
        dashed = base.__getitem__(item, slice(0, 1)) in ("-", b"-")
        if (total == 2 or dashed) and is_secret(item):
            sign = "=" if base is str else b"="
            if not (dashed and sign in base.__getitem__(item, slice(0, LONGEST_NAME))):
                hidden.add(index + 1)
    return hidden
