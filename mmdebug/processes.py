"""`process`: one object for a process, alive or dead."""

from __future__ import annotations

import os
from typing import Any

import mmstats
from mmstats.targets import find

from .boxreader import read_box
from .evidence import stem_of
from .layout import SUFFIX
from .postmortem import PostMortem, load
from .records import Activity, Box, Event, ExceptionRecord


class Process:
    """A recorded process. Each property reads its files anew, so of a live one it shows what is now.

    path: its stat file
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def stats(self) -> mmstats.Snapshot:
        """Its stats, and who it is: see `mmstats.Snapshot`."""
        return mmstats.read(self.path)

    @property
    def pid(self) -> int:
        return self.stats.process.pid

    @property
    def alive(self) -> bool | None:
        """True, False, or None for unknown."""
        return self.stats.alive

    @property
    def box(self) -> Box | None:
        """What it recorded; None if there is no recorder."""
        path = stem_of(self.path) + SUFFIX
        return read_box(path, self.stats.series_at) if os.path.exists(path) else None

    @property
    def activities(self) -> tuple[Activity, ...]:
        """What is in progress, in the order of its start."""
        box = self.box
        return box.activities if box is not None else ()

    @property
    def events(self) -> tuple[Event, ...]:
        """The last events and log records, the newest last."""
        box = self.box
        return box.events if box is not None else ()

    @property
    def exceptions(self) -> tuple[ExceptionRecord, ...]:
        """The distinct errors, the one that came last at the end."""
        box = self.box
        return box.exceptions if box is not None else ()

    def postmortem(self) -> PostMortem:
        """Everything together, and how it ended."""
        return load(self.path)

    def to_frame(self) -> Any:
        """Its stats as a pandas DataFrame. Needs pandas."""
        return self.stats.to_frame()

    def __repr__(self) -> str:
        who = self.stats.process
        return f"<Process {who.service} {who.pid}, {who.state}>"

    def _repr_html_(self) -> str | None:
        return self.postmortem()._repr_html_()


def process(target: str | int, path: str | os.PathLike[str] | None = None) -> Process:
    """The process that `target` means: a pid, a service, a uuid, a file's name or a path.

    Of several of one service it is the newest one that lives, or else the newest one.

    path: the directory to look into, if not the usual ones

    Raises `mmstats.TargetError` if there is none.
    """
    found = find(str(target), os.fspath(path) if path is not None else None)
    living = [snapshot for snapshot in found if snapshot.alive]
    return Process((living or found)[-1].path)
