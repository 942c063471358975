"""Print what all threads, greenlets and asyncio tasks of a live process are doing, also while its hub is blocked.

Alike ones are put together, with where they were spawned and what they wait for, where that can be
told. A process that did not opt in is read by py-spy, if that is installed: it shows threads only.

  mmdebug stacks web
  mmdebug stacks 4711 --html stacks.html
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from mmdebug.errors import AttachError
from mmdebug.outfile import private_file
from mmstats.commands import text
from mmstats.commands.console import Console
from mmstats.errors import TargetError

from .reaching import add_reaching, guarded, reached, say

if TYPE_CHECKING:
    from mmdebug.stacks import Stacks

HELP = "print the stacks of a live process"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reaching(parser)
    parser.add_argument(
        "--all", action="store_true", help="leave nothing out: all groups and calls, hubs, and mmdebug's own threads"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page that holds everything; - for the standard output")


def run(options: argparse.Namespace, console: Console) -> int:
    return guarded(lambda: _show(options, console, take(options)))


def take(options: argparse.Namespace) -> Stacks:
    """The stacks of the target: by its manhole, or else by py-spy."""
    pid = 0 if options.via else without_manhole(options.target, options.path)
    if pid:
        from mmdebug.stacks import pyspy

        return pyspy.dump(pid)
    with reached(options) as found:
        return found.stacks(options.all)


def without_manhole(target: str, path: str | None) -> int:
    """The pid of a process that nothing listens in; 0 if there is a manhole. Raises `TargetError`, `AttachError`."""
    from mmdebug.client.discovery import choose

    try:
        candidate = choose(target, path)
    except TargetError:
        if target.isdecimal() and int(target) > 0:
            return int(target)  # it has left no file: one that records nothing
        raise
    if candidate.manhole == "open":
        return 0
    if not candidate.visible:
        raise AttachError(f"{candidate.who} has no manhole, and it is in another container, where py-spy can't see it")
    if candidate.manhole == "armed":
        say(f"{candidate.who} waits for its signal: `mmdebug arm {candidate.pid}` has it listen")
    return candidate.pid


def _show(options: argparse.Namespace, console: Console, found: Stacks) -> int:
    from mmdebug.stacks.text import render

    if options.html:
        from mmdebug.stacks.html import page

        if options.html == "-":
            console.line(page(found))
            return 0
        with private_file(options.html, force=True) as file:
            file.write(page(found).encode())
    if options.json:
        console.json("stacks", {"stacks": found.to_dict()})
        return 0
    if options.html:
        console.line(f"All of it is in {text.printable(options.html)}.")
        console.line()
    console.line(render(found, colour=_coloured(options.color), everything=options.all))
    return 0


def _coloured(asked: str) -> bool:
    if asked == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return asked == "always"
