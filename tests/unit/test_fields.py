"""What each field promises to the program that records with it."""

from __future__ import annotations

import asyncio
import bisect
import ctypes
import enum
import inspect
import math
import struct
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmstats
from mmstats import layout, registry

Make = Callable[..., Any]


@pytest.fixture
def make() -> Make:
    """Make a model of the given fields: ``make(requests=CounterField())``."""

    def make(**fields: mmstats.Field) -> Any:
        return type("Stats", (mmstats.BaseMmStats,), dict(fields))()

    return make


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def record(stats: Any) -> mmstats.Snapshot:
    return mmstats.read(stats.filename)


# Counters.


def test_a_counter_starts_at_zero_and_adds_one_or_what_it_is_told(make: Make) -> None:
    stats = make(requests=mmstats.CounterField())
    assert stats.requests.value == 0
    stats.requests.inc()
    stats.requests.inc(41)
    stats.requests.inc(n=0)
    assert stats.requests.value == 42
    assert record(stats)["requests"].value == 42


def test_a_counter_does_not_go_down_by_inc(make: Make) -> None:
    stats = make(requests=mmstats.CounterField())
    stats.requests.inc(3)
    for refused in (-1, -(2**63)):
        with pytest.raises(ValueError, match="only goes up"):
            stats.requests.inc(refused)
    for refused in (2**63, 2**64, -(2**70)):
        with pytest.raises((ValueError, OverflowError)):
            stats.requests.inc(refused)
    for refused in (1.5, "1", None):
        with pytest.raises(TypeError):
            stats.requests.inc(refused)
    assert stats.requests.value == 3


