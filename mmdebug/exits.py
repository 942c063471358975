"""How a process ended, in the file that it left: written there by the parent that waited for it.

A file has one writer, who is dead by then, and a parent that waits is the only one who knows the
exit status: so it adds what it knows, as docs/format.md lets it. `read_exit` reads it back.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Sequence

from mmstats import layout
from mmstats.errors import FormatError
from mmstats.life import Witnesses, life
from mmstats.reader import Snapshot

from .records import Exit, SignalSent

#: Keys of the identity records that are added to a dead process' file.
EXIT = "exit"
REPORTED = "reported"

#: Signals that are kept of one process, the last ones.
SIGNALS = 8

#: Where the header has the exit status.
_STATUS_AT = 76
_MOST_NUMBER = (1 << 64) - 1


class _DeadFile:
    """A dead writer's file, open for an addition. Raises `OSError` and `FormatError` if it is not fit for one."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(path, flags)
        try:
            found = os.fstat(self.descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise FormatError("not a regular file of one name")
            # Root writes for its children of other users, such as gunicorn's workers.
            if os.geteuid() not in (0, found.st_uid):
                raise FormatError("another user's file")
            self.size = found.st_size
            self.witnesses = Witnesses()
            self.header = layout.decode_header(self.read(layout.HEADER_BYTES, 0))
            if life(self.descriptor, self.header, found, self.witnesses).alive is not False:
                raise FormatError("its writer is not known to be dead")
        except BaseException:
            os.close(self.descriptor)
            raise

    def __enter__(self) -> _DeadFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def read(self, size: int, at: int) -> bytes:
        return os.pread(self.descriptor, size, at)

    def ours(self, pid: int, start_ticks: int | None) -> bool:
        """Whether the child `pid` of this process wrote this, and nobody noted yet how it ended."""
        header, me = self.header, self.witnesses.me
        if header.pid != pid or header.exit_status != -1:
            return False
        if header.boot_id != me.boot_id or not me.pid_namespace or header.pid_namespace != me.pid_namespace:
            return False
        if not header.start_ticks or not me.start_ticks:
            return True
        if start_ticks:
            return header.start_ticks == start_ticks
        # Pids come round again: an older process' file is not our child's.
        return header.start_ticks >= me.start_ticks and self.fact("parent") in ("", str(me.pid))

    def fact(self, name: str) -> str:
        """The first text of an identity record that the file was made with; empty if it has none."""
        first = self.header.first_definition
        data = self.read(first, 0)
        for at, size, kind, _, _ in layout.records(data, layout.HEADER_BYTES, len(data)):
            if kind == layout.IDENTITY:
                key, values = layout.decode_identity(data[at + layout.RECORD_BYTES : at + size])
                if key == name:
                    return values[0] if values else ""
        return ""

    def write_status(self, status: int) -> None:
        os.pwrite(self.descriptor, struct.pack("<i", status), _STATUS_AT)

    def append(self, key: str, values: tuple[str, ...]) -> bool:
        """Add an identity record to the definitions, as docs/format.md says; False if there is no room."""
        if not _hold(self.descriptor):
            return False
        header = layout.decode_header(self.read(layout.HEADER_BYTES, 0))
        first, committed = header.first_definition, header.committed
        record = layout.encode_identity(key, values)
        end = committed + len(record)
        found = layout.records(self.read(committed, 0), first, committed)
        reached = found[-1][0] + found[-1][1] if found else first
        lowest = min((cell for *_, cell in found if cell), default=self.size)
        if reached != committed or end > min(lowest, self.size, layout.MAX_REGION):
            return False  # damaged, or full
        if os.pwrite(self.descriptor, record, committed) != len(record):
            return False
        os.pwrite(self.descriptor, struct.pack("<Q", end), layout.COMMITTED_AT)
        return True


def _hold(descriptor: int) -> bool:
    """Keep out others who add to the same dead file, until it is closed; False if they are at it.

    A lock of another kind than the one that shows the writer's life.
    """
    import fcntl

    for _ in range(100):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            os.sched_yield()
    return False


def record_exit(pid: int, ended: Exit, paths: Sequence[str], *, start_ticks: int | None = None) -> bool:
    """Write how the process `pid` ended into those of `paths` that are its own; False if there is none. Never raises.

    pid: a child of this process that was waited for
    start_ticks: when it started, in clock ticks since boot, where that was seen
    """
    try:
        newest: list[str] = []
        born = (0, 0)
        for path in paths:
            try:
                with _DeadFile(path) as file:
                    if not file.ours(pid, start_ticks):
                        continue
                    header = file.header
            except (OSError, FormatError):
                continue
            if newest and header.start_ticks == born[0] != 0:
                newest.append(path)
            elif (header.start_ticks, header.created) > born:
                newest, born = [path], (header.start_ticks, header.created)
        return [_write_exit(path, pid, ended) for path in newest].count(True) > 0
    except Exception:
        return False  # this runs within the program's own wait, which has to go on


def _write_exit(path: str, pid: int, ended: Exit) -> bool:
    try:
        with _DeadFile(path) as file:
            if file.header.pid != pid or file.header.exit_status != -1:
                return False
            # What was sent before the file was made may have been for an earlier process of this pid.
            file.append(EXIT, encode_exit(ended, file.header.created))
            # Last, since a reader who finds the status takes what there is beside it.
            file.write_status(ended.status)
            return True
    except (OSError, FormatError):
        return False


def mark_reported(path: str) -> bool:
    """Note in a dead process' file that people were told of its death; False if it can't be noted."""
    try:
        with _DeadFile(path) as file:
            return file.append(REPORTED, (str(time.time_ns()),))
    except (OSError, FormatError):
        return False


def was_reported(snapshot: Snapshot) -> bool:
    """Whether `mark_reported` was there."""
    return REPORTED in snapshot.identity


# The texts of the record.


def encode_exit(ended: Exit, since: int = 0) -> tuple[str, ...]:
    """The values of the record; of the signals, those that were sent after `since`, ns since the epoch."""
    texts = [f"time={ended.time}", f"parent={ended.parent}", f"parent_service={ended.parent_service}"]
    sent = [signal for signal in ended.signals if signal.time >= since]
    texts += [f"signal={signal.number}@{signal.time}" for signal in sent[-SIGNALS:]]
    if ended.oom_kills_before is not None:
        texts.append(f"oom_kills_before={ended.oom_kills_before}")
    if ended.oom_kills_after is not None:
        texts.append(f"oom_kills_after={ended.oom_kills_after}")
    if ended.cgroup:
        texts.append(f"cgroup={ended.cgroup[:256]}")
    if ended.max_rss:
        texts.append(f"max_rss={ended.max_rss}")
    return tuple(texts)


def decode_exit(texts: Sequence[str], status: int) -> Exit:
    """What the record's values say, for a wait status; what makes no sense is left out."""
    numbers: dict[str, int] = {}
    service = cgroup = ""
    signals: list[SignalSent] = []
    for text in texts[:64]:
        name, _, value = text.partition("=")
        if name == "parent_service":
            service = value[:64]
        elif name == "cgroup":
            cgroup = value[:256]
        elif name == "signal":
            number, _, when = value.partition("@")
            sent, at = _number(number), _number(when)
            if sent is not None and 0 < sent <= 64 and at is not None:
                signals.append(SignalSent(at, sent))
        else:
            found = _number(value)
            if found is not None:
                numbers[name] = found
    return Exit(
        status=status,
        time=numbers.get("time", 0),
        parent=numbers.get("parent", 0),
        parent_service=service,
        signals=tuple(signals[-SIGNALS:]),
        oom_kills_before=numbers.get("oom_kills_before"),
        oom_kills_after=numbers.get("oom_kills_after"),
        max_rss=numbers.get("max_rss", 0),
        cgroup=cgroup,
    )


def read_exit(snapshot: Snapshot) -> Exit | None:
    """What the process' parent wrote; None if no parent did. Its `time` is 0 where only the status is known."""
    status = snapshot.process.exit_status
    if status is None:
        return None
    return decode_exit(snapshot.identity.get(EXIT, ()), status)


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    number = int(text)
    return number if number <= _MOST_NUMBER else None
