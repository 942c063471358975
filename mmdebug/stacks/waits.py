"""What stacks wait for, where that can be told: which lock, queue, event, socket, greenlet or task.

gevent's own code leaves no frames, so what a greenlet waits for is found the other way round: locks, queues,
events and watchers know whom they will wake. Of threads and tasks, the innermost call tells.
"""

from __future__ import annotations

import gc
import os
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress, repeat
from operator import attrgetter, call
from typing import Any

from ..capture.safetypes import type_name
from . import Wait, tasks
from .greenlets import Looker
from .sockets import name_of
from .walking import THERE, Look, Place, Scan, each, kinds_of, of_kinds, of_kinds_each

#: Locks, events and queues that are asked whom they hold up.
MAX_ASKED = 100_000

_READ, _WRITE = 1, 2

_BOUND = frozenset((id(types.MethodType), id(types.BuiltinMethodType)))
_DEQUE, _LIST = frozenset((id(deque),)), frozenset((id(list),))
_SIZED = frozenset(map(id, (list, tuple, set, frozenset)))


@dataclass(frozen=True, slots=True)
class Hint:
    """What one stack waits for, before it is put in words.

    socket: the descriptor to read from or write to, and which of these; None if it is none
    holder: the `id` of the greenlet that has it; 0 if not known
    more: how many other things it waits for as well
    """

    what: str
    detail: str = ""
    socket: tuple[int, int] | None = None
    holder: int = 0
    more: int = 0

    def said(self, label: Callable[[int], str]) -> Wait:
        """As a `Wait`; `label` names a greenlet by its `id`."""
        detail = self.detail
        if self.socket is not None:
            number, events = self.socket
            way = {_READ: "to read", _WRITE: "to write"}.get(events & 3, "to read or write")
            detail = f"{name_of(number)}, {way}"
        if self.more:
            detail += f", and {self.more} more"
        return Wait(self.what, detail, label(self.holder) if self.holder else "")


TURN = Hint("other", "its turn")


