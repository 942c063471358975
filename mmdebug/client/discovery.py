"""Who can be attached to on this machine, and what a person means by a target."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import mmstats
from mmstats import directory, process
from mmstats.errors import TargetError
from mmstats.targets import find

from .. import endpoint
from ..endpoint import Endpoint
from ..errors import AttachError
from ..evidence import stem_of
from ..layout import SUFFIX

HOW_TO_OPT_IN = (
    "the program opts in by mmdebug.manhole.install(), or by being run by `mmdebug run --manhole -- COMMAND`"
)
#: Other processes that are named.
MOST = 5

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A process that left a stat file, a socket or a note that a signal arms it.

    snapshot: its stat file; None if it has none
    sockets: where it listens, or did
    arms: notes of the signal that has it listen
    """

    snapshot: mmstats.Snapshot | None
    sockets: tuple[Endpoint, ...] = ()
    arms: tuple[Endpoint, ...] = ()

    @property
    def pid(self) -> int:
        return self.snapshot.process.pid if self.snapshot is not None else (self.sockets + self.arms)[0].pid

    @property
    def service(self) -> str:
        return self.snapshot.process.service if self.snapshot is not None else ""

    @property
    def path(self) -> str:
        """Its stat file; empty if it has none."""
        return self.snapshot.path if self.snapshot is not None else ""

    @property
    def alive(self) -> bool | None:
        if self.snapshot is not None:
            return self.snapshot.alive
        return None if process.start_ticks(self.pid) else False

    @property
    def state(self) -> str:
        """As of `mmstats.Process`."""
        if self.snapshot is not None:
            return self.snapshot.process.state
        return "died" if self.alive is False else "unknown"

    @property
    def manhole(self) -> str:
        """``open``, ``armed`` (a signal opens it) or ``none``."""
        if self.alive is False:
            return "none"
        return "open" if self.sockets else "armed" if self.arms else "none"

    @property
    def recorded(self) -> bool:
        """Whether there is a recorder."""
        return bool(self.path) and os.path.exists(stem_of(self.path) + SUFFIX)

    @property
    def visible(self) -> bool:
        """Whether its pid means the same process here."""
        return self.snapshot is None or self.snapshot.process.pid_namespace in (0, process.pid_namespace())

    @property
    def who(self) -> str:
        """The process, for people; not escaped."""
        return f"{self.service or 'process'} {self.pid}"


def everyone(path: str | None = None) -> list[Candidate]:
    """All processes that left anything here, the oldest first.

    path: the directory to look into, if not the usual ones
    """
    snapshots = list(mmstats.read_all(path).values())
    homes = dict.fromkeys([path] if path else directory.readable())
    ends = [end for home in homes for end in endpoint.listening(home)]
    found = [_with(snapshot, ends) for snapshot in snapshots]
    taken = {end.path for candidate in found for end in (*candidate.sockets, *candidate.arms)}
    return found + list(_strangers([end for end in ends if end.path not in taken]))


def choose(target: str, path: str | None = None, note: Note | None = None) -> Candidate:
    """The process that `target` means: of several the newest living one, rather one that listens.

    note: takes a sentence on the others, if there are any

    Raises `mmstats.TargetError` if nothing is known of it, and `AttachError` if it is dead.
    """
    try:
        found = [_with(snapshot, _beside(snapshot)) for snapshot in find(target, path)]
    except TargetError:
        found = [c for c in everyone(path) if c.snapshot is None and target in (str(c.pid), *_uuids(c))]
        if not found:
            if target.isdecimal() and process.start_ticks(int(target)):
                raise TargetError(no_file(target, path)) from None
            raise
    living = [candidate for candidate in found if candidate.alive is not False]
    if not living:
        raise dead(found[-1])
    for manhole in ("open", "armed"):
        open_ones = [candidate for candidate in living if candidate.manhole == manhole]
        if open_ones:
            living = open_ones
            break
    *others, chosen = living
    if others and note is not None:
        pids = ", ".join([str(other.pid) for other in others[: -MOST - 1 : -1]]) + (", ..." if others[MOST:] else "")
        note(f"{chosen.who} is the newest of {len(living)} that {target!r} means; the others are {pids}")
    return chosen


def candidate_of(path: str) -> Candidate:
    """The process of a stat file."""
    snapshot = mmstats.read(path)
    return _with(snapshot, _beside(snapshot))


def no_file(pid: str, path: str | None) -> str:
    """What is known of a live process that has left nothing here."""
    homes = " or ".join([path] if path else directory.readable() or directory.defaults()[:1])
    return (
        f"process {pid} lives, and has left no file in {homes}: it does not use mmstats, or is told to write elsewhere"
        f" (--path DIR looks there). `mmdebug stacks {pid}` asks py-spy, where that is installed"
    )


def dead(candidate: Candidate) -> AttachError:
    """That it is dead, and how to learn why."""
    reason = candidate.snapshot.process.reason if candidate.snapshot is not None else "no such process"
    more = f"; `mmdebug postmortem {candidate.path}` tells what ended it" if candidate.path else ""
    return AttachError(f"{candidate.who} is dead ({reason}){more}")


def not_listening(candidate: Candidate) -> AttachError:
    """Why it can't be attached to, and what to do about that."""
    if candidate.manhole == "armed":
        return AttachError(f"{candidate.who} waits for its signal: `mmdebug arm {candidate.pid}` has it listen")
    problem = _problem(candidate)
    if problem:
        return AttachError(f"{candidate.who} may have a manhole that can't be reached: {problem}")
    others = " (those of other users can't be seen)" if os.geteuid() else ""
    return AttachError(
        f"{candidate.who} has no manhole{others}: {HOW_TO_OPT_IN}. `mmdebug stacks {candidate.pid}` asks py-spy,"
        " where that is installed"
    )


def _problem(candidate: Candidate) -> str:
    """Why the directory is not used where its manhole would be; empty if that is not why there is none."""
    if not candidate.path:
        return ""
    try:
        uid = os.stat(candidate.path).st_uid
    except OSError:
        return ""
    return endpoint.problem(os.path.dirname(os.path.abspath(candidate.path)), uid)


def _beside(snapshot: mmstats.Snapshot) -> list[Endpoint]:
    return endpoint.listening(os.path.dirname(os.path.abspath(snapshot.path)))


def _with(snapshot: mmstats.Snapshot, ends: Iterable[Endpoint]) -> Candidate:
    home = os.path.dirname(os.path.abspath(snapshot.path))
    mine = [
        end
        for end in ends
        if end.pid == snapshot.process.pid
        and snapshot.uuid.startswith(end.uuid)
        and os.path.dirname(os.path.abspath(end.directory)) == home
    ]
    return Candidate(snapshot, _of(mine, "socket"), _of(mine, "arm"))


def _strangers(ends: list[Endpoint]) -> Iterator[Candidate]:
    """Those whose stat file is not there."""
    for who in dict.fromkeys([(end.directory, end.pid, end.uuid) for end in ends]):
        mine = [end for end in ends if (end.directory, end.pid, end.uuid) == who]
        yield Candidate(None, _of(mine, "socket"), _of(mine, "arm"))


def _of(ends: list[Endpoint], kind: str) -> tuple[Endpoint, ...]:
    return tuple([end for end in ends if end.kind == kind])


def _uuids(candidate: Candidate) -> set[str]:
    return {end.uuid for end in (*candidate.sockets, *candidate.arms)}
