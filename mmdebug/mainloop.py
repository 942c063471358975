"""The main thread's event loop or hub, as seen from a native thread: find it, call something in it, time it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from mmstats.instrument.runtime import MAX_BLOCKS, SHARE

from . import native

#: Frames of the main thread that are looked at.
_DEPTH = 200


class MainLoop:
    """asyncio's loop or gevent's hub of the main thread, whichever there is."""

    def __init__(self, inherited: bool = False) -> None:
        """`inherited`: a loop that the frames show now is the parent's, which forked in its midst."""
        self._inherited = running_loop() if inherited else None
        self._asked = 0.0
        self._answered = True
        self._seconds = 0.0
        self._hub: Any = None
        self._loop: Any = None
        self._next_search = 0.0

    def lag(self) -> float | None:
        """How long it takes to come round to a callback, in seconds; None where there is neither loop nor hub."""
        now = time.monotonic()
        if not self._answered and self._turning():
            return now - self._asked
        found = self._seconds
        self._asked, self._answered = now, False
        if self.call(self._answer):
            return found
        self._answered = True
        return None

    def _answer(self) -> None:
        self._seconds = time.monotonic() - self._asked
        self._answered = True

    def _turning(self) -> bool:
        """Whether the one that was asked could still answer: a loop that was stopped is not late."""
        if self._loop is not None:
            return bool(self._loop.is_running())
        return self._hub is not None and not self._hub.dead

    def call(self, function: Callable[[], None]) -> bool:
        """Have `function` called there soon; False where there is neither."""
        call = self._caller()
        if call is None:
            return False
        try:
            call(function)
        except Exception:  # the loop was closed, or the hub destroyed, a moment ago
            self._hub = self._loop = None
            return False
        return True

    def _caller(self) -> Callable[[Callable[[], None]], Any] | None:
        if self._loop is None or not self._loop.is_running():
            found = running_loop()
            self._loop = None if found is self._inherited else found
        if self._loop is not None:
            return self._loop.call_soon_threadsafe  # type: ignore[no-any-return]
        if self._hub is None or self._hub.dead:
            began = time.monotonic()
            if began < self._next_search:
                return None
            self._hub = _hub()
            now = time.monotonic()
            self._next_search = now + (now - began) / SHARE
        loop = getattr(self._hub, "loop", None)
        return getattr(loop, "run_callback_threadsafe", None)


def running_loop() -> Any:
    """The asyncio loop that the main thread runs, found in its frames; None if there is none."""
    if "asyncio" not in sys.modules:
        return None
    for frame in _main_frames():
        if frame.f_code.co_name == "run_forever" and "asyncio" in frame.f_code.co_filename:
            return frame.f_locals.get("self")
    return None


def _main_frames() -> Iterator[Any]:
    frame = sys._current_frames().get(native.main_ident())
    for _ in range(_DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _hub() -> Any:
    """gevent's hub of the main thread, if there is one already."""
    hub_type = getattr(sys.modules.get("gevent.hub"), "Hub", None)
    if hub_type is None:
        return None
    for frame in _main_frames():  # while it waits, or runs a callback
        if frame.f_code.co_name == "run" and "gevent" in frame.f_code.co_filename:
            found = frame.f_locals.get("self")
            if issubclass(type(found), hub_type):
                return found
    if sys.getallocatedblocks() > MAX_BLOCKS:
        return None  # it will be found when it waits
    for found in gc.get_referrers(hub_type):
        # By its real type: to ask for __class__ calls the program's code.
        if issubclass(type(found), hub_type) and found.thread_ident == native.main_ident() and not found.dead:
            return found
    return None
