"""What a client's code prints goes to that client, and all else where it always went.

`sys.stdout` and `sys.stderr` are routers only while there are sessions, or commands that have outlived theirs.
``sys.stdout.buffer`` and the descriptors are the program's own: what is written to these goes to the program's output.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, Token
from functools import partial
from itertools import compress
from operator import call, is_
from typing import Any

from .. import native
from ..stacks.walking import at_once

#: Where a greenlet of a client's code, and those that it spawns, have their `Output`: in ``spawn_tree_locals``.
KEY = "mmdebug.output"
#: Characters of one piece of text: escaped in JSON it stays well below what a frame may have.
PIECE = 1 << 16

_current: ContextVar[Output | None] = ContextVar("mmdebug_output", default=None)


class Channel:
    """What is printed in one session.

    noisy: outputs that have something to be sent
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.closed = False
        self.noisy: deque[Output] = deque()

    def close(self) -> None:
        """What is printed from now on goes nowhere. Also lets go of the session, which greenlets may outlive."""
        self.closed = True
        self.wake = _nothing
        self.noisy.clear()


def _nothing() -> None:
    pass


class Output:
    """What one command printed and was not sent yet. Never blocks, takes no lock, and is bounded.

    number: the request's
    size, dropped: bytes that were taken, and that were too many
    """

    __slots__ = ("_announced", "_limit", "_pieces", "channel", "dropped", "number", "size")

    def __init__(self, channel: Channel, number: int, limit: int) -> None:
        self.channel = channel
        self.number = number
        self.size = 0
        self.dropped = 0
        self._limit = limit
        self._announced = False
        # Texts of stdout as they are, those of stderr in a tuple: most are short and of stdout.
        self._pieces: deque[str | tuple[str]] = deque()

    def write(self, name: str, text: str) -> int:
        """As a stream's write; `name` is the stream's."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        length = str.__len__(text)
        if not length or self.channel.closed:
            return length
        room = self._limit - self.size
        # Without its subclass, and cut before it is looked at: the text may be huge.
        kept = str.__getitem__(text, slice(0, max(room, 0)))
        taken = byte_size(kept)
        if taken > room:
            kept = _first_bytes(kept, room)
            taken = byte_size(kept)
        self.size += taken
        if len(kept) < length:
            self.dropped += byte_size(text) - taken
        if kept:
            self._pieces.append(kept if name == "stdout" else (kept,))
            if not self._announced:
                self.channel.noisy.append(self)
                self._announced = True
                self.channel.wake()
        return length

    def take(self) -> list[tuple[str, str]]:
        """What there is to be sent, as names of streams and texts of at most `PIECE` characters."""
        self._announced = False
        joined: list[tuple[str, str]] = []
        parts: list[str] = []
        before = ""
        for _ in range(len(self._pieces)):
            piece = self._pieces.popleft()
            name, text = ("stdout", piece) if type(piece) is str else ("stderr", piece[0])
            if name != before and parts:
                joined.append((before, "".join(parts)))
                parts = []
            before = name
            parts.append(text)
        if parts:
            joined.append((before, "".join(parts)))
        return [(name, text[at : at + PIECE]) for name, text in joined for at in range(0, len(text), PIECE)]

    def counts(self) -> dict[str, int]:
        return {"bytes": self.size + self.dropped, "dropped": self.dropped}


def byte_size(text: str) -> int:
    """Bytes of `text` in UTF-8, found without making them all."""
    if str.isascii(text):
        return str.__len__(text)
    return sum(
        [
            len(str.encode(str.__getitem__(text, slice(at, at + PIECE)), "utf-8", "surrogatepass"))
            for at in range(0, str.__len__(text), PIECE)
        ]
    )


def _first_bytes(text: str, size: int) -> str:
    data = text.encode("utf-8", "surrogatepass")[: max(size, 0)]
    return data.decode("utf-8", "ignore")


def current() -> Output | None:
    """The output of the command whose code runs here: its task, greenlet or thread, or one that it spawned."""
    found = _current.get()
    if found is None:
        getcurrent = getattr(sys.modules.get("greenlet"), "getcurrent", None)
        if getcurrent is not None:
            tree = getattr(getcurrent(), "spawn_tree_locals", None)
            if tree:
                found = tree.get(KEY)
    return found


def owner_of(context: Context) -> Output | None:
    """The output of the command that has made what has this context."""
    return context.get(_current)


def enter(output: Output) -> Token[Output | None]:
    """From here on in this context what is printed is `output`'s."""
    _sessions.commands.add(output)
    return _current.set(output)


