"""A writer's file: made whole under another name, mapped, locked, grown, and closed.

Space is reserved before it is touched, so a full disk is an error here and never a SIGBUS in the
program. The file is long and mostly a hole: definitions grow from its first page, values from its
middle, and nothing ever moves or is mapped again.
"""

from __future__ import annotations

import _thread
import errno
import mmap
import os
import stat
import struct
import time
from collections.abc import Callable
from typing import Any

from . import cells, layout, process
from .errors import SegmentError

#: How much is reserved at a time.
CHUNK = 8192

#: Maps that could not be closed without closing a descriptor of somebody else. Kept, so that
#: nothing closes them later either.
_abandoned: list[Any] = []

Prepare = Callable[[memoryview, int], bool]


def file_name(service: str, pid: int, uuid: bytes) -> str:
    """``<service>-<pid>-<8 of the uuid>.mmstats``"""
    return f"{service}-{pid}-{uuid[:4].hex()}{layout.SUFFIX}"


class PrivateMemory:
    """Stands in for a file where there is none: what is recorded works, and nobody else sees it."""

    path = None

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0

    def add(self, encode: Callable[[int], bytes], size: int, prepare: Prepare | None, *, limited: bool) -> bool:
        """As `Segment.add`."""
        needed = len(encode(0)) + size
        if limited and self._used + needed > self.limit:
            return False
        self._used += needed
        if prepare is not None:
            prepare(memoryview(bytearray(max(size, 8))), 0)
        return True

    @property
    def size(self) -> int:
        return self._used

    def flush(self) -> None:
        """Nothing is to be written anywhere."""

    def close(self) -> None:
        """Nothing is to be closed."""


