"""A disk that is full, or fills up, costs the program one warning and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import mmstats

STATS = """
    import os, sys, warnings, mmstats
    warnings.simplefilter("always")
    shown = []
    warnings.showwarning = lambda message, *rest: shown.append(str(message))

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()
        note = mmstats.StringField(size=200)
        by_path = mmstats.CounterField(labelnames=("path",))
        sizes = mmstats.HistogramField(labelnames=("path",))

    def fill(path):
        "Take all that is left."
        with open(path + "/ballast", "ab", buffering=0) as file:
            for size in (65536, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass
"""


def _fill(path: Path) -> None:
    with open(path / "ballast", "ab", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def test_a_full_disk_at_creation_leaves_a_program_that_records_in_its_own_memory(
    run: Callable, mount: Callable
) -> None:
    disk = mount("1m")
    _fill(disk)
    program = run(
        STATS
        + """
    stats = Stats()
    other = Stats()
    for number in range(3000):
        stats.requests.inc()
        stats.note = f"note {number}"
        stats.by_path.labels(number).inc()
        stats.sizes.labels(number).observe(0.1)
        stats.add_field(f"late_{number % 50}", mmstats.HistogramField()).observe(1.0)
    assert stats.requests.value == 3000 and stats.note == "note 2999", stats.note
    assert stats.by_path.labels(7).value == 1
    assert other.requests.value == 3000 and stats.filename == ""
    stats.flush()
    print(shown)
    stats.remove()
    """,
        env={"MMSTATS_PATH": str(disk)},
    )
    out, err = program.finish()
    assert out.count("no stat file could be made") == 1
    assert out.count("mmstats:") == 1
    assert "No space left on device" in out
    assert err == ""
    assert os.listdir(disk) == ["ballast"], "what was begun is cleared away"


def test_strict_raises_on_a_full_disk(run: Callable, mount: Callable) -> None:
    disk = mount("1m")
    _fill(disk)
    program = run(
        STATS
        + """
    try:
        Stats(strict=True)
    except mmstats.SegmentError as error:
        print("SegmentError:", error, "because", repr(error.__cause__))
    """,
        env={"MMSTATS_PATH": str(disk)},
    )
    out, err = program.finish()
    assert out.startswith("SegmentError: no stat file could be made")
    assert "OSError(28" in out
    assert err == ""
    assert os.listdir(disk) == ["ballast"]


# Bytes that are left when the file is there: from none to a few chunks.
@pytest.mark.parametrize("left", [0, 4096, 16384, 65536])
def test_a_disk_that_fills_up_under_growing_labels_costs_one_warning(run: Callable, mount: Callable, left: int) -> None:
    disk = mount("1m")
    program = run(
        STATS
        + f"""
    stats = Stats()
    stats.by_path.labels("before").inc()
    path = os.environ["MMSTATS_PATH"]
    fill(path)
    os.truncate(path + "/ballast", os.path.getsize(path + "/ballast") - {left})
    for number in range(3000):
        stats.requests.inc()
        stats.note = f"note {{number}}"
        stats.by_path.labels(number).inc()
        stats.sizes.labels(number).observe(0.1)
    print(shown)
    os.kill(os.getpid(), 9)
    """,
        env={"MMSTATS_PATH": str(disk)},
    )
    out, err = program.finish(-9)
    assert out.count("mmstats:") == 1
    assert "new label sets are counted together" in out
    assert err == ""
    (snapshot,) = mmstats.read_all(disk).values()
    assert snapshot.problems == ()
    assert snapshot["requests"].value == 3000
    assert snapshot["note"].value == "note 2999"
    by_path = snapshot["by_path"].value
    # What could be counted apart was; the rest is counted together, if there was room for that.
    assert all([count == 1 for path, count in by_path.items() if path != ("__overflow__",)])
    assert snapshot["mmstats.overflow"].value > 3000
    if ("__overflow__",) in by_path:
        assert sum(by_path.values()) == 3001
    assert left < 65536 or len(by_path) > 50


def test_a_disk_that_fills_up_under_new_fields_costs_one_warning(run: Callable, mount: Callable) -> None:
    disk = mount("1m")
    program = run(
        STATS
        + """
    stats = Stats()
    fill(os.environ["MMSTATS_PATH"])
    cells = [stats.add_field(f"late_{number}", mmstats.HistogramField()) for number in range(300)]
    texts = [stats.add_field(f"text_{number}", mmstats.StringField()) for number in range(300)]
    for turn in range(10):
        for cell in cells:
            cell.observe(turn)
        for text in texts:
            text.set(f"turn {turn}")
        stats.requests.inc()
    assert {cell.count for cell in cells} == {10}
    assert {text.value for text in texts} == {"turn 9"}
    assert stats.add_field("late_3", mmstats.HistogramField()) is cells[3]
    print(shown)
    os.kill(os.getpid(), 9)
    """,
        env={"MMSTATS_PATH": str(disk)},
    )
    out, err = program.finish(-9)
    assert out.count("mmstats:") == 1
    assert err == ""
    (snapshot,) = mmstats.read_all(disk).values()
    assert snapshot.problems == ()
    assert snapshot["requests"].value == 10
    late = [value for name, value in snapshot.items() if name.startswith("late_")]
    assert late, "the space that was reserved already was not used"
    assert {value.count for value in late} == {10}


def test_room_that_comes_back_is_used(run: Callable, mount: Callable) -> None:
    disk = mount("1m")
    program = run(
        STATS
        + """
    stats = Stats()
    fill(os.environ["MMSTATS_PATH"])
    for number in range(1000):
        stats.by_path.labels(number).inc()
    os.unlink(os.environ["MMSTATS_PATH"] + "/ballast")
    for number in range(1000, 1010):
        stats.by_path.labels(number).inc()
    print(len(shown))
    """,
        env={"MMSTATS_PATH": str(disk)},
    )
    assert program.finish()[0].strip() == "1"
    (snapshot,) = mmstats.read_all(disk).values()
    by_path = snapshot["by_path"].value
    assert all([by_path[str(number),] == 1 for number in range(1000, 1010)])
    assert len(by_path) < 1000, "the disk was not full"


def test_a_file_that_is_cut_under_a_reader_gives_our_error_or_what_is_left(home: Path) -> None:
    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()
        sizes = mmstats.HistogramField(labelnames=("path",))
        note = mmstats.StringField()

    stats = Stats()
    stats.requests.inc(5)
    stats.note = "whole"
    for number in range(20):
        stats.sizes.labels(number).observe(0.1)
    data = Path(stats.filename).read_bytes()
    values_at = data.index(b"whole")
    copy = home / "copy-1-00000000.mmstats"
    lengths = {0, 1, 127, 128, 129, 4095, 4096, 4097, *range(0, 8192, 97), *range(values_at - 600, values_at + 600, 7)}
    whole = errors = parts = 0
    for length in sorted(lengths | {len(data)}):
        copy.write_bytes(data[:length])
        try:
            snapshot = mmstats.read(copy)
            shown = snapshot.to_dict()
        except mmstats.ReadError:
            errors += 1
            continue
        if snapshot.problems:
            parts += 1
        else:
            whole += 1
            assert shown["values"]["requests"]["value"] == 5
        if "requests" in snapshot:
            assert snapshot["requests"].value == 5, "a value that is cut off is not shown as zero"
    assert errors and parts and whole


def test_a_file_that_shrinks_while_it_is_read_does_not_kill_the_reader(run: Callable, home: Path) -> None:
    class Stats(mmstats.MmStats):
        sizes = mmstats.HistogramField(labelnames=("path",))

    stats = Stats()
    for number in range(200):
        stats.sizes.labels(number).observe(0.1)
    shrinker = run(f"""
        import os
        data = open({stats.filename!r}, "rb").read()
        file = os.open({str(home / "moving-1-00000000.mmstats")!r}, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(file, data, 0)
        print("ready")
        while True:
            for length in (100, 5000, len(data) // 2 + 9000, 0, len(data) // 2 + 4096):
                os.ftruncate(file, length)
                os.pwrite(file, data, 0)
    """)
    shrinker.line()
    whole = other = 0
    for _ in range(3000):
        try:
            snapshot = mmstats.read(home / "moving-1-00000000.mmstats")
            snapshot.to_dict()
            whole += not snapshot.problems
            other += bool(snapshot.problems)
        except mmstats.ReadError:
            other += 1
    assert other, "it never shrank under the reader"
