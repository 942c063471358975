"""The logging handler: log records into the rings, by severity.

`Recorder.log` is the handler's ``handle`` itself: it takes no lock and formats nothing, and takes
plain records as they are. What is not plain comes to `examine`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from . import recorder as recording
from .recorder import recorder
from .sanitize import UNCHECKED

#: What a log record has of its own; all else was given by ``extra=``.
_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)
#: What formatters leave in a record.
_FORMATTED = frozenset(("message", "asctime"))
#: Extra fields of a record at most.
MAX_EXTRAS = 16


class Handler(logging.Handler):
    """Puts log records into the black box. Give it a level and filters like any other."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.handle = recorder.log  # type: ignore[method-assign, assignment]

    def addFilter(self, filter: Any) -> None:  # noqa: N802
        """With filters, each record costs a call more."""
        super().addFilter(filter)
        self.handle = self._filtered  # type: ignore[method-assign]

    def _filtered(self, record: logging.LogRecord) -> bool:
        found = self.filter(record)
        if found:
            recorder.log(found if isinstance(found, logging.LogRecord) else record)
        return bool(found)

    def emit(self, record: logging.LogRecord) -> None:
        recorder.log(record)

    def createLock(self) -> None:  # noqa: N802
        """It needs none."""
        self.lock = None


def examine(record: logging.LogRecord) -> tuple[str, dict[str, Any] | None]:
    """The message of a record that is not plain, and its extra fields. Never raises."""
    sanitizer = recording.sanitizer()
    attributes = record.__dict__
    message, level = attributes.get("msg"), attributes.get("levelno")
    urgent = type(level) is int and level >= logging.WARNING
    literal = type(message) is str and not attributes.get("args")
    if type(message) is str and not literal and message not in sanitizer.templates:
        sanitizer.template(message)
    try:
        text = record.getMessage()
    except Exception:  # its arguments don't fit, or one of them can't be made a text
        text = f"{message!s}" if type(message) is str else "(a message that can't be formatted)"
    fields: dict[str, Any] = {}
    if len(attributes) > len(_STANDARD):
        for key in list(attributes):
            if type(key) is str and key not in _STANDARD and key not in _FORMATTED and len(fields) < MAX_EXTRAS:
                fields[sanitizer.key(key)] = sanitizer.field(key, attributes[key])
    trace = _trace_id()
    if trace:
        fields["trace_id"] = trace
    raised = attributes.get("exc_info")
    error = raised[1] if isinstance(raised, tuple) and len(raised) == 3 else None
    # What asyncio logs of an error that nobody caught was recorded when that came to its loop.
    if isinstance(error, BaseException) and attributes.get("name") != "asyncio":
        recording.record(error, "logged", False)
    clean = sanitizer.text(text, urgent)
    if literal and clean is not UNCHECKED and clean == message:
        sanitizer.literal(clean)
    return clean, fields or None


def _trace_id() -> str:
    """OpenTelemetry's current trace id, where the program uses it."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ""
    try:
        found = trace.get_current_span().get_span_context().trace_id
        return f"{found:032x}" if found else ""
    except Exception:  # whatever its provider raises: a log record is worth more than its trace
        return ""


def attach(handler: logging.Handler) -> None:
    """Add `handler` to the root logger, and to those whose records do not come there.

    Called again and again: ``dictConfig`` and some frameworks throw away what handlers they find. It
    appends without logging's lock, since a greenlet may hold that while this runs in a native thread.
    """
    # What is no list is the program's own affair; and to compare handlers may call its code.
    if type(logging.root.handlers) is list and not any(known is handler for known in logging.root.handlers):
        logging.root.handlers.append(handler)
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and not logger.propagate and type(logger.handlers) is list:
            levels = [other.level for other in logger.handlers if type(other) is not _Beside]
            if levels and len(levels) == len(logger.handlers):
                logger.handlers.append(_Beside(handler, min(levels)))


class _Beside(Handler):
    """For a logger whose records do not come to the root: keeps what the handlers there keep, and no more."""

    def __init__(self, handler: logging.Handler, level: int) -> None:
        # As `logging.Handler` does it, but for logging's list of what to close at the exit, which has a lock.
        logging.Filterer.__init__(self)
        self._name = self.formatter = self.lock = None
        self._closed = False
        self.level = max(handler.level, level)
        self.handle = recorder.log  # type: ignore[method-assign, assignment]
        for found in handler.filters:
            self.addFilter(found)


def detach(handler: logging.Handler) -> None:
    """Take `handler` away from all loggers."""
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger) and type(logger.handlers) is list:
            kept = [known for known in logger.handlers if known is not handler and type(known) is not _Beside]
            if len(kept) != len(logger.handlers):
                logger.handlers[:] = kept


def configure() -> None:
    """Tell the recorder which records are plain; where traces are known, none is."""
    recorder.set_logs(examine, -1 if "opentelemetry.trace" in sys.modules else len(_STANDARD))
