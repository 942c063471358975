"""Native threads that wait in poll, can be woken by anybody, and step aside for a fork."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Any

from .. import native

#: Seconds that a fork waits for a thread to step aside.
PATIENCE = 0.5


def poller() -> Any:
    """``select.poll`` of the operating system's, also under gevent's patch."""
    return native.original("select", "poll")()


class Wake:
    """A descriptor that poll waits for, and that anybody makes ready by a call: threads, greenlets, signal handlers.

    It takes no lock and never blocks. A program that becomes a daemon closes descriptors that are not its
    own, and gets their numbers for its files: each use looks first whether it is still ours.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._file = identity(self._read)

    def __call__(self) -> None:
        try:
            if self._write >= 0 and identity(self._write) == self._file:
                os.write(self._write, b"\0")
        except OSError:
            pass  # it is full, so it is ready; or it has gone, and nobody waits

    def fileno(self) -> int:
        return self._read

    def spare(self) -> tuple[int, tuple[int, int]]:
        """One more descriptor of it, and what it is of. Raises `OSError`."""
        return os.dup(self._read), self._file

    def clear(self) -> bool:
        """Make it not ready again; False if it is not ours any more."""
        try:
            if identity(self._read) != self._file:
                return False
            os.read(self._read, 4096)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Only where nobody else can be in the midst of a call; otherwise let go of it."""
        ends, self._read, self._write = (self._read, self._write), -1, -1
        for end in ends:
            close(end, self._file)

    def __del__(self) -> None:
        self.close()


def identity(descriptor: int) -> tuple[int, int]:
    """Which file a descriptor is of. Raises `OSError`."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def close(descriptor: int, file: tuple[int, int]) -> None:
    """Close a descriptor if it is still of this file, and not one that the program got since."""
    try:
        if descriptor >= 0 and identity(descriptor) == file:
            os.close(descriptor)
    except OSError:
        pass  # somebody closed it for us


class Thread:
    """A native thread that `run`s until that returns.

    run: returns soon after `leaves()` was true, and can then be called again to go on
    wake: has `run` come to look at `leaves()`
    """

    def __init__(self, run: Callable[[], None], wake: Callable[[], None]) -> None:
        self._run = run
        self.wake = wake
        #: Holds an item while somebody waits for the thread to leave: whoever takes that out decides it.
        self._asked: list[bool] = []
        self._ended: Any = None
        self._gone = True
        self._pauses = 0
        self._goes_on = False
        self.ident = 0
        self._native_id = 0

    @property
    def alive(self) -> bool:
        return not self._gone and bool(self._ended.locked())

    def start(self) -> None:
        """Raises `RuntimeError` if there can be no more threads."""
        ended = native.allocate_lock()
        ended.acquire()
        self._asked.clear()
        native.start_thread(self._main, ended)
        self._ended, self._gone = ended, False

    def _main(self, ended: Any) -> None:
        self.ident = native.get_ident()
        self._native_id = native.original("_thread", "get_native_id")()
        try:
            self._run()
        finally:
            ended.release()

    def leaves(self) -> bool:
        """Asked by the thread itself: whether it is to return now."""
        try:
            self._asked.pop()
        except IndexError:
            return False
        return True

    def stop(self, patience: float = PATIENCE) -> bool:
        """Have it return, and wait for that; whether it did."""
        if self._gone or native.get_ident() == self.ident:
            return self._gone
        self._asked.append(True)
        self.wake()
        return self.join(patience)

    def join(self, patience: float) -> bool:
        """Wait for it to return by itself; whether it did."""
        if not self._gone and native.get_ident() != self.ident and self._ended.acquire(timeout=patience):
            self._gone = True
            native.wait_for_end(self._native_id)
        return self._gone

    def let_go(self) -> None:
        """At the end of its last run: nothing of whose thread this is stays reachable from here."""
        self._run = self.wake = _nothing

    def ask_to_pause(self) -> None:
        """Before a fork, then `pause`: have it return. Several threads may fork at once."""
        self._pauses += 1
        if self._pauses == 1:
            self._goes_on = self.alive
            if self._goes_on and native.get_ident() != self.ident:
                self._asked.append(True)
                self.wake()

    def pause(self, deadline: float) -> None:
        """Wait until it has returned, at most until `deadline` of ``time.monotonic``."""
        if self._goes_on:
            self.join(max(deadline - time.monotonic(), 0))

    def resume(self, deadline: float) -> None:
        """After it, in the parent: go on. Raises `RuntimeError` as `start`."""
        self._pauses -= 1
        if self._pauses or not self._goes_on:
            return
        # If it saw it late, it is about to return.
        if self._gone or (not self.leaves() and self.join(max(deadline - time.monotonic(), 0))):
            self.start()


def pause(threads: Sequence[Thread]) -> None:
    """Before a fork: have all of them return, and wait for that, together no longer than for one."""
    for thread in threads:
        thread.ask_to_pause()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.pause(deadline)


def resume(threads: Sequence[Thread]) -> None:
    """After it, in the parent: those that were paused go on. Raises `RuntimeError` as `Thread.start`."""
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.resume(deadline)


def _nothing() -> None:
    pass


class Later(Thread):
    """Calls `function` in `seconds`, in a native thread; a fork meanwhile has it wait anew."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        self._seconds = seconds
        self._function = function
        self._called = Wake()
        super().__init__(self._wait, self._called)

    def _wait(self) -> None:
        poll = poller()
        poll.register(self._called.fileno(), select.POLLIN)
        while poll.poll(self._seconds * 1000):
            if self.leaves() or not self._called.clear():
                return
        self._function()

    def forked(self) -> None:
        """In a child: close our copies of its descriptors."""
        self._called.close()
