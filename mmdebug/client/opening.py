"""Open connections: to a process of this machine, with a look at who is there, or through a command."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence

from mmstats import process, redact

from .. import endpoint, protocol
from ..endpoint import Endpoint
from ..errors import AttachError, ConnectionLost, ProtocolError
from ..protocol import Decoder, Message
from . import data
from .connection import Connection
from .discovery import Candidate, Note, not_listening
from .loss import lost_of, standing_still
from .transport import Local, Transport, Via

#: Seconds that an answer may take, of a process here, and of one that a command has to reach first.
HERE, ELSEWHERE = 5.0, 60.0
#: Seconds after which it is said that somebody is waited for.
LONG = 1.0

REMOTE = ("python3", "-m", "mmdebug")

_BEGIN = protocol.PREAMBLE[:9]


def open_local(candidate: Candidate, timeout: float | None = None, note: Note | None = None) -> Connection:
    """A connection to a process of this machine. Raises `AttachError`."""
    if candidate.manhole != "open":
        raise not_listening(candidate)
    connected = connect_to(candidate, timeout or HERE)
    pid, who, path = candidate.pid, candidate.who, candidate.path

    def lost(reason: str) -> ConnectionLost:
        return lost_of(path, pid if candidate.visible else 0, who, reason)

    transport = Local(connected)
    connection = _greeted(transport, timeout or HERE, who, lost, note, "")
    if connection.welcome.pid != pid:
        connection.close()
        raise AttachError(f"what listens in the name of {who} says that it is pid {connection.welcome.pid}")
    return connection


def open_via(
    via: Sequence[str],
    target: str,
    *,
    path: str | None = None,
    timeout: float | None = None,
    remote: Sequence[str] = REMOTE,
    note: Note | None = None,
) -> Connection:
    """A connection over the standard input and output of a command. Raises `AttachError`.

    via: what reaches the other machine or container, such as ``["kubectl", "exec", "-i", "web-0", "--"]``
    remote: what is `mmdebug` there
    """
    if not via:
        raise AttachError("an empty command reaches nobody")
    bridge = [*remote, "bridge", *(["--path", path] if path else []), "--", target]
    if os.path.basename(via[0]) == "ssh":
        bridge = [shlex.quote(word) for word in bridge]  # ssh hands one string to a shell
    transport = Via([*via, *bridge])
    who = f"{target} by {shlex.join(via)}"
    return _greeted(transport, timeout or ELSEWHERE, who, ConnectionLost, note, shlex.join(via))


def connect_to(candidate: Candidate, timeout: float = HERE) -> socket.socket:
    """A socket to a process of this machine, after a look at who listens there. Raises `AttachError`.

    timeout: seconds to wait for a process that takes in no clients
    """
    problems = []
    for end in candidate.sockets:
        try:
            descriptor = endpoint.open_directory(end.directory, end.uid)
            try:
                connected: socket.socket = endpoint.connect(descriptor, end.name, end.directory, timeout)
            finally:
                os.close(descriptor)
        except (ConnectionRefusedError, FileNotFoundError):
            problems.append(f"{end.path} was left behind: nobody listens there")
            continue
        except BlockingIOError:
            problems.append(_full(candidate))
            continue
        except AttachError as error:
            problems.append(error.message)
            continue
        except OSError as error:
            problems.append(f"{end.path}: {error.strerror or error}")
            continue
        problem = _impostor(candidate, end, connected)
        if not problem:
            return connected
        connected.close()
        problems.append(f"{end.path} is not trusted: {problem}")
    raise AttachError(f"{candidate.who} can't be attached to: {'; '.join(problems)}")


def _full(candidate: Candidate) -> str:
    stopped = standing_still(candidate.pid) if candidate.visible else False
    why = "it is stopped, as by SIGSTOP or a debugger" if stopped else "a call of C in it may hold Python's lock"
    return (
        f"it takes in no clients now, and many wait already: {why}. `py-spy dump --pid {candidate.pid}` may show what"
        " it does"
    )


def _impostor(candidate: Candidate, end: Endpoint, connected: socket.socket) -> str:
    """Why who listens there is not the process that it should be; empty if it is."""
    try:
        peer = endpoint.peer(connected)
    except OSError as error:
        return f"it can't be told who listens: {error.strerror or error}"
    if peer.uid != end.uid:
        return f"uid {peer.uid} listens there, and uid {end.uid} should"
    if candidate.visible and peer.pid not in (0, candidate.pid):
        return f"pid {peer.pid} listens there, and pid {candidate.pid} should"
    owners = _owners(candidate)
    if owners and end.uid not in owners:
        return f"uid {end.uid} listens there, and the process belongs to uid {min(owners)}"
    return ""


def _owners(candidate: Candidate) -> set[int]:
    """Whose the process is: by its stat file, and by the system where its pid can be seen."""
    owners = set()
    paths = [candidate.path] if candidate.path else []
    if candidate.visible and process.start_ticks(candidate.pid):
        paths.append(f"/proc/{candidate.pid}")
    for path in paths:
        try:
            owners.add(os.stat(path).st_uid)
        except OSError:
            pass
    return owners


def origin(via: str) -> dict[str, str]:
    """Who asks, as it says of itself: for the audit of the other side."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container's, without a name
    try:
        tty = os.ttyname(0)
    except OSError:
        tty = ""
    # Word by word: joined, a secret may stand between quotes of a shell's.
    command = shlex.join(redact.argv([*sys.orig_argv[:1], *sys.argv])) if sys.argv else ""
    return {
        "user": user[:100],
        "host": socket.gethostname()[:255],
        "tty": tty[:100],
        "command": command[:500],
        "via": redact.text(via)[:500],
    }


