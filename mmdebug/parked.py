"""The stacks of greenlets and tasks that wait: no fault handler shows them, so they are sampled while alive.

Opt-in, since to find all greenlets takes a look at every object of the process. Alike ones are one group.
`sample` is for the sampler's thread; `encode` and `decode` are how groups stand in the box.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mmstats.errors import FormatError

from .records import FaultFrame, ParkedGroup
from .stacks import greenlets, tasks
from .stacks.walking import Alike, Place, Scan, has_lock, line_of

#: Frames of a stack that are kept, the innermost ones; groups; greenlets and tasks that are looked at.
MAX_FRAMES = 12
MAX_GROUPS = 50
MAX_STACKS = 20_000


def sample() -> list[ParkedGroup]:
    """All greenlets and tasks that wait, in groups of the same stack, the largest first."""
    alike = Alike()
    stacks: Counter[tuple[str, int]] = Counter()
    known: dict[int, tuple[Place, ...]] = {}
    for kind, places in (*_greenlets(alike), *_tasks(alike)):
        known[id(places)] = places
        stacks[kind, id(places)] += 1
    groups: Counter[tuple[str, tuple[FaultFrame, ...]]] = Counter()
    for (kind, ident), count in stacks.items():
        groups[kind, _frames(known[ident])] += count
    return [ParkedGroup(kind, count, frames) for (kind, frames), count in groups.most_common(MAX_GROUPS)]


def _greenlets(alike: Alike) -> Iterator[tuple[str, tuple[Place, ...]]]:
    looker = greenlets.Looker(alike)
    if not looker.kinds or not has_lock():
        return
    scan = Scan()
    references = scan.references(looker.kinds)
    scan.run()
    for reference in references[:MAX_STACKS]:
        seen = looker.look(reference())
        if seen is not None and seen.places:
            yield "greenlet", seen.places


def _tasks(alike: Alike) -> Iterator[tuple[str, tuple[Place, ...]]]:
    looker = tasks.Looker(alike)
    for reference in looker.references()[:MAX_STACKS]:
        seen = looker.look(reference())
        if seen is not None and seen.places and not seen.running:
            yield "task", seen.places


def _frames(places: tuple[Place, ...]) -> tuple[FaultFrame, ...]:
    """The innermost ones, the innermost last."""
    kept = reversed(places[:MAX_FRAMES])
    return tuple([FaultFrame(code.co_filename, line_of(code, offset) or 0, code.co_name) for code, offset in kept])


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
