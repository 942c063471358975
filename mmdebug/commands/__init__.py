"""The command line of mmdebug: one module a subcommand, as in `mmstats.commands`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmstats import commands as shared

COMMANDS = (
    "run", "ps", "attach", "stacks", "eval", "exec", "arm", "postmortem", "events", "compare", "save", "bridge",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    return shared.build(
        "mmdebug",
        "See what a Python process is doing, or was doing when it died, and what killed it.",
        __name__,
        COMMANDS,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return shared.run(parser(), arguments)
