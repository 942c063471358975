"""Where things lie on a timeline of the last minutes: numbers only, no files and no markup."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..ending import End
from ..records import SEVERITIES, Event, Sample
from . import content

#: Seconds before the end that it shows at the most.
WINDOW = 300.0
#: Marks and points of a line: more than this can't be told apart.
MAX_MARKS = 1000

WIDTH, LEFT, RIGHT = 960.0, 110.0, 16.0
LANE, BAND, GAP = 18.0, 44.0, 8.0

#: What is drawn of the samples, and its unit; ``cpu`` is drawn as its growth.
LINES = (("rss", "bytes"), ("cpu", "%"), ("lag", "seconds"))


@dataclass(frozen=True, slots=True)
class Mark:
    """An event: `title` tells of it."""

    x: float
    y: float
    severity: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A series of numbers: `points` are as SVG has them, between the heights `top` and `bottom`."""

    name: str
    unit: str
    top: float
    bottom: float
    points: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that is drawn; `lanes` are the severities with their heights, `ticks` the times below."""

    width: float
    height: float
    left: float
    right: float
    lanes: tuple[tuple[str, float], ...]
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]


def timeline(events: Sequence[Event], samples: Sequence[Sample], end: End | None) -> Timeline | None:
    """The last minutes before the end; None where nothing happened in them."""
    if end is None:
        return None
    times = [time for time in [*[e.time for e in events], *[s.time for s in samples]] if _ago(time, end) <= WINDOW]
    times = [time for time in times if _ago(time, end) >= 0]
    if not times:
        return None
    span = max(_ago(min(times), end), 1.0)
    scale = (WIDTH - LEFT - RIGHT) / span

    def x(time: int) -> float:
        return round(WIDTH - RIGHT - _ago(time, end) * scale, 1)

    lanes = tuple([(severity, GAP + LANE * (i + 0.5)) for i, severity in enumerate(reversed(SEVERITIES))])
    heights = dict(lanes)
    marks = tuple(
        [
            Mark(x(event.time), heights[event.severity], event.severity, _title(event, end))
            for event in events
            if 0 <= _ago(event.time, end) <= span and event.severity in heights
        ][-MAX_MARKS:]
    )
    top = GAP + LANE * len(lanes) + GAP
    lines = []
    for name, unit in LINES:
        drawn = _line(name, unit, top, [sample for sample in samples if 0 <= _ago(sample.time, end) <= span], x)
        if drawn is not None:
            lines.append(drawn)
            top += BAND + GAP
    ticks = tuple(
        [(round(WIDTH - RIGHT - part * span * scale, 1), _tick(part * span)) for part in (1, 0.75, 0.5, 0.25)]
    )
    return Timeline(WIDTH, top + 18, LEFT, WIDTH - RIGHT, lanes, marks, tuple(lines), (*ticks, (WIDTH - RIGHT, "0")))


def _ago(time: int, end: End) -> float:
    return (end.time - time) / 1e9


def _tick(seconds: float) -> str:
    return f"-{seconds:.3g} s"


def _title(event: Event, end: End) -> str:
    return f"{content.relative(event.time, end)} {event.severity} {content.sentence(event)}"[:400]


def _line(name: str, unit: str, top: float, samples: Sequence[Sample], x: Callable[[int], float]) -> Line | None:
    pairs = [(sample.time, float(sample.values[name])) for sample in samples if name in sample.values]
    if name == "cpu":
        pairs = [
            (after[0], 100e9 * (after[1] - before[1]) / (after[0] - before[0]))
            for before, after in pairwise(pairs)
            if after[0] > before[0]
        ]
    pairs = [(time, number) for time, number in pairs if math.isfinite(number) and abs(number) < 1e18]
    pairs = pairs[:: len(pairs) // MAX_MARKS + 1]
    if len(pairs) < 2:
        return None
    low, high = min(number for _, number in pairs), max(number for _, number in pairs)
    floor = min(low, 0.0) if name != "rss" else low
    height = (high - floor) or 1.0
    points = " ".join([f"{x(time)},{top + BAND - BAND * (number - floor) / height:.1f}" for time, number in pairs])
    return Line(name, unit, top, top + BAND, points, low, high)
