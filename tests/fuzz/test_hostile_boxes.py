"""Whatever a ``.box`` holds, its reader gives our error or what could be saved: no crash, no hang, no bloat."""

from __future__ import annotations

import json
import os
import random
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutations
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import Patches

import mmdebug
import mmstats
from mmdebug import rings
from mmdebug.box import Box
from mmdebug.boxreader import read_box
from mmdebug.capture import exceptions as capture
from mmdebug.layout import HEAD, RECORD_HEAD, RING, SLOT_HEAD, SLOTS, RingFamily, SlotsFamily, decode_place
from mmdebug.records import Box as BoxRecord
from mmdebug.sanitize import Sanitizer
from mmstats import layout, reader, registry

HERE = Path(__file__).parent

#: Calls of functions, Python's and C's, that a reader may make for one box; 4 MB of empty fields take half of it.
MOST_CALLS = 8_000_000

relaxed = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that never holds still costs a reader a quarter of a second, which thousands of files can't."""
    monkeypatch.setattr(reader, "DEADLINE", 0.002)


class Places:
    """A good box, the stat file beside it, and where its rings, their records and its slots lie."""

    def __init__(self, data: bytes, stats: bytes) -> None:
        self.data = data
        self.stats = stats
        header = layout.decode_header(data)
        records = layout.records(data, layout.HEADER_BYTES, header.first_definition)
        records += layout.records(data, header.first_definition, header.committed)
        cells = [cell for *_, cell in records if cell]
        self.seed = mutations.Seed(
            data, header.first_definition, header.committed, records, cells, (min(cells), max(cells) + 200)
        )
        self.rings: list[int] = []
        self.ring_records: list[int] = []
        self.slots: list[int] = []
        for at, size, kind, _, cell in records:
            if kind in (RING, SLOTS):
                family = decode_place(kind, data[at + layout.RECORD_BYTES : at + size])
                if isinstance(family, RingFamily):
                    self.rings.append(cell)
                    self.ring_records += self._records(cell)
                else:
                    assert isinstance(family, SlotsFamily)
                    self.slots += [cell + HEAD + family.size * slot for slot in range(6)]

    def _records(self, cell: int) -> Iterator[int]:
        head, tail = struct.unpack_from("<QQ", self.data, cell)
        while tail < head:
            at = cell + HEAD + tail
            yield at
            tail += struct.unpack_from("<I", self.data, at)[0]


def _failing(number: int) -> None:
    kept = {"number": number, "text": "é" * 20}
    try:
        kept["missing"]
    except KeyError as error:
        raise ValueError(f"number {number}") from error


@pytest.fixture
def places(home: Path) -> Places:
    stats = registry.registry_for(service="seed")
    box = Box(stats, lambda: {"main_thread": "77", "faulthandler": "on", "memory_limit": "1000", "cgroup": "/x"})
    registry.adopt("box", box)
    recorder = rings.Recorder(Sanitizer())
    recorder.switch_on(box.rings, box.samples, box.slots)
    box.open()
    for number in range(12):
        severity = ("debug", "info", "warning", "error")[number % 4]
        recorder.event("tick", severity=severity, number=number, share=0.5, on=True, off=None, text="é" * number)
        recorder.sample({"rss": 1000 + number, "cpu": 0.5, "moved": "1a 2b 3c", "more": 2})
        recorder.activity(f"GET /{number}", user=number).__enter__()
    for number in range(3):
        try:
            _failing(number)
        except ValueError as error:
            captured = capture.capture(error)
            values: dict[str, Any] = {
                "last": 7,
                "thread": 77,
                "context": 0,
                "error": capture.encode(captured, 8192).decode(),
            }
            box.exceptions.labels(f"ValueError{number}", "a.py:3 f", "thread").set(count=2, first=5, **values)
            box.fatal.set(count=1, first=5, how="main thread", place="a.py:3 f", **values)
    assert box.filename is not None and stats.filename is not None
    return Places(Path(box.filename).read_bytes(), Path(stats.filename).read_bytes())


# Looking at all of it.


