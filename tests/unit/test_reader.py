"""What a reader finds in a file: whole, damaged, of a live process or a dead one, or of mmstats 0.8."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmstats
from mmstats import layout, schema, values

DATA = Path(__file__).resolve().parents[1] / "data"


class Everything(mmstats.MmStats):
    requests = mmstats.CounterField(help="Requests served", unit="requests")
    cpu = mmstats.CounterField(type=float, unit="seconds")
    active = mmstats.GaugeField(aggregate="max")
    newest = mmstats.GaugeField(aggregate="last")
    latency = mmstats.HistogramField(buckets=(1, 2, 4), unit="seconds")
    render = mmstats.TimerField()
    mean = mmstats.AverageField()
    moving = mmstats.MovingAverageField(size=2)
    byte = mmstats.ByteField()
    huge = mmstats.UInt64Field()
    negative = mmstats.Int64Field(aggregate="min")
    double = mmstats.DoubleField(aggregate="mean")
    on = mmstats.BoolField()
    text = mmstats.StringField(20)
    latest = mmstats.StringField(20, aggregate="last")
    phase = mmstats.EnumField(states=["up", "down"])
    build = mmstats.InfoField()
    pool = mmstats.StructField({"used": int, "load": float, "full": bool, "name": (str, 8)})
    fact = mmstats.StaticTextField(value="x")
    codes = mmstats.CounterField(labelnames=("method", "code"))
    pages = mmstats.HistogramField(labelnames=["page"], buckets=[1])


@pytest.fixture
def stats() -> Everything:
    stats = Everything(service="shop")
    stats.requests.inc(3)
    stats.cpu.inc(0.5)
    stats.active.set(2)
    stats.newest.set(7)
    for value in (1, 3, 8):
        stats.latency.observe(value)
        stats.render.observe(value)
        stats.mean.add(value)
        stats.moving.add(value)
    stats.byte = -3
    stats.huge = 2**64 - 1
    stats.negative = -(2**63)
    stats.double = 1e300
    stats.on = True
    stats.text = "h\u00e9llo"
    stats.latest = "late"
    stats.phase.state("down")
    stats.build.info({"version": "1.2"})
    stats.pool.set(used=-4, load=0.5, full=True, name="main")
    stats.codes.labels("GET", 200).inc(5)
    stats.codes.labels("PUT", 500).inc()
    stats.pages.labels("home").observe(2)
    return stats


@pytest.fixture
def snapshot(stats: Everything) -> mmstats.Snapshot:
    return mmstats.read(stats.filename)


# What a snapshot says.


@pytest.mark.parametrize(
    ("name", "value", "kind", "type_", "aggregate"),
    [
        ("requests", 3, "counter", values.NumberValue, "sum"),
        ("cpu", 0.5, "counter", values.NumberValue, "sum"),
        ("active", 2.0, "gauge", values.NumberValue, "max"),
        ("newest", 7.0, "gauge", values.NumberValue, "last"),
        ("latency", 4.0, "histogram", values.HistogramValue, "sum"),
        ("render", 4.0, "timer", values.WindowValue, "sum"),
        ("mean", 4.0, "average", values.SampleValue, "sum"),
        ("moving", 5.5, "moving_average", values.WindowValue, "sum"),
        ("byte", -3, "gauge", values.NumberValue, "sum"),
        ("huge", 2**64 - 1, "gauge", values.NumberValue, "sum"),
        ("negative", -(2**63), "gauge", values.NumberValue, "min"),
        ("double", 1e300, "gauge", values.NumberValue, "mean"),
        ("on", True, "bool", values.BoolValue, "sum"),
        ("text", "h\u00e9llo", "text", values.TextValue, "all"),
        ("latest", "late", "text", values.TextValue, "last"),
        ("phase", "down", "enum", values.EnumValue, "all"),
        ("build", {"version": "1.2"}, "info", values.InfoValue, "all"),
        ("pool", {"used": -4, "load": 0.5, "full": True, "name": "main"}, "struct", values.StructValue, "all"),
        ("fact", "x", "text", values.TextValue, "all"),
        ("codes", {("GET", "200"): 5, ("PUT", "500"): 1}, "counter", values.LabelledValue, "sum"),
        ("pages", {("home",): 2.0}, "histogram", values.LabelledValue, "sum"),
    ],
)
def test_each_value_knows_what_it_means(
    snapshot: mmstats.Snapshot, name: str, value: Any, kind: str, type_: type, aggregate: str
) -> None:
    found = snapshot[name]
    assert type(found) is type_
    assert (found.name, found.value, found.kind, found.aggregate) == (name, value, kind, aggregate)
    assert type(found.value) is type(value)


def test_help_and_unit_are_those_of_the_field(snapshot: mmstats.Snapshot) -> None:
    assert (snapshot["requests"].help, snapshot["requests"].unit) == ("Requests served", "requests")
    assert (snapshot["render"].help, snapshot["render"].unit) == ("", "seconds")
    assert (snapshot["codes"].help, snapshot["codes"].unit) == ("", "")


def test_samples_have_count_sum_and_mean(snapshot: mmstats.Snapshot) -> None:
    for name in ("latency", "render", "mean", "moving"):
        found = snapshot[name]
        assert isinstance(found, values.SampleValue)
        assert (found.count, found.sum, found.mean) == (3, 12.0, 4.0)
    latency = snapshot["latency"]
    assert isinstance(latency, values.HistogramValue)
    assert (latency.bounds, latency.buckets) == ((1.0, 2.0, 4.0), (1, 0, 1, 1))
    moving = snapshot["moving"]
    assert isinstance(moving, values.WindowValue)
    assert (moving.last, moving.min, moving.max, moving.window_count, moving.window_sum) == (8.0, 1.0, 8.0, 2, 11.0)


def test_before_the_first_sample_there_is_no_mean() -> None:
    class Empty(mmstats.BaseMmStats):
        latency = mmstats.HistogramField()
        render = mmstats.TimerField()
        mean = mmstats.AverageField()

    found = mmstats.read(Empty().filename)
    for name in found:
        if name != "mmstats.overflow":
            assert found[name].value is None
            assert found[name].mean is None
    render = found["render"]
    assert (render.last, render.min, render.max) == (None, None, None)
    assert found["latency"].quantile(0.5) is None


def test_a_snapshot_is_a_mapping_that_cannot_be_changed(snapshot: mmstats.Snapshot) -> None:
    assert isinstance(snapshot, Mapping)
    assert len(snapshot) == len(list(snapshot)) == len(snapshot.items())
    assert "requests" in snapshot
    assert snapshot.get("nothing") is None
    with pytest.raises(KeyError):
        snapshot["nothing"]
    with pytest.raises(TypeError):
        snapshot["requests"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        del snapshot["requests"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["requests", "on", "latency", "render", "text", "phase", "build", "pool"])
def test_values_cannot_be_changed(snapshot: mmstats.Snapshot, name: str) -> None:
    found = snapshot[name]
    for attribute in ("family", "number", "flag", "count", "text", "items", "value", "kind"):
        if hasattr(found, attribute):
            with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
                setattr(found, attribute, None)


@pytest.mark.parametrize("name", ["codes", "build", "pool"])
def test_what_a_value_gives_is_a_copy(snapshot: mmstats.Snapshot, name: str) -> None:
    given = snapshot[name].value
    given.clear()
    assert snapshot[name].value


def test_a_snapshot_does_not_follow_the_writer(stats: Everything, snapshot: mmstats.Snapshot) -> None:
    stats.requests.inc(100)
    stats.text = "changed"
    stats.codes.labels("GET", 200).inc()
    assert (snapshot["requests"].value, snapshot["text"].value, snapshot["codes"]["GET", "200"].value) == (
        3, "h\u00e9llo", 5,
    )  # fmt: skip


def test_labelled_values_are_found_by_tuple_by_position_and_by_name(snapshot: mmstats.Snapshot) -> None:
    codes, pages = snapshot["codes"], snapshot["pages"]
    assert isinstance(codes, values.LabelledValue)
    assert isinstance(pages, values.LabelledValue)
    assert codes.labelnames == ("method", "code")
    assert codes["GET", "200"].value == codes[["GET", "200"]].value == 5
    assert codes.labels("GET", 200).value == codes.labels(code="200", method="GET").value == 5
    assert codes.labels("GET", code=200).value == 5
    assert pages["home"] is pages[("home",)]
    assert len(codes) == 2
    assert list(codes) == [("GET", "200"), ("PUT", "500")]
    wrong: list[Callable[[], Any]] = [
        lambda: codes["GET", "404"],
        lambda: codes["GET"],
        lambda: codes.labels("GET"),
        lambda: codes.labels("GET", "200", "x"),
        lambda: codes.labels("GET", verb="x"),
        lambda: codes.labels("GET", "200", code="200"),
        lambda: pages["menu"],
    ]
    for ask in wrong:
        with pytest.raises(KeyError):
            ask()


def test_a_labelled_field_without_a_label_set_yet_is_there_and_empty() -> None:
    class Empty(mmstats.BaseMmStats):
        codes = mmstats.CounterField(labelnames=["code"])

    found = mmstats.read(Empty().filename)["codes"]
    assert found.value == {}
    assert found.kind == "counter"


def test_reprs_are_short(snapshot: mmstats.Snapshot) -> None:
    assert repr(snapshot) == f"<Snapshot {snapshot.label}: {len(snapshot)} fields, alive>"
    assert repr(snapshot["codes"]) == "<LabelledValue codes of 2>"


# Quantiles.


def naive_quantile(q: float, bounds: list[float], counts: list[int]) -> float:
    """Prometheus' histogram_quantile, from its documentation, over cumulative buckets."""
    cumulative = list(itertools.accumulate(counts))
    rank = q * cumulative[-1]
    at = next(i for i, n in enumerate(cumulative) if n >= rank and counts[i])
    if at == len(bounds):
        return bounds[-1]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    start = bounds[at - 1] if at else 0.0
    below = cumulative[at - 1] if at else 0
    return start + (bounds[at] - start) * max(rank - below, 0.0) / counts[at]


