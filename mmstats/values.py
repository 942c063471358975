"""What a reader finds: values that know what they mean. All of them are immutable.

Every value has `value`, `name`, `kind`, `unit`, `help` and `aggregate`; those of samples also have
`count`, `sum` and `mean`; histograms have `quantile`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .layout import Family


class _OfFamily:
    """What all values have of their family."""

    __slots__ = ()

    family: Family

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def kind(self) -> str:
        """counter, gauge, histogram, timer, average, moving_average, text, enum, info, bool or struct."""
        return self.family.kind

    @property
    def unit(self) -> str:
        return self.family.unit

    @property
    def help(self) -> str:
        return self.family.help

    @property
    def aggregate(self) -> str:
        """How the values of several processes become one."""
        return self.family.aggregate


@dataclass(frozen=True, slots=True)
class Value(_OfFamily):
    """Base of all values of one series."""

    family: Family

    @property
    def value(self) -> Any:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only; numbers that JSON lacks become None."""
        return {"value": plain(self.value)}


@dataclass(frozen=True, slots=True)
class NumberValue(Value):
    """A counter or a gauge; of a bool merged over processes, how many are True."""

    number: int | float

    @property
    def value(self) -> int | float:
        return self.number


@dataclass(frozen=True, slots=True)
class BoolValue(Value):
    flag: bool

    @property
    def value(self) -> bool:
        return self.flag


@dataclass(frozen=True, slots=True)
class SampleValue(Value):
    """Samples, of which count and sum are known. `value` is their mean; None before the first."""

    count: int
    sum: float

    @property
    def mean(self) -> float | None:
        return self.sum / self.count if self.count else None

    @property
    def value(self) -> float | None:
        return self.mean

    def to_dict(self) -> dict[str, Any]:
        return {"value": plain(self.value), "count": self.count, "sum": plain(self.sum), "mean": plain(self.mean)}


@dataclass(frozen=True, slots=True)
class HistogramValue(SampleValue):
    """Samples by size: ``buckets[i]`` were above ``bounds[i - 1]`` and not above ``bounds[i]``."""

    buckets: tuple[int, ...]

    @property
    def bounds(self) -> tuple[float, ...]:
        """The inclusive upper bounds of all buckets but the last, which has none."""
        return self.family.bounds

    def quantile(self, q: float) -> float | None:
        """The value that a part `q` (0 to 1) of the samples did not exceed; None without samples.

        Interpolated within a bucket as Prometheus' ``histogram_quantile`` does: what fell beyond
        the last bound is reported as that bound.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q={q}: a quantile is asked for by a number from 0 to 1")
        total = sum(self.buckets)
        if not total:
            return None
        rank = q * total
        below = 0
        for i, count in enumerate(self.buckets):
            if count and below + count >= rank:
                if i == len(self.bounds):
                    return self.bounds[-1]
                upper = self.bounds[i]
                lower = self.bounds[i - 1] if i else min(0.0, upper)
                return lower + (upper - lower) * max(rank - below, 0) / count
            below += count
        return self.bounds[-1]

    def to_dict(self) -> dict[str, Any]:
        quantiles = {f"p{round(q * 100)}": plain(self.quantile(q)) for q in (0.5, 0.9, 0.99)}
        # Not the base's to_dict by super(): that name does not survive slots=True.
        result = SampleValue.to_dict(self)
        result.update(quantiles, bounds=plain(list(self.bounds)), buckets=list(self.buckets))
        return result


@dataclass(frozen=True, slots=True)
class WindowValue(SampleValue):
    """A timer or a moving average: `value` is the mean of the last samples, `mean` that of all.

    `last` is None where several processes were merged.
    """

    last: float | None
    min: float | None
    max: float | None
    window_count: int
    window_sum: float

    @property
    def value(self) -> float | None:
        return self.window_sum / self.window_count if self.window_count else None

    def to_dict(self) -> dict[str, Any]:
        result = SampleValue.to_dict(self)
        result.update(last=plain(self.last), min=plain(self.min), max=plain(self.max))
        return result


@dataclass(frozen=True, slots=True)
class TextValue(Value):
    text: str

    @property
    def value(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class EnumValue(Value):
    """One of `states`, by its number."""

    number: int

    @property
    def states(self) -> tuple[str, ...]:
        return self.family.states

    @property
    def value(self) -> str | None:
        """The state; None if the number stands for none of them."""
        return self.states[self.number] if 0 <= self.number < len(self.states) else None


@dataclass(frozen=True, slots=True)
class InfoValue(Value):
    text: str

    @property
    def value(self) -> dict[str, str]:
        """The facts; empty if what is in the file is none."""
        try:
            found = json.loads(self.text) if self.text else {}
            return {_whole(key): _whole(str(item)) for key, item in found.items()} if isinstance(found, dict) else {}
        except (ValueError, RecursionError):
            return {}


@dataclass(frozen=True, slots=True)
class StructValue(Value):
    """Several named values that changed as one."""

    items: tuple[tuple[str, Any], ...]

    @property
    def value(self) -> dict[str, Any]:
        return dict(self.items)


class _ByKey(_OfFamily, Mapping[Any, Value]):
    """Values of one family under keys."""

    __slots__ = ("_values", "family")

    def __init__(self, family: Family, values: dict[Any, Any]) -> None:
        self.family = family
        self._values: dict[Any, Value] = values

    def __getitem__(self, key: Any) -> Value:
        return self._values[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {len(self)}>"

    @property
    def value(self) -> dict[Any, Any]:
        """Each value by its key."""
        return {key: value.value for key, value in self._values.items()}


class LabelledValue(_ByKey):
    """A mapping from a tuple of label values to the value of that label set.

    A field with one label may also be asked for by that label's value alone.
    """

    __slots__ = ()

    @property
    def labelnames(self) -> tuple[str, ...]:
        return self.family.labelnames

    def __getitem__(self, key: Any) -> Value:
        return self._values[(key,) if isinstance(key, str) else tuple(key)]

    def labels(self, *values: object, **named: object) -> Value:
        """The value of these label values, by position or by name; they are made strings.

        Raises `KeyError` if there is none.
        """
        given = [str(value) for value in values]
        given += [str(named[name]) for name in self.labelnames[len(given) :] if name in named]
        if len(values) + len(named) != len(self.labelnames) or len(given) != len(self.labelnames):
            raise KeyError(f"labels are needed for {', '.join(self.labelnames)}")
        return self._values[tuple(given)]

    def to_dict(self) -> dict[str, Any]:
        series = [
            {"labels": dict(zip(self.labelnames, key, strict=False)), **value.to_dict()}
            for key, value in self._values.items()
        ]
        return {"series": series}


class EachValue(_ByKey):
    """The values of several processes that have no meaning as one: a mapping by process."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        return {"processes": {str(key): value.to_dict() for key, value in self._values.items()}}


