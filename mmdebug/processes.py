"""`process` and `connect`: one object for a process, alive or dead, recorded or attached to."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from types import EllipsisType, TracebackType
from typing import Any, Protocol

import mmstats
from mmstats.commands import text
from mmstats.targets import find

from . import following
from .boxreader import read_box
from .client import discovery, opening
from .client.connection import Connection
from .client.data import RemoteValue, Result
from .client.printed import Printed
from .errors import AttachError
from .evidence import stem_of
from .layout import SUFFIX
from .postmortem import PostMortem, load
from .records import Activity, Box, Event, ExceptionRecord
from .stacks import Stacks, pyspy


class _Source(Protocol):
    """Where what is known of a process comes from."""

    @property
    def path(self) -> str: ...
    def listens(self) -> bool: ...
    def open(self) -> Connection: ...
    def close(self) -> None: ...
    def stats(self) -> mmstats.Snapshot: ...
    def box(self) -> Box | None: ...
    def events(self, severity: str, last: int | None, follow: bool) -> Iterator[Event]: ...
    def postmortem(self) -> PostMortem: ...


class Events(tuple[Event, ...]):
    """The events at one moment, the newest last. Called, it asks for others."""

    _source: _Source

    def __call__(self, *, follow: bool = False, severity: str = "debug", last: int | None = None) -> Iterator[Event]:
        """Events of this severity and worse, only the last so many; with `follow` also those that come."""
        return self._source.events(severity, last, follow)


class Process:
    """A process, recorded, attached to, or both. Each property looks anew, so of a live one it shows what is now.

    path: its stat file; empty if it is elsewhere

    What needs a manhole connects when it is first asked for. `close` or a ``with`` block ends that.
    """

    def __init__(self, path: str, *, source: _Source | None = None) -> None:
        self.path = path
        self._source = source if source is not None else _Here(path)
        self._connection: Connection | None = None
        self._lock = threading.RLock()

    @property
    def stats(self) -> mmstats.Snapshot:
        """Its stats, and who it is: see `mmstats.Snapshot`."""
        return self._source.stats()

    @property
    def pid(self) -> int:
        connection = self._connection
        return connection.welcome.pid if connection is not None else self.stats.process.pid

    @property
    def alive(self) -> bool | None:
        """True, False, or None for unknown."""
        return self.stats.alive

    @property
    def box(self) -> Box | None:
        """What it recorded; None if there is no recorder."""
        return self._source.box()

    @property
    def activities(self) -> tuple[Activity, ...]:
        """What is in progress, in the order of its start."""
        box = self.box
        return box.activities if box is not None else ()

    @property
    def events(self) -> Events:
        """The last events and log records, the newest last. ``events(follow=True)`` yields those that come."""
        box = self.box
        found = Events(box.events if box is not None else ())
        found._source = self._source
        return found

    @property
    def exceptions(self) -> tuple[ExceptionRecord, ...]:
        """The distinct errors, the one that came last at the end."""
        box = self.box
        return box.exceptions if box is not None else ()

    def postmortem(self) -> PostMortem:
        """Everything together, and how it ended."""
        return self._source.postmortem()

    def to_frame(self) -> Any:
        """Its stats as a pandas DataFrame. Needs pandas."""
        return self.stats.to_frame()

    # What asks the live process.

    @property
    def connection(self) -> Connection:
        """The connection to its manhole; threads share it. Raises `AttachError` if there is none."""
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = self._source.open()
            return self._connection

    def eval(self, expression: str, *, where: str = "auto", timeout: float | EllipsisType | None = ...) -> Any:
        """The value of an expression there: as it is if JSON holds it exactly, a DataFrame if it is one.

        Otherwise a `RemoteValue`: its type and its text. What is printed meanwhile is printed here.

        where, timeout: as of `Connection.execute`

        Raises `RemoteError` if it fails there, and `ConnectionLost`.
        """
        printed = Printed()
        try:
            result = self.connection.execute(
                expression, mode="eval", where=where, timeout=timeout, value=True, on_stream=printed
            )
        finally:
            printed.end()
        if result.has_value:
            return result.value
        frame = result.frame
        return frame if frame is not None else RemoteValue(result.type, result.text, result.data, result.value_problem)

    def exec(self, code: str, *, where: str = "auto", timeout: float | EllipsisType | None = ...) -> Result:
        """Run statements there. The result has what was printed, and the value if the last one is an expression.

        Raises `RemoteError` if they fail there, and `ConnectionLost`.
        """
        return self.connection.execute(code, mode="cell", where=where, timeout=timeout, value=True)

    def stacks(self, everything: bool = False) -> Stacks:
        """What all its threads, greenlets and tasks are doing; its threads only, by py-spy, if it has no manhole.

        everything: alike ones are not put together
        """
        if self._connection is None and not self._source.listens():
            return pyspy.dump(self.pid)
        return self.connection.stacks(everything)

    def close(self) -> None:
        """End the connection, if there is one."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._source.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self.path and self._connection is not None:
            welcome = self._connection.welcome
            return f"<Process {text.printable(welcome.service)} {welcome.pid}, elsewhere>"
        who = self.stats.process
        return f"<Process {text.printable(who.service)} {who.pid}, {who.state}>"

    def _repr_html_(self) -> str | None:
        return self.postmortem()._repr_html_()


