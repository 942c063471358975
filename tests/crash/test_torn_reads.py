"""A reader in one process and a writer in another: no value is ever torn, and reading does not starve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import mmstats

HERE = Path(__file__).parent

LISTENER = f"""
    import sys
    sys.path.insert(0, {str(HERE)!r})
    import torment

    home, rate, reads = sys.stdin.readline().split()
    for attempts, accepted, torn in torment.overhear(home, float(rate) or None, int(reads)):
        pass
    print(attempts, accepted, len(torn), torn[:3])
"""


@pytest.mark.parametrize("rate", [100_000, 0], ids=["at 100,000 updates a second", "without a pause"])
def test_two_hundred_thousand_reads_of_a_busy_writer_are_all_whole(run: Callable, home: Path, rate: int) -> None:
    program = run(LISTENER)
    program.say(f"{home} {rate} 200000")
    attempts, accepted, torn, examples = program.finish()[0].split(maxsplit=3)
    print(f"{accepted} of {attempts} reads were accepted")
    assert torn == "0", examples
    assert int(attempts) >= 200_000
    assert int(accepted) > 0.9 * int(attempts)


def test_a_writer_that_spins_on_one_cell_is_read_by_the_public_reader(run: Callable) -> None:
    program = run("""
        import mmstats
        class Stats(mmstats.BaseMmStats):
            text = mmstats.StringField(size=200)
            sizes = mmstats.HistogramField(buckets=[1.0, 2.0])
        stats = Stats()
        texts = ["a" * 200, "b" * 100, "c" * 150]
        stats.text = texts[0]
        print(stats.filename)
        while True:
            for text in texts:
                stats.text = text
                stats.sizes.observe(1.5)
    """)
    path = program.line()
    counts = []
    for _ in range(2000):
        snapshot = mmstats.read(path)
        assert snapshot.problems == ()
        assert snapshot["text"].value in ("a" * 200, "b" * 100, "c" * 150)
        sizes = snapshot["sizes"]
        assert (sizes.sum, sizes.buckets) == (1.5 * sizes.count, (0, sizes.count, 0))
        counts.append(sizes.count)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