AnyValue = Value | LabelledValue | EachValue


def build(family: Family, raw: Any) -> Value:
    """A value of `family` from the words of its cell, as `schema` extracts them."""
    kind = family.kind
    if family.cell != "buffered":
        word = raw[0] if isinstance(raw, tuple) else raw
        if kind == "bool":
            return BoolValue(family, word != 0)
        if kind == "enum":
            return EnumValue(family, int(word))
        return NumberValue(family, word)
    if kind == "histogram":
        return HistogramValue(family, raw[0], raw[1], tuple(raw[2 : 3 + len(family.bounds)]))
    if kind in ("timer", "moving_average"):
        count, total, last, low, high, window_count, window_sum = raw[:7]
        if not count:
            last = low = high = None
        return WindowValue(family, count, total, last, low, high, window_count, window_sum)
    if kind == "average":
        return SampleValue(family, raw[0], raw[1])
    if kind == "text":
        return TextValue(family, text(raw[0], raw[1]))
    if kind == "info":
        return InfoValue(family, text(raw[0], raw[1]))
    return StructValue(family, tuple(columns(family, raw)))


def columns(family: Family, raw: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """The columns of a buffer by name: a number, a tuple of numbers, or a text."""
    at = 0
    stamped = len(family.columns) - 1 if family.flags & 4 else len(family.columns)
    for column in family.columns[:stamped]:
        if column.type == "text":
            yield column.name, text(raw[at], raw[at + 1])
            at += 2
        elif column.count == 1:
            yield column.name, raw[at]
            at += 1
        else:
            yield column.name, tuple(raw[at : at + column.count])
            at += column.count


def text(size: int, data: bytes) -> str:
    return data[:size].decode("utf-8", "replace")


def _whole(text: str) -> str:
    """`text` without lone surrogates, which JSON can spell and which can't be printed."""
    return text.encode("utf-8", "replace").decode()


def plain(value: Any) -> Any:
    """`value` in builtin types that JSON has; NaN and infinities become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
