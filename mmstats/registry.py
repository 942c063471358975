"""What this process records: families of metrics, their cells, and the file that holds them.

A registry stands for one file of one process. It hands out cells, gives them a place when they are
first used, and after a fork gives them places in a file of the child's own.
"""

from __future__ import annotations

import _thread
import atexit
import os
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from . import cells, directory, forks, identity, layout, retention
from .errors import ClosedError, ConfigurationError, DefinitionError, FormatError, SegmentError
from .segment import PrivateMemory, Segment, file_name

#: Bytes of disk that one process' file takes at most, unless `MMSTATS_MAX_BYTES` says otherwise.
DEFAULT_LIMIT = 256 * 1024

#: Label values of more bytes than this go to the overflow series.
MAX_LABEL_BYTES = 1024

#: What the labels of an overflow series say.
OVERFLOW_LABEL = "__overflow__"

#: The counter of label look-ups that were sent to an overflow series.
OVERFLOW_FAMILY = layout.Family(
    "mmstats.overflow", "counter", "u64", "sum",
    "Look-ups of label sets that were beyond the limit and were counted in an overflow series",
    flags=layout.DESCRIPTIVE,
)  # fmt: skip

#: Whose lines no warning is about.
_PACKAGES = ("mmstats", "mmdebug")

_registries: dict[tuple[str | None, str | None], Registry] = {}
_registries_lock = _thread.RLock()


class FieldLike(Protocol):
    """What a registry needs to know of a field."""

    place: str

    def make_cell(self, owner: Any, series: Any) -> Any: ...

    def rebind(self, cell: Any) -> None: ...


class Entry:
    """One family of this process: its definition, who defined it, and its cell or cells."""

    __slots__ = ("family", "field", "number", "overflow", "target")

    def __init__(self, family: layout.Family, field: FieldLike) -> None:
        self.family = family
        self.field = field
        #: The family's number in the file; -1 while it has no place there.
        self.number = -1
        self.target: Any = None
        self.overflow: Any = None


class Series(NamedTuple):
    """What a cell stands for: a family and a set of label values."""

    entry: Entry
    labels: tuple[str, ...] = ()
    flags: int = 0


class _OverflowField:
    place = "mmstats itself"

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Counter(owner, series)

    def rebind(self, cell: Any) -> None:
        pass


