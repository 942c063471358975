"""Threads of one process record without a lock, and nothing gets lost or torn."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

import mmstats
from mmstats import cells

THREADS = 8
COUNTS = 500_000 if cells.COMPILED else 50_000


def _in_threads(work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in eight threads that begin at one moment; raises what any of them raised."""
    barrier = threading.Barrier(THREADS)
    errors: list[BaseException] = []

    def body(number: int) -> None:
        try:
            barrier.wait(20)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """Have threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_increments_of_eight_threads_are_exact() -> None:
    class Stats(mmstats.BaseMmStats):
        requests = mmstats.CounterField()
        seconds = mmstats.CounterField(type=float)
        active = mmstats.GaugeField()

    stats = Stats()

    def work(_: int) -> None:
        inc, seconds, up, down = stats.requests.inc, stats.seconds.inc, stats.active.inc, stats.active.dec
        for _ in range(COUNTS):
            inc()
        for _ in range(COUNTS // 10):
            seconds(0.5)
            up()
            down(1.0)

    _in_threads(work)
    snapshot = mmstats.read(stats.filename)
    assert snapshot["requests"].value == THREADS * COUNTS
    assert snapshot["seconds"].value == THREADS * (COUNTS // 10) * 0.5
    assert snapshot["active"].value == 0


def test_samples_of_eight_threads_are_all_counted_and_whole() -> None:
    class Stats(mmstats.BaseMmStats):
        sizes = mmstats.HistogramField(buckets=[0.25, 0.5, 1.0])
        average = mmstats.AverageField()
        moving = mmstats.MovingAverageField(size=5)

    stats = Stats()
    samples = (0.25, 0.5, 1.0, 2.0)
    each = COUNTS // 10

    def work(number: int) -> None:
        sample = samples[number % 4]
        for index in range(each):
            stats.sizes.observe(sample)
            stats.average.add(sample)
            stats.moving.add(0.125)
            if index % 5000 == 0:
                seen = mmstats.read(stats.filename)
                sizes = seen["sizes"]
                assert sizes.count == sum(sizes.buckets)
                assert sizes.sum == sum([a * b for a, b in zip(samples, sizes.buckets, strict=True)])
                assert seen["moving"].sum == 0.125 * seen["moving"].count
                assert seen.problems == ()

    _in_threads(work)
    snapshot = mmstats.read(stats.filename)
    total = THREADS * each
    assert snapshot["sizes"].buckets == (total // 4,) * 4
    assert snapshot["sizes"].sum == snapshot["average"].sum == sum(samples) * total / 4
    assert snapshot["average"].count == total
    moving = snapshot["moving"]
    assert (moving.count, moving.sum, moving.window_count, moving.window_sum) == (total, 0.125 * total, 5, 0.625)


def test_texts_and_structs_of_eight_threads_are_never_torn() -> None:
    class Stats(mmstats.BaseMmStats):
        text = mmstats.StringField(size=100)
        pair = mmstats.StructField({"a": int, "b": str, "c": int})
        mine = mmstats.StructField({f"t{number}": int for number in range(THREADS)})

    stats = Stats()
    each = COUNTS // 20

    def work(number: int) -> None:
        text = chr(97 + number) * (number * 11 + 7)
        for index in range(1, each + 1):
            stats.text = text
            assert len(set(stats.text)) == 1
            stats.pair.set(a=number * index, b=f"{number * index}", c=-number * index)
            stats.mine.set(**{f"t{number}": index})
            if index % 2000 == 0:
                seen = mmstats.read(stats.filename)
                text_seen = seen["text"].value
                assert text_seen == text_seen[0] * ((ord(text_seen[0]) - 97) * 11 + 7)
                pair = seen["pair"].value
                assert pair["a"] == int(pair["b"]) == -pair["c"]
                # Others set other values at the same time, and none of them takes mine back.
                assert seen["mine"].value[f"t{number}"] == index

    _in_threads(work)
    assert mmstats.read(stats.filename)["mine"].value == {f"t{number}": each for number in range(THREADS)}


def test_labels_of_eight_threads_are_one_series_each_and_exact() -> None:
    class Stats(mmstats.BaseMmStats):
        requests = mmstats.CounterField(labelnames=("path", "status"))
        sizes = mmstats.HistogramField(labelnames=("path",), buckets=[1.0])

    stats = Stats()

    def work(_: int) -> None:
        for turn in range(20):
            for path in range(100):
                stats.requests.labels(path, "200").inc()
                stats.sizes.labels(path).observe(turn % 2 * 2)

    _in_threads(work)
    snapshot = mmstats.read(stats.filename)
    assert snapshot["requests"].value == {(str(path), "200"): 20 * THREADS for path in range(100)}
    assert {value.buckets for value in snapshot["sizes"].values()} == {(10 * THREADS, 10 * THREADS)}
    assert snapshot.problems == ()


def test_models_that_threads_make_at_once_share_one_file() -> None:
    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()

    models: list[mmstats.MmStats] = []

    def work(number: int) -> None:
        for _ in range(20):
            stats = Stats()
            stats.requests.inc()
            stats.add_field(f"late_{number}", mmstats.CounterField()).inc()
            models.append(stats)

    _in_threads(work)
    assert len({stats.filename for stats in models}) == 1
    snapshot = mmstats.read(models[0].filename)
    assert snapshot["requests"].value == 20 * THREADS
    assert [snapshot[f"late_{number}"].value for number in range(THREADS)] == [20] * THREADS


def test_a_program_object_that_records_as_it_goes_away_does_no_harm() -> None:
    # The old values of a struct go when new ones are set, and what they are may run any code.
    class Stats(mmstats.BaseMmStats):
        pair = mmstats.StructField({"a": int, "b": int})

    stats = Stats()
    gone = []

    class Whole(int):
        def __del__(self) -> None:
            gone.append(int(self))
            if int(self) < 198:
                stats.pair.set(b=len(gone))

    for number in range(200):
        stats.pair.set(a=Whole(number))
    assert gone == list(range(200))
    value = mmstats.read(stats.filename)["pair"].value
    assert value == stats.pair.value == {"a": 199, "b": 198}
