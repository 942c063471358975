"""A post-mortem as a person reads it: identity, ending, and the last stats, on one screen."""

from __future__ import annotations

import time

from mmstats.commands import text
from mmstats.commands.console import Console, identity
from mmstats.commands.show import rows_of

from .postmortem import PostMortem


def print_report(console: Console, found: PostMortem) -> None:
    """Write the report."""
    who, stats = found.process, found.stats
    console.heading(f"{identity(who.service)}, pid {who.pid}: {found.ending.state}", found.ending.state)
    console.line(found.ending.summary)
    for item in found.ending.evidence:
        console.line(f"  - {text.printable(item)}")
    console.line()
    console.heading("Who it was")
    console.table(("", ""), _facts(found))
    console.line()
    console.heading("Its last stats")
    rows = rows_of(stats, console.ascii_only)
    if rows:
        console.table(("NAME", "LABELS", "VALUE", "HELP"), rows)
    else:
        console.line("(none)")
    for problem in found.problems:
        console.line(f"note: {text.printable(problem)}")


def _facts(found: PostMortem) -> list[tuple[str, str]]:
    who, stats = found.process, found.stats
    facts = []
    if who.argv:
        facts.append(("command", " ".join(who.argv)))
    if stats.created:
        began = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(stats.created / 1e9))
        ago = text.age(time.time() - stats.created / 1e9)
        facts.append(("recording began", f"{began}, {ago} ago"))
    if stats.closed_at:
        facts.append(("closed", time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(stats.closed_at / 1e9))))
    elif found.ending.state == "died":
        facts.append(("died", "at a time that this file does not tell"))
    if who.host:
        facts.append(("host", who.host + (f", uid {who.uid}" if who.uid is not None else "")))
    facts += [(name, version) for name, version in who.versions.items()]
    facts += [("environment", f"{name}={value}") for name, value in who.environ.items()]
    facts.append(("file", found.path))
    return [(f"  {name}", text.printable(value)) for name, value in facts]
