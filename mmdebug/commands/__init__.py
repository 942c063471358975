"""The command line of mmdebug: one module a subcommand, as in `mmstats.commands`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmstats.commands import build, run

COMMANDS = ("run", "postmortem", "events", "compare", "save")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    return build("mmdebug", "See what a Python process was doing when it died, and what killed it.", __name__, COMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run(parser(), arguments)
