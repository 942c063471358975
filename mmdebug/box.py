"""The file of what may hold users' data: events, activities and exceptions, beside the stat file.

A registry like that of stats, so forks, a full disk and the end of the process are dealt with as
there. Its file has the stat file's name with another ending, and is closed to all others (0600).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from mmstats import fields, identity, layout, registry, retention, segment
from mmstats.errors import SegmentError

from . import native, rings
from .layout import SUFFIX, RingFamily, SlotsFamily
from .records import SEVERITIES

#: Bytes of disk that a box takes at most, unless `MMDEBUG_MAX_BYTES` says otherwise.
DEFAULT_LIMIT = 1024 * 1024

#: Bytes of each ring. Errors are few and tell most.
RING_BYTES = {"debug": 32768, "info": 65536, "warning": 32768, "error": 65536}
SAMPLE_BYTES = 65536
#: How many activities can be in progress, and the bytes of each one.
ACTIVITIES, ACTIVITY_BYTES = 256, 256

#: Bytes of a traceback with its locals: of any error, and of the one that ends the process.
ERROR_BYTES = 8192
FATAL_BYTES = 24576
#: Bytes of the stacks of what waits.
PARKED_BYTES = 16384
#: Bytes of the threads' names.
THREADS_BYTES = 4096

_COLUMNS = {"count": int, "first": int, "last": int, "thread": int, "context": int}


class _RingField:
    """Makes a ring where a registry asks a field for its cell."""

    place = "mmdebug itself"

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity

    def make_cell(self, owner: Any, series: Any) -> rings.Ring:
        return rings.Ring(owner, series, self._capacity)

    def rebind(self, cell: Any) -> None:
        pass


class _SlotsField:
    place = "mmdebug itself"

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._size = size

    def make_cell(self, owner: Any, series: Any) -> rings.Slots:
        return rings.Slots(owner, series, self._count, self._size)

    def rebind(self, cell: Any) -> None:
        pass


class Box(registry.Registry):
    """This process' box.

    on_open: called with the stat file's path when a file was made, in a forked child too
    on_rename: called with the stat file's path when that has got another name
    """

    noun = "box"
    limit_variable = "MMDEBUG_MAX_BYTES"
    default_limit = DEFAULT_LIMIT

    def __init__(self, stats: registry.Registry, facts: Callable[[], dict[str, str]]) -> None:
        super().__init__(None, None, None, False)
        self.stats = stats
        self._facts = facts
        self.on_open: Callable[[str], None] | None = None
        self.on_rename: Callable[[str], None] | None = None
        self.rings = [self._ring(f"events.{severity}", RING_BYTES[severity]) for severity in SEVERITIES]
        self.samples = self._ring("samples", SAMPLE_BYTES)
        self.slots = self.declare(
            SlotsFamily("activities", ACTIVITIES, ACTIVITY_BYTES),  # type: ignore[arg-type]
            _SlotsField(ACTIVITIES, ACTIVITY_BYTES),
        )
        self.exceptions = self._field(
            "exceptions",
            fields.StructField({**_COLUMNS, "error": (str, ERROR_BYTES)}, labelnames=("type", "place", "how")),
        )
        self.fatal = self._field(
            "fatal",
            fields.StructField({**_COLUMNS, "how": str, "place": (str, 256), "error": (str, FATAL_BYTES)}),
        )
        self.parked = self._field("parked", fields.StructField({"time": int, "groups": (str, PARKED_BYTES)}))
        self.threads = self._field("threads", fields.InfoField(size=THREADS_BYTES))
        stats.renamed = self._rename

    def _ring(self, name: str, capacity: int) -> Any:
        return self.declare(RingFamily(name, capacity), _RingField(capacity))  # type: ignore[arg-type]

    def _field(self, name: str, field: Any) -> Any:
        return self.declare(field.family(name), field)

    def _make_segment(self, limit: int) -> segment.Segment:
        self.stats.open()
        path = self.stats.filename
        if path is None:
            raise SegmentError("the stats stay in private memory")
        home, name = os.path.split(path)
        texts = identity.identity_texts(self.stats.service)
        texts += [(name, (value,)) for name, value in self._facts().items()]
        # As for a stat file: what was left by one that was killed while it made its box.
        retention.remove_unfinished(os.path.join(home, f".{stem(name)}{SUFFIX}.tmp"))
        return segment.Segment(
            home, stem(name) + SUFFIX, os.urandom(16), texts, limit=limit, mode=0o600, populate=self._populate
        )

    def hand_over(
        self,
        facts: Callable[[], dict[str, str]],
        on_open: Callable[[str], None],
        on_rename: Callable[[str], None] | None,
    ) -> None:
        """From now on these are called: `on_open` at once for the file that is there, which gets the new facts."""
        before, self._facts = self._facts, facts
        self.on_open, self.on_rename = on_open, on_rename
        with self._lock:
            if isinstance(self._memory, segment.Segment):
                known = before()
                for name, value in facts().items():
                    if known.get(name) != value:
                        # Of two records of one name the later one counts.
                        self._memory.add(partial(_identity, name, value), 0, None, limited=False)
        on_open(self.stats.filename or "")

    def _warn(self, message: str) -> None:
        if self.stats.filename is not None:  # otherwise that was warned of already
            super()._warn(message)

    def _rename(self, path: str) -> None:
        """The stat file has got another name."""
        if isinstance(self._memory, segment.Segment):
            self._memory.rename(stem(os.path.basename(path)) + SUFFIX)
            if self.on_rename is not None:
                self.on_rename(path)

    def opened(self) -> None:
        self.threads.info({str(native.main_ident()): "MainThread"})
        if self.on_open is not None:
            self.on_open(self.stats.filename or "")


def _identity(name: str, value: str, _: int) -> bytes:
    return layout.encode_identity(name, (value,))


def stem(path: str) -> str:
    """A stat file's path without its ending."""
    return path.removesuffix(layout.SUFFIX)
