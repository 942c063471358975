"""One request on its way: begun once, wherever that is, ended once, and told to end in between."""

from __future__ import annotations

import _weakrefset
import os
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from .. import native
from ..protocol import Message
from . import output, pending
from .evaluation import Failure, by_signal, failure_of, signal_handlers
from .pending import Interrupted
from .places import AT, HUB, LOOP, NATIVE, Places, call_in_hub_of


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks to be run.

    kind: ``exec``, ``page``, ``complete`` or ``inspect``
    mode: ``cell``, ``eval`` or ``exec``
    where: ``auto``, ``app``, ``main`` or ``native``
    timeout: seconds that it may take, None for any time: a session puts its own limit in if the client gives none
    value: whether the value is wanted as JSON or Arrow
    """

    id: int
    kind: str
    code: str = ""
    mode: str = "cell"
    where: str = "auto"
    timeout: float | None = None
    value: bool = False
    cursor: int = 0
    detail: int = 0
    start: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request; `keep` is called if it is the one that is sent, before it is."""

    message: Message
    body: bytes = b""
    keep: Callable[[], None] | None = None


class Surroundings(Protocol):
    """What a command needs of its session."""

    places: Places

    def work(self, command: Command) -> Any:
        """A coroutine with the request's `Answer`."""

    def post(self, command: Command, message: Message, body: bytes, final: bool) -> None: ...


