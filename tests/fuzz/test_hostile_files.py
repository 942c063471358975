"""Whatever a file holds, a reader gives our error or what could be saved: no crash, no hang, no bloat."""

from __future__ import annotations

import json
import math
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmstats
from mmstats import layout, reader, retention

HERE = Path(__file__).parent

relaxed = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that never holds still costs a reader a quarter of a second, which thousands of files can't."""
    monkeypatch.setattr(reader, "DEADLINE", 0.002)


@pytest.fixture
def seed(home: Path) -> mutations.Seed:
    return mutations.seed(str(home))


@pytest.fixture
def patient(home: Path, seed: mutations.Seed) -> Any:
    patient = mutations.Patient(str(home / "patient-1-00000000.mmstats"), seed.data)
    yield patient
    patient.close()


def test_the_undamaged_file_is_whole(patient: mutations.Patient) -> None:
    assert patient.examine([], None) == "whole"
    for name, value in mmstats.read(patient.path).items():
        mutations.touch(value)
        assert value.name == name


def test_three_thousand_mutations_raise_only_our_errors(patient: mutations.Patient, seed: mutations.Seed) -> None:
    number = int.from_bytes(os.urandom(4), "little")
    rng = random.Random(number)
    outcomes = {"refused": 0, "in part": 0, "whole": 0}
    for turn in range(3_000):
        patches, length = mutations.mutate(seed, rng)
        try:
            outcomes[patient.examine(patches, length)] += 1
        except Exception as error:
            raise AssertionError(f"seed {number}, turn {turn}: {patches}, {length}") from error
    assert patient.examine([], None) == "whole", "the damage was not mended"
    assert min(outcomes.values()) > 90, outcomes


def test_who_deletes_files_is_not_confused_by_damage(patient: mutations.Patient, seed: mutations.Seed) -> None:
    rng = random.Random()
    for _ in range(300):
        patches = mutations.mutate_header(seed, rng)
        for at, data in patches:
            os.pwrite(patient._descriptor, data, at)
        try:
            retention.dead_files([patient.path])
            retention.prune_service(os.path.dirname(patient.path), "another")
        finally:
            patient.examine(patches, None)


def test_a_value_that_never_holds_still_takes_less_than_a_second(
    patient: mutations.Patient, seed: mutations.Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "DEADLINE", 0.25)
    assert reader.DEADLINE == 0.25
    begun = [(cell, struct.pack("<Q", (1 << 64) - 1)) for cell in seed.cells]
    assert patient.examine(begun, None) == "in part"


def test_each_field_of_the_header_may_hold_anything(patient: mutations.Patient) -> None:
    for at, size in [(8, 2), (10, 2), (12, 4), (16, 8), (24, 8), (56, 8), (64, 8), (72, 4), (76, 4), (80, 8), (112, 8)]:
        for number in mutations.NUMBERS:
            data = (number & ((1 << 8 * size) - 1)).to_bytes(size, "little")
            patient.examine([(at, data)], None)


def test_each_word_of_each_record_may_hold_anything(patient: mutations.Patient, seed: mutations.Seed) -> None:
    for at, size, kind, _, _ in seed.records:
        if kind == layout.PADDING:
            continue
        for offset in range(0, min(size, 40), 4):
            for number in (0, 65535, (1 << 32) - 1):
                patient.examine([(at + offset, struct.pack("<I", number))], None)


def test_a_file_may_be_cut_anywhere(patient: mutations.Patient, seed: mutations.Seed) -> None:
    outcomes = {patient.examine([], length) for length in range(0, seed.committed + 300, 11)}
    outcomes |= {patient.examine([], length) for length in range(seed.values[0] - 8, seed.values[1], 8)}
    assert {"refused", "in part"} <= outcomes


def test_every_mutation_of_an_old_file_raises_only_our_errors(home: Path) -> None:
    path = str(home / "old.mmstats")
    data = mutations.seed_v1()
    Path(path).write_bytes(data)
    assert mutations.examine(path) == "whole"
    assert mmstats.read(path)["note"].value == "abcdefghij"
    rng = random.Random()
    outcomes = set()
    for _ in range(2000):
        damaged = mutations.mutate_v1(data, rng)
        Path(path).write_bytes(damaged)
        outcomes.add(mutations.examine(path))
    for length in range(len(data)):
        Path(path).write_bytes(data[:length])
        outcomes.add(mutations.examine(path))
    assert outcomes == {"refused", "in part", "whole"}


