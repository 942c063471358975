"""Merge the snapshots of many processes, each field by its meaning.

What only grows (counters, histograms, timers, averages) is summed over all processes, dead ones
included: their requests were served. What describes a moment (gauges, texts, states) counts only
for processes that are not known to be dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from . import layout, values
from .reader import Snapshot, values_to_dict
from .schema import Key, Plan, Schema

#: Kinds whose values add up over the whole life of a service.
CUMULATIVE = frozenset(["counter", "histogram", "timer", "average", "moving_average"])

_FOLDS: dict[str, Any] = {"sum": sum, "min": min, "max": max, "mean": sum}


class Merged(Mapping[str, values.AnyValue]):
    """The values of several processes as one: a mapping from a field's name to its value.

    processes: how many files took part
    problems: what could not be merged, for people
    """

    def __init__(self, parts: dict[str, _Named], processes: int, problems: tuple[str, ...]) -> None:
        self._parts = parts
        self._built: dict[str, values.AnyValue] = {}
        self.processes = processes
        self.problems = problems

    def __getitem__(self, name: str) -> values.AnyValue:
        value = self._built.get(name)
        if value is None:
            value = self._built[name] = _assemble(*self._parts[name])
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return f"<Merged {self.processes} processes: {len(self)} fields>"

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only, as ``mmstats show --merge --json`` prints them."""
        return {
            "processes": self.processes,
            "problems": list(self.problems),
            "values": values_to_dict(self),
        }


class _Parts:
    """What is to become one series: numbers that are folded already, or values process by process."""

    __slots__ = ("count", "cumulative", "each", "fold", "folded")

    def __init__(self, family: layout.Family) -> None:
        self.cumulative = family.kind in CUMULATIVE
        self.fold = None if family.kind == "enum" else _FOLDS.get(family.aggregate)
        self.folded: list[Any] = []
        self.count = 0
        self.each: list[tuple[Sequence[Snapshot], Sequence[Any]]] = []


#: A name's family, and the parts of each of its label sets.
_Named = tuple[layout.Family, dict[tuple[str, ...], list[_Parts]]]


def merge(snapshots: Iterable[Snapshot]) -> Merged:
    """Merge `snapshots` by each field's ``aggregate``."""
    everyone = list(snapshots)
    parts: dict[Key, _Parts] = {}
    version_1: dict[layout.Family, Plan] = {}
    plain: dict[int, list[Snapshot]] = {}
    for snapshot in everyone:
        schema = snapshot._schema
        plain.setdefault(id(schema) if len(snapshot._data) == schema.size else id(snapshot), []).append(snapshot)
    for group in plain.values():
        if group[0].version == layout.MAJOR:
            _fold(group[0]._schema, group, parts)
        else:
            for snapshot in group:
                _take_v1(snapshot, parts, version_1)
    named, problems = _by_name(everyone, parts)
    return Merged(named, len(everyone), problems)


def _fold(schema: Schema, group: list[Snapshot], parts: dict[Key, _Parts]) -> None:
    """Fold the files of one schema column by column."""
    living = [snapshot for snapshot in group if snapshot.alive is not False]
    arrays = schema.arrays([snapshot._data for snapshot in group])
    live_arrays = arrays if len(living) == len(group) else schema.arrays([snapshot._data for snapshot in living])
    stride = schema.size // 8
    there = len(group[0]._data) // 8  # A file that was cut off is a group of one.
    get = parts.get
    for key, place in zip(schema.words, schema.places, strict=True):
        part = get(key)
        if part is None:
            part = parts[key] = _Parts(key.plan.family)
        taken, words = (group, arrays) if part.cumulative else (living, live_arrays)
        if not taken or place >= there:
            continue
        column = words[key.plan.code]
        if part.fold is None:
            part.each.append((taken, column[place::stride].tolist()))
        else:
            part.folded.append(part.fold(column[place::stride].tolist()) if len(taken) > 1 else column[place])
            part.count += len(taken)
    for at, (key, _) in enumerate(schema.compounds):
        family = key.plan.family
        part = get(key)
        if part is None:
            part = parts[key] = _Parts(family)
        taken = group if part.cumulative else living
        if not taken:
            continue
        raws = [snapshot._compounds[at] for snapshot in taken]
        if not part.cumulative or family.cell != "buffered" or family.aggregate == "all":
            if raws.count(None) < len(raws):
                part.each.append((taken, raws))
            continue
        raws = [raw for raw in raws if raw is not None]
        if raws:
            part.folded.append(_fold_samples(family, raws))
            part.count += len(raws)


