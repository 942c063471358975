"""A process that is killed at any instant leaves a file that reads, with all that it had acknowledged."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import mmstats

HERE = Path(__file__).parent

KILLER = f"""
    import random, sys
    sys.path.insert(0, {str(HERE)!r})
    import torment

    home, kills, seed = sys.stdin.readline().split()
    rng = random.Random(int(seed))
    torment.warm_up(home)
    total = failed = empty = done = 0
    # On a busy machine many are killed before they get to work: then more of them are needed.
    while done < int(kills) or (done < 5 * int(kills) and (total <= 2000 or done - empty <= 50)):
        done += 1
        acknowledged, wrong = torment.kill_one(home, rng)
        total += acknowledged
        empty += not acknowledged
        for line in wrong:
            failed += 1
            print("WRONG", line)
        if failed > 10:
            break
    print("DONE", total, done - empty)
"""


def test_two_hundred_kills_lose_nothing_and_tear_nothing(run: Callable, home: Path) -> None:
    program = run(KILLER)
    program.say(f"{home} 200 {int.from_bytes(os.urandom(4), 'little')}")
    *wrong, last = program.finish()[0].splitlines()
    assert not wrong
    _, total, worked = last.split()
    assert int(total) > 2000, "the victims hardly ran: the kills came too early to prove anything"
    assert int(worked) > 50


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGKILL])
def test_values_outlive_every_deadly_signal(run: Callable, number: int) -> None:
    program = run("""
        import sys, time, mmstats
        class Stats(mmstats.MmStats):
            requests = mmstats.CounterField()
            note = mmstats.StringField()
        stats = Stats(service="doomed")
        stats.requests.inc(41)
        stats.requests.inc()
        stats.note = "the last words"
        print(stats.filename)
        sys.stdin.read()
    """)
    path = program.line()
    os.kill(program.pid, number)
    assert program.process.wait(20) == -number
    snapshot = mmstats.read(path)
    assert (snapshot["requests"].value, snapshot["note"].value) == (42, "the last words")
    assert (snapshot.alive, snapshot.process.closed, snapshot.problems) == (False, False, ())


def test_values_outlive_os_exit(run: Callable) -> None:
    program = run("""
        import os, mmstats
        class Stats(mmstats.MmStats):
            requests = mmstats.CounterField()
        stats = Stats()
        stats.requests.inc(7)
        print(stats.filename)
        os._exit(3)
    """)
    path = program.line()
    program.finish(3)
    snapshot = mmstats.read(path)
    assert (snapshot["requests"].value, snapshot.process.state) == (7, "died")


def test_a_clean_end_is_told_from_a_death(run: Callable) -> None:
    program = run("""
        import mmstats
        class Stats(mmstats.MmStats):
            requests = mmstats.CounterField()
        stats = Stats()
        stats.requests.inc(7)
        print(stats.filename)
    """)
    path = program.line()
    program.finish()
    snapshot = mmstats.read(path)
    assert (snapshot["requests"].value, snapshot.process.state, snapshot.alive) == (7, "closed", False)
    assert snapshot.closed_at is not None
