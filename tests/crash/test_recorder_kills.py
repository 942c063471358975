"""A recorder that is killed or read at any instant: every ring reads, nothing is garbled, nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import recorder_torment

from mmdebug.boxreader import read_box

HERE = Path(__file__).parent

KILLER = f"""
    import random, sys
    sys.path.insert(0, {str(HERE)!r})
    import recorder_torment

    home, kills, seed = sys.stdin.readline().split()
    rng = random.Random(int(seed))
    recorder_torment.warm_up()
    total = failed = empty = 0
    for _ in range(int(kills)):
        acknowledged, wrong = recorder_torment.kill_one(home, rng)
        total += acknowledged
        empty += not acknowledged
        for line in wrong:
            failed += 1
            print("WRONG", line)
        if failed > 10:
            break
    print("DONE", total, empty)
"""


def test_two_hundred_kills_lose_nothing_and_garble_nothing(run: Callable, home: Path) -> None:
    program = run(KILLER)
    program.say(f"{home} 200 {int.from_bytes(os.urandom(4), 'little')}")
    *wrong, last = program.finish(seconds=300)[0].splitlines()
    assert not wrong
    _, total, empty = last.split()
    assert int(total) > 2000, "the writers hardly ran: the kills came too early to prove anything"
    assert int(empty) < 150


LISTENER = f"""
    import sys
    sys.path.insert(0, {str(HERE)!r})
    import recorder_torment

    home, reads = sys.stdin.readline().split()
    for done, records, wrong in recorder_torment.overhear(home, int(reads)):
        if len(wrong) > 10:
            break
    print(done, records, len(wrong))
    for line in wrong[:10]:
        print(line)
"""


def test_live_reads_of_a_writer_at_full_speed_return_nothing_garbled(run: Callable, home: Path) -> None:
    program = run(LISTENER)
    program.say(f"{home} 400")
    first, *wrong = program.finish(seconds=300)[0].splitlines()
    assert not wrong
    done, records, _ = first.split()
    assert int(done) == 400
    assert int(records) > 40_000


def test_the_judge_of_kills_notices_what_is_garbled_or_missing(run: Callable, home: Path) -> None:
    program = run(f"""
        import sys
        sys.path.insert(0, {str(HERE)!r})
        import logging, mmdebug, recorder_torment
        mmdebug.install()
        for number in range(1, 41):
            recorder_torment.write_round(0, number)
        print(mmdebug.installation.stats_file())
    """)
    path = Path(program.line().replace(".mmstats", ".box"))
    program.finish()
    good = path.read_bytes()

    def complaints(data: bytes, acknowledged: int = 40) -> list[str]:
        path.write_bytes(data)
        return list(recorder_torment.complaints(read_box(path), {0: acknowledged}, [(0, acknowledged)]))

    assert complaints(good) == []
    assert "was acknowledged" in str(complaints(good, 41))
    text = recorder_torment.text_of(37).encode()[:500]
    assert good.count(text) == 1
    assert "garbled" in str(complaints(good.replace(text, text[:-2] + b"8,")))
    message = f"round 33 of 0: {recorder_torment.checksum(0, 33, 'log')}".encode()
    assert "garbled" in str(complaints(good.replace(message, message[:-1] + b"x")))
    # A record in the midst of a ring that is no more than padding.
    at = good.index(message) - 36
    assert good[at + 4] == 2, "that is no log record"
    assert "holes" in str(complaints(good[: at + 4] + b"\0" + good[at + 5 :]))
