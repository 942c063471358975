"""Which files of dead processes stay and which go. Nothing of a live or unknown process goes, ever."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass

from . import directory, layout, process
from .errors import FormatError

#: Dead files that a new process leaves of its own service.
KEEP = 5
#: The part of the file system that they may take together.
SHARE = 8
#: Seconds after which what was left of a file in the making may go.
STALE = 60


@dataclass(frozen=True, slots=True)
class Dead:
    """A file whose writer is known to be dead. `size` is bytes of disk, times are ns."""

    path: str
    size: int
    created: int


def writer_of(path: str) -> tuple[layout.Header, process.Life, os.stat_result]:
    """A file's header and whether its writer lives. Raises `OSError` and `FormatError`."""
    flags = os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FormatError("not a regular file")
        header = layout.decode_header(os.pread(descriptor, layout.HEADER_BYTES, 0))
        return header, life(descriptor, header, found), found
    finally:
        os.close(descriptor)


_here: process.Identity | None = None


def here() -> process.Identity:
    """The identity of this process, looked up once."""
    global _here
    if _here is None or _here.pid != os.getpid():
        _here = process.myself()
    return _here


def life(descriptor: int, header: layout.Header, found: os.stat_result) -> process.Life:
    """Whether the writer of an open file lives."""
    me = here()
    known = any(header.boot_id) and any(me.boot_id)
    same_boot = header.boot_id == me.boot_id if known else None
    same_namespace = bool(same_boot and header.pid_namespace and header.pid_namespace == me.pid_namespace)
    return process.judge(
        closed=header.state == layout.CLOSED,
        locked=bool(header.flags & layout.LOCKED),
        held=process.lock_held(descriptor),
        original=header.inode == found.st_ino,
        same_boot=same_boot,
        same_namespace=same_namespace,
        running=process.witness(header.pid, header.start_ticks) if same_namespace else None,
    )


def dead_files(paths: Iterable[str]) -> list[Dead]:
    """Those of `paths` whose writers are known to be dead, the newest first."""
    dead = []
    for path in paths:
        try:
            header, verdict, found = writer_of(path)
        except (OSError, FormatError):
            continue  # not ours to judge, so not ours to delete
        if verdict.alive is False:
            dead.append(Dead(path, directory.disk_bytes(found), header.created))
    dead.sort(key=lambda file: file.created, reverse=True)
    return dead


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
                os.unlink(file.path)
                gone.append(file)
        except (OSError, FormatError):
            continue
    return gone


def prune_service(home: str, service: str) -> list[Dead]:
    """What a new process does before it makes its file: leave few dead ones of its own service."""
    start = f"{service}-"
    try:
        names = os.listdir(home)
    except OSError:
        return []
    for name in names:
        if name.startswith(f".{start}") and name.endswith(layout.SUFFIX + ".tmp"):
            _remove_unfinished(os.path.join(home, name))
    mine = [os.path.join(home, name) for name in names if service_of(name) == service]
    if len(mine) <= 1:
        return []
    try:
        system = os.statvfs(home)
        share = system.f_blocks * system.f_frsize // SHARE
    except OSError:
        share = None
    return remove(surplus(dead_files(mine), keep=KEEP, max_bytes=share))


def service_of(name: str) -> str | None:
    """The service in a file's name, ``<service>-<pid>-<8 of the uuid>.mmstats``; None for other names."""
    if not name.endswith(layout.SUFFIX):
        return None
    parts = name[: -len(layout.SUFFIX)].rsplit("-", 2)
    return parts[0] if len(parts) == 3 and parts[1].isdigit() and len(parts[2]) == 8 else None


def _remove_unfinished(path: str) -> None:
    """Delete what a process left that was killed while it made its file."""
    try:
        if time.time() - os.lstat(path).st_mtime > STALE:
            os.unlink(path)
    except OSError:
        pass  # somebody else was faster


def free_name(home: str, name: str, pid: int) -> str:
    """`name`, or `name` with the pid in it where a file of that name may belong to somebody alive."""
    path = os.path.join(home, name)
    if not os.path.lexists(path):
        return name
    try:
        alive = writer_of(path)[1].alive
    except (OSError, FormatError):
        alive = _version_1_alive(path)
    if alive is False:
        return name
    stem, suffix = os.path.splitext(name)
    return f"{stem}-{pid}{suffix}"


def _version_1_alive(path: str) -> bool | None:
    """A file of mmstats 0.x, which the program is about to replace as 0.x itself did, is dead."""
    try:
        with open(path, "rb") as file:
            return False if file.read(1) == b"\x01" else None
    except OSError:
        return None
