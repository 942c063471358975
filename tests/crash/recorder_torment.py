"""Writers of self-checking events, activities, logs and exceptions, that are killed or read at random moments.

Used by `test_recorder_kills` and the long tortures; all of it runs in processes of one thread that
fork the writers, since an import for each of hundreds would take longer than the rest.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mmdebug
import mmstats
from mmdebug.boxreader import _read_places, _sample, read_box
from mmdebug.layout import LOG, SAMPLE
from mmdebug.records import SEVERITIES, Box, Event

WRITERS = 3
#: Rounds between two exceptions of a writer, whose capture takes as long as hundreds of events.
RARELY = 25
#: Rounds that the smallest ring has room for several times over.
LATEST = 12

_ACKNOWLEDGED = struct.Struct("<II")
_log = logging.getLogger("torment")


def text_of(number: int) -> str:
    """A text of a length of its own, up to beyond what a field can hold."""
    return f"{number:08d}," * (1 + number * 7 % 60)


def checksum(who: int, number: int, text: str) -> int:
    return zlib.crc32(f"{who} {number} {text}".encode())


class TornError(Exception):
    """What writers raise, and capture."""


def _fail(who: int, number: int) -> None:
    text = text_of(number % 4)
    raise TornError(f"{who} {number} {checksum(who, number, text)}")


def write_round(who: int, number: int) -> None:
    """One of everything: an event, two nested activities, a log record, now and then an exception."""
    text = text_of(number)[:500]
    check = checksum(who, number, text)
    with mmdebug.activity("outer", who=who, number=number, check=checksum(who, number, "outer")):
        mmdebug.event("tick", who=who, number=number, text=text, check=check, severity=SEVERITIES[number % 4])
        with mmdebug.activity("inner", who=who, number=number, check=checksum(who, number, "inner")):
            _log.warning("round %d of %d: %d", number, who, checksum(who, number, "log"))
        if number % RARELY == 0:
            try:
                _fail(who, number)
            except TornError as error:
                mmdebug.capture_exception(error)


def write_for_ever(acknowledgements: int, interval: float = 0.05) -> None:
    """Record with several threads at once; write ``(who, number)`` to the pipe after each round."""
    from mmdebug import sanitize

    sanitize.SHARE = float("inf")  # in a flood most texts would not be looked at, and so not be kept
    sys.setswitchinterval(1e-4)
    mmdebug.install(service="victim", interval=interval)

    def work(who: int) -> None:
        number = 0
        while True:
            number += 1
            write_round(who, number)
            if acknowledgements >= 0:
                os.write(acknowledgements, _ACKNOWLEDGED.pack(who, number))

    for who in range(1, WRITERS):
        threading.Thread(target=work, args=(who,), name=f"writer {who}", daemon=True).start()
    work(0)


# What is wrong with a box.


def complaints(
    box: Box, acknowledged: Mapping[int, int] | None, latest: Sequence[tuple[int, int]] = ()
) -> Iterator[str]:
    """What must not be so, whenever the writer was killed or read.

    acknowledged: the last round of each writer that is known to have ended; None where it is still writing
    latest: ``(who, number)`` of the last rounds to end: too few for the rings to have overwritten them
    """
    yield from box.problems
    yield from _events(box, latest)
    yield from _activities(box, acknowledged)
    for record in box.exceptions:
        if record.type != "recorder_torment.TornError" or record.how != "captured" or record.error is None:
            yield f"an exception that nobody raised: {record}"
            continue
        who, number, check = [int(part) for part in record.error.message.split()]
        if check != checksum(who, number, text_of(number % 4)):
            yield f"an exception is garbled: {record.error.message}"
        shown = record.error.frames[-1].locals
        if (shown.get("who"), shown.get("number")) != (str(who), str(number)):
            yield f"an exception's locals are of another: {record.error.message}, {dict(shown)}"
        if record.count < number // RARELY or record.last < record.first:
            yield f"an exception's count does not fit: {record.count}, {record.error.message}"
    times = [sample.time for sample in box.samples]
    if times != sorted(times):
        yield "the samples are not in order"


def bad_tick(fields: Mapping[str, Any]) -> bool:
    """Whether an event's content contradicts its checksum."""
    if set(fields) != {"who", "number", "text", "check"}:
        return True
    return bool(checksum(fields["who"], fields["number"], fields["text"]) != fields["check"])


