"""Ways to a manhole: a local socket, or the standard input and output of a command that reaches it.

Both are polled together with a descriptor that wakes whoever waits.
"""

from __future__ import annotations

import os
import select
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from mmstats.commands import text

from ..errors import AttachError, ConnectionLost

CHUNK = 1 << 18
#: Seconds that the other side may take to accept what is sent.
SENDING = 30.0
#: What of a command's stderr is kept for messages: lines, and characters of each.
KEPT = 5
WIDTH = 500
#: Seconds that a command has to end by itself when we are done with it.
ENDING = 2.0
#: Milliseconds that poll takes at most.
LONGEST = (1 << 31) - 1


class Transport(Protocol):
    """A way for bytes, both ways. Used by one thread at a time, `close` aside."""

    def send(self, data: bytes) -> None:
        """Send all of it. Raises `ConnectionLost`."""

    def receive(self, timeout: float | None, wake: int | None) -> bytes | None:
        """What has come; empty at the end; None if nothing came in time, or if `wake` can be read."""

    def ended(self) -> str:
        """Why nothing comes any more, for people; empty if that is not known."""

    def close(self) -> None: ...


class Local:
    """A connected socket of this machine."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        connected.setblocking(False)

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        deadline = time.monotonic() + SENDING
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                if not _ready(self._socket.fileno(), select.POLLOUT, deadline):
                    raise ConnectionLost(f"the process took nothing for {SENDING:.0f} s") from None
            except OSError as error:
                raise ConnectionLost(f"the connection broke: {error.strerror or error}") from error

    def receive(self, timeout: float | None, wake: int | None) -> bytes | None:
        if self._socket.fileno() < 0:
            return b""
        if self._socket.fileno() not in _readable([self._socket.fileno(), *_some(wake)], timeout):
            return None
        try:
            return self._socket.recv(CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""  # reset: it is gone

    def ended(self) -> str:
        return ""

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # which wakes a thread that waits for it
        except OSError:
            pass  # it has ended
        self._socket.close()


class Via:
    """A command whose standard input and output reach a manhole; what it says on stderr is passed on, escaped."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self._said: deque[str] = deque(maxlen=KEPT)
        self._line = b""
        # Ctrl-C is for what runs at the other end, and not for what carries our bytes there. Ignored, instead of a
        # session of its own: ssh may have to ask for a password on this terminal.
        guarded = ["/bin/sh", "-c", 'trap "" INT QUIT; exec "$@"', "sh", *command]
        try:
            self._process = subprocess.Popen(
                guarded, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise AttachError(f"{shlex.join(command)}: {error.strerror or error}") from error
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._pipes = [pipe for pipe in pipes if pipe is not None]
        self._in, self._out, self._err = [pipe.fileno() for pipe in self._pipes]
        self._err_open = True
        os.set_blocking(self._in, False)
        self._closed = False
        #: So that no descriptor is used whose number has become another file's since it was found to be ready.
        self._closing = threading.RLock()

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        deadline = time.monotonic() + SENDING
        while rest:
            try:
                with self._closing:
                    rest = rest[os.write(-1 if self._closed else self._in, rest) :]
            except BlockingIOError:
                if not _ready(self._in, select.POLLOUT, deadline):
                    raise ConnectionLost(f"{self.command[0]} took nothing for {SENDING:.0f} s") from None
            except OSError as error:
                raise ConnectionLost(self._end(error.strerror or str(error))) from error

    def receive(self, timeout: float | None, wake: int | None) -> bytes | None:
        if self._closed:
            return b""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            wanted = [self._out, *_some(wake), *([self._err] if self._err_open else [])]
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            ready = _readable(wanted, left)
            came = self._read(ready)
            if came is not None:
                return came
            if wake in ready or not ready or left == 0:
                return None

    def _read(self, ready: set[int]) -> bytes | None:
        """What is there of those that are ready; empty at the end, None if there is nothing for us."""
        with self._closing:
            if self._closed:
                return b""
            if self._err in ready:
                self._read_err()
            return os.read(self._out, CHUNK) if self._out in ready else None

    def _read_err(self) -> None:
        data = os.read(self._err, 1 << 16)
        self._err_open = bool(data)
        *lines, self._line = (self._line + data).split(b"\n")
        if not data or len(self._line) > WIDTH:
            lines.append(self._line)
            self._line = b""
        for line in [line for line in lines if line.strip()]:
            shown = text.printable(line.rstrip(b"\r").decode("utf-8", "replace"))[:WIDTH]
            self._said.append(shown)
            print(shown, file=sys.stderr)

    def ended(self) -> str:
        return self._end("it ended")

    def _end(self, otherwise: str) -> str:
        """How the command ended, with the last that it said."""
        try:
            status: int | None = self._process.wait(1)
        except subprocess.TimeoutExpired:
            status = None
        deadline = time.monotonic() + 1
        while self._err_open and not self._closed and time.monotonic() < deadline:
            if not _ready(self._err, select.POLLIN, deadline):
                break
            self._read({self._err})
        how = (
            otherwise if status is None else f"it ended with {status}" if status >= 0 else f"signal {-status} ended it"
        )
        said = "; ".join(self._said)
        return f"{shlex.join(self.command)}: {how}" + (f": {said}" if said else "")

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for pipe in self._pipes[:2]:
                pipe.close()
        process = self._process
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._pipes[2].close()


def _readable(descriptors: Sequence[int], timeout: float | None) -> set[int]:
    """Those that can be read or have ended, within `timeout` seconds."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if timeout is None else _milliseconds(timeout))}


def _ready(descriptor: int, event: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(_milliseconds(max(deadline - time.monotonic(), 0))))


def _milliseconds(seconds: float) -> float:
    """For poll, which takes no more than an int of C: who wants more waits again."""
    return min(seconds * 1000, LONGEST)


def _some(descriptor: int | None) -> list[int]:
    return [] if descriptor is None or descriptor < 0 else [descriptor]
