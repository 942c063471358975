"""The main thread's event loop or hub, as seen from a native thread: find it, call something in it, time it."""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from itertools import compress, islice
from operator import call, methodcaller
from types import CodeType
from typing import Any

from mmstats.instrument.runtime import MAX_BLOCKS, SHARE

from . import native
from .stacks import tasks, walking

#: Tasks that are looked at.
_TASKS = 20


def _nothing() -> Any:
    """In the place of a weak reference: to nothing."""
    return None


class MainLoop:
    """asyncio's loop or gevent's hub of the main thread, whichever there is."""

    # Who keeps a loop or a hub becomes the one who frees it, in the wrong thread: here are weak references only. They
    # are read once for each call, since what was found in a loop's own thread comes in between.

    def __init__(self) -> None:
        self._asked = 0.0
        self._answered = True
        self._seconds = 0.0
        self._hub: Callable[[], Any] = _nothing
        self._loop: Callable[[], Any] = _nothing
        self._proven: Callable[[], Any] = _nothing
        self._elsewhere: list[Callable[[], Any]] = []
        self._next_search = 0.0

    def kind(self) -> str:
        """``asyncio``, ``gevent``, or ``threads`` if there is neither loop nor hub now."""
        loop, hub = self._find()
        return "asyncio" if loop is not None else "gevent" if hub is not None else "threads"

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
        loop, hub = self._loop(), self._hub()
        if loop is not None:
            return bool(loop.is_running())
        return hub is not None and not hub.dead

    def call(self, function: Callable[[], None]) -> bool:
        """Have `function` called there soon; False where there is neither."""
        loop, hub = self._find()
        try:
            if loop is not None and loop is self._proven():
                loop.call_soon_threadsafe(function)
            elif loop is not None:
                loop.call_soon_threadsafe(self._prove, weakref.ref(loop), function)
            elif hub is not None:
                _calls_of(hub).call(function)
        except Exception:  # the loop was closed, or the hub destroyed, a moment ago
            self._hub = self._loop = _nothing
            return False
        return loop is not None or hub is not None

    def _prove(self, loop: Callable[[], Any], function: Callable[[], None]) -> None:
        """In a loop's thread: it is the main one's loop, or it is not asked again."""
        if native.get_ident() == native.main_ident():
            self._proven = loop
            function()
            return
        self._elsewhere.append(loop)
        if self._loop() is loop():
            self._loop, self._answered = _nothing, True

    def _find(self) -> tuple[Any, Any]:
        """The loop and None, or None and the hub, or twice None."""
        loop = self._loop()
        if loop is not None and loop.is_running():
            return loop, None
        loop = self._accepted([running_loop()])
        if loop is not None:
            self._proven = weakref.ref(loop)
        else:
            loop = self._accepted(_loops_of_tasks())
        hub = self._hub()
        if loop is None and (hub is None or hub.dead):
            hub = _remembered() or hub_in_frames(native.main_ident())
            if hub is None:
                loop, hub = self._search()
        self._loop = _nothing if loop is None else weakref.ref(loop)
        if loop is not None:
            return loop, None
        self._hub = _nothing if hub is None else weakref.ref(hub)
        return None, hub

    def _accepted(self, references: list[Callable[[], Any]]) -> Any:
        """The first of these loops that runs and may be the main thread's."""
        self._elsewhere = [known for known in self._elsewhere if known() is not None]
        for reference in references:
            loop = reference()
            others = (*self._elsewhere, *_inherited)
            if loop is not None and loop.is_running() and not any(other() is loop for other in others):
                return loop
        return None

    def _search(self) -> tuple[Any, Any]:
        """A loop without frames of Python, and the main thread's hub, in all objects: that takes a while."""
        began = time.monotonic()
        loops = _frameless_kinds()
        hubs = walking.kinds_of(getattr(sys.modules.get("gevent.hub"), "Hub", None))
        if not (loops or hubs) or began < self._next_search or sys.getallocatedblocks() > MAX_BLOCKS:
            return None, None  # the hub will be found when it waits
        scan = walking.Scan()
        found_loops, found_hubs = scan.references(loops), scan.references(hubs)
        scan.run()
        now = time.monotonic()
        self._next_search = now + (now - began) / SHARE
        several = [hub for reference in found_hubs if (hub := reference()) is not None]
        mine = [hub for hub in several if hub.thread_ident == native.main_ident() and not hub.dead]
        return self._accepted(found_loops), mine[0] if mine else None


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