def _fold_samples(family: layout.Family, raws: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Several cells of samples as one: sums, but for the shortest, the longest and the last."""
    if len(raws) == 1:
        return raws[0]
    if family.kind not in ("timer", "moving_average"):
        return tuple(map(sum, zip(*raws, strict=True)))
    used = [raw for raw in raws if raw[0]] or raws[:1]
    count, total, last, low, high, window_count, window_sum = zip(*used, strict=True)
    return (
        sum(count), sum(total), last[0] if len(used) == 1 else None, min(low), max(high), sum(window_count),
        sum(window_sum),
    )  # fmt: skip


def _take_v1(snapshot: Snapshot, parts: dict[Key, _Parts], plans: dict[layout.Family, Plan]) -> None:
    """Values of mmstats 0.x say nothing of how they merge: they stay by process."""
    for value in snapshot.values():
        plan = plans.setdefault(value.family, Plan(value.family))
        part = parts.setdefault(plan.key((), 0), _Parts(plan.family))
        part.each.append(((snapshot,), (value,)))


def _signature(family: layout.Family) -> tuple[Any, ...]:
    """What must agree for two definitions of a name to be merged."""
    return (
        family.kind, family.cell, family.aggregate, family.labelnames, family.columns, family.bounds, family.states,
    )  # fmt: skip


def _by_name(everyone: list[Snapshot], parts: dict[Key, _Parts]) -> tuple[dict[str, _Named], tuple[str, ...]]:
    """Parts by name and label set. Of a name that is defined in several ways the newest one counts."""
    named: dict[str, _Named] = {}
    ranked = sorted(everyone, key=lambda snapshot: snapshot.created or 0, reverse=True)
    for schema in {id(snapshot._schema): snapshot._schema for snapshot in ranked}.values():
        for family in schema.families:
            if family.name not in named:
                named[family.name] = (family, {})
    refused: set[str] = set()
    agreed: dict[Plan, Any] = {}
    for key, part in parts.items():
        plan = key.plan
        if plan not in agreed:
            family, labelled = named.setdefault(plan.family.name, (plan.family, {}))
            same = family is plan.family or _signature(family) == _signature(plan.family)
            agreed[plan] = labelled if same else None
        labelled = agreed[plan]
        if labelled is None:
            refused.add(plan.family.name)
        elif part.folded or part.each:
            labelled.setdefault(key.labels, []).append(part)
    problems = [
        f"{name!r} is defined differently by some processes: only those that agree with the newest are merged"
        for name in sorted(refused)
    ]
    # A field that only dead processes have, and that describes a moment, has no value now.
    present = {name: found for name, found in named.items() if found[1] or found[0].labelnames}
    return present, tuple(problems)


def _assemble(family: layout.Family, labelled: dict[tuple[str, ...], list[_Parts]]) -> values.AnyValue:
    """The value of one name out of its parts."""
    if not family.labelnames:
        return _one(family, labelled[()])
    return values.LabelledValue(family, {labels: _one(family, parts) for labels, parts in labelled.items()})


def _one(family: layout.Family, several: list[_Parts]) -> values.Value | values.EachValue:
    """One value out of all its parts."""
    folded = [item for part in several for item in part.folded]
    if not folded:
        each = [pair for part in several for taken in part.each for pair in zip(*taken, strict=True)]
        return _one_of_each(family, [(snapshot, raw) for snapshot, raw in each if raw is not None])
    if family.cell == "buffered":
        return values.build(family, _fold_samples(family, folded))

    number = _FOLDS[family.aggregate](folded)
    if family.aggregate == "mean":
        number = number / sum([part.count for part in several])
    return values.NumberValue(family, number)


def _one_of_each(family: layout.Family, each: list[tuple[Snapshot, Any]]) -> values.Value | values.EachValue:
    built = [(snapshot, raw if isinstance(raw, values.Value) else values.build(family, raw)) for snapshot, raw in each]
    if family.aggregate == "last":
        return max(zip(built, each, strict=True), key=lambda pair: _when(family, *pair[1]))[0][1]
    if family.kind == "struct" and family.aggregate in _FOLDS:
        return _fold_structs(family, [value for _, value in built])
    if (
        family.kind != "enum"
        and family.aggregate in _FOLDS
        and all(isinstance(v.value, (int, float)) for _, v in built)
    ):
        numbers = [value.value for _, value in built]
        total = _FOLDS[family.aggregate](numbers)
        return values.NumberValue(family, total / len(numbers) if family.aggregate == "mean" else total)
    found = {snapshot.label: value for snapshot, value in built}
    if len(found) < len(built):  # files of one name in several directories
        found = {snapshot.path: value for snapshot, value in built}
    return values.EachValue(family, found)


def _when(family: layout.Family, snapshot: Snapshot, raw: Any) -> tuple[int, int]:
    """The time of a value's last change where it is kept, and the age of its process."""
    stamped = isinstance(raw, tuple) and family.flags & layout.STAMPED
    return (raw[-1] if stamped else 0, snapshot.created or 0)


def _fold_structs(family: layout.Family, several: list[values.Value]) -> values.Value:
    items = []
    for name, first in several[0].value.items():
        column = [value.value[name] for value in several]
        if isinstance(first, (int, float)):
            total = _FOLDS[family.aggregate](column)
            items.append((name, total / len(column) if family.aggregate == "mean" else total))
        else:
            items.append((name, tuple(column)))
    return values.StructValue(family, tuple(items))
