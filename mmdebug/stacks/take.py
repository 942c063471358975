"""Take the stacks of the process that this runs in, from any thread, also while its hub or loop is blocked.

Nothing here calls code of the program, takes a lock that a greenlet may hold, or imports. Only Python itself may:
its collector may begin in this thread, as in any other, and with it destructors of the program's cycles, and its audit
hooks are the program's. The longest that everything else is held up is one look through all objects, which is left out
where it would take long.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import CodeType
from typing import Any

from ..capture.safetext import plain
from . import Stack, Stacks, Wait, greenlets, sockets, tasks, threads, waits, walking
from .frames import Frames

#: Characters of a name.
MAX_NAME = 200
#: The innermost frames of a stack that are kept, groups, and names and numbers of a group.
MAX_FRAMES = 200
MAX_GROUPS = 2000
MAX_NAMES = 5
#: Members of a group whose waits are put in words, to find what most of them wait for.
MAX_SAID = 40
_MANHOLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "manhole") + os.sep
#: Characters of all groups' frames together, so that their JSON fits into one message.
MAX_TEXT = 8 << 20


def prepare() -> None:
    """Load all that `take` may need; to be called once, where imports are safe."""
    import_module(".text", __package__)  # what shows stacks in this process imports nothing more, either
    sockets.prepare()
    threads.prepare()


def take(everything: bool = False) -> Stacks:
    """All stacks of this process, alike ones in groups.

    everything: also our own threads and gevent's hubs, and greenlets at any price
    """
    return _Taking(everything).stacks()


@dataclass(slots=True)
class _One:
    """One stack before alike ones are put together."""

    kind: str
    ident: int
    name: str
    places: Sequence[walking.Place]
    spawned: Sequence[tuple[CodeType, int]] = ()
    wait: Wait | None = None
    hint: waits.Hint | None = None
    running: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """What alike ones have in common; equal places are the same object."""
        wait = self.hint or self.wait
        what = "" if wait is None else (wait.what, wait.detail) if wait.what == "other" else wait.what
        number = self.ident if self.kind == "thread" else 0
        return (self.kind, id(self.places), id(self.spawned), what, self.running, number)


@dataclass(slots=True)
class _Group:
    first: _One
    count: int = 0
    names: list[str] = field(default_factory=list)
    idents: list[int] = field(default_factory=list)
    several: list[_One] = field(default_factory=list)

    def add(self, one: _One) -> None:
        self.count += 1
        if len(self.several) < MAX_SAID:
            self.several.append(one)
        if len(self.idents) < MAX_NAMES:
            self.idents.append(one.ident)
            if one.name:
                self.names.append(one.name)


class _Taking:
    """One taking of stacks."""

    def __init__(self, everything: bool) -> None:
        self._everything = everything
        self._problems: list[str] = []
        self._frames = Frames()
        self._alike = walking.Alike()
        self._seen: dict[int, greenlets.Seen] = {}
        self._known = threads.known()

    def stacks(self) -> Stacks:
        taken, began = time.time_ns(), time.monotonic()
        found: list[_One] = []
        if walking.has_lock():
            if not walking.is_alone():
                self._problems.append(walking.SEVERAL)
            found = self._threads()
            found += self._greenlets()
            found += self._tasks(found)
        else:
            self._problems.append(walking.NO_LOCK)
        groups: dict[tuple[Any, ...], _Group] = {}
        for one in found:
            key = one.key
            if key not in groups:
                groups[key] = _Group(one)
            groups[key].add(one)
        ordered = sorted(groups.values(), key=lambda group: (group.first.kind != "thread", -group.count))
        stacks = tuple(self._fitting(ordered))
        total = dict(Counter([one.kind for one in found]))
        return Stacks(os.getpid(), taken, time.monotonic() - began, stacks, total, tuple(self._problems))

    def _threads(self) -> list[_One]:
        found = []
        for seen in threads.look(self._known):
            if seen.ours and not self._everything:
                continue
            wait = None if seen.running else waits.of_thread(seen.places)
            found.append(_One("thread", seen.ident, seen.name, seen.places, wait=wait, running=seen.running))
        return found

    def _greenlets(self) -> list[_One]:
        looker = greenlets.Looker(self._alike)
        self._tasks_looker = tasks.Looker(self._alike)
        self._task_references = self._tasks_looker.known()
        wanted = looker.kinds | (self._tasks_looker.kinds if self._tasks_looker.needs_scan else frozenset())
        if not wanted:
            return []
        if not self._everything and sys.getallocatedblocks() > greenlets.MAX_BLOCKS:
            self._problems.append(greenlets.TOO_LARGE)
            return []
        scan = walking.Scan()
        references = scan.references(looker.kinds)
        hubs = scan.references(looker.hubs)
        if self._tasks_looker.needs_scan:
            self._task_references = scan.references(self._tasks_looker.kinds)
        waiting = waits.Waits(looker)
        waiting.prepare(scan)
        scan.run()
        for reference in hubs:
            looker.note_hub(reference())
        hints = waiting.find()
        several = [seen for reference in references if (seen := looker.look(reference())) is not None]
        self._seen = {seen.ident: seen for seen in several}
        return [self._greenlet(seen, hints.get(seen.ident)) for seen in several]

    def _label(self, ident: int) -> str:
        """A greenlet in words, where another one waits for it."""
        seen = self._seen.get(ident)
        if seen is None:
            return ""
        frame = self._frames.of_interest(seen.places)
        where = f" ({os.path.basename(frame.file)}:{frame.line} in {frame.function})" if frame is not None else ""
        name = plain(self._name(seen), MAX_NAME)
        return f"{name if 'greenlet' in name.lower() else f'greenlet {name}'}{where}"

    def _name(self, seen: greenlets.Seen) -> str:
        if seen.main:
            return "main greenlet"
        known = self._known.get(seen.ident)
        return known.name if known is not None and known.name else seen.name

    def _greenlet(self, seen: greenlets.Seen, hint: waits.Hint | None) -> _One:
        wait = None
        if not seen.begun:
            what = f", to run {plain(seen.begins.co_qualname, MAX_NAME)}" if seen.begins is not None else ""
            wait = Wait("other", f"its first turn{what}")
        return _One(
            "greenlet",
            seen.ident,
            self._name(seen),
            seen.places,
            seen.spawned,
            wait,
            None if seen.running or wait is not None else hint,
            seen.running,
        )

    def _tasks(self, found: Sequence[_One]) -> list[_One]:
        looker = self._tasks_looker
        several = [seen for reference in self._task_references if (seen := looker.look(reference())) is not None]
        names = {seen.ident: f"task {plain(seen.name, MAX_NAME)}" for seen in several}
        return [
            _One(
                "task",
                seen.ident,
                seen.name,
                _running(seen, found) if seen.running else seen.places,
                wait=waits.of_task(seen, lambda ident: names.get(ident, "task")),
                running=seen.running,
            )
            for seen in several
        ]

    def _fitting(self, groups: Sequence[_Group]) -> Iterable[Stack]:
        """The groups as `Stack`s, as many as one message can hold, which is said if it is not all."""
        size, left_out = 0, 0
        for number, group in enumerate(groups):
            stack = self._stack(group)
            size += _size(stack)
            if number >= MAX_GROUPS or size > MAX_TEXT:
                left_out += sum([other.count for other in groups[number:]])
                break
            yield stack
        if left_out:
            self._problems.append(f"{left_out} stacks that have few or none alike were left out: there are too many")

    def _stack(self, group: _Group) -> Stack:
        first = group.first
        places = self._of_others(first.places)
        return Stack(
            first.kind,
            group.count,
            tuple([plain(name, MAX_NAME) for name in group.names]),
            tuple(group.idents),
            tuple([self._frames.at(code, offset) for code, offset in reversed(places[:MAX_FRAMES])]),
            max(len(places) - MAX_FRAMES, 0),
            tuple([self._frames.of_line(code, line) for code, line in reversed(self._of_others(first.spawned))]),
            self._wait(group),
            first.running,
        )

    def _of_others(self, places: Sequence[walking.Place]) -> Sequence[walking.Place]:
        """Calls without our own, through which a client's code was called: all, if there are no others."""
        if self._everything:
            return places
        return [place for place in places if not place[0].co_filename.startswith(_MANHOLE)] or places

    def _wait(self, group: _Group) -> Wait | None:
        """What most of a group wait for."""
        said = [one.hint.said(self._label) if one.hint is not None else one.wait for one in group.several]
        (wait, count), *_ = Counter(said).most_common(1)
        if wait is None or count == group.count or count == len(said):
            return wait
        return replace(wait, detail=f"{wait.detail} and others" if wait.detail else "")


def _running(seen: tasks.Seen, found: Sequence[_One]) -> Sequence[walking.Place]:
    """The calls of a task that runs, from its own coroutine inwards: they stand in its thread's stack."""
    if seen.places:
        outer = seen.places[-1][0]
        for one in found:
            for number, (code, _) in enumerate(one.places if one.kind == "thread" else ()):
                if code is outer:
                    return one.places[: number + 1]
    return seen.places


def _size(stack: Stack) -> int:
    """About how many bytes of JSON a stack takes."""
    size = 400
    for frame in (*stack.frames, *stack.spawned):
        for text in (frame.file, frame.function, frame.source):
            size += len(text) if text.isascii() else 6 * len(text)
        size += 60
    return size
