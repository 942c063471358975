"""What failed in another process, as a cell shows it: the traceback from there, and none of our own frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mmstats.commands import text

from ..errors import RemoteError
from ..escape import clean


class RemoteFailure(RemoteError):
    """A cell that ran elsewhere failed. IPython shows `lines` in place of the frames that led to the connection."""

    def __init__(self, message: str, lines: Sequence[str], kind: str = "exception", name: str = "") -> None:
        super().__init__(message, kind, name, lines)
        self._lines = tuple(lines)

    def _render_traceback_(self) -> list[str]:
        return list(self._lines)


def failure_of(error: RemoteError, where: str, colours: bool) -> RemoteFailure:
    """`error`, of a process that `where` names, as a cell is to show it."""
    message = str(error).strip()
    if error.name and not message.startswith(error.name):
        message = f"{text.printable(error.name)}: {message}"
    shown = "\n".join([clean(line) for line in error.traceback]) or message
    # What stopped a command is not in the traceback of where it was.
    told = [] if error.kind == "exception" or shown == message else [message]
    told += [clean(error.advice)] if error.advice else []
    lines = [f"In {text.printable(where)}:", coloured(shown) if colours else shown, *told]
    return RemoteFailure(message, lines, error.kind, error.name)


def wants_colours(shell: Any) -> bool:
    """Whether this shell shows colours."""
    return str(getattr(shell, "colors", "nocolor")).lower() != "nocolor" and not os.environ.get("NO_COLOR")


def coloured(traceback: str) -> str:
    """A traceback with colours, where there is pygments, which comes with IPython."""
    try:
        from pygments import highlight
        from pygments.formatters import TerminalFormatter
        from pygments.lexers import PythonTracebackLexer
    except ImportError:
        return traceback
    return str(highlight(traceback, PythonTracebackLexer(), TerminalFormatter())).rstrip("\n")