def histogram(bounds: list[float], counts: list[int]) -> values.HistogramValue:
    field = mmstats.HistogramField(buckets=bounds)
    return values.HistogramValue(field.family("h"), sum(counts), 0.0, tuple(counts))


@given(
    bounds=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=10, unique=True).map(sorted),
    q=st.floats(0, 1),
    data=st.data(),
)
def test_a_quantile_is_what_prometheus_says(bounds: list[float], q: float, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 50), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    found = histogram(bounds, counts).quantile(q)
    if not sum(counts):
        assert found is None
    else:
        assert found == pytest.approx(naive_quantile(q, bounds, counts))


@given(
    bounds=st.lists(st.integers(-100, 100), min_size=1, max_size=10, unique=True).map(sorted),
    samples=st.lists(st.floats(-200, 200), min_size=1, max_size=60),
    q=st.floats(0.01, 1),
)
def test_a_quantile_lies_in_the_bucket_of_the_sample_that_it_stands_for(
    bounds: list[int], samples: list[float], q: float
) -> None:
    counts = [0] * (len(bounds) + 1)
    for sample in samples:
        counts[sum([sample > bound for bound in bounds])] += 1
    exact = sorted(samples)[max(math.ceil(q * len(samples)) - 1, 0)]
    found = histogram([float(bound) for bound in bounds], counts).quantile(q)
    assert found is not None
    if exact > bounds[-1]:
        assert found == bounds[-1]
    else:
        upper = min([bound for bound in bounds if exact <= bound])
        lower = max([bound for bound in bounds if bound < exact], default=min(0, bounds[0]))
        assert lower <= found <= upper


