"""How Sphinx builds these pages: `sphinx-build -W --keep-going -b html docs docs/_build/html`."""

from __future__ import annotations

import re
from pathlib import Path

project = "mmstats"
copyright = "the mmstats authors"
source = (Path(__file__).resolve().parent.parent / "mmstats" / "__init__.py").read_text(encoding="utf-8")
release = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)[0]
version = release
del source

extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"mmstats {release}"
