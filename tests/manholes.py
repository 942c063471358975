"""Manholes that a test plays: real sockets where clients look for them, and whatever answers the test wants."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdebug import endpoint, protocol
from mmdebug.protocol import PREAMBLE, Decoder, Message

#: What is sent: a message, one with a body, or bytes as they are.
Reply = Message | tuple[Message, bytes] | bytes
Script = Callable[[Message], Any]

WELCOME: Message = {
    "type": "welcome",
    "protocol": protocol.VERSION,
    "pid": os.getpid(),
    "uid": os.getuid(),
    "service": "played",
    "uuid": "0123abcd" * 4,
    "host": "here",
    "python": "3.11.0",
    "versions": {},
    "kind": "threads",
    "read_only": False,
    "stats_file": "",
    "limits": {"timeout": 30.0, "idle": 1800.0, "output": 1 << 20, "result": 1 << 16},
    "names": [],
}


def polite(script: Script) -> Script:
    """A script that greets and lets go by itself, and asks `script` for all other answers."""

    def answer(message: Message) -> Any:
        if message["type"] == "hello":
            return [{**WELCOME, "pid": os.getpid()}]
        return [] if message["type"] == "bye" else script(message)

    return answer


def result(message: Message, text: str = "", **fields: Any) -> Message:
    """The result of a command, of this text; any field can be another."""
    return {
        "type": "result",
        "id": message["id"],
        "data": {"text/plain": text},
        "metadata": {},
        "cut": False,
        "shown": None,
        "total": None,
        "arrow": False,
        "value_type": "",
        "value_problem": "",
        "where": "native",
        "seconds": 0.0,
        "output": {"bytes": 0, "dropped": 0},
        **fields,
    }


class Played:
    """
    script: the replies to each message; an EOFError hangs up
    greeting: what is said first
    pid: in whose name it listens

    target: how clients find it; heard: all messages that came
    """

    def __init__(self, home: Path, script: Script, *, greeting: bytes = PREAMBLE, pid: int | None = None) -> None:
        self._script = script
        self._greeting = greeting
        self.target = str(pid or os.getpid())
        self.name = endpoint.name_for(pid or os.getpid(), "0123abcd")
        self.heard: list[Message] = []
        self._connected: list[Any] = []
        _, self._descriptor = endpoint.make_directory(str(home))
        self._socket = endpoint.bind(self._descriptor, self.name)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def heard_of(self, kind: str) -> list[Message]:
        """The messages of one type."""
        return [message for message in self.heard if message["type"] == kind]

    def _listen(self) -> None:
        while True:
            try:
                connected, _ = self._socket.accept()
            except OSError:
                return  # closed
            self._connected.append(connected)
            threading.Thread(target=self._talk, args=(connected,), daemon=True).start()

    def _talk(self, connected: Any) -> None:
        decoder = Decoder()
        missing = len(PREAMBLE)
        try:
            connected.sendall(self._greeting)
            while data := connected.recv(1 << 16):
                rest = data[missing:]
                missing = max(missing - len(data), 0)
                for message, _ in decoder.feed(rest):
                    self.heard.append(message)
                    for reply in self._script(message):
                        connected.sendall(_bytes(reply))
        except (OSError, EOFError, StopIteration):
            pass  # the client has gone, or is to go
        finally:
            connected.close()

    def close(self) -> None:
        self._socket.shutdown(2)
        self._socket.close()
        self._thread.join()
        for connected in self._connected:
            try:
                connected.shutdown(2)
            except OSError:
                pass  # it has ended
        os.close(self._descriptor)


def _bytes(reply: Reply) -> bytes:
    if isinstance(reply, bytes):
        return reply
    return protocol.encode(*reply) if isinstance(reply, tuple) else protocol.encode(reply)
