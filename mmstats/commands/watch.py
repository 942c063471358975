"""Watch fields change, summed over all workers: counters as their growth per second.

Counters are shown per second, histograms and timers as samples per second and their mean since
the last line, gauges as they stand. Workers that start or die in between are counted rightly.

  mmstats watch                              all counters and gauges
  mmstats watch requests latency             these fields
  mmstats watch 'requests{status=500}'       one or some of the label sets
  mmstats watch --service web -i 5 -n 12     a line every 5 seconds, 12 times
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mmstats import layout, targets, values
from mmstats.errors import TargetError
from mmstats.fleet import Fleet
from mmstats.reader import Snapshot

from . import options as shared
from . import text
from .console import Console

HELP = "watch fields change, over all workers"

#: Without chosen fields, this many columns at the most.
MOST_COLUMNS = 8
#: Lines between two headings.
HEADING_EVERY = 20


@dataclass(frozen=True, slots=True)
class Column:
    """A field, or some of its label sets."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        labels = ",".join(f"{name}={value}" for name, value in self.labels.items())
        return f"{self.name}{{{labels}}}" if labels else self.name

    def of(self, snapshot: Snapshot) -> Iterator[values.Value]:
        """Its values in one process."""
        value = snapshot.get(self.name)
        if isinstance(value, values.Value):
            if not self.labels:
                yield value
        elif isinstance(value, values.LabelledValue):
            for key, single in value.items():
                found = dict(zip(value.labelnames, key, strict=False))
                if all(found.get(name) == wanted for name, wanted in self.labels.items()):
                    yield single


