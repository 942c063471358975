"""The stacks of greenlets and tasks that wait: no fault handler shows them, so they are sampled while alive.

Opt-in, since to find all greenlets takes a look at every object of the process. Alike ones are one group.
`sample` is for the sampler's thread; `encode` and `decode` are how groups stand in the box.
"""

from __future__ import annotations

import gc
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mmstats.errors import FormatError

from .records import FaultFrame, ParkedGroup

#: Frames of a stack that are kept, the innermost ones; groups; greenlets and tasks that are looked at.
MAX_FRAMES = 12
MAX_GROUPS = 50
MAX_STACKS = 20_000

_Stack = tuple[tuple[str, int, str], ...]


def sample() -> list[ParkedGroup]:
    """All greenlets and tasks that wait, in groups of the same stack, the largest first."""
    found: Counter[tuple[str, _Stack]] = Counter()
    for kind, stack in (*_greenlets(), *_tasks()):
        found[kind, stack] += 1
    return [
        ParkedGroup(kind, count, tuple([FaultFrame(file, line, function) for file, line, function in stack]))
        for (kind, stack), count in found.most_common(MAX_GROUPS)
    ]


def _greenlets() -> Iterator[tuple[str, _Stack]]:
    kind = getattr(sys.modules.get("greenlet"), "greenlet", None)
    if kind is None:
        return
    looked_at = 0
    for found in gc.get_objects():
        # Exact about the type without asking the object: a proxy's __class__ is code of the program.
        if issubclass(type(found), kind):
            frame = found.gr_frame  # None if it runs, has not begun or has ended
            if frame is not None and not found.dead:
                yield "greenlet", _stack(frame)
                looked_at += 1
                if looked_at >= MAX_STACKS:
                    return


def _tasks() -> Iterator[tuple[str, _Stack]]:
    tasks = sys.modules.get("asyncio.tasks")
    known: Any = getattr(tasks, "_scheduled_tasks", None) or getattr(tasks, "_all_tasks", ())
    try:
        several = list(known)[:MAX_STACKS]
    except RuntimeError:
        return  # a task was made meanwhile; the next sample will see them
    for task in several:
        if not task.done():
            yield "task", _coroutines(task.get_coro())


def _stack(frame: Any) -> _Stack:
    """The innermost frames from `frame` outwards, as ``(file, line, function)``, the innermost last."""
    found: list[tuple[str, int, str]] = []
    while frame is not None and len(found) < MAX_FRAMES:
        code = frame.f_code
        found.append((code.co_filename, frame.f_lineno or 0, code.co_name))
        frame = frame.f_back
    return tuple(reversed(found))


def _coroutines(awaited: Any) -> _Stack:
    """The frames of a coroutine and of what it awaits."""
    found: list[tuple[str, int, str]] = []
    for _ in range(1000):
        frame = (
            getattr(awaited, "cr_frame", None)
            or getattr(awaited, "gi_frame", None)
            or getattr(awaited, "ag_frame", None)
        )
        if frame is None:
            break
        found.append((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return tuple(found[-MAX_FRAMES:])


def encode(groups: list[ParkedGroup], limit: int) -> str:
    """JSON of at most `limit` bytes: as many of the largest groups as fit."""
    texts: list[str] = []
    size = 2
    for group in groups:
        frames = [[frame.file, frame.line, frame.function] for frame in group.frames]
        text = json.dumps([group.kind, group.count, frames], separators=(",", ":"))
        size += len(text) + 1
        if size > limit:
            break
        texts.append(text)
    return f"[{','.join(texts)}]"


def decode(text: str) -> tuple[ParkedGroup, ...]:
    """What `encode` made. Raises `FormatError`."""
    try:
        return tuple([_group(item) for item in json.loads(text)[:MAX_GROUPS]])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError(f"damaged: the parked greenlets can't be read: {error}") from error


def _group(item: Any) -> ParkedGroup:
    kind, count, frames = item
    if type(kind) is not str or type(count) is not int or type(frames) is not list:
        raise ValueError("a group of another shape")
    found = []
    for file, line, function in frames[:MAX_FRAMES]:
        if type(file) is not str or type(line) is not int or type(function) is not str:
            raise ValueError("a frame of another shape")
        found.append(FaultFrame(file, line, function))
    return ParkedGroup(kind, count, tuple(found))
