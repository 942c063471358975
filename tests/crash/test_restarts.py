"""A service that is killed and started again for ever fills no disk and disturbs no neighbour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mmstats

NEIGHBOUR = """
    import sys, mmstats
    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField(labelnames=("path",))
        sizes = mmstats.HistogramField()
    stats = Stats(service="web")
    print(stats.filename)
    number = 0
    for line in sys.stdin:
        number += 1
        stats.requests.labels(number % 500).inc()
        stats.sizes.observe(0.25)
        print(number)
"""

# Forks its victims, so that five hundred starts take seconds.
RESTARTS = """
    import os, signal, sys, mmstats
    from mmstats import redact, retention  # once, and not in each child

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField(labelnames=("path",))
        sizes = mmstats.HistogramField()

    for line in sys.stdin:
        number = int(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            stats = Stats(service="web", strict=True)
            for path in range(number % 300):
                stats.requests.labels(path).inc()
            stats.sizes.observe(1.0)
            os.write(writing, b"recorded")
            signal.pause()
        os.close(writing)
        said = os.read(reading, 100)
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print(pid, said.decode(), flush=True)
"""


def test_five_hundred_starts_and_kills_leave_five_files_and_the_live_neighbour(run: Callable, mount: Callable) -> None:
    disk: Path = mount("8m")
    neighbour = run(NEIGHBOUR, env={"MMSTATS_PATH": str(disk)})
    path = neighbour.line()
    restarts = run(RESTARTS, env={"MMSTATS_PATH": str(disk)})
    most = 0
    for number in range(1, 501):
        restarts.say(str(number))
        pid, said = restarts.line().split()
        assert said == "recorded", f"start {number} found no room"
        neighbour.say()
        assert neighbour.line() == str(number)
        used = sum([file.stat().st_blocks * 512 for file in disk.iterdir()])
        most = max(most, used)
        if number % 25 == 0:
            fleet = mmstats.read_all(disk)
            assert not fleet.problems
            assert [snapshot.path for snapshot in fleet.alive.values()] == [path]
            # Those that the newest process left, and the newest process itself.
            assert len(fleet.dead) <= 6
            assert int(pid) in {snapshot.process.pid for snapshot in fleet.dead.values()}
            assert len(list(disk.iterdir())) == len(fleet)
    assert most < 4 << 20
    snapshot = mmstats.read(path)
    assert snapshot.alive is True
    assert snapshot["sizes"].count == 500
    assert snapshot["requests"].value == {(str(number),): 1 for number in range(500)}
    assert snapshot.problems == ()


def test_what_a_killed_start_leaves_behind_is_swept_when_it_is_old(run: Callable, home: Path) -> None:
    import os
    import time

    (home / ".web-1-00000000.mmstats.tmp").write_bytes(bytes(5000))
    (home / ".web-2-00000000.mmstats.tmp").write_bytes(bytes(5000))
    old = time.time() - 3600
    os.utime(home / ".web-1-00000000.mmstats.tmp", (old, old))
    run("""
        import mmstats
        mmstats.MmStats(service="web")
    """).finish()
    names = sorted([file.name for file in home.iterdir()])
    assert len(names) == 2
    assert names[0] == ".web-2-00000000.mmstats.tmp", "one that is new may be in the making"
