"""Errors of live attach; each message says what to do about it. Those of files are in `mmstats.errors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmstats.errors import MmStatsError

from .escape import clean


class LiveError(MmStatsError):
    """What went wrong with a live process. Its message may hold that one's words: `str` gives it escaped for a
    terminal, `message` as it came.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return clean(self.message)


class ProtocolError(LiveError):
    """What came over a connection is not the protocol, or more than it allows."""


class AttachError(LiveError):
    """A process can't be attached to: nothing listens there, it is not ours, or it refused."""


class ConnectionLost(AttachError):
    """The connection ended before the answer came, because the process died or the way to it broke.

    postmortem: a `mmdebug.PostMortem` if it died, and its files are at hand; else None
    """

    def __init__(self, message: str, postmortem: Any = None) -> None:
        super().__init__(message)
        self.postmortem = postmortem


class RemoteError(LiveError):
    """What was asked of a live process failed there, or was refused.

    kind: ``exception``, ``timeout``, ``interrupted``, ``refused``, ``denied``, ``busy`` or ``protocol``
    name: the type of the exception there, empty if it was none
    traceback: its lines as Python prints them, without newlines
    where, seconds: where it ran, and how long; empty and None if it did not
    advice: what to do about it, if there is anything
    stuck: whether it could not be stopped and still runs; `stacks` (a `mmdebug.stacks.Stacks`) shows where then
    stdout, stderr: what it had printed, if that was not handed on as it came
    dropped: bytes of what it printed that are lost
    """

    def __init__(
        self,
        message: str,
        kind: str = "exception",
        name: str = "",
        traceback: Sequence[str] = (),
        *,
        where: str = "",
        seconds: float | None = None,
        advice: str = "",
        stuck: bool = False,
        stacks: Any = None,
        stdout: str = "",
        stderr: str = "",
        dropped: int = 0,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name
        self.traceback = tuple(traceback)
        self.where = where
        self.seconds = seconds
        self.advice = advice
        self.stuck = stuck
        self.stacks = stacks
        self.stdout = stdout
        self.stderr = stderr
        self.dropped = dropped
