"""The fields that a program records with by their methods: counters, gauges, histograms and so on."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any, overload

from . import cells, layout
from .attribute_fields import (  # noqa: F401  # mmstats 0.x had all fields in this module
    BoolField,
    ByteField,
    DoubleField,
    FloatField,
    Int64Field,
    IntField,
    ShortField,
    StaticDoubleField,
    StaticFloatField,
    StaticInt64Field,
    StaticTextField,
    StaticUInt64Field,
    StaticUIntField,
    StringField,
    UInt64Field,
    UIntField,
    UShortField,
)
from .errors import DefinitionError
from .field import Field, check_texts, no_arithmetic, only_adds

if TYPE_CHECKING:
    from typing import Unpack

    from .field import Common, CommonAndLabel

#: Prometheus' default buckets, in seconds (prometheus_client's ``Histogram.DEFAULT_BUCKETS``).
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


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


class CounterField(Field):
    """A count that only goes up, such as requests served. ``type=float`` counts what is not whole."""

    kind = "counter"
    cell = "u64"

    def __init__(self, label: str | None = None, *, type: type = int, **keywords: Unpack[Common]) -> None:
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
        self, label: str | None = None, *, buckets: Iterable[float] = DEFAULT_BUCKETS, **keywords: Unpack[Common]
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
        only_adds(self)

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
        only_adds(self)

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

    def __init__(self, size: int = 100, **keywords: Unpack[CommonAndLabel]) -> None:
        super().__init__(**keywords)
        if not 1 <= size <= 1_000_000:
            raise DefinitionError(f"size={size}: a window holds from 1 to 1,000,000 samples")
        self.size = size
        only_adds(self)

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
        self, timer: Callable[[], float] | None = None, size: int = 100, **keywords: Unpack[CommonAndLabel]
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


class EnumField(Field):
    """One of a few named states, by ``state(name)``; the first one to begin with."""

    kind = "enum"
    cell = "u64"
    aggregate = "all"
    can_stamp = True

    def __init__(self, label: str | None = None, *, states: Iterable[str], **keywords: Unpack[Common]) -> None:
        super().__init__(label, **keywords)
        self._states = tuple(states)
        check_texts("states", self._states)
        if not self._states or len(set(self._states)) != len(self._states):
            raise DefinitionError("an EnumField needs states, each of them once")
        no_arithmetic(self)

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

    def __init__(self, label: str | None = None, *, size: int = 512, **keywords: Unpack[Common]) -> None:
        super().__init__(label, **keywords)
        if not 2 <= size <= 32768:
            raise DefinitionError(f"size={size}: an info field holds from 2 to 32768 bytes")
        no_arithmetic(self)
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

    def __init__(self, values: Mapping[str, Any], **keywords: Unpack[CommonAndLabel]) -> None:
        super().__init__(**keywords)
        if not values:
            raise DefinitionError("a StructField needs values, such as {'used': int, 'free': int}")
        self._types: dict[str, tuple[type, int]] = {}
        for name, given in values.items():
            type_, size = given if isinstance(given, tuple) else (given, 40)
            if type_ not in (int, float, bool, str) or not 1 <= size <= layout.MAX_RECORD:
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
