"""Whether a file's writer lives is told rightly: across namespaces, reused pids and copies."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import mmstats
from mmstats import layout, registry

SLEEPER = """
    import os, sys, mmstats
    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()
    stats = Stats(service="web")
    stats.requests.inc({times})
    print(os.getpid(), stats.filename)
    for line in sys.stdin:
        found = mmstats.read_all()
        print([(s["requests"].value, s.alive) for s in found.values()])
"""


def test_one_pid_in_two_namespaces_is_two_processes(run: Callable, home: Path, unshare: tuple[str, ...]) -> None:
    first = run(SLEEPER.format(times=1), wrap=unshare)
    second = run(SLEEPER.format(times=2), wrap=unshare)
    (pid, path), (other_pid, other_path) = first.line().split(), second.line().split()
    assert pid == other_pid == "1"
    assert path != other_path
    # From outside, where that pid is somebody else's, and from the inside of each.
    found = mmstats.read_all(home)
    assert sorted([(s["requests"].value, s.alive, s.process.pid) for s in found.values()]) == [
        (1, True, 1),
        (2, True, 1),
    ]
    for program in (first, second):
        program.say()
        assert sorted(eval(program.line())) == [(1, True), (2, True)]
    subprocess.run(["pkill", "-KILL", "-P", str(first.pid)], check=True)
    first.process.wait(20)
    found = mmstats.read_all(home)
    assert sorted([(s["requests"].value, s.alive) for s in found.values()]) == [(1, False), (2, True)]
    second.say()
    assert sorted(eval(second.line())) == [(1, False), (2, True)]
    # A start of the same service in a third namespace, with the same pid again, leaves the living alone.
    third = run(SLEEPER.format(times=3), wrap=unshare)
    third.line()
    assert {s["requests"].value for s in mmstats.read_all(home).alive.values()} == {2, 3}


def test_a_reused_pid_does_not_bring_the_dead_back(run: Callable, home: Path, unshare: tuple[str, ...]) -> None:
    program = run(
        """
        import os, time, mmstats
        class Stats(mmstats.MmStats):
            requests = mmstats.CounterField()

        def spawn():
            "A child of the pid 77, whatever was there before."
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write("76")
            pid = os.fork()
            if not pid:
                stats = Stats(service="web")
                stats.requests.inc()
                os.write(1, stats.filename.encode() + b"\\n")
                time.sleep(60)
            return pid

        pid = spawn()
        assert pid == 77, pid
        time.sleep(0.05)  # starts are told apart by clock ticks of 10 ms
        input()
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        assert spawn() == 77
        input()
        print([(s.process.pid, s.alive, s.process.reason) for s in mmstats.read_all().values()])
        os._exit(0)
        """,
        wrap=unshare,
    )
    first = program.line()
    program.say()
    second = program.line()
    assert first != second
    assert [mmstats.read(path).alive for path in (first, second)] == [False, True], "from outside"
    program.say()
    (dead, alive) = eval(program.line())
    assert dead[:2] == (77, False), "from the inside, where a process of that pid runs"
    assert alive[:2] == (77, True)


def test_a_start_time_that_is_not_the_process_means_dead(home: Path) -> None:
    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()

    stats = Stats()
    stats.requests.inc(4)
    data = bytearray(Path(stats.filename).read_bytes())
    header = layout.decode_header(data)
    struct.pack_into("<Q", data, 80, header.start_ticks - 100)
    changed = layout.decode_header(data)
    assert changed.start_ticks == header.start_ticks - 100
    copy = home / "older-1-00000000.mmstats"
    copy.write_bytes(data)
    snapshot = mmstats.read(copy)
    assert (snapshot.alive, snapshot["requests"].value) == (False, 4)
    assert mmstats.read(stats.filename).alive is True


def test_a_copy_of_a_live_process_file_is_neither_alive_nor_dead(run: Callable, home: Path) -> None:
    program = run(SLEEPER.format(times=5))
    path = program.line().split()[1]
    copy = home / "copied-1-00000000.mmstats"
    shutil.copyfile(path, copy)
    snapshot = mmstats.read(copy)
    assert snapshot.alive is None
    assert snapshot.process.state == "unknown"
    assert snapshot["requests"].value == 5
    # A reader that may delete must not take it for dead either.
    from mmstats import retention

    assert [dead.path for dead in retention.dead_files([str(copy), path])] == []
    program.kill()
    assert mmstats.read(copy).alive is False


def test_a_file_of_another_boot_is_dead_and_one_of_another_machine_unknown(home: Path) -> None:
    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()

    stats = Stats()
    data = bytearray(Path(stats.filename).read_bytes())
    data[88:104] = bytes(range(1, 17))
    path = home / "before-1-00000000.mmstats"
    path.write_bytes(data)
    assert mmstats.read(path).alive is None, "a copy, perhaps of another machine"
    struct.pack_into("<Q", data, 120, os.stat(path).st_ino)
    with open(path, "r+b") as file:  # the same inode stays
        file.write(data)
    assert mmstats.read(path).alive is False


def test_any_use_after_remove_raises_and_never_crashes(home: Path) -> None:
    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()
        seconds = mmstats.CounterField(type=float)
        active = mmstats.GaugeField()
        note = mmstats.StringField()
        level = mmstats.IntField()
        ratio = mmstats.DoubleField()
        flag = mmstats.BoolField()
        state = mmstats.EnumField(states=["a", "b"])
        build = mmstats.InfoField()
        pair = mmstats.StructField({"a": int})
        sizes = mmstats.HistogramField()
        average = mmstats.AverageField()
        moving = mmstats.MovingAverageField()
        timer = mmstats.TimerField()
        by_path = mmstats.CounterField(labelnames=("path",))

    def use_all_after_remove() -> None:
        stats = Stats()
        kept = {name: getattr(stats, name) for name in Stats._fields}
        child = stats.by_path.labels("/")
        timing = stats.timer
        late = stats.add_field("late", mmstats.CounterField())
        running = stats.timer
        running.__enter__()
        path = stats.filename
        stats.remove()
        stats.remove()
        assert not os.path.exists(path)
        uses: list[Callable[[], object]] = [
            *[
                use
                for cells in (stats, type("Kept", (), kept))
                for use in (
                    lambda cells=cells: cells.requests.inc(),
                    lambda cells=cells: cells.requests.incr(-1),
                    lambda cells=cells: cells.requests.value,
                    lambda cells=cells: cells.seconds.inc(0.5),
                    lambda cells=cells: cells.active.set(1),
                    lambda cells=cells: cells.active.dec(),
                    lambda cells=cells: cells.state.state("b"),
                    lambda cells=cells: cells.build.info({"a": "b"}),
                    lambda cells=cells: cells.pair.set(a=1),
                    lambda cells=cells: cells.pair.value,
                    lambda cells=cells: cells.sizes.observe(1.0),
                    lambda cells=cells: cells.sizes.count,
                    lambda cells=cells: cells.average.add(1.0),
                    lambda cells=cells: cells.moving.last,
                    lambda cells=cells: cells.moving.add(1.0),
                    lambda cells=cells: cells.timer.observe(1.0),
                )
            ],
            lambda: stats.note,
            lambda: setattr(stats, "note", "x"),
            lambda: setattr(stats, "level", 1),
            lambda: setattr(stats, "ratio", 1.0),
            lambda: setattr(stats, "flag", True),
            lambda: stats.level,
            lambda: stats.by_path.labels("/"),
            lambda: kept["by_path"].labels("new"),
            lambda: kept["by_path"].labels("/").inc(),
            lambda: child.inc(),
            lambda: late.inc(),
            lambda: running.__exit__(None, None, None),
            lambda: timing.start() or timing.stop(),
            lambda: stats.add_field("x", mmstats.CounterField()),
        ]
        for use in uses:
            for _ in range(3):
                try:
                    use()
                except mmstats.ClosedError:
                    continue
                pytest.fail(f"no ClosedError at line {use.__code__.co_firstlineno}")
        repr(stats)
        list(stats)
        assert stats.filename == path

    for _ in range(3):
        use_all_after_remove()
    assert list(home.iterdir()) == []
    assert registry._registries == {}


def test_threads_that_record_while_the_model_is_removed_get_closed_errors(home: Path) -> None:
    import threading

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()
        note = mmstats.StringField()
        by_path = mmstats.HistogramField(labelnames=("path",))

    for _ in range(30):
        stats = Stats()
        unexpected: list[BaseException] = []
        started = threading.Barrier(5)

        def work(stats: Stats = stats, unexpected: list[BaseException] = unexpected, started: object = started) -> None:
            started.wait()  # type: ignore[attr-defined]
            number = 0
            try:
                while True:
                    number += 1
                    stats.requests.inc()
                    stats.note = "x" * (number % 100)
                    stats.by_path.labels(number % 200).observe(0.1)
            except mmstats.ClosedError:
                pass
            except BaseException as error:
                unexpected.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        stats.remove()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert unexpected == []
    assert list(home.iterdir()) == []
