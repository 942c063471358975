"""The cells that IPython runs, as the recorder has them: an activity while one runs, events at its start and end."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import Any

from mmstats import redact
from mmstats.instrument.runtime import rss

from .. import recorder
from ..capture.sources import without_secrets

#: How much of a cell's source is kept: lines, bytes in its event, and bytes in its activity.
LINES, EVENT_BYTES, ACTIVITY_BYTES = 10, 500, 140
#: Characters of a cell that are looked at.
LOOKED_AT = 16384
#: Cells that can run within each other, or at the same time; of more, the oldest are forgotten.
MOST = 64

#: Also of exceptions whose class gives the name another meaning.
_TRACEBACK: Any = vars(BaseException)["__traceback__"]
_SHELL_LINE = re.compile(r"\s*(?:[%!]|[\w.]+\s*=\s*[%!])")
_ENV = re.compile(r"(\s*%(?:set_)?env\s+)([\w.-]+)(\s+)(\S.*)")


@dataclass(frozen=True, slots=True)
class _Running:
    """A cell that has begun. `info` is IPython's object for it, `counted` its counter then, `rss` in bytes."""

    info: Any
    name: str
    activity: Any
    counted: int
    thread: int
    began: float
    rss: int


class Cells:
    """Callbacks of IPython's events. They never raise: the user's cell is worth more than our record of it."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._running: list[_Running] = []
        self._lock = threading.Lock()
        self._ahead: int | None = None

    def begin(self, info: Any) -> None:
        """``pre_run_cell``"""
        try:
            self._begin(info)
        except Exception:
            pass  # see above

    def end(self, result: Any) -> None:
        """``post_run_cell``; it is called for cells too that never began, such as empty ones."""
        try:
            self._end(result)
        except Exception:
            pass  # see above

    def close(self) -> None:
        """No cell is followed any further."""
        with self._lock:
            left, self._running = self._running, []
        for cell in left:
            cell.activity.__exit__(None, None, None)

    def _begin(self, info: Any) -> None:
        counted = int(self._shell.execution_count)
        name = f"In[{counted - self._offset(counted)}]" if info.store_history else "In[-]"
        source, memory = first_lines(info.raw_cell), rss()
        activity = recorder.activity(name, rss_mib=_mib(memory), source=_bounded(source, ACTIVITY_BYTES))
        activity.__enter__()
        cell = _Running(info, name, activity, counted, threading.get_ident(), time.monotonic(), memory)
        with self._lock:
            self._running.append(cell)
            forgotten = self._running[:-MOST]
            del self._running[:-MOST]
        for old in forgotten:
            old.activity.__exit__(None, None, None)
        recorder.event("cell.start", cell=name, source=_bounded(source, EVENT_BYTES))

    def _offset(self, counted: int) -> int:
        """By how much IPython's counter is ahead of a cell that begins: newer versions count before, older after."""
        if self._ahead is None:
            history = getattr(self._shell.history_manager, "input_hist_raw", None)
            # It begins with an empty one, so its length is the number of the cell to come.
            return 1 if history and counted - len(history) == 1 else 0
        return self._ahead

    def _end(self, result: Any) -> None:
        cell = self._take(result)
        if cell is None:
            return
        cell.activity.__exit__(None, None, None)
        number = getattr(result, "execution_count", None)
        name = cell.name
        if number and cell.info.store_history:
            self._ahead = cell.counted - number
            name = f"In[{number}]"
        outcome, error = outcome_of(result)
        if error is not None:
            _record(error)
        recorder.event(
            "cell.end",
            cell=name,
            outcome=outcome,
            seconds=round(time.monotonic() - cell.began, 6),
            rss_before_mib=_mib(cell.rss),
            rss_after_mib=_mib(rss()),
        )

    def _take(self, result: Any) -> _Running | None:
        """The running cell that this is the result of. After an interruption IPython may give another info, or none."""
        info = getattr(result, "info", None)
        source = getattr(info, "raw_cell", None)
        me = threading.get_ident()
        with self._lock:
            for cell in reversed(self._running):
                same = result is None or cell.info.raw_cell == source
                if cell.info is info or (same and cell.thread == me):
                    self._running.remove(cell)
                    return cell
        return None


def outcome_of(result: Any) -> tuple[str, BaseException | None]:
    """How a cell ended, and the error to record: ``ok``, ``error``, ``not run``, ``interrupted`` or ``exit``."""
    import asyncio

    if result is None:
        return "interrupted", None
    if result.error_before_exec is not None:
        return "not run", None
    error = result.error_in_exec
    if error is None:
        return "ok", None
    if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
        return "interrupted", None
    if isinstance(error, SystemExit):
        return "exit", None
    return "error", error if isinstance(error, BaseException) else None


def _record(error: BaseException) -> None:
    """Record what a cell raised, without the frames of IPython that called it."""
    whole = inside = _TRACEBACK.__get__(error)
    while inside is not None and str(inside.tb_frame.f_globals.get("__name__", "")).startswith("IPython."):
        inside = inside.tb_next
    try:
        _TRACEBACK.__set__(error, inside or whole)
        recorder.record(error, "cell", False)
    finally:
        _TRACEBACK.__set__(error, whole)  # %debug and %tb are to find it as it was


def first_lines(source: str) -> str:
    """The first lines of a cell, without secrets."""
    looked_at = source[:LOOKED_AT]
    if len(source) > LOOKED_AT:
        looked_at = looked_at.rpartition("\n")[0] or looked_at[: LOOKED_AT // 2]
    lines = looked_at.strip("\n").expandtabs(4).splitlines()[:LINES]
    lines = without_secrets([_command(line) for line in lines], 0)
    return "\n".join([line.rstrip() for line in lines]).strip("\n")


def _command(line: str) -> str:
    """A line that is a magic or goes to a shell: its secrets are not where Python's are."""
    if not _SHELL_LINE.match(line):
        return line
    setting = _ENV.fullmatch(line)
    if setting is not None:
        return setting[1] + setting[2] + setting[3] + redact.item(setting[2], setting[4])
    return " ".join(redact.argv(line.split(" ")))


def _bounded(text: str, most: int) -> str:
    """`text` in at most `most` bytes; ``...`` says that there was more."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[: most - 3].decode("utf-8", "ignore") + "..."


def _mib(size: int) -> float:
    return round(size / (1 << 20), 1)
