"""Bytes to and from one client: never blocks, and keeps no more for one that does not read than is allowed."""

from __future__ import annotations

from collections import deque
from typing import Any

from .threads import close, identity

#: Bytes that are taken at once.
CHUNK = 1 << 16
#: Bytes that wait for a client before it is cut off, and before no more output is taken from its command.
MOST = 32 << 20
ENOUGH = 1 << 20


class Channel:
    """A connected native socket.

    gone: nothing more can be sent; the client closed the connection, or was cut off
    """

    def __init__(self, connected: Any) -> None:
        self._socket = connected
        self._file = identity(connected.fileno())
        connected.setblocking(False)
        self._pieces: deque[memoryview] = deque()
        self.waiting = 0
        self.gone = False

    def fileno(self) -> int:
        number: int = self._socket.fileno()
        return number

    def receive(self) -> bytes | None:
        """What has come; empty at the end, None if there is nothing yet."""
        try:
            self._check()
            data: bytes = self._socket.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            self.gone = True
            return b""
        return data

    def send(self, data: bytes) -> None:
        """Send it, or keep it until it can be sent."""
        if self.gone or not data:
            return
        self._pieces.append(memoryview(data))
        self.waiting += len(data)
        self.flush()
        if self.waiting > MOST:
            self.drop()

    def flush(self) -> None:
        """Send what can be sent now."""
        while self._pieces:
            piece = self._pieces[0]
            try:
                self._check()
                sent = self._socket.send(piece)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self.drop()
                return
            self.waiting -= sent
            if sent < len(piece):
                self._pieces[0] = piece[sent:]
            else:
                self._pieces.popleft()

    def drop(self) -> None:
        """Give up what was not sent: the client has gone, or does not read."""
        self.gone = True
        self._pieces.clear()
        self.waiting = 0

    def _check(self) -> None:
        """Raise `OSError` if the program has closed what it does not know, and got the number for a file of its own."""
        if identity(self._socket.fileno()) != self._file:
            raise OSError("it was closed")

    def close(self) -> None:
        self.drop()
        close(self._socket.detach(), self._file)