def _greeted(
    transport: Transport,
    timeout: float,
    who: str,
    lost: Callable[[str], ConnectionLost],
    note: Note | None,
    via: str,
) -> Connection:
    """Say hello, and wait for the welcome."""
    try:
        hello = {"type": "hello", "protocol": protocol.VERSION, "origin": origin(via)}
        waiting = _Waiting(transport, timeout, who, lost, note)
        try:
            transport.send(protocol.PREAMBLE + protocol.encode(hello))
        except ConnectionLost:
            pass  # why it hung up may be there to be read
        decoder = Decoder()
        frames = decoder.feed(_after_preamble(waiting))
        while not frames:
            frames = decoder.feed(waiting.more())
        message, body = frames[0]
        if message["type"] == "error":
            raise AttachError(_reason(message, body, who))
        if message["type"] != "welcome" or len(frames) > 1:
            raise ProtocolError(f"{message['type'][:40]!r} where there should be a welcome")
        spoken = protocol.whole_of(message, "protocol")
        if spoken != protocol.VERSION:
            raise AttachError(f"{who} speaks version {spoken} of the protocol, and this is made for {protocol.VERSION}")
        return Connection(transport, data.welcome_of(message), decoder, lost)
    except BaseException:
        transport.close()
        raise


def _reason(message: Message, body: bytes, who: str) -> str:
    error = data.error_of(message, body)
    return f"{who}: {error}" + (f"; {error.advice}" if error.advice else "")


class _Waiting:
    """Bytes from a side that has not said yet who it is."""

    def __init__(
        self,
        transport: Transport,
        timeout: float,
        who: str,
        lost: Callable[[str], ConnectionLost],
        note: Note | None,
    ) -> None:
        self._transport = transport
        self._timeout = timeout
        self._began = time.monotonic()
        self._who = who
        self._lost = lost
        self._note = note

    def more(self) -> bytes:
        """What comes next. Raises `AttachError` if that takes too long, or if it is the end."""
        while True:
            passed = time.monotonic() - self._began
            if passed >= self._timeout:
                raise self._lost(
                    f"{self._who} did not answer within {self._timeout:g} s: a call of C in it may hold Python's lock,"
                    " or the way there is slow"
                )
            if self._note is not None and passed >= LONG:
                self._note(f"waiting for an answer of {self._who} ...")
                self._note = None
            wait = self._timeout - passed if self._note is None else min(LONG, self._timeout) - passed
            came = self._transport.receive(max(wait, 0.001), None)
            if came == b"":
                raise self._lost(self._transport.ended())
            if came is not None:
                return came


def _after_preamble(waiting: _Waiting) -> bytes:
    """What follows the preamble. What ssh or a shell prints before it is skipped."""
    came = bytearray()
    while True:
        came += waiting.more()
        at = came.find(_BEGIN)
        if at >= 0 and len(came) >= at + len(protocol.PREAMBLE):
            spoken = bytes(came[at : at + len(protocol.PREAMBLE)])
            if spoken == protocol.PREAMBLE:
                return bytes(came[at + len(spoken) :])
            if spoken[-1:] == b"\r":
                raise AttachError("the way there changes the ends of lines: ask for no terminal there (no -t)")
            raise AttachError("the other side speaks another version of the protocol: use the same mmdebug there")
        if len(came) > protocol.MAX_PRELUDE + len(protocol.PREAMBLE) and at < 0:
            raise ProtocolError(f"no manhole: it did not greet within {protocol.MAX_PRELUDE} bytes")
