"""The death of an earlier kernel that nobody was told of yet, in one line."""

from __future__ import annotations

import os
import time

import mmstats
from mmstats.commands import text
from mmstats.errors import MmStatsError

from ..ending import end_of
from ..exits import mark_reported, was_reported
from ..postmortem import PostMortem, postmortem_of
from ..records import Activity
from ..report import content


def news(service: str) -> str:
    """What to tell of deaths of `service`, each death once; empty if there is nothing. Never raises."""
    try:
        dead = unseen(service)
        line = told(postmortem_of(dead[0]), len(dead) - 1, time.time_ns()) if dead else ""
    except (MmStatsError, OSError) as error:
        return f"mmdebug: earlier deaths can't be read: {text.printable(str(error))}"
    except Exception as error:  # whatever is in those files: the new kernel is to start
        return f"mmdebug: earlier deaths can't be told of: {type(error).__name__}: {text.printable(str(error))}"
    for found in dead:
        mark_reported(found.path)
    return line


def unseen(service: str) -> list[mmstats.Snapshot]:
    """The dead of `service` whom nobody was told of, the newest first; only those whose files we may mark."""
    me = os.geteuid()
    return [
        found
        for found in reversed(list(mmstats.read_all(service=service).values()))
        if found.process.state == "died"
        and not was_reported(found)
        and (me == 0 or found.process.uid == me)
        and os.access(found.path, os.W_OK)
    ]


def told(found: PostMortem, others: int, now: int) -> str:
    """One line: who died, in which cell, how its memory went, and how to see the rest. A pure function."""
    end = end_of(found, now)
    ago = text.age((now - end.time) / 1e9) if end else ""
    when = "" if end is None else f" {ago} ago" if end.exact else f", last alive {ago} ago"
    parts = [f"mmdebug: {found.process.service} {found.process.pid} died{when}"]
    cell = running_cell(found)
    if cell is not None:
        lasted = content.lasted(cell.started, end)
        least = "" if end and end.exact else "at least "
        parts.append(f", while it ran {cell.name} for {least}{lasted}: {str(cell.fields.get('source', ''))!r}")
    elif found.box is not None:
        parts.append(", while it ran no cell")
    parts += [f" ({went})" if (went := memory(found, cell)) else "", f". {found.verdict.summary}"]
    more = f"; of {others} more: %deaths" if others else ""
    return text.printable("".join(parts))[:1500] + f" See %postmortem{more}"


def running_cell(found: PostMortem) -> Activity | None:
    """The outermost cell that was running."""
    return next((one for one in found.activities if one.name.startswith("In[")), None)


def memory(found: PostMortem, cell: Activity | None) -> str:
    """How the memory went: before the cell, the most and the last that was seen."""
    before = cell.fields.get("rss_mib") if cell is not None else None
    seen = [
        one.values["rss"] for one in found.samples if "rss" in one.values and (cell is None or one.time >= cell.started)
    ]
    known = [f"{text.size(before * (1 << 20))} before the cell"] if isinstance(before, float) and before > 0 else []
    if seen:
        known.append(f"{text.size(seen[-1])} at the last sample")
        if max(seen) > 1.1 * seen[-1]:
            known.append(f"{text.size(max(seen))} at most")
    return f"memory: {', '.join(known)}" if known else ""