@given(st.lists(st.integers(0, 9), min_size=4, max_size=4), st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_quantiles_rise(counts: list[int], qs: list[float]) -> None:
    found = [histogram([1.0, 2.0, 5.0], counts).quantile(q) for q in sorted(qs)]
    if sum(counts):
        assert all(a <= b or math.isclose(a, b) for a, b in itertools.pairwise(found))  # type: ignore[operator]


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_a_quantile_is_from_0_to_1(q: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        histogram([1.0], [1, 1]).quantile(q)


# States.


def test_a_live_file_says_who_writes_it(stats: Everything, snapshot: mmstats.Snapshot) -> None:
    who = snapshot.process
    assert snapshot.alive is who.alive is True
    assert (who.pid, who.service, who.state, who.closed) == (os.getpid(), "shop", "alive", False)
    assert who.uid == os.getuid()
    assert who.host == os.uname().nodename
    assert set(who.versions) == {"python", "mmstats", "cells"}
    assert who.versions["cells"] == ("compiled" if mmstats.cells.COMPILED else "uncompiled")
    assert who.argv
    assert who.exit_status is None
    assert (snapshot.path, snapshot.version, snapshot.closed_at) == (stats.filename, 2, None)
    assert snapshot.label == Path(stats.filename).stem
    assert len(bytes.fromhex(snapshot.uuid)) == 16
    assert snapshot.problems == ()
    assert snapshot.size == os.stat(stats.filename).st_blocks * 512


def test_a_copy_of_a_live_processs_file_is_neither_alive_nor_dead(stats: Everything, tmp_path: Path) -> None:
    copy = shutil.copy(stats.filename, tmp_path / "copy.mmstats")
    found = mmstats.read(copy)
    assert found.alive is None
    assert found.process.state == "unknown"
    assert "copy" in found.process.reason
    assert found["requests"].value == 3


PROGRAM = """
    import mmstats, os, signal

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()
        text = mmstats.StringField()

    stats = Stats(service="victim")
    stats.requests.inc(3)
    stats.text = "last words"
    print(stats.filename, flush=True)
    input()
"""


def test_a_process_that_ends_is_closed_and_one_that_is_killed_has_died(run: Callable[..., Any]) -> None:
    ended, killed = run(PROGRAM), run(PROGRAM)
    paths = [ended.line(), killed.line()]
    assert [mmstats.read(path).process.state for path in paths] == ["alive", "alive"]
    ended.say()
    ended.finish()
    killed.kill()
    found = [mmstats.read(path) for path in paths]
    assert [snapshot.process.state for snapshot in found] == ["closed", "died"]
    assert [snapshot.alive for snapshot in found] == [False, False]
    assert [snapshot["requests"].value for snapshot in found] == [3, 3]
    assert [snapshot["text"].value for snapshot in found] == ["last words", "last words"]
    closed_at, created = found[0].closed_at, found[0].created
    assert closed_at is not None
    assert created is not None
    assert closed_at >= created
    assert found[1].closed_at is None


# Damage.


def cells(data: bytes | bytearray) -> list[tuple[layout.Family, int]]:
    """All value cells of a file, each with its family."""
    header = layout.decode_header(bytes(data))
    families = {}
    found = []
    for at, size, kind, flags, cell in layout.records(bytes(data), header.first_definition, header.committed):
        body = bytes(data[at + layout.RECORD_BYTES : at + size])
        if kind == layout.FAMILY:
            number, families[number] = layout.decode_family(body, flags)
        elif kind == layout.SERIES:
            found.append((families[layout.decode_series(body)[0]], cell))
    return found


@pytest.fixture
def image(stats: Everything, tmp_path: Path) -> Callable[[bytes], mmstats.Snapshot]:
    """Read bytes as a file."""
    path = tmp_path / "image.mmstats"

    def read(data: bytes) -> mmstats.Snapshot:
        path.write_bytes(data)
        return mmstats.read(path)

    return read


def test_what_is_no_file_of_ours_is_refused_with_its_path(image: Callable[[bytes], Any], tmp_path: Path) -> None:
    for data in (b"", b"\0" * 200, b"GIF89a" + b"x" * 200, layout.MAGIC, layout.MAGIC + b"\xff" * 200):
        with pytest.raises(mmstats.FormatError, match=r"image\.mmstats: "):
            image(data)


@pytest.mark.parametrize("name", ["missing.mmstats", ".", "pipe"])
def test_what_cannot_be_opened_is_refused_with_its_path(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(mmstats.ReadError, match=str(tmp_path)):
        mmstats.read(tmp_path / name)


def test_a_newer_format_is_refused_and_says_so(stats: Everything, image: Callable[[bytes], Any]) -> None:
    data = bytearray(Path(stats.filename).read_bytes())
    struct.pack_into("<H", data, 8, 3)
    with pytest.raises(mmstats.FormatError, match=r"format 3\.0.*upgrade mmstats"):
        image(bytes(data))


def test_of_a_file_that_is_cut_off_what_is_there_is_read(stats: Everything, image: Callable[[bytes], Any]) -> None:
    whole = Path(stats.filename).read_bytes()
    expected = mmstats.read(stats.filename)
    header = layout.decode_header(whole)
    places = [(cell, cell + family.cell_size) for family, cell in cells(whole)]
    start, last = min(places)[0], max(places)[1]
    ends = sorted(
        {*range(128, 4096, 500), *range(header.first_definition, header.committed, 56), header.committed}
        | {*range(start - 16, last + 16, 40), last}
    )
    complete = 0
    for end in ends:
        found = image(whole[:end])
        if end >= last:
            assert found.problems == ()
            assert found.to_dict()["values"] == expected.to_dict()["values"]
            complete += 1
            continue
        assert any("cut off" in problem for problem in found.problems), end
        assert set(found) <= set(expected)
        json.dumps(found.to_dict(), allow_nan=False)
    assert complete


def test_definitions_behind_the_damage_are_left_out_and_those_before_it_read(
    stats: Everything, image: Callable[[bytes], Any]
) -> None:
    data = bytearray(Path(stats.filename).read_bytes())
    header = layout.decode_header(bytes(data))
    records = layout.records(bytes(data), header.first_definition, header.committed)
    at = next(at for at, size, kind, _, _ in records if b"latency" in data[at : at + size])
    struct.pack_into("<I", data, at, 7)
    found = image(bytes(data))
    assert len(found.problems) == 1
    assert "damaged" in found.problems[0]
    assert found["requests"].value == 3
    assert "latency" not in found
    assert "codes" not in found


def test_a_family_that_makes_no_sense_costs_only_itself(stats: Everything, image: Callable[[bytes], Any]) -> None:
    data = bytearray(Path(stats.filename).read_bytes())
    header = layout.decode_header(bytes(data))
    records = layout.records(bytes(data), header.first_definition, header.committed)
    at = next(at for at, size, kind, _, _ in records if kind == layout.FAMILY and b"latency" in data[at : at + size])
    data[at + layout.RECORD_BYTES + 6] = 99  # how its value lies in its cell
    found = image(bytes(data))
    assert any("family's record makes no sense" in problem for problem in found.problems)
    expected = mmstats.read(stats.filename)
    assert set(expected) - set(found) == {"latency"}
    assert found["codes"].value == expected["codes"].value


def test_a_buffered_cell_of_another_size_costs_only_itself(stats: Everything, image: Callable[[bytes], Any]) -> None:
    expected = mmstats.read(stats.filename)
    data = bytearray(Path(stats.filename).read_bytes())
    cell = next(cell for family, cell in cells(data) if family.name == "text")
    struct.pack_into("<Q", data, cell + 16, 8)
    found = image(bytes(data))
    assert found.problems == ("damaged: a cell of 'text' is not of its size",)
    assert set(expected) - set(found) == {"text"}


def test_a_writer_killed_in_the_middle_of_an_update_left_the_value_before_it(
    stats: Everything, image: Callable[[bytes], Any]
) -> None:
    expected = mmstats.read(stats.filename)
    data = bytearray(Path(stats.filename).read_bytes())
    for family, cell in cells(data):
        if family.cell == "buffered":
            begun, seq, size = struct.unpack_from("<QQQ", data, cell)
            assert begun == seq
            struct.pack_into("<Q", data, cell, seq + 1)
            other = cell + layout.BUFFERED_HEAD + (~seq & 1) * size
            data[other : other + size] = b"\xa5" * size
    found = image(bytes(data))
    assert found.problems == ()
    assert found.to_dict()["values"] == expected.to_dict()["values"]


@pytest.mark.parametrize(
    "text",
    [
        "{", "[1, 2]", "null", '"x"', "NaN", "[" * 400, '{"a":' * 400, "1" * 400, "\0", "{'a': 1}",
    ],
)  # fmt: skip
def test_info_that_is_no_json_object_is_empty(text: str) -> None:
    found = values.InfoValue(mmstats.InfoField().family("i"), text)
    assert found.value == {}
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("depth", [10, 100, *range(300, 1200, 20), 5000, 16000])
def test_hostile_info_gives_texts_or_nothing(depth: int) -> None:
    found = values.InfoValue(mmstats.InfoField().family("i"), '{"a": ' + "[" * depth + "]" * depth + "}").value
    assert found in ({}, {"a": "[" * depth + "]" * depth})


@pytest.mark.parametrize("text", [r'{"a": "\ud800"}', r'{"\udc00": 1}', '{"a": NaN, "b": -Infinity, "c": 1e999}'])
def test_of_hostile_info_everything_can_be_printed(text: str) -> None:
    found = values.InfoValue(mmstats.InfoField().family("i"), text).value
    assert found
    for key, item in found.items():
        assert (key + item).encode()


# Definitions are parsed once.


def test_definitions_are_parsed_once(stats: Everything, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mmstats.read(stats.filename)

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("parsed again")

    monkeypatch.setattr(schema, "Schema", refuse)
    monkeypatch.setattr(layout, "decode_family", refuse)
    stats.requests.inc()
    again = mmstats.read(stats.filename)
    assert again["requests"].value == 4
    assert again._schema is first._schema


def test_only_new_definitions_are_parsed(stats: Everything, monkeypatch: pytest.MonkeyPatch) -> None:
    mmstats.read(stats.filename)
    parsed: list[bytes] = []
    decode = layout.decode_series
    monkeypatch.setattr(layout, "decode_series", lambda body: parsed.append(body) or decode(body))
    stats.codes.labels("DELETE", "204").inc()
    found = mmstats.read(stats.filename)
    assert found["codes"]["DELETE", "204"].value == 1
    assert found["codes"]["GET", "200"].value == 5
    assert len(parsed) == 1


def test_two_workers_of_one_program_share_their_definitions(run: Callable[..., Any]) -> None:
    one, two = run(PROGRAM), run(PROGRAM)
    found = [mmstats.read(program.line()) for program in (one, two)]
    assert found[0]._schema is found[1]._schema
    assert found[0].process.pid == one.pid != found[1].process.pid == two.pid


# Other forms.


def test_a_snapshot_as_a_dict_is_json(stats: Everything) -> None:
    stats.double = float("nan")
    stats.active.set(float("inf"))
    stats.pool.set(load=float("-inf"))
    stats.latency.observe(float("inf"))
    found = mmstats.read(stats.filename)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain == found.to_dict()
    assert plain["path"] == stats.filename
    assert (plain["service"], plain["pid"], plain["state"]) == ("shop", os.getpid(), "alive")
    assert plain["problems"] == []
    shown = plain["values"]
    assert list(shown) == list(found)
    assert shown["requests"] == {
        "kind": "counter", "unit": "requests", "help": "Requests served", "aggregate": "sum", "value": 3,
    }  # fmt: skip
    assert shown["double"]["value"] is shown["active"]["value"] is shown["pool"]["value"]["load"] is None
    assert shown["latency"]["count"] == 4
    assert shown["latency"]["sum"] is None
    assert shown["latency"]["buckets"] == [1, 0, 1, 2]
    assert {"p50", "p90", "p99"} <= set(shown["latency"])
    assert shown["codes"]["series"][0] == {"labels": {"method": "GET", "code": "200"}, "value": 5}
    assert shown["render"]["last"] == 8.0


def test_a_snapshot_as_a_frame_has_a_row_for_each_series(snapshot: mmstats.Snapshot) -> None:
    frame = snapshot.to_frame()
    assert list(frame.columns) == [
        "process", "service", "pid", "state", "name", "labels", "kind", "unit", "value", "count", "sum",
    ]  # fmt: skip
    assert len(frame) == len(snapshot) - 2 + 2 + 1
    assert set(frame["service"]) == {"shop"}
    rows = {(row["name"], row["labels"]): row for row in frame.to_dict("records")}
    assert rows["codes", "method=GET,code=200"]["value"] == 5
    assert rows["latency", ""]["count"] == 3
    assert rows["requests", ""]["unit"] == "requests"


# Files of mmstats 0.8.


@pytest.fixture
def version_1() -> mmstats.Snapshot:
    return mmstats.read(DATA / "all-types.mmstats")


def test_a_file_of_mmstats_0_8_reads_as_it_read_itself(version_1: mmstats.Snapshot) -> None:
    expected = dict(json.loads((DATA / "all-types.json").read_text(encoding="utf-8")))
    found = {name: value.value for name, value in version_1.items()}
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in expected.items()
    }


def test_a_file_of_mmstats_0_8_says_little_of_its_process(version_1: mmstats.Snapshot) -> None:
    assert (version_1.version, version_1.alive, version_1.uuid, version_1.problems) == (1, None, "", ())
    assert version_1.process.pid == 11367
    assert version_1.process.state == "unknown"
    assert version_1.created == pytest.approx(1795226426.928369e9)
    assert {value.kind for value in version_1.values()} == {"gauge", "bool", "text"}
    assert {value.aggregate for value in version_1.values()} == {"all"}
    json.dumps(version_1.to_dict(), allow_nan=False)
    assert len(version_1.to_frame()) == len(version_1)


def test_of_a_file_of_mmstats_0_8_that_is_cut_off_what_is_there_is_read(image: Callable[[bytes], Any]) -> None:
    whole = (DATA / "all-types.mmstats").read_bytes()
    expected = {name: value.value for name, value in image(whole).items()}
    first = 1 + 2 + len("web.i16") + 2 + len("h") + 1 + 2 * 2
    counts = []
    for end in range(1, len(whole.rstrip(b"\0"))):
        if 1 < end < first:
            with pytest.raises(mmstats.FormatError, match="damaged: "):
                image(whole[:end])
            continue
        found = image(whole[:end])
        counts.append(len(found))
        assert {name: value.value for name, value in found.items()}.items() <= expected.items()
    assert counts == sorted(counts)
    assert counts[-1] >= len(expected) - 1
