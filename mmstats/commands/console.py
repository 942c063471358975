"""Where commands write: tables and lines for a person, JSON for a program.

On a terminal tables are rich's, if it is installed; everywhere else they are plain aligned text,
which pipes, logs and containers without anything installed can take.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from . import text

#: The number of the shape of what ``--json`` prints; it rises when a field goes or changes meaning.
JSON_SCHEMA = 1

_COLOURS = {"alive": "green", "ok": "green", "died": "red", "fail": "red", "unknown": "yellow", "warn": "yellow"}


class Console:
    """One command's output."""

    def __init__(self, stream: TextIO | None = None, colour: bool | None = None, plain: bool = False) -> None:
        self._stream = stream or sys.stdout
        terminal = self._stream.isatty()
        if colour is None:
            colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._rich = None if plain or not (terminal or colour) else _rich_console(self._stream, colour)
        self.ascii_only = not _can_encode(self._stream, "▁█é")

    def line(self, content: str = "") -> None:
        """A line of text."""
        print(content, file=self._stream)

    def heading(self, content: str, state: str = "") -> None:
        """A line that begins a part; `state` gives it its colour."""
        if self._rich is not None:
            from rich.text import Text

            style = f"bold {_COLOURS.get(state, '')}".strip()
            self._rich.print(Text(content, style=style), soft_wrap=True)
        else:
            self.line(content)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] = ()) -> None:
        """A table; `numeric` are the columns that are aligned to the right."""
        if self._rich is not None:
            self._rich_table(headers, rows, numeric)
            return
        lines = [headers, *rows] if any(headers) else rows
        widths = [max([len(row[i]) for row in lines], default=0) for i in range(len(headers))]
        for row in lines:
            cells = [cell.rjust(width) if i in numeric else cell.ljust(width)
                     for i, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
            self.line("  ".join(cells).rstrip())

    def _rich_table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(headers))
        for i, header in enumerate(headers):
            table.add_column(header, justify="right" if i in numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*[Text(cell, style=_COLOURS.get(cell, "")) for cell in row])
        assert self._rich is not None
        self._rich.print(table)

    def json(self, command: str, content: dict[str, Any], *, compact: bool = False) -> None:
        """An object for programs: `content`, with ``schema`` and ``command`` before it."""
        document = {"schema": JSON_SCHEMA, "command": command, **content}
        indent = None if compact else 2
        # Escaped to ASCII, so that no locale and no terminal can garble it.
        self.line(json.dumps(document, indent=indent, allow_nan=False, ensure_ascii=True))

    def flush(self) -> None:
        self._stream.flush()


def _rich_console(stream: TextIO, colour: bool) -> Any:
    try:
        from rich.console import Console as RichConsole
    except ImportError:
        return None
    return RichConsole(
        file=stream,
        color_system="auto" if colour else None,
        force_terminal=colour or None,
        highlight=False,
        emoji=False,
        markup=False,
    )


def _can_encode(stream: TextIO, sample: str) -> bool:
    try:
        sample.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def identity(value: str) -> str:
    """`value` for a cell of a table: never empty, never able to move the cursor."""
    return text.printable(value) or "-"
