"""Print what a dead process left: what ended it, what it was doing, its last events, exceptions and stats.

Without a target it takes the newest death on this machine; of a service, its newest death. A tar
that `mmdebug save` made is a target, too.

  mmdebug postmortem                                         the newest death
  mmdebug postmortem --service web --last 5 --html r.html    the last deaths, and a page of the newest
  mmdebug postmortem TARGET --pdb                            walk the recorded frames
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from mmdebug.ending import end_of
from mmdebug.manifest import Manifest
from mmdebug.outfile import private_file
from mmdebug.postmortem import PostMortem, deaths
from mmdebug.report import content, print_report
from mmstats.commands import text
from mmstats.commands.console import Console, identity
from mmstats.commands.options import add_targets, positive
from mmstats.errors import ConfigurationError
from mmstats.reader import seconds

from .opening import chosen

HELP = "print what a dead process left"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a pid, service, uuid, file name, path, or a tar of `mmdebug save` (default: the newest death)"
    add_targets(parser, "target", "?", what)
    parser.add_argument("--service", help="only this service")
    parser.add_argument("--last", type=positive(int), metavar="N", help="also list the last N deaths")
    parser.add_argument("--html", metavar="FILE", help="write a page that holds everything; - for the standard output")
    parser.add_argument("--pdb", action="store_true", help="walk the recorded frames: up, down, where, locals")
    parser.add_argument("--all", action="store_true", help="leave nothing out and cut nothing short")


def run(options: argparse.Namespace, console: Console) -> int:
    if options.last and options.target:
        raise ConfigurationError("--last lists deaths of all or of a --service: give it without a target")
    if options.last:
        listed = deaths(options.path, service=options.service)[: options.last]
        if listed:
            return _show(options, console, listed[0], None, listed)
    with chosen(options.target, options.path, service=options.service) as (found, bundle):
        return _show(options, console, found, bundle, [])


def _show(
    options: argparse.Namespace, console: Console, found: PostMortem, bundle: Manifest | None, listed: list[PostMortem]
) -> int:
    if options.html:
        _write_page(options.html, found, bundle, console)
        if options.html == "-":
            return 0
    if options.json:
        document: dict[str, Any] = {"postmortem": found.to_dict()}
        if listed:
            document["deaths"] = [_brief(item) for item in listed]
        console.json("postmortem", document)
        return 0
    if options.pdb:
        from mmdebug.debugger import debug

        console.flush()
        debug(found)
        return 0
    if listed:
        _list(console, listed)
        console.line()
    if options.html:
        console.line(f"All of it is in {text.printable(options.html)}.")
        console.line()
    print_report(console, found, everything=options.all, bundle=bundle)
    return 0


def _write_page(out: str, found: PostMortem, bundle: Manifest | None, console: Console) -> None:
    from mmdebug.report.html import render_html

    page = render_html(found, bundle=bundle)
    if out == "-":
        console.line(page)
        return
    with private_file(out, force=True) as file:
        file.write(page.encode())


def _brief(found: PostMortem) -> dict[str, Any]:
    end = end_of(found, time.time_ns())
    return {
        "path": found.path,
        "service": found.process.service,
        "pid": found.process.pid,
        "state": found.verdict.state,
        "summary": found.verdict.summary,
        "when": seconds(end.time) if end else None,
        "exact": bool(end and end.exact),
    }


def _list(console: Console, listed: list[PostMortem]) -> None:
    now = time.time_ns()
    rows = []
    for found in listed:
        end = end_of(found, now)
        when = ("" if end.exact else "after ") + content.moment(end.time) if end else "not known"
        who = found.process
        rows.append((when, identity(who.service), str(who.pid), text.printable(found.verdict.summary)))
    console.table(("WHEN", "SERVICE", "PID", "VERDICT"), rows, numeric=(2,))
