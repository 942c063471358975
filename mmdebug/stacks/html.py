"""Stacks as HTML: a page, or a part of one."""

from __future__ import annotations

from typing import Any

from ..pages import Pages
from . import Frame, Stacks, text

#: Groups whose calls are shown at once; those of the others unfold.
OPEN = 6

_pages = Pages(__package__, text.one_line)


def page(stacks: Stacks) -> str:
    """A whole page. Raises `ConfigurationError` without jinja2."""
    return _pages.page(_context(stacks))


def fragment(stacks: Stacks) -> str:
    """The same without the page around it. Raises as `page` does."""
    return _pages.fragment(_context(stacks))


def _context(stacks: Stacks) -> dict[str, Any]:
    return {
        "found": stacks,
        "headline": text.headline(stacks),
        "groups": text.ordered_of(stacks.stacks),
        "open": OPEN,
        "heading": text.heading,
        "waiting": text.waiting,
        "place": _place,
        "is_library": text.is_library,
    }


def _place(frame: Frame) -> str:
    return f"{text.short(frame.file)}:{frame.line if frame.line is not None else '?'}"
