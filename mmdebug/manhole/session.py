"""One client from its first byte to its last: a native thread that waits in poll for it, and for what it runs.

Nothing here, nor in what it calls, takes a lock of the program's, imports, or logs. A client can send
and leave as it likes: the worst that comes of it is the end of its session.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .. import protocol
from ..endpoint import Credentials
from ..errors import ProtocolError
from ..protocol import PREAMBLE, Message, whole_of
from ..stacks.take import take
from . import greeting, statstext
from .access import Access, Peer, Vetting, look_at, origin_of
from .auditing import Audit
from .channel import ENOUGH, Channel
from .desk import Desk, failure
from .execution import Executor
from .places import Places
from .plain import Plain
from .settings import Settings
from .threads import Wake, poller

#: Seconds of silence after which a client is taken for a person.
SILENCE = 0.2
#: Seconds that a client has for its hello, and that one has that is sent away to take what was said.
HELLO = 10.0
FAREWELL = 2.0
#: Messages of a client that wait to be dealt with, before no more are read.
CROWD = 64

# What a session goes through: it finds out who speaks, waits for the hello of one that speaks in frames and for
# the application to let it in, serves it, and sends what is left to be sent.
OPENING, HELLO_WAITED, VETTING, OPEN, LEAVING, CLOSED = range(6)


class Session:
    """
    number: of the client, counted from the start of the process
    refusal: why it is sent away at once, empty if it is not
    """

    def __init__(
        self, number: int, client: Any, credentials: Credentials, settings: Settings, refusal: str = ""
    ) -> None:
        self._channel = Channel(client)
        self._settings = settings
        self._refusal = refusal
        self.wake = Wake()
        self._places = Places()
        self._peer: Peer = look_at(credentials)
        self._audit = Audit(number, self._peer, self._places)
        self._decoder = protocol.Decoder(max_header=protocol.MAX_REQUEST, max_body=0)
        self._plain: Plain | None = None
        self._desk: Desk | None = None
        self._vetting: Vetting | None = None
        self._messages: deque[Message] = deque()
        self._stage = OPENING
        self._first = b""
        self._end_asked = ""
        self._heard_all = False
        self._why = "it left"
        self._admitted = False
        self._began = self._heard = time.monotonic()
        self._deadline = self._began + SILENCE
        if refusal:
            self._audit.refused("connect", refusal)

    # The loop.

    def serve(self, leaves: Callable[[], bool]) -> bool:
        """Serve the client to its end; False if `leaves` said to stop before, and then it can be called again."""
        while True:
            if leaves():
                return False
            try:
                due = self._step(time.monotonic())
                if self._stage == CLOSED:
                    return True
                self._wait(due)
            except Exception as error:  # ours; whatever it is, it ends this session and nothing else
                self._why = f"mmdebug failed: {type(error).__name__}: {error}"
                self.close()
                return True

    def end(self, why: str) -> None:
        """Called by anybody: send the client away."""
        self._end_asked = why
        self.wake()

    def _step(self, now: float) -> float | None:
        """Do what is due; returns when the next is."""
        self._channel.flush()
        if self._end_asked and self._stage < LEAVING:
            self._send_away("closing", self._end_asked)
        if self._channel.gone:
            self.close()
            return None
        if self._stage == LEAVING:
            if not self._channel.waiting or now >= self._deadline:
                self.close()
            return self._deadline
        if self._stage == OPEN:
            return self._serve(now)
        if self._stage == VETTING:
            return self._let_in(now)
        if now >= self._deadline:
            if self._stage == OPENING and not self._first:
                self._speak_plainly()
            else:
                self._send_away("protocol", "no hello came")
        return self._deadline if self._stage not in (LEAVING, CLOSED) else now

    def _serve(self, now: float) -> float | None:
        desk, plain = self._desk, self._plain
        assert desk is not None
        while self._messages and self._stage == OPEN:
            self._take(self._messages.popleft())
        due = desk.step(now, self._channel.waiting < ENOUGH)
        if desk.busy:
            self._heard = now
        if self._stage != OPEN:
            return now
        if plain is not None and plain.finished:
            self._leave("it left")
            return now
        if self._messages:
            return now  # the person's next line, which waited for this answer
        idle = self._settings.idle_timeout
        if idle is not None:
            if now >= self._heard + idle:
                self._send_away("closing", f"nothing was asked for {idle:g} s")
                return now
            due = min(due, self._heard + idle) if due is not None else self._heard + idle
        return due

    def _wait(self, due: float | None) -> None:
        """Wait for the client, for a call of `wake`, or until `due`."""
        events = select.POLLOUT if self._channel.waiting else 0
        if not self._heard_all and not self._crowded():
            events |= select.POLLIN
        poll = poller()
        poll.register(self._channel.fileno(), events)
        poll.register(self.wake.fileno(), select.POLLIN)
        timeout = None if due is None else max(due - time.monotonic(), 0) * 1000
        for descriptor, happened in poll.poll(timeout):
            if descriptor == self.wake.fileno():
                if not self.wake.clear():
                    raise OSError("its descriptors were closed")
            elif happened & select.POLLIN:
                self._read()
            elif happened & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                self._channel.drop()

    def _crowded(self) -> bool:
        """Whether nothing is to be read now."""
        if self._stage == VETTING:
            return True
        return len(self._messages) > CROWD or (self._plain is not None and self._plain.crowded)

    # What comes.

    def _read(self) -> None:
        data = self._channel.receive()
        if data is None:
            return
        self._heard = time.monotonic()
        if self._stage in (LEAVING, CLOSED):
            self._heard_all = not data
            return
        try:
            if self._plain is not None and not (data.startswith(b"\0") and not self._first):
                self._first = self._first or data[:1]
                self._plain.received(data, not data)
                self._heard_all = not data
            elif not data:
                self._channel.drop()  # one that speaks in frames does not close one way only
            elif self._stage == OPENING or self._plain is not None:
                self._open(data)
            else:
                self._messages.extend([message for message, _ in self._decoder.feed(data)])
                self._greet()
        except ProtocolError as error:
            self._send_away("protocol", str(error))

    def _open(self, data: bytes) -> None:
        """The first bytes tell who speaks. Raises `ProtocolError`."""
        self._first += data
        if self._first[0] != 0:
            self._speak_plainly()
            return
        size = len(PREAMBLE)
        if not PREAMBLE.startswith(self._first[:size]):
            raise ProtocolError(f"this is not the preamble of version {protocol.VERSION} of the protocol")
        self._plain = self._desk = None
        if self._stage != OPENING:
            self._audit.disconnected("it speaks in frames after all", 0)
            self._admitted = False
        self._stage = OPENING
        self._deadline = time.monotonic() + HELLO
        if len(self._first) < size:
            return
        self._stage = HELLO_WAITED
        self._channel.send(PREAMBLE)
        self._messages.extend([message for message, _ in self._decoder.feed(self._first[size:])])
        self._greet()

    def _greet(self) -> None:
        """Deal with the hello if it is there. Raises `ProtocolError`."""
        if self._stage != HELLO_WAITED or not self._messages:
            return
        hello = self._messages.popleft()
        if hello["type"] != "hello":
            raise ProtocolError("the first message has to be a hello")
        if whole_of(hello, "protocol") != protocol.VERSION:
            raise ProtocolError(f"this manhole speaks version {protocol.VERSION} of the protocol")
        peer = self._peer
        self._peer = Peer(
            peer.pid, peer.uid, peer.gid, peer.login, peer.tty, peer.command, origin_of(hello.get("origin"))
        )
        self._audit.peer = self._peer
        self._vet()

    def _speak_plainly(self) -> None:
        self._plain = Plain(self._say, self._messages.append, statstext.render)
        self._vet()

    def _vet(self) -> None:
        """Have the application say whether it may come in, unless it may not in any case."""
        if self._refusal:
            self._send_away("refused", self._refusal)
            return
        self._stage = VETTING
        self._vetting = Vetting(self._settings.authorize, Access("connect", self._peer), self.wake)
        self._let_in(time.monotonic())

    def _let_in(self, now: float) -> float | None:
        vetting = self._vetting
        assert vetting is not None
        denial = vetting.answer(now)
        if denial is None:
            return vetting.deadline
        self._vetting = None
        if denial:
            self._audit.refused("connect", denial)
            self._send_away("denied", denial)
            return now
        self._stage, self._admitted = OPEN, True
        self._audit.connected("plain" if self._plain is not None else "frames")
        self._desk = Desk(
            self._settings, self._audit, self._places, self.wake, self._reply, self._make_executor
        )  # fmt: skip
        if self._plain is not None:
            self._plain.begin(greeting.banner(self._settings, self._places))
            self._plain.received(self._first)
        else:
            self._reply(greeting.welcome(self._settings, self._places), b"")
        return now

    def _make_executor(self) -> Executor:
        return Executor(greeting.namespace(self._settings), self._settings, self.wake, take)

    def _take(self, message: Message) -> None:
        if message["type"] == "bye":
            self._leave("it left")
            return
        assert self._desk is not None
        try:
            self._desk.take(message)
        except ProtocolError as error:
            self._send_away("protocol", str(error))

    # What is sent.

    def _reply(self, message: Message, body: bytes) -> None:
        if self._plain is not None:
            self._plain.reply(message, body)
            return
        try:
            data = protocol.encode(message, body)
        except ProtocolError as error:
            data = protocol.encode(failure(message.get("id"), "refused", str(error)))
        self._channel.send(data)

    def _say(self, text: str) -> None:
        self._channel.send(text.encode("utf-8", "backslashreplace"))

    def _send_away(self, kind: str, why: str) -> None:
        """Say why, and end."""
        if self._plain is not None:
            self._say(f"\nmmdebug: {kind}: {why}\n")
        elif self._stage > OPENING or self._first.startswith(b"\0"):
            if self._stage == OPENING:
                self._channel.send(PREAMBLE)
            self._reply(failure(None, kind, why), b"")
        self._leave(f"{kind}: {why}")

    def _leave(self, why: str) -> None:
        self._why = why
        self._stage = LEAVING
        self._deadline = time.monotonic() + FAREWELL
        self._heard_all = True
        self._messages.clear()
        if self._desk is not None:
            self._desk.close(why)

    def close(self) -> None:
        """The end. Raises nothing; a second call does nothing."""
        if self._stage == CLOSED:
            return
        self._stage = CLOSED
        desk, self._desk, self._plain, self._vetting = self._desk, None, None, None
        try:
            if desk is not None:
                desk.close("the client has gone")
            if self._admitted:
                self._audit.disconnected(self._why, time.monotonic() - self._began)
        except Exception:  # an interrupt that failed must not keep the socket
            pass
        self._channel.close()

    def forked(self) -> None:
        """In a child: it is the parent's; close our copies of its descriptors."""
        self._stage = CLOSED
        self._channel.close()
        self.wake.close()
        if self._desk is not None:
            self._desk.forked()
