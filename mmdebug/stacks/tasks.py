"""Find asyncio's tasks of all loops, and see what each awaits. No code of the program runs."""

from __future__ import annotations

import gc
import os
import sys
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..capture.safetypes import type_name
from .greenlets import instance_value
from .walking import Alike, Place, Scan, kinds_of

#: Coroutines of one task that are looked at.
MAX_DEPTH = 2000

#: By the `id`s of types: to ask a type itself for its hash calls code of its metaclass.
_ATTRIBUTES: dict[int, Callable[[Any], Any]] = {
    id(types.CoroutineType): attrgetter("cr_frame.f_code", "cr_frame.f_lasti", "cr_running", "cr_await"),
    id(types.GeneratorType): attrgetter("gi_frame.f_code", "gi_frame.f_lasti", "gi_running", "gi_yieldfrom"),
    id(types.AsyncGeneratorType): attrgetter("ag_frame.f_code", "ag_frame.f_lasti", "ag_running", "ag_await"),
}
#: What stands between an ``await`` and the coroutine or generator that it waits for.
_BETWEEN = frozenset(("async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable"))
#: How to get what a generator drives by hand, by the `id` of its code: it is seen through, and has no place itself.
BEHIND: dict[int, Callable[[Any], Any]] = {}

#: The directory of asyncio, and its modules whose objects are waited for.
_HOME = os.path.join(os.path.dirname(os.__file__), "asyncio") + os.sep
_OF_THINGS = ("asyncio.locks.", "asyncio.queues.")


@dataclass(frozen=True, slots=True)
class Seen:
    """A task as it was at one moment.

    places: its coroutines, the innermost first
    waits_for: the `id` of the task that it waits for, if it is one; 0 otherwise
    things: types and `id`s of asyncio's own objects that the innermost coroutine, one of asyncio's, works with
    due: whether it waits for nothing but its turn
    """

    ident: int
    name: str
    places: tuple[Place, ...]
    running: bool = False
    waits_for: int = 0
    things: tuple[tuple[str, int], ...] = ()
    due: bool = False


class Looker:
    """What is known of the kinds of tasks: asyncio's own in C and in Python, and what inherits from them."""

    def __init__(self, alike: Alike) -> None:
        self._alike = alike
        module = sys.modules.get("asyncio.tasks")
        self._module = module
        self._c: Any = getattr(sys.modules.get("_asyncio"), "Task", None)
        python = getattr(module, "_PyTask", None)
        self.kinds = kinds_of(self._c, python) if module is not None else frozenset()
        self._c_kinds = kinds_of(self._c)
        self._waits: Any = None if self._c is None else self._c.__dict__["_fut_waiter"].__get__

    @property
    def needs_scan(self) -> bool:
        """Whether the tasks stand in no set, as since Python 3.14, so that all objects must be looked through."""
        return sys.version_info >= (3, 14) and bool(self.kinds)

    def references(self) -> list[Any]:
        """Weak references to all tasks, by whichever way there is."""
        if not self.needs_scan:
            return self.known()
        scan = Scan()
        found = scan.references(self.kinds)
        scan.run()
        return found

    def known(self) -> list[Any]:
        """Weak references to the tasks that stand in asyncio's own sets."""
        found: list[Any] = []
        for name in ("_scheduled_tasks", "_all_tasks"):
            references = instance_value(getattr(self._module, name, None), "data")
            if type(references) is set:
                found = list(references)
                break
        eager = getattr(self._module, "_eager_tasks", None)
        if type(eager) is set:
            found += map(weakref.ref, set.copy(eager))
        return found

    def look(self, task: Any) -> Seen | None:
        """What a task does; None if it is done."""
        if id(type(task)) not in self.kinds:
            return None
        if self._c is not None and id(type(task)) in self._c_kinds:
            if self._c.done(task):
                return None
            name, outer, waiter = self._c.get_name(task), self._c.get_coro(task), self._waits(task)
        else:
            if instance_value(task, "_state") not in (None, "PENDING"):
                return None
            name, outer = instance_value(task, "_name"), instance_value(task, "_coro")
            waiter = instance_value(task, "_fut_waiter")
        places, running, innermost = _chain(outer)
        return Seen(
            id(task),
            name if type(name) is str else "",
            self._alike.one(places),
            running,
            id(waiter) if id(type(waiter)) in self.kinds else 0,
            _things(innermost),
            waiter is None and not running,
        )


def _chain(outer: Any) -> tuple[list[Place], bool, Any]:
    """The calls from a task's coroutine inwards, the innermost first; whether it runs; and the innermost one."""
    for _ in range(3):
        first = _links(outer)
        if [link[1:] for link in first] == [link[1:] for link in _links(outer)]:
            break  # it has not been resumed while we looked
    places = [link[0] for link in reversed(first)]
    return places, True in [link[1] for link in first], first[-1][3] if first else None


def _links(awaited: Any) -> list[tuple[Place, bool, int, Any]]:
    found: list[tuple[Place, bool, int, Any]] = []
    for _ in range(MAX_DEPTH):
        look = _ATTRIBUTES.get(id(type(awaited)))
        if look is None:
            if type_name(type(awaited)) not in _BETWEEN:
                break
            # Of these only the collector can tell what they are for.
            behind = [item for item in gc.get_referents(awaited) if id(type(item)) in _ATTRIBUTES]
            if not behind:
                break
            awaited = behind[0]
            continue
        behind_it = BEHIND.get(id(awaited.gi_code)) if BEHIND and type(awaited) is types.GeneratorType else None
        if behind_it is not None:
            try:
                awaited = behind_it(awaited)
            except Exception:  # it has ended, or goes on just now
                break
            continue
        try:
            code, offset, running, following = look(awaited)
        except AttributeError:  # it has ended: it has no frame any more
            break
        found.append(((code, offset), running, offset, awaited))
        awaited = following
    return found


def _things(coroutine: Any) -> tuple[tuple[str, int], ...]:
    """Locks, queues and the like that a coroutine of asyncio's own works with."""
    code = getattr(coroutine, "cr_code", None) if type(coroutine) is types.CoroutineType else None
    if code is None or not code.co_filename.startswith(_HOME):
        return ()
    names = [(type_name(type(item)), id(item)) for item in gc.get_referents(coroutine)]
    return tuple([(name, number) for name, number in names if name.startswith(_OF_THINGS)])
