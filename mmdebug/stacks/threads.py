"""The threads of this process: their names, where they are, and whether they run. No code of the program runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from operator import call
from typing import Any

from .. import native
from . import walking

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = os.path.dirname(os.__file__) + os.sep


@dataclass(frozen=True, slots=True)
class Known:
    """What `threading` knows of a thread: under gevent, also of greenlets that stand for threads."""

    name: str
    native: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A thread as it was at one moment.

    places: its calls, the innermost first
    ours: whether it is one of mmdebug's own, and runs nothing of the program
    """

    ident: int
    name: str
    places: Sequence[walking.Place]
    running: bool
    ours: bool


def known(most: int | None = None) -> dict[int, Known]:
    """Names of threads, and of greenlets that `threading` takes for threads, by their numbers; `most` of them."""
    module = sys.modules.get("threading")
    active, kind = getattr(module, "_active", None), getattr(module, "Thread", None)
    if type(active) is not dict or kind is None:
        return {}
    look = walking.Look()
    getters: list[Any] = [active.keys, active.values]
    keys, objects = [islice(chain.from_iterable(map(call, (get,))), most) for get in getters]
    idents = look.fill(keys)
    # gevent puts a class there that inherits it.
    own = next(base.__dict__["__dict__"] for base in kind.__mro__ if "__dict__" in base.__dict__)
    namespaces = look.lend(map(own.__get__, objects))
    names, numbers = [look.fill(map(dict.get, namespaces, repeat(name))) for name in ("_name", "_native_id")]
    look.run()
    return {
        ident: Known(name if type(name) is str else "", number if type(number) is int else 0)
        for ident, name, number in zip(idents, names, numbers, strict=True)
        if type(ident) is int
    }


def look(names: Mapping[int, Known]) -> Iterator[Seen]:
    """All threads but the one that looks, the main thread first."""
    main, own = native.main_ident(), _get_ident()
    idents = walking.threads()
    for ident in sorted(idents, key=lambda ident: ident != main):
        found = names.get(ident, Known("", 0))
        running = _runs(os.getpid() if ident == main else found.native)
        places = walking.of_thread(ident)
        if not places:
            continue
        ours = ident == own or (ident != main and _is_ours(places))
        name = "MainThread" if ident == main else found.name or _guessed(places)
        yield Seen(ident, name, places, running, ours)


def _runs(number: int) -> bool:
    """Whether a thread has, or is about to get, a CPU; of one that is not known False."""
    if not number:
        return False
    try:
        descriptor = os.open(f"/proc/self/task/{number}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.read(descriptor, 512)  # meanwhile whoever wants to run Python can
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return content.rpartition(b")")[2].lstrip()[:1] == b"R"


def _is_ours(places: Sequence[walking.Place]) -> bool:
    found = False
    for code, _ in places:
        file = code.co_filename
        if file.startswith(_OURS) or os.path.basename(file) == "manhole.py":
            found = True
        elif not file.startswith(_STANDARD) or "site-packages" in file:
            return False
    return found


def _guessed(places: Sequence[walking.Place]) -> str:
    """A name for a thread that `threading` does not know, by its outermost calls."""
    file = places[-1][0].co_filename
    if file.startswith(_OURS):
        second = places[-2][0].co_filename if len(places) > 1 else ""  # the outermost one may only start threads
        file = second if second.startswith(_OURS) else file
        return f"mmdebug {os.path.basename(file).removesuffix('.py')}"
    if os.path.basename(os.path.dirname(file)) == "gevent":
        return f"gevent {os.path.basename(file).removesuffix('.py')}"
    return ""


_get_ident = native.get_ident


def prepare() -> None:
    """Find what gevent's patch has replaced, where imports are safe."""
    global _get_ident
    _get_ident = native.original("_thread", "get_ident")
    native.note_main()
