"""What ``%load_ext mmdebug`` sets up in one shell."""

from __future__ import annotations

import logging
import os
from typing import Any

import mmstats
from mmstats.errors import MmStatsError

from .. import installation
from .cells import Cells
from .display import add_formatters, remove_formatters
from .magics import Magics
from .news import news
from .remote import Remote


class Extension:
    """Recording, magics and formatters of one shell, until `remove`."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._in_kernel = hasattr(shell, "kernel")
        self._cells: Cells | None = None
        self._service = os.environ.get("MMSTATS_SERVICE") or ("kernel" if self._in_kernel else "ipython")
        if installation.install(service=self._service):
            self._service = own_service() or self._service
            if self._in_kernel:
                suit_kernel(installation.installation(), shell.kernel.log.name)
            self._cells = Cells(shell)
            shell.events.register("pre_run_cell", self._cells.begin)
            shell.events.register("post_run_cell", self._cells.end)
        self._magics = Magics(shell, self._service)
        self._remote = Remote(shell)
        add_formatters(shell)
        # Of a kernel that loads us at its start, what is printed now reaches nobody.
        self._waits = self._in_kernel and not has_run(shell)
        if self._waits:
            shell.events.register("pre_run_cell", self._tell_later)
        else:
            self._tell()

    def remove(self) -> None:
        """Undo all but the installation of the recorder, which lasts as long as the process."""
        events = self._shell.events
        if self._cells is not None:
            events.unregister("pre_run_cell", self._cells.begin)
            events.unregister("post_run_cell", self._cells.end)
            self._cells.close()
        if self._waits:
            events.unregister("pre_run_cell", self._tell_later)
        self._magics.remove()
        self._remote.remove()
        remove_formatters(self._shell)

    def _tell_later(self, info: Any) -> None:
        self._waits = False
        self._shell.events.unregister("pre_run_cell", self._tell_later)
        self._tell()

    def _tell(self) -> None:
        line = news(self._service)
        if line:
            print(line)


class _NotTheKernels(logging.Filter):
    """Keeps out what the kernel logs below a warning, as it logs each message that it gets, code and all."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.name != self.name or record.levelno >= logging.WARNING


def suit_kernel(installed: Any, logger: str) -> None:
    """Have the recorder leave out what is the kernel's own business; `logger` is the name of the kernel's."""
    installed.sampler.measure_lag = False  # its loop stands still while a cell runs; that is no hang
    if installed.handler is not None and not any(isinstance(one, _NotTheKernels) for one in installed.handler.filters):
        installed.handler.addFilter(_NotTheKernels(logger))


def has_run(shell: Any) -> bool:
    """Whether a cell of this shell has begun; it is in its history then, after an empty one."""
    return len(getattr(shell.history_manager, "input_hist_raw", ())) > 1


def own_service() -> str:
    """The service that this process' file is of; it may have been chosen before. Empty if there is no file."""
    path = installation.stats_file()
    try:
        return mmstats.read(path).process.service if path else ""
    except MmStatsError:
        return ""
