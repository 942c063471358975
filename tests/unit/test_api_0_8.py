"""A program written for mmstats 0.8, on Python 3: what it relied on, it still has.

Where 2.0 differs on purpose, a test here says so too, so that the difference stays a decision.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import mmstats
from mmstats.fields import CounterField, UIntField


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# What a module could import.


@pytest.mark.parametrize(
    "name",
    [
        "BaseMmStats",
        "MmStats",
        "ByteField",
        "ShortField",
        "UShortField",
        "IntField",
        "UIntField",
        "UInt64Field",
        "FloatField",
        "DoubleField",
        "BoolField",
        "StringField",
        "StaticUIntField",
        "StaticInt64Field",
        "StaticUInt64Field",
        "StaticFloatField",
        "StaticDoubleField",
        "StaticTextField",
        "CounterField",
        "AverageField",
        "MovingAverageField",
        "TimerField",
    ],
)
def test_every_public_name_is_still_there(name: str) -> None:
    assert isinstance(getattr(mmstats, name), type)


def test_fields_are_found_in_their_module() -> None:
    assert (CounterField, UIntField) == (mmstats.CounterField, mmstats.UIntField)


# Models.


def test_two_instances_with_files_of_their_own_share_no_state() -> None:
    class Lasers(mmstats.MmStats):
        blue = mmstats.UIntField()
        red = mmstats.UIntField()

    a = Lasers(filename="lasers-a.mmstats")
    b = Lasers(filename="lasers-b.mmstats")
    a.blue, a.red, b.blue = 1, 2, 42
    assert (a.blue, a.red, b.blue, b.red) == (1, 2, 42, 0)


def test_a_model_takes_path_filename_and_prefix_by_position(home: Path) -> None:
    class Stats(mmstats.MmStats):
        hits = mmstats.CounterField()

    stats = Stats(str(home / "deeper"), "web-{PID}.mmstats", "web.")
    assert stats.filename == str(home / "deeper" / f"web-{os.getpid()}.mmstats")
    assert stats.label_prefix == "web."
    assert "web.hits" in mmstats.read(stats.filename)
    assert "web.sys.pid" in mmstats.read(stats.filename)


def test_without_a_prefix_the_prefix_is_empty() -> None:
    assert mmstats.MmStats().label_prefix == ""


def test_command_pid_and_thread_are_filled_in(home: Path) -> None:
    stats = mmstats.MmStats(filename="{CMD}-{PID}-{TID}.mmstats")
    command = os.path.basename(sys.argv[0])
    assert stats.filename == str(home / f"{command}-{os.getpid()}-{threading.get_native_id()}.mmstats")


def test_the_environment_gives_directory_and_file_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_PATH", str(home / "other"))
    monkeypatch.setenv("MMSTATS_FILES", "mine-{PID}.mmstats")
    assert mmstats.MmStats().filename == str(home / "other" / f"mine-{os.getpid()}.mmstats")


def test_fields_are_inherited_and_overridden() -> None:
    class Parent(mmstats.MmStats):
        a = mmstats.UIntField()
        b = mmstats.UIntField()

    class Child(Parent):
        a = mmstats.BoolField()
        c = mmstats.UIntField()

    assert isinstance(Parent.a, mmstats.UIntField)
    assert isinstance(Child.a, mmstats.BoolField)
    assert isinstance(Child.b, mmstats.UIntField)
    assert not hasattr(Parent, "c")
    stats = Child()
    stats.a = 5
    assert stats.a is True
    assert stats.b == 0


def test_a_label_is_the_name_that_is_exposed() -> None:
    class Stats(mmstats.MmStats):
        first = mmstats.UIntField(label="f.primary")
        second = mmstats.UIntField("f.secondary")
        shortie = mmstats.ShortField(label="The Short")
        flag = mmstats.BoolField(label="The Bool")
        text = mmstats.StringField(label="the.text")
        mean = mmstats.AverageField(label="the.mean")
        moving = mmstats.MovingAverageField(label="the.moving")
        timer = mmstats.TimerField(label="the.timer")
        count = mmstats.CounterField(label="the.count")

    stats = Stats()
    stats.first = 3
    stats.second = 4
    found = mmstats.read(stats.filename)
    assert (found["f.primary"].value, found["f.secondary"].value) == (3, 4)
    assert {"The Short", "The Bool", "the.text", "the.mean", "the.moving", "the.timer", "the.count"} <= set(found)
    assert Stats.first.label == "f.primary"


def test_the_default_fields_have_their_labels_and_are_attributes() -> None:
    before = time.time()
    stats = mmstats.MmStats()
    found = mmstats.read(stats.filename)
    assert found["sys.pid"].value == stats.pid == os.getpid()
    assert found["sys.tid"].value == stats.tid == threading.get_native_id()
    assert found["sys.uid"].value == stats.uid == os.getuid()
    assert found["sys.gid"].value == stats.gid == os.getgid()
    assert found["org.python.version"].value == stats.python_version == sys.version.replace("\n", "")
    assert before - 1 < found["sys.created"].value == stats.created < time.time() + 1


def test_the_base_model_has_no_default_fields() -> None:
    class Stats(mmstats.BaseMmStats):
        text = mmstats.StaticTextField(label="text", value="something cool")

    stats = Stats()
    assert stats.text == "something cool"
    assert not [name for name in mmstats.read(stats.filename) if name.startswith(("sys.", "org."))]


def test_flush_size_filename_and_remove(home: Path) -> None:
    class Stats(mmstats.MmStats):
        hits = mmstats.CounterField()

    stats = Stats(filename="x.mmstats")
    assert stats.size > 0
    stats.flush()
    stats.flush(True)
    path = stats.filename
    assert os.path.exists(path)
    stats.remove()
    stats.remove()
    assert stats.filename == path
    assert not os.path.exists(path)


def test_remove_is_no_error_when_somebody_else_deleted_the_file() -> None:
    stats = mmstats.MmStats(filename="x.mmstats")
    os.unlink(stats.filename)
    stats.remove()


def test_a_field_touched_after_remove_raises_and_never_crashes() -> None:
    class Stats(mmstats.MmStats):
        hits = mmstats.CounterField()
        mean = mmstats.AverageField()
        timer = mmstats.TimerField()
        size = mmstats.UIntField()
        text = mmstats.StringField()

    stats = Stats(filename="x.mmstats")
    hits, mean, timer = stats.hits, stats.mean, stats.timer
    stats.remove()

    def enter() -> None:
        with timer:
            pass

    touches: list[Any] = [
        lambda: stats.hits.incr(),
        lambda: hits.incr(),
        lambda: mean.add(1),
        lambda: stats.timer.value,
        enter,
        lambda: stats.size,
        lambda: setattr(stats, "size", 1),
        lambda: stats.text,
        lambda: setattr(stats, "text", ""),
        lambda: stats.pid,
    ]
    for touch in touches:
        with pytest.raises(ValueError, match="removed"):
            touch()


def test_labels_of_a_page_and_more_fit() -> None:
    class Big(mmstats.MmStats):
        f1 = mmstats.BoolField(label="f1" * 2048)
        f2 = mmstats.UIntField(label="f" + "o" * 4096)
        f3 = mmstats.UIntField(label="f" + "0" * 4096)

    stats = Big()
    stats.f1, stats.f2 = True, 7
    assert (stats.f1, stats.f2, stats.f3) == (True, 7, 0)
    assert mmstats.read(stats.filename)["f" + "o" * 4096].value == 7


# Data fields.


@pytest.mark.parametrize(
    ("field", "c"),
    [
        (mmstats.ByteField, ctypes.c_byte),
        (mmstats.ShortField, ctypes.c_int16),
        (mmstats.UShortField, ctypes.c_uint16),
        (mmstats.IntField, ctypes.c_int32),
        (mmstats.UIntField, ctypes.c_uint32),
        (mmstats.UInt64Field, ctypes.c_uint64),
    ],
)
def test_integers_begin_at_zero_and_wrap_as_cs_do(field: Any, c: Any) -> None:
    stats = type("Stats", (mmstats.MmStats,), {"number": field(), "other": field()})()
    assert stats.number == 0
    for value in (1, -1, -100, 127, 128, 2**15, 2**16 - 1, -9001, 2**31, 2**32 - 1, 2**63, 2**64 - 1):
        stats.number = value
        assert stats.number == c(value).value
        assert stats.other == 0


def test_integers_count_in_place() -> None:
    class Stats(mmstats.MmStats):
        number = mmstats.ByteField()

    stats = Stats()
    for _ in range(130):
        stats.number += 1
    assert stats.number == -126


def test_floats_are_single_and_doubles_double() -> None:
    class Stats(mmstats.MmStats):
        f = mmstats.FloatField()
        d = mmstats.DoubleField()

    stats = Stats()
    assert (stats.f, stats.d) == (0.0, 0.0)
    stats.d = stats.f = 1.0 / 3
    assert stats.d == 1.0 / 3
    assert stats.f == ctypes.c_float(1.0 / 3).value
    stats.d = stats.f = -1
    assert (stats.f, stats.d) == (-1.0, -1.0)


def test_bools_take_anything_and_give_true_or_false() -> None:
    class Stats(mmstats.MmStats):
        a = mmstats.BoolField()
        b = mmstats.BoolField(initial=True)
        c = mmstats.BoolField(True)

    stats = Stats()
    assert (stats.a, stats.b, stats.c) == (False, True, True)
    stats.a = "anything truthy at all"
    stats.b = []
    assert stats.a is True
    assert stats.b is False


def test_strings_are_cut_at_a_characters_border() -> None:
    class Stats(mmstats.MmStats):
        s = mmstats.StringField(10)
        long = mmstats.StringField()
        n = mmstats.StringField(size=3, label="n")

    stats = Stats()
    assert stats.s == ""
    stats.s = "a" * 11
    assert stats.s == "a" * 10
    stats.s = "b"
    assert stats.s == "b"
    stats.s = "\u2764" * 11
    assert stats.s == "\u2764" * 3
    stats.s = b"bytes"
    assert stats.s == "bytes"
    stats.long = "x" * 300
    assert stats.long == "x" * 255


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (mmstats.StaticUIntField, -1, 2**32 - 1),
        (mmstats.StaticInt64Field, -1, -1),
        (mmstats.StaticUInt64Field, -1, 2**64 - 1),
        (mmstats.StaticFloatField, 1.5, 1.5),
        (mmstats.StaticDoubleField, 2.25, 2.25),
        (mmstats.StaticTextField, "webapp", "webapp"),
    ],
)
def test_static_fields_take_a_value_or_a_callable_and_need_one(field: Any, value: Any, expected: Any) -> None:
    class Stats(mmstats.MmStats):
        plain = field(value=value)
        called = field(label="c.alled", value=lambda: value)
        positional = field("p.ositional", value)

    stats = Stats()
    assert (stats.plain, stats.called, stats.positional) == (expected, expected, expected)
    assert mmstats.read(stats.filename)["c.alled"].value == expected
    with pytest.raises(ValueError, match="value must be set"):
        type("Missing", (mmstats.MmStats,), {"fact": field()})()


# Objects.


def test_a_counter_is_counted_read_and_set() -> None:
    class Stats(mmstats.MmStats):
        counter = mmstats.CounterField()

    stats = Stats()
    assert stats.counter.value == 0
    stats.counter.incr()
    stats.counter.incr(amount=8)
    stats.counter.inc()
    stats.counter.inc(n=90)
    assert stats.counter.value == 100
    stats.counter.value = 1
    stats.counter.incr(-2)
    assert stats.counter.value == 2**64 - 1
    stats.counter.incr()
    assert stats.counter.value == 0
    stats.counter.value = -1
    assert stats.counter.value == 2**64 - 1


def test_an_average_is_that_of_all() -> None:
    class Stats(mmstats.MmStats):
        mean = mmstats.AverageField()

    stats = Stats()
    assert stats.mean.value == 0.0
    for value, expected in ((1, 1.0), (1, 1.0), (-5, -1.0), (3, 0.0)):
        stats.mean.add(value)
        assert stats.mean.value == expected


def test_a_moving_average_is_that_of_the_last_hundred_or_as_many_as_asked_for() -> None:
    class Stats(mmstats.MmStats):
        one = mmstats.MovingAverageField(size=1)
        default = mmstats.MovingAverageField()
        thousand = mmstats.MovingAverageField(size=1000)
        mean = mmstats.AverageField()

    stats = Stats()
    for _ in range(2):
        for number in range(1000):
            for field in (stats.one, stats.default, stats.thousand, stats.mean):
                field.add(number)
    assert (stats.one.value, stats.default.value, stats.thousand.value) == (999.0, 949.5, 499.5)
    assert stats.mean.value == 499.5


def test_a_timer_times_what_is_inside_and_has_last_and_a_moving_value() -> None:
    clock = Clock()

    class Stats(mmstats.MmStats):
        timer = mmstats.TimerField(timer=clock)
        other = mmstats.TimerField()

    stats = Stats()
    with stats.timer as context:
        assert (stats.timer.value, stats.timer.last, stats.other.value) == (0.0, 0.0, 0.0)
        clock.now += 2
        assert context.elapsed == 2.0
        clock.now += 1
        assert context.elapsed == 3.0
    clock.now += 10
    assert context.elapsed == stats.timer.last == stats.timer.value == 3.0
    stats.timer.start()
    clock.now += 1
    stats.timer.stop()
    assert (stats.timer.last, stats.timer.value) == (1.0, 2.0)
    assert stats.other.value == 0.0


@pytest.mark.parametrize("timer", [time.time, time.perf_counter, time.process_time])
def test_a_timer_takes_the_clocks_of_the_standard_library(timer: Any) -> None:
    class Stats(mmstats.MmStats):
        timer_field = mmstats.TimerField(timer)

    stats = Stats()
    with stats.timer_field as context:
        assert context.elapsed >= 0.0
    assert stats.timer_field.last >= 0.0


# Differences that a program can notice, each of them decided.


def test_difference_models_without_file_names_share_one_file_and_equal_fields_one_value() -> None:
    """In 0.8 the second instance wrote over the file of the first one."""

    class Stats(mmstats.MmStats):
        hits = mmstats.CounterField()

    one, two = Stats(), Stats()
    one.hits.incr()
    assert two.hits.value == 1
    assert one.filename == two.filename


def test_difference_threads_share_an_instance() -> None:
    """In 0.8 each thread got a file of its own, and {TID} told them apart."""

    class Stats(mmstats.MmStats):
        hits = mmstats.CounterField()

    stats = Stats(filename="threads-{TID}.mmstats")
    seen = []

    def work() -> None:
        for _ in range(1000):
            stats.hits.incr()
        seen.append(stats.filename)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {stats.filename}
    assert stats.hits.value == 4000


def test_difference_inc_does_not_take_negative_numbers() -> None:
    """In 0.8 it wrapped, as incr() still does."""

    class Stats(mmstats.MmStats):
        hits = mmstats.CounterField()

    with pytest.raises(ValueError, match="only goes up"):
        Stats().hits.inc(-1)


def test_difference_what_is_assigned_to_an_object_or_a_static_field_is_refused() -> None:
    """In 0.8 the assignment hid the field, and nothing was counted any more."""

    class Stats(mmstats.MmStats):
        hits = mmstats.CounterField()
        fact = mmstats.StaticUIntField(value=1)

    stats = Stats()
    for name in ("hits", "fact", "pid"):
        with pytest.raises(AttributeError):
            setattr(stats, name, 5)


def test_difference_averages_and_timers_are_not_set() -> None:
    """In 0.8 their values could be set, and the next sample undid it."""

    class Stats(mmstats.MmStats):
        mean = mmstats.AverageField()
        moving = mmstats.MovingAverageField()
        timer = mmstats.TimerField()

    stats = Stats()
    for field in (stats.mean, stats.moving, stats.timer):
        with pytest.raises(AttributeError):
            field.value = 1.0
