"""The command line of mmdebug: one module a subcommand, as in `mmstats.commands`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from mmstats.commands import Version, common, run

COMMANDS = ("postmortem",)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    main = argparse.ArgumentParser(
        prog="mmdebug",
        description="Look into Python processes: what a dead one left behind.",
        epilog="A TARGET is a pid, a service, a uuid, a file's name or a path. `mmdebug COMMAND --help` tells more.",
    )
    main.add_argument("--version", action=Version, help="say which version and which implementation runs")
    subparsers = main.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"{__name__}.{name}")
        sub = subparsers.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common()],
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run(parser(), arguments)