def _log_parts(event_name: str) -> tuple[int, int] | None:
    """``(who, number)`` of a log message; None if it is garbled."""
    try:
        head, check = event_name.split(": ")
        _, number, _, who = head.split(" ")
        good = int(check) == checksum(int(who), int(number), "log")
    except ValueError:
        return None
    return (int(who), int(number)) if good else None


def _events(box: Box, latest: Sequence[tuple[int, int]]) -> Iterator[str]:
    seen: dict[tuple[str, int, str], list[int]] = {}
    for event in box.events:
        if event.kind == "note" and event.name == "exception":
            continue
        where = _place_of(event)
        if where is None:
            yield f"garbled: {event}"
            continue
        who, number = where
        seen.setdefault((event.severity, who, event.kind), []).append(number)
    for (severity, who, kind), numbers in seen.items():
        step = 4 if kind == "event" else 1
        # The newest of a ring are all there, in the order in which their thread wrote them.
        if numbers != list(range(numbers[0], numbers[0] + step * len(numbers), step)):
            yield f"{kind}s of {who} in the ring {severity} are out of order or have holes: {numbers[-40:]}"
    for who, number in latest:
        if number not in seen.get((SEVERITIES[number % 4], who, "event"), []):
            yield f"event {number} of {who} was acknowledged and is not there"
        if number not in seen.get(("warning", who, "log"), []):
            yield f"the log record of round {number} of {who} was acknowledged and is not there"


def _place_of(event: Event) -> tuple[int, int] | None:
    fields = event.fields
    if event.kind == "log":
        if event.logger != "torment" or " write_round" not in event.place or event.severity != "warning":
            return None
        return _log_parts(event.name)
    if event.kind != "event" or event.name != "tick" or event.cut or bad_tick(fields):
        return None
    if event.severity != SEVERITIES[int(str(fields["number"])) % 4]:
        return None
    return int(str(fields["who"])), int(str(fields["number"]))


def _activities(box: Box, acknowledged: Mapping[int, int] | None) -> Iterator[str]:
    seen: dict[tuple[Any, str], int] = {}
    for one in box.activities:
        fields = one.fields
        if one.name not in ("outer", "inner") or fields.get("check") != checksum(
            fields.get("who"),
            fields.get("number"),
            one.name,  # type: ignore[arg-type]
        ):
            yield f"an activity is garbled: {one}"
            continue
        if (fields["who"], one.name) in seen:
            yield f"{fields['who']} is twice in {one.name}"
        seen[fields["who"], one.name] = int(str(fields["number"]))
        if acknowledged is not None:
            if fields["number"] != acknowledged.get(int(str(fields["who"])), 0) + 1:
                yield f"{one} is in flight, and {acknowledged} were acknowledged"
            if one.depth != (one.name == "inner"):
                yield f"an activity is at a wrong depth: {one}"
    if acknowledged is not None:
        for (who, name), number in seen.items():
            if name == "inner" and seen.get((who, "outer")) != number:
                yield f"{who} is in the inner activity {number} and not in the outer one"


# Kills.


def warm_up() -> None:
    """Import all that a writer imports, and install nothing here."""
    from mmdebug import box, installation
    from mmdebug.capture import exceptions as capture
    from mmdebug.capture import saferepr

    del box, capture, installation, saferepr


def _forked(home: str, acknowledgements: int, interval: float = 0.05) -> None:
    """In a forked child: write until killed."""
    try:
        os.environ["MMSTATS_PATH"] = home
        write_for_ever(acknowledgements, interval)
    finally:
        os._exit(1)


