"""Have a live process listen for clients that was told to wait for a signal: send it that signal.

It is sent only to the very process that waits for it, and only while that catches it: otherwise it
could end the process. See install(signal=...) of mmdebug.manhole.
"""

from __future__ import annotations

import argparse

from mmstats.commands import text
from mmstats.commands.console import Console
from mmstats.commands.options import complete_targets

from .reaching import A_LIVE_TARGET

HELP = "have a process listen that waits for a signal to do so"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument("target", metavar="TARGET", help=A_LIVE_TARGET)
    argument.completer = complete_targets  # type: ignore[attr-defined]  # where argcomplete looks for it


def run(options: argparse.Namespace, console: Console) -> int:
    from mmdebug.client.arm import arm, name_of

    found, number = arm(options.target, options.path)
    socket = found.sockets[0].path
    if options.json:
        console.json("arm", {"pid": found.pid, "signal": number or None, "socket": socket})
        return 0
    how = f"listens since {name_of(number)}" if number else "listens already"
    console.line(f"{text.printable(found.who)} {how}: mmdebug attach {found.pid}")
    return 0
