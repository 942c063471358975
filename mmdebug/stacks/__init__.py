"""The stacks of a process as data: threads, greenlets and asyncio tasks, alike ones in groups. Pure.

`take` gets them in the process itself, `pyspy` from outside, `text` and `html` show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ProtocolError

#: The number of the shape of `Stacks.to_dict`.
SCHEMA = 1
#: What comes from elsewhere has no larger numbers.
MOST, MOST_SECONDS = 1 << 63, 1e9
KINDS = ("thread", "greenlet", "task")


@dataclass(frozen=True, slots=True)
class Frame:
    """A call: `line` is None if it is not known, `source` the line's text, empty if there is none to be had."""

    file: str
    line: int | None
    function: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a stack waits for.

    what: ``lock``, ``queue``, ``event``, ``socket``, ``sleep``, ``greenlet``, ``thread``, ``task``, ``process``
        or ``other``
    detail: which one, as a short text, such as ``gevent.queue.Queue at 0x7f..., empty`` or ``127.0.0.1:5432, to read``
    holder: who has it, where that can be told, such as ``greenlet 7 "worker"``
    """

    what: str
    detail: str = ""
    holder: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack, or several alike ones.

    kind: ``thread``, ``greenlet`` or ``task``
    count: how many have this very stack, place of spawning and kind of wait
    names: the first few names, such as ``MainThread`` or ``Greenlet-3``
    idents: the first few numbers: `threading.get_ident`'s of threads, `id`'s of greenlets and tasks
    frames: the outermost call first, as Python prints them
    cut: how many frames were left out, outermost ones
    spawned: where it was started, outermost call first; empty if not known
    wait: what most of them wait for; None if they wait for nothing, or if it can't be told
    running: whether it runs at this moment, and does not wait for its turn or for something else
    """

    kind: str
    count: int
    names: tuple[str, ...]
    idents: tuple[int, ...]
    frames: tuple[Frame, ...]
    cut: int = 0
    spawned: tuple[Frame, ...] = ()
    wait: Wait | None = None
    running: bool = False


@dataclass(frozen=True, slots=True)
class Stacks:
    """All stacks of a process at about one moment.

    taken: when, in ns since the epoch; `seconds`: how long it took
    total: how many there are of each kind, groups counted by their members
    problems: what is missing and why, in sentences, such as that greenlets could not be looked for
    source: ``manhole``, or ``py-spy`` for a process that did not opt in
    """

    pid: int
    taken: int
    seconds: float
    stacks: tuple[Stack, ...]
    total: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    source: str = "manhole"

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only, with ``schema``."""
        return {
            "schema": SCHEMA,
            "pid": self.pid,
            "taken": self.taken,
            "seconds": self.seconds,
            "source": self.source,
            "total": dict(self.total),
            "problems": list(self.problems),
            "stacks": [_stack_to_dict(stack) for stack in self.stacks],
        }

    def __str__(self) -> str:
        from .text import render

        return render(self)

    def _repr_html_(self) -> str:
        from .html import fragment

        return fragment(self)


def _frame_to_dict(frame: Frame) -> dict[str, Any]:
    return {"file": frame.file, "line": frame.line, "function": frame.function, "source": frame.source}


def _stack_to_dict(stack: Stack) -> dict[str, Any]:
    wait = stack.wait
    return {
        "kind": stack.kind,
        "count": stack.count,
        "names": list(stack.names),
        "idents": list(stack.idents),
        "frames": [_frame_to_dict(frame) for frame in stack.frames],
        "cut": stack.cut,
        "spawned": [_frame_to_dict(frame) for frame in stack.spawned],
        "wait": None if wait is None else {"what": wait.what, "detail": wait.detail, "holder": wait.holder},
        "running": stack.running,
    }


def from_dict(found: Any) -> Stacks:
    """What `Stacks.to_dict` made, checked. Raises `ProtocolError`."""
    try:
        if found["schema"] != SCHEMA:
            raise ProtocolError(f"stacks of schema {found['schema']!r}: this is made for {SCHEMA}")
        return Stacks(
            pid=_whole(found["pid"]),
            taken=_whole(found["taken"]),
            seconds=_number(found["seconds"]),
            stacks=tuple([_stack(item) for item in _list(found["stacks"])]),
            total={_text(kind): _whole(count) for kind, count in found["total"].items()},
            problems=tuple([_text(item) for item in _list(found["problems"])]),
            source=_text(found["source"]),
        )
    except (TypeError, KeyError, ValueError, AttributeError, ArithmeticError) as error:
        raise ProtocolError(f"stacks of another shape: {error!r}") from error


def _stack(item: Any) -> Stack:
    wait = item["wait"]
    return Stack(
        kind=_text(item["kind"]),
        count=_whole(item["count"]),
        names=tuple([_text(name) for name in _list(item["names"])]),
        idents=tuple([_whole(ident) for ident in _list(item["idents"])]),
        frames=tuple([_frame(frame) for frame in _list(item["frames"])]),
        cut=_whole(item["cut"]),
        spawned=tuple([_frame(frame) for frame in _list(item["spawned"])]),
        wait=None if wait is None else Wait(_text(wait["what"]), _text(wait["detail"]), _text(wait["holder"])),
        running=item["running"] is True,
    )


def _frame(item: Any) -> Frame:
    line = item["line"]
    return Frame(
        _text(item["file"]), None if line is None else _whole(line), _text(item["function"]), _text(item["source"])
    )


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("a text is none")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MOST:
        raise TypeError("a whole number is none")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= MOST_SECONDS:
        raise TypeError("a number is none")
    return float(value)


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError("a list is none")
    return value
