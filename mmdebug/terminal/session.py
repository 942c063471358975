"""A session: what is typed goes to the process or to a % command, and what comes back is shown."""

from __future__ import annotations

from collections import deque
from types import EllipsisType
from typing import TYPE_CHECKING

from mmstats.errors import MmStatsError

from ..client.data import Result, Started
from ..errors import AttachError, RemoteError
from . import show, specials
from .cells import LEAVING, asked_about
from .screen import Screen

if TYPE_CHECKING:
    from ..client.connection import Connection


class Leave(Exception):
    """The session is to end; the process goes on."""


class Session:
    """One connection, and what was chosen for its commands.

    number: of the next command
    where, timeout: where commands run (``auto``, ``app``, ``main``, ``native``), and for how many seconds; None for any
    failed, interrupted: whether the last command was
    typing: whether a prompt is drawn, which what comes late must not be written into
    """

    def __init__(
        self,
        connection: Connection,
        screen: Screen,
        *,
        where: str = "auto",
        timeout: float | EllipsisType | None = ...,
    ) -> None:
        self.connection = connection
        self.screen = screen
        self.where = where
        own = connection.welcome.limits.get("timeout")
        self.timeout: float | None = own if isinstance(timeout, EllipsisType) else timeout
        self.number = 1
        self.failed = self.interrupted = False
        self.typing = False
        self._last: Result | None = None
        self._start = 0
        self._stacks = ""
        self._late: deque[tuple[str, str]] = deque()
        connection.on_late = self._come_late

    @property
    def read_only(self) -> bool:
        return self.connection.welcome.read_only

    def prompt(self) -> tuple[str, str, str]:
        """The prompt in its parts: who, what is special about it, and the rest."""
        state = "read-only" if self.read_only else self.where if self.where != "auto" else ""
        return show.name(self.connection.welcome), f" ({state})" if state else "", f" [{self.number}]: "

    def look(self) -> None:
        """Show what was printed after its command's end. Raises what ends a connection."""
        try:
            self.connection.look()
        finally:
            self.show_late()

    @property
    def late(self) -> bool:
        """Whether something waits to be shown until nothing is typed."""
        return bool(self._late)

    def show_late(self) -> None:
        """Show what came while a prompt was drawn, and end its line."""
        while self._late:
            self.screen.stream(*self._late.popleft())
        self.screen.settle()

    def _come_late(self, name: str, text: str) -> None:
        """Also in the thread that asks for completions."""
        if self.typing:
            self._late.append((name, text))
        else:
            self.screen.stream(name, text)

    def run(self, text: str) -> None:
        """One command. Raises `Leave`, and what ends a connection."""
        text = text.strip("\n").rstrip()
        if not text.strip():
            return
        self.failed = self.interrupted = False
        try:
            self._dispatch(text)
        except RemoteError as error:
            self.failed = True
            self.interrupted = error.kind == "interrupted"
            if self.interrupted:
                self.screen.interrupted()
            self._show_error(error)
        except AttachError:
            self.screen.settle()
            raise
        except MmStatsError as error:
            if self.connection.closed:
                self.screen.settle()
                raise
            self.failed = True
            self.screen.error(str(error))
        except KeyboardInterrupt:
            self.failed = self.interrupted = True
            self.screen.interrupted()
            self.screen.error("Not waited for any longer: it may go on there. %stacks shows what it does.")

    def _dispatch(self, text: str) -> None:
        line = text.strip()
        if line in LEAVING:
            raise Leave
        if line.startswith("%") and "\n" not in line:
            specials.run(self, line)
            return
        about = asked_about(text)
        if self.read_only:
            self.failed = True
            self.screen.error(show.READ_ONLY)
        elif about is not None:
            self._inspect(*about)
        else:
            self.execute(text)

    def execute(self, code: str, where: str | None = None, mode: str = "cell") -> None:
        """Run code there and show what comes of it."""
        self.number += 1
        result = self.connection.execute(
            code,
            mode=mode,
            where=where or self.where,
            timeout=self.timeout,
            on_stream=self.screen.stream,
            on_started=self._show_start,
        )
        self._show(result, 0)
        if self.screen.terminal:
            for sentence in show.about_time(result):
                self.screen.quiet(sentence)

    def more(self) -> None:
        """The next part of the last result."""
        start = show.next_start(self._last, self._start) if self._last is not None else None
        if start is None:
            raise specials.Misuse("There is no more of the last result.")
        self._show(self.connection.page(start), start)

    def show_stacks(self, everything: bool) -> None:
        self._stacks = str(self.connection.stacks(everything))
        self.screen.answer(self._stacks.rstrip("\n"))

    def _inspect(self, name: str, detail: int) -> None:
        found = self.connection.inspect(name, len(name), detail)
        self.screen.answer(show.inspection(found))
        if detail and found.found:
            if found.source:
                self.screen.answer("Source:")
                self.screen.source(found.source.rstrip("\n"))
            else:
                self.screen.note("Its source is not to be had there.")
        self.failed = not found.found

    def _show(self, result: Result, start: int) -> None:
        self.screen.settle()
        if result.data:
            self.screen.answer(result.text)
        self._last, self._start = result, start
        for sentence in show.about_result(result, start):
            self.screen.note(sentence)

    def _show_start(self, started: Started) -> None:
        """Something is told only if it runs elsewhere than it was meant to."""
        if not started.reason:
            return
        if started.stacks is not None:
            # What a stack is the same as before need not be read again.
            stacks = str(started.stacks)
            if _without_head(stacks) != _without_head(self._stacks):
                self.screen.quiet(stacks.rstrip("\n"))
            else:
                self.screen.quiet("(the stacks are the same as before: %stacks shows them)")
            self._stacks = stacks
        self.screen.note(show.fallback(started.reason, self.connection.welcome.kind))

    def _show_error(self, error: RemoteError) -> None:
        if error.stacks is not None:
            self._stacks = str(error.stacks)
            self.screen.quiet(self._stacks.rstrip("\n"))
        if error.traceback:
            self.screen.traceback(error.traceback)
        if error.kind != "exception" or not error.traceback:
            self.screen.error(show.failure(error))
        if error.advice:
            self.screen.note(show.sentence(error.advice))
        elif error.stuck:
            self.screen.note("It could not be stopped, and still runs there. This session goes on without it.")
        for sentence in show.about_output(error.dropped):
            self.screen.note(sentence)


def _without_head(stacks: str) -> str:
    """Stacks without their first line, which has the time."""
    return stacks.partition("\n")[2]
