"""``%attach``, ``%%remote``, ``%pull``, ``%stacks`` and ``%detach``: cells that run in another, live process."""

from __future__ import annotations

import argparse
import keyword
import shlex
import sys
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from mmstats.commands import text
from mmstats.errors import MmStatsError

from ..client.connection import Connection
from ..client.data import Result, Started, trusted
from ..client.printed import Printed
from ..commands.reaching import PLACES, seconds
from ..commands.stacks import take
from ..errors import AttachError, ConnectionLost, RemoteError
from ..escape import clean
from ..processes import Process, connect
from .completer import CELL, Complete, Completer
from .display import Table
from .failures import RemoteFailure, failure_of, wants_colours
from .magics import Parser, Told, parsed


@dataclass(frozen=True, slots=True)
class Attached:
    """A process that cells can run in, and how they do if they don't say otherwise.

    who: its service and pid, fit to be printed
    late: what was printed after its command's end, and between two cells: the stream, and the text
    """

    process: Process
    connection: Connection
    who: str
    where: str
    timeout: float | None
    trust: bool
    late: deque[tuple[str, str]]


class Remote:
    """The magics of one shell for live processes. They are its attributes so that they can be taken away again."""

    LINE = ("attach", "detach", "pull", "stacks")

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._attached: Attached | None = None
        for name in self.LINE:
            shell.register_magic_function(getattr(self, name), "line", name)
        shell.register_magic_function(self.remote, "cell", CELL.lstrip("%"))
        self._completer = Completer(shell, self._complete)

    def remove(self) -> None:
        self._completer.remove()
        for name in self.LINE:
            self._shell.magics_manager.magics["line"].pop(name, None)
        self._shell.magics_manager.magics["cell"].pop(CELL.lstrip("%"), None)
        self._drop()

    def attach(self, line: str) -> Table:
        """Attach to a live process: %attach [TARGET] [--via COMMAND] [--trust] [--timeout S] [--where PLACE]

        TARGET is a pid, service, uuid, file name or path. %%remote cells run there from then on. Without it: who
        is attached to.

        --via COMMAND: what reaches another machine or container, such as 'kubectl exec -i web-0 --'
        --trust: show HTML and other rich results of this process, which may hold scripts
        --timeout S: the time limit of a cell; 0 for none
        --where PLACE: where cells run: auto, app, main or native
        --path DIR: where its files are, if not in the usual place
        --remote COMMAND: what is run at the other end of --via, if not 'python3 -m mmdebug'
        """
        parser = Parser("%attach", add_help=False)
        parser.add_argument("target", nargs="?", metavar="TARGET")
        parser.add_argument("--via", metavar="COMMAND")
        parser.add_argument("--path", metavar="DIR")
        parser.add_argument("--remote", metavar="COMMAND")
        _add_options(parser)
        with Told():
            options = parsed(parser, line)
            if options.target is None:
                return about(self._need())
            attached = attach(options)
        self._drop()
        self._attached = attached
        return about(attached)

    def detach(self, line: str) -> None:
        """Leave the process that was attached to; what runs there of this session is ended: %detach"""
        with Told():
            parsed(Parser("%detach", add_help=False), line)
            who = self._need().who
        self._drop()
        print(f"detached from {who}")

    def remote(self, line: str, cell: str) -> Any:
        """Run a cell in the process that was attached to: %%remote [--where PLACE] [--timeout S] [--trust]

        What it prints comes as it is printed, and its last expression is the result of the cell. The options are
        those of %attach, for this cell. Interrupting the kernel interrupts the code there.
        """
        parser = Parser(CELL, add_help=False)
        _add_options(parser)
        with Told():
            attached = self._need()
            options = parsed(parser, line)
        try:
            result = _execute(attached, cell, "cell", options.where, options.timeout)
            result = with_table(attached, result)
        except ConnectionLost as error:
            self._lost(attached, error)
        except RemoteError as error:
            if error.stacks is not None:
                _display(error.stacks)
            raise failure_of(error, attached.who, wants_colours(self._shell)) from None
        except MmStatsError as error:  # what came was no protocol
            raise RemoteFailure(str(error), [str(error)], "protocol") from None
        if result.dropped:
            lost = text.size(result.dropped)
            print(f"{lost} of what it printed were over the limit, and are lost", file=sys.stderr)
        if not result.data and not result.arrow:
            return None
        return trusted(result) if options.trust or attached.trust else result

    def pull(self, line: str) -> None:
        """Bring values of the process here: %pull NAME [NAME...] [--as NAME]

        What crosses is what JSON can hold, and pandas DataFrames. With --as, NAME can be any expression.
        """
        parser = Parser("%pull", add_help=False)
        parser.add_argument("names", nargs="+", metavar="NAME")
        parser.add_argument("--as", dest="name", metavar="NAME")
        with Told():
            names = names_of(parsed(parser, line))
            attached = self._need()
            try:
                values = {name: value_of(attached, expression) for name, expression in names.items()}
            except ConnectionLost as error:
                self._lost(attached, error)
        self._shell.push(values)
        print("\n".join([f"{name}: {_kind(value)}" for name, value in values.items()]))

    def stacks(self, line: str) -> Any:
        """Show what a process is doing, also while it hangs: %stacks [TARGET] [--all] [--path DIR]

        Without TARGET it is the process that was attached to. --all: alike ones are not put together. The result is
        a `mmdebug.stacks.Stacks`.
        """
        parser = Parser("%stacks", add_help=False)
        parser.add_argument("target", nargs="?", metavar="TARGET")
        parser.add_argument("--all", action="store_true")
        parser.add_argument("--path", metavar="DIR")
        with Told():
            options = parsed(parser, line)
            if options.target is not None:
                options.via = options.remote = None
                return take(options)
            attached = self._need()
            try:
                return attached.connection.stacks(everything=options.all)
            except ConnectionLost as error:
                self._lost(attached, error)

    def _need(self) -> Attached:
        if self._attached is None:
            raise AttachError("no process is attached to: %attach TARGET")
        return self._attached

    def _drop(self) -> None:
        attached, self._attached = self._attached, None
        if attached is not None:
            attached.process.close()

    def _lost(self, attached: Attached, error: ConnectionLost) -> NoReturn:
        """It died, or the way to it broke: say which, and show what it left."""
        self._drop()
        if error.postmortem is not None:
            _display(error.postmortem)
        lines = [str(error), "%attach TARGET attaches to another one"]
        raise RemoteFailure(lines[0], lines, "lost") from None

    def _complete(self) -> Complete | None:
        attached = self._attached
        return attached.connection.complete if attached is not None else None


