"""The command line: one module a subcommand, each with ``HELP`` (empty: not listed), ``add_arguments`` and ``run``.

Built on argparse, so that it works where nothing but the writer is installed; rich and argcomplete
make it nicer where they are.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import mmstats
from mmstats import cells
from mmstats.errors import MmStatsError

from . import text
from .console import Console

COMMANDS = ("ls", "show", "watch", "prune", "doctor", "completion")

#: Exit codes: 1 for nothing found or a failure, 2 for wrong use, as argparse has it.
FAILURE = 1


class Version(argparse.Action):
    """``--version``: what runs, and how."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        print(version(parser.prog))
        parser.exit()


def version(program: str) -> str:
    speed = "compiled" if cells.COMPILED else "uncompiled"
    return (
        f"{program} {mmstats.__version__} (cells {speed}, {platform.python_implementation()}"
        f" {platform.python_version()}, file format 2)"
    )


def common() -> argparse.ArgumentParser:
    """The options that every subcommand has."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--path", metavar="DIR", help="look for stat files here (default: $MMSTATS_PATH, or yours)")
    parser.add_argument("--json", action="store_true", help="print JSON for programs, with a schema number")
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="colours (default: on a terminal)"
    )
    return parser


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    return build("mmstats", "See the stats of Python processes, alive or dead.", __name__, COMMANDS)


def build(program: str, description: str, package: str, commands: Sequence[str]) -> argparse.ArgumentParser:
    """A command line of the subcommands that are modules of `package`."""
    main = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=f"A TARGET is a pid, a service, a uuid, a file's name or a path. `{program} COMMAND --help` tells more.",
    )
    main.add_argument("--version", action=Version, help="say which version and which implementation runs")
    subparsers = main.add_subparsers(dest="command", metavar="COMMAND")
    for name in commands:
        module = import_module(f"{package}.{name}")
        # What has no help is for our own programs, and is not listed.
        listed = {"help": module.HELP} if module.HELP else {}
        sub = subparsers.add_parser(
            name,
            **listed,
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


def run(command_line: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse, run, and turn what goes wrong into a message and an exit code."""
    _replace_closed()
    try:
        import argcomplete

        argcomplete.autocomplete(command_line)
    except ImportError:
        pass  # the shell completes nothing, that is all
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = command_line.parse_args(arguments)
    if not options.command:
        command_line.print_help()
        return 2
    try:
        console = Console(colour={"auto": None, "always": True, "never": False}[options.color])
        status = options.run(options, console)
        console.flush()
    except MmStatsError as error:
        # What files are called, and what they hold, may be anybody's.
        message = "\n".join([text.printable(line) for line in str(error).split("\n")])
        print(f"{command_line.prog}: {message}", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone: end quietly, also when the stream is closed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return int(status)


def _replace_closed() -> None:
    """Give us standard streams that lead nowhere in place of those that whoever started us has closed.

    Python has None for them, and no file or socket of ours is to get their descriptors. What we start
    does not get them, and finds its own closed as before.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # it stays open as long as we run