class _Here:
    """A process of this machine, by its stat file."""

    def __init__(self, path: str, timeout: float | None = None, note: discovery.Note | None = None) -> None:
        self.path = path
        self._timeout = timeout
        self._note = note

    def listens(self) -> bool:
        candidate = discovery.candidate_of(self.path)
        return candidate.manhole == "open" or candidate.alive is False  # of a dead one `open` says so

    def open(self) -> Connection:
        candidate = discovery.candidate_of(self.path)
        if candidate.alive is False:
            raise discovery.dead(candidate)
        return opening.open_local(candidate, self._timeout, self._note)

    def close(self) -> None:
        pass  # files are not kept open

    def stats(self) -> mmstats.Snapshot:
        return mmstats.read(self.path)

    def box(self) -> Box | None:
        path = stem_of(self.path) + SUFFIX
        return read_box(path, self.stats().series_at) if os.path.exists(path) else None

    def events(self, severity: str, last: int | None, follow: bool) -> Iterator[Event]:
        path = os.path.realpath(self.path)
        if not follow:
            found = following.recorded(path, severity)
            yield from found[-last:] if last else found
            return
        for number, new in enumerate(following.follow(path, severity)):
            yield from new[-last:] if last and not number else new

    def postmortem(self) -> PostMortem:
        return load(self.path)


class _Connected:
    """A process whose files can't be read here: it is asked for everything."""

    path = ""

    def __init__(self, reopen: Callable[[], Connection]) -> None:
        self._reopen = reopen
        self._asked: Connection | None = None
        self._lock = threading.RLock()

    def listens(self) -> bool:
        return True

    def open(self) -> Connection:
        """The one that is open, or else a new one."""
        with self._lock:
            if self._asked is None or self._asked.closed:
                self._asked = self._reopen()
            return self._asked

    def close(self) -> None:
        with self._lock:
            asked, self._asked = self._asked, None
        if asked is not None:
            asked.close()

    def stats(self) -> mmstats.Snapshot:
        return self.open().stats()

    def box(self) -> Box | None:
        return self.open().box()

    def events(self, severity: str, last: int | None, follow: bool) -> Iterator[Event]:
        if not follow:
            yield from self.open().events(last, severity)
            return
        # One of its own: whoever follows may ask other things meanwhile.
        with self._reopen() as connection:
            yield from connection.events(last, severity, follow=True)

    def postmortem(self) -> PostMortem:
        return self.open().files().postmortem()


def process(target: str | int, path: str | os.PathLike[str] | None = None) -> Process:
    """The process that `target` means: a pid, a service, a uuid, a file's name or a path.

    Of several of one service it is the newest one that lives, or else the newest one.

    path: the directory to look into, if not the usual ones

    Raises `mmstats.TargetError` if there is none.
    """
    found = find(str(target), os.fspath(path) if path is not None else None)
    living = [snapshot for snapshot in found if snapshot.alive]
    return Process((living or found)[-1].path)


def connect(
    target: str | int,
    *,
    via: Sequence[str] | str | None = None,
    path: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    remote: Sequence[str] | str | None = None,
    note: discovery.Note | None = None,
) -> Process:
    """Connect to the live process that `target` means; what it means is as of `process`.

    via: a command whose standard input and output reach another machine or container, such as
        ``["kubectl", "exec", "-i", "web-0", "--"]``
    path: the directory to look into, if not the usual ones
    timeout: seconds until the process must have answered; by default 5, and 60 with `via`
    remote: what is `mmdebug` at the other end of `via`, if not ``python3 -m mmdebug``
    note: takes a sentence if that takes more than a moment, or if several processes are meant

    Raises `mmstats.TargetError` if nothing is known of it, and `AttachError` if it can't be attached to.
    """
    where = os.fspath(path) if path is not None else None
    if via is not None:
        way, there = _words(via), _words(remote) if remote is not None else opening.REMOTE

        def reopen() -> Connection:
            return opening.open_via(way, str(target), path=where, timeout=timeout, remote=there, note=note)

        return _opened(Process("", source=_Connected(reopen)))
    candidate = discovery.choose(str(target), where, note)
    if candidate.path:
        return _opened(Process(candidate.path, source=_Here(candidate.path, timeout, note)))
    return _opened(Process("", source=_Connected(lambda: opening.open_local(candidate, timeout, note))))


def _opened(found: Process) -> Process:
    found.connection  # noqa: B018  # opens it
    return found


def _words(command: Sequence[str] | str) -> list[str]:
    try:
        return shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise AttachError(f"{command!r} is no command: {error}") from error
