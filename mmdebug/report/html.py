"""A post-mortem as HTML: a page, or a part of one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mmstats.commands import text
from mmstats.commands.show import rows_of

from ..compare import standouts
from ..ending import end_of
from ..pages import Pages
from . import content
from .text import bracket_of, notes, sample_value, series_row
from .timeline import timeline

if TYPE_CHECKING:
    from ..manifest import Manifest
    from ..postmortem import PostMortem

_pages = Pages(__package__, text.printable)


def render_html(found: PostMortem, *, bundle: Manifest | None = None, now: int | None = None) -> str:
    """The page. Raises `ConfigurationError` without jinja2."""
    return _pages.page(_context(found, bundle, now))


def fragment(found: PostMortem, *, bundle: Manifest | None = None, now: int | None = None) -> str:
    """The same without the page around it. Raises as `render_html` does."""
    return _pages.fragment(_context(found, bundle, now))


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
    }
