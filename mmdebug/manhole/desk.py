"""The requests of one client: checked, vetted, noted, and then run or answered. One for each session.

All of it happens in the session's native thread. What runs a client's code is the `Executor`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from .. import protocol
from ..errors import ProtocolError
from ..protocol import Frame, Message, choice_of, flag_of, number_of, text_of, whole_of
from ..records import SEVERITIES
from ..stacks.take import take
from . import files
from .access import Access, Vetting
from .auditing import Audit
from .execution import Executor, Request
from .places import Places
from .settings import PLACES, Settings

#: What evaluates something of the client's, one at a time.
EVALUATING = ("exec", "page", "complete", "inspect")
#: What is answered at once: it tells nothing of the application, or ends something.
FREE = ("interrupt", "where", "ping")
FINAL = ("result", "error", "completions", "inspection")

#: Requests that wait for `authorize`, and events that are followed, at a time.
VETTED = 8
FOLLOWED = 4
#: Requests that wait for the hub or the loop to come round, and seconds after which one that did not is asked anew.
ASKED = 64
ANEW = 5.0
#: Seconds between two looks at the events, and within which a hub or loop has to answer.
LOOK = 0.2
ANSWER = 0.5
#: Events in one message: of the largest ones, as many as fit.
BATCH = 30

Reply = Callable[[Message, bytes], None]


def failure(request: int | None, kind: str, message: str, name: str = "", advice: str = "") -> Message:
    """The last reply to a request that was not run."""
    return {
        "type": "error",
        "id": request,
        "kind": kind,
        "name": name,
        "message": message,
        "traceback": [],
        "where": "",
        "seconds": 0.0,
        "output": {"bytes": 0, "dropped": 0},
        "stuck": False,
        "advice": advice,
    }


class _Follower:
    def __init__(self, events: files.Events, due: float) -> None:
        self.events = events
        self.due = due


class _Probe:
    """Asks the hub or the loop to come round. One serves all who ask meanwhile: one that is blocked keeps each."""

    def __init__(self, now: float, wake: Callable[[], None]) -> None:
        self.began = now
        self.came: float | None = None
        self._wake = wake

    def __call__(self) -> None:
        self.came = time.monotonic()
        self._wake()


class Desk:
    """
    reply: sends a message to the client
    wake: has `step` called soon
    make_executor: called when the first code is to run
    """

    def __init__(
        self,
        settings: Settings,
        audit: Audit,
        places: Places,
        wake: Callable[[], None],
        reply: Reply,
        make_executor: Callable[[], Executor],
    ) -> None:
        self._settings = settings
        self._audit = audit
        self._places = places
        self._wake = wake
        self._reply = reply
        self._make_executor = make_executor
        self._executor: Executor | None = None
        self._running: Request | None = None
        self._began = 0.0
        #: Requests that were answered though they could not be stopped.
        self._stuck: set[int] = set()
        self._vetted: list[tuple[Vetting, Access, int, Message]] = []
        self._followers: dict[int, _Follower] = {}
        self._probe: _Probe | None = None
        self._asking: list[tuple[int, float, _Probe]] = []

    @property
    def busy(self) -> bool:
        """Whether something is going on that the client waits for."""
        return bool(self._running or self._vetted or self._followers or self._asking)

    @property
    def running(self) -> bool:
        """Whether the client's code runs, or is about to."""
        return self._running is not None or any(access.action in EVALUATING for _, access, _, _ in self._vetted)

    # What comes.

    def take(self, message: Message) -> None:
        """Deal with one request. Raises `ProtocolError` if it has no number, so that nothing can be answered."""
        request = whole_of(message, "id", low=1)
        kind = message["type"]
        if kind not in _ANSWERS and kind not in EVALUATING:
            self._fail(request, "protocol", f"no request is called {kind[:40]!r}")
            return
        try:
            access = self._access(kind, message)
        except ProtocolError as error:
            self._fail(request, "protocol", str(error))
            return
        if kind in EVALUATING:
            if self._settings.read_only:
                self._audit.refused(kind, "this manhole is read-only", access.code)
                self._fail(
                    request, "refused", "this manhole is read-only: it answers questions and evaluates nothing",
                    advice="stacks, stats and events can be asked for",
                )  # fmt: skip
                return
            if self.running:
                self._fail(
                    request, "busy", "something else runs in this session", advice="interrupt it, or connect once more"
                )
                return
        if request in self._followers or any(request == number for _, _, number, _ in self._vetted):
            self._fail(request, "protocol", f"the number {request} is taken")
        elif kind in FREE:
            self._do(request, message, access)
        elif len(self._vetted) >= VETTED:
            self._fail(request, "busy", "too much waits for the application to allow it")
        else:
            self._vetted.append((Vetting(self._settings.authorize, access, self._wake), access, request, message))
            self._let_in(time.monotonic())

    def _access(self, kind: str, message: Message) -> Access:
        """What a request is about. Raises `ProtocolError` if its fields are not what they should be."""
        code = where = ""
        if kind in ("exec", "complete", "inspect"):
            code = text_of(message, "code", limit=protocol.MAX_CODE)
        if kind == "exec":
            where = choice_of(message, "where", PLACES, "auto")
        if kind in EVALUATING:
            self._request(1, message)
        elif kind == "events":
            choice_of(message, "severity", SEVERITIES, "debug")
            flag_of(message, "follow")
            if message.get("last") is not None:
                whole_of(message, "last")
        elif kind == "stacks":
            flag_of(message, "all")
        elif kind == "interrupt":
            whole_of(message, "of", low=1)
        return Access(kind, self._audit.peer, code, where)

    def _request(self, request: int, message: Message) -> Request:
        kind = message["type"]
        timeout = number_of(message, "timeout")
        return Request(
            id=request,
            kind=kind,
            code=text_of(message, "code", "", limit=protocol.MAX_CODE),
            mode=choice_of(message, "mode", ("cell", "eval", "exec"), "cell"),
            where=choice_of(message, "where", PLACES, "auto"),
            timeout=self._settings.timeout if timeout is None else timeout or None,
            value=flag_of(message, "value"),
            cursor=whole_of(message, "cursor", 0, high=protocol.MAX_CODE),
            detail=whole_of(message, "detail", 0, high=1),
            start=whole_of(message, "start", 0),
        )

    def _let_in(self, now: float) -> None:
        """Deal with what the application has answered about."""
        for item in list(self._vetted):
            vetting, access, request, message = item
            denial = vetting.answer(now)
            if denial is None:
                continue
            self._vetted.remove(item)
            if denial:
                self._audit.refused(access.action, denial, access.code)
                self._fail(request, "denied", denial)
            else:
                self._do(request, message, access)

    def _do(self, request: int, message: Message, access: Access) -> None:
        try:
            if access.action in EVALUATING:
                self._evaluate(request, message, access)
            else:
                _ANSWERS[access.action](self, request, message)
        except Exception as error:  # ours, and no reason to leave the client without an answer
            self._running = None
            self._fail(request, "exception", f"mmdebug failed: {error}", type(error).__name__)

    def _evaluate(self, request: int, message: Message, access: Access) -> None:
        wanted = self._request(request, message)
        if access.action == "exec":
            self._audit.run(request, access.where, access.code)
        else:
            self._audit.asked(request, access.action, access.code)
        if self._executor is None:
            self._executor = self._make_executor()
        self._running, self._began = wanted, time.monotonic()
        self._executor.submit(wanted)

    # Questions.

    def _stacks(self, request: int, message: Message) -> None:
        everything = flag_of(message, "all")
        self._audit.asked(request, "stacks")
        body = json.dumps(take(everything).to_dict(), separators=(",", ":")).encode("ascii")
        if len(body) > protocol.MAX_BODY:
            self._fail(request, "refused", f"the stacks take {len(body)} bytes, more than one message may have")
            return
        self._reply({"type": "stacks", "id": request}, body)

    def _stats(self, request: int, message: Message) -> None:
        self._file(request, "stats", files.stats_path())

    def _box(self, request: int, message: Message) -> None:
        self._file(request, "box", files.box_path())

    def _file(self, request: int, kind: str, path: str | None) -> None:
        self._audit.asked(request, kind)
        body, problem = files.content(path)
        self._reply({"type": kind, "id": request, "problem": problem}, body)

    def _events(self, request: int, message: Message) -> None:
        self._audit.asked(request, "events")
        if len(self._followers) >= FOLLOWED:
            self._fail(request, "busy", "too many others are followed in this session")
            return
        try:
            events = files.Events(choice_of(message, "severity", SEVERITIES, "debug"))
        except Exception as error:  # the file has gone, or is damaged
            self._fail(request, "refused", f"the events can't be read: {error}")
            return
        found = events.new()
        last = message.get("last")
        follow = flag_of(message, "follow")
        self._send_events(request, found[-last:] if last else found if last is None else [], follow)
        if follow:
            self._followers[request] = _Follower(events, time.monotonic() + LOOK)
        else:
            events.close()

    def _send_events(self, request: int, events: list[dict[str, Any]], more: bool) -> None:
        for at in range(0, len(events) or 1, BATCH):
            further = more or at + BATCH < len(events)
            self._reply({"type": "events", "id": request, "events": events[at : at + BATCH], "more": further}, b"")

    def _where(self, request: int, message: Message) -> None:
        now, probe = time.monotonic(), self._probe
        if len(self._asking) >= ASKED:
            self._fail(request, "busy", "too many others ask the same")
            return
        if probe is None or probe.came is not None or now >= probe.began + ANEW:
            probe = _Probe(now, self._wake)
            if not self._places.call(probe):
                self._say_where(request, None, 0.0)
                return
            self._probe = probe
        self._asking.append((request, now, probe))

    def _say_where(self, request: int, answers: bool | None, seconds: float) -> None:
        kind = self._places.kind()
        place = {"gevent": "gevent's hub", "asyncio": "the asyncio loop", "threads": "a native thread"}[kind]
        reply = {"type": "where", "id": request, "place": place, "kind": kind, "answers": answers is not False}
        self._reply({**reply, "seconds": seconds, "places": self._places.names()}, b"")

    def _ping(self, request: int, message: Message) -> None:
        self._reply({"type": "pong", "id": request}, b"")

    def _interrupt(self, request: int, message: Message) -> None:
        of = whole_of(message, "of", low=1)
        how = f"nothing of the number {of} is going on"
        follower = self._followers.pop(of, None)
        waiting = [item for item in self._vetted if item[2] == of]
        if follower is not None:
            how = "it is not followed any more"
            follower.events.close()
            self._reply({"type": "events", "id": of, "events": [], "more": False}, b"")
        elif waiting:
            how = "it had not begun"
            self._vetted.remove(waiting[0])
            self._fail(of, "interrupted", "interrupted before it began")
        elif self._executor is not None and (
            of in self._stuck or (self._running is not None and self._running.id == of)
        ):
            how = self._executor.interrupt()
        self._reply({"type": "interrupted", "id": request, "how": how}, b"")

    # What goes on.

    def step(self, now: float, room: bool) -> float | None:
        """Do what is due, and send what has come if there is `room`; returns when to be called again at the latest."""
        self._let_in(now)
        due = [vetting.deadline for vetting, _, _, _ in self._vetted]
        for item in list(self._asking):
            request, began, probe = item
            came = probe.came
            if came is not None or now >= began + ANSWER:
                self._asking.remove(item)
                self._say_where(request, came is not None, (now if came is None else came) - began)
            else:
                due.append(began + ANSWER)
        for request, follower in self._followers.items():
            if now >= follower.due and room:
                found = follower.events.new()
                if found:
                    self._send_events(request, found, True)
                follower.due = now + LOOK
            due.append(max(follower.due, now + LOOK / 4))
        if self._executor is not None:
            again = self._executor.tick()
            if again is not None:
                due.append(now + again)
            if room:
                for frame in self._executor.outgoing():
                    self._pass_on(frame)
        return min(due) if due else None

    def _pass_on(self, frame: Frame) -> None:
        message, body = frame
        running = self._running
        if running is not None and message.get("id") == running.id and message["type"] in FINAL:
            self._running = None
            if message.get("stuck"):
                self._stuck.add(running.id)
            if running.kind == "exec":
                how = "result" if message["type"] == "result" else str(message.get("kind"))
                if message.get("stuck"):
                    how += ", but it still runs"
                seconds = message.get("seconds")
                took = seconds if type(seconds) is float else time.monotonic() - self._began
                self._audit.ended(running.id, how, str(message.get("where", "")), took)
        self._reply(message, body)

    def _fail(self, request: int | None, kind: str, message: str, name: str = "", advice: str = "") -> None:
        self._reply(failure(request, kind, message, name, advice), b"")

    def close(self, why: str) -> None:
        """The client has gone: what it runs is interrupted."""
        if self._running is not None and self._running.kind == "exec":
            self._audit.ended(self._running.id, why, "", time.monotonic() - self._began)
        self._running = None
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()
        self.let_go()

    def forked(self) -> None:
        """In a child: what the parent's session holds is never freed, since its destructors are the parent's to run."""
        _inherited.append(self._executor)
        self.let_go()

    def let_go(self) -> None:
        """Close the files."""
        for follower in self._followers.values():
            follower.events.close()
        self._followers.clear()
        self._vetted.clear()
        self._asking.clear()
        self._probe = None
        self._executor = None


#: In a child: of the parent's sessions.
_inherited: list[object] = []

_ANSWERS: dict[str, Callable[[Desk, int, Message], None]] = {
    "stacks": Desk._stacks,
    "stats": Desk._stats,
    "box": Desk._box,
    "events": Desk._events,
    "where": Desk._where,
    "ping": Desk._ping,
    "interrupt": Desk._interrupt,
}