class Guard:
    """Counts calls, so that what goes round without an end is told without a clock."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> Guard:
        self._before = sys.getprofile()
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _count(self, frame: Any, event: str, argument: Any) -> None:
        self.calls += event in ("call", "c_call")
        if self.calls > MOST_CALLS:
            sys.setprofile(self._before)
            raise AssertionError(f"more than {MOST_CALLS} calls for one box")


def sound(box: BoxRecord) -> None:
    """Whether everything is of the type that the contract says, and bounded."""
    for one in (*box.events, *box.activities):
        assert type(one.name) is str and type(one.time if hasattr(one, "time") else one.started) is int
        for key, value in one.fields.items():
            assert type(key) is str and (value is None or type(value) in (str, int, float, bool))
    for event in box.events:
        assert event.kind in ("event", "log", "note") and event.severity in ("debug", "info", "warning", "error")
    for record in box.exceptions:
        assert type(record.count) is int and type(record.type) is str and type(record.how) is str
    for sample in box.samples:
        assert all([type(value) is float for value in sample.values.values()]) and len(sample.moved) < 1000
    assert all([type(ident) is int and type(name) is str for ident, name in box.threads.items()])
    assert all([type(problem) is str for problem in box.problems])
    repr(box)


def examine(path: str) -> str:
    """Read a box and look at all of it: ``refused``, ``in part`` or ``whole``. Raises what must not be."""
    with Guard():
        try:
            box = read_box(path, lambda offset: f"series {offset}")
        except mmstats.MmStatsError as error:
            str(error)
            return "refused"
        sound(box)
        return "in part" if box.problems else "whole"


class Patient:
    """A box that is damaged, examined and mended again and again, with its stat file beside it."""

    def __init__(self, home: Path, places: Places) -> None:
        self.path = str(home / "patient-1-00000000.box")
        self.stats = str(home / "patient-1-00000000.mmstats")
        Path(self.stats).write_bytes(places.stats)
        self._data = places.data
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._descriptor, self._data, 0)

    def examine(self, patches: Patches, length: int | None = None) -> str:
        self.damage(patches, length)
        try:
            return examine(self.path)
        finally:
            self.mend(patches, length)

    def damage(self, patches: Patches, length: int | None = None) -> None:
        for at, data in patches:
            os.pwrite(self._descriptor, data, at)
        if length is not None:
            os.ftruncate(self._descriptor, length)

    def mend(self, patches: Patches, length: int | None = None) -> None:
        if length is not None:
            os.pwrite(self._descriptor, self._data, 0)
        for at, data in patches:
            os.pwrite(self._descriptor, self._data[at : at + len(data)], at)
        os.ftruncate(self._descriptor, len(self._data))

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def patient(home: Path, places: Places) -> Iterator[Patient]:
    patient = Patient(home, places)
    yield patient
    patient.close()


# Damage that only boxes can have.


def _word(rng: random.Random) -> bytes:
    return mutations._number(rng, 8)


def mutate_ring_head(places: Places, rng: random.Random) -> Patches:
    at = rng.choice(places.rings)
    if rng.random() < 0.4:  # a head that makes sense, and points elsewhere
        head, tail = struct.unpack_from("<QQ", places.data, at)
        step = 8 * rng.randrange(-300, 300) if rng.random() < 0.7 else rng.randrange(-9, 9)
        return [(at + rng.choice((0, 8)), struct.pack("<Q", max(rng.choice((head, tail)) + step, 0)))]
    return [(at + 8 * rng.randrange(5), _word(rng))]


def mutate_ring_record(places: Places, rng: random.Random) -> Patches:
    at = rng.choice(places.ring_records)
    what = rng.random()
    if what < 0.4:
        return [(at, mutations._number(rng, 4))]
    if what < 0.6:
        return [(at + 4, rng.randbytes(1))]
    if what < 0.7:
        return [(at + 8 * rng.randrange(1, 4), _word(rng))]
    return [(at + RECORD_HEAD + rng.randrange(40), rng.randbytes(rng.randrange(1, 5)))]


def mutate_slot(places: Places, rng: random.Random) -> Patches:
    at = rng.choice(places.slots)
    if rng.random() < 0.6:
        return [(at + 8 * rng.randrange(6), _word(rng))]
    return [(at + SLOT_HEAD + rng.randrange(30), rng.randbytes(rng.randrange(1, 5)))]


def mutate_error(places: Places, rng: random.Random) -> Patches:
    """The JSON of a traceback."""
    starts = []
    at = places.data.find(b'{"')
    while at >= 0:
        starts.append(at)
        at = places.data.find(b'{"', at + 2)
    at = rng.choice(starts) + rng.randrange(300)
    junk = rng.choice(
        (b"[" * 200, b"{", b'"', b"1e999", b"-1", b"null", b"9" * 60, b"\xff\xfe", b"\\ud800", b"NaN", b"}}")
    )
    return [(at, junk)]


def mutate_definition(places: Places, rng: random.Random) -> Patches:
    patches, _ = mutations.mutate(places.seed, rng)
    return patches


MUTATORS = (mutate_ring_head, mutate_ring_record, mutate_slot, mutate_error, mutate_definition)


# What is promised.


def test_the_undamaged_box_is_whole(patient: Patient, places: Places) -> None:
    assert patient.examine([]) == "whole"
    box = read_box(patient.path)
    assert (len(box.events), len(box.samples), len(box.activities), len(box.exceptions)) == (12, 12, 12, 4)
    assert all([record.error is not None for record in box.exceptions])
    assert len(places.rings) == 5 and len(places.ring_records) == 24


def test_two_thousand_mutations_raise_only_our_errors(patient: Patient, places: Places) -> None:
    number = int.from_bytes(os.urandom(4), "little")
    rng = random.Random(number)
    outcomes = {"refused": 0, "in part": 0, "whole": 0}
    for turn in range(2000):
        patches: Patches = []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            patches += rng.choice(MUTATORS)(places, rng)
        size = rng.choice((len(places.data), layout.HEADER_BYTES))
        length = rng.randrange(size) if rng.random() < 0.15 else None
        try:
            outcomes[patient.examine(patches, length)] += 1
        except Exception as error:
            raise AssertionError(f"seed {number}, turn {turn}: {patches}, {length}") from error
    assert patient.examine([]) == "whole", "the damage was not mended"
    assert min(outcomes.values()) > 40, outcomes


def test_a_box_may_be_cut_anywhere(patient: Patient, places: Places) -> None:
    rings_and_slots = sorted([*places.rings, *places.slots, *places.ring_records])
    lengths = [
        *range(0, places.seed.committed + 100, 37),
        *[at + step for at in rings_and_slots for step in (0, 9, 33)],
    ]
    outcomes = {patient.examine([], length) for length in lengths}
    assert {"refused", "in part"} <= outcomes


def test_each_word_of_a_rings_head_may_hold_anything(patient: Patient, places: Places) -> None:
    for at in places.rings[:2]:
        for offset in range(0, 40, 8):
            for number in mutations.NUMBERS:
                patient.examine([(at + offset, struct.pack("<Q", number))])


def test_each_size_of_a_record_may_be_anything(patient: Patient, places: Places) -> None:
    for at in places.ring_records[3:5]:
        for number in mutations.NUMBERS:
            patient.examine([(at, struct.pack("<I", number & 0xFFFFFFFF))])


def test_with_a_damaged_box_there_is_still_a_post_mortem(patient: Patient, places: Places) -> None:
    rng = random.Random()
    outcomes = set()
    for _ in range(300):
        patches = rng.choice(MUTATORS)(places, rng)
        length = rng.randrange(len(places.data)) if rng.random() < 0.3 else None
        patient.damage(patches, length)
        try:
            found = mmdebug.load(patient.stats)
            outcome = examine(patient.path)
        finally:
            patient.mend(patches, length)
        assert isinstance(found, mmdebug.PostMortem) and found.stats is not None and found.verdict.summary
        assert (found.box is None) == (outcome == "refused"), (found.problems, outcome)
        assert bool(found.problems) == (outcome != "whole"), (found.problems, outcome)
        json.dumps(found.to_dict(), allow_nan=False)
        outcomes.add(outcome)
    assert outcomes == {"refused", "in part", "whole"}


@relaxed
@given(data=st.binary(max_size=600))
def test_random_bytes_raise_only_our_errors(home: Path, data: bytes) -> None:
    path = home / "random-1-00000000.box"
    path.write_bytes(data)
    examine(str(path))
    path.write_bytes(b"\x01" + data)
    examine(str(path))


def _box(
    path: Path, places: list[tuple[int, RingFamily | SlotsFamily]], contents: dict[int, bytes], length: int
) -> None:
    """A box of these rings and tables at these offsets; what is not given is a hole."""
    stream = b"".join([family.encode_series(0, (), cell, 0) for cell, family in places])
    header = layout.Header(0, 128, 128 + len(stream), layout.LIVE, bytes(16), 1)
    with open(path, "wb") as file:
        file.write(header.encode() + stream)
        file.truncate(length)
        for at, data in contents.items():
            file.seek(at)
            file.write(data)


@relaxed
@given(
    kinds=st.lists(
        st.tuples(st.booleans(), st.integers(0, 40), st.sampled_from([64, 4096, 16384, 65536, 1 << 40])), max_size=6
    ),
    data=st.binary(max_size=2000),
)  # fmt: skip
def test_rings_and_slots_anywhere_raise_only_our_errors(
    home: Path, kinds: list[tuple[bool, int, int]], data: bytes
) -> None:
    path = home / "random-1-00000000.box"
    places: list[tuple[int, RingFamily | SlotsFamily]] = []
    for number, (ring, cell, size) in enumerate(kinds):
        family = RingFamily(f"events.{number}", size) if ring else SlotsFamily(f"slots {number}", 1 + cell, size)
        places.append((4096 + 8 * cell, family))
    _box(path, places, {4096: data}, 70_000)
    examine(str(path))


# Boxes that are large, or say so. Each in a process of its own, whose memory is measured.

MEASURE = f"""
    import json, resource, sys
    sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]
    import test_hostile_boxes as hostile
    from mmdebug.boxreader import read_box
    import mmstats
    warm, path = sys.stdin.readline().split()
    read_box(warm)
    def used():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = used()
    with hostile.Guard() as guard:
        try:
            box = read_box(path)
            outcome = "in part" if box.problems else "whole"
        except mmstats.MmStatsError as error:
            outcome = "refused"
    print(json.dumps([outcome, guard.calls, (used() - before) / 1024]))
