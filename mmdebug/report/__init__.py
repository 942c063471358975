"""A post-mortem as people read it: `text` on one screen, `html` as a page."""

from __future__ import annotations

from .text import print_report

__all__ = ["print_report"]
