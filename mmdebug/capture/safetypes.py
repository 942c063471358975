"""How values of each type are read and written, without running any code of the program.

`Kind` finds out how a type is to be read; the readers below it do it by the methods of built-in types and by the
descriptors that CPython itself made. `saferepr` says why, and holds the budget.
"""

from __future__ import annotations

import collections
import enum
import sys
import types
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from mmstats import redact

from .safetext import LONGEST_NAME, clean, is_secret, without_secrets

if TYPE_CHECKING:
    from .saferepr import Writer

_LONGEST_INT = 1024  # bits

_MRO = type.__dict__["__mro__"].__get__
_NAMESPACE = type.__dict__["__dict__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__
_MODULE = type.__dict__["__module__"].__get__


def type_name(kind: type) -> str:
    """``module.Type``, without ``builtins.``. Asks no metaclass. Raises only where there is no memory."""
    name = name_text(_QUALNAME(kind))
    try:
        module = _MODULE(kind)
    except AttributeError:  # deleted
        return name
    return name if module == "builtins" or type(module) is not str else f"{name_text(module)}.{name}"


def name_text(name: Any) -> str:
    """A name that the program may have chosen, as text."""
    if not issubclass(type(name), str):
        return "?"
    text = str.__getitem__(name, slice(0, LONGEST_NAME))
    return text if text.isidentifier() and len(text) < 32 else clean(without_secrets(text)).replace("\n", "\\n")


def _dataclass_hidden(namespace: Any) -> frozenset[str]:
    """The fields that a dataclass keeps out of its own repr."""
    fields = namespace.get("__dataclass_fields__")
    module = sys.modules.get("dataclasses")
    if type(fields) is not dict or type(module) is not types.ModuleType:
        return frozenset()
    kind = module.__dict__.get("Field")
    return frozenset([n for n, f in list(fields.items()) if type(n) is str and type(f) is kind and f.repr is False])


class Kind:
    """How values of one type are read."""

    __slots__ = ("dictionary", "exact", "hidden", "name", "namespace", "read", "slots")

    def __init__(self, kind: type) -> None:
        self.name = type_name(kind)
        self.namespace = _NAMESPACE(kind)
        self.hidden = _dataclass_hidden(self.namespace)
        self.dictionary: Any = None
        self.slots: list[tuple[str, Any]] = []
        self.exact = True
        self.read: _Read = _object
        known = _known()
        found = False
        for base in _MRO(kind):
            read = known.get(id(base))
            if read is not None and not found:
                self.read, self.exact, found = read, base is kind, True
            namespace = _NAMESPACE(base)
            dictionary = namespace.get("__dict__")
            if self.dictionary is None and type(dictionary) in _DESCRIPTORS:
                self.dictionary = dictionary
            if "__slots__" in namespace:
                self.slots += [(n, m) for n, m in namespace.items() if type(m) is types.MemberDescriptorType]
        if issubclass(type(kind), enum.EnumMeta):
            self.read = _enum_member
        elif found and self.read is _tuple and not self.exact and type(self.namespace.get("_fields")) is tuple:
            self.read = _named_tuple

    def attributes(self, value: object) -> tuple[list[tuple[object, object]], int]:
        """What `value` has in its slots and its ``__dict__``, up to a bound, and how many more there are."""
        found: list[tuple[object, object]] = []
        for name, member in self.slots:
            try:
                found.append((name, types.MemberDescriptorType.__get__(member, value)))
            except (AttributeError, TypeError):  # not set; or another class's
                continue
        if self.dictionary is None:
            return found, 0
        try:
            own = type(self.dictionary).__get__(self.dictionary, value)
        except (AttributeError, TypeError):
            return found, 0
        if not issubclass(type(own), dict):
            return found, 0
        items = first(lambda: dict.items(own), 256)
        return found + items, max(0, dict.__len__(own) - len(items))


def first(iterate: Callable[[], Iterable[Any]], count: int) -> list[Any]:
    """The first items of a container that other threads, or the collector, may change meanwhile."""
    for _ in range(3):
        try:
            return list(islice(iterate(), count))
        except RuntimeError:  # changed its size
            continue
    return []


_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)


# Readers: each gets the writer, the value, how deep it may go, and the value's kind.

_Read = Callable[["Writer", Any, int, Kind], str]


def _wrapped(kind: Kind, text: str, name: str = "") -> str:
    """Say the type, unless it is one whose text says it."""
    if kind.exact:
        return f"{name}({text})" if name else text
    return f"{kind.name}({text})"


def int_text(value: int) -> str:
    """An int, or its size if it is huge: its decimal digits take long, and more than 4300 of them raise."""
    bits = int.bit_length(value)
    return int.__repr__(value) if bits <= _LONGEST_INT else f"<int of {bits} bits>"


