"""Why a process does not answer any more: it died, it stands still, or the way to it broke."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import mmstats
from mmstats import process
from mmstats.errors import MmStatsError

from ..errors import ConnectionLost

if TYPE_CHECKING:
    from ..postmortem import PostMortem

#: Seconds within which a process that hung up is certainly dead, if it died.
CERTAIN = 1.0
_PAUSE = 0.01


def lost_of(path: str, pid: int, who: str, reason: str) -> ConnectionLost:
    """The error for a local process, after a moment in which its death would become certain.

    path: its stat file; empty if there is none
    pid: 0 if it means another process here
    reason: what is known; empty if it hung up
    """
    if standing_still(pid):
        return ConnectionLost(f"{who} does not answer: it is stopped, as by SIGSTOP or a debugger")
    if _has_died(path, pid):
        found = _postmortem(path)
        return ConnectionLost(f"{who} has died. {found.verdict.summary}" if found else f"{who} has died", found)
    if not reason:
        return ConnectionLost(f"{who} has hung up; it still lives")
    return ConnectionLost(reason if reason.startswith(who) else f"{who}: {reason}")


def standing_still(pid: int) -> bool:
    """Whether a process of this machine is stopped."""
    try:
        with open(f"/proc/{pid or '-'}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[:1] in ([b"T"], [b"t"])
    except OSError:
        return False


def _has_died(path: str, pid: int) -> bool:
    deadline = time.monotonic() + CERTAIN
    while True:
        if _dead(path, pid):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)


def _dead(path: str, pid: int) -> bool:
    if path and os.path.exists(path):
        try:
            return mmstats.read(path).alive is False
        except MmStatsError:
            pass  # damaged: its pid is what is left
    return bool(pid) and process.start_ticks(pid) is None


def _postmortem(path: str) -> PostMortem | None:
    if not path:
        return None
    from ..postmortem import load

    try:
        return load(path)
    except MmStatsError:
        return None
