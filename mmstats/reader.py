"""Read one stat file, of a live process or a dead one, into an immutable `Snapshot`.

Files are read and never mapped: a file that shrinks under a reader gives a short read and not a
SIGBUS. Nothing here writes, locks, or disturbs the writer.
"""

from __future__ import annotations

import copy
import os
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import directory, layout, layout_v1, process, values
from .errors import FormatError, ReadError
from .life import Witnesses, life
from .schema import Key, Schema, known_schema, schema_of

#: Seconds that one file's values may take to hold still.
DEADLINE = 0.25

#: Bytes that most files have no more of, header and definitions together.
FIRST_READ = 16384

_HEAD = struct.Struct("<QQQ")


@dataclass(frozen=True, slots=True)
class Process:
    """The process that wrote a file, as far as the file tells.

    alive: True, False, or None for unknown, at the time of reading; `reason` says how that is known
    closed: the process ended cleanly, or at least closed its file
    start_ticks: when it started, in clock ticks since boot; 0 for unknown
    environ: a few environment variables; secrets are taken out before they are written
    """

    pid: int
    alive: bool | None
    reason: str
    closed: bool
    service: str = ""
    host: str = ""
    uid: int | None = None
    argv: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    executable: str = ""
    start_ticks: int = 0
    boot_id: bytes = b""
    pid_namespace: int = 0
    exit_status: int | None = None

    @property
    def state(self) -> str:
        """``alive``, ``closed`` (ended cleanly), ``died`` (ended otherwise) or ``unknown``."""
        if self.closed:
            return "closed"
        return {True: "alive", False: "died", None: "unknown"}[self.alive]