def attach(options: argparse.Namespace) -> Attached:
    """Attach as ``%attach`` was told to. Raises `MmStatsError`."""
    found = connect(options.target, via=options.via, path=options.path, remote=options.remote)
    connection = found.connection
    who = text.printable(f"{connection.welcome.service or 'process'} {connection.welcome.pid}")
    late: deque[tuple[str, str]] = deque(maxlen=_MOST_LATE)
    connection.on_late = lambda name, came: late.append((name, came))
    return Attached(found, connection, who, options.where or "auto", options.timeout, options.trust, late)


def about(attached: Attached) -> Table:
    """Who is attached to, as a table of facts."""
    welcome = attached.connection.welcome
    versions = ", ".join([f"{name} {version}" for name, version in sorted(welcome.versions.items())])
    limit = attached.timeout if attached.timeout is not None else welcome.limits.get("timeout")
    rows = (
        ("service", welcome.service or "-"),
        ("pid", str(welcome.pid)),
        ("host", welcome.host),
        ("python", welcome.python),
        ("versions", versions or "-"),
        ("cells run", _PLACES.get(welcome.kind, welcome.kind) if attached.where == "auto" else attached.where),
        ("time limit", text.duration(limit) if limit else "none"),
        ("names", ", ".join(welcome.names) or "-"),
        ("may", "be asked, not changed: it is read-only" if welcome.read_only else "be asked and changed"),
    )
    return Table(rows, ("attached to", attached.who), rows)


