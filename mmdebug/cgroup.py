"""The memory cgroup of a process: its limit, its use, and how many the kernel killed in it for lack of memory.

Read only. cgroup v1 and v2, both at once, and from within a container, where the path that
/proc tells may be one of the host's that can't be seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

#: A limit of so many bytes is none: v1 says the largest number of whole pages.
_UNLIMITED = 1 << 60
#: Directories to climb at most, and bytes to read of a file.
_DEPTH = 64
_MOST = 65536


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """A memory cgroup as it was when it was read. None is not known, or, of `limit`, none.

    path: its directory
    oom_kills: how many of its processes the kernel killed for lack of memory, so far
    limit: bytes, the smallest of its own and of those above it that can be seen
    usage: bytes
    """

    path: str
    oom_kills: int | None
    limit: int | None
    usage: int | None


def memory_cgroup(pid: int | str = "self", root: str = "/sys/fs/cgroup", proc: str = "/proc") -> MemoryCgroup | None:
    """The memory cgroup of a process; None where there is none, or where it can't be read."""
    lines = _read(f"{proc}/{pid}/cgroup")
    if lines is None:
        return None
    v1 = v2 = None
    for line in lines.splitlines():
        _, first, rest = line.partition(":")
        controllers, second, path = rest.partition(":")
        if not (first and second):
            continue
        if "memory" in controllers.split(","):
            v1 = path
        elif not controllers:
            v2 = path
    # Where both are mounted, memory belongs to v1 if v1 has it.
    if v1 is not None:
        return _v1(f"{root}/memory", v1)
    if v2 is not None:
        unified = f"{root}/unified"
        return _v2(unified if os.path.isdir(unified) else root, v2)
    return None


def _v1(mount: str, path: str) -> MemoryCgroup | None:
    home = _directory(mount, path)
    if not os.path.exists(f"{home}/memory.limit_in_bytes"):
        return None
    return MemoryCgroup(
        home,
        _named(f"{home}/memory.oom_control", "oom_kill"),
        _lowest(mount, home, "memory.limit_in_bytes"),
        _number(_read(f"{home}/memory.usage_in_bytes")),
    )


def _v2(mount: str, path: str) -> MemoryCgroup | None:
    # Where a cgroup has no memory controller, the nearest one above it that has counts its memory.
    for home in _upwards(mount, _directory(mount, path)):
        if os.path.exists(f"{home}/memory.events"):
            return MemoryCgroup(
                home,
                _named(f"{home}/memory.events", "oom_kill"),
                _lowest(mount, home, "memory.max"),
                _number(_read(f"{home}/memory.current")),
            )
    return None


def _directory(mount: str, path: str) -> str:
    """Where `path` is to be seen; the mount's own root if it is a path of the host's."""
    parts = [part for part in path.split("/") if part]
    found = "/".join([mount, *parts])
    return found if parts and ".." not in parts and os.path.isdir(found) else mount


def _upwards(mount: str, home: str) -> Iterator[str]:
    for _ in range(_DEPTH):
        yield home
        if home == mount:
            return
        home = os.path.dirname(home)


def _lowest(mount: str, home: str, name: str) -> int | None:
    limits = [_number(_read(f"{above}/{name}")) for above in _upwards(mount, home)]
    return min((limit for limit in limits if limit is not None and limit < _UNLIMITED), default=None)


def _named(path: str, name: str) -> int | None:
    """The number on the line of this name."""
    for line in (_read(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value)
    return None


def _number(text: str | None) -> int | None:
    """The number in `text`; None for anything else, such as ``max``."""
    text = (text or "").strip()
    return int(text) if text.isdecimal() and len(text) <= 20 else None


def _read(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return None
