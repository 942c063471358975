"""When a process ended, as near as can be told: the moment that ages and relative times are counted from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .postmortem import PostMortem


@dataclass(frozen=True, slots=True)
class End:
    """A moment, ns since the epoch.

    exact: it ended then; otherwise it lived at least until then
    how: what the moment is, for people: ``when ...``
    """

    time: int
    exact: bool
    how: str


def end_of(found: PostMortem, now: int) -> End | None:
    """The best moment there is for a process' end; of a live one `now`; None where nothing tells."""
    if found.verdict.state == "alive":
        return End(now, True, "when this was read: it lives")
    if found.stats.closed_at:
        return End(found.stats.closed_at, True, "when it closed its file")
    if found.exit is not None and found.exit.time > 0:
        return End(found.exit.time, True, "when its parent was told of its end")
    # What lies in the future comes of a damaged file or of another clock.
    signs = [time for time in _signs(found) if 0 < time <= now]
    return End(max(signs), False, "when it gave its last sign of life") if signs else None


def _signs(found: PostMortem) -> Iterator[int]:
    """Times at which the process still lived."""
    yield found.stats.heartbeat or 0
    yield found.verdict.after or 0
    yield from [event.time for event in found.events]
    yield from [record.last for record in found.exceptions]
    yield from [sample.time for sample in found.samples]
    yield from [activity.started for activity in found.activities]