def knows_hub() -> bool:
    """Whether `note_hub` has nothing to do."""
    return _remembered() is not None


def note_hub() -> None:
    """In the main thread: remember its hub, which can't be seen from elsewhere while a greenlet runs or blocks it."""
    if_exists = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    if if_exists is not None and native.get_ident() == native.main_ident():
        hub = if_exists()
        if hub is not None and hub.loop is not None:
            _calls_of(hub).begin()


#: Loops that ran around a fork: they are the parent's, and what they are woken by is shared with it.
_inherited: list[Callable[[], Any]] = []
_around: Callable[[], Any] = _nothing


def _forking() -> None:
    """Before a fork, in the thread that forks: note the loop that it runs."""
    global _around
    running: Any = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", _nothing)()
    try:
        _around = _nothing if running is None else weakref.ref(running)
    except TypeError:  # no loop that we would ask
        _around = _nothing


def _forked() -> None:
    """In a child: what waits was asked for by the parent's threads."""
    if _calls is not None:
        _calls.waiting.clear()
    if _around() is not None:
        _inherited.append(_around)


os.register_at_fork(before=_forking, after_in_child=_forked)


def running_loop() -> Callable[[], Any]:
    """A weak reference to the asyncio loop that the main thread runs, found in its frames; to nothing if there is none.

    The frames of uvloop's loops are not Python's: it takes ``asyncio.run`` to see these.
    """
    main = native.main_ident()
    forever = _code_of("asyncio.base_events", "BaseEventLoop", "run_forever")
    run = _code_of("asyncio.runners", "Runner", "run")
    found = walking.selves(main, {id(forever)}) if forever is not None else []
    if not found and run is not None:
        runner: Any = sys.modules["asyncio.runners"].__dict__["Runner"]
        found = walking.selves(main, {id(run)}, runner.__dict__["__dict__"].__get__, methodcaller("get", "_loop"))
    return found[0] if found else _nothing


def _code_of(module: str, kind: str, function: str) -> CodeType | None:
    """The code of a method, if its module was imported."""
    found = getattr(getattr(sys.modules.get(module), kind, None), function, None)
    return getattr(found, "__code__", None)


def _frameless_kinds() -> frozenset[int]:
    """The `id`s of types of loops that run without a frame of Python."""
    general = getattr(sys.modules.get("asyncio.events"), "AbstractEventLoop", None)
    usual = getattr(sys.modules.get("asyncio.base_events"), "BaseEventLoop", None)
    return walking.kinds_of(general) - walking.kinds_of(usual) - {id(general)}


def _loops_of_tasks() -> list[Any]:
    """Weak references to such loops that have tasks: some thread's, maybe the main one's."""
    kinds = _frameless_kinds()
    task: Any = getattr(sys.modules.get("_asyncio"), "Task", None)
    if not kinds or task is None:
        return []
    known = tasks.Looker(walking.Alike()).known()
    look = walking.Look()
    those = look.lend(islice(filter(walking.THERE, map(call, known)), _TASKS))
    of_c = walking.of_kinds(those, walking.kinds_of(task))
    loops = look.lend(map(task.get_loop, compress(those, of_c)))
    found = look.fill(map(weakref.ref, compress(loops, walking.of_kinds(loops, kinds))))
    look.run()
    return found


def hub_in_frames(ident: int) -> Any:
    """gevent's hub of a thread, if that is in it: while it waits, or runs a callback."""
    hub_type = getattr(sys.modules.get("gevent.hub"), "Hub", None)
    run = _code_of("gevent.hub", "Hub", "run")
    if hub_type is None or run is None:
        return None
    for reference in walking.selves(ident, {id(run)}):
        found = reference()
        if issubclass(type(found), hub_type):
            return found
    return None