class Command:
    """A request on its way. The session's thread tells it what to do; its code runs in its place."""

    def __init__(self, session: Surroundings, request: Request, place: str, printed: output.Output) -> None:
        self.request = request
        self.place = place
        self.output = printed
        self.asked = time.monotonic()
        self.began: float | None = None
        self.over = False  # whether its code has ended, maybe long after its answer
        self.interrupted = ""  # why: "interrupted", "timeout" or "closing"
        self.told_at = 0.0  # for the first time
        self.told = 0
        self._session = session
        # Each is popped by the one that takes it: that is one step, and needs no lock.
        self._claim = [1]
        self._pid = os.getpid()
        self._end = [1]
        self._strikes: list[int] = []
        self._called = False  # whether the hub or loop is still to come to `_strike_waiting`
        self._exposed = False  # whether the client's code runs, so that an exception may be raised in it
        self._runner: Any = None  # the greenlet or task in which it runs
        self._task: Any = None  # the loop refers to it weakly
        self._ident = 0
        self._lock = native.allocate_lock()

    def claim(self) -> bool:
        """Whether the caller is the one to begin it; nobody is in a forked child, which may come to its parent's."""
        if self._pid != os.getpid():
            return False
        try:
            self._claim.pop()
        except IndexError:
            return False
        return True

    @property
    def unclaimed(self) -> bool:
        return bool(self._claim)

    @property
    def ended(self) -> bool:
        """Whether it has its final answer."""
        return not self._end

    def end(self, message: Message, body: bytes = b"", keep: Callable[[], None] | None = None) -> None:
        """Make this the final answer, if there is none yet: then `keep` is called, before any client can know of it."""
        try:
            self._end.pop()
        except IndexError:
            return
        whole = {"id": self.request.id, **message}
        if message["type"] in ("result", "error"):
            seconds = 0.0 if self.began is None else time.monotonic() - self.began
            whole.update(where=self.place, seconds=round(seconds, 6), output=self.output.counts())
        try:
            if keep is not None:
                keep()
        finally:  # an earlier value may be freed by it, whose destructor waits, and is interrupted
            self._session.post(self, whole, body, True)

    # In its place.

    def enter(self) -> None:
        """In a callback of the hub or the loop: have it run in a greenlet or a task."""
        place = self.place  # which is another one as soon as a thread of ours has claimed it
        if not self.unclaimed:
            return
        if place == LOOP:
            asyncio: Any = sys.modules["asyncio"]
            loop = asyncio.get_running_loop()
            # Not by create_task: the program may have put a factory of its own there.
            self._task = asyncio.Task(self._run_if_unclaimed(), loop=loop, name=f"mmdebug {self.request.id}")
            return
        gevent: Any = sys.modules["gevent"]
        greenlet = gevent.Greenlet(self.run)
        greenlet.name = f"mmdebug {self.request.id}"
        greenlet.spawn_tree_locals = {output.KEY: self.output}
        greenlet.start()

    def run(self) -> None:
        """In a greenlet or in the main thread, which may come to it after a thread of ours has begun it."""
        if self.claim():
            self.run_claimed()

    def run_claimed(self) -> None:
        """Where its caller has claimed it for."""
        try:
            self._run().send(None)
        except StopIteration:
            pass

    async def _run_if_unclaimed(self) -> None:
        if self.claim():
            await self._run()

    async def _run(self) -> None:
        self._begin()
        token = output.enter(self.output)
        answer: Answer | None = None
        error: BaseException | None = None
        try:
            # From here until it is false again an `Interrupted` may come: no call stands outside of a try.
            try:
                self._exposed = True
                if self.interrupted:
                    raise Interrupted
                answer = await self._session.work(self)
            finally:
                self._exposed = False
        except BaseException as raised:
            error = raised
        try:
            self._cover()
        except Interrupted:  # it was on its way; another one can't be
            self._cover()
        output.leave(self.output, token)
        self._conclude(answer, error)
        self._runner = self._task = None
        if error is not None and by_signal(error):
            raise error

    def _begin(self) -> None:
        self._ident = native.get_ident()
        if self.place == LOOP:
            self._runner = sys.modules["asyncio"].current_task()
        else:
            # Maybe not the greenlet that was made for it: a thread of ours may have begun it first.
            getcurrent = getattr(sys.modules.get("greenlet"), "getcurrent", None)
            self._runner = None if getcurrent is None else getcurrent()
        self.began = time.monotonic()
        if self.request.kind == "exec" and self.place != NATIVE:
            self._session.post(self, started(self, ""), b"", False)

    def _cover(self) -> None:
        """From here on nothing is raised in this thread from outside; in greenlets and tasks nothing ever is."""
        self._exposed = False
        if self.place in (HUB, LOOP):
            self.over = True
            return
        with self._lock:
            self.over = True
            pending.take_back(self._ident)

    def _conclude(self, answer: Answer | None, error: BaseException | None) -> None:
        if answer is not None:
            self.end(answer.message, answer.body, answer.keep)
        elif error is not None:
            message = "a signal's handler raised it, and it was passed on to the program" if by_signal(error) else ""
            self.end(self.failed(Failure(type(error).__name__, message, [])))

    def failed(self, failure: Failure, stuck: bool = False) -> Message:
        """The message for an error that ended the code."""
        kind = {"": "exception", "timeout": "timeout"}.get(self.interrupted, "interrupted")
        message, advice = failure.message, ""
        if kind == "timeout":
            message = f"it took longer than its limit of {self.limit:g} s"
            advice = "give it a longer limit"
        elif kind == "interrupted" or failure.name == Interrupted.__name__:
            kind, message = "interrupted", "interrupted"
        return {
            "type": "error", "kind": kind, "name": failure.name, "message": message,
            "traceback": failure.traceback, "stuck": stuck, "advice": advice,
        }  # fmt: skip

    @property
    def limit(self) -> float | None:
        """Seconds that it may take."""
        limit = self.request.timeout
        if self.request.kind == "exec":
            return limit
        return QUESTION_LIMIT if limit is None else min(limit, QUESTION_LIMIT)

    # Telling it to end.

    def interrupt(self, why: str) -> str:
        """Tell it, for the first time or again; returns how, as a sentence."""
        self.interrupted = self.interrupted or why
        self.told_at = self.told_at or time.monotonic()
        self.told += 1
        if self.place in (HUB, LOOP):
            # Whichever comes first: it waits and the hub gets to this, or it runs and the thread does.
            self._strikes[:] = [1]
            pending.call_in_main(self._strike)
            if not self._called:  # one that is blocked keeps each
                self._called = True
                self._called = self._session.places.call(self._strike_waiting) and self._called
            what = "greenlet" if self.place == HUB else "task"
            return f"its {what} is told to end, when it waits or when it runs Python code next"
        with self._lock:
            if self._exposed and not self.over:
                self._strikes[:] = [1]
                # One that waits in a hub of its own is told as the program's greenlets are.
                if not call_in_hub_of(self._ident, self._strike_waiting):
                    pending.raise_in(self._ident)
        return f"the code in {AT[self.place]} is told to end when it runs Python code next"

    def _strike(self) -> None:
        """In the main thread, between two instructions of whatever runs there."""
        if not self._exposed or output.current() is not self.output:
            return
        spared = spares(sys._getframe(1))
        if spared:
            if spared is OURS:
                pending.call_in_main(self._strike)  # in a moment
            # The program's may take long, and to ask at each of its steps would slow it down a hundredfold. The code
            # is told again anyway, or comes to wait.
            return
        if not self._is_current():
            raise Interrupted  # it is one that the command has spawned; its own is still to be told
        if self._strikes:
            self._strikes.clear()
            raise Interrupted

    def _is_current(self) -> bool:
        if self.place == LOOP:
            asyncio: Any = sys.modules["asyncio"]
            try:
                return asyncio.current_task() is self._runner
            except RuntimeError:  # in a callback that it has left behind, the loop is not running
                return False
        greenlet: Any = sys.modules["greenlet"]
        return greenlet.getcurrent() is self._runner

    def _strike_waiting(self) -> None:
        """In a callback of its hub or loop: its own greenlet or task waits."""
        self._called = False
        if not self._exposed or not self._strikes:
            return
        self._strikes.clear()
        if self.place == LOOP:
            self._runner.cancel()
        elif self.place == HUB:
            self._runner.kill(Interrupted, block=False)
        else:
            self._runner.throw(Interrupted)


