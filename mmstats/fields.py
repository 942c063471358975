"""The fields of a model: what is recorded, under which name, and with which meaning.

A field is a definition and holds no value; a model's instance gets a cell for each of its fields.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from math import isfinite
from operator import index
from typing import TYPE_CHECKING, Any, overload

from . import cells, layout
from .errors import DefinitionError

if TYPE_CHECKING:
    from typing import Never, TypedDict, Unpack

    class _Common(TypedDict, total=False):
        """What all fields take, but for `label`, which some take by position."""

        name: str | None
        help: str
        unit: str
        labelnames: Iterable[str]
        aggregate: str | None

    class _CommonAndLabel(_Common, total=False):
        label: str | None


#: Prometheus' default buckets, in seconds (prometheus_client's ``Histogram.DEFAULT_BUCKETS``).
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def exponential_buckets(start: float, factor: float, count: int) -> tuple[float, ...]:
    """`count` bounds, the first one `start` and each `factor` times the one before it."""
    if not (start > 0 and factor > 1 and count >= 1):
        raise DefinitionError("exponential buckets need a start above 0, a factor above 1 and a count of 1 or more")
    return tuple([start * factor**i for i in range(count)])


def linear_buckets(start: float, width: float, count: int) -> tuple[float, ...]:
    """`count` bounds, the first one `start` and each `width` more than the one before it."""
    if not (width > 0 and count >= 1):
        raise DefinitionError("linear buckets need a width above 0 and a count of 1 or more")
    return tuple([start + width * i for i in range(count)])


def _check_texts(keyword: str, texts: Iterable[Any]) -> None:
    """Refuse what can't stand in a definition."""
    for text in texts:
        try:
            text.encode()
        except (AttributeError, UnicodeEncodeError):
            raise DefinitionError(f"{keyword}={text!r}: a text is needed") from None


