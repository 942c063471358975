"""A connection to a live process: one question after the other, each waited for.

What comes is checked before it is used. What is no protocol ends the connection with `ProtocolError`;
nothing of it is run, and what is kept of it is bounded.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from types import EllipsisType, TracebackType
from typing import Any, TypeVar

import mmstats

from .. import protocol
from ..errors import ConnectionLost, ProtocolError
from ..escape import clean
from ..protocol import Decoder, Frame, Message
from ..records import Box, Event
from ..stacks import Stacks
from . import data
from .data import Completion, Inspection, Result, Started, Welcome, Where
from .files import Files
from .interrupts import Interrupts
from .transport import Transport

#: Seconds for an answer: to a question, and to a command beyond its own time limit.
ANSWER = 15.0
BEYOND = 5.0
#: Characters of printed text that are kept if nobody takes them as they come.
MAX_COLLECTED = 64 << 20
#: Bytes of memory for questions that nobody waits for at the moment, which one frame may exceed, and frames for those
#: that were given up.
MAX_QUEUED = 64 << 20
MAX_LATE = 100_000
#: Bytes that are read when the time is up: what came before it is an answer, and what never ends is none.
MAX_BEYOND = 64 << 20
#: Seconds after which who waits without a limit lets other threads ask, and for which it does.
SLICE, PAUSE = 0.1, 0.005

#: Pieces that are read from one who has hung up.
MAX_REST = 256

_TOO_LATE = "no answer came in time"
#: What goes on there until it is interrupted, also if nobody waits for it.
_LONG = ("exec", "page", "complete", "inspect", "events")

T = TypeVar("T")
OnStream = Callable[[str, str], None]
OnStarted = Callable[[Started], None]


class Connection:
    """An open connection; `client.opening` makes them.

    welcome: who answered
    on_late: takes what is printed there after its command's end, such as by a greenlet that it started: ``stdout``
        or ``stderr``, and the text, not escaped. Called by whoever waits or looks; what it raises is not heard of

    Threads may share one: each question waits for its turn. `interrupt` and `close` don't.
    """

    def __init__(
        self,
        transport: Transport,
        welcome: Welcome,
        decoder: Decoder,
        lost: Callable[[str], ConnectionLost] = ConnectionLost,
    ) -> None:
        self.welcome = welcome
        self.on_late: OnStream | None = None
        self._transport = transport
        self._decoder = decoder
        self._lost = lost
        self._turn = threading.RLock()
        self._interrupts = Interrupts()
        self._last = 0
        self._waiting: dict[int, deque[tuple[Frame, int]]] = {}
        self._queued = 0
        self._late = 0
        self._outgoing: deque[bytes] = deque()
        self._sending = False
        self._over: ConnectionLost | None = None

    # Commands.

    def execute(
        self,
        code: str,
        *,
        mode: str = "cell",
        where: str = "auto",
        timeout: float | EllipsisType | None = ...,
        value: bool = False,
        on_stream: OnStream | None = None,
        on_started: OnStarted | None = None,
    ) -> Result:
        """Run code there and wait for its end. Ctrl-C interrupts it there; a second one stops waiting.

        mode: ``cell`` (the value of a last expression is the result), ``eval`` or ``exec``
        where: ``auto``, ``app``, ``main`` or ``native``
        timeout: seconds that it may take there; None for no limit, by default the manhole's own
        value: whether the value is wanted, and not only its text
        on_stream: takes what is printed as it comes: ``stdout`` or ``stderr``, and the text, not escaped

        Raises `RemoteError` if it failed or was refused, and `ConnectionLost`.
        """
        limit = self.welcome.limits.get("timeout") if isinstance(timeout, EllipsisType) else timeout
        # On the wire null is the manhole's own limit, and 0 none.
        sent = None if isinstance(timeout, EllipsisType) else timeout or 0
        request = {"type": "exec", "code": code, "mode": mode, "where": where, "timeout": sent, "value": value}
        if len(code) > protocol.MAX_CODE:
            raise ProtocolError(f"code of {len(code):,} characters: {protocol.MAX_CODE:,} are allowed")
        output = _Output(on_stream)
        reason = ""
        with self._turn, self._interrupts.catching(), self._checking():
            for message, body in self._ask(request, limit + BEYOND if limit else None, "result", patient=True):
                if message["type"] == "started":
                    started = data.started_of(message, body)
                    reason = started.reason
                    if on_started is not None:
                        on_started(started)
                elif message["type"] == "stream":
                    output.add(*_printed(message))
                elif message["type"] == "error":
                    raise data.error_of(message, body, output.text("stdout"), output.text("stderr"))
                else:
                    found = data.result_of(message, body)
                    return replace(
                        found,
                        reason=reason,
                        stdout=output.text("stdout"),
                        stderr=output.text("stderr"),
                        dropped=found.dropped + output.dropped,
                    )
        raise AssertionError("an exchange ends with its last reply")

    def page(self, start: int) -> Result:
        """The last result again, from its item `start` on."""
        return self._answer({"type": "page", "start": start}, "result", data.result_of)

    def complete(self, code: str, cursor: int) -> list[Completion]:
        """What can stand at the cursor."""
        return self._answer(
            {"type": "complete", "code": code, "cursor": cursor}, "completions", lambda m, _: data.completions_of(m)
        )

    def inspect(self, code: str, cursor: int, detail: int = 0) -> Inspection:
        """What is known of the name at the cursor; `detail` 1 with its source."""
        request = {"type": "inspect", "code": code, "cursor": cursor, "detail": detail}
        return self._answer(request, "inspection", lambda m, _: data.inspection_of(m))

    # Questions.

    def stacks(self, everything: bool = False) -> Stacks:
        """What all its threads, greenlets and tasks are doing."""
        return self._answer({"type": "stacks", "all": everything}, "stacks", lambda _, body: data.all_stacks_of(body))

    def stats(self) -> mmstats.Snapshot:
        """Its stats at this moment."""
        return Files(self._stats(), b"", self.welcome.pid).snapshot()

    def box(self) -> Box | None:
        """What it has recorded; None if there is no recorder."""
        return self.files().box()

    def files(self) -> Files:
        """Its stat file and its box, as bytes that came over the wire."""
        stats = self._stats()
        return Files(stats, self._answer({"type": "box"}, "box", lambda _, body: body), self.welcome.pid)

    def _stats(self) -> bytes:
        return self._answer({"type": "stats"}, "stats", lambda _, body: body)

    def events(self, last: int | None = None, severity: str = "debug", follow: bool = False) -> Iterator[Event]:
        """What it recorded, the newest last; with `follow` also what comes, until the iterator is closed."""
        request = {"type": "events", "last": last, "severity": severity, "follow": follow}
        for message, body in self._ask(request, None if follow else ANSWER, "events"):
            with self._checking():
                if message["type"] == "error":
                    raise data.error_of(message, body)
                found = data.events_of(message)
            yield from found

    def where(self) -> Where:
        """Where commands run, and whether that place answers at this moment."""
        return self._answer({"type": "where"}, "where", lambda m, _: data.where_of(m))

    def ping(self) -> float:
        """Seconds that an answer takes."""
        began = time.perf_counter()
        self._answer({"type": "ping"}, "pong", lambda m, _: m)
        return time.perf_counter() - began

    # Without waiting for a turn.

    def interrupt(self) -> None:
        """Ask to stop what runs; its `execute` then raises. From any thread, and from a signal handler."""
        self._interrupts.ask()

    def look(self) -> None:
        """Take note of what came unasked, such as the end. Raises `ConnectionLost`; never waits for an answer."""
        if not self._turn.acquire(blocking=False):
            return  # whoever has the turn notices it
        try:
            self._check_open()
            self._take(0)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Leave. What still runs there of ours is interrupted."""
        if self._over is not None:
            return
        self._over = why = ConnectionLost("the connection was closed")  # before another thread sees what comes of it
        try:
            self._transport.send(protocol.encode({"type": "bye"}))
        except ConnectionLost:
            pass
        self._end(why)

    @property
    def closed(self) -> bool:
        return self._over is not None

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return clean(f"<Connection to {self.welcome.who}{', closed' if self.closed else ''}>")

    # One exchange.

    def _answer(self, request: Message, final: str, read: Callable[[Message, bytes], T]) -> T:
        """What `read` makes of the one reply to a question. Raises `RemoteError` if that is an error."""
        with self._turn, self._interrupts.catching(), self._checking():
            message, body = next(self._ask(request, ANSWER, final))
            if message["type"] == "error":
                raise data.error_of(message, body)
            return read(message, body)

    def _ask(
        self, request: Message, seconds: float | None, final: str, *, patient: bool = False
    ) -> Generator[Frame, None, None]:
        """Send a request, and yield the replies to it up to the last one.

        seconds: that the last one may take
        patient: the first Ctrl-C interrupts it there, and is no reason to stop waiting
        """
        with self._turn:
            self._last += 1
            number = self._last
            self._late = 0
            self._waiting[number] = deque()
            self._send({**request, "id": number})
        deadline = None if seconds is None else time.monotonic() + seconds
        allowed = (final, "error", "started", "stream") if final == "result" else (final, "error")
        interrupted = ended = False
        shared = deadline is None and not patient
        beyond = 0
        try:
            while not ended:
                frame = None
                with self._turn, self._interrupts.catching():
                    until = time.monotonic() + SLICE
                    while not self._waiting[number]:
                        keys = self._interrupts.keys
                        if keys > (1 if patient else 0):
                            raise KeyboardInterrupt
                        if shared and time.monotonic() > until:
                            break
                        try:
                            if patient and not interrupted and (keys or self._interrupts.asked):
                                interrupted = True
                                self._send_interrupt(number)
                            beyond += self._pump(deadline, SLICE if shared else None)
                        except ConnectionLost:
                            if not self._waiting[number]:
                                raise
                            # What came before the end is an answer.
                        if beyond > MAX_BEYOND:
                            raise self._gone(_TOO_LATE)
                    if self._waiting[number]:
                        frame, size = self._waiting[number].popleft()
                        self._queued -= size
                if frame is None:
                    time.sleep(PAUSE)
                    continue
                kind = frame[0]["type"]
                if kind not in allowed:
                    raise self._broken(f"{kind[:40]!r} is no reply to {request['type']}")
                ended = kind in (final, "error") and not (kind == "events" and frame[0].get("more") is True)
                yield frame
        finally:
            left = self._waiting.pop(number, ())
            self._queued -= sum([size for _, size in left])
            if not (ended or interrupted) and self._over is None and request["type"] in _LONG:
                try:
                    self._send_interrupt(number)
                except (ConnectionLost, ProtocolError):
                    pass

    def _send_interrupt(self, number: int) -> None:
        """Nobody waits for its reply."""
        self._last += 1
        self._send({"type": "interrupt", "id": self._last, "of": number})

    def _send(self, message: Message) -> None:
        """Send a frame; one after the other also if a second one comes up in the midst of it."""
        self._check_open()
        self._outgoing.append(protocol.encode(message))
        if self._sending:
            return
        self._sending = True
        try:
            while self._outgoing:
                self._transport.send(self._outgoing.popleft())
        except ConnectionLost as error:
            self._check_open()
            self._take_the_rest()
            raise self._gone(error.message) from error
        finally:
            self._sending = False

    def _take_the_rest(self) -> None:
        """Who does not listen any more may have said why: what came before the end, and no more than that."""
        for _ in range(MAX_REST):
            came = self._transport.receive(0, None)
            if not came:
                return
            self._feed(came)

    def _pump(self, deadline: float | None, most: float | None = None) -> int:
        """Wait for bytes, and put the frames that they complete to those who wait for them.

        What has come already is taken also when the time is up: it may be whoever asks who was slow.

        most: seconds to wait if there is no deadline; None for no limit

        Returns how many bytes came after the deadline.
        """
        self._check_open()
        left = None if deadline is None else deadline - time.monotonic()
        came = self._take(most if left is None else max(left, 0))
        if left is None or left > 0:
            return 0
        if not came:
            raise self._gone(_TOO_LATE)
        return came

    def _take(self, seconds: float | None) -> int:
        """Wait for bytes, and give how many came. Raises `ConnectionLost` at the end."""
        try:
            came = self._transport.receive(seconds, self._interrupts.descriptor)
        except KeyboardInterrupt:  # of somebody else's handler
            self._interrupts.keys += 1
            return 0
        if came is None:
            self._interrupts.drain()
            return 0
        if not came:
            self._check_open()  # another thread may have closed it
            raise self._gone(self._transport.ended())
        self._feed(came)
        return len(came)

    def _feed(self, came: bytes) -> None:
        with self._checking():
            for frame in self._decoder.feed(came):
                self._dispatch(frame)

    def _dispatch(self, frame: Frame) -> None:
        message, body = frame
        number = message.get("id")
        if number is None and message["type"] == "error":
            said = data.error_of(message, body)
            error = ConnectionLost(said.message + (f"; {said.advice}" if said.advice else ""))
            self._end(error)
            raise error
        if type(number) is not int or not 0 < number <= self._last:
            raise ProtocolError(f"{message['type'][:40]!r} is a reply to nothing that was asked")
        waiting = self._waiting.get(number)
        if waiting is None:
            if message["type"] == "stream":
                self._hand_on_late(*_printed(message))
                return
            self._late += 1
            if self._late > MAX_LATE:
                raise ProtocolError("a flood of replies that nobody waits for")
            return
        if self._queued > MAX_QUEUED:
            raise ProtocolError("more has come than is kept for those who don't ask")
        size = _size(frame)
        waiting.append((frame, size))
        self._queued += size

    def _hand_on_late(self, name: str, text: str) -> None:
        """Whoever waits now did not ask for it, so that an error of the one who takes it is not for them."""
        take = self.on_late
        if take is None:
            return
        try:
            take(name, text)
        except KeyboardInterrupt:
            self._interrupts.keys += 1  # raised here, it would lose what came in the same piece
        except Exception:
            pass

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """What is no protocol ends the connection."""
        try:
            yield
        except ProtocolError as error:
            raise self._broken(error.message) from error

    def _broken(self, what: str) -> ProtocolError:
        if self._over is None:
            self._end(ConnectionLost(f"the connection was closed, as what came was no protocol: {what}"))
        return ProtocolError(what)

    def _gone(self, reason: str) -> ConnectionLost:
        """The other side does not answer any more: find out why, which may take a moment."""
        self._end(ConnectionLost(reason or "the connection has ended"))
        self._over = error = self._lost(reason)
        return error

    def _check_open(self) -> None:
        """Raise what ended the connection, to everyone who asks: whoever noticed it may have been a thread of ours."""
        if self._over is not None:
            raise ConnectionLost(self._over.message, self._over.postmortem)

    def _end(self, why: ConnectionLost) -> None:
        self._over = why
        self._interrupts.wake()  # another thread may be waiting
        self._transport.close()
        self._interrupts.close()


class _Output:
    """What a command prints: handed on, or collected within bounds."""

    def __init__(self, hand_on: OnStream | None) -> None:
        self._hand_on = hand_on
        self._parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._size = 0
        self.dropped = 0

    def add(self, name: str, text: str) -> None:
        if self._hand_on is not None:
            self._hand_on(name, text)
            return
        self._size += len(text)
        if self._size > MAX_COLLECTED:
            self.dropped += len(text)
        else:
            self._parts[name].append(text)

    def text(self, name: str) -> str:
        return "".join(self._parts[name])


def _printed(message: Message) -> tuple[str, str]:
    """The stream's name and the text of what was printed. Raises `ProtocolError`."""
    return protocol.choice_of(message, "name", ("stdout", "stderr")), protocol.text_of(message, "text")


def _size(frame: Frame) -> int:
    """About what a frame takes of memory, which may be many times its bytes: ``{},`` are three, and a dict here."""
    message, body = frame
    size = 1000 + len(body)
    level: list[Any] = [message]
    while level:
        size += sum(map(sys.getsizeof, level))
        level = [
            item
            for one in level
            if type(one) in (dict, list)
            for item in (chain(one, one.values()) if type(one) is dict else one)
        ]
    return size
