"""Arming: nothing listens until a signal comes. A note beside the sockets says which, so that none is sent in vain."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from mmstats.errors import ConfigurationError

from .. import endpoint, recorder
from ..errors import AttachError
from . import auditing, files

#: A signal of these has a meaning of its own to the kernel or to Python, whoever sends it.
_TAKEN = (
    "SIGKILL", "SIGSTOP", "SIGCHLD", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGABRT",
    "SIGPIPE", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP",
)  # fmt: skip


def number_of(wanted: int | str) -> int:
    """The number of a signal: ``12``, ``"USR2"``, ``"SIGUSR2"``, ``"RTMIN+3"``. Raises `ConfigurationError`."""
    number: Any = wanted
    if isinstance(wanted, str):
        name, sign, offset = wanted.upper().strip(), "", "0"
        for sign in "+-":
            if sign in name:
                name, _, offset = name.partition(sign)
                break
        number = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
        if not isinstance(number, int) or not offset.isdecimal() or (offset != "0" and "RTM" not in name):
            raise ConfigurationError(f"signal={wanted!r}: there is no such signal; try RTMIN+3")
        number = int(number) + (-int(offset) if sign == "-" else int(offset))
    if type(number) is bool or not isinstance(number, int) or number not in signal.valid_signals():
        raise ConfigurationError(f"signal={wanted!r}: there is no such signal; try RTMIN+3")
    if any(number == getattr(signal, name, None) for name in _TAKEN):
        raise ConfigurationError(f"signal={wanted!r} has a meaning of its own; try RTMIN+3")
    return int(number)


class Arm:
    """The handler of a signal, and the note of it.

    fire: called by the signal, in the main thread
    """

    def __init__(self, wanted: int | str, fire: Callable[[], None]) -> None:
        """Raises `ConfigurationError` if the signal can't be had."""
        self.number = number_of(wanted)
        self._fire = fire
        self._note: tuple[str, str, int] | None = None
        try:
            if signal.getsignal(self.number) is not signal.SIG_DFL:
                raise ConfigurationError(f"signal={wanted!r} has a handler already; try another, such as RTMIN+3")
            signal.signal(self.number, self._handle)
        except (OSError, ValueError) as error:  # it can't be caught, or this is not the main thread
            raise ConfigurationError(f"signal={wanted!r} can't be caught: {error}") from error

    def _handle(self, number: int, frame: object) -> None:
        try:
            self._fire()
        except Exception as error:  # it is called in the midst of the program
            auditing.failed(error)

    @property
    def ours(self) -> bool:
        """Whether the signal still comes to us: servers set handlers of their own after they loaded the program."""
        return signal.getsignal(self.number) == self._handle

    def tell(self) -> None:
        """Write the note of this process; without it nobody sends the signal. Raises `OSError` and `MmStatsError`."""
        recorder.box().open()
        path = files.stats_path()
        if path is None:
            raise AttachError("there is no stat file beside which a note could say how to arm this process")
        if not self.ours:
            return
        directory, descriptor = endpoint.make_directory(os.path.dirname(path))
        try:
            endpoint.sweep(descriptor, directory)
            name = endpoint.name_for(os.getpid(), files.uuid_of(path)[:8], endpoint.ARM)
            endpoint.write_note(descriptor, name, self.number)
            self._note = (directory, name, os.getpid())
        finally:
            os.close(descriptor)

    def check(self) -> None:
        """Take the note back if somebody has taken the signal, which would do something else then."""
        if self._note is not None and not self.ours:
            self.take_back()

    def take_back(self) -> None:
        """Remove the note."""
        note, self._note = self._note, None
        if note is not None and note[2] == os.getpid():
            try:
                descriptor = endpoint.open_directory(note[0], os.geteuid())
            except AttachError:
                return
            endpoint.unlink(descriptor, note[1])
            os.close(descriptor)

    def forked(self) -> None:
        """In a child: the note is the parent's."""
        self._note = None

    def close(self) -> None:
        self.take_back()
        try:
            if self.ours:
                signal.signal(self.number, signal.SIG_DFL)
        except ValueError:
            # Not the main thread: the handler stays, and does nothing.
            self._fire = _nothing


def _nothing() -> None:
    pass
