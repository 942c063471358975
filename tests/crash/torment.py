"""What the crash tests and `scripts/torture` share: victims whose values can be checked, and killing them.

Each compound value that a victim records says by itself whether it is whole.
"""

from __future__ import annotations

import os
import random
import select
import signal
import struct
import time
from collections.abc import Iterator

import mmstats
from mmstats import reader, schema

#: Each sample is one of these: sums of them are exact, so a sum tells its buckets.
SAMPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
BOUNDS = (0.25, 0.5, 1.0, 2.0)


class VictimStats(mmstats.MmStats):
    """One of each kind of value."""

    rounds = mmstats.CounterField()
    level = mmstats.GaugeField()
    text = mmstats.StringField(size=120)
    latest = mmstats.StringField(size=40, aggregate="last")
    sizes = mmstats.HistogramField(buckets=BOUNDS)
    average = mmstats.AverageField()
    moving = mmstats.MovingAverageField(size=7)
    pair = mmstats.StructField({"a": int, "b": float, "c": (str, 16), "d": int})
    by_label = mmstats.CounterField(labelnames=("round",))
    sizes_by_label = mmstats.HistogramField(buckets=BOUNDS, labelnames=("which",))


def one_text(number: int) -> str:
    """A text that is whole only as it is: a number, over and over."""
    return f"{number:08d}," * (1 + number % 12)


def record(stats: VictimStats, number: int) -> None:
    """Round `number`, from 1: one update of everything, and something new now and then."""
    sample = SAMPLES[number % len(SAMPLES)]
    stats.rounds.inc()
    stats.level.set(number)
    stats.text = one_text(number)
    stats.latest = f"{number:08d}," * (number % 4 + 1)
    stats.sizes.observe(sample)
    stats.average.add(sample)
    stats.moving.add(0.125)
    stats.pair.set(a=number, b=float(number), c=str(number), d=-number)
    stats.by_label.labels(number).inc()
    stats.sizes_by_label.labels(number % 40).observe(sample)
    if number % 50 == 0:
        stats.add_field(f"late_{number}", mmstats.HistogramField(buckets=BOUNDS)).observe(sample)


def whole_histogram(value: object) -> bool:
    """Whether count, sum and buckets are of one update."""
    buckets = value.buckets  # type: ignore[attr-defined]
    total = sum([sample * buckets[index] for index, sample in enumerate(SAMPLES)])
    return value.count == sum(buckets) and value.sum == total  # type: ignore[attr-defined]


def whole_text(text: str) -> int:
    """The number that a text of `one_text`'s kind repeats; -1 if it is torn."""
    parts = text.split(",")
    if parts.pop() or len(set(parts)) != 1 or len(parts[0]) != 8 or not parts[0].isdigit():
        return -1
    return int(parts[0])


