"""What a client is told when it gets in, and the names that its code finds."""

from __future__ import annotations

import builtins
import os
import sys
from typing import Any

import mmstats

from .. import protocol, recorder
from . import files
from .places import Places
from .settings import Settings

#: Names of a namespace that are told at the start.
NAMES = 500
#: Packages whose versions are told if they are loaded.
PACKAGES = ("gevent", "greenlet", "uvloop")


class _Builtins(dict[str, Any]):
    """The builtins, and behind them the names of the program's own `__main__`, as they are at each look."""

    def __missing__(self, name: str) -> Any:
        return vars(sys.modules["__main__"])[name]


def namespace(settings: Settings) -> dict[str, Any]:
    """A session's own globals.

    What the program's `__main__` has is found without being copied, so it is never out of date; to
    change it takes ``__main__.name = ...``.
    """
    return {
        "__name__": "__mmdebug__",
        "__doc__": None,
        "__builtins__": _Builtins(vars(builtins)),
        "__main__": sys.modules["__main__"],
        **settings.namespace,
    }


def names(settings: Settings) -> list[str]:
    """What a session finds beside the builtins."""
    main = [name for name in list(vars(sys.modules["__main__"])) if type(name) is str and not name.startswith("_")]
    return sorted({"__main__", *settings.namespace, *main})[:NAMES]


def welcome(settings: Settings, places: Places) -> protocol.Message:
    """The first message of a session."""
    path = files.stats_path()
    box = recorder.box()
    return {
        "type": "welcome",
        "protocol": protocol.VERSION,
        "pid": os.getpid(),
        "uid": os.geteuid(),
        "service": box.stats.service if box is not None else "",
        "uuid": _uuid(path),
        "host": os.uname().nodename,
        "python": sys.version.split()[0],
        "versions": _versions(),
        "kind": places.kind(),
        "read_only": settings.read_only,
        "stats_file": path or "",
        "limits": {
            "timeout": settings.timeout,
            "idle": settings.idle_timeout,
            "output": settings.max_output,
            "result": settings.max_result,
        },
        "names": [] if settings.read_only else names(settings),
    }


def _uuid(path: str | None) -> str:
    try:
        return files.uuid_of(path) if path is not None else ""
    except (OSError, mmstats.ReadError):
        return ""


def _versions() -> dict[str, str]:
    found = {"mmstats": mmstats.__version__}
    for package in PACKAGES:
        version = getattr(sys.modules.get(package), "__version__", None)
        if type(version) is str:
            found[package] = version
    return found


def banner(settings: Settings, places: Places) -> str:
    """What a person on a plain connection sees first."""
    told = welcome(settings, places)
    runs = {"gevent": "in the hub", "asyncio": "in the event loop", "threads": "in a native thread"}[told["kind"]]
    what = "read-only: questions, and no code" if settings.read_only else f"code runs {runs}"
    return (
        f"mmdebug {mmstats.__version__}: {told['service']}, pid {told['pid']}, Python {told['python']}; {what}\n"
        "%help lists what there is beside Python; exit() closes this connection, and nothing else\n"
    )
