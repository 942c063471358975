"""Find the greenlets of all threads, and see where each is and where it was spawned. No code of the program runs."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import Any

from ..capture.safetypes import type_name
from .walking import Alike, Place, kinds_of, of_greenlet, of_records, of_running

#: Objects of this many blocks of memory take about 50 ms to look through, and everything else is held up by it.
MAX_BLOCKS = 1_600_000

TOO_LARGE = (
    "greenlets were not looked for: to look through the objects of a process as large as this one"
    " would hold it up for more than 50 ms; --all does it all the same"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A greenlet as it was at one moment.

    places: its calls, the innermost first; none if it has not begun
    spawned: where it was started, the innermost call first, as code and line
    begins: what it will run, of one that has not begun
    """

    ident: int
    name: str
    places: tuple[Place, ...]
    spawned: tuple[tuple[CodeType, int], ...] = ()
    running: bool = False
    main: bool = False
    begins: CodeType | None = None
    begun: bool = True


def _descriptor(kind: Any, name: str) -> Callable[[Any], Any] | None:
    """How an attribute is got by the very type that defines it; no subclass can put its own code there."""
    found = None if kind is None else _NAMESPACE(kind).get(name)
    return None if found is None else found.__get__


class Looker:
    """What is known of the kinds of greenlets, from the packages that the program has imported by now."""

    def __init__(self, alike: Alike) -> None:
        self._alike = alike
        base = getattr(sys.modules.get("greenlet"), "greenlet", None)
        gevent = getattr(sys.modules.get("gevent.greenlet"), "Greenlet", None)
        waiter = getattr(sys.modules.get("gevent._waiter"), "Waiter", None)
        self.kinds = kinds_of(base)
        self.gevent = kinds_of(gevent)
        self.hubs = kinds_of(getattr(sys.modules.get("gevent.hub"), "Hub", None))
        self.waiters = kinds_of(waiter)
        self._base = base
        self._frame = _descriptor(base, "gr_frame")
        self._parent = _descriptor(base, "parent")
        self._dead = _descriptor(base, "dead")
        self._gevent_dead = _descriptor(gevent, "dead")
        self._stack = _descriptor(gevent, "spawning_stack")
        self._dictionary = _descriptor(base, "__dict__")
        self.waiting = _descriptor(waiter, "greenlet")
        self._type_names: dict[int, str] = {}
        #: The thread of each hub, and that of each thread's first greenlet, by `id`.
        self.threads: dict[int, int] = {}

    def note_hub(self, hub: Any) -> None:
        """Remember whose thread a hub is in."""
        if hub is None:
            return
        found = instance_value(hub, "thread_ident")
        if type(found) is int and self._parent is not None:
            self.threads[id(hub)] = found
            parent = self._parent(hub)
            if parent is not None:
                self.threads[id(parent)] = found

    def look(self, greenlet: Any) -> Seen | None:
        """What a greenlet does; None for a hub, and for one that has ended, is gone or is a thread's own stack."""
        kind = id(type(greenlet))
        if greenlet is None or self._base is None or self._frame is None or self._parent is None or kind in self.hubs:
            return None
        known = kind in self.gevent
        begun = self._base.__bool__(greenlet)
        places = of_greenlet(greenlet, self._frame)
        parent = self._parent(greenlet)
        running = False
        if not places:
            if (self._gevent_dead if known and self._gevent_dead else self._dead)(greenlet):  # type: ignore[misc]
                return None
            if begun:
                ancestors = self._ancestors(parent)
                thread = next((self.threads[id(one)] for one in ancestors if id(one) in self.threads), None)
                if thread is None:
                    return None
                places = of_running(greenlet, ancestors, self._frame, thread)
                running = bool(places) and (not known or self._fits(greenlet, places[-1][0]))
                if not running:
                    places = of_greenlet(greenlet, self._frame)  # none, if it waits in C
        name = self._named(greenlet) if known else ""
        return Seen(
            id(greenlet),
            name or f"{self._type_names.get(kind) or self._type_name(type(greenlet))} at {id(greenlet):#x}",
            self._alike.one(places),
            self._alike.one(of_records(self._stack(greenlet))) if known and self._stack else (),
            running,
            parent is None,
            self._to_run(greenlet) if known and not begun else None,
            begun,
        )

    def _type_name(self, kind: type) -> str:
        name = self._type_names[id(kind)] = type_name(kind).rpartition(".")[2]
        return name

    def _ancestors(self, parent: Any) -> list[Any]:
        found: list[Any] = []
        while parent is not None and self._parent is not None and len(found) < 20:
            found.append(parent)
            parent = self._parent(parent)
        return found

    def _fits(self, greenlet: Any, outermost: CodeType) -> bool:
        """Whether calls that begin with this code can be those of a greenlet of gevent's.

        What is of C, such as a lock's `acquire`, waits without a frame and is taken for one that waits.
        """
        run = dict.get(self._dictionary(greenlet), "_run") if self._dictionary is not None else None
        if run is None:
            run = of_class(type(greenlet), "_run")
        for _ in range(10):
            if type(run) is partial:
                run = run.func
            elif type(run) is types.MethodType:
                run = run.__func__
        if type(run) is not types.FunctionType:
            run = of_class(type(run), "__call__")
        return type(run) is types.FunctionType and run.__code__ is outermost

    def _named(self, greenlet: Any) -> str:
        """A name that somebody gave it; gevent's own are made by asking for them, so that is not done."""
        given = dict.get(self._dictionary(greenlet), "name") if self._dictionary is not None else None
        return given if type(given) is str else ""

    def _to_run(self, greenlet: Any) -> CodeType | None:
        """The code of what `gevent.spawn` was given."""
        function = dict.get(self._dictionary(greenlet), "_run") if self._dictionary is not None else None
        if type(function) is types.MethodType:
            function = function.__func__
        return function.__code__ if type(function) is types.FunctionType else None


_NAMESPACE = type.__dict__["__dict__"].__get__
_MRO = type.__dict__["__mro__"].__get__
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)


def of_class(kind: type, name: str) -> Any:
    """What a class or one that it inherits from has under a name, without asking it; None if nothing."""
    return next((_NAMESPACE(one)[name] for one in _MRO(kind) if name in _NAMESPACE(one)), None)


def instance_value(found: Any, name: str) -> Any:
    """What an object of Python has in its ``__dict__`` under a name; None if nothing."""
    for one in _MRO(type(found)):
        descriptor = _NAMESPACE(one).get("__dict__")
        if type(descriptor) in _DESCRIPTORS:  # and no property of the program's
            own = descriptor.__get__(found)
            return dict.get(own, name) if issubclass(type(own), dict) else None
    return None
