"""State of Python processes in memory-mapped files: one writer, many readers, alive or dead."""

from __future__ import annotations

import os as _os

__version__ = "2.0.0.dev0"

if _os.environ.get("MMSTATS_PURE_PYTHON", "") not in ("", "0"):
    # The interpreter prefers a compiled module to its source: load the source by hand.
    import importlib.util as _util
    import sys as _sys

    _spec = _util.spec_from_file_location(
        "mmstats.cells", _os.path.join(_os.path.dirname(_os.path.abspath(__file__)), "cells.py")
    )
    assert _spec is not None and _spec.loader is not None
    _sys.modules["mmstats.cells"] = cells = _util.module_from_spec(_spec)
    _spec.loader.exec_module(cells)

from .fields import *
from .model import BaseMmStats, MmStats
