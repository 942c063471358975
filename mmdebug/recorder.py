"""The verbs that programs use: `event`, `activity`, `capture_exception`.

They do nothing until `start`, which ``mmdebug.install()`` calls, so that libraries can use them freely.
"""

from __future__ import annotations

import _thread
import mmap
import time
from collections.abc import Callable
from typing import Any

from mmstats import registry

from . import rings
from .sanitize import Sanitizer

_sanitizer = Sanitizer()

#: The process' recorder. Its methods are the hot paths.
recorder = rings.Recorder(_sanitizer)
event = recorder.event
activity = recorder.activity

_box: Any = None
_lock = _thread.RLock()


def start(
    stats: registry.Registry,
    facts: Callable[[], dict[str, str]],
    on_open: Callable[[str], None] | None = None,
    on_rename: Callable[[str], None] | None = None,
) -> None:
    """Make the box and switch the recorder on. Of further calls the first one with an `on_open` takes the box over.

    stats: the registry of the stat file that the box lies beside
    facts: what to write about the process' surroundings, asked for each file that is made
    on_open: called with the stat file's path for the box that is there and each one that is made, in forked
        children too
    on_rename: called with the stat file's path when that gets another name
    """
    global _box
    from .box import Box

    with _lock:
        if _box is None:
            _box = Box(stats, facts)
            _box.on_open, _box.on_rename = on_open, on_rename
            registry.adopt("box", _box)
            recorder.switch_on(_box.rings, _box.samples, _box.slots)
            _box.open()
            return
        _box.open()
        if on_open is not None and _box.on_open is None:
            _box.hand_over(facts, on_open, on_rename)


def box() -> Any:
    """The process' box; None before `start`."""
    return _box


def sanitizer() -> Sanitizer:
    """What makes texts and fields fit to be written."""
    return _sanitizer


def stop() -> None:
    """Switch the recorder off; what was recorded stays."""
    recorder.switch_off()


def note(name: str, severity: str = "info", /, **fields: Any) -> None:
    """An event of the recorder's own."""
    recorder.note(name, severity, fields)


def capture_exception(error: BaseException | None = None) -> None:
    """Record an exception, by default the one that is being handled: traceback, locals, causes. Never raises."""
    if error is None:
        import sys

        error = sys.exc_info()[1]
    if error is not None:
        record(error, "captured", False)


def record(error: BaseException, how: str, fatal: bool) -> None:
    """Record an exception: where it surfaced, and whether it ends the process. Never raises."""
    if not recorder.on:
        return
    try:
        if isinstance(error, MemoryError):
            _let_go()
        try:
            _record(error, how, fatal)
        except MemoryError:
            _let_go()
            _record(error, how, fatal)
    except Exception:  # whatever it is: to record an error must not become one
        note("mmdebug.not_recorded", "error", how=how)


#: Address space that is set aside, and never touched, for recording that there is no more.
RESERVE = 2 << 20
_reserve: mmap.mmap | None = None


def hold_reserve() -> None:
    """Set aside what it takes to record a `MemoryError`, if that is not so already."""
    global _reserve
    if _reserve is None:
        try:
            _reserve = mmap.mmap(-1, RESERVE)
        except (OSError, ValueError):
            pass  # there is none to be had now


def _let_go() -> None:
    global _reserve
    held, _reserve = _reserve, None
    if held is not None:
        held.close()


#: Seconds within which an error of the same type, place and way is only counted: a traceback takes its time.
PAUSE = 1.0
#: How many errors that is remembered of.
REMEMBERED = 256
_captured: dict[tuple[str, str, str], float] = {}


def _record(error: BaseException, how: str, fatal: bool) -> None:
    from .box import ERROR_BYTES, FATAL_BYTES
    from .capture import exceptions as capture

    place = capture.place_of(error)
    key = (capture.type_name(type(error)), place, how)
    values: dict[str, Any] = {"thread": rings.here()[0], "context": rings.here()[1]}
    if not fatal and time.monotonic() < _captured.get(key, 0.0):
        with _lock:
            cell = _box.exceptions.labels(*key)
            cell.set(count=cell.get()["count"] + 1, last=time.time_ns(), **values)
        return
    captured = capture.capture(error)
    values["error"] = capture.encode(captured, FATAL_BYTES if fatal else ERROR_BYTES).decode()
    if len(_captured) >= REMEMBERED:
        _captured.clear()
    _captured[key] = time.monotonic() + PAUSE
    with _lock:
        values["last"] = now = time.time_ns()
        if fatal:
            _box.fatal.set(count=1, first=now, how=how, place=place, **values)
        else:
            cell = _box.exceptions.labels(*key)
            before = cell.get()
            cell.set(count=before["count"] + 1, first=before["first"] or now, **values)
    note("exception", "error", type=captured.type, message=captured.message, place=place, how=how)