@relaxed
@given(data=st.binary(max_size=400))
def test_random_bytes_raise_only_our_errors(home: Path, data: bytes) -> None:
    path = home / "random.mmstats"
    path.write_bytes(data)
    mutations.examine(str(path))
    path.write_bytes(b"\x01" + data)
    mutations.examine(str(path))


@relaxed
@given(
    bodies=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 200), st.binary(max_size=80))),
    values=st.binary(max_size=600),
)
def test_random_records_behind_a_good_header_raise_only_our_errors(
    home: Path, bodies: list[tuple[int, int, int, bytes]], values: bytes
) -> None:
    stream = b""
    for kind, flags, cell, body in bodies:
        body = body.ljust(layout.align(len(body)), b"\0")
        stream += layout.RECORD.pack(16 + len(body), kind, flags, 4096 + 8 * cell) + body
    header = layout.Header(0, 128, 128 + len(stream), layout.LIVE, bytes(16), 1)
    path = home / "random.mmstats"
    path.write_bytes((header.encode() + stream).ljust(4096, b"\0") + values)
    mutations.examine(str(path))


_names = st.text(max_size=8)
_columns = st.builds(
    layout.Column, _names, st.sampled_from(list(layout.COLUMN_CODES)), st.sampled_from([1, 2, 3, 40, 65536])
)


@relaxed
@given(
    families=st.lists(
        st.tuples(
            st.builds(
                layout.Family, _names, st.sampled_from(list(layout.KIND_CODES)),
                st.sampled_from(list(layout.CELL_CODES)), st.sampled_from(list(layout.AGGREGATE_CODES)), _names, _names,
                st.lists(_names, max_size=2).map(tuple), st.lists(_columns, max_size=4).map(tuple),
                st.lists(st.floats(), max_size=3).map(tuple), st.lists(_names, max_size=2).map(tuple),
                st.integers(0, 15),
            ),
            st.lists(st.tuples(st.integers(0, 40), st.lists(_names, max_size=2).map(tuple)), max_size=4),
        ),
        max_size=5,
    ),
    values=st.one_of(st.binary(max_size=600), st.just(b"\xff" * 600), st.just(struct.pack("<d", math.inf) * 80)),
)  # fmt: skip
def test_definitions_that_contradict_themselves_raise_only_our_errors(
    home: Path, families: list[tuple[layout.Family, list[tuple[int, tuple[str, ...]]]]], values: bytes
) -> None:
    stream = b""
    for number, (family, series) in enumerate(families):
        stream += layout.encode_family(number, family)
        for cell, labels in series:
            stream += layout.encode_series(number, labels, 65536 + 8 * cell)
    header = layout.Header(0, 128, 128 + len(stream), layout.LIVE, bytes(16), 1)
    path = home / "random.mmstats"
    path.write_bytes((header.encode() + stream).ljust(65536, b"\0") + values)
    mutations.examine(str(path))


@pytest.mark.parametrize("cell", ["u64", "i64", "f64"])
@pytest.mark.parametrize("kind", list(layout.KIND_CODES))
def test_a_word_of_any_kind_may_hold_anything(home: Path, kind: str, cell: str) -> None:
    path = home / "word-1-00000000.mmstats"
    for flags in (0, layout.STAMPED):
        family = layout.Family("word", kind, cell, "sum", states=("a", "b"), flags=flags)
        stream = layout.encode_family(0, family) + layout.encode_series(0, (), 4096)
        for word in (
            bytes(8),
            b"\xff" * 8,
            struct.pack("<d", math.inf),
            struct.pack("<d", math.nan),
            b"\x01" + bytes(7),
        ):
            _sparse(path, 128 + len(stream), stream, 8192, (4096, word * 2))
            mutations.examine(str(path))


# Files that are large, or say so. Each in a process of its own, whose memory is measured.

