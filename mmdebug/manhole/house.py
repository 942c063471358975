"""What `install` sets up in a process: the door, or the signal that opens it, and what forks and the end do to both."""

from __future__ import annotations

import atexit
import os
from dataclasses import replace

from mmstats.errors import MmStatsError

from .. import installation, mainloop, native
from ..capture.safetext import clean
from ..stacks import Stacks
from . import access, auditing, door, threads
from .arming import Arm
from .settings import Settings
from .threads import Later

#: Seconds that a forked child may take to become another program before it gets files and sockets of its own.
GRACE = 0.1


class House:
    """Raises what of it can't be done: `ConfigurationError`, `OSError` and the like."""

    def __init__(self, settings: Settings) -> None:
        self._closed = False
        self._door = door.make(settings)
        installation.open_box(settings.path, settings.service)
        _warm_up()
        mainloop.note_hub()
        self._arm: Arm | None = None
        #: In a child, has the note of its arm written.
        self._later: Later | None = None
        if settings.signal is not None:
            self._arm = Arm(settings.signal, self._fire)
            try:
                self._arm.tell()
            except BaseException:
                self._arm.close()
                raise
        else:
            listener = self._door.thread
            try:
                listener.open()
                listener.start()
            except BaseException:
                self._door.close()
                raise
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._forked)
        atexit.register(self.close)

    def adopt(self, settings: Settings) -> None:
        """Take the options of the program's own `install` after the environment's: nothing gets more permissive."""
        read_only = settings.read_only or self._door.settings.read_only
        self._door.settings = replace(settings, read_only=read_only)
        for connection in list(self._door.clients.values()):
            connection.end("the program has set its own rules: attach anew")
        installation.open_box(settings.path, settings.service)

    def _fire(self) -> None:
        """The signal came: open the door, from within the handler no more than start the thread that does it."""
        if not self._closed and not self._door.listening:
            self._door.thread.start()

    def _before_fork(self) -> None:
        if not self._closed:
            auditing.pause()
            self._door.pause()
            if self._later is not None:
                threads.pause([self._later])

    def _after_fork(self) -> None:
        if self._closed:
            return
        try:
            auditing.resume()
            self._door.resume()
            if self._later is not None:
                threads.resume([self._later])
        except RuntimeError as error:  # there can be no more threads
            auditing.failed(error)
        if self._arm is not None:
            self._arm.check()

    def _forked(self) -> None:
        native.note_main()
        access.forked()
        auditing.forked()
        self._door.forked()
        if self._later is not None:
            self._later.forked()
            self._later = None
        if self._closed:
            return
        try:
            if self._arm is None:
                self._door.thread = self._door.make_listener(self._door, GRACE)
                self._door.thread.start()
            else:
                self._arm.forked()
                self._later = Later(GRACE, self._tell)
                self._later.start()
        except (RuntimeError, OSError) as error:  # no more threads, or descriptors
            auditing.failed(error)

    def _tell(self) -> None:
        assert self._arm is not None
        try:
            self._arm.tell()
        except (OSError, MmStatsError) as error:
            auditing.failed(error)

    def close(self) -> None:
        """The end of the process, or `uninstall`."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._door.close()
        if self._arm is not None:
            self._arm.close()
        auditing.finish(door.FAREWELL)


def _warm_up() -> None:
    """Have imported now what would be imported at the first use, which may be in a native thread."""
    clean("\0")
    str(Stacks(os.getpid(), 0, 0.0, ()))
