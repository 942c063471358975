"""See what a Python process was doing when it died, what killed it, and what a live one is doing.

A program opts in by `install()`, or is run by ``mmdebug run``. `load`, `deaths` and `process` read
what was left; ``mmdebug postmortem`` prints it. `connect` asks a live process that has a manhole:
see `mmdebug.manhole`. Importing this module starts nothing; what reads
comes with its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

import mmstats as _mmstats

_mmstats.load_either(__name__, "rings")

from .recorder import activity, capture_exception, event

if _TYPE_CHECKING:
    from .diagnosis import Cause, Verdict
    from .installation import install
    from .postmortem import PostMortem, deaths, load
    from .processes import Process, connect, process

#: Names that are imported when they are first asked for, and the modules that they come from.
_LAZY = {
    "Cause": "diagnosis",
    "PostMortem": "postmortem",
    "Process": "processes",
    "Verdict": "diagnosis",
    "connect": "processes",
    "deaths": "postmortem",
    "install": "installation",
    "load": "postmortem",
    "process": "processes",
}

__all__ = [
    "Cause",
    "PostMortem",
    "Process",
    "Verdict",
    "activity",
    "capture_exception",
    "connect",
    "deaths",
    "event",
    "install",
    "load",
    "process",
]


def __getattr__(name: str) -> _Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: _Any) -> None:
    """``%load_ext mmdebug``"""
    from .notebook import load

    load(shell)


def unload_ipython_extension(shell: _Any) -> None:
    """``%unload_ext mmdebug``"""
    from .notebook import unload

    unload(shell)