class Segment:
    """One stat file that this process writes."""

    def __init__(
        self,
        directory: str,
        name: str,
        uuid: bytes,
        identity: list[tuple[str, tuple[str, ...]]],
        *,
        limit: int,
        mode: int,
        populate: Callable[[Segment], None],
    ) -> None:
        """Make the file, have `populate` add what it shall hold from the start, and put it in place.

        `limit` is what it may take of the disk, in bytes. Raises `OSError` if there is no room or
        no permission, and then leaves nothing behind.
        """
        self.limit = limit
        self.uuid = uuid
        self._lock = _thread.RLock()
        self._writing = 0
        # Some is left for overflow series, and for the parts of chunks that are reserved and not used.
        self._room = limit - 3 * CHUNK if limit >= 8 * CHUNK else limit - CHUNK // 2
        self._region = 2 * _pages(limit)
        texts = b"".join([layout.encode_identity(key, values) for key, values in identity])
        first = _pages(layout.HEADER_BYTES + len(texts) + layout.RECORD_BYTES)
        self._definitions = first
        self._definitions_reserved = 0
        self._values_at = first + self._region
        self._values = self._values_at
        self._values_reserved = self._values_at
        self._end = self._values_at + self._region

        temporary = os.path.join(directory, f".{name}.tmp")
        self.path = os.path.join(directory, name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
        self._descriptor = os.open(temporary, flags, 0o600)
        try:
            os.fchmod(self._descriptor, mode)
            found = os.fstat(self._descriptor)
            self._file = (found.st_dev, found.st_ino)
            os.ftruncate(self._descriptor, self._end)
            self._reserve(first + CHUNK // 2, self._values_at + CHUNK)
            self._map, self._map_descriptor = _map(temporary, self._end, self._file)
            self.view = memoryview(self._map)
            who = process.myself()
            header = layout.Header(
                minor=layout.MINOR, first_definition=first, committed=first, state=layout.STARTING,
                uuid=uuid, created=time.time_ns(), pid=who.pid, start_ticks=who.start_ticks, boot_id=who.boot_id,
                pid_namespace=who.pid_namespace, inode=found.st_ino,
            )  # fmt: skip
            padding = layout.encode_padding(first - layout.HEADER_BYTES - len(texts))
            self.view[layout.HEADER_BYTES : first] = texts + padding
            self.view[: layout.HEADER_BYTES] = header.encode()
            populate(self)
            flags = layout.LOCKED if process.lock(self._descriptor) else 0
            header = header._replace(committed=self._definitions, state=layout.LIVE, flags=flags)
            self.view[: layout.HEADER_BYTES] = header.encode()
            os.rename(temporary, self.path)
        except BaseException:
            self.release()
            for leftover in (temporary, self.path):
                try:
                    os.unlink(leftover)
                except OSError:
                    pass
            raise

    def add(self, encode: Callable[[int], bytes], size: int, prepare: Prepare | None, *, limited: bool) -> bool:
        """Add a record, and a value cell of `size` bytes if it has one; False if there is no room.

        `encode` is given the cell's offset. `prepare` is given the view and the offset while no
        reader sees the record yet; it returns False where the record is not wanted any more. With
        `limited`, what would pass the limit is refused; without, twice the limit is the end. A full
        disk raises `OSError`.
        """
        with self._lock:
            while True:
                definitions, values = self._definitions, self._values
                record = encode(values if size else 0)
                after, values_after = definitions + len(record), values + size
                if after > self._values_at or values_after > self._end:
                    return False
                if limited and after + values_after - self._values_at > self._room:
                    return False
                self._reserve(after, values_after)
                # A signal handler or a GC callback may have added something in between.
                # Compared without a tuple, since to make one may run a GC callback.
                if definitions == self._definitions and values == self._values:
                    break
            self._definitions, self._values = after, values_after
            self._writing += 1
            try:
                self.view[definitions:after] = record
                if prepare is not None and not prepare(self.view, values):
                    self.view[definitions:after] = layout.encode_padding(len(record))
            except BaseException:
                # Raised by a signal handler, say: leave no gap that readers stop at.
                self.view[definitions:after] = layout.encode_padding(len(record))
                raise
            finally:
                self._writing -= 1
                self._commit()
            return True

    def _commit(self) -> None:
        """Show readers all that is whole: also what a signal handler added meanwhile, behind our own."""
        committed = -1
        while not self._writing and committed != self._definitions:
            committed = self._definitions
            # Uncompiled, a handler can come in here and commit more; then it has to be said again.
            cells.publish(self.view, layout.COMMITTED_AT, committed)

    def _reserve(self, definitions: int, values: int) -> None:
        """Have the file system set the space aside. Raises `OSError` if it can't."""
        if definitions > self._definitions_reserved:
            end = min(_chunks(definitions), self._values_at)
            self._allocate(self._definitions_reserved, end)
            self._definitions_reserved = end
        if values > self._values_reserved:
            end = min(self._values_at + _chunks(values - self._values_at), self._end)
            self._allocate(self._values_reserved, end)
            self._values_reserved = end

    def _allocate(self, start: int, end: int) -> None:
        self._ensure_descriptor()
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._descriptor, start, end - start)
                return
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
        while start < end:
            start += os.pwrite(self._descriptor, bytes(end - start), start)

    def _ensure_descriptor(self) -> None:
        """Open the file again if a daemon's start closed our descriptor; its number may be another's."""
        if _names(self._descriptor, self._file):
            return
        descriptor = os.open(self.path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC)
        if not _names(descriptor, self._file):
            os.close(descriptor)
            raise SegmentError(f"{self.path} is no longer the file that this process made")
        self._descriptor = descriptor
        process.lock(descriptor)

    def rename(self, name: str) -> None:
        """Give the file another name in its directory. Raises `OSError`."""
        path = os.path.join(os.path.dirname(self.path), name)
        os.rename(self.path, path)
        self.path = path

    @property
    def size(self) -> int:
        """Bytes of the file system that the file takes."""
        return self._definitions_reserved + self._values_reserved - self._values_at

    def values(self) -> tuple[int, bytes]:
        """Where the value cells begin in the file, and the bytes of all of them so far."""
        return self._values_at, bytes(self.view[self._values_at : self._values])

    def flush(self) -> None:
        """Have the kernel write the file to its disk, if it has one."""
        self._map.flush()

    def close(self) -> None:
        """Write that the process ended cleanly. The cells stay usable: late records are not lost."""
        view = self.view
        view[layout.CLOSED_AT : layout.CLOSED_AT + 8] = struct.pack("<Q", time.time_ns())
        cells.publish(view, layout.STATE_AT, layout.CLOSED)

    def release(self) -> None:
        """Let go of the map and of the descriptors, if they are still ours. No cell may be bound."""
        if _names(self._descriptor, getattr(self, "_file", None)):
            os.close(self._descriptor)
        self._descriptor = -1
        view, mapped = getattr(self, "view", None), getattr(self, "_map", None)
        self.view = memoryview(b"")
        if mapped is None:
            return
        del self._map
        try:
            if view is not None:
                view.release()
            if self._map_descriptor is None or _names(self._map_descriptor, self._file):
                mapped.close()
                return
        except BufferError:
            pass  # a cell in some thread's hands still points into it
        _abandoned.append((mapped, view))

    def remove(self) -> None:
        """Delete the file, if the name is still its own, and let go of it."""
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._file:
                os.unlink(self.path)
        except OSError:
            pass  # it is gone, or the directory was closed to us
        self.release()


def _pages(size: int) -> int:
    return (size + layout.PAGE - 1) // layout.PAGE * layout.PAGE


def _chunks(size: int) -> int:
    return (size + CHUNK - 1) // CHUNK * CHUNK


def _names(descriptor: int | None, file: tuple[int, int] | None) -> bool:
    """Whether `descriptor` is open and is of this device and inode."""
    if descriptor is None or descriptor < 0:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == file and stat.S_ISREG(found.st_mode)


def _map(path: str, length: int, file: tuple[int, int]) -> tuple[mmap.mmap, int | None]:
    """Map a file through an open file description of its own, and find the map's descriptor.

    Its own, because a map pins its description: a child that keeps the map would keep the lock.
    Python's mmap duplicates the descriptor and will one day close that number, whatever it names
    by then; so the number must be known (3.13 can do without it).
    """
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC)
    try:
        if not _names(descriptor, file):
            raise OSError(f"{path} was replaced while it was being made")
        try:
            return mmap.mmap(descriptor, length, trackfd=False), None  # type: ignore[call-arg]
        except TypeError:
            pass  # before 3.13
        guess = os.dup(descriptor)
        os.close(guess)
        mapped = mmap.mmap(descriptor, length)
        if _names(guess, file):
            return mapped, guess
        # Another thread opened something at that moment.
        for number in range(3, 4096):
            if number != descriptor and _names(number, file):
                return mapped, number
        return mapped, -1
    finally:
        os.close(descriptor)
