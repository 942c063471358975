"""The stat file and the box of a process elsewhere, which came as bytes: read from private files that go at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mmstats
from mmstats import layout as stat_layout
from mmstats.process import Life

from ..boxreader import read_box
from ..layout import SUFFIX
from ..postmortem import PostMortem, load
from ..records import Box

#: A copy's writer can't be judged by its file.
ANSWERS = Life(True, "it answers")


@dataclass(frozen=True, slots=True)
class Files:
    """What was sent: the bytes of a stat file, and of a box, empty if there is none."""

    stats: bytes
    recorded: bytes
    pid: int

    def snapshot(self) -> mmstats.Snapshot:
        """The stats. Raises `mmstats.FormatError` if they are none."""
        with self._on_disk() as path:
            return mmstats.read(path).judged(ANSWERS)

    def box(self) -> Box | None:
        """The box; None if there is none."""
        if not self.recorded:
            return None
        with self._on_disk() as path:
            names = mmstats.read(path).series_at
            return read_box(path.removesuffix(stat_layout.SUFFIX) + SUFFIX, names)

    def postmortem(self) -> PostMortem:
        """Everything together."""
        with self._on_disk() as path:
            return load(path, life=ANSWERS)

    @contextmanager
    def _on_disk(self) -> Iterator[str]:
        home = tempfile.mkdtemp(prefix="mmdebug-")
        try:
            stem = os.path.join(home, f"pid-{self.pid}")
            _write(stem + stat_layout.SUFFIX, self.stats)
            if self.recorded:
                _write(stem + SUFFIX, self.recorded)
            yield stem + stat_layout.SUFFIX
        finally:
            shutil.rmtree(home, ignore_errors=True)


def _write(path: str, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
