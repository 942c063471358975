"""docs/format.md suffices: a reader written from it alone, in another language, sees what `mmstats.read` sees."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Program

import mmstats

READER = ROOT / "tests" / "readers" / "reader.js"

Node = Callable[..., dict[str, Any]]


@pytest.fixture
def node() -> Node:
    """Run the reader on a file: what it prints, after checking its exit status."""
    found = shutil.which("node")
    if found is None:
        message = "NOT TESTED: there is no node, so nothing shows that docs/format.md suffices for other readers"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)

    def read(path: Path, status: int = 0) -> dict[str, Any]:
        done = subprocess.run([found, str(READER), str(path)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (status, ""), (done.stdout, done.stderr)
        printed: dict[str, Any] = json.loads(done.stdout)
        assert ("error" in printed) == (status != 0)
        return printed

    return read


def only_file(home: Path) -> Path:
    (path,) = home.glob("*.mmstats")
    return path


# What the library says, in the words of the other reader.


def plain(value: Any) -> Any:
    """As the reader prints it: JSON has neither 64-bit integers nor NaN and infinities."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and abs(value) >= 2**53:
        return str(value)
    return value


PARTS = {
    "histogram": ("count", "sum", "buckets", "bounds"),
    "average": ("count", "sum", "mean"),
    "timer": ("count", "sum", "last", "min", "max", "window_count", "window_sum"),
    "moving_average": ("count", "sum", "last", "min", "max", "window_count", "window_sum"),
}


def expected(value: Any) -> Any:
    """One value of `mmstats.read`, as the reader should print it."""
    if value.kind not in PARTS:
        return plain(value.value)
    parts = {part: getattr(value, part) for part in PARTS[value.kind]}
    if "window_count" in parts:
        parts["window_mean"] = value.value
    return plain(parts)


