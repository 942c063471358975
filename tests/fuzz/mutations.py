"""What the fuzz tests and `scripts/torture` share: good files, ways to damage them, and looking at the result.

A damaged file is given as patches of a good one: ``(offset, bytes)``, and a length to cut it to or None.
"""

from __future__ import annotations

import json
import math
import os
import random
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import mmstats
from mmstats import aggregate, layout, reader, values
from mmstats.life import Witnesses

Patches = list[tuple[int, bytes]]

#: Numbers at which sizes, offsets and counts turn over.
NUMBERS = (
    0, 1, 2, 4, 7, 8, 9, 15, 16, 17, 23, 24, 25, 40, 127, 128, 129, 255, 256, 4095, 4096, 4097, 65535, 65536, 65537,
    (1 << 20) - 8, 1 << 20, (1 << 24) - 8, 1 << 24, (1 << 24) + 8, (1 << 31) - 1, 1 << 31, (1 << 32) - 8,
    (1 << 32) - 1, 1 << 32, (1 << 40) - 8, 1 << 40, (1 << 62), (1 << 63) - 8, (1 << 63) - 1, 1 << 63,
    (1 << 64) - 8, (1 << 64) - 1,
)  # fmt: skip

#: Seconds of CPU that a single file may take, however it is damaged. (How busy others are is not its fault.)
PATIENCE = 1.0

#: To look at /proc for each of thousands of files would take longer than to read them.
WITNESSES = Witnesses()


class SeedStats(mmstats.MmStats):
    """Every kind of field there is."""

    requests = mmstats.CounterField(help="Requests served", unit="requests")
    seconds = mmstats.CounterField(type=float)
    active = mmstats.GaugeField(aggregate="last")
    note = mmstats.StringField(size=60)
    latest = mmstats.StringField(size=20, aggregate="last")
    level = mmstats.IntField(aggregate="max")
    ratio = mmstats.FloatField(aggregate="mean")
    flag = mmstats.BoolField()
    phase = mmstats.EnumField(states=["starting", "serving", "stopping"])
    build = mmstats.InfoField()
    pool = mmstats.StructField({"used": int, "load": float, "on": bool, "name": (str, 12)})
    sizes = mmstats.HistogramField(buckets=[0.1, 1.0, 10.0])
    average = mmstats.AverageField()
    moving = mmstats.MovingAverageField(size=5)
    render = mmstats.TimerField()
    by_path = mmstats.CounterField(labelnames=("method", "path"))
    sizes_by_path = mmstats.HistogramField(labelnames=("path",), buckets=[1.0, 2.0])
    phases = mmstats.EnumField(states=["a", "b"], labelnames=("which",))


@dataclass
class Seed:
    """A good file, and where its parts lie."""

    data: bytes
    first: int
    committed: int
    records: list[tuple[int, int, int, int, int]]
    cells: list[int]
    values: tuple[int, int]


def seed(home: str) -> Seed:
    """The bytes of a file with every kind of field, and its anatomy."""
    stats = SeedStats(path=home, service="seed")
    stats.requests.inc(3)
    stats.seconds.inc(0.5)
    stats.active.set(2)
    stats.note = "a note with an é"
    stats.latest = "latest"
    stats.phase.state("serving")
    stats.build.info({"version": "1.2", "deep": "[" * 10})
    stats.pool.set(used=3, load=0.5, on=True, name="primary")
    for number in range(12):
        stats.sizes.observe(number)
        stats.average.add(number)
        stats.moving.add(number)
        stats.render.observe(number / 10)
        stats.by_path.labels("GET", number % 4).inc()
        stats.sizes_by_path.labels(number % 3).observe(number)
        stats.phases.labels(number % 2).state("b")
    data = Path(stats.filename).read_bytes()
    stats.remove()
    header = layout.decode_header(data)
    identity = layout.records(data, layout.HEADER_BYTES, header.first_definition)
    records = layout.records(data, header.first_definition, header.committed)
    cells = [cell for _, _, _, _, cell in records if cell]
    return Seed(
        data, header.first_definition, header.committed, identity + records, cells, (min(cells), max(cells) + 200)
    )


def seed_v1() -> bytes:
    """A file as mmstats 0.x wrote it."""

    def field(label: bytes, type_: bytes, buffer: int, payload: bytes) -> bytes:
        return struct.pack("=H", len(label)) + label + struct.pack("=H", len(type_)) + type_ + bytes([buffer]) + payload

    return (
        b"\x01"
        + b"".join(
            [
                field(b"sys.pid", b"I", 255, struct.pack("I", 4242)),
                field(b"sys.created", b"d", 255, struct.pack("d", 1.4e9)),
                field(b"requests", b"Q", 1, struct.pack("QQ", 7, 6)),
                field(b"note", b"10s", 0, b"0123456789abcdefghij"),
                field(b"flag", b"?", 255, b"\x01"),
                field(b"small", b"h", 0, struct.pack("hh", -3, 3)),
                field(b"ratio", b"f", 255, struct.pack("f", 0.5)),
            ]
        )
        + bytes(64)
    )