def complaints(snapshot: mmstats.Snapshot, acknowledged: int) -> Iterator[str]:
    """What is wrong with a victim's file, all rounds up to `acknowledged` being acknowledged."""
    yield from snapshot.problems
    for name in VictimStats._fields:
        if VictimStats._fields[name].name is None and name not in snapshot:
            yield f"{name} is missing"
            return
    rounds = snapshot["rounds"].value
    if rounds < acknowledged:
        yield f"{acknowledged} rounds were acknowledged and {rounds} are there"
    for name, reached in (
        ("level", snapshot["level"].value),
        ("sizes", snapshot["sizes"].count),
        ("average", snapshot["average"].count),
        ("moving", snapshot["moving"].count),
        ("pair", snapshot["pair"].value["a"]),
        ("by_label", sum(snapshot["by_label"].value.values())),
        ("sizes_by_label", sum([value.count for value in snapshot["sizes_by_label"].values()])),
    ):
        # A value may be one round ahead of `rounds`' last, or behind by the one that was cut short.
        if not max(acknowledged, rounds - 1) <= reached <= rounds:
            yield f"{name} is at {reached}, of {rounds} rounds, {acknowledged} of them acknowledged"
    for name in ("text", "latest"):
        text = snapshot[name].value
        number = whole_text(text) if text else 0
        if not max(acknowledged, rounds - 1) <= number <= rounds:
            yield f"{name} is {text!r} in round {rounds}"
        elif name == "text" and text and text != one_text(number):
            yield f"text is cut short: {text!r}"
    histograms = [snapshot["sizes"], *snapshot["sizes_by_label"].values()]
    late = [snapshot[name] for name in snapshot if name.startswith("late_")]
    if len(late) not in (rounds // 50, (rounds - 1) // 50):
        yield f"{len(late)} fields were added in {rounds} rounds"
    if sum([value.count == 0 for value in late]) > 1 or (late and late[-1].count == 0 and acknowledged == rounds):
        yield "a field that was added has no sample"
    for value in [*histograms, *late]:
        if not whole_histogram(value):
            yield f"{value.name} is torn: {value!r}"
    moving = snapshot["moving"]
    shown = (moving.sum, moving.window_count, moving.window_sum)
    if shown != (0.125 * moving.count, min(moving.count, 7), 0.125 * min(moving.count, 7)):
        yield f"moving is torn: {moving!r}"
    if moving.count and (moving.last, moving.min, moving.max) != (0.125, 0.125, 0.125):
        yield f"moving is torn: {moving!r}"
    pair = snapshot["pair"].value
    if pair["a"] and (pair["b"], pair["c"], pair["d"]) != (float(pair["a"]), str(pair["a"]), -pair["a"]):
        yield f"pair is torn: {pair!r}"
    expected = sum([SAMPLES[number % 5] for number in range(1, snapshot["average"].count + 1)])
    if snapshot["average"].sum != expected:
        yield f"average is torn: {snapshot['average']!r}"


def warm_up(home: str) -> None:
    """Import all that a victim imports, so that victims forked later get to work at once."""
    stats = VictimStats(path=home, service="warm-up")
    record(stats, 50)
    list(complaints(mmstats.read(stats.filename), 0))
    stats.remove()


def victim(acknowledgements: int, home: str) -> None:
    """Record for ever; write each round's number to the pipe once it is recorded."""
    stats = VictimStats(path=home, service="victim")
    pack = struct.Struct("<Q").pack
    number = 0
    while True:
        number += 1
        record(stats, number)
        os.write(acknowledgements, pack(number))


def kill_one(home: str, rng: random.Random) -> tuple[int, list[str]]:
    """Fork a victim, kill it at a random moment, and judge what it left.

    Returns how many rounds it had acknowledged, and what is wrong. Only for processes of one thread.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            victim(writing, home)
        finally:
            os._exit(1)
    os.close(writing)
    received = b""
    # From the first instants, when the file is being made, to thousands of rounds later.
    end = time.monotonic() + rng.choice((0.002, 0.01, 0.04)) * rng.random()
    while True:
        left = end - time.monotonic()
        if left <= 0:
            break
        if select.select([reading], [], [], left)[0]:
            data = os.read(reading, 65536)
            if not data:
                break
            received = (received + data)[-16:]
    os.kill(pid, signal.SIGKILL)
    while data := os.read(reading, 65536):
        received = (received + data)[-16:]
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    # Writes of 8 bytes to a pipe are never in part.
    acknowledged = int.from_bytes(received[-8:], "little")
    wrong = []
    if os.WTERMSIG(status) != signal.SIGKILL:
        wrong.append(f"the victim ended by itself: {status}")
    files = [name for name in os.listdir(home) if name.startswith("victim-") and f"-{pid}-" in name]
    if acknowledged and len(files) != 1:
        wrong.append(f"the victim had acknowledged {acknowledged} rounds, and its files are {files}")
    for name in files:
        path = os.path.join(home, name)
        snapshot = mmstats.read(path)
        if snapshot.alive is not False or snapshot.process.closed:
            wrong.append(f"{name} is said to be {snapshot.process.state}: {snapshot.process.reason}")
        wrong += [f"{name}: {complaint}" for complaint in complaints(snapshot, acknowledged)]
    for name in os.listdir(home):
        if not wrong and (f"-{pid}-" in name):
            os.unlink(os.path.join(home, name))
    return acknowledged, wrong


# Readers against a writer in another process.


class HotStats(mmstats.BaseMmStats):
    """A few cells that are updated as fast as can be, so that readers meet updates midway."""

    text = mmstats.StringField(size=2000)
    sizes = mmstats.HistogramField(buckets=BOUNDS)
    pair = mmstats.StructField({"a": int, "b": int, "c": (str, 64), "d": int})
    moving = mmstats.MovingAverageField(size=7)


def hot_writer(home: str, rate: float | None, ready: int) -> None:
    """Update the cells of `HotStats` `rate` times a second, or without a pause; tell the path to `ready`.

    Ends when its parent has ended, however that was.
    """
    parent = os.getppid()
    _run_on(-1)
    stats = HotStats(path=home, service="hot")
    texts = [chr(97 + number % 26) * (1 + number * 7 % 2000) for number in range(256)]
    sizes, pair, moving = stats.sizes, stats.pair, stats.moving
    stats.text = texts[0]
    os.write(ready, stats.filename.encode())
    os.close(ready)
    number = 0
    clock = time.perf_counter
    begin = clock()
    while number & 0xFFFF or os.getppid() == parent:
        # One cell for a while and then the next: a reader is only ever misled by two updates of one cell.
        which = number >> 10 & 3
        for _ in range(64):
            number += 1
            if which == 0:
                stats.text = texts[number & 255]
            elif which == 1:
                sizes.observe(SAMPLES[number % 5])
            elif which == 2:
                moving.add(0.125)
            else:
                pair.set(a=number, b=number, c=texts[number & 255][:64], d=-number)
        if rate is not None:
            due = begin + number / rate
            while clock() < due:
                pass


def _run_on(which: int) -> None:
    """Stay on one processor: writer and reader on one and the same would hardly ever meet."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[which]})


def hot_reads(path: str, reads: int) -> Iterator[tuple[int, int, list[str]]]:
    """Read a hot file `reads` times, as the reader does; yields ``(attempts, accepted, torn)`` now and then.

    One attempt is one cell of one read. Parsing is left out, so that most of the time goes into reading.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        header = reader.layout.decode_header(os.pread(descriptor, 128, 0))
        definitions = os.pread(descriptor, header.committed, 0)[header.first_definition :]
        known = schema.schema_of(definitions)
        families = [key.plan.family for key, _ in known.compounds]
        attempts = accepted = 0
        torn: list[str] = []
        while attempts < reads:
            for _ in range(500):
                _, raws, _ = reader._read_values(descriptor, known, False)
                attempts += len(raws)
                for family, raw in zip(families, raws, strict=True):
                    if raw is not None:
                        accepted += 1
                        if not _whole(family.name, raw):
                            torn.append(f"{family.name}: {str(raw)[:200]}")
            yield attempts, accepted, torn
    finally:
        os.close(descriptor)


def _whole(name: str, raw: tuple[object, ...]) -> bool:
    if name == "text":
        size, data = raw
        return data[:size] == data[:1] * size and size > 0  # type: ignore[index,operator]
    if name == "sizes":
        count, total, *buckets = raw
        return count == sum(buckets) and total == sum([s * b for s, b in zip(SAMPLES, buckets, strict=True)])  # type: ignore[arg-type,operator]
    if name == "moving":
        count, total, last, low, high, filled, window = raw
        if not count:
            return not any(raw)
        return (total, last, low, high, filled, window) == (
            0.125 * count, 0.125, 0.125, 0.125, min(count, 7), 0.125 * min(count, 7),  # type: ignore[operator,call-overload]
        )  # fmt: skip
    a, b, size, text, d = raw
    return a == b == -d and text[:size] == text[:1] * size  # type: ignore[index,operator]


def overhear(home: str, rate: float | None, reads: int) -> Iterator[tuple[int, int, list[str]]]:
    """Run `hot_writer` in a forked child and `hot_reads` here. Only for processes of one thread."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            hot_writer(home, rate, writing)
        finally:
            os._exit(1)
    os.close(writing)
    everywhere = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    _run_on(0)
    try:
        path = os.read(reading, 4096).decode()
        os.close(reading)
        yield from hot_reads(path, reads)
    finally:
        if everywhere:
            os.sched_setaffinity(0, everywhere)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