class Index:
    """An integer that is no int, as numpy's are."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def test_integers_of_other_libraries_are_integers(make: Make) -> None:
    stats = make(
        requests=mmstats.CounterField(),
        size=mmstats.IntField(),
        total=mmstats.UInt64Field(),
        limit=mmstats.StaticInt64Field(value=Index(-9)),
    )
    stats.requests.inc(Index(2))
    stats.requests.incr(Index(3))
    stats.size = stats.total = Index(-5)
    assert (stats.requests.value, stats.size, stats.total, stats.limit) == (5, -5, 2**64 - 5, -9)


def test_incr_lets_negative_amounts_through_and_wraps_at_64_bits(make: Make) -> None:
    stats = make(requests=mmstats.CounterField())
    stats.requests.incr(10)
    stats.requests.incr(amount=-11)
    assert stats.requests.value == 2**64 - 1
    stats.requests.incr()
    assert stats.requests.value == 0


def test_inc_wraps_at_64_bits(make: Make) -> None:
    stats = make(requests=mmstats.CounterField())
    stats.requests.value = 2**64 - 1
    stats.requests.inc(3)
    assert stats.requests.value == 2


def test_a_counters_value_can_be_set(make: Make) -> None:
    stats = make(requests=mmstats.CounterField())
    stats.requests.value = 7
    assert stats.requests.value == 7
    stats.requests.value = -1
    assert stats.requests.value == 2**64 - 1
    with pytest.raises(TypeError):
        stats.requests.value = 0.5
    assert stats.requests.value == 2**64 - 1


@given(st.lists(st.integers(0, 2**63 - 1), max_size=20))
def test_a_counter_counts_as_c_does(amounts: list[int]) -> None:
    cell = mmstats.CounterField().make_cell(_Owner(), None)
    for amount in amounts:
        cell.inc(amount)
    assert cell.value == ctypes.c_uint64(sum(amounts)).value


class _Owner:
    """Gives a cell memory without a file."""

    def __init__(self, size: int = 4096) -> None:
        registry.registry_for()  # makes this process one that records
        self.view = memoryview(bytearray(size))

    def wake(self, cell: Any) -> None:
        cell.bind(self.view, 0)
        cell.reset()


def test_a_float_counter_counts_what_is_not_whole(make: Make) -> None:
    stats = make(cpu=mmstats.CounterField(type=float, unit="seconds"))
    assert stats.cpu.value == 0.0
    stats.cpu.inc(0.25)
    stats.cpu.inc()
    assert stats.cpu.value == 1.25
    for refused in (-0.5, float("nan")):
        with pytest.raises(ValueError, match="only goes up"):
            stats.cpu.inc(refused)
    with pytest.raises(TypeError):
        stats.cpu.inc("1")
    assert stats.cpu.value == 1.25
    assert record(stats)["cpu"].value == 1.25


def test_count_exceptions_counts_what_passes_and_lets_it_pass(make: Make) -> None:
    stats = make(errors=mmstats.CounterField(), keys=mmstats.CounterField(type=float))
    with pytest.raises(ZeroDivisionError), stats.errors.count_exceptions():
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), stats.keys.count_exceptions(KeyError):
        raise ZeroDivisionError
    with pytest.raises(KeyError), stats.keys.count_exceptions((KeyError, OSError)):
        raise KeyError
    with stats.errors.count_exceptions():
        pass
    with pytest.raises(SystemExit), stats.errors.count_exceptions():
        raise SystemExit
    assert (stats.errors.value, stats.keys.value) == (1, 1.0)


def test_count_exceptions_decorates_a_function(make: Make) -> None:
    stats = make(errors=mmstats.CounterField())

    @stats.errors.count_exceptions(ValueError)
    def parse(text: str, base: int = 10) -> int:
        """Parse."""
        return int(text, base)

    assert (parse("12"), parse("ff", base=16)) == (12, 255)
    assert (parse.__name__, parse.__doc__) == ("parse", "Parse.")
    with pytest.raises(ValueError, match="invalid literal"):
        parse("x")
    assert stats.errors.value == 1


def test_decorators_also_suit_methods(make: Make, clock: Clock) -> None:
    stats = make(
        errors=mmstats.CounterField(),
        active=mmstats.GaugeField(),
        latency=mmstats.HistogramField(),
        render=mmstats.TimerField(timer=clock),
    )

    class View:
        @stats.errors.count_exceptions()
        @stats.active.track_inprogress()
        @stats.latency.time()
        @stats.render
        def get(self, page: str) -> tuple[Any, str, float]:
            return self, page, stats.active.value

        post = staticmethod(stats.render(lambda page: page))

    view = View()
    assert view.get("home") == (view, "home", 1.0)
    assert view.post("form") == "form"
    assert (stats.latency.count, stats.render.count, stats.active.value) == (1, 2, 0.0)
    assert list(inspect.signature(view.get).parameters) == ["page"]


def test_decorated_coroutine_functions_are_recorded_while_they_are_awaited(make: Make, clock: Clock) -> None:
    stats = make(
        errors=mmstats.CounterField(), active=mmstats.GaugeField(), render=mmstats.TimerField(timer=clock)
    )  # fmt: skip

    @stats.render
    @stats.errors.count_exceptions(KeyError)
    @stats.active.track_inprogress()
    async def work(seconds: float) -> float:
        clock.now += seconds
        await asyncio.sleep(0)
        if seconds == 3:
            raise KeyError
        return stats.active.value

    assert inspect.iscoroutinefunction(work)

    async def main() -> list[Any]:
        return await asyncio.gather(work(1), work(3), work(5), return_exceptions=True)

    first, second, third = asyncio.run(main())
    assert (first, third) == (3.0, 1.0)
    assert isinstance(second, KeyError)
    assert (stats.errors.value, stats.active.value) == (1, 0.0)
    assert (stats.render.count, stats.render.sum) == (3, 9.0 + 8.0 + 5.0)


# Gauges.


def test_a_gauge_is_set_and_goes_up_and_down(make: Make) -> None:
    stats = make(active=mmstats.GaugeField())
    assert stats.active.value == 0.0
    stats.active.set(2)
    stats.active.inc()
    stats.active.inc(0.5)
    stats.active.dec()
    stats.active.dec(4)
    assert stats.active.value == -1.5
    assert record(stats)["active"].value == -1.5


@pytest.mark.parametrize("bad", ["1", None, [1]])
def test_a_gauge_refuses_what_is_no_number_and_keeps_its_value(make: Make, bad: Any) -> None:
    stats = make(active=mmstats.GaugeField())
    stats.active.set(7)
    for method in (stats.active.set, stats.active.inc, stats.active.dec):
        with pytest.raises(TypeError):
            method(bad)
    assert stats.active.value == 7.0


def test_a_gauge_counts_who_is_inside(make: Make) -> None:
    stats = make(active=mmstats.GaugeField())

    @stats.active.track_inprogress()
    def look() -> float:
        return stats.active.value

    with stats.active.track_inprogress():
        assert stats.active.value == 1.0
        assert look() == 2.0
    with pytest.raises(KeyError), stats.active.track_inprogress():
        raise KeyError
    assert stats.active.value == 0.0


def test_a_gauge_can_hold_the_current_time(make: Make) -> None:
    import time

    stats = make(started=mmstats.GaugeField(unit="seconds"))
    before = time.time()
    stats.started.set_to_current_time()
    assert before - 0.001 <= stats.started.value <= time.time() + 0.001


# Histograms.


def test_a_histograms_buckets_are_those_of_prometheus_by_default(make: Make) -> None:
    stats = make(latency=mmstats.HistogramField())
    stats.latency.observe(0.005)
    found = record(stats)["latency"]
    assert found.bounds == mmstats.DEFAULT_BUCKETS
    assert found.buckets == (1,) + (0,) * 14


def test_a_histograms_upper_bounds_are_inclusive(make: Make) -> None:
    stats = make(size=mmstats.HistogramField(buckets=(1, 2, 4)))
    for value in (1, math.nextafter(1, 2), 2, math.nextafter(2, 3), 4, math.nextafter(4, 5)):
        stats.size.observe(value)
    assert record(stats)["size"].buckets == (1, 2, 2, 1)


def test_a_histogram_keeps_count_sum_and_mean(make: Make) -> None:
    stats = make(size=mmstats.HistogramField(buckets=[10]))
    assert (stats.size.count, stats.size.sum, stats.size.value) == (0, 0.0, 0.0)
    for value in (1, 2, 30):
        stats.size.observe(value)
    assert (stats.size.count, stats.size.sum, stats.size.value) == (3, 33.0, 11.0)


def test_nan_is_no_sample(make: Make) -> None:
    stats = make(
        size=mmstats.HistogramField(),
        average=mmstats.AverageField(),
        moving=mmstats.MovingAverageField(),
        render=mmstats.TimerField(),
    )
    nan = float("nan")
    stats.size.observe(nan)
    stats.average.add(nan)
    stats.moving.add(nan)
    stats.render.observe(nan)
    assert [field.count for field in (stats.size, stats.average, stats.moving, stats.render)] == [0, 0, 0, 0]


def test_infinities_fall_into_the_outermost_buckets(make: Make) -> None:
    stats = make(size=mmstats.HistogramField(buckets=(1, 2)))
    stats.size.observe(float("inf"))
    stats.size.observe(float("-inf"))
    assert record(stats)["size"].buckets == (1, 0, 1)


@given(
    bounds=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30, unique=True).map(sorted),
    data=st.data(),
)
def test_a_histogram_agrees_with_a_naive_count(bounds: list[float], data: st.DataObject) -> None:
    near = st.sampled_from(bounds)
    samples = data.draw(st.lists(st.one_of(near, st.floats(-2e6, 2e6)), max_size=50))
    field = mmstats.HistogramField(buckets=bounds)
    cell = field.make_cell(_Owner(), None)
    expected = [0] * (len(bounds) + 1)
    for sample in samples:
        cell.observe(sample)
        expected[bisect.bisect_left(bounds, sample)] += 1
    view = cell.owner.view
    seq = int.from_bytes(view[8:16], "little")
    at = 24 + (seq & 1) * (len(bounds) + 3) * 8
    count, total, *buckets = struct.unpack_from(f"<Qd{len(expected)}Q", view, at)
    assert seq == len(samples)
    assert (count, buckets) == (len(samples), expected)
    assert total == pytest.approx(sum(samples))


def test_a_histogram_times_blocks_and_functions(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = make(latency=mmstats.HistogramField())

    @stats.latency.time()
    def work(n: int) -> int:
        return n if n == 0 else work(n - 1)

    assert work(3) == 0
    assert stats.latency.count == 4
    with stats.latency.time() as timing:
        assert timing.elapsed >= 0
    with pytest.raises(KeyError), stats.latency.time():
        raise KeyError
    assert stats.latency.count == 6
    assert 0 <= stats.latency.sum < 60


@pytest.mark.parametrize(
    "buckets",
    [
        [],
        [1, 1],
        [2, 1],
        [float("nan")],
        [1, float("nan")],
        [float("-inf"), 1],
        [float("inf")],
        [1, float("inf"), float("inf")],
        range(1001),
    ],
)
def test_buckets_that_make_no_sense_are_refused(buckets: Any) -> None:
    with pytest.raises(mmstats.DefinitionError, match="buckets"):
        mmstats.HistogramField(buckets=buckets)


def test_a_last_bound_of_infinity_is_allowed_and_changes_nothing() -> None:
    assert mmstats.HistogramField(buckets=[1, 2, float("inf")]).bounds() == (1.0, 2.0)


def test_buckets_can_be_made_by_factor_and_by_width() -> None:
    assert mmstats.exponential_buckets(1, 2, 4) == (1, 2, 4, 8)
    assert mmstats.linear_buckets(-1, 0.5, 4) == (-1, -0.5, 0, 0.5)
    assert mmstats.HistogramField(buckets=mmstats.exponential_buckets(0.5, 10, 3)).bounds() == (0.5, 5.0, 50.0)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (mmstats.exponential_buckets, (0, 2, 3)),
        (mmstats.exponential_buckets, (1, 1, 3)),
        (mmstats.exponential_buckets, (1, 2, 0)),
        (mmstats.linear_buckets, (0, 0, 3)),
        (mmstats.linear_buckets, (0, -1, 3)),
        (mmstats.linear_buckets, (0, 1, 0)),
    ],
)
def test_bucket_makers_refuse_what_does_not_rise(function: Any, arguments: Any) -> None:
    with pytest.raises(mmstats.DefinitionError):
        function(*arguments)


# Timers.


def test_a_timer_measures_by_its_clock(make: Make, clock: Clock) -> None:
    stats = make(render=mmstats.TimerField(timer=clock))
    assert (stats.render.value, stats.render.last, stats.render.count) == (0.0, 0.0, 0)
    for seconds in (2.0, 1.0, 6.0):
        with stats.render as timing:
            clock.now += seconds
            assert timing.elapsed == seconds
        clock.now += 50
        assert timing.elapsed == seconds
    assert (stats.render.value, stats.render.last) == (3.0, 6.0)
    assert (stats.render.count, stats.render.sum) == (3, 9.0)
    found = record(stats)["render"]
    assert (found.value, found.mean, found.last, found.min, found.max) == (3.0, 3.0, 6.0, 1.0, 6.0)
    assert (found.kind, found.unit) == ("timer", "seconds")


def test_a_timer_records_what_ends_by_an_exception(make: Make, clock: Clock) -> None:
    stats = make(render=mmstats.TimerField(timer=clock))

    def fail() -> None:
        clock.now += 3
        raise KeyError

    with pytest.raises(KeyError), stats.render:
        fail()
    assert stats.render.last == 3.0


def test_a_timer_decorates_functions_that_call_themselves(make: Make, clock: Clock) -> None:
    stats = make(render=mmstats.TimerField(timer=clock))

    @stats.render
    def work(depth: int) -> int:
        clock.now += 1
        return work(depth - 1) if depth else 7

    assert work(2) == 7
    assert (stats.render.count, stats.render.sum, stats.render.last) == (3, 6.0, 3.0)


def test_start_and_stop_time_what_lies_between_nested_or_not(make: Make, clock: Clock) -> None:
    stats = make(outer=mmstats.TimerField(timer=clock), inner=mmstats.TimerField(timer=clock))
    stats.outer.start()
    clock.now += 1
    stats.inner.start()
    clock.now += 1
    stats.outer.start()
    clock.now += 1
    assert stats.outer.stop() == 1.0
    clock.now += 1
    assert stats.outer.stop() == 4.0
    assert stats.inner.stop() == 3.0
    assert (stats.outer.last, stats.inner.last) == (4.0, 3.0)


def test_stop_needs_a_start(make: Make, clock: Clock) -> None:
    stats = make(render=mmstats.TimerField(timer=clock), other=mmstats.TimerField(timer=clock))
    stats.other.start()
    with pytest.raises(RuntimeError, match="without start"):
        stats.render.stop()
    stats.other.stop()
    with pytest.raises(RuntimeError, match="without start"):
        stats.other.stop()
    assert (stats.render.count, stats.other.count) == (0, 1)


def test_the_start_of_another_thread_is_not_stopped_here(make: Make, clock: Clock) -> None:
    stats = make(render=mmstats.TimerField(timer=clock))
    thread = threading.Thread(target=stats.render.start)
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError, match="without start"):
        stats.render.stop()


def test_one_timing_kept_and_entered_again_while_it_runs_is_right(make: Make, clock: Clock) -> None:
    stats = make(render=mmstats.TimerField(timer=clock))
    kept = stats.render
    with kept as outer:
        clock.now += 1
        with kept as middle:
            clock.now += 2
            with kept as inner:
                clock.now += 4
            assert inner.elapsed == 4.0
        assert middle.elapsed == 6.0
    assert outer.elapsed == 7.0
    assert (stats.render.sum, stats.render.last, stats.render.count) == (17.0, 7.0, 3)
    with kept as again:
        clock.now += 8
    assert again.elapsed == stats.render.last == 8.0


@pytest.mark.parametrize("kept", [False, True])
def test_a_timer_shared_by_threads_gives_each_its_own_time(make: Make, clock: Clock, kept: bool) -> None:
    stats = make(render=mmstats.TimerField(timer=clock))
    one = stats.render
    turns = [threading.Semaphore(0) for _ in range(3)]
    main = threading.Semaphore(0)
    elapsed: dict[int, list[float]] = {}

    def work(number: int) -> None:
        turns[number].acquire()
        with one if kept else stats.render as outer:
            main.release()
            turns[number].acquire()
            with one if kept else stats.render as inner:
                main.release()
                turns[number].acquire()
            main.release()
            turns[number].acquire()
        elapsed[number] = [inner.elapsed, outer.elapsed]
        main.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    when: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for number in (0, 1, 1, 2, 0, 2, 1, 0, 2, 2, 0, 1):
        clock.now += 1 + len(when[number])
        when[number].append(clock.now)
        turns[number].release()
        main.acquire()
    for thread in threads:
        thread.join()
    assert elapsed == {number: [t[2] - t[1], t[3] - t[0]] for number, t in when.items()}
    assert stats.render.count == 6
    assert stats.render.sum == sum([sum(pair) for pair in elapsed.values()])


@pytest.mark.parametrize("kept", [False, True])
def test_a_timer_shared_by_tasks_gives_each_its_own_time(make: Make, clock: Clock, kept: bool) -> None:
    stats = make(render=mmstats.TimerField(timer=clock))
    one = stats.render
    elapsed: dict[int, float] = {}

    async def work(number: int, rounds: int) -> None:
        with one if kept else stats.render as timing:
            for _ in range(rounds):
                clock.now += 1
                await asyncio.sleep(0)
                if rounds == 4:
                    with one if kept else stats.render:
                        await asyncio.sleep(0)
            elapsed[number] = timing.elapsed
        assert timing.elapsed == elapsed[number]

    async def main() -> None:
        starts = {}
        with one if kept else stats.render as whole:
            tasks = []
            for number, rounds in enumerate((4, 1, 3, 2)):
                starts[number] = clock.now
                tasks.append(asyncio.ensure_future(work(number, rounds)))
            await asyncio.gather(*tasks)
            elapsed[-1] = whole.elapsed

    begun = clock.now
    asyncio.run(main())
    assert elapsed[-1] == clock.now - begun == 10.0
    assert elapsed[1] < elapsed[3] < elapsed[2] <= elapsed[0]
    assert elapsed[0] == 10.0
    assert stats.render.count == 5 + 4
    assert stats.render.last == 10.0


def test_labelled_timers_keep_apart(make: Make, clock: Clock) -> None:
    stats = make(render=mmstats.TimerField(timer=clock, labelnames=["page"]))
    with stats.render.labels("home"):
        clock.now += 1
        with stats.render.labels("menu"):
            clock.now += 1
    assert (stats.render.labels("home").last, stats.render.labels("menu").last) == (2.0, 1.0)


def test_a_timers_own_clock_goes_on(make: Make) -> None:
    stats = make(render=mmstats.TimerField())
    with stats.render as timing:
        first = timing.elapsed
        while timing.elapsed == first:
            pass
    assert timing.elapsed > first >= 0


# Averages.


def test_an_average_is_that_of_all_samples(make: Make) -> None:
    stats = make(size=mmstats.AverageField())
    assert stats.size.value == 0.0
    for value in (1, 2, 6):
        stats.size.add(value)
    stats.size.observe(3)
    assert (stats.size.value, stats.size.count, stats.size.sum) == (3.0, 4, 12.0)
    found = record(stats)["size"]
    assert (found.value, found.count, found.sum) == (3.0, 4, 12.0)


def test_a_moving_average_is_that_of_the_last_samples(make: Make) -> None:
    stats = make(size=mmstats.MovingAverageField(size=3))
    means = []
    for value in (3, 5, 10, 0, 2):
        stats.size.add(value)
        means.append(stats.size.value)
    assert means == [3.0, 4.0, 6.0, 5.0, 4.0]
    assert (stats.size.count, stats.size.sum, stats.size.last) == (5, 20.0, 2.0)
    found = record(stats)["size"]
    assert (found.value, found.mean, found.min, found.max, found.last) == (4.0, 4.0, 0.0, 10.0, 2.0)


@pytest.mark.parametrize("huge", [1e300, -1e300, float("inf")])
def test_a_moving_average_forgets_a_huge_sample(make: Make, huge: float) -> None:
    stats = make(size=mmstats.MovingAverageField(size=8))
    for before in range(3):
        stats.size.add(before)
    stats.size.add(huge)
    for _ in range(8 + 8):
        stats.size.add(0.5)
    assert stats.size.value == 0.5


@given(st.integers(1, 12), st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60))
def test_a_moving_average_agrees_with_a_naive_one(size: int, samples: list[float]) -> None:
    cell = mmstats.MovingAverageField(size=size).make_cell(_Owner(), None)
    for at, sample in enumerate(samples, 1):
        cell.add(sample)
        window = samples[max(0, at - size) : at]
        assert cell.value == pytest.approx(math.fsum(window) / len(window), rel=1e-9, abs=1e-3)


@pytest.mark.parametrize("size", [0, -1, 1_000_001])
def test_a_window_has_a_size_that_makes_sense(size: int) -> None:
    with pytest.raises(mmstats.DefinitionError, match="window"):
        mmstats.MovingAverageField(size=size)
    with pytest.raises(mmstats.DefinitionError, match="window"):
        mmstats.TimerField(size=size)


# Numbers that are set as attributes.

INTEGERS = {
    mmstats.ByteField: ctypes.c_int8,
    mmstats.ShortField: ctypes.c_int16,
    mmstats.UShortField: ctypes.c_uint16,
    mmstats.IntField: ctypes.c_int32,
    mmstats.UIntField: ctypes.c_uint32,
    mmstats.Int64Field: ctypes.c_int64,
    mmstats.UInt64Field: ctypes.c_uint64,
}
BORDERS = [sign * 2**bits + near for sign in (1, -1) for bits in (7, 8, 15, 16, 31, 32, 63, 64) for near in (-1, 0, 1)]


@pytest.mark.parametrize("field", INTEGERS)
@given(value=st.one_of(st.integers(-(2**70), 2**70), st.sampled_from(BORDERS)))
def test_integers_wrap_as_ctypes_do(field: Any, value: int) -> None:
    cell = field().make_cell(_Owner(), None)
    cell.assign(value)
    assert cell.get() == INTEGERS[field](value).value


@pytest.mark.parametrize("field", INTEGERS)
def test_integers_are_attributes_and_read_back_from_the_file(make: Make, field: Any) -> None:
    stats = make(number=field())
    assert stats.number == 0
    stats.number = -3
    expected = INTEGERS[field](-3).value
    assert stats.number == expected
    stats.number += 1
    assert stats.number == record(stats)["number"].value == INTEGERS[field](-2).value
    for bad in (1.5, "1", None):
        with pytest.raises(TypeError):
            stats.number = bad
    assert stats.number == INTEGERS[field](-2).value


def test_a_double_keeps_all_its_digits_and_a_float_those_of_single_precision(make: Make) -> None:
    stats = make(double=mmstats.DoubleField(), single=mmstats.FloatField())
    assert (stats.double, stats.single) == (0.0, 0.0)
    stats.double = stats.single = 1 / 3
    assert stats.double == 1 / 3
    assert stats.single == ctypes.c_float(1 / 3).value != 1 / 3
    stats.double = stats.single = 2
    assert (stats.double, stats.single) == (2.0, 2.0)
    assert record(stats)["double"].value == record(stats)["single"].value == 2.0


@pytest.mark.parametrize("bad", ["1", None, []])
def test_floats_refuse_what_is_no_number(make: Make, bad: Any) -> None:
    stats = make(double=mmstats.DoubleField(), single=mmstats.FloatField())
    with pytest.raises(TypeError):
        stats.double = bad
    with pytest.raises(TypeError):
        stats.single = bad
    assert (stats.double, stats.single) == (0.0, 0.0)


@given(st.floats())
def test_a_float_rounds_as_ctypes_do(value: float) -> None:
    cell = mmstats.FloatField().make_cell(_Owner(), None)
    cell.assign(value)
    expected = ctypes.c_float(value).value
    assert cell.get() == expected or (math.isnan(cell.get()) and math.isnan(expected))


def test_a_bool_takes_anything_and_gives_a_bool(make: Make) -> None:
    stats = make(on=mmstats.BoolField(), off=mmstats.BoolField(initial=True))
    assert stats.on is False
    assert stats.off is True
    stats.on = "anything"
    stats.off = []
    assert stats.on is True
    assert stats.off is False
    found = record(stats)
    assert (found["on"].value, found["off"].value) == (True, False)
    assert found["on"].kind == "bool"


def test_a_bool_whose_truth_raises_stays_as_it_was(make: Make) -> None:
    class Undecided:
        def __bool__(self) -> bool:
            raise LookupError

    stats = make(on=mmstats.BoolField(initial=True))
    with pytest.raises(LookupError):
        stats.on = Undecided()
    assert stats.on is True


# Texts, states, facts.


def test_a_text_is_cut_at_a_characters_border(make: Make) -> None:
    stats = make(s=mmstats.StringField(10))
    assert stats.s == ""
    stats.s = "a" * 11
    assert stats.s == "a" * 10
    stats.s = "\u2764" * 11
    assert stats.s == record(stats)["s"].value == "\u2764" * 3
    stats.s = "b"
    assert stats.s == "b"
    stats.s = ""
    assert stats.s == ""


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 40))
def test_of_a_text_stays_what_fits_in_whole_characters(text: str, size: int) -> None:
    cell = mmstats.StringField(size).make_cell(_Owner(), None)
    cell.set(text)
    assert cell.get() == text.encode()[:size].decode("utf-8", "ignore")


def test_bytes_are_taken_as_utf_8(make: Make) -> None:
    stats = make(s=mmstats.StringField(8))
    stats.s = "h\u00e9llo".encode()
    assert stats.s == "h\u00e9llo"
    stats.s = b"\xff\xfe!"
    assert stats.s == "\ufffd\ufffd!"
    stats.s = bytearray(b"raw")
    assert stats.s == "raw"


def test_lone_surrogates_are_replaced(make: Make) -> None:
    stats = make(s=mmstats.StringField(), i=mmstats.InfoField(), t=mmstats.StructField({"text": str}))
    stats.s = "a\ud800b"
    assert stats.s == record(stats)["s"].value == "a?b"
    stats.i.info({"name": "\udcff"})
    assert record(stats)["i"].value == {"name": "?"}
    stats.t.set(text="\udcff!")
    assert record(stats)["t"].value == {"text": "?!"}


def test_subclasses_of_str_are_texts(make: Make) -> None:
    class Color(enum.StrEnum):
        RED = "red"

    stats = make(s=mmstats.StringField())
    stats.s = Color.RED
    assert stats.s == "red"


@pytest.mark.parametrize("bad", [1, None, ["a"], object()])
def test_what_is_no_text_is_refused(make: Make, bad: Any) -> None:
    stats = make(s=mmstats.StringField())
    stats.s = "before"
    with pytest.raises(TypeError, match="a text is needed"):
        stats.s = bad
    assert stats.s == "before"


@pytest.mark.parametrize("size", [0, -1, 32769])
def test_a_text_has_a_size_that_makes_sense(size: int) -> None:
    with pytest.raises(mmstats.DefinitionError, match="size"):
        mmstats.StringField(size)


def test_an_enum_is_in_one_of_its_states(make: Make) -> None:
    stats = make(phase=mmstats.EnumField(states=["starting", "serving", "draining"]))
    assert stats.phase.value == "starting"
    stats.phase.state("draining")
    assert stats.phase.value == record(stats)["phase"].value == "draining"
    with pytest.raises(ValueError, match="unknown state 'gone': it is one of starting, serving, draining"):
        stats.phase.state("gone")
    assert stats.phase.value == "draining"


@pytest.mark.parametrize("states", [[], ["a", "a"], "aa", [1, 2]])
def test_states_that_make_no_sense_are_refused(states: Any) -> None:
    with pytest.raises(mmstats.DefinitionError):
        mmstats.EnumField(states=states)


def test_info_keeps_a_few_facts_as_texts(make: Make) -> None:
    stats = make(build=mmstats.InfoField())
    assert stats.build.value == {}
    stats.build.info({"version": "1.2", "workers": 4, 5: None})
    expected = {"version": "1.2", "workers": "4", "5": "None"}
    assert stats.build.value == record(stats)["build"].value == expected


def test_info_that_does_not_fit_is_refused_whole(make: Make) -> None:
    stats = make(build=mmstats.InfoField(size=40))
    stats.build.info({"version": "1"})
    with pytest.raises(ValueError, match="larger size="):
        stats.build.info({"version": "2" * 40})
    assert stats.build.value == {"version": "1"}


# Structs.


def test_a_struct_sets_the_values_that_are_named(make: Make) -> None:
    stats = make(pool=mmstats.StructField({"used": int, "load": float, "full": bool, "name": str}))
    assert stats.pool.value == {"used": 0, "load": 0.0, "full": False, "name": ""}
    stats.pool.set(used=-3, name="main")
    stats.pool.set(load=0.5, full=True)
    expected = {"used": -3, "load": 0.5, "full": True, "name": "main"}
    assert stats.pool.value == record(stats)["pool"].value == expected


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"used": "x"}, ValueError), ({"used": None}, TypeError), ({"load": "x"}, Exception), ({"colour": 1}, ValueError)],
)
def test_a_struct_changes_altogether_or_not_at_all(make: Make, wrong: dict[str, Any], error: Any) -> None:
    stats = make(pool=mmstats.StructField({"free": int, "used": int, "load": float}))
    stats.pool.set(free=1, used=2, load=3)
    with pytest.raises(error):
        stats.pool.set(free=9, **wrong)
    assert stats.pool.value == record(stats)["pool"].value == {"free": 1, "used": 2, "load": 3.0}


def test_a_struct_names_what_it_has_when_asked_for_another_value(make: Make) -> None:
    stats = make(pool=mmstats.StructField({"free": int, "used": int}))
    with pytest.raises(ValueError, match="no value named 'colour': this struct has free, used"):
        stats.pool.set(colour=1)


def test_a_structs_texts_are_cut_at_a_characters_border(make: Make) -> None:
    stats = make(pool=mmstats.StructField({"name": (str, 4), "more": str}))
    stats.pool.set(name="\u2764\u2764", more="x" * 50)
    assert record(stats)["pool"].value == {"name": "\u2764", "more": "x" * 40}


@pytest.mark.parametrize("values", [{}, {"a": list}, {"a": (str, 0)}, {"a": (str, 65537)}, {"a": 1}])
def test_a_struct_of_what_it_cannot_hold_is_refused(values: Any) -> None:
    with pytest.raises(mmstats.DefinitionError):
        mmstats.StructField(values)


# Static fields.

STATIC = [
    (mmstats.StaticUIntField, 7, 7),
    (mmstats.StaticUIntField, -1, 2**32 - 1),
    (mmstats.StaticInt64Field, -7, -7),
    (mmstats.StaticUInt64Field, 2**64 - 1, 2**64 - 1),
    (mmstats.StaticFloatField, 1 / 3, ctypes.c_float(1 / 3).value),
    (mmstats.StaticDoubleField, 1 / 3, 1 / 3),
    (mmstats.StaticTextField, "h\u00e9llo", "h\u00e9llo"),
]


@pytest.mark.parametrize(("field", "value", "expected"), STATIC)
def test_a_static_field_takes_a_value_or_a_callable(make: Make, field: Any, value: Any, expected: Any) -> None:
    stats = make(given=field(value=value), called=field(value=lambda: value))
    assert (stats.given, stats.called) == (expected, expected)
    found = record(stats)
    assert (found["given"].value, found["called"].value) == (expected, expected)


def test_a_static_fields_callable_is_called_once_for_each_model(make: Make) -> None:
    calls: list[int] = []

    def value() -> int:
        calls.append(1)
        return len(calls)

    stats = make(fact=mmstats.StaticInt64Field(value=value))
    assert (stats.fact, calls, record(stats)["fact"].value) == (1, [1], 1)


@pytest.mark.parametrize("field", sorted({item[0] for item in STATIC}, key=lambda item: item.__name__))
def test_a_static_field_without_a_value_is_refused(make: Make, field: Any) -> None:
    with pytest.raises(ValueError, match="value must be set"):
        make(fact=field())
    with pytest.raises(ValueError, match="value must be set"):
        make(fact=field(value=lambda: None))


@pytest.mark.parametrize(("field", "value", "expected"), STATIC)
def test_a_static_field_cannot_be_set(make: Make, field: Any, value: Any, expected: Any) -> None:
    stats = make(fact=field(value=value))
    with pytest.raises(AttributeError, match="can't be set"):
        stats.fact = value
    assert stats.fact == expected


@pytest.mark.parametrize(
    "field",
    [
        mmstats.StaticUIntField(value="x"),
        mmstats.StaticDoubleField(value="x"),
        mmstats.StaticFloatField(value=[]),
        mmstats.StaticTextField(value=5),
        mmstats.StaticInt64Field(value=lambda: 1 / 0),
    ],
)
def test_a_field_that_cannot_be_made_does_no_harm_to_others(make: Make, field: Any) -> None:
    with pytest.raises((TypeError, ValueError, ZeroDivisionError)):
        make(fact=field)
    stats = make(requests=mmstats.CounterField())
    stats.requests.inc()
    assert record(stats)["requests"].value == 1


# Keywords of all fields.

FIELDS = {
    "counter": mmstats.CounterField,
    "gauge": mmstats.GaugeField,
    "histogram": mmstats.HistogramField,
    "average": mmstats.AverageField,
    "moving": mmstats.MovingAverageField,
    "timer": mmstats.TimerField,
    "byte": mmstats.ByteField,
    "double": mmstats.DoubleField,
    "float": mmstats.FloatField,
    "bool": mmstats.BoolField,
    "string": mmstats.StringField,
    "enum": lambda **keywords: mmstats.EnumField(states=["a", "b"], **keywords),
    "info": mmstats.InfoField,
    "struct": lambda **keywords: mmstats.StructField({"a": int}, **keywords),
    "static": lambda **keywords: mmstats.StaticUIntField(value=1, **keywords),
    "text": lambda **keywords: mmstats.StaticTextField(value="x", **keywords),
}
SAMPLES = ["histogram", "average", "moving", "timer"]
OBJECTS = ["counter", "gauge", "histogram", "average", "moving", "enum", "info", "struct"]


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_says_its_name_help_and_unit_to_readers(make: Make, kind: str) -> None:
    stats = make(
        plain=FIELDS[kind](),
        labelled=FIELDS[kind](label="old.name", help="What it is", unit="widgets"),
        named=FIELDS[kind](name="new.name"),
    )
    found = record(stats)
    assert {"plain", "old.name", "new.name"} <= set(found)
    assert not {"labelled", "named"} & set(found)
    assert (found["old.name"].help, found["old.name"].unit) == ("What it is", "widgets")
    assert found["plain"].help == ""


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_can_have_labels(make: Make, kind: str) -> None:
    stats = make(field=FIELDS[kind](labelnames=("method", "code")))
    stats.field.labels("GET", 200)
    found = record(stats)["field"]
    assert found.labelnames == ("method", "code")
    assert list(found) == [("GET", "200")]


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_says_how_it_merges(make: Make, kind: str) -> None:
    how = "all" if kind in SAMPLES else "last"
    stats = make(field=FIELDS[kind](aggregate=how))
    assert record(stats)["field"].aggregate == how


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"aggregate": "median"}, "aggregate='median' is unknown: it is one of sum, min, max, mean, last, all"),
        ({"aggregate": ""}, "aggregate"),
        ({"labelnames": ["a", "b", "a"]}, "twice"),
        ({"labelnames": [""]}, "label"),
        ({"labelnames": [1]}, "labelnames"),
        ({"labelnames": ["\ud800"]}, "labelnames"),
        ({"name": 5}, "name"),
        ({"label": 5}, "name"),
        ({"help": 5}, "help"),
        ({"help": "\ud800"}, "help"),
        ({"unit": None}, "unit"),
    ],
)
@pytest.mark.parametrize("kind", FIELDS)
def test_keywords_that_make_no_sense_are_refused(kind: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(mmstats.DefinitionError, match=message):
        FIELDS[kind](**keywords)


@pytest.mark.parametrize("kind", FIELDS)
def test_unknown_keywords_are_refused(kind: str) -> None:
    with pytest.raises(TypeError, match="colour"):
        FIELDS[kind](colour="red")


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("aggregate", ["min", "max", "mean", "last"])
def test_samples_add_up_and_do_nothing_else(kind: str, aggregate: str) -> None:
    with pytest.raises(mmstats.DefinitionError, match="use sum or all"):
        FIELDS[kind](aggregate=aggregate)


@pytest.mark.parametrize("kind", ["string", "enum", "info"])
@pytest.mark.parametrize("aggregate", ["sum", "min", "max", "mean"])
def test_texts_have_no_arithmetic(kind: str, aggregate: str) -> None:
    with pytest.raises(mmstats.DefinitionError, match="use last or all"):
        FIELDS[kind](aggregate=aggregate)


def test_a_counter_counts_in_int_or_float() -> None:
    with pytest.raises(mmstats.DefinitionError, match="int or float"):
        mmstats.CounterField(type=bool)


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[2J", "\ud800"])
def test_names_that_cannot_be_printed_are_refused(make: Make, name: str) -> None:
    stats = make()
    with pytest.raises(mmstats.DefinitionError, match="no name"):
        stats.add_field(name, mmstats.CounterField())


def test_a_definition_too_long_for_a_record_is_refused_and_does_no_harm(make: Make) -> None:
    with pytest.raises(mmstats.DefinitionError, match="shorten"):
        make(wordy=mmstats.CounterField(help="x" * 70_000))
    stats = make(requests=mmstats.CounterField())
    stats.requests.inc()
    assert list(record(stats)) == ["mmstats.overflow", "requests"]


def test_one_labels_name_may_stand_alone(make: Make) -> None:
    stats = make(requests=mmstats.CounterField(labelnames="method"))
    stats.requests.labels("GET").inc()
    assert record(stats)["requests"]["GET"].value == 1


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_field_is_not_assigned_and_says_what_to_do(make: Make, kind: str) -> None:
    stats = make(field=FIELDS[kind](), labelled=FIELDS[kind](labelnames=["x"]))
    before = stats.field
    for name in ("field", "labelled"):
        with pytest.raises(AttributeError, match=f"{name} is not set by assignment: use its methods"):
            setattr(stats, name, 5)
    assert stats.field is before


def test_a_timer_is_not_assigned(make: Make) -> None:
    stats = make(render=mmstats.TimerField())
    with pytest.raises(AttributeError, match="can't be set"):
        stats.render = 5


def test_a_value_with_labels_is_not_assigned(make: Make) -> None:
    stats = make(size=mmstats.IntField(labelnames=["x"]))
    with pytest.raises(AttributeError, match="not set by assignment"):
        stats.size = 5
    stats.size.labels("a").set(5)
    stats.size.labels("b").value = 6
    assert record(stats)["size"].value == {("a",): 5, ("b",): 6}


def test_a_models_other_attributes_can_be_set(make: Make) -> None:
    stats = make(requests=mmstats.CounterField())
    stats.note = "mine"
    assert stats.note == "mine"


def test_asked_of_the_class_a_field_is_its_definition() -> None:
    class Stats(mmstats.BaseMmStats):
        requests = mmstats.CounterField()
        size = mmstats.IntField(label="bytes")
        render = mmstats.TimerField()

    assert isinstance(Stats.requests, mmstats.CounterField)
    assert isinstance(Stats.size, mmstats.IntField)
    assert isinstance(Stats.render, mmstats.TimerField)
    assert repr(Stats.size) == "IntField(name='bytes')"


# Labels.


@pytest.fixture
def requests(make: Make) -> Any:
    stats = make(requests=mmstats.CounterField(labelnames=("method", "code")))
    return stats.requests


def test_labels_come_by_position_by_name_or_mixed(requests: Any) -> None:
    cell = requests.labels("GET", "200")
    assert requests.labels(method="GET", code="200") is cell
    assert requests.labels(code="200", method="GET") is cell
    assert requests.labels("GET", code="200") is cell
    assert requests.labels("200", "GET") is not cell


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), {}),
        (("GET",), {}),
        (("GET", "200", "x"), {}),
        ((), {"method": "GET"}),
        ((), {"method": "GET", "verb": "x"}),
        ((), {"method": "GET", "code": "200", "verb": "x"}),
        (("GET",), {"method": "GET"}),
        (("GET",), {"verb": "x"}),
        (("GET", "200"), {"code": "200"}),
    ],
)
def test_wrong_labels_are_refused_with_the_names_of_the_right_ones(requests: Any, values: Any, named: Any) -> None:
    with pytest.raises(mmstats.LabelError, match="method, code"):
        requests.labels(*values, **named)


def test_label_values_are_told_apart_by_their_text(make: Make) -> None:
    class Verb(enum.IntEnum):
        GET = 1

        def __str__(self) -> str:
            return "get"

    stats = make(requests=mmstats.CounterField(labelnames=["x"]))
    for value in (True, 1, "1", 1.0, None, b"1", False, 0, 0.0, "0", Verb.GET, 1):
        stats.requests.labels(value).inc()
    found = {key[0]: counter.value for key, counter in record(stats)["requests"].items()}
    assert found == {"True": 1, "1": 3, "1.0": 1, "None": 1, "b'1'": 1, "False": 1, "0": 2, "0.0": 1, "get": 1}
    assert stats.requests.labels(1) is stats.requests.labels("1") is stats.requests.labels(x=1)
    assert stats.requests.labels(True) is not stats.requests.labels(1)


@given(st.lists(st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.floats(), st.none()), max_size=20))
def test_label_sets_are_one_if_and_only_if_their_texts_are(values: list[Any]) -> None:
    labelled = mmstats.cells.Labelled(("x",), lambda labels: (mmstats.cells.Counter(None, None), True))
    cells: dict[str, Any] = {}
    for value in values + values:
        cell = labelled.labels(value)
        assert cells.setdefault(str(value), cell) is cell
    assert len({id(cell) for cell in cells.values()}) == len(cells)


def test_a_field_with_labels_has_no_value_of_its_own(make: Make) -> None:
    stats = make(requests=mmstats.CounterField(labelnames=["x"]), plain=mmstats.CounterField())
    with pytest.raises(AttributeError):
        stats.requests.inc()
    with pytest.raises(AttributeError):
        stats.plain.labels("x")


def test_threads_that_ask_for_one_new_label_set_get_one_cell(make: Make) -> None:
    stats = make(requests=mmstats.CounterField(labelnames=["x"]))
    barrier = threading.Barrier(8)
    found: list[list[Any]] = []

    def ask() -> None:
        barrier.wait()
        found.append([stats.requests.labels(str(number)) for number in range(100)])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(cell) for cells in found for cell in cells}) == 100


# Overflow.


@pytest.fixture
def crowded(make: Make, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model whose file has no room for more label sets."""
    monkeypatch.setenv("MMSTATS_MAX_BYTES", "16384")
    stats = make(
        requests=mmstats.CounterField(labelnames=("a", "b")),
        latency=mmstats.HistogramField(labelnames=["a"]),
        render=mmstats.TimerField(labelnames=["a"]),
    )
    for number in range(2000):
        stats.requests.labels("x", number).inc()
    return stats


