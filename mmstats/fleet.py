"""Read all files of a directory: the processes of a machine, alive and dead, side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import aggregate, directory, layout
from .errors import ReadError
from .life import Witnesses
from .reader import Snapshot, read_file


class Fleet(Mapping[str, Snapshot]):
    """Snapshots of many processes, by a name that is each one's own; the oldest comes first.

    problems: what could not be read at all, by path
    """

    def __init__(self, snapshots: Mapping[str, Snapshot], problems: Mapping[str, str] | None = None) -> None:
        self._snapshots = dict(snapshots)
        self.problems = dict(problems or {})

    def __getitem__(self, label: str) -> Snapshot:
        return self._snapshots[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshots)

    def __len__(self) -> int:
        return len(self._snapshots)

    def __repr__(self) -> str:
        return f"<Fleet of {len(self)} processes, {len(self.alive)} alive>"

    def where(self, condition: Callable[[Snapshot], bool]) -> Fleet:
        """Those for which `condition` is true."""
        return Fleet({label: snapshot for label, snapshot in self.items() if condition(snapshot)}, self.problems)

    @property
    def alive(self) -> Fleet:
        """Those whose process is known to live."""
        return self.where(lambda snapshot: snapshot.alive is True)

    @property
    def dead(self) -> Fleet:
        """Those whose process is known to be dead, however it ended."""
        return self.where(lambda snapshot: snapshot.alive is False)

    def merge(self) -> aggregate.Merged:
        """All processes as one: see `mmstats.aggregate`."""
        return aggregate.merge(self.values())

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only."""
        return {
            "processes": {label: snapshot.to_dict() for label, snapshot in self.items()},
            "problems": dict(self.problems),
        }

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a series of a process. Needs pandas."""
        from .frame import frame_of

        return frame_of(row for snapshot in self.values() for row in snapshot.rows())


def files(path: str | os.PathLike[str] | None = None) -> list[str]:
    """All stat files of a directory; without one, of the directories that a reader looks into."""
    homes = [os.fspath(path)] if path is not None else directory.readable()
    found = []
    for home in homes:
        try:
            names = os.listdir(home)
        except OSError as error:
            if path is not None:
                raise ReadError(f"{home}: {error.strerror}") from error
            continue
        home = home.rstrip("/")
        found += [f"{home}/{name}" for name in names if name.endswith(layout.SUFFIX) and name[0] != "."]
    return found


def read_all(
    path: str | os.PathLike[str] | None = None, *, service: str | None = None, pid: int | None = None
) -> Fleet:
    """Read every file of a directory into a `Fleet`.

    path: the directory, or a single file; by default `MMSTATS_PATH` or the user's own directories
    service, pid: only the processes of this service or pid

    A file that can't be read is no error here: it is in the fleet's `problems`. One that vanishes
    meanwhile is not even that. Raises `ReadError` if `path` is not
    there or can't be listed.
    """
    if path is not None and not os.path.lexists(path):
        raise ReadError(f"{os.fspath(path)}: there is no such directory or file")
    found = files(path) if path is None or os.path.isdir(path) else [os.fspath(path)]
    witnesses = Witnesses()
    snapshots: list[Snapshot] = []
    problems = {}
    for name in found:
        if service is not None and path is None:
            base = os.path.basename(name)
            # A renamed file still knows its service; a file of another service is seldom renamed.
            if not base.startswith(service) and base.count("-") >= 2:
                continue
        try:
            snapshot = read_file(name, witnesses)
        except ReadError as error:
            if os.path.lexists(name):
                problems[name] = str(error)
            continue
        if service is not None and snapshot.process.service != service:
            continue
        if pid is not None and snapshot.process.pid != pid:
            continue
        snapshots.append(snapshot)
    snapshots.sort(key=lambda snapshot: (snapshot._header.created, snapshot.path))
    return Fleet(_labelled(snapshots), problems)


def _labelled(snapshots: list[Snapshot]) -> dict[str, Snapshot]:
    """By file name; where two directories hold the same name, by path."""
    labelled = {snapshot.label: snapshot for snapshot in snapshots}
    if len(labelled) == len(snapshots):
        return labelled
    return {snapshot.path: snapshot for snapshot in snapshots}