class Waits:
    """What gevent's greenlets wait for. Say `prepare` before the scan is run, and `find` after it."""

    def __init__(self, looker: Looker) -> None:
        self._looker = looker
        self._semaphores = kinds_of(_of("gevent._semaphore", "Semaphore"))
        self._queues = kinds_of(_of("gevent.queue", "SimpleQueue"), _of("gevent.queue", "Channel"))
        self._recursive = kinds_of(_of("gevent.lock", "RLock"), _of("threading", "_RLock"))
        self._links: list[Any] = []
        self._queued: list[Any] = []
        self._owned: list[Any] = []
        self._iterators = kinds_of(_of("gevent._hub_primitives", "_WaitIterator"))
        #: Of each call of `gevent.joinall` and the like, how many things it waits for, and the `id`s of who waits.
        self._several: list[list[int]] = []
        self._severals: list[list[int]] = []
        self._events = kinds_of(_of("gevent.event", "Event"))
        self._putters = kinds_of(_of("gevent.queue", "ItemWaiter"))
        #: Of each watcher that wakes a greenlet: that one's `id`, the watcher's type, descriptor and events.
        self._woken: list[list[tuple[int, type, Any, Any]]] = []
        #: The events that a queue's `join` waits for.
        self._joined: dict[int, str] = {}
        self._found: dict[int, Hint] = {}

    def prepare(self, scan: Scan) -> None:
        """Have all that knows whom it wakes looked for."""
        linkable = _of("gevent._abstract_linkable", "AbstractLinkable")
        if linkable is None:
            return
        links = scan.of(kinds_of(linkable))
        count = linkable.__dict__.get("linkcount")
        if isinstance(count, types.FunctionType) or count is None:
            self._links = scan.fill(map(weakref.ref, links))  # gevent without its parts in C
        else:
            self._links = scan.fill(map(weakref.ref, compress(links, map(count, links))))
        self._queued = scan.references(self._queues)
        self._owned = scan.references(self._recursive)
        if self._looker.waiting is not None:
            parts = scan.lend(map(gc.get_referents, scan.of(self._iterators)))
            self._several = scan.fill(map(list, each(len, of_kinds_each(parts, _SIZED))))
            waiting = each(self._looker.waiting, of_kinds_each(parts, self._looker.waiters))
            self._severals = scan.fill(map(list, each(id, waiting)))
        self._prepare_watchers(scan)

    def _prepare_watchers(self, scan: Scan) -> None:
        """Watchers belong to a loop that is no other thread's to touch: of them only numbers leave the scan."""
        core = sys.modules.get("gevent.libev.corecext")
        names = ("io", "timer", "child", "async_", "signal", "stat", "idle", "callback")
        kinds = frozenset([id(kind) for kind in [getattr(core, name, None) for name in names] if kind is not None])
        if not kinds:
            return
        found = scan.of(kinds)
        called = scan.lend(map(getattr, found, repeat("callback"), repeat(None)))
        found = scan.lend(compress(found, of_kinds(called, _BOUND)))
        called = scan.lend(compress(called, of_kinds(called, _BOUND)))
        whose = scan.lend(map(attrgetter("__self__"), called))
        for kinds, greenlet in ((self._looker.waiters, attrgetter("greenlet")), (self._looker.kinds, None)):
            watchers = scan.lend(compress(found, of_kinds(whose, kinds)))
            owners = scan.lend(compress(whose, of_kinds(whose, kinds)))
            numbers = map(id, owners if greenlet is None else map(greenlet, owners))
            attributes = [map(getattr, watchers, repeat(name), repeat(None)) for name in ("fd", "events")]
            self._woken.append(scan.fill(zip(numbers, map(type, watchers), *attributes, strict=True)))

    def find(self) -> dict[int, Hint]:
        """What each greenlet waits for, by its `id`. To be called soon after the scan."""
        owners = self._owners() if self._links else {}
        for reference in self._queued[:MAX_ASKED]:
            self._look_at_queue(reference)
        for reference in self._links[:MAX_ASKED]:
            self._look_at_link(reference, owners)
        for sizes, waiting in zip(self._several, self._severals, strict=True):
            if max(sizes, default=0):
                hint = Hint("greenlet", f"{max(sizes)} greenlets or events")
                self._found.update(dict.fromkeys(waiting, hint))
        for several in self._woken:
            for greenlet, kind, number, events in several:
                self._add(greenlet, _watched(kind, number, events))
        return self._found

    def _add(self, greenlet: int, hint: Hint) -> None:
        before = self._found.get(greenlet)
        if before is None or before is TURN:
            self._found[greenlet] = hint
        elif hint is not TURN:
            self._found[greenlet] = replace(before, more=before.more + 1)

    def _owners(self) -> dict[int, int]:
        """Which greenlet has the lock that a recursive lock is made of, both by `id`."""
        found = {}
        for reference in self._owned:
            lock = reference()
            block, owner = [_slot(lock, name) for name in ("_block", "_owner")]
            if block is not None and owner is not None:
                # `threading` notes the number that gevent has `get_ident` return: a greenlet's `id`.
                found[id(block)] = owner if type(owner) is int else id(owner)
        return found

    def _look_at_queue(self, reference: Any) -> None:
        if self._looker.waiting is None:
            return
        # What is in the queue is the program's, and so are those who wait: nothing but numbers is kept.
        look = Look()
        queue = look.lend(filter(THERE, map(call, (reference,))))
        known = look.fill(zip(map(type, queue), map(id, queue), strict=True))
        parts = look.lend(chain.from_iterable(map(gc.get_referents, queue)))
        events = look.fill(map(id, compress(parts, of_kinds(parts, self._events))))
        several = look.lend(map(list, compress(parts, of_kinds(parts, _DEQUE))))
        waiters = look.lend(map(list, of_kinds_each(several, self._putters | self._looker.waiters)))
        kinds = look.fill(map(list, each(id, each(type, waiters))))
        numbers = look.fill(map(list, each(id, each(self._looker.waiting, waiters))))
        look.run()
        if not known:
            return
        at = _at(*known[0])
        for event in events:
            self._joined[event] = f"{at}, until all is done"
        for those, waiting in zip(kinds, numbers, strict=True):
            full = not self._putters.isdisjoint(those)
            hint = Hint("queue", f"{at}, {'full' if full else 'empty'}, {len(waiting)} wait for it")
            for greenlet in waiting:
                self._add(greenlet, hint)

    def _look_at_link(self, reference: Any, owners: dict[int, int]) -> None:
        look = Look()
        link = look.lend(filter(THERE, map(call, (reference,))))
        known = look.fill(zip(map(type, link), map(id, link), strict=True))
        parts = look.lend(chain.from_iterable(map(gc.get_referents, link)))
        links = look.lend(chain.from_iterable(compress(parts, of_kinds(parts, _LIST))))
        called = look.lend(compress(links, of_kinds(links, _BOUND)))
        whose = look.lend(map(attrgetter("__self__"), called))
        greenlets = look.fill(map(id, compress(whose, of_kinds(whose, self._looker.kinds))))
        waiters = look.lend(compress(whose, of_kinds(whose, self._looker.waiters)))
        if self._looker.waiting is not None:
            greenlets = look.fill(chain(greenlets, map(id, map(self._looker.waiting, waiters))))
        look.run()
        if not known:
            return
        kind, number = known[0]
        if number in self._joined:
            hint = Hint("queue", self._joined[number])
        else:
            what = "lock" if id(kind) in self._semaphores else "event"
            detail = f"{_at(kind, number)}, {len(greenlets)} wait for it"
            hint = Hint(what, detail, holder=owners.get(number, 0))
        for greenlet in greenlets:
            self._add(greenlet, hint)


