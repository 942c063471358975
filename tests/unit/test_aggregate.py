"""Many processes as one: each kind of value merges by its meaning."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmstats
from mmstats import aggregate, values

DATA = Path(__file__).resolve().parents[1] / "data"
CREATED_AT, START_AT = 48, 80

_numbers = itertools.count()


def process(record: Callable[[Any], object] = lambda stats: None, **fields: mmstats.Field) -> Any:
    """A file as one process of several makes it: `fields`, after ``record(stats)``."""
    number = next(_numbers)
    stats = type("Stats", (mmstats.BaseMmStats,), fields)(filename=f"web-{number}.mmstats", service="web")
    record(stats)
    with open(stats.filename, "r+b") as file:
        file.seek(CREATED_AT)
        file.write(struct.pack("<Q", (1_700_000_000 + number) * 10**9))  # the newer, the later
    return stats


def kill(stats: Any) -> None:
    """Make the file that of a process that is gone: no process of its pid started at that time."""
    with open(stats.filename, "r+b") as file:
        file.seek(START_AT)
        (ticks,) = struct.unpack("<Q", file.read(8))
        file.seek(START_AT)
        file.write(struct.pack("<Q", ticks - 1))


def merged(several: Iterable[Any]) -> aggregate.Merged:
    return aggregate.merge([mmstats.read(stats.filename) for stats in several])


# Each kind.


@pytest.mark.parametrize(
    ("how", "expected"), [("sum", 9), ("min", 1), ("max", 5), ("mean", 3), ("last", 5), ("all", [1, 3, 5])]
)
@pytest.mark.parametrize(
    "field",
    [
        mmstats.CounterField, mmstats.GaugeField, mmstats.IntField, mmstats.UInt64Field, mmstats.DoubleField,
        lambda **keywords: mmstats.CounterField(type=float, **keywords),
        lambda **keywords: mmstats.StaticInt64Field(value=lambda: next(_static), **keywords),
    ],
)  # fmt: skip
def test_numbers_merge_by_their_aggregate(field: Any, how: str, expected: Any) -> None:
    global _static
    _static = itertools.count(1, 2)

    def set_to(number: int) -> Callable[[Any], object]:
        def record(stats: Any) -> None:
            if isinstance(stats.x, mmstats.cells.Gauge):
                stats.x.set(number)
            elif hasattr(stats.x, "inc"):
                stats.x.inc(number)
            elif not isinstance(type(stats).x, mmstats.StaticInt64Field):
                stats.x = number

        return record

    several = [process(set_to(number), x=field(aggregate=how)) for number in (1, 3, 5)]
    found = merged(several)["x"]
    assert found.aggregate == how
    if how == "all":
        assert isinstance(found, values.EachValue)
        assert list(found.value.values()) == expected
        assert list(found) == [Path(stats.filename).stem for stats in several]
    else:
        assert isinstance(found, values.NumberValue)
        assert found.value == expected


_static = itertools.count()


@pytest.mark.parametrize(("how", "expected"), [("sum", 2), ("min", 0), ("max", 1), ("mean", 2 / 3), ("last", 0)])
def test_bools_merge_to_how_many_are_true(how: str, expected: Any) -> None:
    several = [
        process(lambda stats, on=on: setattr(stats, "on", on), on=mmstats.BoolField(aggregate=how))
        for on in (True, True, False)
    ]
    assert merged(several)["on"].value == pytest.approx(expected)


def test_histograms_add_up() -> None:
    def observe(*samples: float) -> Callable[[Any], object]:
        return lambda stats: [stats.h.observe(sample) for sample in samples]

    field = {"h": mmstats.HistogramField(buckets=[1, 2])}
    found = merged([process(observe(1, 5), **field), process(observe(2), **field), process(**field)])["h"]
    assert isinstance(found, values.HistogramValue)
    assert (found.count, found.sum, found.buckets, found.bounds) == (3, 8.0, (1, 1, 1), (1.0, 2.0))
    assert found.quantile(1) == 2.0


def test_averages_merge_by_their_samples_and_not_by_their_means() -> None:
    field = {"mean": mmstats.AverageField()}

    def add(*samples: float) -> Callable[[Any], object]:
        return lambda stats: [stats.mean.add(sample) for sample in samples]

    found = merged([process(add(10), **field), process(add(1, 1, 1, 1), **field), process(**field)])["mean"]
    assert (found.value, found.count, found.sum) == (14 / 5, 5, 14.0)


@pytest.mark.parametrize("field", [mmstats.TimerField, mmstats.MovingAverageField])
def test_timers_and_moving_averages_merge(field: Any) -> None:
    def observe(*samples: float) -> Callable[[Any], object]:
        return lambda stats: [stats.t.observe(sample) for sample in samples]

    fields = {"t": field(size=2)}
    several = [process(observe(9, 1, 3), **fields), process(observe(5), **fields), process(**fields)]
    found = merged(several)["t"]
    assert isinstance(found, values.WindowValue)
    assert (found.count, found.sum, found.mean) == (4, 18.0, 4.5)
    assert (found.min, found.max, found.value) == (1.0, 9.0, 9 / 3)
    assert found.last is None
    only = merged(several[1:])["t"]
    assert (only.last, only.min, only.max) == (5.0, 5.0, 5.0)


def test_timers_that_nobody_used_merge_to_none() -> None:
    found = merged([process(t=mmstats.TimerField()), process(t=mmstats.TimerField())])["t"]
    assert (found.count, found.value, found.last, found.min, found.max) == (0, None, None, None, None)


@pytest.mark.parametrize(
    ("field", "record", "expected"),
    [
        (mmstats.StringField(), lambda stats: setattr(stats, "x", "a"), "a"),
        (mmstats.EnumField(states=["up", "down"]), lambda stats: stats.x.state("down"), "down"),
        (mmstats.InfoField(), lambda stats: stats.x.info({"v": 1}), {"v": "1"}),
        (mmstats.StructField({"n": int}), lambda stats: stats.x.set(n=1), {"n": 1}),
        (mmstats.StaticTextField(value="a"), lambda stats: None, "a"),
    ],
)
def test_what_has_no_meaning_as_one_stays_by_process(field: Any, record: Any, expected: Any) -> None:
    several = [process(record, x=field), process(record, x=field)]
    found = merged(several)["x"]
    assert isinstance(found, values.EachValue)
    assert found.value == {Path(stats.filename).stem: expected for stats in several}
    assert (found.name, found.kind, found.aggregate) == ("x", field.kind, "all")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("sum", {"used": 5, "load": 1.5, "full": 1, "name": ("a", "b")}),
        ("min", {"used": 1, "load": 0.5, "full": 0, "name": ("a", "b")}),
        ("max", {"used": 4, "load": 1.0, "full": 1, "name": ("a", "b")}),
        ("mean", {"used": 2.5, "load": 0.75, "full": 0.5, "name": ("a", "b")}),
        ("last", {"used": 4, "load": 0.5, "full": 1, "name": "b"}),
    ],
)
def test_structs_merge_value_by_value(how: str, expected: Any) -> None:
    field = {"p": mmstats.StructField({"used": int, "load": float, "full": bool, "name": str}, aggregate=how)}
    several = [
        process(lambda stats: stats.p.set(used=1, load=1.0, name="a"), **field),
        process(lambda stats: stats.p.set(used=4, load=0.5, full=True, name="b"), **field),
    ]
    assert merged(several)["p"].value == expected


LAST = {
    "gauge": (mmstats.GaugeField(aggregate="last"), lambda stats, value: stats.x.set(value), [1.0, 2.0, 3.0]),
    "int": (mmstats.IntField(aggregate="last"), lambda stats, value: setattr(stats, "x", value), [1, -2, 3]),
    "double": (mmstats.DoubleField(aggregate="last"), lambda stats, value: setattr(stats, "x", value), [1.5, 2.5, 3.5]),
    "bool": (mmstats.BoolField(aggregate="last"), lambda stats, value: setattr(stats, "x", value), [True, False, True]),
    "text": (mmstats.StringField(aggregate="last"), lambda stats, value: setattr(stats, "x", value), ["a", "b", "c"]),
    "enum": (
        mmstats.EnumField(states=["a", "b", "c"], aggregate="last"),
        lambda stats, value: stats.x.state(value),
        ["a", "b", "c"],
    ),
}


@pytest.mark.parametrize("kind", LAST)
def test_last_is_what_was_set_last_and_not_what_the_newest_process_has(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, record, (first, second, third) = LAST[kind]
    several = [process(x=field) for _ in range(3)]
    record(several[2], third)
    record(several[0], first)
    _after(several[0])
    record(several[1], second)
    assert merged(several)["x"].value == second
    _after(several[1])
    record(several[0], first)
    assert merged(several)["x"].value == first


def _after(stats: Any) -> None:
    """Wait until the clock has gone on; time stamps are as coarse as it is."""
    import time

    now = time.time_ns()
    while time.time_ns() == now:
        pass


def test_of_what_nobody_set_the_newest_process_counts() -> None:
    field = {"x": mmstats.StaticInt64Field(value=lambda: next(_static), aggregate="last")}
    several = [process(**field) for _ in range(3)]
    assert merged(reversed(several))["x"].value == several[-1].x


# Labels.


def test_label_sets_merge_by_their_values_in_whatever_order_they_came() -> None:
    field = {"codes": mmstats.CounterField(labelnames=["code"]), "h": mmstats.HistogramField(labelnames=["code"])}

    def record(*codes: int) -> Callable[[Any], object]:
        def record(stats: Any) -> None:
            for code in codes:
                stats.codes.labels(code).inc(code)
                stats.h.labels(code).observe(code)

        return record

    found = merged([process(record(1, 2, 3), **field), process(record(3, 1), **field), process(record(4), **field)])
    assert found["codes"].value == {("1",): 2, ("2",): 2, ("3",): 6, ("4",): 4}
    assert {key: value.count for key, value in found["h"].items()} == {("1",): 2, ("2",): 1, ("3",): 2, ("4",): 1}
    assert isinstance(found["codes"], values.LabelledValue)
    assert found["codes"]["3"].value == 6


def test_label_sets_that_stay_by_process_do_so_one_by_one() -> None:
    field = {"x": mmstats.StringField(labelnames=["slot"])}
    one = process(lambda stats: stats.x.labels("a").set("1"), **field)
    two = process(lambda stats: [stats.x.labels(slot).set("2") for slot in "ba"], **field)
    found = merged([one, two])["x"]
    assert found.value == {
        ("a",): {Path(one.filename).stem: "1", Path(two.filename).stem: "2"},
        ("b",): {Path(two.filename).stem: "2"},
    }


# Processes that are gone.


def test_what_only_grows_counts_the_dead_and_what_describes_a_moment_does_not() -> None:
    fields = {
        "requests": mmstats.CounterField(),
        "codes": mmstats.CounterField(labelnames=["code"]),
        "latency": mmstats.HistogramField(),
        "render": mmstats.TimerField(),
        "mean": mmstats.AverageField(),
        "active": mmstats.GaugeField(),
        "on": mmstats.BoolField(),
        "size": mmstats.IntField(aggregate="max"),
        "text": mmstats.StringField(),
        "phase": mmstats.EnumField(states=["up", "down"]),
        "pool": mmstats.StructField({"used": int}, aggregate="sum"),
        "newest": mmstats.GaugeField(aggregate="last"),
        "slots": mmstats.GaugeField(labelnames=["slot"]),
    }

    def record(stats: Any) -> None:
        stats.requests.inc(2)
        stats.codes.labels(200).inc(2)
        for field in (stats.latency, stats.render, stats.mean):
            field.observe(2)
        stats.active.set(2)
        stats.on = True
        stats.size = 2
        stats.text = "x"
        stats.pool.set(used=2)
        stats.newest.set(2)
        stats.slots.labels("a").set(2)

    alive, dead = process(record, **fields), process(record, **fields)
    dead.size = 100
    dead.newest.set(100)
    dead.slots.labels("b").set(100)
    kill(dead)
    assert [mmstats.read(stats.filename).alive for stats in (alive, dead)] == [True, False]
    found = merged([alive, dead])
    assert found.processes == 2
    assert (found["requests"].value, found["codes"].value) == (4, {("200",): 4})
    assert [found[name].count for name in ("latency", "render", "mean")] == [2, 2, 2]
    assert (found["active"].value, found["on"].value, found["size"].value) == (2.0, 1, 2)
    assert found["pool"].value == {"used": 2}
    assert found["newest"].value == 2.0
    assert list(found["text"]) == list(found["phase"]) == [Path(alive.filename).stem]
    assert found["slots"].value == {("a",): 2.0}
    json.dumps(found.to_dict(), allow_nan=False)


def test_of_the_dead_alone_stays_what_only_grows() -> None:
    fields = {
        "requests": mmstats.CounterField(),
        "render": mmstats.TimerField(),
        "active": mmstats.GaugeField(),
        "newest": mmstats.GaugeField(aggregate="last"),
        "text": mmstats.StringField(),
        "latest": mmstats.StringField(aggregate="last"),
        "phase": mmstats.EnumField(states=["up"]),
        "pool": mmstats.StructField({"used": int}, aggregate="mean"),
    }
    several = [process(lambda stats: stats.requests.inc(), **fields) for _ in range(2)]
    for stats in several:
        kill(stats)
    found = merged(several)
    assert set(found) == {"mmstats.overflow", "requests", "render"}
    assert found["requests"].value == 2
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("how", ["last", "all"])
def test_values_that_could_not_be_read_are_no_values(how: str) -> None:
    several = [process(lambda stats: setattr(stats, "text", "x"), text=mmstats.StringField(aggregate=how))]
    data = bytearray(Path(several[0].filename).read_bytes())
    at = data.index(struct.pack("<Q", 264 + 8 * (how == "last")), 8192)  # the size of a buffer
    with open(several[0].filename, "r+b") as file:
        file.seek(at)
        file.write(struct.pack("<Q", 8))
    found = merged(several)
    assert set(found) == {"mmstats.overflow"}
    json.dumps(found.to_dict(), allow_nan=False)


# Definitions that differ.


def test_of_a_name_defined_differently_the_newest_definition_counts_and_that_is_said() -> None:
    old = process(lambda stats: stats.x.inc(5), x=mmstats.CounterField(), y=mmstats.CounterField())
    new = process(lambda stats: stats.x.set(7), x=mmstats.GaugeField(), y=mmstats.CounterField())
    for order in ([old, new], [new, old]):
        found = merged(order)
        assert found.problems == (
            "'x' is defined differently by some processes: only those that agree with the newest are merged",
        )
        assert (found["x"].kind, found["x"].value) == ("gauge", 7.0)
        assert found["y"].value == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (mmstats.HistogramField(buckets=[1, 2]), mmstats.HistogramField(buckets=[1, 3])),
        (mmstats.HistogramField(buckets=[1, 2]), mmstats.HistogramField(buckets=[1])),
        (mmstats.CounterField(), mmstats.CounterField(type=float)),
        (mmstats.CounterField(), mmstats.CounterField(labelnames=["x"])),
        (mmstats.CounterField(labelnames=["x"]), mmstats.CounterField(labelnames=["y"])),
        (mmstats.GaugeField(), mmstats.GaugeField(aggregate="max")),
        (mmstats.StringField(10), mmstats.StringField(20)),
        (mmstats.EnumField(states=["a"]), mmstats.EnumField(states=["b"])),
        (mmstats.StructField({"a": int}), mmstats.StructField({"b": int})),
    ],
)
def test_what_cannot_be_merged_is_not_and_the_newest_counts(old: Any, new: Any) -> None:
    several = [process(x=old), process(x=new)]
    if old.labelnames:
        for stats in several:
            stats.x.labels("a").inc()
    found = merged(several)
    assert len(found.problems) == 1
    assert found["x"].family == mmstats.read(several[1].filename)["x"].family
    json.dumps(found.to_dict(), allow_nan=False)


def test_help_and_unit_may_differ() -> None:
    several = [
        process(lambda stats: stats.x.inc(), x=mmstats.CounterField(help="old", unit="s")),
        process(lambda stats: stats.x.inc(), x=mmstats.CounterField(help="new", unit="seconds")),
    ]
    found = merged(several)
    assert found.problems == ()
    assert (found["x"].value, found["x"].help, found["x"].unit) == (2, "new", "seconds")


def test_fields_that_only_some_have_are_there() -> None:
    found = merged(
        [
            process(lambda stats: stats.x.inc(), x=mmstats.CounterField()),
            process(lambda stats: stats.y.inc(), y=mmstats.CounterField()),
        ]
    )
    assert (found["x"].value, found["y"].value, found["mmstats.overflow"].value) == (1, 1, 0)


# The whole.


def test_nothing_merges_to_nothing() -> None:
    found = aggregate.merge([])
    assert (len(found), list(found), found.processes, found.problems) == (0, [], 0, ())
    assert found.to_dict() == {"processes": 0, "problems": [], "values": {}}
    with pytest.raises(KeyError):
        found["x"]


def test_one_process_merges_to_itself() -> None:
    only = process(lambda stats: stats.x.inc(3), x=mmstats.CounterField(), t=mmstats.TimerField())
    only.t.observe(2)
    found = merged([only])
    assert (found["x"].value, found["t"].last, found.processes) == (3, 2.0, 1)


def test_a_fleet_merges_what_it_read(home: Path) -> None:
    for number in (1, 2, 3):
        process(lambda stats, number=number: stats.x.inc(number), x=mmstats.CounterField())
    (home / "broken.mmstats").write_bytes(b"x")
    fleet = mmstats.read_all(home)
    found = fleet.merge()
    assert (found.processes, found["x"].value) == (3, 6)
    assert repr(found) == "<Merged 3 processes: 2 fields>"
    assert list(fleet.problems) == [str(home / "broken.mmstats")]


def test_a_merge_as_a_dict_is_json() -> None:
    fields = {"x": mmstats.GaugeField(), "codes": mmstats.CounterField(labelnames=["c"]), "text": mmstats.StringField()}

    def record(stats: Any) -> None:
        stats.x.set(float("inf"))
        stats.codes.labels(200).inc()

    found = merged([process(record, **fields), process(record, **fields)]).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["values"]["x"]["value"] is None
    assert found["values"]["codes"]["series"] == [{"labels": {"c": "200"}, "value": 2}]
    assert set(found["values"]["text"]) == {"kind", "unit", "help", "aggregate", "processes"}


def test_files_of_mmstats_0_8_stay_by_process() -> None:
    old = mmstats.read(DATA / "all-types.mmstats")
    new = process(lambda stats: stats.requests.inc(), requests=mmstats.CounterField())
    found = aggregate.merge([old, mmstats.read(new.filename)])
    assert found.processes == 2
    assert found["requests"].value == 1
    assert found["web.requests.total"].value == {"all-types": 1042}
    assert found["web.on"].value == {"all-types": True}
    json.dumps(found.to_dict(), allow_nan=False)


def test_files_of_one_name_in_two_directories_stay_apart(home: Path) -> None:
    class Stats(mmstats.BaseMmStats):
        text = mmstats.StringField()

    several = [Stats(path=str(home / name), filename="web.mmstats") for name in "ab"]
    for stats, text in zip(several, "ab", strict=True):
        stats.text = text
    assert sorted(merged(several)["text"].value.values()) == ["a", "b"]


@given(
    parts=st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1000)), max_size=8), max_size=5),
    dead=st.sets(st.integers(0, 4)),
)
def test_counters_agree_with_a_naive_sum_over_all_processes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[str, int]]], dead: set[int]
) -> None:
    home = str(tmp_path_factory.mktemp("fleet"))
    expected: dict[tuple[str], int] = {}
    several = []
    for number, part in enumerate(parts):
        fields = {"x": mmstats.CounterField(labelnames=["l"])}
        stats = type("Stats", (mmstats.BaseMmStats,), fields)(path=home, filename=f"{number}.mmstats")
        for label, amount in part:
            stats.x.labels(label).inc(amount)
            expected[(label,)] = expected.get((label,), 0) + amount
        if number in dead:
            kill(stats)
        several.append(stats)
    found = merged(several)
    for stats in several:
        stats.remove()
    assert (found["x"].value if parts else {}) == expected
