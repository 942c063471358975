"""One session's requests that run code: where each runs, how long it may, and what is to be sent of it."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import native
from ..protocol import MAX_BODY, Frame, Message
from ..stacks import Stacks
from . import completion, output, pending, prompting, results
from .awaiting import Apart
from .command import Answer, Command, Request, described, runs_here, spares, started
from .evaluation import Cells, Failure, by_signal, evaluate
from .places import AT, LOOP, NATIVE, Places, start_natively

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["Command", "Executor", "Request"]

#: Seconds that a place of the program's has to begin, before a thread of ours does it.
PATIENCE = 0.5
#: Seconds after which an interrupted command is told again, and after which it counts as one that can't be stopped.
AGAIN = 0.5
STUCK = 1.0
#: Pauses before a command whose client has gone is told once more.
INSISTING = (0.1, 0.3, 1.0, 2.0, 5.0)
#: Commands of a session that can't be stopped; with more of them it runs nothing in a thread of its own.
MAX_STUCK = 8


class Executor:
    """Runs one request at a time. All methods but `wake` are for the session's own thread, and none of them blocks.

    busy: whether a request has no final answer yet among what `outgoing` returned
    places: where code can run
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        settings: Settings,
        wake: Callable[[], None],
        take_stacks: Callable[[], Stacks],
    ) -> None:
        """
        namespace: the session's names, which the code's globals are; a few that suit a prompt are added
        wake: called from anywhere when `outgoing` has something; it must not block
        take_stacks: called before code runs elsewhere than it should, and when it can't be stopped
        """
        self.places = Places()
        self._namespace = namespace
        for name, value in prompting.NAMES.items():
            namespace.setdefault(name, value)
        self._settings = settings
        self._wake = wake
        self._take_stacks = take_stacks
        self._channel = output.Channel(wake)
        self._cells = Cells()
        self._outbox: deque[tuple[Command, Message, bytes, bool]] = deque()
        self._current: Command | None = None
        self._stuck: list[Command] = []
        self._last: Any = None
        self._closed = False
        output.route()

    @property
    def busy(self) -> bool:
        return self._current is not None

    def submit(self, request: Request) -> None:
        """Have a request run; its final answer comes by `outgoing`, whatever happens."""
        place = self.places.choose(request.where, self._settings.where)
        command = Command(self, request, place, output.Output(self._channel, request.id, self._settings.max_output))
        if self._closed or self._current is not None:
            kind, message = ("closing", "the session ends") if self._closed else ("busy", "another request runs")
            command.end(_refusal(kind, message))
            return
        self._current = command
        output.put_in_place()
        if place == NATIVE:
            command.claim()
            self._run_natively(command, "", False)
        elif not self.places.submit(place, command.run if place == "main" else command.enter) and command.claim():
            self._run_natively(command, f"{AT[place]} is not there any more", True)

    def _run_natively(self, command: Command, reason: str, fallback: bool) -> None:
        """Run a command, which the caller has claimed, in a thread of ours."""
        command.place = NATIVE
        self._stuck = [other for other in self._stuck if not other.over]
        if len(self._stuck) >= MAX_STUCK:
            command.end(_refusal("refused", f"{MAX_STUCK} commands of this session could not be stopped: attach anew"))
            return
        if command.request.kind == "exec":
            self.post(command, started(command, reason), self._stacks() if fallback else b"", False)
        try:
            start_natively(command.run_claimed)
        except RuntimeError as error:
            command.end(_refusal("refused", f"no thread can be started: {error}"))

    def _stacks(self) -> bytes:
        try:
            body = json.dumps(self._take_stacks().to_dict()).encode("ascii")
        except Exception:  # the answer is worth more than its stacks
            return b""
        return body if len(body) <= MAX_BODY else b""

    def interrupt(self, why: str = "interrupted") -> str:
        """Tell what runs to end; returns how, as a sentence."""
        command = self._current
        if command is None or command.ended:
            return self._interrupt_left_behind()
        if command.claim():
            command.interrupted = why
            command.over = True
            command.end({**_refusal("interrupted", "interrupted before it began"), "name": "Interrupted"})
            return "it had not begun, and it will not"
        return command.interrupt(why)

    def _interrupt_left_behind(self) -> str:
        """Nothing has to be answered; what earlier commands left running is told."""
        pending.call_in_main(self._strike)
        self._stuck = [command for command in self._stuck if not command.over]
        for command in self._stuck:
            command.interrupt("interrupted")
        if self._stuck:
            return f"{len(self._stuck)} earlier commands that could not be stopped are told again"
        return "no command runs; what one of this session left running in the main thread is told to end"

    def _strike(self) -> None:
        """In the main thread: end what runs there if it was spawned by a command that has ended."""
        found = output.current()
        running = self._current
        if found is None or found.channel is not self._channel or (running is not None and found is running.output):
            return
        frame = sys._getframe(1)
        if not runs_here(frame) and not spares(frame):
            raise pending.Interrupted

    def tick(self) -> float | None:
        """Do what is due: fall back, keep time limits. Returns in how many seconds to call again; None: when woken."""
        command = self._current
        if command is None or command.ended:
            return None
        now = time.monotonic()
        if command.unclaimed:
            patience = command.asked + PATIENCE - now
            if patience > 0:
                return patience
            if command.claim():
                where = AT[command.place]
                reason = f"{where} did not come to it within {PATIENCE:g} s, so it runs in a thread of its own"
                self._run_natively(command, reason, True)
        if command.began is None:
            return 0.05
        if not command.interrupted:
            if command.limit is None:
                return None
            left = command.began + command.limit - now
            if left > 0:
                return left
            command.interrupt("timeout")
            return AGAIN
        since = now - command.told_at
        if since >= STUCK:
            self._give_up(command)
            return None
        if since >= AGAIN and command.told == 1:
            command.interrupt(command.interrupted)
        return (AGAIN if command.told == 1 else STUCK) - since

    def _give_up(self, command: Command) -> None:
        """Answer for a command that does not end. It goes on, and the session without it."""
        self._stuck.append(command)
        answer = command.failed(Failure("", "", []), stuck=True)
        answer["advice"] = (
            "it could not be stopped and still runs: it is in a call that is not Python code, or it catches what is "
            "to end it. The stacks show where; interrupt once more to tell it again"
        )
        command.end(answer, self._stacks())

    def outgoing(self) -> list[Frame]:
        """What has come to be sent since the last call."""
        frames: list[Frame] = []
        while self._outbox:
            command, message, body, final = self._outbox.popleft()
            if final:
                frames += _streams(command.output)
                if command is self._current:
                    self._current = None
            frames.append((message, body))
        while self._channel.noisy:
            frames += _streams(self._channel.noisy.popleft())
        return frames

    def close(self) -> None:
        """The client is gone: interrupt what runs, and let go of everything. `tick` need not be called any more."""
        if self._closed:
            return
        self._closed = True
        if self._current is not None:
            self.interrupt("closing")
        for command in (self._current, *self._stuck):
            if command is not None and not command.over:
                _insist(command)
        self._channel.close()
        # What was interrupted may hold on to us until garbage is collected: not to the session and its descriptors.
        self._wake, self._take_stacks = _nothing, _no_stacks
        self._cells.close()
        output.unroute()
        # What is freed runs its destructors where it was made, if that is possible.
        held = [self._namespace, self._last]
        self._namespace, self._last = {}, None
        self._current = None
        self._stuck.clear()
        self._outbox.clear()
        # A destructor may have to wait, which a greenlet can and the hub can't.
        spawn = sys.modules["gevent"].spawn if self.places.kind() == "gevent" else None
        self.places.call(held.clear if spawn is None else partial(spawn, held.clear))

    # Of commands.

    def post(self, command: Command, message: Message, body: bytes, final: bool) -> None:
        """Have a message sent. From anywhere."""
        if self._closed and command.began is not None:
            return
        self._outbox.append((command, message, body, final))
        self._wake()

    async def work(self, command: Command) -> Answer:
        """Do what a request asks, in its place. All of it may run the program's code, and be interrupted."""
        try:
            return await self._answer(command)
        except BaseException as error:
            if by_signal(error):
                raise
            return described(error, command)

    async def _answer(self, command: Command) -> Answer:
        request = command.request
        names = self._namespace
        limit = self._settings.max_result
        if request.kind == "complete":
            return Answer({"type": "completions", **completion.complete(request.code, request.cursor, names)})
        if request.kind == "inspect":
            found = completion.inspect_at(request.code, request.cursor, names, request.detail)
            return Answer({"type": "inspection", **found})
        if request.kind == "page":
            return Answer({"type": "result", **results.page(self._last, request.start, limit)})
        compiled = self._cells.compile(request.code, request.mode)
        apart = Apart(command.output) if command.place == LOOP else None
        value = await evaluate(compiled, names, apart, f"this ran in {AT[command.place]}")
        if not compiled.valued or (value is None and request.mode == "cell" and not request.value):
            return Answer({"type": "result", **results.NOTHING})
        message, body = results.describe(value, limit, request.value, command.place != NATIVE)

        def keep() -> None:
            self._last = value
            if value is not None:
                names["_"] = value

        return Answer({"type": "result", **message}, body, keep)


def _nothing() -> None:
    pass


def _no_stacks() -> Stacks:
    raise RuntimeError("the session has ended")


def _insist(command: Command) -> None:
    """Tell it again for a while: code can catch what it is told by, and it can come where it is lost."""
    sleep = native.original("time", "sleep")

    def tell() -> None:
        for pause in INSISTING:
            sleep(pause)
            if command.over:
                return
            command.interrupt("closing")

    try:
        start_natively(tell)
    except RuntimeError:  # it was told once
        pass


def _refusal(kind: str, message: str) -> Message:
    return {
        "type": "error", "kind": kind, "name": "", "message": message,
        "traceback": [], "stuck": False, "advice": "",
    }  # fmt: skip


def _streams(printed: output.Output) -> list[Frame]:
    return [
        ({"type": "stream", "id": printed.number, "name": name, "text": text}, b"") for name, text in printed.take()
    ]