def value_of(attached: Attached, expression: str) -> Any:
    """A value that crosses. Raises `MmStatsError`: one that does not, too."""
    result = _execute(attached, expression, "eval", None, None, value=True)
    if result.has_value:
        return result.value
    frame = result.frame
    if frame is None:
        why = f": {result.value_problem}" if result.value_problem else ""
        raise RemoteError(f"{expression} is a {result.type} there, and can't be brought here{why}", "refused")
    return frame


def with_table(attached: Attached, result: Result) -> Result:
    """`result` with the table that it stands for, if that can cross. It is fetched natively, to hold up nobody."""
    module, _, kind = result.type.rpartition(".")
    if kind not in _TABLES or module.partition(".")[0] not in ("pandas", "pyarrow"):
        return result
    try:
        found = _execute(attached, "_", "eval", "native", None, value=True)
    except RemoteError:
        return result  # its text is there
    return replace(result, arrow=found.arrow)


def names_of(options: argparse.Namespace) -> dict[str, str]:
    """What ``%pull`` brings: names here, and expressions there. Raises `MmStatsError`."""
    if options.name is not None:
        if len(options.names) != 1 or not _usable(options.name):
            raise MmStatsError("--as gives one value a name, which is one of Python's: %pull EXPRESSION --as NAME")
        return {options.name: options.names[0]}
    for name in options.names:
        if not _usable(name):
            raise MmStatsError(f"{name!r} is no name: %pull {shlex.quote(name)} --as NAME")
    return {name: name for name in options.names}


#: Types of pandas and pyarrow that cross as tables.
_TABLES = ("DataFrame", "Series", "Table", "RecordBatch")
#: Pieces of late output that wait for the next cell; of more the oldest go.
_MOST_LATE = 1000
#: Where ``auto`` is, by the kind of the process.
_PLACES = {
    "gevent": "in greenlets on its hub; natively, if that does not answer",
    "asyncio": "in tasks on its loop; natively, if that does not answer",
    "threads": "in a thread of their own",
}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--where", choices=PLACES)
    parser.add_argument("--timeout", type=seconds, metavar="S")
    parser.add_argument("--trust", action="store_true")


def _execute(
    attached: Attached, code: str, mode: str, where: str | None, timeout: float | None, *, value: bool = False
) -> Result:
    """Run code there, where and for how long `attached` says if nothing else is said."""
    wanted = timeout if timeout is not None else attached.timeout
    limit: dict[str, Any] = {} if wanted is None else {"timeout": wanted or None}
    printed = Printed()

    def show_late() -> None:
        while attached.late:
            printed(*attached.late.popleft())

    def show(name: str, came: str) -> None:
        show_late()
        printed(name, came)

    show_late()
    try:
        return attached.connection.execute(
            code,
            mode=mode,
            where=where or attached.where,
            value=value,
            on_stream=show,
            on_started=_started,
            **limit,
        )
    finally:
        show_late()
        printed.end()


def _started(started: Started) -> None:
    """Say why code runs elsewhere than it was meant to, and show what was in the way."""
    if started.reason:
        print(clean(started.reason))
    if started.stacks is not None:
        _display(started.stacks)


def _usable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _kind(value: Any) -> str:
    """What was brought, in a few words."""
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{kind}, {' x '.join([str(size) for size in shape])}"
    return f"{kind} of {len(value):,}" if isinstance(value, (dict, list, str)) else kind


def _display(value: Any) -> None:
    from IPython import display

    display.display(value)  # type: ignore[no-untyped-call]
