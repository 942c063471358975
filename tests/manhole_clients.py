"""Clients of manholes that share no code with ours beyond the frames: raw ones, and a person with ``nc -U``."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from support import wait_for

from mmdebug import endpoint, protocol


def endpoint_of(home: Path, pid: int, kind: str = "socket") -> endpoint.Endpoint:
    """Where a process listens, once it does."""

    def found() -> list[endpoint.Endpoint]:
        return [one for one in endpoint.listening(str(home)) if one.pid == pid and one.kind == kind]

    one: endpoint.Endpoint = wait_for(found, f"the manhole of {pid}")[0]
    return one


#: All connections of a test, which a fixture closes.
opened: list[socket.socket] = []


def connect(home: Path, pid: int) -> socket.socket:
    """Connected, and nothing said."""
    found = endpoint_of(home, pid)
    descriptor = endpoint.open_directory(found.directory, os.geteuid())
    try:
        connected: socket.socket = endpoint.connect(descriptor, found.name)
    finally:
        os.close(descriptor)
    connected.settimeout(20)
    opened.append(connected)
    return connected


class Person:
    """Reads and types text."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.said = ""

    def until(self, ending: str = ">>> ") -> str:
        """What is there, up to a prompt or the end of the connection."""
        text = ""
        while not text.endswith(ending):
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                self.said = "closed"
                break
            text += data.decode()
        return text

    def type(self, line: str, ending: str = ">>> ") -> str:
        """Type a line; returns what is answered, without the prompt."""
        self.socket.sendall(line.encode() + b"\n")
        return self.until(ending).removesuffix(ending)

    def close(self) -> None:
        self.socket.close()


class Raw:
    """Speaks in frames."""

    def __init__(self, connected: socket.socket, origin: dict[str, str] | None = None, greet: bool = True) -> None:
        self.socket = connected
        self.decoder = protocol.Decoder()
        self.frames: list[protocol.Frame] = []
        self.number = 0
        self.preamble = b""
        if greet:
            self.socket.sendall(protocol.PREAMBLE)
            self.send({"type": "hello", "protocol": 1, "origin": origin or {}})
            self.welcome = self.receive()[0]

    def send(self, message: dict[str, Any]) -> None:
        self.socket.sendall(protocol.encode(message))

    def ask(self, kind: str, **fields: Any) -> int:
        self.number += 1
        self.send({"type": kind, "id": self.number, **fields})
        return self.number

    def receive(self) -> protocol.Frame:
        """The next message; raises EOFError at the end of the connection."""
        while not self.frames:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            missing = len(protocol.PREAMBLE) - len(self.preamble)
            self.preamble += data[:missing]
            assert protocol.PREAMBLE.startswith(self.preamble), self.preamble
            self.frames += self.decoder.feed(data[missing:])
        return self.frames.pop(0)

    def reply(self, number: int, *kinds: str) -> protocol.Message:
        """The next message of a request that is of one of these types; those before it are passed over."""
        while True:
            message, body = self.receive()
            if message.get("id") == number and (not kinds or message["type"] in kinds):
                return {**message, "body": body}

    def receive_of(self, number: int) -> str:
        """The type of the next message, which has to be a reply to this request."""
        message, _ = self.receive()
        assert message["id"] == number
        return str(message["type"])

    def run(self, code: str, **fields: Any) -> protocol.Message:
        """Run code to its end."""
        return self.reply(self.ask("exec", code=code, **fields), "result", "error")

    def ended(self) -> bool:
        """Whether the server hangs up, whatever it still says."""
        try:
            while True:
                self.receive()
        except EOFError:
            return True

    def close(self) -> None:
        self.socket.close()


def audit(home: Path, pid: int) -> list[Any]:
    """What is in the box of what clients did, the newest last."""
    import mmdebug

    found = [mmdebug.Process(str(path)) for path in home.glob(f"*-{pid}-*.mmstats")]
    return [event for event in found[0].events if event.name.startswith("manhole.")]