"""

_MIB = 1 << 20
#: A record without fields, one of nothing but empty ones, and padding: what makes most of the least bytes.
_SHORT = struct.pack("<IBBxxQQQ", 32, 1, 0, 7, 7, 7)
_EMPTY_FIELDS = struct.pack("<IBBxxQQQ", 4096, 1, 0, 7, 7, 7) + struct.pack("<BBH", 5, 0, 0) * ((4096 - 32) // 4)
_PADDING = struct.pack("<IBBxx", 8, 0, 0)


def _ring(record: bytes, capacity: int) -> bytes:
    count = capacity // len(record)
    return struct.pack("<QQQQ", count * len(record), 0, capacity, count).ljust(HEAD, b"\0") + record * count


def _full(record: bytes, rings_: int) -> Callable[[Path], None]:
    """So many rings, all of one and the same four megabytes, which are full."""
    names = ["events.debug", "events.info", "events.warning", "events.error", "samples"]
    names += [f"events.{n}" for n in range(40)]

    def write(path: Path) -> None:
        places: list[tuple[int, RingFamily | SlotsFamily]] = [(8192, RingFamily(n, 4 * _MIB)) for n in names[:rings_]]
        _box(path, places, {8192: _ring(record, 4 * _MIB)}, 8192 + HEAD + 4 * _MIB)

    return write


def _slots(count: int) -> Callable[[Path], None]:
    family = SlotsFamily("activities", count, 4096)
    slot = struct.pack("<QQQQQII", 1, 1, 7, 7, 7, 4096 - SLOT_HEAD, 0) + struct.pack("<BBH", 5, 0, 0) * 1012

    def write(path: Path) -> None:
        table = struct.pack("<QQ", count, 4096).ljust(HEAD, b"\0") + slot * count
        _box(path, [(8192, family)], {8192: table}, 8192 + family.cell_size)

    return write


HUGE: dict[str, Callable[[Path], None]] = {
    "a ring of four megabytes of records": _full(_SHORT, 1),
    "a ring of four megabytes of empty fields": _full(_EMPTY_FIELDS, 1),
    "a ring of four megabytes of padding": _full(_PADDING, 1),
    "all rings at one place, full of records": _full(_SHORT, 45),
    "all rings at one place, full of empty fields": _full(_EMPTY_FIELDS, 45),
    "all rings at one place, full of padding": _full(_PADDING, 45),
    "a thousand slots of empty fields": _slots(1000),
    "sixteen thousand slots in a hole": lambda path: _box(
        path, [(8192, SlotsFamily("activities", 1 << 14, 4096))], {}, 1 << 30
    ),
    "a ring in a hole of a terabyte": lambda path: _box(
        path, [(1 << 39, RingFamily("events.info", 4 * _MIB))], {}, 1 << 40
    ),
    "committed at the limit": lambda path: _committed(path, 1 << 24),
    "committed beyond the limit": lambda path: _committed(path, 1 << 40),
}


def _committed(path: Path, committed: int) -> None:
    with open(path, "wb") as file:
        file.write(layout.Header(0, 128, committed, layout.LIVE, bytes(16), 1).encode())
        file.truncate(1 << 34)


@pytest.mark.parametrize("name", HUGE)
def test_a_large_box_is_read_in_bounded_memory_and_steps(
    run: Callable, home: Path, patient: Patient, name: str
) -> None:
    path = home / "huge-1-00000000.box"
    try:
        HUGE[name](path)
    except OSError as error:
        pytest.skip(f"NOT TESTED: no such file can be made here: {error}")
    program = run(MEASURE)
    program.say(f"{patient.path} {path}")
    _, calls, mebibytes = json.loads(program.finish()[0])
    assert calls <= MOST_CALLS
    assert mebibytes < 200, f"{mebibytes:.0f} MiB for a file of {path.stat().st_blocks * 512 / _MIB:.1f} MiB"