class Snapshot(Mapping[str, values.AnyValue]):
    """One file's values at one moment: a mapping from a field's name to its value.

    path: the file
    process: who wrote it
    uuid: what tells this file from all others, 32 hexadecimal digits
    created, closed_at, heartbeat: ns since the epoch, or None. When a process died, no file can say
    problems: what could not be read, for people; what could be is there
    """

    # Slots, and values built when they are asked for: a fleet has thousands of these.
    __slots__ = (
        "_built", "_compounds", "_data", "_header", "_identity", "_process", "_schema", "_verdict", "path",
        "problems", "size",
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        header: layout.Header,
        schema: Schema,
        identity: bytes,
        data: bytes,
        compounds: tuple[Any, ...],
        verdict: process.Life,
        size: int,
        problems: tuple[str, ...],
    ) -> None:
        self.path = path
        #: Bytes of disk that the file takes.
        self.size = size
        self.problems = problems
        self._header = header
        self._schema = schema
        self._identity = identity
        self._data = data
        self._compounds = compounds
        self._verdict = verdict
        self._process: Process | None = None
        self._built: dict[str, values.AnyValue] | None = None

    @property
    def alive(self) -> bool | None:
        return self._verdict.alive

    def judged(self, life: process.Life) -> Snapshot:
        """The same, with another word on whether its writer lives, as of a copy that was judged when it was made."""
        found = copy.copy(self)
        found._verdict = life
        found._process = None
        return found

    @property
    def version(self) -> int:
        """The version of the file's format."""
        return layout.MAJOR

    @property
    def uuid(self) -> str:
        return self._header.uuid.hex()

    @property
    def created(self) -> int | None:
        return self._header.created or None

    @property
    def closed_at(self) -> int | None:
        return self._header.closed or None

    @property
    def heartbeat(self) -> int | None:
        return self._header.heartbeat or None

    @property
    def label(self) -> str:
        """A name for people that is the process' own: the file's, without its ending."""
        return self.path.rpartition("/")[2].removesuffix(layout.SUFFIX)

    @property
    def process(self) -> Process:
        if self._process is None:
            self._process = self._describe()
        return self._process

    @property
    def identity(self) -> Mapping[str, tuple[str, ...]]:
        """Every fact that the file tells of its process, by its key, as it stands there."""
        return {**_identity_of(self._identity), **self._schema.identity}

    def series_at(self, offset: int) -> str:
        """The name and labels of the series whose cell holds this byte of the file; empty if none does."""
        key = self._schema.key_at(offset)
        if key is None:
            return ""
        family = key.plan.family
        pairs = ",".join([f"{name}={value}" for name, value in zip(family.labelnames, key.labels, strict=False)])
        return f"{family.name}{{{pairs}}}" if pairs else family.name

    def _describe(self) -> Process:
        texts = self.identity

        def first(key: str) -> str:
            found = texts.get(key, ())
            return found[0] if found else ""

        header = self._header
        uid = first("uid")
        environ = [item.partition("=") for item in texts.get("environ", ())]
        return Process(
            pid=header.pid,
            alive=self._verdict.alive,
            reason=self._verdict.reason,
            closed=header.state == layout.CLOSED,
            service=first("service"),
            host=first("host"),
            uid=int(uid) if uid.isdecimal() and len(uid) < 12 else None,
            argv=texts.get("argv", ()),
            environ={name: value for name, sign, value in environ if sign},
            versions={key: first(key) for key in ("python", "mmstats", "cells") if first(key)},
            executable=first("executable"),
            start_ticks=header.start_ticks,
            boot_id=header.boot_id,
            pid_namespace=header.pid_namespace,
            exit_status=header.exit_status if header.exit_status >= 0 else None,
        )

    def _raw(self) -> Iterator[tuple[Key, Any]]:
        for key, word in zip(self._schema.words, self._schema.values(self._data), strict=True):
            if word is not None:
                yield key, word
        for (key, _), raw in zip(self._schema.compounds, self._compounds, strict=True):
            if raw is not None:
                yield key, raw

    @property
    def _values(self) -> dict[str, values.AnyValue]:
        if self._built is None:
            self._built = self._build()
        return self._built

    def _build(self) -> dict[str, values.AnyValue]:
        found: dict[str, values.AnyValue] = {}
        labelled: dict[str, dict[Any, values.Value]] = {}
        for family in self._schema.families:
            if family.labelnames:
                labelled[family.name] = {}
                found[family.name] = values.LabelledValue(family, labelled[family.name])
        for key, raw in self._raw():
            family = key.plan.family
            value = values.build(family, raw)
            if not family.labelnames:
                found[family.name] = value
            elif family.name in labelled:
                labelled[family.name][key.labels] = value
        order = {family.name: None for family in self._schema.families}
        return {name: found[name] for name in order if name in found}

    def __getitem__(self, name: str) -> values.AnyValue:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Snapshot {self.label}: {len(self)} fields, {self.process.state}>"

    def to_dict(self) -> dict[str, Any]:
        """Builtin types only, as ``mmstats show --json`` prints them."""
        who = self.process
        return {
            "path": self.path,
            "uuid": self.uuid,
            "service": who.service,
            "pid": who.pid,
            "state": who.state,
            "alive": who.alive,
            "alive_because": who.reason,
            "closed": who.closed,
            "host": who.host,
            "uid": who.uid,
            "argv": list(who.argv),
            "environ": dict(who.environ),
            "versions": dict(who.versions),
            "created": seconds(self.created),
            "closed_at": seconds(self.closed_at),
            "heartbeat": seconds(self.heartbeat),
            "bytes": self.size,
            "problems": list(self.problems),
            "values": values_to_dict(self),
        }

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a series. Needs pandas."""
        from .frame import frame_of

        return frame_of(self.rows())

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dict a series: who recorded it, its name and labels, its value, count and sum of samples."""
        who = self.process
        for name, value in self.items():
            series = value.items() if isinstance(value, values.LabelledValue) else [((), value)]
            for labels, single in series:
                sampled = single if isinstance(single, values.SampleValue) else None
                yield {
                    "process": self.label,
                    "service": who.service,
                    "pid": who.pid,
                    "state": who.state,
                    "name": name,
                    "labels": ",".join([f"{k}={v}" for k, v in zip(value.family.labelnames, labels, strict=False)]),
                    "kind": value.kind,
                    "unit": value.unit,
                    "value": single.value,
                    "count": sampled.count if sampled else None,
                    "sum": sampled.sum if sampled else None,
                }