@dataclass(frozen=True, slots=True)
class Sample:
    """A column in one process at one moment: what has grown, and what stands."""

    total: float = 0.0
    count: int = 0
    level: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A column over all processes and the time since the last reading.

    rate: growth or samples per second; mean: of the samples since; level: the sum of gauges
    """

    rate: float | None = None
    mean: float | None = None
    level: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fields", nargs="*", metavar="FIELD", help="fields, each with {label=value,...} if need be")
    parser.add_argument("-s", "--service", help="only this service")
    parser.add_argument("-t", "--target", help="only this process: a pid, a uuid or a path")
    parser.add_argument(
        "-i", "--interval", type=shared.positive(float), default=1.0, metavar="S", help="seconds between lines (1)"
    )
    parser.add_argument("-n", "--count", type=shared.positive(int), metavar="N", help="end after N lines")
    parser.add_argument("-p", "--prefix", default="", help="put before each FIELD")


def run(options: argparse.Namespace, console: Console) -> int:
    before = take(options)
    columns = [parse(options.prefix + spec) for spec in options.fields] or usual(before)
    if not columns:
        raise TargetError("there is nothing to watch: no process has a counter or a gauge here; see `mmstats ls`")
    check(columns, before)
    units = {name: value.unit for snapshot in before.values() for name, value in snapshot.items()}
    widths: list[int] = []
    lines = 0
    then = time.monotonic()
    samples = sampled(columns, before)
    while options.count is None or lines < options.count:
        time.sleep(max(0.0, then + options.interval - time.monotonic()))
        now = time.monotonic()
        fleet = take(options)
        new = sampled(columns, fleet)
        readings = [reading(samples[i], new[i], now - then) for i in range(len(columns))]
        samples, then = new, now
        alive = len(fleet.alive)
        if options.json:
            fields = {
                column.title: {
                    "rate": values.plain(r.rate),
                    "mean": values.plain(r.mean),
                    "level": values.plain(r.level),
                }
                for column, r in zip(columns, readings, strict=True)
            }
            console.json("watch", {"time": time.time(), "alive": alive, "fields": fields}, compact=True)
        else:
            cells = [shown(r, units.get(c.name, "")) for c, r in zip(columns, readings, strict=True)]
            if lines % HEADING_EVERY == 0:
                heads = [text.printable(column.title) for column in columns]
                widths = [max(len(head), len(cell), 9) for head, cell in zip(heads, cells, strict=True)]
                console.heading(row(["TIME    ", "ALIVE", *heads], [8, 5, *widths]))
            console.line(row([time.strftime("%H:%M:%S"), str(alive), *cells], [8, 5, *widths]))
        console.flush()
        lines += 1
    return 0


def take(options: argparse.Namespace) -> Fleet:
    """The processes to watch, as they are now."""
    if not options.target:
        return shared.fleet_of(options)
    found = targets.find_one(options.target, options.path)
    return Fleet({found.label: found})


def parse(spec: str) -> Column:
    """``name`` or ``name{label=value,...}``. Raises `TargetError`."""
    found = re.fullmatch(r"([^{}]+)(?:\{([^{}]*)\})?", spec.strip())
    if not found:
        raise TargetError(f"{spec!r} is no field: write NAME or 'NAME{{label=value}}'")
    labels = {}
    for pair in filter(None, (found[2] or "").split(",")):
        name, sign, value = pair.partition("=")
        if not sign:
            raise TargetError(f"{spec!r}: write labels as label=value")
        labels[name.strip()] = value.strip().strip('"')
    return Column(found[1], labels)


def usual(fleet: Fleet) -> list[Column]:
    """What is watched if nothing is chosen: what counts, times and measures."""
    names: dict[str, None] = {}
    for snapshot in fleet.values():
        for name, value in snapshot.items():
            if not value.family.flags & layout.DESCRIPTIVE and value.kind in ("counter", "histogram", "timer", "gauge"):
                names[name] = None
    return [Column(name) for name in list(names)[:MOST_COLUMNS]]


def check(columns: list[Column], fleet: Fleet) -> None:
    """Raise `TargetError` for a field that no process has."""
    known = {name for snapshot in fleet.values() for name in snapshot}
    for column in columns:
        if column.name not in known:
            fields = ", ".join(sorted(name for name in known if not name.startswith(("sys.", "org."))))
            raise TargetError(f"no process has a field {column.name!r}: there are {fields or 'none'}")


def sampled(columns: list[Column], fleet: Fleet) -> list[dict[str, Sample]]:
    """For each column, each process' sample."""
    return [
        {snapshot.uuid or snapshot.path: sample(column, snapshot) for snapshot in fleet.values()} for column in columns
    ]


def sample(column: Column, snapshot: Snapshot) -> Sample:
    total, count, level = 0.0, 0, None
    for value in column.of(snapshot):
        if isinstance(value, values.SampleValue):
            total += value.sum
            count += value.count
        elif value.kind == "counter":
            total += value.value
            count = -1
        elif isinstance(value.value, (int, float)) and snapshot.alive is not False:
            level = (level or 0) + value.value
    return Sample(total, count, level)


def reading(before: Mapping[str, Sample], now: Mapping[str, Sample], seconds: float) -> Reading:
    """What happened between two samples of a column. A process that went takes nothing with it."""
    levels = [sample.level for sample in now.values() if sample.level is not None]
    grown = [(before.get(key, Sample()), sample) for key, sample in now.items() if sample.count or sample.total]
    if not grown:
        return Reading(level=sum(levels) if levels else None, rate=None if levels else 0.0)
    total = sum(new.total - old.total for old, new in grown)
    if any(new.count < 0 for _, new in grown):
        return Reading(rate=total / seconds)
    count = sum(new.count - old.count for old, new in grown)
    return Reading(rate=count / seconds, mean=total / count if count else None)


def shown(reading: Reading, unit: str) -> str:
    if reading.rate is None:
        return text.number(reading.level, unit)
    rate = f"{reading.rate:,.1f}/s" if reading.rate < 1000 else f"{reading.rate:,.0f}/s"
    return rate if reading.mean is None else f"{rate} {text.number(reading.mean, unit)}"


def row(cells: list[str], widths: list[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