class Registry:
    """The families and cells of one file. Thread-safe, and safe in signal handlers."""

    #: What messages call it, and what sets how large it may grow.
    noun = "stat file"
    limit_variable = "MMSTATS_MAX_BYTES"
    default_limit = DEFAULT_LIMIT

    def __init__(self, path: str | None, template: str | None, service: str | None, strict: bool) -> None:
        self._path = path
        self._template = template
        self._explicit_service = service
        self.service = service or identity.configured_service() or identity.default_service()
        self._strict = strict
        self._start_over()
        self._entries: dict[str, Entry] = {}
        self._cells: list[Any] = []
        self._models: weakref.WeakSet[Any] = weakref.WeakSet()
        self._warned = False
        self._removed = False
        self._inherited = False
        #: Called with the file's new path when it gets another name.
        self.renamed: Callable[[str], None] | None = None
        self._overflowed = self.declare(OVERFLOW_FAMILY, _OverflowField())

    def _start_over(self) -> None:
        self._lock = _thread.RLock()
        self._memory: Segment | PrivateMemory | None = None
        self._opening = False
        self._numbers = 0
        self._early: dict[int, tuple[Any, memoryview]] = {}

    # Declaring what there is to record.

    def declare(self, family: layout.Family, field: FieldLike) -> Any:
        """The cell of this family, or its `Labelled`; the same one each time for the same definition."""
        forks.adopt()
        with self._lock:
            self._check()
            entry = self._entries.get(family.name)
            if entry is not None:
                if entry.family != family or type(entry.field) is not type(field):
                    raise DefinitionError(
                        f"{family.name!r} is defined twice and differently: at {entry.field.place} and at"
                        f" {field.place}; give one of them another name, or both the same definition"
                    )
                return entry.target
            try:
                family.encode(0)
            except FormatError as error:
                raise DefinitionError(f"{family.name[:80]!r}: {error}") from error
            entry = Entry(family, field)
            if family.labelnames:
                entry.target = cells.Labelled(family.labelnames, lambda labels: self._child(entry, labels))
            else:
                entry.target = self._cell(entry, ())
            self._entries[family.name] = entry
            if self._memory is not None:
                self._place_entry(entry)
            return entry.target

    def _check(self) -> None:
        """Raise `ClosedError` after the end of the last model."""
        if self._removed:
            raise ClosedError("this field's model was removed: make a new one to go on recording")

    def _cell(self, entry: Entry, labels: tuple[str, ...], flags: int = 0) -> Any:
        cell = entry.field.make_cell(self, Series(entry, labels, flags))
        self._cells.append(cell)
        return cell

    def _child(self, entry: Entry, labels: tuple[str, ...]) -> tuple[Any, bool]:
        """The cell of a label set that is new here, and whether to remember it."""
        forks.adopt()
        with self._lock:
            self._check()
            existing = entry.target.find(labels)
            if existing is not None:
                return existing, True
            if self._memory is None and not self._opening:
                self._open()
            if entry.number < 0 and not self._opening:
                return self._overflow(entry), False
            cell = entry.field.make_cell(self, Series(entry, labels))
            if not self._opening:
                fits = sum([len(label.encode("utf-8", "replace")) for label in labels]) <= MAX_LABEL_BYTES
                if not fits or not self._place(cell, limited=True):
                    return self._overflow(entry), False
            self._cells.append(cell)
            return entry.target.keep(labels, cell), True

    def _overflow(self, entry: Entry) -> Any:
        if entry.overflow is None:
            labels = (OVERFLOW_LABEL,) * len(entry.family.labelnames)
            # A program may have counted under this label set itself: then that is the one.
            entry.overflow = entry.target.find(labels)
            if entry.overflow is None:
                entry.overflow = entry.target.keep(labels, self._cell(entry, labels, layout.OVERFLOW))
        self._overflowed.inc()
        return entry.overflow

    # Giving cells their places.

    def wake(self, cell: Any) -> None:
        """Give `cell` memory: it has none yet, or what it has belongs to the parent of a fork."""
        forks.adopt()
        with self._lock:
            if cell.bound:
                return
            if self._memory is None and not self._opening:
                self._open()
                if cell.bound:
                    return
            self._place_or_keep(cell)

    def open(self) -> None:
        """Make the file now, rather than at the first record."""
        with self._lock:
            if self._memory is None and not self._opening:
                self._open(self._strict)

    def _open(self, strict: bool = False) -> None:
        """Make the file; only a model's creation is `strict`, and never a record in a forked child."""
        # Asked once more: a signal handler may have come in at the call of this very function.
        if self._memory is not None or self._opening:
            return
        self._opening = True
        try:
            self._memory = self._make_memory(strict)
        finally:
            self._opening = False
        # What signal handlers recorded meanwhile went to private memory: move it to its place.
        for entry in list(self._entries.values()):
            if entry.number < 0:
                self._place_entry(entry)
        for cell, _ in list(self._early.values()):
            self._place_or_keep(cell)
        self._early.clear()
        self.opened()

    def opened(self) -> None:
        """The file was made; also in a forked child, its own."""

    def _make_memory(self, strict: bool) -> Segment | PrivateMemory:
        limit = self.default_limit
        if os.environ.get("MMSTATS_DISABLE", "") not in ("", "0"):
            return self._private(limit)
        try:
            limit = disk_limit(self.limit_variable, self.default_limit)
            _check_platform()
            return self._make_segment(limit)
        except Exception as error:  # whatever it is: a stat is no reason to fail
            if strict:
                raise SegmentError(f"no {self.noun} could be made: {error}") from error
            self._warn(f"no {self.noun} could be made, so what is recorded stays in this process' own memory: {error}")
            for cell in self._cells:
                if id(cell) not in self._early:
                    cell.unbind()
            return self._private(limit)

    def _private(self, limit: int) -> PrivateMemory:
        memory = PrivateMemory(limit)
        self._populate(memory)
        return memory

    def _make_segment(self, limit: int) -> Segment:
        home = directory.prepare(self._path)
        mode = directory.file_mode()
        uuid = os.urandom(16)
        name = file_name(self.service, os.getpid(), uuid)
        if self._template is not None:
            name = os.path.join(home, identity.expand(self._template))
            home, name = os.path.dirname(name), os.path.basename(name)
            name = retention.free_name(home, name, os.getpid())
        else:
            retention.prune_service(home, self.service)
        _close_at_exit()
        return Segment(
            home, name, uuid, identity.identity_texts(self.service), limit=limit, mode=mode, populate=self._populate
        )

    def _populate(self, memory: Segment | PrivateMemory) -> None:
        """Write all families, in the order of their declaration, and the series that have no labels."""
        self._numbers = 0
        for entry in list(self._entries.values()):
            entry.number, self._numbers = self._numbers, self._numbers + 1
            self._place_family(entry, memory)
            if not entry.family.labelnames and not self._place(entry.target, limited=False, memory=memory):
                raise SegmentError(f"the limit of {memory.limit} bytes is too low: raise {self.limit_variable}")

    def _place_entry(self, entry: Entry) -> None:
        """Add a family that was declared after the file was made; without room it stays private."""
        assert self._memory is not None
        # A number is never used twice, even where what it was for found no room.
        entry.number, self._numbers = self._numbers, self._numbers + 1
        reason = f"it has reached its limit; raise {self.limit_variable}"
        try:
            placed = self._place_family(entry, self._memory)
            if placed and not entry.family.labelnames:
                placed = self._place(entry.target, limited=False, memory=self._memory)
        except (OSError, SegmentError) as error:
            placed = False
            reason = str(error)
        if placed:
            return
        entry.number = -1
        if self._strict:
            raise SegmentError(f"the {self.noun} could not be extended: {reason}")
        self._warn(f"the {self.noun} could not be extended, so some stats stay in private memory: {reason}")
        if not entry.family.labelnames:
            self._keep(entry.target)

    def _place_family(self, entry: Entry, memory: Segment | PrivateMemory) -> bool:
        return memory.add(lambda _: entry.family.encode(entry.number), 0, None, limited=False)

    def _place(self, cell: Any, *, limited: bool, memory: Segment | PrivateMemory | None = None) -> bool:
        series = cell.series
        entry = series.entry

        def prepare(view: memoryview, offset: int) -> bool:
            # Signal handlers and GC callbacks that record may come in at any call.
            ordinary = series.labels and not series.flags & layout.OVERFLOW
            if ordinary and entry.target.find(series.labels) not in (None, cell):
                return False
            _, early = self._early.get(id(cell), (None, None))
            if early is None:
                return self._bind(cell, view, offset)
            bound = False
            while not bound:
                seen = bytes(early)
                kept = _settled(seen, entry.family)
                view[offset : offset + len(kept)] = kept
                bound = cell.bind(view, offset, early, seen)
            del self._early[id(cell)]
            return True

        try:
            return (memory or self._memory).add(  # type: ignore[union-attr]
                lambda at: entry.family.encode_series(entry.number, series.labels, at, series.flags),
                entry.family.cell_size,
                prepare,
                limited=limited,
            )
        except BaseException as error:
            cell.unbind()
            if not isinstance(error, (OSError, SegmentError)):
                raise  # such as KeyboardInterrupt, out of a signal handler
            if memory is not None:
                raise
            if limited:
                self._warn(f"the {self.noun} could not be extended, so new label sets are counted together: {error}")
            else:
                self._warn(f"the {self.noun} could not be extended, so some stats stay in private memory: {error}")
            return False

    def _bind(self, cell: Any, view: memoryview, offset: int) -> bool:
        """Bind `cell` to fresh memory; False if a signal handler was faster."""
        family = cell.series.entry.family
        if family.cell == "buffered":
            view[offset + 16 : offset + 24] = family.buffer_size.to_bytes(8, "little")
        cell.forget()
        if not cell.bind(view, offset):
            return False
        cell.reset()
        if self._inherited:
            cell.series.entry.field.rebind(cell)
        return True

    def _place_or_keep(self, cell: Any) -> None:
        """Place `cell` if there is room and otherwise keep it in private memory; never raises."""
        series = cell.series
        if self._opening or series.entry.number < 0:
            self._keep(cell)
            return
        limited = bool(series.labels) and not series.flags & layout.OVERFLOW
        if not self._place(cell, limited=limited):
            self._keep(cell)
            if limited:
                self._overflowed.inc()

    def _keep(self, cell: Any) -> None:
        """Bind `cell` to private memory."""
        view = memoryview(bytearray(cell.series.entry.family.cell_size))
        if self._bind(cell, view, 0) and self._opening:
            self._early[id(cell)] = (cell, view)

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            _warn(f"mmstats: {message}")

    # A model's side.

    def attach(self, model: Any) -> None:
        """Note that `model` uses this registry, until it is removed or gone."""
        self._models.add(model)

    def detach(self, model: Any) -> None:
        """The end of `model`; that of the last one deletes the file."""
        with self._lock:
            self._models.discard(model)
            if self._models or forks.forked():
                return
            with _registries_lock:
                for key, registry in list(_registries.items()):
                    if registry is self:
                        del _registries[key]
            self._removed = True
            for cell in self._cells:
                cell.close()
            if isinstance(self._memory, Segment):
                self._memory.remove()

    def claim(self, service: str | None, strict: bool) -> None:
        """Take the service's name from a model that gives one. Raises `DefinitionError` on a conflict."""
        self._strict = self._strict or strict
        if service is None or service == self._explicit_service:
            return
        if self._explicit_service is not None:
            raise DefinitionError(
                f"this process already records as service {self._explicit_service!r}, not {service!r}:"
                " use one name, or give this model a filename= of its own"
            )
        with self._lock:
            self._explicit_service = self.service = service
            if isinstance(self._memory, Segment):
                name = os.path.basename(self._memory.path).split("-")[-1]
                try:
                    if self._template is None:
                        self._memory.rename(f"{service}-{os.getpid()}-{name}")
                        if self.renamed is not None:
                            self.renamed(self._memory.path)
                    self._memory.add(lambda _: layout.encode_identity("service", (service,)), 0, None, limited=False)
                except OSError as error:
                    self._warn(f"the stat file keeps its old name: {error}")

    @property
    def filename(self) -> str | None:
        """The file's full path; None if everything stays in private memory."""
        if self._memory is None or forks.forked():
            return None
        return self._memory.path

    @property
    def size(self) -> int:
        """Bytes of memory and disk in use."""
        return self._memory.size if self._memory is not None else 0

    def beat(self, now: int) -> None:
        """Write into the file that the process lives, at `now` in ns since the epoch."""
        with self._lock:
            if isinstance(self._memory, Segment) and not forks.forked():
                cells.publish(self._memory.view, layout.HEARTBEAT_AT, now)

    def values(self) -> tuple[int, bytes]:
        """Where in the file the value cells begin, and their bytes; none where there is no file."""
        with self._lock:
            if isinstance(self._memory, Segment) and not forks.forked():
                return self._memory.values()
        return 0, b""

    def flush(self) -> None:
        """Have the kernel write the file to its disk, if it has one."""
        if self._memory is not None:
            self._memory.flush()

    # Forks and the end.

    def leave_parent(self) -> None:
        """In a forked child: unmap the parent's file, and have every cell ask for a place again."""
        memory = self._memory
        self._inherited = True
        self._start_over()
        for cell in self._cells:
            if cell.owner is not None:
                cell.unbind()
        for entry in self._entries.values():
            entry.number = -1
        if isinstance(memory, Segment):
            memory.release()

    def close(self) -> None:
        """Write that this process ended cleanly."""
        if isinstance(self._memory, Segment) and not forks.forked():
            self._memory.close()


