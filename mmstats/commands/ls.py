"""List processes that record stats, or that did until they died.

The state is `alive`, `closed` (ended cleanly), `died` (ended without a word) or `unknown` (a copy
of a live process' file, or the file of another machine).
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from mmstats import directory
from mmstats.reader import Snapshot
from mmstats.values import LabelledValue

from . import options as shared
from . import text
from .console import Console, identity

HELP = "list processes, alive and dead"

STATES = ("alive", "closed", "died", "unknown")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service", help="only this service")
    parser.add_argument("--state", choices=STATES, action="append", help="only this state (may be given again)")


def run(options: argparse.Namespace, console: Console) -> int:
    fleet = shared.fleet_of(options)
    chosen = [s for s in fleet.values() if not options.state or s.process.state in options.state]
    if options.json:
        console.json("ls", {"processes": [row(s) for s in chosen], "problems": fleet.problems})
        return 0
    if chosen:
        headers = ("SERVICE", "PID", "STATE", "AGE", "SIZE", "SERIES", "UUID")
        console.table(headers, [cells(s) for s in chosen], numeric=(1, 3, 4, 5))
    else:
        homes = [options.path] if options.path else directory.readable() or directory.defaults()[:1]
        console.line(f"No processes have left a file in {' or '.join(homes)}.")
    for path, problem in fleet.problems.items():
        console.line(f"{text.printable(problem if path in problem else f'{path}: {problem}')}")
    return 0


def row(snapshot: Snapshot) -> dict[str, Any]:
    """One process, for programs. `age` is seconds since it began to record."""
    who = snapshot.process
    return {
        "service": who.service,
        "pid": who.pid,
        "state": who.state,
        "alive": who.alive,
        "alive_because": who.reason,
        "closed": who.closed,
        "age": age(snapshot),
        "bytes": snapshot.size,
        "series": series(snapshot),
        "uuid": snapshot.uuid,
        "host": who.host,
        "uid": who.uid,
        "path": snapshot.path,
        "version": snapshot.version,
        "problems": list(snapshot.problems),
    }


def age(snapshot: Snapshot) -> float | None:
    """Seconds since the process began to record; None if its file does not say."""
    return time.time() - snapshot.created / 1e9 if snapshot.created else None


def series(snapshot: Snapshot) -> int:
    """How many values there are, each label set counted."""
    return sum(len(value) if isinstance(value, LabelledValue) else 1 for value in snapshot.values())


def cells(snapshot: Snapshot) -> tuple[str, ...]:
    who = snapshot.process
    return (
        identity(who.service),
        str(who.pid),
        who.state,
        text.age(age(snapshot)),
        text.size(snapshot.size),
        str(series(snapshot)),
        snapshot.uuid[:8] or "-",
    )
