"""What a person means by a target: a pid, a service, a uuid, a file's name or a path."""

from __future__ import annotations

import os
from collections.abc import Iterable

from .errors import TargetError
from .fleet import Fleet, read_all
from .reader import Snapshot, read


def find(target: str, path: str | None = None) -> list[Snapshot]:
    """All processes that `target` may mean, the oldest first. Raises `TargetError` if there are none.

    path: the directory to look into, if not the usual ones
    """
    if os.sep in target or (target.endswith(".mmstats") and os.path.exists(target)):
        if os.path.isdir(target):
            return list(read_all(target).values())
        return [read(target)]
    return match(target, read_all(path))


def find_one(target: str, path: str | None = None) -> Snapshot:
    """The process that `target` means. Raises `TargetError` with the candidates if it may mean several."""
    return only(target, find(target, path))


def match(target: str, fleet: Fleet) -> list[Snapshot]:
    """The processes of `fleet` that `target` may mean. Raises `TargetError` if there are none."""
    everyone = list(fleet.values())
    if target.isdecimal():
        found = [snapshot for snapshot in everyone if snapshot.process.pid == int(target)]
        living = [snapshot for snapshot in found if snapshot.alive]
        if living or found:
            return living or found
    found = [snapshot for snapshot in everyone if target in (snapshot.process.service, snapshot.label)]
    if found:
        return found
    prefix = target.replace("-", "").lower()
    if len(prefix) >= 4:
        found = [snapshot for snapshot in everyone if snapshot.uuid.startswith(prefix)]
        if found:
            return found
    services = sorted({snapshot.process.service for snapshot in everyone if snapshot.process.service})
    known = f"the services here are {', '.join(services)}" if services else "no process has left a file here"
    raise TargetError(f"nothing is known of {target!r}: {known}; `mmstats ls` shows them all")


def only(target: str, found: Iterable[Snapshot]) -> Snapshot:
    """The one of `found`; several raise `TargetError` with their names."""
    candidates = list(found)
    if len(candidates) == 1:
        return candidates[0]
    lines = [f"  {c.label}  {c.process.state}  {c.path}" for c in candidates]
    raise TargetError(f"{target!r} may mean any of these, so say which:\n" + "\n".join(lines))
