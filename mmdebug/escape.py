"""Text of another process for a terminal: what would move the cursor, change colours or hide text is escaped. Pure."""

from __future__ import annotations

import re

_COLOUR = re.compile(r"(\x1b\[[0-9;:]{0,60}m)")
#: What may be the begin of a colour or of a line's end, with its end still on the way.
_BEGUN = re.compile(r"(?:\x1b(?:\[[0-9;:]{0,60})?|\r)\Z")
RESET = "\x1b[0m"


def clean(text: str, *, colours: bool = False) -> str:
    """Several lines, tabs and line ends kept. Colours are taken out, or kept where `colours` says so."""
    parts = _COLOUR.split(text.replace("\r\n", "\n"))
    kept = any(parts[1::2]) and colours
    parts[::2] = [_escaped(part) for part in parts[::2]]
    return "".join(parts) + RESET if kept else "".join(parts[::2])


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text])


class Stream:
    """The same for a text that comes in pieces."""

    def __init__(self, colours: bool = False) -> None:
        self._colours = colours
        self._rest = ""

    def feed(self, text: str) -> str:
        """What can be shown by now."""
        text = self._rest + text
        begun = _BEGUN.search(text)
        self._rest = begun.group() if begun else ""
        return clean(text[: len(text) - len(self._rest)], colours=self._colours)

    def end(self) -> str:
        """What was held back, if nothing more comes."""
        rest, self._rest = self._rest, ""
        return clean(rest, colours=self._colours)