MEASURE = f"""
    import json, resource, sys
    sys.path.insert(0, {str(HERE)!r})
    import mutations
    warm, path = sys.stdin.readline().split()
    mutations.examine(warm)
    def used():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = used()
    import time
    begin = time.process_time()
    import mmstats
    try:
        snapshot = mmstats.read(path)
        json.dumps(snapshot.to_dict())
        for name in snapshot:
            mutations.touch(snapshot[name])
        outcome = "in part" if snapshot.problems else "whole"
        problems = len(snapshot.problems)
    except mmstats.MmStatsError as error:
        outcome, problems = "refused", 0
    print(json.dumps([outcome, problems, time.process_time() - begin, (used() - before) / 1024]))
"""


def _sparse(path: Path, committed: int, stream: bytes, length: int, tail: tuple[int, bytes] = (0, b"")) -> None:
    header = layout.Header(0, 128, committed, layout.LIVE, bytes(16), 1)
    with open(path, "wb") as file:
        file.write(header.encode() + stream)
        file.truncate(length)
        if tail[0]:
            file.seek(tail[0])
            file.write(tail[1])


def _old(path: Path, data: bytes, length: int) -> None:
    path.write_bytes(data)
    os.truncate(path, length)


def _big_struct(columns: int, type_: str) -> bytes:
    family = layout.Family(
        "big", "struct", "buffered", "all", columns=tuple([layout.Column("c", type_, 65536)] * columns)
    )
    return layout.encode_family(0, family) + layout.encode_series(0, (), 1 << 20)


def _many_series(count: int, family: layout.Family, step: int) -> bytes:
    return layout.encode_family(0, family) + b"".join(
        [layout.encode_series(0, (), (1 << 24) + step * index) for index in range(count)]
    )


def _both_ends(family: layout.Family, size: int) -> bytes:
    cells = (4096, 4096 + layout.MAX_REGION - size)
    return layout.encode_family(0, family) + b"".join([layout.encode_series(0, (), cell) for cell in cells])


_WORD = layout.Family("w", "counter", "u64", "sum")
_BUFFERED = layout.Family(
    "b", "average", "buffered", "sum", columns=(layout.Column("count", "u64"), layout.Column("sum", "f64"))
)
_GIB = 1 << 30


def _old_fields(count: int) -> bytes:
    """An old file of as many fields; each takes as little as it can with a label of its own."""
    labels = [b"%05x" % number for number in range(count)]
    return b"\x01" + b"".join([struct.pack("=H", 5) + label + struct.pack("=H", 1) + b"b\xff\x00" for label in labels])


