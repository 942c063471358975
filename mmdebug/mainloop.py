"""The main thread's event loop or hub, as seen from a native thread: find it, call something in it, time it."""

from __future__ import annotations

import gc
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from types import CodeType
from typing import Any

from mmstats.instrument.runtime import MAX_BLOCKS, SHARE

from . import native
from .stacks import walking

#: Tasks that are looked at.
_TASKS = 20


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
        self._proven: Any = None
        self._elsewhere: weakref.WeakSet[Any] = weakref.WeakSet()
        self._next_search = 0.0

    def kind(self) -> str:
        """``asyncio``, ``gevent``, or ``threads`` if there is neither loop nor hub now."""
        if self._caller() is None:
            return "threads"
        return "gevent" if self._loop is None else "asyncio"

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
        loop = self._loop
        try:
            call(function if loop is None or loop is self._proven else lambda: self._prove(loop, function))
        except Exception:  # the loop was closed, or the hub destroyed, a moment ago
            self._hub = self._loop = None
            return False
        return True

    def _prove(self, loop: Any, function: Callable[[], None]) -> None:
        """In a loop's thread: it is the main one's loop, or it is not asked again."""
        if native.get_ident() == native.main_ident():
            self._proven = loop
            function()
            return
        self._elsewhere.add(loop)
        if self._loop is loop:
            self._loop, self._answered = None, True

    def _find_loop(self) -> Any:
        found = running_loop()
        if found is not None:
            self._proven = found
        else:
            found = next((loop for loop in _candidates() if loop not in self._elsewhere), None)
        return None if found is self._inherited else found

    def _caller(self) -> Callable[[Callable[[], None]], Any] | None:
        if self._loop is None or not self._loop.is_running():
            self._loop = self._find_loop()
        if self._loop is not None:
            return self._loop.call_soon_threadsafe  # type: ignore[no-any-return]
        if self._hub is None or self._hub.dead:
            self._hub = _remembered() or hub_in_frames(native.main_ident())
            began = time.monotonic()
            if self._hub is None and began >= self._next_search:
                self._hub = _hub_in_memory()
                now = time.monotonic()
                self._next_search = now + (now - began) / SHARE
        return None if self._hub is None else _calls_of(self._hub).call


class _HubCalls:
    """Has functions called in a hub by other threads.

    gevent's `run_callback_threadsafe` counts up what the loop counts in its own thread without Python's lock. When
    one count gets lost the loop may think that nothing is left to wait for, and `LoopExit` ends the program. So it is
    used once at most; after that an async watcher is, which is made to be sent to from elsewhere.
    """

    def __init__(self, hub: Any) -> None:
        self.hub = weakref.ref(hub)
        self.waiting: deque[Callable[[], None]] = deque()
        self._watcher: Any = None
        self._asked = False

    def call(self, function: Callable[[], None]) -> None:
        """Raises what gevent does if the hub has been destroyed."""
        self.waiting.append(function)
        if self._watcher is not None:
            self._watcher.send()
        elif not self._asked:
            self._asked = True
            self.hub().loop.run_callback_threadsafe(self.begin)  # type: ignore[union-attr]

    def begin(self) -> None:
        """In the hub's thread, in whichever greenlet."""
        hub = self.hub()
        if self._watcher is None and hub is not None:
            watcher = hub.loop.async_(ref=False)
            watcher.start(self._run)
            self._watcher = watcher
            if self.waiting:
                watcher.send()

    def _run(self) -> None:
        """In the hub."""
        try:
            while self.waiting:
                self.waiting.popleft()()
        finally:
            if self.waiting and self._watcher is not None:  # one has failed, which is no other's affair
                self._watcher.send()


_calls: _HubCalls | None = None


def _calls_of(hub: Any) -> _HubCalls:
    global _calls
    found = _calls
    if found is None or found.hub() is not hub:
        found = _calls = _HubCalls(hub)
    return found


def _remembered() -> Any:
    """The main thread's hub as anybody here has found it before."""
    hub = _calls.hub() if _calls is not None else None
    return None if hub is None or hub.dead or hub.thread_ident != native.main_ident() else hub


def note_hub() -> None:
    """In the main thread: remember its hub, which can't be seen from elsewhere while a greenlet runs or blocks it."""
    if_exists = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    if if_exists is not None and native.get_ident() == native.main_ident():
        hub = if_exists()
        if hub is not None and hub.loop is not None:
            _calls_of(hub).begin()


def _forked() -> None:
    """In a child: what waits was asked for by the parent's threads."""
    if _calls is not None:
        _calls.waiting.clear()


os.register_at_fork(after_in_child=_forked)


def running_loop() -> Any:
    """The asyncio loop that the main thread runs, found in its frames; None if there is none to be seen.

    The frames of uvloop's loops are not Python's: it takes ``asyncio.run`` to see these.
    """
    forever = _code_of("asyncio.base_events", "BaseEventLoop", "run_forever")
    run = _code_of("asyncio.runners", "Runner", "run")
    for frame in walking.frames_of(native.main_ident(), {id(forever), id(run)} - {id(None)}):
        found = frame.f_locals.get("self")
        if frame.f_code is run:
            found = getattr(found, "_loop", None)
        if found is not None and found.is_running():
            return found
    return None


def _code_of(module: str, kind: str, function: str) -> CodeType | None:
    """The code of a method, if its module was imported."""
    found = getattr(getattr(sys.modules.get(module), kind, None), function, None)
    return getattr(found, "__code__", None)


def _candidates() -> Iterator[Any]:
    """Loops that run without a frame of Python: some thread's, maybe the main one's."""
    events, tasks = sys.modules.get("asyncio.events"), sys.modules.get("asyncio.tasks")
    general = getattr(events, "AbstractEventLoop", None)
    if general is None:
        return
    usual = getattr(sys.modules.get("asyncio.base_events"), "BaseEventLoop", ())

    def unseen(found: Any) -> bool:
        kind = type(found)
        return issubclass(kind, general) and not issubclass(kind, usual) and bool(found.is_running())

    frame = sys._current_frames().get(native.main_ident())
    if frame is not None:
        yield from filter(unseen, list(frame.f_locals.values()))
    for name in ("_all_tasks", "_scheduled_tasks"):
        try:
            several = list(islice(getattr(tasks, name, ()), _TASKS))
        except RuntimeError:  # a task was made meanwhile; the next search will see it
            continue
        yield from filter(unseen, [task.get_loop() for task in several])


def hub_in_frames(ident: int) -> Any:
    """gevent's hub of a thread, if that is in it: while it waits, or runs a callback."""
    hub_type = getattr(sys.modules.get("gevent.hub"), "Hub", None)
    if hub_type is None:
        return None
    run = _code_of("gevent.hub", "Hub", "run")
    for frame in walking.frames_of(ident, {id(run)}):
        found = frame.f_locals.get("self")
        if issubclass(type(found), hub_type):
            return found
    return None


def _hub_in_memory() -> Any:
    """gevent's hub of the main thread, if there is one already; to look for it takes a while."""
    hub_type = getattr(sys.modules.get("gevent.hub"), "Hub", None)
    if hub_type is None or sys.getallocatedblocks() > MAX_BLOCKS:
        return None  # it will be found when it waits
    for found in gc.get_referrers(hub_type):
        # By its real type: to ask for __class__ calls the program's code.
        if issubclass(type(found), hub_type) and found.thread_ident == native.main_ident() and not found.dead:
            return found
    return None
