"""Say what was different about one process: its stats, set-up and activities beside those of others.

Without others it is compared with all other processes of its service, alive or dead. What grows
with time is compared by its growth per second of life.
"""

from __future__ import annotations

import argparse
import os
import time

from mmdebug.compare import Comparison, Difference, Subject, compare, subject_of
from mmdebug.report.text import series_row
from mmstats import Snapshot, targets
from mmstats.commands import text
from mmstats.commands.console import Console
from mmstats.commands.options import add_targets
from mmstats.errors import ReadError, TargetError

from .opening import add_target, chosen

HELP = "say what was different about one process"

#: Series that are shown at least, also where none stands out.
FEWEST = 10
_HEADS = ("NAME", "ITS VALUE", "THE OTHERS' MEDIAN (AND RANGE)", "STANDS OUT BY")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser, "dead")
    add_targets(parser, "others", "*", "whom to compare it with (default: its siblings)")
    parser.add_argument("--all", action="store_true", help="show every series, and not only those that stand out")


def run(options: argparse.Namespace, console: Console) -> int:
    with chosen(options.dead, options.path) as (found, bundle):
        now = bundle.saved if bundle is not None else time.time_ns()
        others = _others(options, found.stats) if options.others else list(found.siblings)
        if not others:
            raise TargetError("there is nobody to compare it with: it has no siblings here, so name some")
        comparison = compare(found, [_subject(other, now) for other in others], now=now)
    if options.json:
        console.json("compare", {"comparison": comparison.to_dict()})
        return 0
    _print(console, comparison, options.all)
    return 0


def _others(options: argparse.Namespace, dead: Snapshot) -> list[Snapshot]:
    """The processes that were named: a service means all of its own, all else one."""
    found: dict[str, Snapshot] = {}
    for target in options.others:
        several = targets.find(target, options.path)
        if not os.path.isdir(target) and any(snapshot.process.service != target for snapshot in several):
            several = [targets.only(target, several)]
        found.update({snapshot.path: snapshot for snapshot in several if snapshot.uuid != dead.uuid})
    return list(found.values())


def _subject(snapshot: Snapshot, now: int) -> Subject:
    """A file with what its recorder holds, if there is one."""
    from mmdebug.boxreader import read_box

    subject = subject_of(snapshot, now)
    try:
        return Subject(snapshot, read_box(snapshot.path.removesuffix(".mmstats") + ".box"), subject.ended)
    except ReadError:
        return subject


def _print(console: Console, found: Comparison, everything: bool) -> None:
    console.heading(f"{text.printable(found.dead)} beside {len(found.others)} others")
    odd = found.standouts
    shown = found.series if everything else odd or found.series[:FEWEST]
    if not odd:
        console.line("None of its stats stands out." + (" The least alike are:" if shown and not everything else ""))
    rows = [(*[text.printable(cell) for cell in series_row(item)], f"{item.score:.1f}") for item in shown]
    if rows:
        console.table(_HEADS, rows, numeric=(1, 3))
    for title, names in (("Only it has", found.alone), ("It lacks", found.missing)):
        if names:
            console.line(f"{title}: {text.printable(', '.join(names))}")
    if found.differences:
        console.line()
        console.heading("What else is different")
        console.table(("WHAT", "NAME", "ITS VALUE", "THE OTHERS"), [_row(item) for item in found.differences])


def _row(item: Difference) -> tuple[str, ...]:
    others = [f"{'(none)' if value is None else value} ({count}x)" for value, count in item.others[:4]]
    if len(item.others) > 4:
        others.append(f"{len(item.others) - 4} more")
    cells = (item.what, item.name, "(none)" if item.value is None else item.value, " | ".join(others))
    return tuple([text.printable(cell) for cell in cells])