def _number(rng: random.Random, bytes_: int) -> bytes:
    value = rng.choice(NUMBERS)
    if rng.random() < 0.3:
        value += rng.randrange(-9, 10)
    return (value & ((1 << 8 * bytes_) - 1)).to_bytes(bytes_, "little")


def _float(rng: random.Random) -> bytes:
    return struct.pack("<d", rng.choice((math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1.7e308, -1.0, 1e18)))


def _attributes(seed: Seed, at: int, size: int, kind: int) -> list[tuple[int, int]]:
    """``(offset, size of the value)`` of a record's attributes."""
    start = at + layout.RECORD_BYTES + {layout.FAMILY: 8, layout.SERIES: 8}.get(kind, 0)
    found = []
    while start + 8 <= at + size:
        (length,) = struct.unpack_from("<I", seed.data, start + 4)
        found.append((start, length))
        start += 8 + layout.align(length)
    return found


def mutate_header(seed: Seed, rng: random.Random) -> Patches:
    """A field of the header."""
    at, size = rng.choice(
        [(0, 8), (8, 2), (10, 2), (12, 4), (16, 8), (24, 8), (32, 8), (48, 8), (56, 8), (64, 8), (72, 4), (76, 4),
         (80, 8), (88, 8), (96, 8), (104, 8), (112, 8), (120, 8)]
    )  # fmt: skip
    if at == 12 and rng.random() < 0.5:
        return [(at, struct.pack("<I", rng.choice([record[0] for record in seed.records])))]
    if at == 16 and rng.random() < 0.5:
        record = rng.choice(seed.records)
        return [(at, struct.pack("<Q", record[0] + rng.choice((0, 8, record[1]))))]
    return [(at, _number(rng, size))]


def mutate_record(seed: Seed, rng: random.Random) -> Patches:
    """A record's size, kind, flags or cell."""
    at, size, _, _, _ = rng.choice(seed.records)
    offset, width = rng.choice([(0, 4), (0, 4), (4, 2), (6, 2), (8, 8)])
    if offset == 0 and rng.random() < 0.5:
        return [(at, struct.pack("<I", max(size + 8 * rng.randrange(-4, 60), 0)))]
    if offset == 4:
        return [(at + 4, struct.pack("<H", rng.choice((0, 1, 2, 3, 4, 5, 65535))))]
    if offset == 6:
        return [(at + 6, struct.pack("<H", rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 65535))))]
    if offset == 8 and rng.random() < 0.7:  # two series of one cell, or cells that overlap
        cell = rng.choice(seed.cells) + rng.choice((0, 0, 8, -8, 16, 24, 3))
        return [(at + 8, struct.pack("<Q", cell))]
    return [(at + offset, _number(rng, width))]


