"""Look at what other threads and greenlets have, from any thread, without being interrupted by them.

The interpreter hands its lock on between two steps of Python code, never within a call that is C all through. So
whatever must be looked at as a whole is put together of iterators written in C, and then drained by one call.
This matters twice. A greenlet's frames may be walked only as long as it is suspended: once it has been
resumed, they point into memory that is used for something else. And who keeps an object of the program a moment
too long becomes the one who runs its destructor, in a thread that it was not made for: so none of the frames that
are walked, and of all that the collector knows only weak references, ever leave the call.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from itertools import accumulate, chain, compress, islice, repeat, takewhile, tee
from operator import attrgetter, call, is_not
from types import CodeType
from typing import Any

#: Where a call is: its code, and the offset of the instruction that it is at.
Place = tuple[CodeType, int]

#: Frames of one stack that are walked.
MAX_DEPTH = 2000

_CODE: Callable[[Any], CodeType] = attrgetter("f_code")
_PLACE: Callable[[Any], Place] = attrgetter("f_code", "f_lasti")
_SOURCE: Callable[[Any], tuple[CodeType, int]] = attrgetter("f_code", "f_lineno")
_THERE = partial(is_not, None)


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
    return takewhile(_THERE, islice(frames, MAX_DEPTH))


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
    frame = map(dict.get, map(call, (sys._current_frames,)), (ident,))
    return _drained(map(_PLACE, _chain(frame)))


def frames_of(ident: int, codes: Set[int]) -> list[Any]:
    """A thread's frames that run code of these `id`s, the innermost first: for such as last, since they are kept."""
    frames, same = tee(_chain(map(dict.get, map(call, (sys._current_frames,)), (ident,))))
    return _drained(compress(frames, map(codes.__contains__, map(id, map(_CODE, same)))))


def threads() -> list[int]:
    """The numbers of all threads that run Python."""
    return _drained(chain.from_iterable(map(call, (sys._current_frames,))))


def of_running(greenlet: Any, ancestors: Sequence[Any], frame: Callable[[Any], Any], ident: int) -> list[Place]:
    """The calls of a greenlet without a frame, if it is the one that thread `ident` runs; none otherwise.

    A greenlet has no frame if it runs, and also if it waits in C without ever having called Python. If one of
    its ancestors, the hub among them, has none, it is that one which runs.
    """
    others: list[bool] = []
    found: list[Place] = []
    current = map(dict.get, map(call, (sys._current_frames,)), (ident,))
    with_frames = map(is_not, map(frame, (greenlet, *ancestors)), repeat(None))
    at_once(partial(others.extend, with_frames), partial(found.extend, map(_PLACE, _chain(current))))
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


class Scan:
    """One look at all objects that the collector knows.

    First say what is wanted, then `run`: the lists are filled all at once.
    """

    def __init__(self) -> None:
        every: list[Any] = []
        #: Those of any type that is wanted: to sort these takes little.
        self._wanted: list[Any] = []
        self._kinds: set[int] = set()
        wanted = compress(every, of_kinds(every, self._kinds))
        self._steps: list[Callable[[], object]] = [
            partial(every.extend, chain.from_iterable(map(call, (gc.get_objects,)))),
            partial(self._wanted.extend, wanted),
            every.clear,
        ]
        self._lent: list[list[Any]] = [self._wanted, every]

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

    def of(self, kinds: frozenset[int]) -> list[Any]:
        """All objects whose types have these `id`s; lent. A type itself is not asked: it may be the program's."""
        self._kinds |= kinds
        return self.lend(compress(self._wanted, of_kinds(self._wanted, kinds)))

    def references(self, kinds: frozenset[int]) -> list[Any]:
        """Weak references to all objects of these types."""
        return self.fill(map(weakref.ref, self.of(kinds)))

    def run(self) -> None:
        """Fill the lists."""
        empty = [found.clear for found in reversed(self._lent)]
        try:
            at_once(*self._steps, *empty)
        finally:
            deque(map(call, empty), maxlen=0)


def of_kinds(objects: list[Any], kinds: Set[int]) -> Iterator[bool]:
    """For each of `objects` whether its type's `id` is one of `kinds`; read when it is drained."""
    return map(kinds.__contains__, map(id, map(type, objects)))


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
