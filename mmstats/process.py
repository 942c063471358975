"""Who a process is, and whether the writer of a file still lives: yes, no, or unknown.

A pid says little: pids are reused, and every container has its own. So a process is known by its
pid, its start time, the boot it runs under and the pid namespace that the pid belongs to, and its
life is witnessed by a lock on its file that the kernel drops when it dies, however it dies.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # not a POSIX system: no locks, life is unknown there
    fcntl = None  # type: ignore[assignment]


class Identity(NamedTuple):
    """A process: `start_ticks` is its start in clock ticks since boot; 0 or zeros mean unknown."""

    pid: int
    start_ticks: int
    boot_id: bytes
    pid_namespace: int


class Life(NamedTuple):
    """Whether a process lives: True, False, or None for unknown; `reason` says how that is known."""

    alive: bool | None
    reason: str


def boot_id() -> bytes:
    """16 bytes that change with each boot; zeros where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return bytes.fromhex(file.read().strip().replace(b"-", b"").decode("ascii"))[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return bytes(16)


def pid_namespace() -> int:
    """The inode number of this process' pid namespace; 0 where there is no such thing."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def start_ticks(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; 0 if that can't be told, None if it is dead.

    A zombie is dead: it holds no lock and runs no code. One with other threads is a process that
    lives on without its main thread. (proc(5), fields 3, 20 and 22 of ``stat``.)
    """
    try:
        # With the /proc of another pid namespace this would be about some other process.
        if os.readlink("/proc/self") == str(os.getpid()):
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The command name may hold anything, parentheses included: the last one ends it.
                fields = file.read().rpartition(b")")[2].split()
            ended = fields[0] == b"X" or (fields[0] == b"Z" and int(fields[17]) <= 1)
            return None if ended else int(fields[19])
    except (OSError, ValueError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        pass
    return 0


def myself() -> Identity:
    """The identity of this process."""
    pid = os.getpid()
    ticks = 0 if _shifted() else start_ticks(pid) or 0
    return Identity(pid, ticks, boot_id(), pid_namespace())


def _shifted() -> bool:
    """Whether a time namespace shows this process other start times than others see."""
    try:
        with open("/proc/self/timens_offsets", "rb") as file:
            return any(line.startswith(b"boottime") and line.split()[1:] != [b"0", b"0"] for line in file)
    except OSError:
        return False


def witness(pid: int, ticks: int) -> bool | None:
    """Whether the process of this pid and start time runs in our namespace; None for unknown."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    found = start_ticks(pid)
    if found is None:
        return False
    if not found or not ticks:
        return None
    return True if found == ticks else None if _shifted() else False


_LOCKED = Life(True, "its file is locked")
_GONE = Life(False, "no such process")


def judge(
    *,
    closed: bool,
    locked: bool,
    held: bool | None,
    original: bool,
    same_boot: bool | None,
    same_namespace: bool,
    running: bool | None,
) -> Life:
    """Weigh what is known of a file's writer. A pure function; the table in the docs is its test.

    closed: the file says that its writer closed it
    locked: the writer took a lock when it made the file
    held: someone holds that lock now; None if the system can't tell
    original: the file is the one that the writer made, not a copy of it
    same_boot: written since this machine's boot; None if unknown
    same_namespace: the pid belongs to our pid namespace (of this boot)
    running: `witness` of the pid, where it belongs to our namespace
    """
    if not same_boot:
        if held:
            return _LOCKED
        if same_boot is False and original:
            return Life(False, "written before this machine was last started")
        return Life(None, "written under another boot or on another machine")
    if same_namespace:
        if running is False:
            return Life(False, "a child of it keeps its file") if held else _GONE
        if held:
            return _LOCKED
        if running is None:
            if locked and held is False and original:
                return Life(False, "the lock on its file is free")
            return Life(None, "the process of this pid can't be looked at")
        if original or closed:
            return Life(True, "a process of this pid and start time runs")
        return Life(None, "a copy of a live process' file")
    if held:
        return _LOCKED
    if locked and held is False and original:
        return Life(False, "the lock on its file is free")
    return Life(None, "of another pid namespace")


# Locks. An open-file-description lock dies with its description and not with the first close of
# any descriptor of the file, and F_OFD_GETLK lets a reader ask without taking anything.

_LOCK = struct.Struct("@hhqqi0q")
_CAN_LOCK = fcntl is not None and hasattr(fcntl, "F_OFD_SETLK") and sys.platform == "linux"


def lock(descriptor: int) -> bool:
    """Lock byte 0 of the file for as long as its open file description lasts; False if we can't."""
    if not _CAN_LOCK:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
    except OSError:
        return False
    return True


if _CAN_LOCK:
    _QUERY = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    _UNLOCKED = struct.pack("@h", fcntl.F_UNLCK)


def lock_held(descriptor: int) -> bool | None:
    """Whether someone holds the lock that `lock` takes; None if the system can't tell."""
    if not _CAN_LOCK:
        return None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _QUERY)
    except OSError:
        return None
    return answer[:2] != _UNLOCKED
