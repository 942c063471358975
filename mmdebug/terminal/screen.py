"""Where a session writes: results to stdout, what is said about them to stderr, with colours where they are wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from mmstats.commands.console import Console

from ..escape import Stream, clean

_STYLES = {"note": "33", "error": "31", "quiet": "2"}
#: Characters that are coloured; what is longer is data.
_COLOURED = 100_000


class Screen:
    """What is written through it can neither move the cursor nor bring colours of its own.

    colour: whether ours are used on stdout; None as argument: on each stream where it can show them
    trust: whether those of the process' output are kept
    terminal: whether a person is watching
    ascii_only: whether it has no other characters
    shown: the last answer, for a pager
    """

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        *,
        colour: bool | None = None,
        trust: bool = False,
        terminal: bool | None = None,
    ) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self.colour = wants_colour(colour, self._out)
        self._coloured = {self._out} if self.colour else set()
        if wants_colour(colour, self._err):
            self._coloured.add(self._err)
        self.terminal = self._out.isatty() if terminal is None else terminal
        self.ascii_only = Console(self._out, plain=True).ascii_only
        self.shown = ""
        # On one terminal a line that stdout left open is open for stderr, too.
        self._same = self._out is self._err or (self._out.isatty() and self._err.isatty())
        self._streams = {name: Stream(trust) for name in ("stdout", "stderr")}
        self._open: set[TextIO] = set()

    def stream(self, name: str, text: str) -> None:
        """A piece of what the process prints."""
        kind = "stderr" if name == "stderr" else "stdout"
        self._write(self._err if kind == "stderr" else self._out, self._streams[kind].feed(text))

    def settle(self) -> None:
        """After the last piece: begin a new line if one was left open."""
        for kind, file in (("stdout", self._out), ("stderr", self._err)):
            self._write(file, self._streams[kind].end())
        for file in list(self._open):
            self._write(file, "\n")

    def interrupted(self) -> None:
        """After Ctrl-C, which the terminal shows as ``^C`` in the midst of a line."""
        if self.terminal:
            self._open.add(self._out)
        self.settle()

    def answer(self, text: str) -> None:
        """A result."""
        self.settle()
        self.shown = clean(text)
        self._write(self._out, self.shown + "\n")

    def source(self, text: str) -> None:
        """An answer that is Python code."""
        self.settle()
        self.shown = clean(text)
        self._write(self._out, self._highlighted(self._out, self.shown + "\n", "PythonLexer"))

    def traceback(self, lines: Sequence[str]) -> None:
        self.settle()
        text = clean("\n".join(lines)) + "\n"
        self._write(self._err, self._highlighted(self._err, text, "PythonTracebackLexer"))

    def error(self, text: str) -> None:
        """What went wrong."""
        self._say(text, "error")

    def note(self, text: str) -> None:
        """What one should know about an answer."""
        self._say(text, "note")

    def quiet(self, text: str) -> None:
        """What need not be read."""
        self._say(text, "quiet")

    def _say(self, text: str, style: str) -> None:
        self.settle()
        text = clean(text)
        if text and self._err in self._coloured:
            text = f"\x1b[{_STYLES[style]}m{text}\x1b[0m"
        self._write(self._err, text + "\n")

    def _highlighted(self, file: TextIO, text: str, lexer: str) -> str:
        if file not in self._coloured or len(text) > _COLOURED:
            return text
        try:
            from pygments import formatters, highlight, lexers
        except ImportError:
            return text
        paint: Callable[[str, Any, Any], str] = highlight
        return paint(text, getattr(lexers, lexer)(stripnl=False, ensurenl=False), formatters.TerminalFormatter())

    def _write(self, file: TextIO, text: str) -> None:
        if not text:
            return
        file.write(text)
        file.flush()
        for one in (self._out, self._err) if self._same else (file,):
            if text.endswith("\n"):
                self._open.discard(one)
            elif one is file:
                self._open.add(one)


def wants_colour(wish: bool | None, stream: TextIO) -> bool:
    """Whether to use colours: as is wished, or else on a terminal that has them, unless NO_COLOR is set."""
    if wish is not None:
        return wish
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
