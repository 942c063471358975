"""The sampler: a native thread that looks at the process once a second.

It keeps the runtime stats, writes the heartbeat, and notes which series moved, so that a time of
death can be bracketed and a hang be told from work. It takes no lock that a greenlet may hold, and
imports nothing. Cost: about 0.1 ms a second.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import Any

from mmstats.instrument import runtime

from . import native, recorder
from .mainloop import MainLoop

#: Seconds between two samples.
INTERVAL = 1.0
#: Seconds between two looks at greenlets and tasks, at least.
CLOSELY = 10.0
#: Series that a sample names as moved; it counts the others.
MOVED = 40

_NOT_ZERO = re.compile(rb"[^\0]+")


class Sampler:
    """The thread and what it looks at.

    refresh: called at each sample
    measure_lag: whether to ask the main thread's loop or hub how late it is; False where it stands still by design
    closely: called every `CLOSELY` seconds, or more rarely if it takes long, in the main thread's loop or hub
    """

    def __init__(
        self,
        registry: Any,
        instrument: runtime.Runtime,
        refresh: Callable[[], None],
        interval: float = INTERVAL,
        measure_lag: bool = True,
        closely: Callable[[], None] | None = None,
    ) -> None:
        self.measure_lag = measure_lag
        self._closely = closely
        self._next_close = 0.0
        self._registry = registry
        self._refresh = refresh
        self.interval = interval
        self._runtime = instrument
        self._main = MainLoop()
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
        except RuntimeError as error:  # no more threads, or the interpreter is at its end: then nothing is sampled
            self._failed(error)
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
            native.wait_for_end(self._native_id)

    def forked(self) -> None:
        """In a forked child: the thread is the parent's."""
        self._wake = self._ended = None
        self._values = b""
        self._main = MainLoop()

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
            values: dict[str, Any] = dict(self._runtime.look(self._lag()))
            moved = self._moved()
            values["moved"] = " ".join([_base36(offset) for offset in moved[:MOVED]])
            if len(moved) > MOVED:
                values["more"] = len(moved) - MOVED
            recorder.recorder.sample(values)
        finally:
            self._registry.beat(now)

    def _lag(self) -> float | None:
        """How late the main thread's loop or hub is; when it is time for it, it is asked for a close look, too."""
        if not self.measure_lag:
            return None
        try:
            lag = self._main.lag()
            if lag is not None and time.monotonic() >= self._next_close:
                self._next_close = time.monotonic() + CLOSELY
                self._main.call(self._look_closely)
        except Exception as error:  # such as what an audit hook of the program raises
            self._failed(error)
            return None
        return lag

    def _look_closely(self) -> None:
        """What is only safe in the main thread's loop or hub, and may take some milliseconds there."""
        began = time.monotonic()
        try:
            self._runtime.count()
            if self._closely is not None:
                self._closely()
        except Exception as error:  # the loop must not see it
            self._failed(error)
        took = time.monotonic() - began
        self._next_close = began + max(CLOSELY, took / runtime.SHARE)

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