def adopt(key: str, registry: Registry) -> None:
    """Have `registry` follow forks and the end of the process, as those of models do."""
    with _registries_lock:
        _watch()
        _registries[(key, None)] = registry


def _watch() -> None:
    if forks.watch(_leave_parents):
        atexit.register(_close_all)


def registry_for(
    path: str | None = None, template: str | None = None, service: str | None = None, strict: bool = False
) -> Registry:
    """The registry of this directory and file name; None and None is the process' own."""
    template = template or os.environ.get("MMSTATS_FILES") or None
    key = (os.path.abspath(identity.expand(path)) if path else None, template)
    with _registries_lock:
        _watch()
        registry = _registries.get(key)
        if registry is None:
            registry = Registry(key[0], template, service and identity.safe_name(service), strict)
            _registries[key] = registry
        else:
            registry.claim(service and identity.safe_name(service), strict)
        return registry


def _leave_parents() -> None:
    """In a forked child: give up the parent's files, all of them before the first record."""
    global _registries_lock
    _registries_lock = _thread.RLock()
    for registry in list(_registries.values()):
        registry.leave_parent()
    _close_at_exit()


def _close_at_exit() -> None:
    """Have the children of multiprocessing, and of Celery's billiard, close their files.

    They run no atexit functions; and at their start they forget the finalizers that they have
    got so far, and then call what is registered for after a fork.
    """
    for name in ("multiprocessing.util", "billiard.util"):
        util = sys.modules.get(name)
        if util is not None:
            util.Finalize(None, _close_all, exitpriority=-100)
            util.register_after_fork(
                _close_all, lambda _, util=util: util.Finalize(None, _close_all, exitpriority=-100)
            )


