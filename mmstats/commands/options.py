"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse
from typing import Any

from mmstats.fleet import Fleet, read_all


def add_targets(parser: argparse.ArgumentParser, name: str, count: str, what: str) -> None:
    """Add the argument `name`: as many targets as argparse's `count` says, completed by the shell."""
    argument = parser.add_argument(name, nargs=count, metavar="TARGET", help=what)
    argument.completer = complete_targets  # type: ignore[attr-defined]  # where argcomplete looks for it


def complete_targets(prefix: str, parsed_args: Any = None, **_: Any) -> list[str]:
    """What a shell offers for a target: services and pids."""
    fleet = read_all(getattr(parsed_args, "path", None))
    found = {snapshot.process.service for snapshot in fleet.values()}
    found |= {str(snapshot.process.pid) for snapshot in fleet.values()}
    return sorted(name for name in found if name.startswith(prefix))


def fleet_of(options: argparse.Namespace) -> Fleet:
    """The processes that the options select."""
    return read_all(options.path, service=getattr(options, "service", None))


def positive(kind: Any) -> Any:
    """An argparse type: a number of `kind` above 0."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise ValueError(text)
        return value

    parse.__name__ = f"positive {kind.__name__}"
    return parse
