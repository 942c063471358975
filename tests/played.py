"""A manhole's end of the protocol, played by a test: it answers what the test tells it to, good or evil."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmdebug import endpoint, protocol
from mmdebug.protocol import Message

#: What `Played` sends: a message, a message with a body, or raw bytes.
Reply = Message | tuple[Message, bytes] | bytes
Script = Callable[[Message], Iterable[Reply]]

WELCOME: Message = {
    "type": "welcome", "protocol": 1, "pid": os.getpid(), "uid": os.getuid(), "service": "played", "uuid": "",
    "host": "here", "python": "3.11", "versions": {}, "kind": "threads", "read_only": False, "stats_file": "",
    "limits": {"timeout": 30, "idle": None, "output": 1000, "result": 1000}, "names": ["app"],
}  # fmt: skip


class Played:
    """A socket of this process in `home`, and a thread for each client that answers its messages by `script`.

    It hangs up after a goodbye, and if `script` raises `EOFError`.
    """

    def __init__(self, home: Path, script: Script, *, greeting: bytes | None = None, pid: int | None = None) -> None:
        self.heard: list[Message] = []
        self.target = str(pid or os.getpid())
        self._script = script
        self._greeting = greeting
        _, self.descriptor = endpoint.make_directory(str(home))
        self.name = endpoint.name_for(int(self.target), "0123abcd")
        self._listener: socket.socket = endpoint.bind(self.descriptor, self.name)
        self._connected: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def heard_of(self, kind: str) -> list[Message]:
        return [message for message in self.heard if message["type"] == kind]

    def close(self) -> None:
        _shut(self._listener)
        self._threads[0].join(20)
        for connected in self._connected:
            _shut(connected)
        for thread in self._threads:
            thread.join(20)
        for one in [self._listener, *self._connected]:
            one.close()
        os.close(self.descriptor)

    def _listen(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            self._connected.append(connected)
            self._threads.append(threading.Thread(target=self._serve, args=(connected,)))
            self._threads[-1].start()

    def _serve(self, connected: socket.socket) -> None:
        try:
            self._talk(connected)
        except (OSError, EOFError):
            pass  # the client has gone, or the script hangs up
        finally:
            _shut(connected)

    def _talk(self, connected: socket.socket) -> None:
        begin = b""
        while len(begin) < len(protocol.PREAMBLE):
            begin += connected.recv(len(protocol.PREAMBLE) - len(begin)) or _hang_up()
        connected.sendall(protocol.PREAMBLE if self._greeting is None else self._greeting)
        decoder = protocol.Decoder()
        while True:
            for message, _ in decoder.feed(connected.recv(1 << 16) or _hang_up()):
                self.heard.append(message)
                for reply in self._script(message):
                    connected.sendall(_bytes_of(reply))
                if message["type"] == "bye":
                    return


def polite(script: Script) -> Script:
    """`script`, with an answer to hello before it, and none to a goodbye."""

    def answer(message: Message) -> Iterable[Reply]:
        if message["type"] == "bye":
            return []
        return [WELCOME] if message["type"] == "hello" else script(message)

    return answer


def result(message: Message, text: str = "", **more: Any) -> Message:
    """A result of a command."""
    found: Message = {
        "type": "result", "id": message["id"], "data": {"text/plain": text} if text else {}, "metadata": {},
        "cut": False, "shown": None, "total": None, "arrow": False, "value_problem": "", "where": "native",
        "seconds": 0.5, "output": {"bytes": 0, "dropped": 0},
    }  # fmt: skip
    return {**found, **more}


def _bytes_of(reply: Reply) -> bytes:
    if isinstance(reply, bytes):
        return reply
    return protocol.encode(*reply) if isinstance(reply, tuple) else protocol.encode(reply)


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is already


def _hang_up() -> bytes:
    raise EOFError
