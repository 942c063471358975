"""Print what a dead process left: who it was, how it ended, and its last stats.

Without a target it takes the newest death on this machine; of a service, its newest death.
"""

from __future__ import annotations

import argparse

from mmdebug.postmortem import choose
from mmdebug.report import print_report
from mmstats.commands.console import Console
from mmstats.commands.options import add_targets

HELP = "print what a dead process left"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_targets(parser, "target", "?", "a pid, service, uuid, file name or path (default: the newest death)")


def run(options: argparse.Namespace, console: Console) -> int:
    found = choose(options.target, options.path)
    if options.json:
        console.json("postmortem", {"postmortem": found.to_dict()})
    else:
        print_report(console, found)
    return 0
