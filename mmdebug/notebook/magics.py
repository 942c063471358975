"""``%deaths`` and ``%postmortem``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from typing import Any, NoReturn

from mmstats.commands import text
from mmstats.errors import MmStatsError, TargetError

from ..postmortem import PostMortem, choose, deaths
from .display import Table, as_text, deaths_table

#: What the magics look for first where nobody says of which service.
Service = Callable[[], str]


class Parser(argparse.ArgumentParser):
    """Says what is wrong, instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise MmStatsError(f"{message}; {' '.join(self.format_usage().split())}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise MmStatsError(message or "")


def parsed(parser: argparse.ArgumentParser, line: str) -> argparse.Namespace:
    """The arguments of a magic. Raises `MmStatsError`."""
    try:
        return parser.parse_args(shlex.split(line))
    except ValueError as error:  # a quote that nothing closes
        raise MmStatsError(str(error)) from error


def deaths_of(line: str) -> Table:
    """What ``%deaths`` shows."""
    parser = Parser("%deaths", add_help=False)
    parser.add_argument("service", nargs="?", metavar="SERVICE")
    parser.add_argument("--path", metavar="DIR")
    options = parsed(parser, line)
    whose = f" of {text.printable(options.service)}" if options.service else ""
    return deaths_table(deaths(options.path, service=options.service), f"no process{whose} has died here")


def postmortem_for(line: str, service: str) -> tuple[PostMortem, bool]:
    """What ``%postmortem`` shows, and whether all of it; without a target the newest death of `service`, or of all."""
    parser = Parser("%postmortem", add_help=False)
    parser.add_argument("target", nargs="?", metavar="TARGET")
    parser.add_argument("--path", metavar="DIR")
    parser.add_argument("--all", action="store_true")
    options = parsed(parser, line)
    if options.target is None:
        try:
            return choose(None, options.path, service=service), options.all
        except TargetError:
            return choose(None, options.path), options.all
    from ..commands.opening import chosen

    with chosen(options.target, options.path) as (found, bundle):
        if bundle is not None:
            print(f"as it was judged when it was saved, on {text.printable(bundle.host or 'some machine')}")
        return found, options.all


class Magics:
    """The magics of one shell. They are its attributes so that they can be taken away again."""

    NAMES = ("deaths", "postmortem")

    def __init__(self, shell: Any, service: str) -> None:
        self._shell = shell
        self._service = service
        for name in self.NAMES:
            shell.register_magic_function(getattr(self, name), "line", name)

    def remove(self) -> None:
        for name in self.NAMES:
            self._shell.magics_manager.magics["line"].pop(name, None)

    def deaths(self, line: str) -> Table:
        """List the processes that ended badly, the newest first: %deaths [SERVICE] [--path DIR]

        The result is a table, and a sequence of `mmdebug.PostMortem`.
        """
        with Told():
            return deaths_of(line)

    def postmortem(self, line: str) -> PostMortem | None:
        """Show what a dead process left: %postmortem [TARGET] [--path DIR] [--all]

        TARGET is a pid, service, uuid, file name, path, or a tar of ``mmdebug save``; without one
        it is the newest death of a kernel, or else of any process. --all prints all of it as text.
        The result is a `mmdebug.PostMortem`.
        """
        with Told():
            found, everything = postmortem_for(line, self._service)
        if everything:
            print(as_text(found, everything=True))
            return None
        return found


class Told:
    """What is wrong is said in one line, as IPython does for its own magics."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, MmStatsError):
            from IPython.core.error import UsageError

            raise UsageError(text.printable(str(error))) from None