def _close_all() -> None:
    for registry in list(_registries.values()):
        registry.close()


def _warn(message: str) -> None:
    """Warn, at the program's own line; where warnings are errors, say it on stderr instead."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _PACKAGES:
        level, frame = level + 1, frame.f_back
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=level)
    except Exception:  # warnings are errors, or stderr is closed, or the program's way to show them fails
        complain(message)


def complain(message: str) -> None:
    """Say it on stderr. Never raises."""
    try:
        if sys.stderr is not None:  # print would take stdout then
            print(message, file=sys.stderr)
    except Exception:  # there is nowhere left to say it
        pass


def disk_limit(variable: str = "MMSTATS_MAX_BYTES", default: int = DEFAULT_LIMIT) -> int:
    """Bytes of disk that one file may take, by an environment variable. Raises `ConfigurationError`."""
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    largest = layout.MAX_REGION // 2 - layout.PAGE
    if not 16384 <= limit <= largest:
        raise ConfigurationError(f"{variable}={text}: give a number of bytes from 16384 to {largest}")
    return limit


def _check_platform() -> None:
    if sys.byteorder != "little":
        raise SegmentError("this machine is big-endian, and the format is little-endian")


def _settled(cell: bytes, family: layout.Family) -> bytes:
    """A cell's bytes with both buffers alike, so that it does not matter which one comes next."""
    if family.cell != "buffered":
        return cell
    size = family.buffer_size
    seq = int.from_bytes(cell[8:16], "little")
    start = layout.BUFFERED_HEAD + (seq & 1) * size
    current = cell[start : start + size]
    return cell[8:16] * 2 + size.to_bytes(8, "little") + current * 2