#: Calls from the innermost one outwards that are looked at for what is not to be interrupted.
NEAR = 50
#: What `spares` finds: calls of the program, and a write of our own or a step of the loop's, which are short.
THEIRS, OURS = "theirs", "ours"
#: Their functions call what the program wants to have done when an object is freed.
_FREEING = (weakref.__file__, _weakrefset.__file__)
#: Between two of its steps it may hold the lock of a module.
_IMPORTING = "<frozen importlib._bootstrap>"


def spares(frame: FrameType | None) -> str:
    """What would be interrupted that must not be, within the client's code; empty if there is nothing.

    An object of the program's may be freed there, and a signal may come: what its destructor or handler raises is
    lost, and so is the rest of what it had to do. And when a coroutine has paused, the loop still has to be told when
    it goes on.
    """
    importing = frame is not None and frame.f_code.co_filename == _IMPORTING
    found = OURS if importing or _paused() else ""
    handlers = signal_handlers()
    for _ in range(NEAR):
        if frame is None:
            break
        code = frame.f_code
        if code.co_name == "__del__" or code in handlers or code.co_filename in _FREEING:
            return THEIRS
        if code.co_filename == output.__file__:
            found = OURS
        frame = frame.f_back
    return found


def _paused() -> bool:
    """Whether there is a current task whose coroutine does not run."""
    task = getattr(sys.modules.get("asyncio"), "current_task", None)
    try:
        coroutine = None if task is None else task().get_coro()
    except (AttributeError, RuntimeError):  # no task, no loop
        return False
    return getattr(coroutine, "cr_running", True) is False


def runs_here(frame: FrameType | None) -> bool:
    """Whether this is a command's own greenlet or task, and not one that it has left behind."""
    while frame is not None:
        if frame.f_code is _RUN:
            return True
        frame = frame.f_back
    return False


_RUN = Command._run.__code__


#: Seconds that a question (completion, inspection, a page) may take.
QUESTION_LIMIT = 5.0


def started(command: Command, reason: str) -> Message:
    """The message that a command begins in its place."""
    return {"type": "started", "id": command.request.id, "where": command.place, "reason": reason}


def described(error: BaseException, command: Command) -> Answer:
    """The answer for what the client's code raised. Calls the program's code."""
    return Answer(command.failed(failure_of(error)))