HUGE: dict[str, Callable[[Path], None]] = {
    "all zeros behind the header, committed at the limit": lambda path: _sparse(path, 1 << 24, b"", 16 * _GIB),
    "committed beyond the limit": lambda path: _sparse(path, 1 << 40, b"", 16 * _GIB),
    "committed beyond the end of the file": lambda path: _sparse(path, 1 << 24, b"", 200),
    "empty, and a terabyte long": lambda path: _sparse(path, 128, b"", 1 << 40),
    "two cells at both ends of a terabyte": lambda path: _sparse(
        path, 128 + len(stream := layout.encode_family(0, _WORD) + layout.encode_series(0, (), 4096)
        + layout.encode_series(0, (), (1 << 40) - 8)), stream, 1 << 40,
    ),
    "two words 16 MB apart, in a hole": lambda path: _sparse(
        path, 128 + len(stream := _both_ends(_WORD, 8)), stream, 1 << 26
    ),
    "two buffered cells 16 MB apart, in a hole": lambda path: _sparse(
        path, 128 + len(stream := _both_ends(_BUFFERED, 56)), stream, 1 << 26
    ),
    "two words 16 MB apart, the second beyond the end": lambda path: _sparse(
        path, 128 + len(stream := _both_ends(_WORD, 8)), stream, 1 << 23
    ),
    "cells beyond the end of the file": lambda path: _sparse(
        path, 128 + len(stream := layout.encode_family(0, _WORD) + layout.encode_series(0, (), 1 << 23)), stream, 4096
    ),
    "a struct of 4 MB of words in a hole": lambda path: _sparse(
        path, 128 + len(stream := _big_struct(8, "u64")), stream, _GIB, (1 << 20, struct.pack("<QQQ", 0, 0, 8 << 19))
    ),
    "a struct of 4 MB of floats in a hole": lambda path: _sparse(
        path, 128 + len(stream := _big_struct(8, "f64")), stream, _GIB, (1 << 20, struct.pack("<QQQ", 0, 0, 8 << 19))
    ),
    "texts of a megabyte in a hole": lambda path: _sparse(
        path, 128 + len(stream := _big_struct(100, "text")), stream, _GIB,
        (1 << 20, struct.pack("<QQQ", 0, 0, 100 * 65544)),
    ),
    "a struct larger than the limit": lambda path: _sparse(
        path, 128 + len(stream := _big_struct(2000, "u64")), stream, _GIB
    ),
    "an old file of 16 MB of zeros": lambda path: _old(path, b"\x01", (1 << 24) - 1),
    "an old file of a terabyte": lambda path: _old(path, b"\x01", 1 << 40),
    "an old file of 30,000 fields": lambda path: _old(path, data := _old_fields(30_000), len(data)),
    "an old file of a million fields": lambda path: _old(path, data := _old_fields(1_000_000), len(data)),
    "20,000 series of one cell": lambda path: _sparse(
        path, 128 + len(stream := _many_series(20_000, _WORD, 0)), stream, 1 << 25
    ),
    "60,000 buffered cells, all damaged": lambda path: _sparse(
        path, 128 + len(stream := _many_series(60_000, _BUFFERED, 56)), stream, 1 << 25
    ),
    "20,000 series of no family": lambda path: _sparse(
        path, 128 + len(stream := _many_series(20_000, _WORD, 8)[64:]), stream, 1 << 25
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HUGE)
def test_huge_files_take_neither_long_nor_much_memory(
    run: Callable, home: Path, seed: mutations.Seed, what: str
) -> None:
    warm, path = home / "warm-1-00000000.mmstats", home / "huge-1-00000000.mmstats"
    warm.write_bytes(seed.data)
    HUGE[what](path)
    program = run(MEASURE)
    program.say(f"{warm} {path}")
    out, err = program.finish()
    assert err == ""
    outcome, problems, seconds, megabytes = json.loads(out)
    print(f"{outcome} with {problems} problems, {seconds:.2f} s, {megabytes:.0f} MiB")
    assert seconds < 1.0
    assert megabytes < 64


def test_thousands_of_damaged_files_leave_no_memory_behind(run: Callable, home: Path) -> None:
    program = run(f"""
        import random, resource, sys
        sys.path.insert(0, {str(HERE)!r})
        import mutations
        home = sys.stdin.readline().strip()
        seed = mutations.seed(home)
        patient = mutations.Patient(home + "/patient-1-00000000.mmstats", seed.data)
        mutations.reader.DEADLINE = 0.002
        rng = random.Random()
        def go(times):
            for _ in range(times):
                patient.examine(*mutations.mutate(seed, rng))
        go(200)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        go(2000)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """)
    program.say(str(home))
    out, err = program.finish()
    assert err == ""
    assert int(out) < 64


@pytest.mark.parametrize("depth", [900, 960, 980, 985, 990, 995, 1000, 1100, 5000, 15000])
def test_facts_nested_deeper_than_python_can_go_are_no_facts(home: Path, depth: int) -> None:
    class Stats(mmstats.MmStats):
        build = mmstats.InfoField(size=32768)

    stats = Stats()
    stats.build.set('{"a": ' + "[" * depth + "]" * depth + "}")
    assert mutations.examine(stats.filename) == "whole"


def test_what_is_no_regular_file_is_refused_at_once(home: Path) -> None:
    os.mkfifo(home / "fifo-1-00000000.mmstats")
    (home / "directory-1-00000000.mmstats").mkdir()
    os.symlink("/dev/zero", home / "device-1-00000000.mmstats")
    os.symlink("loop-1-00000000.mmstats", home / "loop-1-00000000.mmstats")
    os.symlink("nowhere", home / "dangling-1-00000000.mmstats")
    for path in home.iterdir():
        assert mutations.examine(str(path)) == "refused"
    fleet = mmstats.read_all(home)
    assert len(fleet) == 0
    assert len(fleet.problems) == 5
