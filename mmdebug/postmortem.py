"""What a dead process' file tells: who it was, how it ended, and its last stats.

Nothing is claimed that the file does not say. A store into a map moves no file time, so the time
of a death is unknown; "died" means that the process is gone and never closed its file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import mmstats
from mmstats.errors import TargetError
from mmstats.targets import find, only


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended, as far as its file tells.

    state: ``died``, ``closed``, ``alive`` or ``unknown``
    summary: one sentence for people
    evidence: what that rests on
    """

    state: str
    summary: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PostMortem:
    """One process' file, read after its end.

    process: who it was; see `mmstats.Process`
    stats: its last stats; see `mmstats.Snapshot`
    """

    path: str
    process: mmstats.Process
    ending: Ending
    stats: mmstats.Snapshot

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, for people."""
        return self.stats.problems

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only, as ``mmdebug postmortem --json`` prints them."""
        return {
            "ending": {
                "state": self.ending.state,
                "summary": self.ending.summary,
                "evidence": list(self.ending.evidence),
            },
            **self.stats.to_dict(),
        }

    def to_frame(self) -> Any:
        """The last stats as a pandas DataFrame. Needs pandas."""
        return self.stats.to_frame()


def load(path: str | os.PathLike[str]) -> PostMortem:
    """Read the file that a process left.

    Raises `mmstats.ReadError` if it can't be opened and `mmstats.FormatError` if it is no stat file.
    """
    return postmortem_of(mmstats.read(path))


def postmortem_of(snapshot: mmstats.Snapshot) -> PostMortem:
    """The post-mortem of a file that was read already."""
    return PostMortem(snapshot.path, snapshot.process, ending_of(snapshot), snapshot)


def ending_of(snapshot: mmstats.Snapshot) -> Ending:
    """How the process ended. A pure function of what was read."""
    who = snapshot.process
    evidence = [f"at the time of reading: {who.reason}"]
    if who.exit_status is not None:
        evidence.append(f"its parent was told the wait status {who.exit_status}: {_status(who.exit_status)}")
    if who.state == "closed":
        evidence.insert(0, "its file is marked as closed")
        summary = "It ended cleanly: it closed its file."
        if who.alive:
            summary = "It closed its file, and it still runs."
        return Ending("closed", summary, tuple(evidence))
    evidence.insert(0, "its file was never marked as closed")
    if who.state == "died":
        summary = "It died without closing its file: it was killed, it crashed, or it left by os._exit()."
    elif who.state == "alive":
        summary = "It is alive: this is no post-mortem yet, but a look at a live process."
    else:
        summary = "Whether it is dead can't be told from here."
    return Ending(who.state, summary, tuple(evidence))


def _status(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        import signal

        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exited with {os.waitstatus_to_exitcode(status)}" if os.WIFEXITED(status) else "of unknown meaning"


def deaths(path: str | os.PathLike[str] | None = None, *, service: str | None = None) -> list[PostMortem]:
    """All processes that died without closing their files, the one that started last first."""
    fleet = mmstats.read_all(path, service=service)
    died = [snapshot for snapshot in fleet.values() if snapshot.process.state == "died"]
    return [postmortem_of(snapshot) for snapshot in reversed(died)]


def choose(target: str | None, path: str | None = None) -> PostMortem:
    """The post-mortem that `target` asks for: of a service its newest death, without one the newest of all.

    Raises `mmstats.TargetError` if there is none, or if the target may mean several.
    """
    if target is None:
        found = deaths(path)
        if not found:
            raise TargetError("no process has died here without closing its file; `mmstats ls` shows those that are")
        return found[0]
    candidates = find(target, path)
    if all(candidate.process.service == target for candidate in candidates):
        died = [candidate for candidate in candidates if candidate.process.state == "died"]
        if not died:
            states = ", ".join(sorted({candidate.process.state for candidate in candidates}))
            raise TargetError(f"no process of {target!r} has died without closing its file: they are {states}")
        return postmortem_of(died[-1])
    dead = [candidate for candidate in candidates if candidate.alive is False]
    return postmortem_of(only(target, dead or candidates))
