"""Stacks as HTML that needs nothing else. All that comes from a process is escaped by jinja2, and holds no markup."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from mmstats.errors import ConfigurationError

from . import Frame, Stacks, text

#: Groups whose calls are shown at once; those of the others unfold.
OPEN = 6


def page(stacks: Stacks) -> str:
    """A whole page. Raises `ConfigurationError` without jinja2."""
    style = _resource("style.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    found: str = _environment().get_template("page.html").render(_context(stacks), style=style, style_hash=digest)
    return found


def fragment(stacks: Stacks) -> str:
    """The same without the page around it: one element, styled by rules that apply inside it alone."""
    found: str = _environment().get_template("body.html").render(_context(stacks), style=_resource("style.css"))
    return found


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise ConfigurationError("a page needs jinja2: pip install 'mmstats[html]'") from error
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _visible(value: Any) -> Any:
    """What is about to be escaped and shown, with control characters spelled out."""
    return value if hasattr(value, "__html__") else text.one_line(str(value))


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
