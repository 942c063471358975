"""Places in code as frames for people: file, line, function, and the line's text without secrets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import CodeType

from ..capture.safetext import plain
from ..capture.sources import Sources
from . import Frame
from .walking import Place, line_of

#: Characters of a file's and a function's name.
MAX_TEXT = 400

_STANDARD = os.path.dirname(os.__file__) + os.sep


class Frames:
    """Makes each frame once, and reads each file once."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int | None], Frame] = {}
        self._kept: list[CodeType] = []  # so that no other code gets its `id`
        self._sources = Sources()

    def at(self, code: CodeType, offset: int) -> Frame:
        """The frame of the instruction at `offset`."""
        return self.of_line(code, line_of(code, offset))

    def of_line(self, code: CodeType, line: int | None) -> Frame:
        """The frame of a line."""
        key = (id(code), line)
        found = self._made.get(key)
        if found is None:
            self._kept.append(code)
            around = self._sources.around(code, line, 1) if line else ()
            source = around[0][1].strip() if around else ""
            found = Frame(plain(code.co_filename, MAX_TEXT), line or None, plain(code.co_qualname, MAX_TEXT), source)
            self._made[key] = found
        return found

    def of_interest(self, places: Sequence[Place]) -> Frame | None:
        """The innermost frame of the program's own code, or else the innermost one."""
        for code, offset in places:
            if not code.co_filename.startswith(_STANDARD) and "site-packages" not in code.co_filename:
                return self.at(code, offset)
        return self.at(*places[0]) if places else None