def kill_one(home: str, rng: random.Random) -> tuple[int, list[str]]:
    """Fork a writer, kill it at a random moment, and judge what it left.

    Returns how many rounds it had acknowledged, and what is wrong. Only for processes of one thread.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _forked(home, writing)
    os.close(writing)
    received = bytearray()
    # From the first instants, when the files are being made, to hundreds of rounds later.
    end = time.monotonic() + rng.choice((0.02, 0.06, 0.15)) * rng.random()
    while (left := end - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            data = os.read(reading, 65536)
            if not data:
                break
            received += data
    os.kill(pid, signal.SIGKILL)
    while data := os.read(reading, 65536):
        received += data
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    wrong = []
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        wrong.append(f"the writer ended by itself: {status}")
    rounds = list(_ACKNOWLEDGED.iter_unpack(received))
    acknowledged, latest = dict(rounds), rounds[-LATEST:]
    total = sum(acknowledged.values())
    files = [os.path.join(home, name) for name in os.listdir(home) if f"-{pid}-" in name]
    boxes = [path for path in files if path.endswith(".box") and os.path.basename(path)[0] != "."]
    if total and len(boxes) != 1:
        wrong.append(f"{total} rounds were acknowledged, and there is {files}")
    for path in boxes:
        wrong += [f"{path}: {line}" for line in complaints(read_box(path), acknowledged, latest)]
        wrong += [f"{path}: {line}" for line in _whole(path, pid)]
    if not wrong:
        for path in files:
            os.unlink(path)
    return total, wrong


def _whole(path: str, pid: int) -> Iterator[str]:
    """What is wrong with the post-mortem as a whole."""
    stats = path.removesuffix(".box") + ".mmstats"
    if not os.path.exists(stats):
        yield "there is no stat file beside it"
        return
    found = mmdebug.load(stats)
    if found.verdict.state != "died" or found.process.pid != pid:
        yield f"{found.process.pid} is said to be {found.verdict.state}: {found.verdict.summary}"
    if not found.verdict.causes or found.verdict.causes[0].name != "killed":
        yield f"another cause than a kill: {found.verdict.summary}"
    if any([cause.confidence != "possible" for cause in found.verdict.causes]):
        yield f"surer than it can be: {found.verdict}"
    yield from found.problems


# Live reads.


def overhear(home: str, reads: int) -> Iterator[tuple[int, int, list[str]]]:
    """Read a box again and again while a forked writer writes at full speed; ``(reads, records, what is wrong)``."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        os.close(writing)
        _forked(home, -1)
    os.close(writing)
    os.close(reading)
    try:
        box = _await_box(home, pid)
        records = 0
        wrong: list[str] = []
        for turn in range(1, reads + 1):
            records += _read_raw(box, wrong)
            if turn % 20 == 0:
                found = read_box(box)
                records += len(found.events) + len(found.activities)
                wrong += [line for line in complaints(found, None) if "holes" not in line]
                yield turn, records, wrong
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _await_box(home: str, pid: int) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for name in os.listdir(home):
            if f"-{pid}-" in name and name.endswith(".box") and name[0] != ".":
                path = os.path.join(home, name)
                try:
                    if len(read_box(path).events) > 100:
                        return path
                except mmstats.MmStatsError:
                    pass
        time.sleep(0.01)
    raise AssertionError("the writer does not write")


def _read_raw(path: str, wrong: list[str]) -> int:
    """Only the rings and slots, which are what changes; returns how many records there were."""
    places, problems = _read_places(path)
    wrong += problems
    count = 0
    for family, content in places:
        if content.damaged:
            wrong.append(f"{content.damaged} damaged in {family.name}")
        count += len(content.records)
        for record in content.records:
            fields = dict(record.fields)
            name = fields.pop("", "")
            if family.name == "activities":
                if fields.get("check") != checksum(fields.get("who"), fields.get("number"), str(record.fields[0][1])):  # type: ignore[arg-type]
                    wrong.append(f"a live activity is garbled: {record}")
            elif family.name == "samples":
                if record.kind != SAMPLE or _sample(record, None).time != record.time:
                    wrong.append(f"a live sample is garbled: {record}")
            elif record.kind == LOG:
                if _log_parts(str(record.fields[0][1])) is None:
                    wrong.append(f"a live log record is garbled: {record}")
            elif name == "tick" and bad_tick(fields):
                wrong.append(f"a live event is garbled: {record}")
            elif name not in ("tick", "exception"):
                wrong.append(f"a live record that nobody wrote: {record}")
    return count