def by_labels(entry: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """The series that the reader found a value for, without what means nothing."""
    found = {}
    for series in entry["series"]:
        value = series["value"]
        if value is None:
            continue
        if entry["kind"] == "enum" and not isinstance(value, str):
            value = None  # the reader shows the number of a state without a name
        elif entry["kind"] in ("timer", "moving_average") and value["count"] == 0:
            value = {**value, "last": None, "min": None, "max": None}
        found[tuple(series["labels"])] = value
    return found


def compare(snapshot: mmstats.Snapshot, printed: dict[str, Any]) -> None:
    """Both readers found the same values, and describe them alike."""
    named = {name: entry for name, entry in printed["values"].items() if entry["labels"] or by_labels(entry)}
    assert sorted(named) == sorted(snapshot)
    for name, value in snapshot.items():
        entry = named[name]
        described = {key: entry[key] for key in ("kind", "unit", "help", "aggregate")}
        assert described == {key: getattr(value, key) for key in described}, name
        if entry["labels"]:
            assert entry["labels"] == list(value.labelnames), name
            assert by_labels(entry) == {labels: expected(each) for labels, each in value.items()}, name
        else:
            assert by_labels(entry) == {(): expected(value)}, name


def compare_file(path: Path, node: Node) -> dict[str, Any]:
    """Compare the values of a file that holds still and is whole. Returns what the reader printed."""
    printed = node(path)
    snapshot = mmstats.read(path)
    assert printed["problems"] == []
    assert list(snapshot.problems) == []
    compare(snapshot, printed)
    return printed


# Real files.

EVERY_FIELD = """
    import sys, mmstats

    class Every(mmstats.BaseMmStats):
        a_byte = mmstats.ByteField(help="the smallest")
        a_short = mmstats.ShortField()
        a_ushort = mmstats.UShortField()
        an_int = mmstats.IntField()
        a_uint = mmstats.UIntField()
        an_int64 = mmstats.Int64Field(aggregate="min")
        a_uint64 = mmstats.UInt64Field(aggregate="max", unit="bytes")
        safe = mmstats.Int64Field()
        unsafe = mmstats.Int64Field()
        a_float = mmstats.FloatField()
        a_double = mmstats.DoubleField(aggregate="mean")
        nan = mmstats.DoubleField()
        infinite = mmstats.GaugeField()
        stamped = mmstats.GaugeField(aggregate="last", unit="°C", help="Température, “ici” \\\\ 'là'")
        stamped_by_room = mmstats.GaugeField(aggregate="last", labelnames=("room",))
        untouched = mmstats.GaugeField(aggregate="all")
        on = mmstats.BoolField()
        off = mmstats.BoolField(aggregate="max")
        a_counter = mmstats.CounterField()
        a_float_counter = mmstats.CounterField(type=float)
        by_method = mmstats.CounterField(labelnames=("method", "status"))
        unlabelled_yet = mmstats.CounterField(labelnames=("method",))
        a_histogram = mmstats.HistogramField(buckets=(0.25, 1.0), unit="seconds")
        one_bound = mmstats.HistogramField(buckets=(1.0,))
        by_path = mmstats.HistogramField(labelnames=("path",))
        a_timer = mmstats.TimerField()
        by_step = mmstats.TimerField(size=2, labelnames=("step",))
        an_average = mmstats.AverageField()
        no_average = mmstats.AverageField()
        moving = mmstats.MovingAverageField(size=3)
        not_moving = mmstats.MovingAverageField()
        a_string = mmstats.StringField(size=32)
        cut = mmstats.StringField(size=6)
        stamped_string = mmstats.StringField(size=32, aggregate="last")
        by_part = mmstats.StringField(labelnames=("part",))
        state = mmstats.EnumField(states=["starting", "läuft", "stopped"])
        build = mmstats.InfoField()
        no_info = mmstats.InfoField()
        disk = mmstats.StructField({"used": int, "load": float, "who": str, "ok": bool})
        by_volume = mmstats.StructField({"used": int}, labelnames=("volume",))
        static_text = mmstats.StaticTextField(value="r1234")
        static_uint = mmstats.StaticUIntField(value=7)
        static_int64 = mmstats.StaticInt64Field(value=-(2**63))
        static_uint64 = mmstats.StaticUInt64Field(value=2**64 - 1)
        static_float = mmstats.StaticFloatField(value=0.5)
        static_double = mmstats.StaticDoubleField(value=1e300)

    s = Every(service="every-field")
    s.a_byte, s.a_short, s.a_ushort, s.an_int, s.a_uint = -128, -32768, 65535, -(2**31), 2**32 - 1
    s.an_int64, s.a_uint64, s.safe, s.unsafe = -(2**63), 2**64 - 1, 2**53 - 1, -(2**53) - 1
    s.a_float, s.a_double, s.nan = 0.1, 5e-324, float("nan")
    s.infinite.set(float("-inf"))
    s.stamped.set(21.5)
    s.stamped_by_room.labels("kitchen").set(-1)
    s.on = True
    s.a_counter.inc(2**53 + 1)
    s.a_float_counter.inc(0.1)
    for method, status in (("GET", "200"), ("GET", "404"), ("", ""), ("__proto__", "é\\n\\"'\\\\")):
        s.by_method.labels(method, status).inc(3)
    for seconds in (0.125, 0.25, 0.5, 1e9):
        s.a_histogram.observe(seconds)
        s.by_path.labels("/a").observe(seconds)
        s.an_average.add(seconds)
        s.moving.add(seconds)
    s.by_path.labels("/b")
    for step in range(3):
        with s.a_timer, s.by_step.labels("one"):
            pass
    s.a_string, s.cut, s.stamped_string = "first", "€€€", "\\ufeffbom"
    s.a_string = "café \\U0001f600 \\0 <end>"
    s.by_part.labels("head").set("up")
    s.state.state("läuft")
    s.build.info({"version": "1.2", "__proto__": "x", "naïve": "\\u2028\\"\\\\"})
    s.disk.set(used=-(2**63), load=float("inf"), who="é", ok=True)
    s.by_volume.labels("/").set(used=2**62)
    print("ready", flush=True)
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
"""


def test_all_types_of_fields_are_tried() -> None:
    fields = {name for name in mmstats.__all__ if name.endswith("Field")} - {"Field"}
    assert {name for name in fields if f"mmstats.{name}(" in EVERY_FIELD} == fields


def test_every_field_of_a_live_process(home: Path, run: Callable[..., Program], node: Node) -> None:
    program = run(EVERY_FIELD)
    assert program.line() == "ready"
    path = only_file(home)
    printed = compare_file(path, node)
    snapshot = mmstats.read(path)
    header, identity = printed["header"], printed["identity"]
    assert (header["major"], header["state"], header["pid"]) == (2, 1, program.pid)
    assert header["uuid"] == snapshot.uuid
    assert int(header["created"]) == snapshot.created
    assert header["inode"] == path.stat().st_ino
    told = snapshot.to_dict()
    assert identity["service"] == [told["service"]] == ["every-field"]
    assert identity["host"] == [told["host"]]
    assert identity["argv"] == told["argv"]
    assert dict(each.split("=", 1) for each in identity["environ"]) == told["environ"]
    assert {key: identity[key] for key in told["versions"]} == {key: [each] for key, each in told["versions"].items()}
    # What mmstats.read does not tell: stamps.
    for name in ("stamped", "stamped_by_room", "stamped_string"):
        (series,) = printed["values"][name]["series"]
        assert int(header["created"]) <= int(series["time"]) <= time.time_ns()


def test_a_closed_file(home: Path, run: Callable[..., Program], node: Node) -> None:
    program = run(EVERY_FIELD)
    assert program.line() == "ready"
    program.finish()
    header = compare_file(only_file(home), node)["header"]
    assert header["state"] == 2
    assert int(header["created"]) < int(header["closed"]) <= time.time_ns()


def test_labels_added_at_run_time(home: Path, run: Callable[..., Program], node: Node) -> None:
    program = run(EVERY_FIELD)
    assert program.line() == "ready"
    before = compare_file(only_file(home), node)
    committed = before["header"]["committed"]
    for line in (
        "s.by_method.labels('POST', '200').inc()",
        "s.unlabelled_yet.labels('__overflow__').inc(5)",
        "for n in range(300): s.by_path.labels(f'/{n}').observe(n)",
        "s.by_part.labels('tail').set('down'); s.stamped_by_room.labels('').set(3)",
    ):
        program.say(line)
        assert program.line() == "done"
        printed = compare_file(only_file(home), node)
        assert printed["header"]["uuid"] == before["header"]["uuid"]
        assert printed["header"]["committed"] > committed
        committed = printed["header"]["committed"]
    assert len(printed["values"]["by_path"]["series"]) == 302


def test_more_labels_than_fit(home: Path, run: Callable[..., Program], node: Node) -> None:
    program = run(EVERY_FIELD)
    assert program.line() == "ready"
    program.say("for n in range(30000): s.by_method.labels(f'{n}', '').inc()")
    assert program.line() == "done"
    values = compare_file(only_file(home), node)["values"]
    (overflow,) = [each for each in values["by_method"]["series"] if each["overflow"]]
    assert overflow["labels"] == ["__overflow__", "__overflow__"]
    assert values["mmstats.overflow"]["series"][0]["value"] == overflow["value"] > 0


# Writers that do not hold still, and writers that died. Count and bucket lie 7 kB apart, which makes tears likely.

BUSY = """
    import time, mmstats

    class Busy(mmstats.BaseMmStats):
        hot = mmstats.HistogramField(buckets=range(900))
        many = mmstats.HistogramField(buckets=range(900), labelnames=("n",))
        text = mmstats.StringField(size=200)
        pair = mmstats.StructField({"a": int, "text": str, "b": int})
        requests = mmstats.CounterField(labelnames=("n",))

    s = Busy()
    many = [s.many.labels(str(n)) for n in range(10)]
    print("ready", flush=True)
    n = 0
    while True:
        n += 1
        for one in many:
            one.observe(899.5)
            s.hot.observe(899.5)
        s.text = "abcdefgh"[n % 8] * (n % 200)
        s.pair.set(a=n, text=str(n), b=n)
        if n % 64 == 0:
            s.requests.labels(str(n % 6400)).inc()
            time.sleep(0.0002)
"""


def check_busy(printed: dict[str, Any]) -> int:
    """No value is torn. Returns how many samples `hot` had; 0 if it did not hold still."""
    values = {name: by_labels(entry) for name, entry in printed["values"].items()}
    for histogram in [*values["hot"].values(), *values["many"].values()]:
        assert histogram["sum"] == 899.5 * histogram["count"]
        assert histogram["buckets"] == [0] * 900 + [histogram["count"]]
    for text in values["text"].values():
        assert len(set(text)) <= 1
    for pair in values["pair"].values():
        assert pair["a"] == pair["b"] == int(pair["text"] or 0)
    return int(values["hot"].get((), {"count": 0})["count"])


def test_a_spinning_writer(home: Path, run: Callable[..., Program], node: Node) -> None:
    program = run(BUSY)
    assert program.line() == "ready"
    path = only_file(home)
    counts = []
    for _ in range(25):
        printed = node(path)
        assert all("hold still" in problem for problem in printed["problems"])
        counts.append(check_busy(printed))
    accepted = [count for count in counts if count]
    assert len(accepted) >= 5
    assert accepted == sorted(accepted)
    assert accepted[0] < accepted[-1]
    assert program.process.poll() is None


def test_killed_while_it_records(home: Path, run: Callable[..., Program], node: Node) -> None:
    for _ in range(8):
        program = run(BUSY)
        assert program.line() == "ready"
        time.sleep(random.uniform(0.005, 0.1))
        program.kill()
        path = only_file(home)
        assert check_busy(compare_file(path, node)) > 0
        path.unlink()


def test_every_field_after_a_kill(home: Path, run: Callable[..., Program], node: Node) -> None:
    program = run(EVERY_FIELD)
    assert program.line() == "ready"
    program.kill()
    assert compare_file(only_file(home), node)["header"]["state"] == 1


# Files made by hand from docs/format.md.

FIRST = 1024  # where the definitions of these files begin
CELLS = 0x8000  # and their cells


def attribute(tag: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<HHI", tag, 0, len(data)) + data + bytes(-len(data) % 8)


def record(kind: int, body: bytes = b"", flags: int = 0, cell: int = 0) -> bytes:
    return struct.pack("<IHHQ", 16 + len(body), kind, flags, cell) + body


def family(
    number: int, name: str, kind: int = 2, cell: int = 1, columns: Iterable[tuple[str, int, int]] = (),
    more: bytes = b"", flags: int = 0, aggregate: int = 1,
) -> bytes:  # fmt: skip
    body = struct.pack("<IBBBB", number, kind, aggregate, cell, 0) + attribute(3, name)
    for column, type_, count in columns:
        body += attribute(7, struct.pack("<BxxxI", type_, count) + column.encode())
    return record(2, body + more, flags)


def series(number: int, cell: int, *labels: str, flags: int = 0) -> bytes:
    return record(3, struct.pack("<II", number, 0) + b"".join([attribute(10, label) for label in labels]), flags, cell)


def buffered(*buffers: bytes, begun: int = 0, seq: int = 0) -> bytes:
    """A buffered cell; buffer 1 is zero if it is not given."""
    first, second = buffers if len(buffers) == 2 else (buffers[0], bytes(len(buffers[0])))
    return struct.pack("<QQQ", begun, seq, len(first)) + first + second


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def write_file(path: Path, definitions: list[bytes], cells: dict[int, bytes], size: int = 1 << 16) -> Path:
    stream = b"".join(definitions)
    identity = record(1, attribute(1, "service") + attribute(2, "by hand"))
    data = bytearray(size)
    data[:128] = struct.pack(
        "<8sHHIQQ16sQQQIiQ16sQQQ", bytes.fromhex("894d4d530d0a1a0a"), 2, 0, FIRST, FIRST + len(stream), 1,
        bytes(range(16)), 10**18, 0, 0, 1, -1, 5, bytes(range(16)), 7, 0, 9,
    )  # fmt: skip
    data[128:FIRST] = identity + record(0, bytes(FIRST - 128 - len(identity) - 16))
    data[FIRST : FIRST + len(stream)] = stream
    for offset, cell in cells.items():
        data[offset : offset + len(cell)] = cell
    path.write_bytes(data)
    return path


PAIR = (("pair", 1, 2),)
GOOD = [family(90, "good"), series(90, CELLS + 4096)]
GOOD_CELLS = {CELLS + 4096: words(77)}


def test_what_is_unknown_is_skipped(home: Path, node: Node) -> None:
    definitions = [
        record(9, b"\xff" * 64, flags=0xFFFF, cell=3),
        family(1, "kind", kind=77, aggregate=99, flags=0xFFF8, more=attribute(999, "?")),
        record(0xFFFF),
        series(1, CELLS, flags=0xFFFE),
        family(2, "columns", kind=77, cell=4, columns=PAIR),
        series(2, CELLS + 8),
        family(3, "more", kind=5, cell=4, columns=(("count", 1, 1), ("sum", 3, 1), ("new", 2, 3))),
        series(3, CELLS + 64),
        family(4, "state", kind=8, more=attribute(9, "on")),
        series(4, CELLS + 256),
        record(1, attribute(1, "service") + attribute(2, "later") + attribute(77, "?")),
    ]
    average = struct.pack("<Qd3q", 2, 3.0, -1, -2, -3)
    cells = {CELLS: words(5), CELLS + 8: buffered(words(1, 2)), CELLS + 64: buffered(average), CELLS + 256: words(9)}
    path = write_file(home / "x", definitions, cells)
    printed = node(path)
    assert printed["problems"] == []
    assert printed["identity"] == {"service": ["later"]}
    values = {name: (entry["kind"], by_labels(entry).get(())) for name, entry in printed["values"].items()}
    assert values == {
        "kind": ("gauge", 5),
        "columns": ("struct", {"pair": [1, 2]}),
        "more": ("average", {"count": 2, "sum": 3, "new": [-1, -2, -3], "mean": 1.5}),
        "state": ("enum", None),
    }
    snapshot = mmstats.read(path)
    assert {name: snapshot[name].value for name in values} == {
        "kind": 5, "columns": {"pair": (1, 2)}, "more": 1.5, "state": None,
    }  # fmt: skip


HISTOGRAM = (("count", 1, 1), ("sum", 3, 1), ("buckets", 1, 2))
LABEL = attribute(6, "label")
DAMAGE: dict[str, tuple[list[bytes], dict[int, bytes]]] = {
    "an attribute reaches beyond its record": (
        [family(1, "x", more=struct.pack("<HHI", 4, 0, 9)), series(1, CELLS)], {}
    ),
    "a family without a number": ([record(2)], {}),
    "a number over the limit": ([family(65536, "x"), series(65536, CELLS)], {}),
    "an unknown cell type": ([family(1, "x", cell=5), series(1, CELLS)], {}),
    "an unknown column type": ([family(1, "x", 11, 4, [("a", 5, 1)]), series(1, CELLS)], {}),
    "a column of nothing": ([family(1, "x", 11, 4, [("a", 1, 0)]), series(1, CELLS)], {}),
    "a column of too much": ([family(1, "x", 11, 4, [("a", 1, 65537)]), series(1, CELLS)], {}),
    "a gauge with columns": ([family(1, "x", 2, 4, PAIR), series(1, CELLS)], {CELLS: buffered(words(1, 2))}),
    "columns in a word": ([family(1, "x", 11, 1, PAIR), series(1, CELLS)], {}),
    "a struct in a word": ([family(1, "x", 11, 1), series(1, CELLS)], {}),
    "an enum in an f64": ([family(1, "x", 8, 3, more=attribute(9, "a")), series(1, CELLS)], {}),
    "a text without its column": ([family(1, "x", 7, 4, PAIR), series(1, CELLS)], {CELLS: buffered(words(1, 2))}),
    "bounds and buckets": (
        [family(1, "x", 3, 4, HISTOGRAM, attribute(8, words(0, 0))), series(1, CELLS)], {CELLS: buffered(bytes(32))}
    ),
    "half a bound": ([family(1, "x", more=attribute(8, bytes(12))), series(1, CELLS)], {}),
    "an infinite bound": (
        [family(1, "x", 3, 4, HISTOGRAM, attribute(8, struct.pack("<d", math.inf))), series(1, CELLS)],
        {CELLS: buffered(bytes(32))},
    ),
    "a stamp without its column": (
        [family(1, "x", 11, 4, PAIR, flags=4), series(1, CELLS)], {CELLS: buffered(words(1, 2))}
    ),
    "no cell": ([family(1, "x"), series(1, 0)], {}),
    "a cell between words": ([family(1, "x"), series(1, CELLS + 4)], {}),
    "a cell behind the end": ([family(1, "x"), series(1, (1 << 16) + 8)], {}),
    "half a cell behind the end": ([family(1, "x", flags=4), series(1, (1 << 16) - 8)], {}),
    "too few labels": ([family(1, "x", more=LABEL), series(1, CELLS)], {}),
    "too many labels": ([family(1, "x"), series(1, CELLS, "a")], {}),
    "the size of the buffers": ([family(1, "x", 11, 4, PAIR), series(1, CELLS)], {CELLS: words(0, 0, 8, 0, 0, 0, 0)}),
    "overlapping cells": (
        [family(1, "x", 11, 4, PAIR), family(2, "y", 11, 4, PAIR), family(3, "z"),
         series(1, CELLS), series(2, CELLS + 48), series(3, CELLS + 56)],
        {CELLS: buffered(words(1, 2), words(0, 24)), CELLS + 56: words(8)},
    ),
    "the same cell": ([family(1, "x"), family(2, "y"), series(2, CELLS), series(1, CELLS)], {CELLS: words(3)}),
    "a family twice": ([family(1, "x"), family(1, "y"), series(1, CELLS)], {CELLS: words(3)}),
    "an update that does not end": (
        [family(1, "x", 11, 4, PAIR), series(1, CELLS)], {CELLS: buffered(words(1, 2), begun=2)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_costs_no_more_than_it_must(what: str, home: Path, node: Node) -> None:
    definitions, cells = DAMAGE[what]
    path = write_file(home / "x", definitions + GOOD, {**cells, **GOOD_CELLS})
    printed, snapshot = node(path), mmstats.read(path)
    assert printed["problems"]
    assert list(snapshot.problems)
    assert by_labels(printed["values"]["good"]) == {(): 77}
    compare(snapshot, printed)


def test_a_text_longer_than_its_capacity(home: Path, node: Node) -> None:
    definitions = [family(1, "x", 7, 4, [("text", 4, 5)]), series(1, CELLS), *GOOD]
    printed = node(write_file(home / "x", definitions, {CELLS: buffered(words(6, 0)), **GOOD_CELLS}))
    assert printed["problems"] == ["x: a text is longer than its capacity"]
    assert printed["values"]["x"]["series"][0]["value"] is None
    assert by_labels(printed["values"]["good"]) == {(): 77}


def test_a_damaged_record_hides_what_follows(home: Path, node: Node) -> None:
    for size in (0, 8, 17, 65544):
        bad = struct.pack("<IHHQ", size, 3, 0, 0)
        path = write_file(home / "x", [*GOOD, bad, family(1, "x"), series(1, CELLS)], GOOD_CELLS)
        printed = node(path)
        assert len(printed["problems"]) == 1
        assert list(printed["values"]) == ["good"]
        compare(mmstats.read(path), printed)


@pytest.mark.parametrize("begun", [6, 7])
def test_the_last_update_was_cut_short(begun: int, home: Path, node: Node) -> None:
    cell = buffered(words(1, 2), words(3, 4), begun=begun, seq=6)
    path = write_file(home / "x", [family(1, "x", 11, 4, PAIR), series(1, CELLS)], {CELLS: cell})
    assert by_labels(compare_file(path, node)["values"]["x"]) == {(): {"pair": [1, 2]}}


def test_a_cell_is_tried_again(home: Path, node: Node) -> None:
    """A cell that holds still now and then is read in the end."""
    cell = buffered(words(1, 2), words(3, 4), begun=8, seq=5)
    path = write_file(home / "x", [family(1, "x", 11, 4, PAIR), series(1, CELLS), *GOOD], {CELLS: cell, **GOOD_CELLS})
    ended = threading.Event()

    def toggle() -> None:
        with path.open("r+b", buffering=0) as file:
            while not ended.is_set():
                for begun, seconds in ((8, 0.02), (6, 0.01)):
                    os.pwrite(file.fileno(), words(begun), CELLS)
                    time.sleep(seconds)

    thread = threading.Thread(target=toggle)
    thread.start()
    try:
        for _ in range(5):
            printed = node(path)
            assert printed["problems"] == []
            assert by_labels(printed["values"]["x"]) == {(): {"pair": [3, 4]}}
    finally:
        ended.set()
        thread.join()


# Files that are cut off, and bytes that are no stat file.


def both(path: Path, node: Node) -> bool:
    """Both readers refuse the file, or both find the same in it. Returns whether they read it."""
    try:
        snapshot = mmstats.read(path)
    except mmstats.MmStatsError:
        node(path, status=1)
        return False
    printed = node(path)
    assert bool(printed["problems"]) == bool(snapshot.problems)
    compare(snapshot, printed)
    return True


def test_truncated_files(home: Path, run: Callable[..., Program], node: Node) -> None:
    program = run(EVERY_FIELD)
    assert program.line() == "ready"
    program.kill()
    whole = only_file(home)
    data = whole.read_bytes()
    header = node(whole)["header"]
    first, committed = header["first_definition"], header["committed"]
    last = len(data.rstrip(b"\0"))
    lengths = [0, 1, 127, 128, 129, 200, first - 1, first, first + 8, committed - 8, committed, last - 100, last - 8]
    lengths += [*range(first + 100, committed, 701), len(data) // 2 + 8, len(data) // 2 + 1000, len(data)]
    outcomes = []
    for length in lengths:
        cut = home / "cut"
        cut.write_bytes(data[:length])
        outcomes.append((both(cut, node), length))
    assert [length for read, length in outcomes if not read] == [0, 1, 127]


def test_garbage(home: Path, node: Node) -> None:
    path = home / "garbage"
    rng = random.Random(1)
    magic = bytes.fromhex("894d4d530d0a1a0a")
    next_major = magic + struct.pack("<HHIQ", 3, 0, 128, 128)
    for start in (b"", b"\1", magic, magic + b"\2\0\0\0", b"\0" * 4096, next_major):
        path.write_bytes(start + rng.randbytes(10_000))
        assert not both(path, node)
    path.write_bytes(b"\n" * 200)
    assert not both(path, node)
    assert not both(home / "missing", node)
    assert not both(home, node)
    os.mkfifo(home / "fifo")
    assert not both(home / "fifo", node)


def test_limits(home: Path, node: Node) -> None:
    path = write_file(home / "x", [*GOOD, family(1, "x"), series(1, CELLS + 4096 + 2**24)], GOOD_CELLS)
    assert not both(path, node)  # the cells span too much
    path = write_file(home / "x", GOOD, GOOD_CELLS)
    for at, value in ((16, 2**24 + 8), (16, 2**63), (16, 1028), (16, 0), (8, 3)):
        data = bytearray(path.read_bytes())
        data[at : at + 8] = words(value)
        (home / "y").write_bytes(data)
        assert not both(home / "y", node)


def test_changed_bytes(home: Path, node: Node) -> None:
    """Any byte of the definitions may be wrong."""
    definitions = [
        family(1, "counter", kind=1, more=LABEL), series(1, CELLS, "a"), series(1, CELLS + 8, "b"),
        family(2, "stamped", flags=4, aggregate=5), series(2, CELLS + 16),
        family(3, "histogram", 3, 4, HISTOGRAM, attribute(8, struct.pack("<d", 1.0))), series(3, CELLS + 32),
        family(4, "text", 7, 4, [("text", 4, 16)]), series(4, CELLS + 128), *GOOD,
    ]  # fmt: skip
    cells = {
        CELLS: words(1, 2, 3, 4),
        CELLS + 32: buffered(struct.pack("<QdQQ", 3, 2.5, 1, 2)),
        CELLS + 128: buffered(struct.pack("<Q16s", 2, b"hi")),
        **GOOD_CELLS,
    }
    data = write_file(home / "x", definitions, cells).read_bytes()
    places: list[int] = []  # all but the upper halves of cells' offsets: test_limits has a cell that is far away
    at = FIRST
    for definition in definitions:
        places += [at + each for each in range(len(definition)) if not (definition[4] == 3 and 12 <= each < 16)]
        at += len(definition)
    rng = random.Random(20)
    for _ in range(60):
        at, value = rng.choice(places), rng.choice((0, 1, 2, 3, 4, 8, 16, 255))
        (home / "y").write_bytes(data[:at] + bytes([value]) + data[at + 1 :])
        both(home / "y", node)