def _overflow(snapshot: mmstats.Snapshot, name: str) -> int:
    flags = [
        key.flags
        for key, _ in [*((key, 0) for key in snapshot._schema.words), *snapshot._schema.compounds]
        if key.plan.family.name == name and key.labels[0] == registry.OVERFLOW_LABEL
    ]
    assert len(flags) == 1
    return flags[0]


def test_label_sets_beyond_the_limit_are_counted_together(crowded: Any) -> None:
    snapshot = record(crowded)
    requests = snapshot["requests"].value
    overflow = requests.pop(("__overflow__", "__overflow__"))
    assert 50 < len(requests) < 2000
    assert set(requests.values()) == {1}
    assert overflow == 2000 - len(requests)
    assert _overflow(snapshot, "requests") & layout.OVERFLOW
    assert snapshot["mmstats.overflow"].value == overflow
    assert snapshot.problems == ()


def test_each_look_up_beyond_the_limit_is_counted(crowded: Any) -> None:
    before = record(crowded)["mmstats.overflow"].value
    cell = crowded.requests.labels("x", "new")
    cell.inc(5)
    assert crowded.requests.labels("x", "new") is cell
    assert record(crowded)["mmstats.overflow"].value == before + 2


def test_beyond_the_limit_nothing_raises(crowded: Any, clock: Clock) -> None:
    crowded.latency.labels("x").observe(0.3)
    with crowded.latency.labels("y").time():
        pass
    with crowded.render.labels("x"):
        pass
    crowded.render.labels("y").start()
    crowded.render.labels("y").stop()
    snapshot = record(crowded)
    assert snapshot["latency"]["__overflow__"].count == 2
    assert snapshot["render"]["__overflow__"].count == 2


