"""Greenlets: timers by context, labels from all of them, and native threads beside them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import mmstats

pytest.importorskip("gevent")

IMPORTS = {
    "before": """
    from gevent import monkey
    monkey.patch_all()
    import mmstats
    """,
    "after": """
    import mmstats
    from mmstats import registry, segment, reader
    from gevent import monkey
    monkey.patch_all()
    """,
}

BODY = """
    import os, sys, threading, time
    import gevent

    class Stats(mmstats.MmStats):
        shared = mmstats.TimerField(size=1000)
        nested = mmstats.HistogramField(buckets=[0.015, 0.045, 0.2])
        requests = mmstats.CounterField()
        by_path = mmstats.CounterField(labelnames=("path",))
        sizes = mmstats.HistogramField(labelnames=("path",), buckets=[1.0])
        text = mmstats.StringField(size=100)
        pair = mmstats.StructField({"a": int, "b": str})

    stats = Stats(service="gevent")
"""


def _run(run: Callable, when: str, body: str, end: str = "") -> tuple[str, mmstats.Snapshot]:
    end = f"\n    print(stats.filename, flush=True)\n    sys.stdin.read()\n    {end}\n"
    program = run(IMPORTS[when] + BODY + body + end)
    lines = []
    while not (line := program.line()).endswith(".mmstats"):
        lines.append(line)
    snapshot = mmstats.read(line)
    assert snapshot.problems == ()
    assert program.finish()[1] == ""
    return "\n".join(lines), snapshot


@pytest.mark.parametrize("when", ["before", "after"])
def test_greenlets_that_share_one_timer_are_each_timed_rightly(run: Callable, when: str) -> None:
    out, snapshot = _run(
        run,
        when,
        """
    timer = stats.shared  # one object for all of them
    wrong = []
    def work(number):
        pause = 0.01 + number % 5 * 0.02
        begin = time.perf_counter()
        with timer as mine:
            entered = time.perf_counter()
            gevent.sleep(pause)
            inner = time.perf_counter() - entered
        took = time.perf_counter() - begin
        if not inner - 0.0001 <= mine.elapsed <= took + 0.0001:
            wrong.append((number, inner, mine.elapsed, took))
    gevent.joinall([gevent.spawn(work, number) for number in range(60)], raise_error=True)
    print(len(wrong), wrong[:3])
    """,
    )
    assert out == "0 []"
    shared = snapshot["shared"]
    assert shared.count == 60
    assert shared.min >= 0.0095
    # The pauses themselves, of 12 greenlets each; nobody was timed with another one's start.
    assert shared.sum >= 12 * sum([0.01 + step * 0.02 for step in range(5)]) * 0.99


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_shared_timer_that_is_entered_again_times_both(run: Callable, when: str) -> None:
    out, snapshot = _run(
        run,
        when,
        """
    timer = stats.nested.time()  # one object, entered by all, nested in itself
    wrong = []
    def work(number):
        begin = time.perf_counter()
        with timer as outer:
            entered = time.perf_counter()
            gevent.sleep(0.02)
            middle = time.perf_counter()
            with timer as inner:
                inside = time.perf_counter()
                gevent.sleep(0.02)
                inner_least = time.perf_counter() - inside
            inner_most = time.perf_counter() - middle
            gevent.sleep(0.02)
            outer_least = time.perf_counter() - entered
        outer_most = time.perf_counter() - begin
        if not inner_least - 0.0001 <= inner.elapsed <= inner_most + 0.0001:
            wrong.append(("inner", number, inner_least, inner.elapsed, inner_most))
        if not outer_least - 0.0001 <= outer.elapsed <= outer_most + 0.0001:
            wrong.append(("outer", number, outer_least, outer.elapsed, outer_most))
    gevent.joinall([gevent.spawn_later(number * 0.001, work, number) for number in range(40)], raise_error=True)
    print(len(wrong), wrong[:3])
    """,
    )
    assert out == "0 []"
    nested = snapshot["nested"]
    assert nested.count == sum(nested.buckets) == 80
    assert nested.buckets[0] == 0
    assert nested.sum >= 40 * (0.02 + 0.06) * 0.99


@pytest.mark.parametrize("when", ["before", "after"])
def test_start_and_stop_belong_to_their_greenlet(run: Callable, when: str) -> None:
    out, snapshot = _run(
        run,
        when,
        """
    wrong = []
    def work(number):
        pause = 0.01 + number % 4 * 0.02
        begin = time.perf_counter()
        stats.shared.start()
        gevent.sleep(pause)
        took = stats.shared.stop()
        if not pause * 0.95 <= took <= time.perf_counter() - begin + 0.002:
            wrong.append((number, pause, took))
        try:
            stats.shared.stop()
        except RuntimeError:
            pass
        else:
            wrong.append("stop() took what another greenlet had started")
    gevent.joinall([gevent.spawn(work, number) for number in range(40)], raise_error=True)
    print(len(wrong), wrong[:3])
    """,
    )
    assert out == "0 []"
    assert snapshot["shared"].count == 40


@pytest.mark.parametrize("when", ["before", "after"])
def test_labels_and_records_of_many_greenlets_are_exact(run: Callable, when: str) -> None:
    _, snapshot = _run(
        run,
        when,
        """
    def work(number):
        for turn in range(20):
            stats.requests.inc()
            stats.by_path.labels(turn).inc()
            stats.by_path.labels(f"own {number}").inc()
            gevent.sleep(0)
            stats.sizes.labels(number % 7).observe(turn % 2 * 2)
            stats.text = chr(97 + number % 26) * (number % 50 + 1)
            stats.pair.set(a=number, b=str(number))
            if turn == 10:
                stats.add_field(f"late {number % 10}", mmstats.CounterField()).inc()
    gevent.joinall([gevent.spawn(work, number) for number in range(100)], raise_error=True)
    """,
    )
    assert snapshot["requests"].value == 2000
    expected = {(str(turn),): 100 for turn in range(20)} | {(f"own {number}",): 20 for number in range(100)}
    assert snapshot["by_path"].value == expected
    assert sum([value.count for value in snapshot["sizes"].values()]) == 2000
    assert all([value.buckets[0] == value.buckets[1] for value in snapshot["sizes"].values()])
    assert [snapshot[f"late {number}"].value for number in range(10)] == [10] * 10
    assert len(set(snapshot["text"].value)) == 1
    assert str(snapshot["pair"].value["a"]) == snapshot["pair"].value["b"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_native_threads_beside_greenlets_lose_nothing_and_do_not_deadlock(run: Callable, when: str) -> None:
    _, snapshot = _run(
        run,
        when,
        """
    from gevent.threadpool import ThreadPool
    sys.setswitchinterval(1e-5)
    def work(number):
        for turn in range(300):
            stats.requests.inc()
            stats.by_path.labels(f"{number % 4} {turn}").inc()
            stats.sizes.labels(turn % 11).observe(0.5)
            with stats.shared:
                pass
            if turn % 50 == 0:
                time.sleep(0)
    pool = ThreadPool(4)
    native = [pool.spawn(work, number) for number in range(8)]
    greenlets = [gevent.spawn(work, number) for number in range(8)]
    gevent.joinall([*greenlets, *native], raise_error=True)
    pool.kill()
    """,
        # With threads of a pool of gevent's, Python sometimes crashes as it ends, with and without anything of ours.
        end="os._exit(0)",
    )
    assert snapshot["requests"].value == 16 * 300
    assert snapshot["by_path"].value == {(f"{number} {turn}",): 4 for number in range(4) for turn in range(300)}
    assert sum([value.count for value in snapshot["sizes"].values()]) == 16 * 300
    assert snapshot["shared"].count == 16 * 300


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_forked_worker_of_gevent_records_into_its_own_file(run: Callable, when: str) -> None:
    out, snapshot = _run(run, when, """
    stats.requests.inc()
    pid = gevent.fork()
    if not pid:
        gevent.joinall([gevent.spawn(stats.requests.inc) for _ in range(5)])
        found = mmstats.read(stats.filename)
        os.write(1, b"%d %d\\n" % (found["requests"].value, found.process.pid == os.getpid()))
        os._exit(0)
    os.waitpid(pid, 0)
    stats.requests.inc()
    """)  # fmt: skip
    assert out == "5 1"
    assert snapshot["requests"].value == 2
