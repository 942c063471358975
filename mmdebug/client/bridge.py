"""The far end of ``--via``: bytes between our standard streams and a manhole of this machine."""

from __future__ import annotations

import os
import select
import socket
import sys

from mmstats.errors import MmStatsError

from .. import protocol
from . import discovery, opening

#: So much a pipe takes without blocking when it is ready to be written to.
PIECE = 4096
#: Bytes that are read at once.
READ = 1 << 16
#: Bytes that wait in one direction before its other end is not read any more.
FULL = 1 << 18


def bridge(target: str, path: str | None = None, note: discovery.Note | None = None) -> int:
    """Carry bytes until either side ends. What fails is told to the client, as a frame.

    note: takes a sentence if several processes are meant
    """
    inside, outside = sys.stdin.fileno(), sys.stdout.fileno()
    try:
        candidate = discovery.choose(target, path, note)
        if candidate.manhole != "open":
            raise discovery.not_listening(candidate)
        connected = opening.connect_to(candidate)
    except MmStatsError as error:
        message = {"type": "error", "id": None, "kind": "refused", "message": getattr(error, "message", str(error))}
        _write_all(outside, protocol.PREAMBLE + protocol.encode(message))
        return 1
    with connected:
        connected.setblocking(False)
        try:
            relay(inside, outside, connected)
        except OSError:
            pass  # whoever read or wrote there has gone, which is the end as well
    return 0


def relay(inside: int, outside: int, connected: socket.socket) -> None:
    """Carry bytes both ways until either side ends. Raises `OSError` if our client can't be written to any more."""
    server = connected.fileno()
    up, down = bytearray(), bytearray()
    asking = answering = taking = True
    # What was asked for before the end is handed on, and so is what was answered before it.
    while (asking or up) and (answering or down):
        poll = select.poll()
        if asking and answering and len(up) < FULL:
            poll.register(inside, select.POLLIN)
        wanted = (select.POLLIN if len(down) < FULL else 0) | (select.POLLOUT if up else 0)
        if answering and wanted:
            poll.register(server, wanted)
        if down:
            poll.register(outside, select.POLLOUT)
        for descriptor, event in poll.poll():
            if descriptor == outside:
                del down[: os.write(outside, down[:PIECE])]
            elif descriptor == inside:
                came = os.read(inside, READ)
                up += came if taking else b""
                asking = bool(came)
            elif event & select.POLLOUT:
                try:
                    del up[: connected.send(up)]
                except BlockingIOError:
                    pass
                except OSError:
                    # It has hung up: what it said before, such as why, is still to be read.
                    taking = False
                    up.clear()
            else:
                try:
                    came = connected.recv(READ)
                except BlockingIOError:
                    continue
                except OSError:
                    came = b""
                down += came
                answering = bool(came)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
