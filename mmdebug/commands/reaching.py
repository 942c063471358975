"""What the commands share that ask a live process: their options, the connection, and how they fail."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmdebug.errors import ConnectionLost, RemoteError
from mmdebug.escape import clean
from mmstats.commands.options import complete_targets

if TYPE_CHECKING:
    from mmdebug.client.data import Started
    from mmdebug.processes import Process

# What connects is imported when it does: all commands are known to each start of `mmdebug`.

PLACES = ("auto", "app", "main", "native")
A_LIVE_TARGET = "a pid, service, uuid, file name or path of a live process"
#: Exit codes: it failed there; it was stopped by Ctrl-C.
FAILED, INTERRUPTED = 1, 130


def add_reaching(parser: argparse.ArgumentParser) -> None:
    """TARGET, and how to get there."""
    argument = parser.add_argument("target", metavar="TARGET", help=A_LIVE_TARGET)
    argument.completer = complete_targets  # type: ignore[attr-defined]  # where argcomplete looks for it
    parser.add_argument(
        "--via", metavar="COMMAND", help="what reaches another machine or container: 'kubectl exec -i web-0 --'"
    )
    parser.add_argument("--remote", metavar="COMMAND", help="mmdebug at the other end (default: python3 -m mmdebug)")


def add_running(parser: argparse.ArgumentParser) -> None:
    """Where code runs, and for how long."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--where", choices=PLACES, default="auto", help="where it runs (default: where it is safe)")
    where.add_argument(
        "--native", dest="where", action="store_const", const="native", help="in a thread of its own: --where native"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="S",
        help="seconds that it may take, 0 for any (default: the process' own limit, 30 if it has set none)",
    )


def seconds(value: str) -> float:
    """An argparse type: a time from 0 on."""
    found = float(value)
    if not 0 <= found < math.inf:
        raise ValueError(value)
    return found


seconds.__name__ = "number of seconds"  # argparse names it in its message


@contextmanager
def reached(options: argparse.Namespace) -> Iterator[Process]:
    """The process, connected to."""
    from mmdebug.processes import connect

    with connect(options.target, via=options.via, remote=options.remote, path=options.path, note=say) as found:
        yield found


def guarded(action: Callable[[], int]) -> int:
    """Do it; what fails in the other process is told as it is there, and a death with what it left."""
    try:
        return action()
    except RemoteError as error:
        tell(error)
        return INTERRUPTED if error.kind == "interrupted" else FAILED
    except ConnectionLost as error:
        say(str(error))
        if error.postmortem is not None:
            from mmdebug.report.brief import brief

            print(brief(error.postmortem), file=sys.stderr)
        return FAILED


def limit_of(options: argparse.Namespace) -> dict[str, Any]:
    """The time limit as `Connection.execute` and others take it: not at all, if none was asked for."""
    return {} if options.timeout is None else {"timeout": options.timeout or None}


def tell(error: RemoteError) -> None:
    """Print what failed there: on stderr, escaped."""
    if error.stacks is not None:
        print(clean(str(error.stacks)), file=sys.stderr)
    for line in error.traceback:
        print(clean(line), file=sys.stderr)
    if not error.traceback or error.kind != "exception":
        named = error.kind == "exception" and error.name and not error.message.startswith(error.name)
        say(f"{error.name}: {error}" if named else str(error))
    if error.advice:
        say(error.advice)


def started(begun: Started) -> None:
    """Say that code does not run where it was meant to, and show what the process was doing."""
    if begun.stacks is not None:
        print(clean(str(begun.stacks)), file=sys.stderr)
    if begun.reason:
        say(begun.reason)


def say(sentence: str) -> None:
    """A note of ours, which is none of the output."""
    print(f"mmdebug: {clean(sentence)}", file=sys.stderr)
