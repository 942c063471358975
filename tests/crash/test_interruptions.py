"""Signal handlers and GC callbacks that record, come in wherever they can, and lose nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

import mmstats
from mmstats import layout, segment

STATS = """
    import gc, os, random, signal, sys, time
    import mmstats

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()
        text = mmstats.StringField(size=100)
        sizes = mmstats.HistogramField(buckets=[1.0, 2.0])
        window = mmstats.MovingAverageField(size=3)
        pair = mmstats.StructField({"a": int, "b": str, "c": int})
        by_path = mmstats.CounterField(labelnames=("path",))
        sizes_by_path = mmstats.HistogramField(labelnames=("path",), buckets=[1.0])

    os.environ["MMSTATS_MAX_BYTES"] = str(4 << 20)
    handled = 0
    busy = False

    def one_text(number):
        return chr(97 + number % 26) * (1 + number * 7 % 100)

    def record(stats, number):
        stats.requests.inc()
        stats.text = one_text(number)
        stats.sizes.observe(number % 3 + 0.5)
        stats.window.add(0.5)
        stats.pair.set(a=number, b=str(number), c=-number)

    def interrupt(*_):
        "What a handler does: everything that a program may do."
        global handled, busy
        if busy:
            return
        busy = True
        handled += 1
        record(stats, handled)
        stats.by_path.labels(f"handler {handled}").inc()
        stats.by_path.labels("handlers").inc()
        if handled % 50 == 0:
            stats.add_field(f"late_{handled}", mmstats.CounterField()).inc()
        busy = False

    def check(stats, done, labelled):
        snapshot = mmstats.read(stats.filename)
        assert snapshot.problems == (), snapshot.problems
        total = done + handled
        assert snapshot["requests"].value == total, (snapshot["requests"].value, done, handled)
        sizes = snapshot["sizes"]
        assert sizes.count == sum(sizes.buckets) == total, sizes
        assert sizes.sum == sum(b * (i + 0.5) for i, b in enumerate(sizes.buckets)), sizes
        window = snapshot["window"]
        assert (window.count, window.sum, window.window_sum) == (total, total * 0.5, 0.5 * min(3, total)), window
        text = snapshot["text"].value
        assert text and len(set(text)) == 1, text
        pair = snapshot["pair"].value
        assert pair["a"] == int(pair["b"]) == -pair["c"], pair
        by_path = snapshot["by_path"].value
        expected = {("handlers",): handled, **{(f"handler {n}",): 1 for n in range(1, handled + 1)}}
        expected.update({(f"program {n}",): 1 for n in range(labelled)})
        if not handled:
            del expected["handlers",]
        assert by_path == expected, (len(by_path), len(expected), set(expected) - set(by_path))
        late = [value.value for name, value in snapshot.items() if name.startswith("late_")]
        assert late == [1] * (handled // 50), late
"""

SIGNALS = """
    def rearm(*_):
        if not armed:
            return
        interrupt()
        signal.setitimer(signal.ITIMER_REAL, random.random() * longest)

    armed = False
    longest = 0.0005
    signal.signal(signal.SIGALRM, rearm)

    def arm():
        global armed
        armed = True
        signal.setitimer(signal.ITIMER_REAL, 0.00005)

    def disarm():
        global armed
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_signal_handlers_that_record_while_the_program_records_lose_nothing(run: Callable) -> None:
    program = run(
        STATS
        + SIGNALS
        + """
    stats = Stats(service="signals")
    arm()
    done = 0
    end = time.monotonic() + 2
    while time.monotonic() < end:
        done += 1
        record(stats, done)
        stats.by_path.labels(f"program {done - 1}").inc()
        stats.sizes_by_path.labels(done % 20).observe(0.5)
        if handled >= 2000:
            break
    disarm()
    check(stats, done, done)
    print(done, handled)
    """
    )
    out, err = program.finish()
    assert err == ""
    done, handled = map(int, out.split())
    assert done > 500
    assert handled > 300


def test_signal_handlers_that_record_while_labels_grow_lose_nothing(run: Callable) -> None:
    # Nothing but growth, so that most handlers come in right there.
    program = run(
        STATS
        + SIGNALS
        + """
    stats = Stats(service="signals")
    longest = 0.0002
    arm()
    labelled = 0
    while handled < 3000 and labelled < 20000:
        stats.by_path.labels(f"program {labelled}").inc()
        labelled += 1
    disarm()
    check(stats, 0, labelled)
    print(labelled, handled)
    """
    )
    out, err = program.finish()
    assert err == ""
    assert int(out.split()[1]) > 300


def test_signal_handlers_that_record_while_files_are_made_lose_nothing(run: Callable) -> None:
    # Each child makes its file at its first record, with handlers coming in all the while.
    program = run(
        STATS
        + SIGNALS
        + """
    stats = Stats(service="signals")
    during = 0
    longest = 0.0002
    for child in range(60):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 0.00001 + random.random() * 0.002)
                record(stats, 1)
                inside = handled
                stats.by_path.labels("program 0").inc()
                class More(mmstats.MmStats):
                    more = mmstats.CounterField()
                    text = mmstats.StringField(size=100)
                More().more.inc(7)
                while handled < 20:
                    pass
                disarm()
                check(stats, 1, 1)
                assert mmstats.read(stats.filename)["more"].value == 7
                os.write(writing, str(inside).encode())
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        during += int(os.read(reading, 100))
        os.close(reading), os.close(writing)
    print(during)
    """
    )
    out, err = program.finish()
    assert err == ""
    assert int(out) > 60, "hardly a handler came in while a file was made"


# Functions that run while a file is made, in the order in which they do.
MOMENTS = [
    "registry.Registry._open",
    "registry.directory.prepare",
    "registry.retention.prune_service",
    "registry.file_name",
    "segment.os.open",
    "segment.os.ftruncate",
    "segment.os.posix_fallocate",
    "segment._map",
    "segment.layout.encode_family",
    "segment.layout.encode_series",
    "segment.layout.encode_padding",
    "segment.process.myself",
    "segment.process.lock",
    "segment.os.rename",
    "segment.cells.publish",
    "registry._settled",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_is_recorded_at_any_moment_while_a_file_is_made_is_not_lost(run: Callable, moment: str) -> None:
    # As a handler that comes in just there, before and after.
    program = run(
        STATS
        + f"""
    from mmstats import registry, segment
    stats = Stats(service="moments")
    record(stats, 1)
    {moment.rpartition(".")[0]}.{moment.rpartition(".")[2]}  # it is there
    pid = os.fork()
    if not pid:
        try:
            owner, name = {moment.rpartition(".")[0]}, {moment.rpartition(".")[2]!r}
            real = getattr(owner, name)
            def interrupted(*positional, **keywords):
                if handled < 30:  # an end to it: what is made in here is itself to be committed
                    interrupt()
                try:
                    return real(*positional, **keywords)
                finally:
                    if handled < 30:
                        interrupt()
            setattr(owner, name, interrupted)
            if name == "_settled":  # runs only where something was recorded early
                registry.directory.prepare = lambda path, real=registry.directory.prepare: (interrupt(), real(path))[1]
            record(stats, 1)
            stats.by_path.labels("program 0").inc()
            setattr(owner, name, real)
            assert handled >= 2, handled
            check(stats, 1, 1)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """
    )
    assert program.finish() == ("", "")


@pytest.mark.parametrize("same", [False, True])
def test_a_label_that_is_made_while_a_label_is_made_is_not_lost(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    class Stats(mmstats.BaseMmStats):
        by_path = mmstats.CounterField(labelnames=("path",))

    for module, name in [
        (layout, "encode_series"), (segment, "_names"), (segment.cells, "publish"), (os, "posix_fallocate"),
    ]:  # fmt: skip
        stats = Stats()
        for number in range(300):
            stats.by_path.labels(f"before {number}").inc()
        real = getattr(module, name)
        came_in = []

        def interrupted(*positional: Any, real: Any = real, came_in: list[int] = came_in, stats: Stats = stats) -> Any:
            if not came_in:
                came_in.append(1)
                stats.by_path.labels("outer" if same else "inner").inc()
            return real(*positional)

        monkeypatch.setattr(module, name, interrupted)
        made = 0
        while not came_in:
            stats.by_path.labels("outer" if not made else f"more {made}").inc()
            made += 1
        monkeypatch.setattr(module, name, real)
        snapshot = mmstats.read(stats.filename)
        by_path = snapshot["by_path"].value
        assert snapshot.problems == ()
        expected = {(f"before {number}",): 1 for number in range(300)}
        expected.update({("outer" if not number else f"more {number}",): 1 for number in range(made)})
        if same:
            expected["outer",] += 1
        else:
            expected["inner",] = 1
        assert by_path == expected, name
        stats.remove()


def test_an_exception_from_a_signal_handler_leaves_a_file_that_reads(run: Callable) -> None:
    program = run(
        STATS
        + SIGNALS
        + """
    class Interrupted(BaseException):
        pass

    def rearm(*_):
        raise Interrupted
    signal.signal(signal.SIGALRM, rearm)

    stats = Stats(service="signals")
    raised = made = 0
    seen = {}
    end = time.monotonic() + 3
    while raised < 2000 and time.monotonic() < end:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.random() * 0.0003 + 1e-6)
            try:
                while True:
                    name = f"program {made}"
                    made += 1
                    record(stats, made)
                    cell = stats.by_path.labels(name)
                    cell.inc()
                    seen[name] = 1
                    stats.add_field(f"late_{made}", mmstats.CounterField()).inc() if made % 50 == 0 else None
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupted:
            raised += 1
    # And after all that it goes on as ever.
    for number in range(200):
        record(stats, number)
        stats.by_path.labels(f"after {number}").inc()
    snapshot = mmstats.read(stats.filename)
    assert snapshot.problems == (), snapshot.problems
    by_path = snapshot["by_path"].value
    assert all([by_path.get((name,)) == 1 for name in seen]), "what was recorded is missing"
    assert all([by_path.get((f"after {n}",)) == 1 for n in range(200)])
    sizes = snapshot["sizes"]
    assert sizes.count == sum(sizes.buckets) == stats.sizes.count
    assert len(set(snapshot["text"].value)) == 1
    pair = snapshot["pair"].value
    assert pair["a"] == int(pair["b"]) == -pair["c"]
    print(raised, len(seen))
    """
    )
    out, err = program.finish()
    assert err == ""
    raised, seen = map(int, out.split())
    assert raised > 200
    assert seen > 200


def test_gc_callbacks_that_record_lose_nothing(run: Callable) -> None:
    program = run(
        STATS
        + """
    stats = Stats(service="gc")
    gc.callbacks.append(interrupt)
    gc.set_threshold(7, 3, 3)
    keep = []
    for number in range(1, 1500):
        record(stats, number)
        stats.by_path.labels(f"program {number - 1}").inc()
        keep.append([number])
        if handled > 20000:
            break
    gc.disable()
    gc.callbacks.clear()
    check(stats, number, number)
    print(number, handled)
    """
    )
    out, err = program.finish()
    assert err == ""
    _number, handled = map(int, out.split())
    assert handled > 200


def test_handlers_beside_threads_that_make_labels_neither_deadlock_nor_lose(run: Callable) -> None:
    # Nothing here takes a lock that a handler could find taken by the code it interrupts.
    program = run(
        STATS
        + SIGNALS
        + """
    import threading
    stats = Stats(service="signals")
    stop = False
    def others():
        number = 0
        while not stop:
            number += 1
            stats.by_path.labels(f"thread {threading.get_ident()} {number}").inc()
            time.sleep(0.0001)
    threads = [threading.Thread(target=others) for _ in range(3)]
    for thread in threads:
        thread.start()
    arm()
    end = time.monotonic() + 1.5
    number = 0
    while time.monotonic() < end and handled < 2000 and number < 20000:
        stats.by_path.labels(f"program {number}").inc()
        number += 1
    disarm()
    stop = True
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    snapshot = mmstats.read(stats.filename)
    assert snapshot.problems == ()
    by_path = snapshot["by_path"].value
    assert by_path["handlers",] == handled
    assert sum(value for (path,), value in by_path.items() if path.startswith("program")) == number
    print(handled)
    """
    )
    out, err = program.finish()
    assert err == ""
    assert int(out) > 100
