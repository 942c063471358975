"""The command line of mmdebug: one module a subcommand, as in `mmstats.commands`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmstats.commands import build, run

COMMANDS = ("postmortem",)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    return build("mmdebug", "Look into Python processes: what a dead one left behind.", __name__, COMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run(parser(), arguments)