def mutate_attribute(seed: Seed, rng: random.Random) -> Patches:
    """A tag, a size or a value inside a definition."""
    at, size, kind, _, _ = rng.choice(seed.records)
    attributes = _attributes(seed, at, size, kind)
    if not attributes:
        return mutate_record(seed, rng)
    if kind in (layout.FAMILY, layout.SERIES) and rng.random() < 0.3:
        head = at + layout.RECORD_BYTES
        if kind == layout.SERIES or rng.random() < 0.4:
            return [(head, struct.pack("<I", rng.choice((*range(30), 65535, 65536, (1 << 32) - 1))))]
        return [(head + 4 + rng.randrange(3), bytes([rng.randrange(14)]))]
    start, length = rng.choice(attributes)
    what = rng.random()
    if what < 0.3:
        return [(start, struct.pack("<H", rng.randrange(13)))]
    if what < 0.6:
        return [(start + 4, _number(rng, 4))]
    (tag,) = struct.unpack_from("<H", seed.data, start)
    if tag == layout.COLUMN:
        if rng.random() < 0.5:
            return [(start + 8, bytes([rng.randrange(6)]))]
        return [(start + 12, _number(rng, 4))]
    if tag == layout.BOUNDS:
        return [(start + 8 + 8 * rng.randrange(max(length // 8, 1)), _float(rng))]
    return [(start + 8 + rng.randrange(max(length, 1)), rng.randbytes(rng.randrange(1, 6)))]


def mutate_stream(seed: Seed, rng: random.Random) -> Patches:
    """Records that stand twice, are missing, are swapped, or are new."""
    stream = [seed.data[at : at + size] for at, size, *_ in seed.records if at >= seed.first]
    for _ in range(rng.randrange(1, 4)):
        index = rng.randrange(len(stream))
        what = rng.randrange(5)
        if what == 0:
            stream.insert(rng.randrange(len(stream) + 1), stream[index])
        elif what == 1 and len(stream) > 1:
            del stream[index]
        elif what == 2:
            other = rng.randrange(len(stream))
            stream[index], stream[other] = stream[other], stream[index]
        elif what == 3:
            stream.insert(index, layout.encode_padding(8 * rng.randrange(2, 50)))
        else:
            body = rng.randbytes(8 * rng.randrange(0, 20))
            kind = rng.choice((0, 1, 2, 3, 4, 99))
            head = layout.RECORD.pack(16 + len(body), kind, 0, rng.choice([0, *seed.cells]))
            stream.insert(index, head + body)
    joined = b"".join(stream)
    return [(seed.first, joined), (layout.COMMITTED_AT, struct.pack("<Q", seed.first + len(joined)))]


def mutate_cell(seed: Seed, rng: random.Random) -> Patches:
    """A value: `begun`, `seq` and size of a buffered cell, a text's length, numbers of all sorts."""
    cell = rng.choice(seed.cells)
    at = cell + 8 * rng.choice((0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 9, 12))
    return [(at, _float(rng) if rng.random() < 0.3 else _number(rng, 8))]


def mutate_bytes(seed: Seed, rng: random.Random) -> Patches:
    """A few bytes anywhere."""
    patches = []
    for _ in range(rng.randrange(1, 8)):
        low, high = rng.choice([(0, 128), (128, seed.first), (seed.first, seed.committed), seed.values])
        at = rng.randrange(low, high)
        if rng.random() < 0.5:
            patches.append((at, bytes([seed.data[at] ^ (1 << rng.randrange(8))])))
        else:
            patches.append((at, rng.randbytes(rng.randrange(1, 9))))
    return patches


MUTATORS = (mutate_header, mutate_record, mutate_attribute, mutate_stream, mutate_cell, mutate_bytes)


def mutate(seed: Seed, rng: random.Random) -> tuple[Patches, int | None]:
    """One to three kinds of damage at once."""
    patches: Patches = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        patches += rng.choice(MUTATORS)(seed, rng)
    length = None
    if rng.random() < 0.05:
        length = rng.choice((rng.randrange(seed.committed + 200), rng.randrange(seed.values[0], seed.values[1])))
    return patches, length


def mutate_v1(data: bytes, rng: random.Random) -> bytes:
    """Damage to a file of mmstats 0.x."""
    damaged = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(1, len(damaged))
        what = rng.randrange(4)
        if what == 0:
            damaged[at] = rng.randrange(256)
        elif what == 1:
            damaged[at : at + 2] = struct.pack("=H", rng.choice(NUMBERS) & 0xFFFF)
        elif what == 2:
            del damaged[at : at + rng.randrange(1, 20)]
        else:
            damaged[at:at] = rng.choice((b"99999s", b"?", b"q", b"\xff", bytes(20), rng.randbytes(5)))
        if len(damaged) < 2:
            break
    return bytes(damaged)


def touch(value: values.AnyValue) -> None:
    """Ask a value for everything that it can be asked for."""
    for name in ("name", "kind", "unit", "help", "aggregate", "value", "count", "sum", "mean", "last", "states"):
        getattr(value, name, None)
    repr(value)
    if isinstance(value, values.HistogramValue):
        for q in (0, 0.5, 0.99, 1):
            value.quantile(q)
    if isinstance(value, values.LabelledValue):
        for labels, single in value.items():
            assert value[labels] is single
            touch(single)


def examine(path: str, merged: bool = True) -> str:
    """Read a file and look at all of it: ``refused``, ``in part`` or ``whole``. Raises what must not be.

    Where `merged`, it is read twice and merged.

    Raises `AssertionError` for what took too long.
    """
    begin = time.process_time()
    try:
        try:
            snapshot = reader.read_file(path, WITNESSES)
        except mmstats.MmStatsError as error:
            str(error)
            return "refused"
        for name in snapshot:
            touch(snapshot[name])
        json.dumps(snapshot.to_dict(), allow_nan=False)
        repr(snapshot)
        if merged:
            both = aggregate.merge([snapshot, reader.read_file(path, WITNESSES)])
            for value in both.values():
                touch(value)
            json.dumps(both.to_dict(), allow_nan=False)
        return "in part" if snapshot.problems else "whole"
    finally:
        took = time.process_time() - begin
        assert took < PATIENCE, f"it took {took:.2f} s"


class Patient:
    """A file that is damaged, examined and mended again and again."""

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self._data = data
        self._turn = 0
        # Only pages that are not zero: the file keeps its holes.
        pages = [(at, data[at : at + 4096]) for at in range(0, len(data), 4096)]
        self._pages = [(at, page) for at, page in pages if page.strip(b"\0")]
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._write()

    def _write(self) -> None:
        for at, page in self._pages:
            os.pwrite(self._descriptor, page, at)
        os.ftruncate(self._descriptor, len(self._data))

    def examine(self, patches: Patches, length: int | None) -> str:
        """`examine` the file with this damage; each third time merge it too, which takes longest."""
        self._turn += 1
        for at, data in patches:
            os.pwrite(self._descriptor, data, at)
        if length is not None:
            os.ftruncate(self._descriptor, length)
        try:
            return examine(self.path, self._turn % 3 == 0)
        finally:
            if length is not None:
                self._write()
            for at, data in patches:
                os.pwrite(self._descriptor, self._data[at : at + len(data)].ljust(len(data), b"\0"), at)

    def close(self) -> None:
        os.close(self._descriptor)