def leave(output: Output, token: Token[Output | None]) -> None:
    """The command has ended; if its session had before, the streams are the program's again only now."""
    _current.reset(token)
    _sessions.commands.discard(output)
    if not _sessions.count:
        with _sessions.lock:
            _restore_if_unused()


class Router:
    """Stands for a stream of the program. What it does not do itself, the real stream does."""

    def __init__(self, name: str, real: Any) -> None:
        self.__dict__["_mmdebug_name"] = name
        self.__dict__["_mmdebug_real"] = real

    def write(self, text: str) -> int:
        output = current()
        if output is not None:
            return output.write(self._mmdebug_name, text)
        real = self._mmdebug_real
        return len(text) if real is None else int(real.write(text) or 0)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if current() is None and self._mmdebug_real is not None:
            self._mmdebug_real.flush()

    def isatty(self) -> bool:
        real = self._mmdebug_real
        return current() is None and real is not None and bool(real.isatty())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mmdebug_real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._mmdebug_real, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._mmdebug_real, name)

    def __iter__(self) -> Any:
        return iter(self._mmdebug_real)

    def __enter__(self) -> Any:
        return self._mmdebug_real.__enter__()

    def __exit__(self, *raised: Any) -> Any:
        return self._mmdebug_real.__exit__(*raised)


_NAMES = ("stdout", "stderr")


#: Routers that are kept when nobody else has them any more.
KEPT = 32


class _Sessions:
    """How many sessions there are, under a lock that nobody holds for longer than it takes to set a stream.

    commands: the outputs of those that run
    kept: the last routers. `print` only borrows `sys.stdout` in many releases of Python (gh-130163): if it was freed
        between two writes of one call, the next one would take the program down.
    """

    def __init__(self) -> None:
        self.lock = native.allocate_lock()
        self.count = 0
        self.commands: set[Output] = set()
        self.kept: deque[Router] = deque(maxlen=KEPT)
        self.minds_forks = False


_sessions = _Sessions()


def route() -> None:
    """A session begins: put the routers where the streams are, if they are not there already."""
    with _sessions.lock:
        _sessions.count += 1
        if not _sessions.minds_forks:
            _sessions.minds_forks = True
            os.register_at_fork(after_in_child=_forked)
    put_in_place()


def put_in_place() -> None:
    """Put the routers where the streams are; to be called again, since the program may have put others there."""
    with _sessions.lock:
        for name in _NAMES if _sessions.count else ():
            found = getattr(sys, name, None)
            # One that the program had saved and put back serves again.
            if type(found) is not Router:
                _exchange(name, found, _router(name, found))


def _exchange(name: str, found: Any, other: Any) -> None:
    """Put `other` where `found` is. What the program has put there since we looked, and maybe for a moment, stays."""
    same = map(is_, map(vars(sys).get, (name,)), (found,))
    at_once(partial(deque, map(call, compress((partial(setattr, sys, name, other),), same)), 0))


def _router(name: str, real: Any) -> Router:
    for known in _sessions.kept:
        if known._mmdebug_name == name and known._mmdebug_real is real:
            return known
    made = Router(name, real)
    _sessions.kept.append(made)
    return made


def unroute() -> None:
    """A session has ended; after the last one the streams are the program's again."""
    with _sessions.lock:
        _sessions.count = max(_sessions.count - 1, 0)
        _restore_if_unused()


def _restore_if_unused() -> None:
    if _sessions.count or _sessions.commands:
        return
    for name in _NAMES:
        found = getattr(sys, name, None)
        if type(found) is Router:  # else the program has put something there since, and it stays
            _exchange(name, found, found._mmdebug_real)


def _forked() -> None:
    """In a child no session goes on; the lock may be held by a thread that is not there."""
    _sessions.lock = native.allocate_lock()
    _sessions.count = 0
    _sessions.commands.clear()
    _restore_if_unused()
