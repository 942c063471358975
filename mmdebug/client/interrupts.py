"""Ctrl-C while an answer is waited for: noticed at once, acted on where nothing is left half done."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: So many that nothing happens on mean that we hang ourselves: then it is raised wherever we are.
IMPATIENT = 3


class Interrupts:
    """Counts what asks to stop; its descriptor can be read when something new has come.

    keys: how often Ctrl-C was pressed since `catching` began
    asked: whether `ask` was called since
    """

    def __init__(self) -> None:
        self.keys = 0
        self.asked = False
        self._depth = 0
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    @property
    def descriptor(self) -> int:
        return self._reading

    def ask(self) -> None:
        """Ask to stop; from any thread and from a signal handler."""
        self.asked = True
        self.wake()

    def drain(self) -> None:
        """Take note of all that made the descriptor readable."""
        try:
            while os.read(self._reading, 100):
                pass
        except OSError:
            pass

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Count Ctrl-C instead of raising it, in the main thread and where nobody else handles it. Nests."""
        if not self._depth:
            self.keys = 0
            self.asked = False
        ours = threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        self._depth += 1
        try:
            if ours:
                signal.signal(signal.SIGINT, self._pressed)
            yield
        finally:
            if ours:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            self._depth -= 1

    def close(self) -> None:
        reading, writing, self._reading, self._writing = self._reading, self._writing, -1, -1
        for descriptor in (reading, writing):
            if descriptor >= 0:
                os.close(descriptor)

    def __del__(self) -> None:
        self.close()  # of a connection that nobody closed: descriptors are no objects

    def _pressed(self, number: int, frame: Any) -> None:
        self.keys += 1
        self.wake()
        if self.keys >= IMPATIENT:
            raise KeyboardInterrupt

    def wake(self) -> None:
        """Have whoever waits on the descriptor look up."""
        try:
            os.write(self._writing, b"!")
        except OSError:
            pass  # full, which wakes as well, or closed
