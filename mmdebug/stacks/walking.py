"""Look at what other threads and greenlets have, from any thread, without being interrupted by them.

The interpreter hands its lock on between two steps of Python code, never within a call that is C all through. So
whatever must be looked at as a whole is put together of iterators written in C, and then drained by one call.
This matters twice. A greenlet's frames may be walked only as long as it is suspended: once it has been
resumed, they point into memory that is used for something else. And who keeps an object of the program a moment
too long becomes the one who runs its destructor, in a thread that it was not made for: so none of the frames that
are walked, and of all that the collector knows only weak references, ever leave the call.

There is one exception: audit hooks of the program that are written in Python are called in between, since to list
frames or objects and to ask a frame for its code are audited. While they run, other threads may.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from importlib import import_module
from itertools import accumulate, chain, compress, islice, repeat, takewhile, tee
from operator import attrgetter, call, is_not, methodcaller
from types import CodeType
from typing import Any

#: Where a call is: its code, and the offset of the instruction that it is at.
Place = tuple[CodeType, int]

#: Frames of one stack that are walked.
MAX_DEPTH = 2000

_CODE: Callable[[Any], CodeType] = attrgetter("f_code")
_PLACE: Callable[[Any], Place] = attrgetter("f_code", "f_lasti")
_SOURCE: Callable[[Any], tuple[CodeType, int]] = attrgetter("f_code", "f_lineno")
_SELF: Callable[[Any], Any] = methodcaller("get", "self")
_LOCALS: Callable[[Any], Any] = attrgetter("f_locals")
#: Whether something is not None.
THERE = partial(is_not, None)

NO_LOCK = "stacks can't be taken safely in a Python that runs without the global lock"
SEVERAL = "stacks of threads can't be taken safely while there are sub-interpreters"


def _lister() -> Callable[[], list[Any]] | None:
    """What lists all interpreters; None where they share one lock, as before Python 3.12, or there is only one."""
    if sys.version_info >= (3, 12):
        for name in ("_interpreters", "_xxsubinterpreters"):
            try:
                found: Callable[[], list[Any]] = import_module(name).list_all
            except (ImportError, AttributeError):
                continue
            return found
    return None


_list_all = _lister()


def has_lock() -> bool:
    """Whether this Python has its global lock, without which nothing can be looked at from outside its thread."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def is_alone() -> bool:
    """Whether there is no other interpreter: its threads run whoever holds our lock, and are listed with ours."""
    return _list_all is None or len(_list_all()) == 1


def _frames_now() -> Iterator[dict[int, Any]]:
    """The innermost frames of all threads by their numbers, once it is drained; none where that is not safe."""
    if not has_lock():
        return iter(({},))
    if _list_all is None:
        return map(call, (sys._current_frames,))
    alone = map((1).__eq__, map(len, map(call, (_list_all,))))
    return chain(map(call, compress((sys._current_frames,), alone)), ({},))


def _innermost(ident: int) -> Iterator[Any]:
    """A thread's innermost frame, or None, once it is drained."""
    return map(dict.get, _frames_now(), (ident,))


def at_once(*steps: Callable[[], object]) -> None:
    """Call each of `steps`, which are C and call nothing else, without any other thread's getting a turn."""
    if sys.version_info >= (3, 12):
        deque(map(call, steps), maxlen=0)
        return
    # There a collection may begin wherever an object is made, and it calls code of the program.
    before, after = tee(map(call, (gc.isenabled,)))
    paused = chain(compress((gc.disable,), before), steps, compress((gc.enable,), after))
    try:
        deque(map(call, paused), maxlen=0)
    finally:
        if any(after):  # not drained: a step has failed
            gc.enable()


def _chain(first: Iterator[Any]) -> Iterator[Any]:
    """The frame in `first`, the ones outwards from it; none is taken before the iterator is drained."""
    frames = accumulate(chain(first, repeat("f_back")), getattr)
    return takewhile(THERE, islice(frames, MAX_DEPTH))


def _drained(items: Iterator[Any]) -> list[Any]:
    found: list[Any] = []
    at_once(partial(found.extend, items))
    return found


def of_greenlet(greenlet: Any, frame: Callable[[Any], Any]) -> list[Place]:
    """A suspended greenlet's calls, the innermost first; none if it runs, has not begun or has ended.

    frame: how to get its frame, without asking a class of the program
    """
    return _drained(map(_PLACE, _chain(map(frame, (greenlet,)))))


def of_thread(ident: int) -> list[Place]:
    """A thread's calls, the innermost first; none if it has ended."""
    return _drained(map(_PLACE, _chain(_innermost(ident))))


