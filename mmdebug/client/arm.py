"""Have an armed process listen: send it the signal that it waits for, and only if it still waits for it."""

from __future__ import annotations

import os
import signal
import time

from mmstats import process

from .. import endpoint
from ..endpoint import Endpoint
from ..errors import AttachError
from . import discovery
from .discovery import Candidate

#: Seconds that it may take until it listens.
PATIENCE = 5.0
_PAUSE = 0.02


def arm(target: str, path: str | None = None, timeout: float = PATIENCE) -> tuple[Candidate, int]:
    """Send the process its signal, and wait until it listens: the process, and the signal (0 if it listened before).

    Raises `mmstats.TargetError`, and `AttachError` if it is not armed, if the signal would not be
    caught, or if it does not listen in time.
    """
    candidate = discovery.choose(target, path)
    if candidate.manhole == "open":
        return candidate, 0
    if candidate.manhole == "none":
        raise discovery.not_listening(candidate)
    if not candidate.path:
        raise AttachError(f"{candidate.who} has no stat file, so it can't be told whether it is still the same")
    number = _send(candidate, candidate.arms[-1])
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = discovery.candidate_of(candidate.path)
        if found.manhole == "open":
            return found, number
        if found.alive is False:
            raise AttachError(f"{candidate.who} has ended; `mmdebug postmortem {candidate.path}` tells why")
        time.sleep(_PAUSE)
    raise AttachError(
        f"{candidate.who} was sent {name_of(number)}, and does not listen yet: it will when its main thread comes to"
        " handle signals, which a call of C may hold up"
    )


def name_of(number: int) -> str:
    """A signal's name, as far as it has one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        low = getattr(signal, "SIGRTMIN", number)
        return f"SIGRTMIN+{number - low}" if number > low else f"signal {number}"


def _send(candidate: Candidate, end: Endpoint) -> int:
    """Send the signal of a note, after all that tells that its process waits for it."""
    who = candidate.who
    descriptor = endpoint.open_directory(end.directory, end.uid)
    try:
        note = endpoint.read_note(descriptor, end.name)
    finally:
        os.close(descriptor)
    if note is None or note["pid"] != candidate.pid:
        raise AttachError(f"{end.path} is no note of {who}")
    if note.get("pid_namespace") != process.pid_namespace():
        raise AttachError(f"{who} is in another pid namespace: run `mmdebug arm` in its container")
    pid, number = note["pid"], note["signal"]
    try:
        # Held before it is looked at: what is looked at is what the signal goes to, also if the pid is reused.
        held = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
    except ProcessLookupError:
        raise AttachError(f"{who} has ended") from None
    except OSError:
        held = -1  # an old kernel
    try:
        _check(who, pid, note["start_time"], number, end.uid)
        if held >= 0:
            signal.pidfd_send_signal(held, number)
        else:
            os.kill(pid, number)
    except (OSError, ValueError) as error:
        raise AttachError(f"{who} can't be sent {name_of(number)}: {error}") from error
    finally:
        if held >= 0:
            os.close(held)
    return number


def _check(who: str, pid: int, start_time: int, number: int, uid: int) -> None:
    """Raise `AttachError` unless this is the process that wrote the note, and it catches the signal."""
    started = process.start_ticks(pid)
    if not started or started != start_time:
        raise AttachError(f"{who} has ended, or it can't be told whether pid {pid} is still the same")
    owner = os.stat(f"/proc/{pid}").st_uid
    if owner != uid:
        raise AttachError(f"pid {pid} belongs to uid {owner}, and the note to uid {uid}")
    if not caught(pid, number):
        raise AttachError(
            f"{who} does not catch {name_of(number)} any more: it is not sent, since it could end the process"
        )


def caught(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal; False also if that can't be told."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"SigCgt:"):
                    return 0 < number <= 64 and bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except (OSError, ValueError, IndexError):
        pass
    return False
