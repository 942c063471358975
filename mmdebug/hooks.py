"""Errors that nobody caught: the hooks of the interpreter, gevent and asyncio, with ours before the earlier one.

What was there before runs afterwards with the same arguments, whether or not the recording went well; the one
difference is that an error *in* an earlier hook shows a frame of this module in its traceback. What these hooks
don't see: errors that multiprocessing prints itself, errors kept in a future that is never asked, and what a hub
does whose own ``handle_error`` attribute the program has set.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

#: What is given an error: ``record(error, how, fatal)``; `how` as in `records.ExceptionRecord`.
Record = Callable[[BaseException, str, bool], None]

#: Of a hook's arguments: the error, how it surfaced and whether it is fatal; None for what is not to be recorded.
Pick = Callable[..., tuple[BaseException, str, bool] | None]


class _Hook:
    """One hook, an attribute of a module or a class, with the earlier one behind ours."""

    def __init__(self, owner: Any, name: str, pick: Pick, record: Record) -> None:
        self._owner = owner
        self._name = name
        self._earlier = earlier = getattr(owner, name)
        self._inherited = isinstance(owner, type) and name not in vars(owner)
        self._record: Record | None = record

        # A function and not a method, so that it binds where the owner is a class. It holds all that it
        # needs, since a module's globals are gone at the interpreter's end.
        def hook(*args: Any, _self: _Hook = self, _busy: Any = _busy, **options: Any) -> Any:
            try:
                record = _self._record
                if record is not None and not getattr(_busy, "recording", False):
                    _busy.recording = True
                    try:
                        found = pick(*args, **options)
                        if found is not None:
                            record(*found)
                    finally:
                        _busy.recording = False
            except Exception:
                pass  # the program's own handling of its error matters more than our record of it
            finally:
                # Also if a signal's handler raises in the midst of the recording.
                result = earlier(*args, **options)
            return result

        self._hook = hook
        setattr(owner, name, hook)

    def remove(self) -> None:
        """Put the earlier one back; if somebody has wrapped ours, ours just passes on from now."""
        self._record = None
        if vars(self._owner).get(self._name) is not self._hook:
            return
        if self._inherited:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._earlier)


# An error within the recording, such as of a __del__ that it sets off, is not recorded: that would not end.
_busy = threading.local()
_record: Record | None = None
_hooks: dict[tuple[str, str], _Hook] = {}


def install(record: Record) -> None:
    """Give errors that nobody caught to `record`; a second call changes who is given them.

    `record` is called in the thread (or greenlet) of the error, before the earlier hook. It must not block.
    """
    global _record
    if _record is not None:
        uninstall()
    _record = record
    _add(sys, "sys", "excepthook", _of_interpreter)
    _add(threading, "threading", "excepthook", _of_thread)
    _add(sys, "sys", "unraisablehook", _of_unraisable)
    refresh()


def refresh() -> None:
    """Hook gevent, asyncio and uvloop if they have been imported since; to be called each second or so.

    Takes about a microsecond and imports nothing. Any thread may call it: to hook is one assignment to a class.
    """
    if _record is None:
        return
    for module, owner, name, pick in _LATER:
        if (module, name) not in _hooks:
            found = getattr(sys.modules.get(module), owner, None)  # None also in the midst of its import
            if found is not None:
                _add(found, module, name, pick)


def uninstall() -> None:
    """Undo `install`. What calls `refresh` in other threads must have ended."""
    global _record
    _record = None
    while _hooks:
        _hooks.popitem()[1].remove()


def _add(owner: Any, module: str, name: str, pick: Pick) -> None:
    record = _record
    if record is not None and (module, name) not in _hooks and hasattr(owner, name):
        _hooks[module, name] = _Hook(owner, name, pick, record)


def _of_interpreter(
    type: Any, value: Any, traceback: Any, *, _sys: Any = sys, _threading: Any = threading
) -> tuple[BaseException, str, bool] | None:
    """``sys.excepthook``: the main thread's, unless a program calls it for errors of its own threads."""
    if not isinstance(value, BaseException):
        return None
    if _threading.get_ident() != _threading.main_thread().ident:
        return value, "thread", False
    # At a prompt the process goes on.
    return value, "main thread", not (hasattr(_sys, "ps1") or _sys.flags.interactive)


def _of_thread(args: Any) -> tuple[BaseException, str, bool] | None:
    """``threading.excepthook``, which ignores SystemExit."""
    value = args.exc_value
    if not isinstance(value, BaseException) or isinstance(value, SystemExit):
        return None
    return value, "thread", False


def _of_unraisable(args: Any) -> tuple[BaseException, str, bool] | None:
    """``sys.unraisablehook``: errors in ``__del__``, in callbacks of C code, in ``_thread``'s threads."""
    value = args.exc_value
    return (value, "unraisable", False) if isinstance(value, BaseException) else None


def _of_hub(hub: Any, context: Any, type: Any, value: Any, tb: Any) -> tuple[BaseException, str, bool] | None:
    """gevent's ``Hub.handle_error``: what ended a greenlet or a callback of the loop."""
    if not isinstance(value, BaseException) or isinstance(value, hub.NOT_ERROR):
        return None
    return value, "greenlet", False


def _of_loop(loop: Any, context: Any) -> tuple[BaseException, str, bool] | None:
    """asyncio's ``call_exception_handler``: tasks whose error nobody fetched, callbacks, transports."""
    value = context.get("exception")
    return (value, "task", False) if isinstance(value, BaseException) else None


# On the classes, so that the loops and hubs of all threads are covered, and loops with a handler of their own.
_LATER: tuple[tuple[str, str, str, Pick], ...] = (
    ("gevent.hub", "Hub", "handle_error", _of_hub),
    ("asyncio.base_events", "BaseEventLoop", "call_exception_handler", _of_loop),
    ("uvloop", "Loop", "call_exception_handler", _of_loop),
)
