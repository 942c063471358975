"""What every Python process can tell of itself: memory, CPU time, threads, greenlets, tasks, descriptors, GC.

`Runtime.look` reads it all and keeps it in stats; who calls it decides how often. It takes no lock
that a greenlet may hold and imports nothing, so a native thread may call it.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from mmstats.fields import CounterField, GaugeField
from mmstats.model import BaseMmStats

#: The part of a CPU that counting greenlets, tasks and descriptors may take.
SHARE = 0.0005

#: Blocks of memory beyond which nobody looks through all objects: that would hold everything up for over 10 ms.
MAX_BLOCKS = 1_000_000

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class RuntimeStats(BaseMmStats):
    """What every Python process can tell of itself."""

    rss = GaugeField(name="runtime.rss", unit="bytes", help="Resident memory")
    cpu = CounterField(name="runtime.cpu", unit="seconds", help="CPU time, user and system", type=float)
    threads = GaugeField(name="runtime.threads", help="Threads of the operating system")
    greenlets = GaugeField(name="runtime.greenlets", help="Greenlets, parked ones included")
    tasks = GaugeField(name="runtime.tasks", help="asyncio tasks that are not done")
    fds = GaugeField(name="runtime.fds", help="Open file descriptors")
    lag = GaugeField(name="runtime.lag", unit="seconds", aggregate="max", help="How late the event loop or hub is")
    collections = CounterField(name="runtime.gc.collections", labelnames=("generation",), help="Runs of the collector")


def rss() -> int:
    """Resident memory in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def thread_count() -> int:
    """Threads of this process, native ones included."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return len(sys._current_frames())


def fd_count() -> int:
    """Open file descriptors; -1 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return -1


class Rarely:
    """Calls something that may take long so rarely that it takes `SHARE` of a CPU at most."""

    def __init__(self, function: Callable[[], int], least: float = 5.0) -> None:
        self._function = function
        self._least = least
        self._next = 0.0
        self.value = -1

    def get(self) -> int:
        began = time.monotonic()
        if began >= self._next:
            self.value = self._function()
            took = time.monotonic() - began
            self._next = began + max(self._least, took / SHARE)
        return self.value


def greenlet_count() -> int:
    """All greenlets of the process that have not ended; -1 where there are none, or too much to look through."""
    kind = getattr(sys.modules.get("greenlet"), "greenlet", None)
    if kind is None or sys.getallocatedblocks() > MAX_BLOCKS:
        return -1
    # By their real types: to ask lazy objects and proxies for their __class__ calls the program's code.
    return sum([issubclass(type(found), kind) and not found.dead for found in gc.get_objects()])


def task_count() -> int:
    """asyncio tasks that are not done, in all loops; -1 where asyncio is not in use."""
    tasks = sys.modules.get("asyncio.tasks")
    if tasks is None:
        return -1
    known: Any = getattr(tasks, "_scheduled_tasks", None) or getattr(tasks, "_all_tasks", ())
    try:
        return sum([not task.done() for task in list(known)])
    except RuntimeError:
        return -1  # another thread made one meanwhile


class Runtime:
    """The runtime stats of this process, and what it takes to keep them."""

    def __init__(self, path: str | None = None) -> None:
        """`path` is the directory of the stat file, if not the usual one."""
        self.stats = RuntimeStats(path)
        self._fds = Rarely(fd_count)
        self._counts = {"greenlets": -1, "tasks": -1}
        self._cpu = 0.0
        self._collections = [0, 0, 0]

    def count(self) -> None:
        """Count greenlets and tasks, for the next `look`.

        To be called in the main thread's hub or loop: elsewhere the last reference to an object could be
        ours for a moment, and it would end in a thread that is not its own.
        """
        self._counts["greenlets"] = greenlet_count()
        self._counts["tasks"] = task_count()

    def look(self, lag: float | None = None) -> dict[str, float]:
        """Read everything, keep it, and return it; `lag` of the event loop is known to the caller only."""
        stats = self.stats
        cpu = time.process_time()
        # A forked child begins again at 0.
        stats.cpu.inc(cpu - self._cpu if cpu >= self._cpu else cpu)
        self._cpu = cpu
        values = {"rss": float(rss()), "cpu": round(cpu, 6), "threads": float(thread_count())}
        stats.rss.set(values["rss"])
        stats.threads.set(values["threads"])
        self._counts["fds"] = self._fds.get()
        gauges = {"greenlets": stats.greenlets, "tasks": stats.tasks, "fds": stats.fds}
        for name, gauge in gauges.items():
            found = self._counts[name]
            if found >= 0:
                gauge.set(found)
                values[name] = found
        if lag is not None:
            stats.lag.set(lag)
            values["lag"] = round(lag, 6)
        for generation, counts in enumerate(gc.get_stats()[:3]):
            runs = counts["collections"]
            if runs != self._collections[generation]:
                stats.collections.labels(generation).inc(max(runs - self._collections[generation], 0))
                self._collections[generation] = runs
        return values
