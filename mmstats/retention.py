"""Which files of dead processes stay and which go. Nothing of a live or unknown process goes, ever."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from typing import NamedTuple

from . import directory, layout, process
from .errors import FormatError
from .life import Witnesses, life

#: Dead files that a new process leaves of its own service.
KEEP = 5
#: The part of the file system that they may take together.
SHARE = 8
#: Seconds after which what was left of a file in the making may go.
STALE = 60


class Dead(NamedTuple):
    """A file whose writer is known to be dead. `size` is bytes of disk, companions included; times are ns."""

    path: str
    size: int
    created: int


def writer_of(path: str, witnesses: Witnesses | None = None) -> tuple[layout.Header, process.Life, os.stat_result]:
    """A file's header and whether its writer lives. Raises `OSError` and `FormatError`."""
    flags = os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FormatError("not a regular file")
        header = layout.decode_header(os.pread(descriptor, layout.HEADER_BYTES, 0))
        return header, life(descriptor, header, found, witnesses or Witnesses()), found
    finally:
        os.close(descriptor)


def dead_files(paths: Iterable[str]) -> list[Dead]:
    """Those of `paths` whose writers are known to be dead, the newest first."""
    dead = []
    witnesses = Witnesses()
    for path in paths:
        try:
            header, verdict, found = writer_of(path, witnesses)
        except (OSError, FormatError):
            continue  # not ours to judge, so not ours to delete
        if verdict.alive is False:
            size = directory.disk_bytes(found) + sum([_size(companion) for companion in companions(path)])
            dead.append(Dead(path, size, header.created))
    dead.sort(key=lambda file: file.created, reverse=True)
    return dead


def companions(path: str) -> list[str]:
    """The files that go with a stat file, whether they exist or not."""
    stem = path.removesuffix(layout.SUFFIX)
    return [stem + suffix for suffix in layout.COMPANIONS]


def _size(path: str) -> int:
    try:
        return directory.disk_bytes(os.lstat(path))
    except OSError:
        return 0


def surplus(
    dead: list[Dead], *, keep: int | None = None, max_bytes: int | None = None, max_age: float | None = None
) -> list[Dead]:
    """Which of `dead` (the newest first) go: beyond a number, a sum of bytes, an age in seconds."""
    going = []
    kept = used = 0
    oldest = time.time_ns() - int(max_age * 1e9) if max_age is not None else None
    for file in dead:
        if (
            (keep is not None and kept >= keep)
            or (max_bytes is not None and used + file.size > max_bytes)
            or (oldest is not None and file.created < oldest)
        ):
            going.append(file)
        else:
            kept += 1
            used += file.size
    return going


def remove(files: Iterable[Dead]) -> list[Dead]:
    """Delete `files`, having looked at each again; returns those that are gone."""
    gone = []
    for file in files:
        try:
            if writer_of(file.path)[1].alive is False:
                for companion in companions(file.path):
                    _unlink(companion)
                os.unlink(file.path)
                gone.append(file)
        except (OSError, FormatError):
            continue
    return gone


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # there is none, or somebody else was faster


def prune_service(home: str, service: str) -> list[Dead]:
    """What a new process does before it makes its file: leave few dead ones of its own service."""
    try:
        names = os.listdir(home)
    except OSError:
        return []
    for name in names:
        if name.startswith(".") and name.endswith(".tmp") and service_of(_stat_file(name[1:-4])) == service:
            remove_unfinished(os.path.join(home, name))
        elif name.endswith(layout.COMPANIONS) and service_of(_stat_file(name)) == service:
            _remove_orphan(os.path.join(home, name))
    mine = [os.path.join(home, name) for name in names if service_of(name) == service]
    if not mine:
        return []
    try:
        system = os.statvfs(home)
        share = system.f_blocks * system.f_frsize // SHARE or None  # a tmpfs without a limit says 0
    except OSError:
        share = None
    return remove(surplus(dead_files(mine), keep=KEEP, max_bytes=share))


def service_of(name: str) -> str | None:
    """The service in a file's name, ``<service>-<pid>-<8 of the uuid>.mmstats``; None for other names."""
    if not name.endswith(layout.SUFFIX):
        return None
    parts = name[: -len(layout.SUFFIX)].rsplit("-", 2)
    return parts[0] if len(parts) == 3 and parts[1].isdigit() and len(parts[2]) == 8 else None


def _stat_file(name: str) -> str:
    """The stat file that goes with a file of this name: itself, unless that is a companion's."""
    stem, suffix = os.path.splitext(name)
    return stem + layout.SUFFIX if suffix in layout.COMPANIONS else name


def _remove_orphan(path: str) -> None:
    """Delete what lay beside a stat file that is gone, if its process is gone too."""
    if os.path.lexists(_stat_file(path)):
        return
    try:
        if time.time() - os.lstat(path).st_mtime > STALE and _orphaned(path):
            os.unlink(path)
    except (OSError, ValueError):
        pass  # somebody else was faster


def _orphaned(path: str) -> bool:
    """Whether the process is gone that made a companion. Raises `OSError` and `ValueError`."""
    stem = os.path.splitext(path)[0]
    for other in companions(_stat_file(path)):
        try:
            return writer_of(other)[1].alive is False
        except (OSError, FormatError):
            continue  # there is none, or nothing in it tells who made it: then the name has to do
    return process.start_ticks(int(stem.rsplit("-", 2)[1])) is None


def remove_unfinished(path: str) -> None:
    """Delete what a process left that was killed while it made its file, but not one that was stopped."""
    try:
        if time.time() - os.lstat(path).st_mtime > STALE and not _being_made(path):
            os.unlink(path)
    except OSError:
        pass  # somebody else was faster


def _being_made(path: str) -> bool:
    try:
        return writer_of(path)[1].alive is True
    except FormatError:
        return False  # nothing is in it yet


def free_name(home: str, name: str, pid: int) -> str:
    """`name`, or `name` with the pid in it where a file of that name may belong to somebody alive."""
    path = os.path.join(home, name)
    remove_unfinished(os.path.join(home, f".{name}.tmp"))
    if not os.path.lexists(path):
        return name
    try:
        alive = writer_of(path)[1].alive
    except (OSError, FormatError):
        alive = _version_1_alive(path)
    if alive is False:
        return name
    stem, suffix = os.path.splitext(name)
    names = [f"{stem}-{pid}{suffix}", *[f"{stem}-{pid}-{number}{suffix}" for number in range(2, 100)]]
    return next((other for other in names if not os.path.lexists(os.path.join(home, other))), names[0])


def _version_1_alive(path: str) -> bool | None:
    """A file of mmstats 0.x, which the program is about to replace as 0.x itself did, is dead."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not stop us
        try:
            return False if os.read(descriptor, 1) == b"\x01" else None
        finally:
            os.close(descriptor)
    except OSError:
        return None
