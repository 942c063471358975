"""The sampler: a native thread that looks at the process once a second.

It keeps the runtime stats, writes the heartbeat, and notes which series moved, so that a time of
death can be bracketed and a hang be told from work. It takes no lock that a greenlet may hold, and
imports nothing. Cost: about 0.1 ms a second.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from mmstats.instrument import runtime

from . import native, recorder

#: Seconds between two samples.
INTERVAL = 1.0
#: Series that a sample names as moved; it counts the others.
MOVED = 40

_NOT_ZERO = re.compile(rb"[^\0]+")


class Lag:
    """How long the main thread's event loop or hub takes to come round to a callback."""

    def __init__(self, inherited: Any = None) -> None:
        """`inherited` is a loop of the parent's, which a child that was forked in its midst has in its frames."""
        self._inherited = inherited
        self._asked = 0.0
        self._answered = True
        self.seconds = 0.0
        self._hub: Any = None
        self._loop: Any = None
        self._next_search = 0.0

    def _answer(self) -> None:
        self.seconds = time.monotonic() - self._asked
        self._answered = True

    def ask(self) -> float | None:
        """The lag so far, in seconds; None where there is neither a loop nor a hub."""
        now = time.monotonic()
        if not self._answered and self._turning():
            return now - self._asked
        call = self._caller()
        if call is None:
            return None
        found = self.seconds
        self._asked, self._answered = now, False
        try:
            call(self._answer)
        except Exception:  # the loop was closed, or the hub destroyed, a moment ago
            self._answered = True
            self._hub = self._loop = None
        return found

    def _turning(self) -> bool:
        """Whether the one that was asked could still answer: a loop that was stopped is not late."""
        if self._loop is not None:
            return bool(self._loop.is_running())
        return self._hub is not None and not self._hub.dead

    def _caller(self) -> Callable[[Callable[[], None]], Any] | None:
        if self._loop is not None and self._loop.is_running():
            return self._loop.call_soon_threadsafe  # type: ignore[no-any-return]
        self._loop = running_loop()
        if self._loop is self._inherited:
            self._loop = None
        if self._loop is not None:
            return self._loop.call_soon_threadsafe  # type: ignore[no-any-return]
        began = time.monotonic()
        if (self._hub is None or self._hub.dead) and began >= self._next_search:
            self._hub = _hub()
            self._next_search = time.monotonic() + (time.monotonic() - began) / runtime.SHARE
        loop = getattr(self._hub, "loop", None)
        return getattr(loop, "run_callback_threadsafe", None)


def running_loop() -> Any:
    """The asyncio loop that the main thread runs, found in its frames."""
    if "asyncio" not in sys.modules:
        return None
    frame = sys._current_frames().get(native.main_ident())
    for _ in range(200):
        if frame is None:
            return None
        if frame.f_code.co_name == "run_forever" and "asyncio" in frame.f_code.co_filename:
            return frame.f_locals.get("self")
        frame = frame.f_back
    return None


def _hub() -> Any:
    """gevent's hub of the main thread, if there is one already."""
    module = sys.modules.get("gevent.hub")
    hub_type = getattr(module, "Hub", None)
    if hub_type is None:
        return None
    for found in gc.get_referrers(hub_type):
        # By its real type: to ask for __class__ calls the program's code.
        if issubclass(type(found), hub_type) and found.thread_ident == native.main_ident() and not found.dead:
            return found
    return None


class Sampler:
    """The thread and what it looks at.

    refresh: called at each sample
    measure_lag: whether to ask the main thread's loop or hub how late it is; False where it stands still by design
    """

    def __init__(
        self,
        registry: Any,
        instrument: runtime.Runtime,
        refresh: Callable[[], None],
        interval: float = INTERVAL,
        measure_lag: bool = True,
    ) -> None:
        self.measure_lag = measure_lag
        self._registry = registry
        self._refresh = refresh
        self.interval = interval
        self._runtime = instrument
        self._lag = Lag()
        self._wake: Any = None
        self._ended: Any = None
        self._start = 0
        self._values = b""

    def start(self, delay: float = 0.0) -> None:
        """Begin to sample, `delay` seconds from now."""
        if self._wake is not None:
            return
        wake, ended = native.allocate_lock(), native.allocate_lock()
        wake.acquire()
        ended.acquire()
        try:
            native.start_thread(self._run, wake, ended, delay)
        except RuntimeError:  # no more threads, or the interpreter is at its end: then nothing is sampled
            return
        self._wake, self._ended = wake, ended

    def stop(self, wait: float = 0.5) -> None:
        """End the thread, and wait until it has gone."""
        wake, ended = self._wake, self._ended
        if wake is None:
            return
        self._wake = self._ended = None
        wake.release()
        if native.get_ident() != self._ident and ended.acquire(timeout=wait):
            _wait_for_end(self._native_id)

    def forked(self) -> None:
        """In a forked child: the thread is the parent's."""
        self._wake = self._ended = None
        self._values = b""
        self._lag = Lag(running_loop())

    _ident = 0
    _native_id = 0

    def _run(self, wake: Any, ended: Any, delay: float) -> None:
        self._ident = native.get_ident()
        self._native_id = native.original("_thread", "get_native_id")()
        pause = delay
        try:
            while not wake.acquire(timeout=pause):
                if sys.is_finalizing():
                    return
                began = time.monotonic()
                try:
                    self.sample()
                except Exception as error:  # a sample that fails is one sample less
                    self._failed(error)
                pause = max(self.interval - (time.monotonic() - began), 0.05)
        finally:
            ended.release()

    _told = False

    def _failed(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            # Never raises, as all verbs of the recorder.
            recorder.note("mmdebug.sampler", "warning", problem=f"{type(error).__name__}: {error}")

    def sample(self) -> None:
        """Look at the process once."""
        try:
            self._refresh()
        except Exception as error:  # the heartbeat is worth more
            self._failed(error)
        now = time.time_ns()
        try:
            values: dict[str, Any] = dict(self._runtime.look(self._lag.ask() if self.measure_lag else None))
            moved = self._moved()
            values["moved"] = " ".join([_base36(offset) for offset in moved[:MOVED]])
            if len(moved) > MOVED:
                values["more"] = len(moved) - MOVED
            recorder.recorder.sample(values)
        finally:
            self._registry.beat(now)

    def _moved(self) -> list[int]:
        """Where in the stat file values have changed since the last sample: offsets of runs of bytes."""
        before, (start, values) = self._values, self._registry.values()
        self._values = values
        if not before or before == values or start != self._start:
            self._start = start
            return []
        size = len(before)
        change = int.from_bytes(before, "little") ^ int.from_bytes(values[:size], "little")
        runs = [match.start() for match in _NOT_ZERO.finditer(change.to_bytes(size, "little"))]
        words = dict.fromkeys([start + (run & ~7) for run in runs])
        return list(words)


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return text or "0"


def _wait_for_end(thread: int, seconds: float = 0.05) -> None:
    """Wait until the system has let a thread go: Python 3.12 warns of a fork while there are several."""
    deadline = time.monotonic() + seconds
    sleep = native.original("time", "sleep")  # gevent's would run other greenlets in the midst of a fork
    while os.path.exists(f"/proc/self/task/{thread}") and time.monotonic() < deadline:
        sleep(0.0001)
