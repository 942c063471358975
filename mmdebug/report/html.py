"""A post-mortem as one page that needs nothing else: no script, no other file, nothing from the network.

All that comes from files goes through jinja2's escaping, and what would not be printed is spelled
out, so that no text can write markup, reorder a line or hide.
"""

from __future__ import annotations

import base64
import hashlib
import time
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mmstats.commands import text
from mmstats.commands.show import rows_of
from mmstats.errors import MmStatsError

from ..compare import standouts
from ..ending import end_of
from . import content
from .text import bracket_of, notes, sample_value, series_row
from .timeline import timeline

if TYPE_CHECKING:
    from ..manifest import Manifest
    from ..postmortem import PostMortem


def render_html(found: PostMortem, *, bundle: Manifest | None = None, now: int | None = None) -> str:
    """The page. Needs jinja2: raises `MmStatsError` that says how to install it."""
    style = _resource("style.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = _environment().get_template("page.html")
    rendered: str = template.render(_context(found, bundle, now), style=style, style_hash=digest)
    return rendered


def fragment(found: PostMortem, *, bundle: Manifest | None = None, now: int | None = None) -> str:
    """The same without the page around it: one element, styled by rules that apply inside it alone."""
    template = _environment().get_template("body.html")
    rendered: str = template.render(_context(found, bundle, now), style=_resource("style.css"), inline=True)
    return rendered


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise MmStatsError("a page needs jinja2: pip install 'mmstats[html]'") from error
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
    return value if hasattr(value, "__html__") else text.printable(str(value))


def _context(found: PostMortem, bundle: Manifest | None, now: int | None) -> dict[str, Any]:
    now = now or (bundle.saved if bundle is not None else time.time_ns())
    end = end_of(found, now)
    thread, inside = content.faulting(found)
    return {
        "found": found,
        "who": found.process,
        "verdict": found.verdict,
        "state": found.verdict.state if found.verdict.state in ("alive", "closed", "died") else "unknown",
        "end": end,
        "bracket": bracket_of(found, end),
        "groups": content.by_owner(found.activities),
        "events": content.chosen_events(found.events, 1 << 30, 0),
        "exceptions": [(record, content.chain(record.error)) for record in content.by_weight(found.exceptions)],
        "fault_thread": thread,
        "fault_activities": inside,
        "standouts": [series_row(item) for item in standouts(found, now)] if found.siblings else [],
        "moved": content.moved(found),
        # Escaped already: what is printable once is so twice.
        "stats": rows_of(found.stats, False, everything=True),
        "timeline": timeline(found.events, found.samples, end),
        "notes": list(notes(found, bundle)),
        "commands": content.commands(found, bundled=bundle is not None),
        "moment": content.moment,
        "relative": lambda ns: content.relative(ns, end),
        "lasted": lambda ns: content.lasted(ns, end),
        "fields": lambda item: content.fields(item.fields.items()),
        "owner": lambda item: content.owner(found, item.thread, item.context),
        "sample_value": sample_value,
        "number": text.number,
        "severity": lambda item: item.severity if item.severity in ("error", "warning", "info") else "debug",
        "inline": False,
    }