def _int(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return _wrapped(kind, int_text(value))


def _float(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return _wrapped(kind, float.__repr__(value))


def _complex(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return _wrapped(kind, complex.__repr__(value))


def _str(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return _wrapped(kind, writer.string(value))


def _bytes(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return _wrapped(kind, writer.octets(bytes, value))


def _bytearray(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return _wrapped(kind, writer.octets(bytearray, value), "bytearray")


def _list(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    found = list.__getitem__(value, slice(0, writer.budget.items + 1))
    return _wrapped(kind, f"[{writer.sequence(found, list.__len__(value), depth)}]")


def _tuple(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    total = tuple.__len__(value)
    found = list(islice(tuple.__iter__(value), writer.budget.items + 1))
    return _wrapped(kind, f"({writer.sequence(found, total, depth)}{',' if total == 1 else ''})")


def _named_tuple(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    names, total = kind.namespace["_fields"], tuple.__len__(value)
    found = list(zip(names, islice(tuple.__iter__(value), writer.budget.items + 1), strict=False))
    return f"{kind.name}({writer.pairs(found, total, depth, '=')})"


def _dict(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    found = first(lambda: dict.items(value), writer.budget.items + 1)
    name = "" if kind.name == "dict" else kind.name
    return _wrapped(kind, f"{{{writer.pairs(found, dict.__len__(value), depth)}}}", name)


def _set(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return _wrapped(kind, _items_of(set, writer, value, depth) or "set()")


def _frozenset(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return _wrapped(kind, _items_of(frozenset, writer, value, depth), "frozenset")


def _items_of(base: Any, writer: Writer, value: Any, depth: int) -> str:
    total = base.__len__(value)
    found = first(lambda: base.__iter__(value), writer.budget.items + 1)
    if depth <= 0:
        return f"{{... [{total} more]}}" if total else ""
    return f"{{{writer.listed(found, total, lambda item: writer.node(item, depth - 1))}}}" if total else ""


def _deque(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    base = collections.deque
    found = first(lambda: base.__iter__(value), writer.budget.items + 1)
    return _wrapped(kind, f"[{writer.sequence(found, base.__len__(value), depth)}]", kind.name)


def _range(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return (
        f"{kind.name}({writer.listed([value.start, value.stop, value.step], 3, lambda v: writer.node(v, depth - 1))})"
    )


def _class(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return f"<class '{type_name(value)}'>"


def _module(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    # Its own __getattr__ is not asked.
    namespace = _MODULE_NAMESPACE(value)
    return f"<module '{name_text(namespace.get('__name__') if type(namespace) is dict else None)}'>"


def _function(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    module = value.__module__
    return f"<function {f'{name_text(module)}.' if type(module) is str else ''}{name_text(value.__qualname__)}>"


def _method(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    function, owner = value.__func__, type_name(type(value.__self__))
    return (
        f"<bound method {name_text(function.__qualname__) if type(function) is types.FunctionType else '?'} of {owner}>"
    )


def _builtin(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return f"<built-in function {name_text(value.__name__)}>"


def _generator(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return f"<{kind.name} {name_text(value.__qualname__)}>"


def _exception(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    arguments = _ARGUMENTS(value)
    return f"{kind.name}({writer.sequence(list(arguments[: writer.budget.items + 1]), len(arguments), depth)})"


def _enum_member(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    found = _by_name(kind.attributes(value)[0])
    name = found.get("_name_")
    shown = redact.REDACTED if is_secret(name) else writer.node(found.get("_value_"), max(depth - 1, 0))
    return f"<{kind.name}{f'.{name_text(name)}' if name is not None else ''}: {shown}>"


def _object(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    found, more = kind.attributes(value) if depth > 0 else ([], 0)
    special = _SPECIAL.get(kind.name)
    if special is not None and found:
        text = special(writer, _by_name(found))
        if text:
            return f"{kind.name.rpartition('.')[2]}({text})"
    if not found:
        return f"<{kind.name} object at {id(value):#x}>"
    if kind.hidden:
        found = [(n, _HIDDEN if type(n) is str and n in kind.hidden else attribute) for n, attribute in found]
    return f"<{kind.name} {writer.pairs(found, len(found) + more, depth, '=')}>"


def _by_name(attributes: list[tuple[object, object]]) -> dict[object, object]:
    """Attributes by their names; those whose name is no string, and has a hash of its own, are left out."""
    return {name: attribute for name, attribute in attributes if type(name) is str}


class _Hidden:
    """In the place of the value of a field that its dataclass does not show either."""

    __slots__ = ()


_HIDDEN = _Hidden()


def _hidden_value(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return redact.REDACTED


# Types of the standard library that are written in Python: told by their names and by what they hold, so that a liar
# gets no more than a text of its own attributes. Each returns "" if something is not what the name says.

_Special = Callable[["Writer", dict[object, object]], str]


def _fraction(writer: Writer, found: dict[object, object]) -> str:
    top, bottom = found.get("_numerator"), found.get("_denominator")
    small = type(top) is int and type(bottom) is int and max(top.bit_length(), bottom.bit_length()) <= _LONGEST_INT
    return f"{top}, {bottom}" if small else ""


def _uuid(writer: Writer, found: dict[object, object]) -> str:
    number = found.get("int")
    if type(number) is not int or not 0 <= number < 1 << 128:
        return ""
    digits = f"{number:032x}"
    return f"'{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}'"


def _path(writer: Writer, found: dict[object, object]) -> str:
    whole = found.get("_str")
    if type(whole) is str:
        return writer.string(whole)
    # Not asked for its text yet: 3.11 keeps the parts, later versions what it was made of.
    parts = found.get("_raw_paths", found.get("_parts"))
    if type(parts) is not list or not parts or len(parts) > 64 or any(type(part) is not str for part in parts):
        return ""
    if parts[0] == "/":
        parts = ["", *parts[1:]]
    return writer.string("/".join(parts) or "/")


_SPECIAL: dict[str, _Special] = {
    "fractions.Fraction": _fraction,
    "uuid.UUID": _uuid,
    **{f"{m}.{n}": _path for m in ("pathlib", "pathlib._local") for n in ("PosixPath", "PurePosixPath")},
}


# Types of the standard library that are written in C, if the program has them. The C modules are asked, not those in
# front of them, since tests put classes of their own into the latter.


def _decimal(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    base: Any = sys.modules["_decimal"].__dict__["Decimal"]
    size = base.__sizeof__(value)
    return _wrapped(kind, f"'{base.__str__(value)}'" if size < 1024 else f"<{size} bytes>", "Decimal")


def _moment(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    """A date, time or datetime: by its fields, since its own texts ask its time zone, which may be the program's."""
    module: Any = sys.modules["_datetime"].__dict__
    mro = [id(base) for base in _MRO(type(value))]
    parts = []
    zone: Any = None
    if id(module["date"]) in mro:
        year, month, day = _fields(module["date"], value, "year", "month", "day")
        parts.append(f"{year:04}-{month:02}-{day:02}")
    clock = next((module[name] for name in ("datetime", "time") if id(module[name]) in mro), None)
    if clock is not None:
        hour, minute, second, micro, zone = _fields(clock, value, "hour", "minute", "second", "microsecond", "tzinfo")
        parts.append(f"{hour:02}:{minute:02}:{second:02}{f'.{micro:06}' if micro else ''}")
    if type(zone) is module["timezone"]:
        parts.append(_duration(module["timezone"].utcoffset(zone, None)))
    elif zone is not None:
        parts.append(type_name(type(zone)))
    return _wrapped(kind, " ".join(parts), kind.name.rpartition(".")[2])


def _fields(base: Any, value: object, *names: str) -> list[Any]:
    return [base.__dict__[name].__get__(value) for name in names]


def _duration(value: Any) -> str:
    base: Any = sys.modules["_datetime"].__dict__["timedelta"]
    days, seconds, micro = _fields(base, value, "days", "seconds", "microseconds")
    micros = (days * 86400 + seconds) * 10**6 + micro
    whole, part = divmod(abs(micros), 10**6)
    return f"{'-' if micros < 0 else '+'}{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" + (
        f".{part:06}" if part else ""
    )


def _timedelta(writer: Writer, value: Any, depth: int, kind: Kind) -> str:
    return _wrapped(kind, _duration(value), "timedelta")


_MODULE_NAMESPACE = vars(types.ModuleType)["__dict__"].__get__
_ARGUMENTS = BaseException.__dict__["args"].__get__

_BUILTIN: list[tuple[Any, _Read]] = [
    (int, _int), (float, _float), (complex, _complex), (str, _str), (bytes, _bytes), (bytearray, _bytearray),
    (list, _list), (tuple, _tuple), (dict, _dict), (set, _set), (frozenset, _frozenset),
    (collections.deque, _deque), (range, _range), (slice, _range), (type, _class), (types.ModuleType, _module),
    (types.FunctionType, _function), (types.MethodType, _method), (types.BuiltinFunctionType, _builtin),
    (types.GeneratorType, _generator), (types.CoroutineType, _generator), (types.AsyncGeneratorType, _generator),
    (BaseException, _exception), (_Hidden, _hidden_value),
]  # fmt: skip
_BY_ID: dict[int, _Read] = {id(kind): read for kind, read in _BUILTIN}
_LATE: list[tuple[str, str, _Read]] = [
    ("_decimal", "Decimal", _decimal),
    ("_datetime", "date", _moment),
    ("_datetime", "time", _moment),
    ("_datetime", "timedelta", _timedelta),
]


def _known() -> dict[int, _Read]:
    """How to read which type, by the type's `id`."""
    for module, name, read in _LATE:
        found = sys.modules.get(module)
        if type(found) is types.ModuleType and name in found.__dict__:
            _BY_ID[id(found.__dict__[name])] = read
    return _BY_ID
