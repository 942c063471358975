"""Show the stats of processes: every field with its labels, value, unit and help.

Without a target it shows all processes. Histograms are shown as quantiles and a small bar, a
block for each bucket.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from typing import Any

from mmstats import aggregate, layout, targets, values
from mmstats.reader import Snapshot

from . import options as shared
from . import text
from .console import Console, identity
from .ls import age

HELP = "show the stats of one or many processes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_targets(parser, "targets", "*", "pids, services, uuids, file names or paths (default: all)")
    parser.add_argument("--merge", action="store_true", help="show them as one, each field merged by its meaning")
    parser.add_argument("--all", action="store_true", help="also the fields that describe the process itself")
    parser.add_argument("--field", metavar="TEXT", help="only fields with this in their name")


def run(options: argparse.Namespace, console: Console) -> int:
    chosen = choose(options)
    if options.json:
        content: dict[str, Any]
        if options.merge:
            content = {"merged": aggregate.merge(chosen).to_dict()}
        else:
            content = {"processes": [snapshot.to_dict() for snapshot in chosen]}
        console.json("show", content)
        return 0
    if not chosen:
        console.line("No processes have left a file here; `mmstats doctor` tells where they would.")
        return 1
    if options.merge:
        merged = aggregate.merge(chosen)
        count = len(chosen)
        console.heading(f"{count} process{'es' if count > 1 else ''} merged: {_names(chosen)}")
        _fields(console, merged, merged.problems, options)
        return 0
    for number, snapshot in enumerate(chosen):
        if number:
            console.line()
        _head(console, snapshot)
        _fields(console, snapshot, snapshot.problems, options)
    return 0


def choose(options: argparse.Namespace) -> list[Snapshot]:
    """The processes that the targets name: a service names all of its own, all else must name one."""
    if not options.targets:
        return list(shared.fleet_of(options).values())
    chosen: dict[str, Snapshot] = {}
    for target in options.targets:
        found = targets.find(target, options.path)
        if not os.path.isdir(target) and any(snapshot.process.service != target for snapshot in found):
            found = [targets.only(target, found)]
        chosen.update({snapshot.path: snapshot for snapshot in found})
    return list(chosen.values())


def _names(chosen: Iterable[Snapshot]) -> str:
    names = sorted({identity(snapshot.process.service) for snapshot in chosen})
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _head(console: Console, snapshot: Snapshot) -> None:
    who = snapshot.process
    console.heading(f"{identity(who.service)}, pid {who.pid}: {who.state} ({who.reason})", who.state)
    facts = [f"recording began {text.age(age(snapshot))} ago", text.size(snapshot.size)]
    facts += [f"{identity(name)} {identity(version)}" for name, version in who.versions.items()]
    console.line(f"  {', '.join(facts)}")
    if who.argv:
        console.line(f"  {text.printable(' '.join(who.argv))}")
    console.line(f"  {text.printable(snapshot.path)}")


def _fields(
    console: Console, found: Mapping[str, values.AnyValue], problems: Iterable[str], options: argparse.Namespace
) -> None:
    rows = rows_of(found, console.ascii_only, everything=options.all, containing=options.field)
    if rows:
        console.table(("NAME", "LABELS", "VALUE", "HELP"), rows)
    else:
        console.line("(no fields)")
    for problem in problems:
        console.line(f"note: {text.printable(problem)}")


def rows_of(
    found: Mapping[str, values.AnyValue], ascii_only: bool, *, everything: bool = False, containing: str | None = None
) -> list[tuple[str, str, str, str]]:
    """Name, labels, value and help of each series, as people read them."""
    rows = []
    for name, value in found.items():
        if containing is not None and containing not in name:
            continue
        # What the heading says already; but that label sets were lost must not go unseen.
        redundant = value.family.flags & layout.DESCRIPTIVE and not (value.kind == "counter" and value.value)
        if redundant and not everything and containing is None:
            continue
        shown = text.printable(name)
        help_text = text.printable(value.help)
        if isinstance(value, values.LabelledValue):
            if not len(value):
                rows.append((shown, "", "(none yet)", help_text))
            for labels, single in sorted(value.items()):
                pairs = [f"{k}={v}" for k, v in zip(value.labelnames, labels, strict=False)]
                rows.append((shown, text.printable(",".join(pairs)), describe(single, ascii_only), help_text))
                shown = help_text = ""
        else:
            rows.append((shown, "", describe(value, ascii_only), help_text))
    return rows


def describe(value: values.AnyValue, ascii_only: bool) -> str:
    """A value as people read it."""
    unit = value.unit
    if isinstance(value, values.EachValue):
        counts: dict[str, int] = {}
        for item in value.values():
            shown = describe(item, ascii_only)
            counts[shown] = counts.get(shown, 0) + 1
        several = [f"{shown} ({count}x)" if count > 1 else shown for shown, count in counts.items()]
        return " | ".join(several[:8]) + (f" | {len(several) - 8} more" if len(several) > 8 else "")
    if isinstance(value, values.HistogramValue):
        if not value.count:
            return "no samples"
        quantiles = [f"p{q:g} {text.number(value.quantile(q / 100), unit)}" for q in (50, 90, 99)]
        parts = [f"{value.count:,} samples", f"mean {text.number(value.mean, unit)}", *quantiles]
        return f"{', '.join(parts)}  [{text.bar(value.buckets, ascii_only)}]"
    if isinstance(value, values.WindowValue):
        if not value.count:
            return "no samples"
        parts = [f"{value.count:,} samples", f"mean {text.number(value.mean, unit)}"]
        parts += [f"recent {text.number(value.value, unit)}", f"max {text.number(value.max, unit)}"]
        return ", ".join(parts)
    if isinstance(value, values.SampleValue):
        return f"{text.number(value.value, unit)} (of {value.count:,})" if value.count else "no samples"
    return text.number(value.value, unit)
