"""A prompt in a live process, on this terminal or line by line."""

from __future__ import annotations

import os
import sys
import time
from types import EllipsisType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..processes import Process
    from .screen import Screen

#: Exit codes: the last command failed; it was stopped by Ctrl-C.
FAILED, INTERRUPTED = 1, 130


def interact(
    process: Process,
    *,
    plain: bool = False,
    timeout: float | EllipsisType | None = ...,
    where: str = "auto",
    trust: bool = False,
    colour: bool | None = None,
) -> int:
    """Read commands and run them in the process until whoever types them leaves. Returns an exit code.

    plain: line by line, also where more could be done
    timeout: seconds that a command may take there; None for no limit, by default the manhole's own
    where: where commands run: ``auto``, ``app``, ``main`` or ``native``
    trust: colours that the process prints are kept
    colour: whether to use colours; None for where they can be shown

    If the standard input is a pipe, its commands are run, and the code is 1 if the last one failed and
    130 if Ctrl-C stopped it. Otherwise it is 0. Raises `ConnectionLost` if the process died or hung up.
    """
    from . import plain as lines
    from . import show
    from .history import History, default_path
    from .screen import Screen
    from .session import Session

    person = sys.stdin.isatty()
    both = person and sys.stdout.isatty()
    screen = Screen(colour=colour, trust=trust, terminal=both)
    session = Session(process.connection, screen, where=where, timeout=timeout)
    try:
        if not person:
            lines.piped(session)
            return INTERRUPTED if session.interrupted else FAILED if session.failed else 0
        history = History(default_path())
        screen.quiet(show.banner(session.connection.welcome, _uptime(process), where, session.timeout))
        if history.problem:
            screen.quiet(history.problem)
        if both and not plain and os.environ.get("TERM") != "dumb" and _has_toolkit(screen):
            from . import prompt

            prompt.typed(session, history)
        else:
            lines.typed(session, history)
        screen.quiet(f"{show.name(session.connection.welcome)} goes on.")
        return 0
    finally:
        screen.settle()
        process.close()


def _has_toolkit(screen: Screen) -> bool:
    try:
        import prompt_toolkit  # noqa: F401  # whether it is there
    except ImportError:
        screen.quiet("Completion, history and colours need prompt_toolkit: pip install 'mmstats[attach]'")
        return False
    return True


def _uptime(process: Process) -> float | None:
    """Seconds since it began to record; None if that is not known."""
    from mmstats.errors import MmStatsError

    try:
        created = process.stats.created
    except MmStatsError:
        return None
    return time.time() - created / 1e9 if created else None