def _of(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


#: gevent's parts in C by the modules that people import.
_MODULES = {
    "gevent._gevent_c_semaphore": "gevent.lock",
    "gevent._gevent_cevent": "gevent.event",
    "gevent._gevent_cqueue": "gevent.queue",
}


def _at(kind: type, number: int) -> str:
    module, _, name = type_name(kind).rpartition(".")
    return f"{_MODULES.get(module, module)}.{name} at {number:#x}"


def _slot(found: Any, name: str) -> Any:
    """An attribute of one of the two recursive locks, whose classes keep it in a slot or in a dictionary."""
    try:
        return object.__getattribute__(found, name)
    except AttributeError:
        return None


_BY_WATCHER = {
    "timer": Hint("sleep"),
    "child": Hint("process"),
    "async_": Hint("thread", "another thread"),
    "signal": Hint("other", "a signal"),
    "callback": TURN,
}


def _watched(kind: type, number: Any, events: Any) -> Hint:
    name = kind.__name__  # one of gevent's own
    if name == "io" and type(number) is int:
        return Hint("socket", socket=(number, events if type(events) is int else 0))
    return _BY_WATCHER.get(name, Hint("other", f"a watcher of gevent, {name}"))


# Threads and tasks.

#: By a module of the standard library and its function: what a thread waits for whose innermost call is that.
_BY_CALL = {
    "threading.py": {
        "wait": Wait("event", "threading"),
        "wait_for": Wait("event", "threading"),
        "acquire": Wait("lock", "threading"),
        "__enter__": Wait("lock", "threading"),
        "join": Wait("thread", "the end of another thread"),
        "_wait_for_tstate_lock": Wait("thread", "the end of another thread"),
        "_shutdown": Wait("thread", "the end of all other threads"),
    },
    "queue.py": {"get": Wait("queue", "queue, empty"), "put": Wait("queue", "queue, full")},
    "selectors.py": {"select": Wait("socket", "any of those that it was given")},
    "socket.py": {
        "accept": Wait("socket", "a connection"),
        "readinto": Wait("socket", "to read"),
        "create_connection": Wait("socket", "to connect"),
        "getaddrinfo": Wait("socket", "the name of a host"),
    },
    "ssl.py": {
        name: Wait("socket", "to read or write") for name in ("read", "write", "recv", "recv_into", "do_handshake")
    },
    "subprocess.py": {
        name: Wait("process", "the end of a process") for name in ("_try_wait", "_wait", "wait", "communicate")
    },
    "_base.py": {"result": Wait("event", "concurrent.futures")},
    "thread.py": {"_worker": Wait("queue", "concurrent.futures, nothing to do")},
}
_IN_ASYNCIO = {
    "tasks.py": {"sleep": Hint("sleep")},
    "locks.py": {"acquire": Hint("lock"), "wait": Hint("event")},
    "queues.py": {"get": Hint("queue", "empty"), "put": Hint("queue", "full"), "join": Hint("queue", "not done")},
    "streams.py": {"_wait_for_data": Hint("socket", "to read"), "drain": Hint("socket", "to write")},
    "base_subprocess.py": {"_wait": Hint("process")},
}
_STANDARD = os.path.dirname(os.__file__) + os.sep
_ASYNCIO = os.path.join(_STANDARD, "asyncio") + os.sep
#: Calls from the innermost one outwards that are looked at.
_NEAR = 6
LOOP = Wait("other", "events, in its loop")
HUB = Wait("other", "events, in its hub")


def of_thread(places: Sequence[Place]) -> Wait | None:
    """What a thread waits for, unless it runs, as far as its innermost calls tell: those of the standard library."""
    if places and os.path.basename(places[0][0].co_filename) == "hub.py" and places[0][0].co_qualname == "Hub.run":
        return HUB
    known = None
    for code, _ in places[:_NEAR]:
        if not code.co_filename.startswith(_STANDARD) or "site-packages" in code.co_filename:
            break
        if known is not None and code.co_filename.startswith(_ASYNCIO):
            return LOOP
        # The outer one says more: a queue is made of conditions, and these of locks.
        known = _BY_CALL.get(os.path.basename(code.co_filename), {}).get(code.co_name, known)
    return known


def of_task(seen: tasks.Seen, label: Callable[[int], str]) -> Wait | None:
    """What a task waits for."""
    if seen.running:
        return None
    if seen.due:
        return Wait("other", "its turn")
    code = seen.places[0][0] if seen.places else None
    things = ", ".join([f"{name} at {number:#x}" for name, number in seen.things])
    if code is not None and code.co_filename.startswith(_ASYNCIO):
        hint = _IN_ASYNCIO.get(os.path.basename(code.co_filename), {}).get(code.co_name)
        if hint is None and code.co_name.startswith("sock_"):
            hint = Hint("socket", code.co_name.removeprefix("sock_").replace("_", " "))
        if hint is not None:
            what = "lock" if things.startswith("asyncio.locks.Semaphore") else hint.what
            return Wait(what, ", ".join([part for part in (things, hint.detail) if part]))
    if seen.waits_for:
        return Wait("task", label(seen.waits_for))
    return Wait("other", "a future")
