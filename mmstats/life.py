"""Whether the writer of an open file lives: what `process` knows, applied to a header."""

from __future__ import annotations

import os

from . import layout, process


class Witnesses:
    """Remembers, for the length of one look at many files, which processes were found running."""

    def __init__(self) -> None:
        self.me = process.myself()
        self._known: dict[tuple[int, int], bool | None] = {}

    def running(self, pid: int, start_ticks: int) -> bool | None:
        key = (pid, start_ticks)
        if key not in self._known:
            self._known[key] = process.witness(pid, start_ticks)
        return self._known[key]


def life(descriptor: int, header: layout.Header, found: os.stat_result, witnesses: Witnesses) -> process.Life:
    """Whether the writer of an open file lives."""
    me = witnesses.me
    same_boot: bool | None = header.boot_id == me.boot_id
    if me.boot_id == _UNKNOWN or header.boot_id == _UNKNOWN:
        same_boot = None
    original = header.inode == found.st_ino
    if not same_boot and not os.major(found.st_dev):
        # A network file system, or one shared by virtual machines: the writer may live elsewhere.
        original = False
    same_namespace = bool(same_boot and header.pid_namespace and header.pid_namespace == me.pid_namespace)
    return process.judge(
        closed=header.state == layout.CLOSED,
        locked=bool(header.flags & layout.LOCKED),
        held=process.lock_held(descriptor),
        original=original,
        same_boot=same_boot,
        same_namespace=same_namespace,
        running=witnesses.running(header.pid, header.start_ticks) if same_namespace else None,
    )


_UNKNOWN = bytes(16)
