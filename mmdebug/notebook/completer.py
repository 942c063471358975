"""Completion in ``%%remote`` cells, by the process that they run in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmstats.errors import MmStatsError

#: What a cell that is completed there begins with.
CELL = "%%remote"

#: Asks for what fits at a place of code: objects with `text`, `start`, `end` and `type`.
Complete = Callable[[str, int], Sequence[Any]]


class Completer:
    """A matcher of IPython's, until `remove`. It hands out nothing where `complete` is None or fails."""

    def __init__(self, shell: Any, complete: Callable[[], Complete | None]) -> None:
        from IPython.core.completer import context_matcher

        self._completer = shell.Completer
        self._complete = complete
        # Of a function, since the decorator marks what it is given.
        self._matcher = context_matcher(priority=1000, identifier="mmdebug.remote")(lambda context: self.match(context))
        self._completer.custom_matchers.append(self._matcher)

    def remove(self) -> None:
        if self._matcher in self._completer.custom_matchers:
            self._completer.custom_matchers.remove(self._matcher)

    def match(self, context: Any) -> dict[str, Any]:
        """What IPython asks for, in the shape that it wants."""
        nothing = {"completions": [], "suppress": False}
        code, cursor = inside(context.full_text, context.cursor_line, context.cursor_position)
        if cursor < 0 or (complete := self._complete()) is None:
            return nothing
        try:
            found = [one for one in complete(code, cursor) if one.end == cursor and 0 <= one.start <= cursor]
        except (MmStatsError, OSError):
            return nothing  # it is not worth a traceback among what the user types
        # IPython replaces one piece of text by any of the matches.
        start = min([one.start for one in found], default=cursor)
        from IPython.core.completer import SimpleCompletion

        return {
            "completions": [
                SimpleCompletion(text=code[start : one.start] + one.text, type=one.type or None)
                for one in found
                if one.text.isprintable()
            ],
            "matched_fragment": code[start:cursor],
            "suppress": True,
            "ordered": True,
        }


def inside(cell: str, line: int, column: int) -> tuple[str, int]:
    """The code of a ``%%remote`` cell and the place in it; the place is -1 if that is none."""
    first, _, code = cell.partition("\n")
    if line < 1 or first.split(None, 1)[:1] != [CELL]:
        return "", -1
    before = code.split("\n")[: line - 1]
    return code, sum([len(one) + 1 for one in before]) + column