def test_label_sets_that_had_room_go_on_beyond_the_limit(crowded: Any) -> None:
    crowded.requests.labels("x", 0).inc(10)
    assert record(crowded)["requests"]["x", "0"].value == 11


def test_a_field_added_beyond_the_limit_still_records(crowded: Any) -> None:
    added = crowded.add_field("late", mmstats.CounterField())
    added.inc(3)
    assert record(crowded)["late"].value == 3


def test_beyond_the_limit_neither_memory_nor_disk_grows(crowded: Any) -> None:
    for number in range(200):
        crowded.requests.labels("warm", number).inc()
    size = crowded.size
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(3000):
            crowded.requests.labels("more", number).inc()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000
    assert crowded.size == size


def test_in_private_memory_the_limit_holds_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_DISABLE", "1")
    stats = make(requests=mmstats.CounterField(labelnames=["a"]))
    cells = {id(stats.requests.labels("x" * 900 + str(number))) for number in range(2000)}
    assert 50 < len(cells) < 1000


def test_a_label_value_of_more_than_a_kilobyte_goes_to_the_overflow(make: Make) -> None:
    stats = make(requests=mmstats.CounterField(labelnames=("a", "b")))
    stats.requests.labels("x" * 1024, "").inc()
    stats.requests.labels("x" * 1025, "").inc()
    stats.requests.labels("\u2764" * 300, "\u2764" * 100).inc()
    assert record(stats)["requests"].value == {("x" * 1024, ""): 1, ("__overflow__", "__overflow__"): 2}


def test_a_label_that_says_overflow_itself_is_not_lost(make: Make) -> None:
    stats = make(requests=mmstats.CounterField(labelnames=["a"]))
    stats.requests.labels("__overflow__").inc()
    stats.requests.labels("x" * 2000).inc()
    stats.requests.labels("__overflow__").inc()
    assert record(stats)["requests"].value == {("__overflow__",): 3}


def test_a_limit_that_is_no_number_keeps_stats_in_private_memory(
    make: Make, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSTATS_MAX_BYTES", "many")
    with pytest.warns(RuntimeWarning, match="MMSTATS_MAX_BYTES=many"):
        stats = make(requests=mmstats.CounterField())
    stats.requests.inc()
    assert stats.requests.value == 1
    assert list(home.iterdir()) == []
