"""What was different about one process: its stats, set-up and activities beside those of others.

Pure functions of what was read. How far a number stands out is measured by the median of the
others and their median absolute deviation, so that one odd sibling does not hide another one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from mmstats import Snapshot, layout, values

from .ending import end_of
from .records import Box

if TYPE_CHECKING:
    from .postmortem import PostMortem

#: A score from which on a series stands out: as many robust standard deviations.
STANDS_OUT = 3.0
#: No score is above this: where the others are all at 0 there is nothing to divide by.
MAX_SCORE = 1000.0
#: The part of the median within which the others are taken to vary, however alike they are.
TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Subject:
    """One process to compare. `ended`: ns since the epoch, of a live one the time of reading; None: not known."""

    stats: Snapshot
    box: Box | None = None
    ended: int | None = None

    @property
    def life(self) -> float | None:
        """Seconds that it lived, as far as its file tells; at least 1."""
        created = self.stats.created
        if not created or not self.ended or self.ended < created:
            return None
        return max((self.ended - created) / 1e9, 1.0)


@dataclass(frozen=True, slots=True)
class Series:
    """One number of a series, and the same of the others.

    what: which number: ``value``, ``per second``, ``mean``, ``p99``, ``recent``, or a struct's column
    median, low, high, others: of those that have the series, and how many these are
    score: how far it stands out, 0 to `MAX_SCORE`
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    what: str
    unit: str
    value: float
    median: float
    low: float
    high: float
    others: int
    score: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is no number and is not as it is with the others.

    what: ``environment``, ``version``, ``argv``, ``activity``, ``exception`` or ``value``
    value: the dead one's; None: it has none
    others: what the others have, and how many of them, the most frequent first
    """

    what: str
    name: str
    value: str | None
    others: tuple[tuple[str | None, int], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One process beside others: `series` by how much they stand out; `alone` are those that no other has."""

    dead: str
    others: tuple[str, ...]
    series: tuple[Series, ...]
    alone: tuple[str, ...]
    missing: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def standouts(self) -> tuple[Series, ...]:
        """Those series that stand out, the most conspicuous first."""
        return tuple([item for item in self.series if item.score >= STANDS_OUT])

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only."""
        result = asdict(self)
        for item in result["series"]:
            item["labels"] = dict(item["labels"])
            item["stands_out"] = item["score"] >= STANDS_OUT
        for item in result["differences"]:
            item["others"] = [{"value": value, "count": count} for value, count in item["others"]]
        plain: dict[str, Any] = values.plain(result)
        return plain


def compare(
    dead: Snapshot | PostMortem | Subject,
    others: Sequence[Snapshot | PostMortem | Subject],
    *,
    now: int | None = None,
) -> Comparison:
    """Compare one process with others. What grows with time is compared by its growth per second of life.

    now: when the files were read, ns since the epoch; without it the life of one that lives is not known
    """
    one = subject_of(dead, now)
    rest = [subject_of(other, now) for other in others]
    per_second = one.life is not None and any(other.life is not None for other in rest)
    mine = _numbers(one, per_second)
    theirs = [_numbers(other, per_second) for other in rest if not per_second or other.life is not None]
    series = [_series(key, number, theirs) for key, number in mine.items()]
    found = sorted([item for item in series if item is not None], key=lambda item: (-item.score, item.name, item.what))
    names = set(one.stats)
    known: set[str] = set().union(*[set(other.stats) for other in rest])
    return Comparison(
        dead=one.stats.label,
        others=tuple([other.stats.label for other in rest]),
        series=tuple(found),
        alone=tuple(sorted(names - known)) if rest else (),
        missing=tuple(sorted(known - names)),
        differences=tuple(_differences(one, rest)) if rest else (),
    )


def standouts(found: PostMortem, now: int | None = None) -> list[Series]:
    """The series of a post-mortem that stand out against its siblings, the most conspicuous first."""
    return list(compare(found, found.siblings, now=now).standouts)


def subject_of(item: Snapshot | PostMortem | Subject, now: int | None = None) -> Subject:
    """What is compared of a file or of a post-mortem."""
    if isinstance(item, Subject):
        return item
    if isinstance(item, Snapshot):
        ended = item.closed_at or item.heartbeat or (now if item.alive else None)
        return Subject(item, None, ended)
    end = end_of(item, now) if now is not None else None
    return Subject(item.stats, item.box, end.time if end else subject_of(item.stats).ended)


# Numbers.

#: name, labels, what, unit
_Key = tuple[str, tuple[tuple[str, str], ...], str, str]


def _numbers(subject: Subject, per_second: bool) -> dict[_Key, tuple[float, float]]:
    """Each number of a process, and how much of a difference in it is mere chance."""
    life = subject.life if per_second else None
    found: dict[_Key, tuple[float, float]] = {}
    for name, labels, single in _singles(subject.stats):
        for what, number, chance in _measures(single, life):
            if math.isfinite(number):
                found[name, labels, what, single.unit] = (number, chance)
    return found


def _singles(stats: Snapshot) -> Iterator[tuple[str, tuple[tuple[str, str], ...], values.Value]]:
    for name, value in stats.items():
        if value.family.flags & layout.DESCRIPTIVE:
            continue
        if isinstance(value, values.LabelledValue):
            for key, single in value.items():
                yield name, tuple(zip(value.labelnames, key, strict=False)), single
        elif isinstance(value, values.Value):
            yield name, (), value


def _measures(single: values.Value, life: float | None) -> Iterator[tuple[str, float, float]]:
    """What is compared of one value: ``(what, number, chance)``."""
    if isinstance(single, values.NumberValue):
        if single.kind == "counter":
            yield _growth(single.number, life)
        else:
            yield "value", float(single.number), 0.0
    elif isinstance(single, values.SampleValue):
        yield _growth(single.count, life)
        if single.count:
            if isinstance(single, values.HistogramValue):
                yield "p99", single.quantile(0.99) or 0.0, 0.0
            elif isinstance(single, values.WindowValue):
                yield "recent", single.value or 0.0, 0.0
            yield "mean", single.mean or 0.0, 0.0
    elif isinstance(single, values.StructValue):
        for name, item in single.items:
            if isinstance(item, (int, float)):
                yield name, float(item), 0.0


def _growth(count: float, life: float | None) -> tuple[str, float, float]:
    """A count, or its growth per second; counts vary by chance with their square root."""
    chance = math.sqrt(max(abs(count), 1.0)) if math.isfinite(count) else 1.0
    return ("per second", count / life, chance / life) if life else ("count", float(count), chance)


def _series(key: _Key, mine: tuple[float, float], theirs: list[dict[_Key, tuple[float, float]]]) -> Series | None:
    beside = [numbers[key][0] for numbers in theirs if key in numbers]
    if not beside:
        return None
    name, labels, what, unit = key
    value, chance = mine
    middle = median(beside)
    score = score_of(value, beside, chance)
    return Series(name, labels, what, unit, value, middle, min(beside), max(beside), len(beside), score)


def score_of(value: float, others: Sequence[float], chance: float = 0.0) -> float:
    """How many robust standard deviations `value` is away from the median of `others`; at most `MAX_SCORE`.

    chance: the difference that means nothing, in the unit of `value`
    """
    middle = median(others)
    away = abs(value - middle)
    if not away:
        return 0.0
    spread = 1.4826 * median([abs(other - middle) for other in others])
    scale = max(spread, TOLERANCE * abs(middle), chance)
    return min(away / scale, MAX_SCORE) if scale and math.isfinite(away) else MAX_SCORE


# What is no number.


def _differences(one: Subject, rest: list[Subject]) -> Iterator[Difference]:
    mine, theirs = one.stats.process, [other.stats.process for other in rest]
    yield from _by_name("environment", mine.environ, [who.environ for who in theirs])
    yield from _by_name("version", mine.versions, [who.versions for who in theirs])
    yield from _by_name("argv", {"argv": " ".join(mine.argv)}, [{"argv": " ".join(who.argv)} for who in theirs])
    yield from _by_name("value", _states(one.stats), [_states(other.stats) for other in rest], free=True)
    boxes = [other.box for other in rest if other.box is not None]
    if one.box is not None and boxes:
        in_flight = [_counts([activity.name for activity in box.activities]) for box in boxes]
        mine_in_flight = _counts([activity.name for activity in one.box.activities])
        yield from _by_name("activity", mine_in_flight, in_flight, unusual=True)
        yield from _by_name("exception", _errors(one.box), [_errors(box) for box in boxes], unusual=True)


def _by_name(
    what: str, mine: Any, theirs: list[Any], *, free: bool = False, unusual: bool = False
) -> Iterator[Difference]:
    """What differs under any name.

    free: texts that may be another in each process: they only tell where the others agree
    unusual: numbers that always differ a little: they only tell where no other one has them
    """
    for name in sorted(set(mine).union(*theirs)):
        value = mine.get(name)
        counts = Counter([other.get(name) for other in theirs])
        if set(counts) == {value} or (free and (value in counts or len(counts) > 1 or name not in mine)):
            continue
        if unusual and (value is None or any(key is not None for key in counts)):
            continue
        yield Difference(what, name, value, tuple(counts.most_common()))


def _states(stats: Snapshot) -> dict[str, str]:
    """Values that are states and texts rather than numbers."""
    found = {}
    for name, labels, single in _singles(stats):
        if isinstance(single, (values.BoolValue, values.EnumValue, values.TextValue, values.InfoValue)):
            inside = ",".join([f"{key}={value}" for key, value in labels])
            found[f"{name}{{{inside}}}" if inside else name] = str(single.value)
    return found


def _counts(names: Iterable[str]) -> dict[str, str]:
    return {name: str(count) for name, count in Counter(names).items()}


def _errors(box: Box) -> dict[str, str]:
    counts: Counter[str] = Counter()
    for record in box.exceptions:
        counts[f"{record.type} at {record.place}"] += record.count
    return {name: str(count) for name, count in counts.items()}