def _caller() -> str:
    """Where the program defines what it is defining: ``file:line``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Field:
    """What all fields share.

    name: what is exposed; the attribute's name if left out (`label` is mmstats 0.x's word for it)
    help: one line for people
    unit: the unit of the value, such as ``seconds`` or ``bytes``
    labelnames: names of labels; the field then has ``labels()`` and a value for each label set
    aggregate: how the values of several processes become one: sum, min, max, mean, last, all
    """

    kind = "gauge"
    cell = "f64"
    aggregate = "sum"
    flags = 0
    #: How a model shows it: "object" has methods, "value" is read and set as an attribute,
    #: "fresh" is a new object at each access, "static" can't be set.
    access = "object"

    def __init__(
        self,
        label: str | None = None,
        *,
        name: str | None = None,
        help: str = "",
        unit: str = "",
        labelnames: Iterable[str] = (),
        aggregate: str | None = None,
    ) -> None:
        self.name = name or label
        self.label = self.name
        self.help = help
        self.unit = unit
        self.labelnames = (labelnames,) if isinstance(labelnames, str) else tuple(labelnames)
        self.place = _caller()
        for keyword, texts in (("name", (self.name or "",)), ("help", (help,)), ("unit", (unit,))):
            _check_texts(keyword, texts)
        _check_texts("labelnames", self.labelnames)
        if "" in self.labelnames:
            raise DefinitionError(f"labelnames={self.labelnames!r}: a label needs a name")
        if aggregate is not None:
            if aggregate not in layout.AGGREGATE_CODES:
                known = ", ".join(layout.AGGREGATE_CODES)
                raise DefinitionError(f"aggregate={aggregate!r} is unknown: it is one of {known}")
            self.aggregate = aggregate
        if len(set(self.labelnames)) != len(self.labelnames):
            raise DefinitionError(f"a label's name stands twice in labelnames={self.labelnames!r}")
        self.stamped = self.aggregate == "last" and self.can_stamp

    #: Whether the time of the last change can stand beside the value, which ``last`` needs.
    can_stamp = False

    def family(self, name: str) -> layout.Family:
        """The definition that goes into the file."""
        columns = self.columns()
        if self.stamped and columns:
            columns += (layout.Column("time", "u64"),)
        return layout.Family(
            name, self.kind, self.cell, self.aggregate, self.help, self.unit, self.labelnames, columns,
            self.bounds(), self.states(), self.flags | (layout.STAMPED if self.stamped else 0),
        )  # fmt: skip

    def columns(self) -> tuple[layout.Column, ...]:
        return ()

    def bounds(self) -> tuple[float, ...]:
        return ()

    def states(self) -> tuple[str, ...]:
        return ()

    def make_cell(self, owner: Any, series: Any) -> Any:
        """A cell of this field that has no memory yet."""
        raise NotImplementedError

    def rebind(self, cell: Any) -> None:
        """`cell`, which a forked child has of its parent, has got memory of the child's own."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class CounterField(Field):
    """A count that only goes up, such as requests served. ``type=float`` counts what is not whole."""

    kind = "counter"
    cell = "u64"

    def __init__(self, label: str | None = None, *, type: type = int, **keywords: Unpack[_Common]) -> None:
        super().__init__(label, **keywords)
        if type not in (int, float):
            raise DefinitionError(f"type={type!r}: a counter counts in int or float")
        if type is float:
            self.cell = "f64"

    def make_cell(self, owner: Any, series: Any) -> Any:
        return (cells.Counter if self.cell == "u64" else cells.FloatCounter)(owner, series)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> CounterField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> AnyCounter: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class GaugeField(Field):
    """A number that goes up and down, such as requests being served."""

    can_stamp = True

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Gauge(owner, series, 0.0, self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> GaugeField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> AnyGauge: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class HistogramField(Field):
    """Samples counted by size, such as latencies. `buckets` are the inclusive upper bounds."""

    kind = "histogram"
    cell = "buffered"

    def __init__(
        self, label: str | None = None, *, buckets: Iterable[float] = DEFAULT_BUCKETS, **keywords: Unpack[_Common]
    ) -> None:
        super().__init__(label, **keywords)
        given = [float(bound) for bound in buckets]
        if given and given[-1] == float("inf"):
            given.pop()  # as prometheus_client allows; the last bucket is always there
        if not given or not all(map(isfinite, given)) or any(a >= b for a, b in pairwise(given)):
            raise DefinitionError(f"buckets={given}: give one or more finite bounds in rising order")
        if len(given) > 1000:
            raise DefinitionError(f"{len(given)} buckets are too many: 1000 is the most")
        self._bounds = tuple(given)
        _only_adds(self)

    def bounds(self) -> tuple[float, ...]:
        return self._bounds

    def columns(self) -> tuple[layout.Column, ...]:
        buckets = layout.Column("buckets", "u64", len(self._bounds) + 1)
        return (layout.Column("count", "u64"), layout.Column("sum", "f64"), buckets)

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Histogram(owner, series, self._bounds)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> HistogramField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> AnyHistogram: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class AverageField(Field):
    """The mean of all samples, by ``add(x)``; kept as count and sum, so that processes merge."""

    kind = "average"
    cell = "buffered"

    def __init__(self, label: str | None = None, **keywords: Any) -> None:
        super().__init__(label, **keywords)
        _only_adds(self)

    def columns(self) -> tuple[layout.Column, ...]:
        return (layout.Column("count", "u64"), layout.Column("sum", "f64"))

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Average(owner, series)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> AverageField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> AnyAverage: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class MovingAverageField(Field):
    """The mean of the last `size` samples, by ``add(x)``."""

    kind = "moving_average"
    cell = "buffered"

    def __init__(self, size: int = 100, **keywords: Unpack[_CommonAndLabel]) -> None:
        super().__init__(**keywords)
        if not 1 <= size <= 1_000_000:
            raise DefinitionError(f"size={size}: a window holds from 1 to 1,000,000 samples")
        self.size = size
        _only_adds(self)

    def columns(self) -> tuple[layout.Column, ...]:
        return tuple([layout.Column(name, type) for name, type in layout.WINDOW_COLUMNS])

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Window(owner, series, self.size)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> MovingAverageField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> AnyWindow: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class TimerField(MovingAverageField):
    """How long things take, by ``with stats.render:``; `timer` is the clock, in seconds.

    Count, sum, last, shortest, longest and the mean of the last `size`. Any number of threads,
    greenlets and tasks may use one timer at once, nested or not. For quantiles use a
    `HistogramField` and its ``time()``.
    """

    kind = "timer"
    access = "fresh"

    def __init__(
        self, timer: Callable[[], float] | None = None, size: int = 100, **keywords: Unpack[_CommonAndLabel]
    ) -> None:
        keywords.setdefault("unit", "seconds")
        super().__init__(size, **keywords)
        self.timer = timer

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Window(owner, series, self.size, True, self.timer)

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def __get__(self, instance: None, owner: Any) -> TimerField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> AnyTimer: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class _IntegerField(Field):
    """An integer, read and set as an attribute; it wraps as C's integers do."""

    bits = 64
    signed = True
    access = "value"
    can_stamp = True

    def __init__(self, label: str | None = None, **keywords: Unpack[_Common]) -> None:
        super().__init__(label, **keywords)
        self.cell = "i64" if self.signed else "u64"

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Integer(owner, series, self.bits, self.signed, 0, self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> _IntegerField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> int: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: int) -> None: ...


class ByteField(_IntegerField):
    """A signed integer of 8 bits."""

    bits = 8


class ShortField(_IntegerField):
    """A signed integer of 16 bits."""

    bits = 16


class UShortField(_IntegerField):
    """An unsigned integer of 16 bits."""

    bits = 16
    signed = False


class IntField(_IntegerField):
    """A signed integer of 32 bits."""

    bits = 32


class UIntField(_IntegerField):
    """An unsigned integer of 32 bits."""

    bits = 32
    signed = False


class Int64Field(_IntegerField):
    """A signed integer of 64 bits."""


class UInt64Field(_IntegerField):
    """An unsigned integer of 64 bits."""

    signed = False


class DoubleField(Field):
    """A float of double precision, read and set as an attribute."""

    access = "value"
    can_stamp = True
    narrow = False

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Float(owner, series, self.narrow, 0.0, self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> DoubleField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> float: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: float) -> None: ...


class FloatField(DoubleField):
    """A float of single precision, read and set as an attribute."""

    narrow = True


class BoolField(Field):
    """True or False, read and set as an attribute. Over processes, the sum says how many are True."""

    kind = "bool"
    cell = "u64"
    access = "value"
    can_stamp = True

    def __init__(self, initial: bool = False, **keywords: Unpack[_CommonAndLabel]) -> None:
        super().__init__(**keywords)
        self.initial = initial

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Bool(owner, series, self.initial, self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> BoolField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> bool: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: Any) -> None: ...


class StringField(Field):
    """A text of at most `size` bytes of UTF-8, read and set as an attribute."""

    kind = "text"
    cell = "buffered"
    aggregate = "all"
    access = "value"
    can_stamp = True

    def __init__(self, size: int = 255, **keywords: Unpack[_CommonAndLabel]) -> None:
        super().__init__(**keywords)
        if not 1 <= size <= 32768:
            raise DefinitionError(f"size={size}: a text field holds from 1 to 32768 bytes")
        _no_arithmetic(self)
        self.size = size

    def columns(self) -> tuple[layout.Column, ...]:
        return (layout.Column("text", "text", self.size),)

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Text(owner, series, self.size, "", self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> StringField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> str: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: str | bytes) -> None: ...


class EnumField(Field):
    """One of a few named states, by ``state(name)``; the first one to begin with."""

    kind = "enum"
    cell = "u64"
    aggregate = "all"
    can_stamp = True

    def __init__(self, label: str | None = None, *, states: Iterable[str], **keywords: Unpack[_Common]) -> None:
        super().__init__(label, **keywords)
        self._states = tuple(states)
        _check_texts("states", self._states)
        if not self._states or len(set(self._states)) != len(self._states):
            raise DefinitionError("an EnumField needs states, each of them once")
        _no_arithmetic(self)

    def states(self) -> tuple[str, ...]:
        return self._states

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Enum(owner, series, self._states, self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> EnumField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> AnyEnum: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class InfoField(Field):
    """A few facts about the process, such as its version, by ``info({...})``."""

    kind = "info"
    cell = "buffered"
    aggregate = "all"

    def __init__(self, label: str | None = None, *, size: int = 512, **keywords: Unpack[_Common]) -> None:
        super().__init__(label, **keywords)
        if not 2 <= size <= 32768:
            raise DefinitionError(f"size={size}: an info field holds from 2 to 32768 bytes")
        _no_arithmetic(self)
        self.size = size

    def columns(self) -> tuple[layout.Column, ...]:
        return (layout.Column("text", "text", self.size),)

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Info(owner, series, self.size)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> InfoField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> AnyInfo: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class StructField(Field):
    """Several named values that change as one, by ``set(used=3, free=5)``.

    `values` maps each name to ``int``, ``float``, ``bool`` or ``str``; a text of another size than
    40 bytes is ``(str, size)``.
    """

    kind = "struct"
    cell = "buffered"
    aggregate = "all"

    def __init__(self, values: Mapping[str, Any], **keywords: Unpack[_CommonAndLabel]) -> None:
        super().__init__(**keywords)
        if not values:
            raise DefinitionError("a StructField needs values, such as {'used': int, 'free': int}")
        self._types: dict[str, tuple[type, int]] = {}
        for name, given in values.items():
            type_, size = given if isinstance(given, tuple) else (given, 40)
            if type_ not in (int, float, bool, str) or not 1 <= size <= 4096:
                raise DefinitionError(f"{name}: a struct's value is an int, float, bool, str or (str, size)")
            self._types[name] = (type_, size)

    def columns(self) -> tuple[layout.Column, ...]:
        types = {int: "i64", float: "f64", bool: "u64", str: "text"}
        return tuple(
            [
                layout.Column(name, types[type_], size if type_ is str else 1)
                for name, (type_, size) in self._types.items()
            ]
        )

    def _coerce(self, name: str, value: Any) -> Any:
        """`value` as the file can hold it: integers wrap as C's do, texts are cut."""
        type_, size = self._types[name]
        if type_ is int:
            return ((int(value) + (1 << 63)) & 0xFFFFFFFFFFFFFFFF) - (1 << 63)
        if type_ is str:
            return str(value).encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
        return type_(value)

    def _encode(self, values: Mapping[str, Any]) -> bytes:
        parts = []
        for name, (type_, size) in self._types.items():
            value = values[name]
            if type_ is float:
                parts.append(struct.pack("<d", value))
            elif type_ is str:
                data = value.encode()
                parts.append(struct.pack("<Q", len(data)) + data.ljust(layout.align(size), b"\0"))
            else:
                parts.append(struct.pack("<q", value))
        return b"".join(parts)

    def make_cell(self, owner: Any, series: Any) -> Any:
        initial = {name: type_() for name, (type_, _) in self._types.items()}
        return cells.Struct(owner, series, self._encode, self._coerce, initial)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> StructField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> AnyStruct: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class _StaticField(Field):
    """A value that is set once, from a value or from a callable that is called for it."""

    aggregate = "all"
    access = "static"
    flags = layout.STATIC
    base: Callable[..., Any]

    def __init__(self, label: str | None = None, value: Any = None, **keywords: Unpack[_Common]) -> None:
        super().__init__(label, **keywords)
        self.value = value

    def _resolve(self) -> Any:
        value = self.value() if callable(self.value) else self.value
        if value is None:
            raise ValueError(f"{self.name or type(self).__name__}: value must be set")
        return self._convert(value)

    def _convert(self, value: Any) -> Any:
        """`value` as the cell takes it. Raises before there is a cell, and so before anything is declared."""
        raise NotImplementedError

    def _cell(self, owner: Any, series: Any, value: Any) -> Any:
        """A cell that begins with `value`."""
        raise NotImplementedError

    def make_cell(self, owner: Any, series: Any) -> Any:
        # Without an owner it is the cell of a removed model, whose value nobody sees.
        return self._cell(owner, series, self._resolve() if owner is not None else 0)

    def family(self, name: str) -> layout.Family:
        if self.value is None:
            raise ValueError(f"{name}: value must be set")
        return super().family(name)

    def rebind(self, cell: Any) -> None:
        if callable(self.value):
            try:
                cell.assign(self._resolve())
            except Exception:  # the program's own callable, which may fail in a forked child
                return

    if TYPE_CHECKING:

        def __set__(self, instance: object, value: Never) -> None: ...


class _StaticIntegerField(_StaticField):
    bits = 64
    signed = True

    def __init__(self, label: str | None = None, value: Any = None, **keywords: Unpack[_Common]) -> None:
        super().__init__(label, value, **keywords)
        self.cell = "i64" if self.signed else "u64"

    def _convert(self, value: Any) -> int:
        return index(value)

    def _cell(self, owner: Any, series: Any, value: Any) -> Any:
        return cells.Integer(owner, series, self.bits, self.signed, value)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> _StaticIntegerField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> int: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class StaticUIntField(_StaticIntegerField):
    """An unsigned integer of 32 bits that is set once."""

    bits = 32
    signed = False


class StaticInt64Field(_StaticIntegerField):
    """A signed integer of 64 bits that is set once."""


class StaticUInt64Field(_StaticIntegerField):
    """An unsigned integer of 64 bits that is set once."""

    signed = False


class StaticDoubleField(_StaticField):
    """A float of double precision that is set once."""

    narrow = False

    def _convert(self, value: Any) -> float:
        return float(value)

    def _cell(self, owner: Any, series: Any, value: Any) -> Any:
        return cells.Float(owner, series, self.narrow, value)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> StaticDoubleField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> float: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class StaticFloatField(StaticDoubleField):
    """A float of single precision that is set once."""

    narrow = True


class StaticTextField(_StaticField):
    """A text that is set once; `size` is the most it takes, in bytes of UTF-8."""

    kind = "text"
    cell = "buffered"

    def __init__(
        self, label: str | None = None, value: Any = None, size: int = 256, **keywords: Unpack[_Common]
    ) -> None:
        super().__init__(label, value, **keywords)
        self.size = size

    def columns(self) -> tuple[layout.Column, ...]:
        return (layout.Column("text", "text", self.size),)

    def _convert(self, value: Any) -> str:
        return cells.as_text(value)

    def _cell(self, owner: Any, series: Any, value: Any) -> Any:
        return cells.Text(owner, series, self.size, value)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> StaticTextField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> str: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


def _only_adds(field: Field) -> None:
    if field.aggregate not in ("sum", "all"):
        raise DefinitionError(f"aggregate={field.aggregate!r} makes no sense of samples, which add up: use sum or all")


def _no_arithmetic(field: Field) -> None:
    if field.aggregate not in ("last", "all"):
        raise DefinitionError(f"aggregate={field.aggregate!r} makes no sense of texts: use last or all")


if TYPE_CHECKING:
    # What a program gets from its fields, for its type checker: with labelnames a field only has
    # ``labels()``, which a checker can't see, so both are there.

    class AnyCounter(cells.Counter):
        def inc(self, n: float = 1) -> None: ...  # of a float with type=float
        def labels(self, *values: object, **named: object) -> cells.Counter: ...

    class AnyGauge(cells.Gauge):
        def labels(self, *values: object, **named: object) -> cells.Gauge: ...

    class AnyHistogram(cells.Histogram):
        def labels(self, *values: object, **named: object) -> cells.Histogram: ...

    class AnyAverage(cells.Average):
        def labels(self, *values: object, **named: object) -> cells.Average: ...

    class AnyWindow(cells.Window):
        def labels(self, *values: object, **named: object) -> cells.Window: ...

    class AnyTimer(cells.Timing):
        def labels(self, *values: object, **named: object) -> cells.Timing: ...

    class AnyEnum(cells.Enum):
        def labels(self, *values: object, **named: object) -> cells.Enum: ...

    class AnyInfo(cells.Info):
        def labels(self, *values: object, **named: object) -> cells.Info: ...

    class AnyStruct(cells.Struct):
        def labels(self, *values: object, **named: object) -> cells.Struct: ...