def selves(ident: int, codes: Set[int], *then: Callable[[Any], Any]) -> list[Any]:
    """Weak references to the ``self`` of a thread's calls of code of these `id`s, the innermost first.

    codes: of functions that are known, since to have a frame's locals changes what its function sees of them
    then: what makes something else of each ``self``, in C; None is left out
    """
    if not codes:
        return []
    look = Look()
    frames = look.lend(_chain(_innermost(ident)))
    found: Iterator[Any] = compress(frames, map(codes.__contains__, map(id, map(_CODE, frames))))
    for step in (_LOCALS, _SELF, *then):
        found = map(step, found)
    references = look.fill(map(weakref.ref, filter(THERE, found)))
    try:
        look.run()
    except TypeError:  # somebody has called it with another kind of self
        return []
    return references


def threads() -> list[int]:
    """The numbers of all threads that run Python."""
    return _drained(chain.from_iterable(_frames_now()))


def of_running(greenlet: Any, ancestors: Sequence[Any], frame: Callable[[Any], Any], ident: int) -> list[Place]:
    """The calls of a greenlet without a frame, if it is the one that thread `ident` runs; none otherwise.

    A greenlet has no frame if it runs, and also if it waits in C without ever having called Python. If one of
    its ancestors, the hub among them, has none, it is that one which runs.
    """
    others: list[bool] = []
    found: list[Place] = []
    with_frames = map(is_not, map(frame, (greenlet, *ancestors)), repeat(None))
    at_once(partial(others.extend, with_frames), partial(found.extend, map(_PLACE, _chain(_innermost(ident)))))
    return found if not others[0] and all(others[1:]) else []


def of_records(innermost: Any) -> list[tuple[CodeType, int]]:
    """Code and line of recorded frames that only look like ones, such as gevent's of where it spawned."""
    return list(map(_SOURCE, _chain(iter((innermost,)))))


class Alike:
    """Keeps one of several equal stacks, so that thousands of greenlets make no thousands of lists."""

    def __init__(self) -> None:
        self._known: dict[tuple[int | None, ...], tuple[Any, ...]] = {}

    def one(self, places: list[Any]) -> tuple[Any, ...]:
        """`places` as a tuple, the same one for equal ones: code and a number in each."""
        key = tuple([part for code, number in places for part in (id(code), number)])
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = tuple(places)
        return found


class Look:
    """Several lists that are filled all at once. First say what is wanted, then `run`."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []
        self._lent: list[list[Any]] = []

    def fill(self, items: Iterable[Any]) -> list[Any]:
        """A list that will hold `items`."""
        found: list[Any] = []
        self._steps.append(partial(found.extend, items))
        return found

    def lend(self, items: Iterable[Any]) -> list[Any]:
        """A list that later steps may use, and that is empty again at the end."""
        found = self.fill(items)
        self._lent.append(found)
        return found

    def run(self) -> None:
        """Fill the lists."""
        empty = [found.clear for found in reversed(self._lent)]
        try:
            at_once(*self._steps, *empty)
        finally:
            deque(map(call, empty), maxlen=0)


class Scan(Look):
    """One look at all objects that the collector knows."""

    def __init__(self) -> None:
        super().__init__()
        every = self.lend(chain.from_iterable(map(call, (gc.get_objects,))))
        self._kinds: set[int] = set()
        #: Those of any type that is wanted: to sort these takes little.
        self._wanted = self.lend(compress(every, of_kinds(every, self._kinds)))
        self._steps.append(every.clear)

    def of(self, kinds: frozenset[int]) -> list[Any]:
        """All objects whose types have these `id`s; lent. A type itself is not asked: it may be the program's."""
        self._kinds |= kinds
        return self.lend(compress(self._wanted, of_kinds(self._wanted, kinds)))

    def references(self, kinds: frozenset[int]) -> list[Any]:
        """Weak references to all objects of these types."""
        return self.fill(map(weakref.ref, self.of(kinds)))


def of_kinds(objects: list[Any], kinds: Set[int]) -> Iterator[bool]:
    """For each of `objects` whether its type's `id` is one of `kinds`; read when it is drained."""
    return map(kinds.__contains__, map(id, map(type, objects)))


def each(function: Callable[[Any], Any], lists: Iterable[Iterable[Any]]) -> Iterator[Iterator[Any]]:
    """`function`, which is C, of each item of each list; read when both are drained."""
    return map(partial(map, function), lists)


def of_kinds_each(lists: list[list[Any]], kinds: Set[int]) -> Iterator[Iterator[Any]]:
    """Of each list the items whose types' `id`s are among these."""
    return map(compress, lists, each(kinds.__contains__, each(id, each(type, lists))))


def kinds_of(*bases: type | None) -> frozenset[int]:
    """The `id`s of these types and of all that inherit from them."""
    found: set[int] = set()
    waiting = [base for base in bases if base is not None]
    while waiting:
        kind = waiting.pop()
        if id(kind) not in found:
            found.add(id(kind))
            waiting += type.__subclasses__(kind)
    return frozenset(found)


def line_of(code: CodeType, offset: int) -> int | None:
    """The line of the instruction at `offset`; None if it has none."""
    if offset < 0:
        return code.co_firstlineno
    for start, end, line in code.co_lines():
        if start <= offset < end:
            return line
    return None