def seconds(ns: int | None) -> float | None:
    """Nanoseconds as seconds."""
    return ns / 1e9 if ns is not None else None


def values_to_dict(found: Mapping[str, values.AnyValue]) -> dict[str, Any]:
    """Each value with its meaning, in builtin types."""
    return {
        name: {
            "kind": value.kind,
            "unit": value.unit,
            "help": value.help,
            "aggregate": value.aggregate,
            **value.to_dict(),
        }
        for name, value in found.items()
    }


def _identity_of(data: bytes) -> dict[str, tuple[str, ...]]:
    texts = {}
    for at, size, kind, _, _ in layout.records(data, layout.HEADER_BYTES, len(data)):
        if kind == layout.IDENTITY:
            try:
                key, found = layout.decode_identity(data[at + layout.RECORD_BYTES : at + size])
            except FormatError:
                continue  # one text less; the rest is as good as before
            texts[key] = found
    return texts


def read(path: str | os.PathLike[str]) -> Snapshot:
    """Read one file.

    Raises `ReadError` if it can't be opened and `FormatError` if it is no stat file or damaged
    beyond salvage. A damaged file that can be read in part gives that part, and `problems`.
    """
    return read_file(os.fspath(path), Witnesses())


def read_file(path: str, witnesses: Witnesses) -> Snapshot:
    """As `read`; `witnesses` remembers the processes that were looked at for other files."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ReadError(f"{path}: not a regular file")
        head = os.pread(descriptor, FIRST_READ, 0)
        if head[:1] == b"\x01":
            return _read_v1(path, descriptor, found)
        return _read_v2(path, descriptor, head, found, witnesses)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _read_v2(path: str, descriptor: int, head: bytes, found: os.stat_result, witnesses: Witnesses) -> Snapshot:
    header = layout.decode_header(head)
    verdict = life(descriptor, header, found, witnesses)
    first, committed = header.first_definition, header.committed
    problems: tuple[str, ...] = ()
    schema = known_schema(head, first, committed) if len(head) >= committed else None
    if schema is None:
        # `committed` and what it covers came in one read, which has no order: read again.
        head = os.pread(descriptor, committed, 0)
        if len(head) < committed:
            problems = (f"cut off: only {len(head)} bytes of {committed} are there",)
        schema = schema_of(head[first:])
    data, compounds, more = _read_values(descriptor, schema, verdict.alive is False)
    size = directory.disk_bytes(found)
    identity = _without_padding(head, first)
    return Snapshot(path, header, schema, identity, data, compounds, verdict, size, problems + schema.problems + more)


def _without_padding(head: bytes, first: int) -> bytes:
    """``head[:first]`` up to the padding that fills its page: most of it, and kept for each file."""
    zeros = head.find(_ZEROS, layout.HEADER_BYTES, first)
    at = (zeros - 1) & ~7
    if zeros > 0 and layout.RECORD.unpack_from(head, at) == (first - at, layout.PADDING, 0, 0):
        return head[:at]
    return head[:first]


_ZEROS = bytes(64)


def _read_values(descriptor: int, schema: Schema, still: bool) -> tuple[bytes, tuple[Any, ...], tuple[str, ...]]:
    """The bytes of all cells, the values of those that are more than a word, and problems.

    One read for words, three for cells of several, in the order that counts. What is `still`,
    since its writer is dead, is read once.
    """
    start, size = schema.start, schema.size
    compounds = schema.compounds
    data = os.pread(descriptor, size, start)
    first = data
    if compounds and not still:
        data = os.pread(descriptor, size, start)
    problems: tuple[str, ...] = ()
    there = start + min(len(data), len(first))
    found = data
    if there < start + size:
        problems = ("cut off: some values are missing",)
        found = data = data[: there - start]
    if not compounds:
        return found, (), problems
    last = data if still else os.pread(descriptor, len(data), start).ljust(len(data), b"\0")
    raws: list[Any] = []
    damaged: list[str] = []
    unpack_head = _HEAD.unpack_from
    deadline = None
    for key, cell in compounds:
        plan = key.plan
        packed = plan.packed
        at = cell - start
        if problems and cell + plan.size > there:
            raws.append(None)
            continue
        if packed is None:
            raws.append(_STAMPED[plan.family.cell].unpack_from(data, at))
            continue
        begun, seq, buffer = unpack_head(last, at)
        if not still:
            seq = unpack_head(first, at)[1]
        length = plan.buffer
        raw: Any = None
        if buffer != length:
            damaged.append(f"damaged: a cell of {plan.family.name!r} is not of its size")
        elif begun <= seq + 1:
            raw = packed.unpack_from(data, at + 24 + (seq & 1) * length)
        else:
            if deadline is None:
                deadline = time.monotonic() + DEADLINE
            raw = _read_cell(descriptor, cell, packed, deadline)
            if raw is None:
                damaged.append(f"a value of {plan.family.name!r} did not hold still, or is damaged")
        if raw is not None and plan.texts and any(raw[i] > most for i, most in plan.texts):
            damaged.append(f"damaged: a text of {plan.family.name!r} is longer than its cell")
            raw = None
        raws.append(raw)
    return found, tuple(raws), problems + tuple(damaged)


_STAMPED = {"u64": struct.Struct("<QQ"), "i64": struct.Struct("<qQ"), "f64": struct.Struct("<dQ")}


def _read_cell(descriptor: int, cell: int, packed: struct.Struct, deadline: float) -> Any:
    """One buffered cell, by reads of its own; None if it changes faster than it can be read."""
    while time.monotonic() < deadline:
        seq = int.from_bytes(os.pread(descriptor, 8, cell + 8), "little")
        data = os.pread(descriptor, packed.size, cell + layout.BUFFERED_HEAD + (seq & 1) * packed.size)
        begun = int.from_bytes(os.pread(descriptor, 8, cell), "little")
        if len(data) < packed.size:
            return None
        if begun <= seq + 1:
            return packed.unpack(data)
    return None


class SnapshotV1(Snapshot):
    """A file of mmstats 0.x."""

    __slots__ = ("_fields",)

    def __init__(self, path: str, found: os.stat_result, fields: list[layout_v1.FieldV1], problem: str) -> None:
        self._fields = {item.label: item for item in fields}
        pid = next((item.value for item in fields if item.label.endswith("sys.pid")), 0)
        created = next((item.value for item in fields if item.label.endswith("sys.created")), 0.0)
        header = layout.Header(
            0, layout.HEADER_BYTES, layout.HEADER_BYTES, layout.LIVE, bytes(16),
            int(created * 1e9) if isinstance(created, float) and 0 < created < 1e10 else 0,
            pid=pid if isinstance(pid, int) else 0,
        )  # fmt: skip
        verdict = process.Life(None, "a file of mmstats 0.x does not say who holds it")
        size = directory.disk_bytes(found)
        super().__init__(path, header, schema_of(b""), b"", b"", (), verdict, size, (problem,) if problem else ())

    @property
    def version(self) -> int:
        return layout_v1.VERSION

    @property
    def uuid(self) -> str:
        return ""

    def _build(self) -> dict[str, values.AnyValue]:
        return {label: _value_v1(item) for label, item in self._fields.items()}


def _value_v1(item: layout_v1.FieldV1) -> values.Value:
    if isinstance(item.value, str):
        return values.TextValue(layout.Family(item.label, "text", "buffered", "all"), item.value)
    if isinstance(item.value, bool):
        return values.BoolValue(layout.Family(item.label, "bool", "u64", "all"), item.value)
    cell = "f64" if isinstance(item.value, float) else "i64"
    return values.NumberValue(layout.Family(item.label, "gauge", cell, "all"), item.value)


def _read_v1(path: str, descriptor: int, found: os.stat_result) -> SnapshotV1:
    if found.st_size > layout_v1.MAX_BYTES:
        raise FormatError(f"{found.st_size} bytes long, over the limit of {layout_v1.MAX_BYTES}")
    fields, problem = layout_v1.decode(os.pread(descriptor, found.st_size, 0))
    return SnapshotV1(path, found, fields, problem)
