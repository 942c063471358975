"""Completion by the process itself: asked for in a thread of its own, so that typing goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from mmstats.commands.text import printable
from mmstats.errors import MmStatsError

from . import specials

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document

    from ..client import data
    from .session import Session

#: Seconds after which no completions are waited for.
LIMIT = 3.0
_WIDTH = 60


class RemoteCompleter:
    """A completer of prompt_toolkit's: % commands here, and code there; one question at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: Future[list[data.Completion]] | None = None

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """What needs no question."""
        from prompt_toolkit.completion import Completion

        if document.text.startswith("%") and "\n" not in document.text:
            before = document.text_before_cursor
            for text, replaced, meaning in specials.completions(before):
                yield Completion(text, -replaced, display_meta=meaning)

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        from prompt_toolkit.completion import Completion

        for found in self.get_completions(document, complete_event):
            yield found
        if document.text.startswith("%") or self._session.read_only or not document.text.strip() or not self._free():
            return
        self._asked = asked = _in_a_thread(self._session, document)
        try:
            matches = await asyncio.wait_for(asyncio.wrap_future(asked), LIMIT)
        except (MmStatsError, TimeoutError):
            return  # the next command shows what is wrong
        for match in matches:
            if _fits(match, document):
                meaning = printable(match.signature or match.type)[:_WIDTH]
                yield Completion(match.text, match.start - document.cursor_position, display_meta=meaning)

    def settle(self) -> None:
        """Before something else is asked: let what is under way end, but not for long."""
        if not self._free() and self._asked is not None:
            try:
                self._asked.exception(LIMIT)
            except TimeoutError:
                pass

    def _free(self) -> bool:
        return self._asked is None or self._asked.done()


def _in_a_thread(session: Session, document: Document) -> Future[list[data.Completion]]:
    """Ask in a thread that no exit waits for."""
    future: Future[list[data.Completion]] = Future()

    def ask() -> None:
        try:
            future.set_result(session.connection.complete(document.text, document.cursor_position))
        except BaseException as error:
            future.set_exception(error)

    # What nobody waits for any more must not be cancelled under the thread that works on it.
    future.set_running_or_notify_cancel()
    threading.Thread(target=ask, name="mmdebug-complete", daemon=True).start()
    return future


def _fits(match: data.Completion, document: Document) -> bool:
    """Whether it can be put where it says, and can't do anything else than be read: it makes no % command of code."""
    at = document.cursor_position
    becomes = (document.text[: match.start] + match.text).lstrip()
    return match.text.isprintable() and match.start <= at == match.end and not becomes.startswith("%")
