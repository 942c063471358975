"""Threads and locks of the operating system, also where gevent has put greenlets in their place."""

from __future__ import annotations

import os
import sys
import threading
import time
from importlib import import_module
from typing import Any


def original(module: str, name: str) -> Any:
    """What `module` had under `name` before gevent's monkey patch, if there was one."""
    get_original = getattr(sys.modules.get("gevent.monkey"), "get_original", None)  # none in the midst of its import
    if get_original is not None:
        return get_original(module, name)
    return getattr(import_module(module), name)


def start_thread(function: Any, *arguments: Any) -> int:
    """Run `function` in a thread that `threading` does not know; returns its number."""
    ident: int = original("_thread", "start_new_thread")(function, arguments)
    return ident


def wait_for_end(thread: int, seconds: float = 0.05) -> None:
    """Wait until the system has let a thread go: Python 3.12 warns of a fork while there are several."""
    deadline = time.monotonic() + seconds
    sleep = original("time", "sleep")  # gevent's would run other greenlets in the midst of a fork
    while os.path.exists(f"/proc/self/task/{thread}") and time.monotonic() < deadline:
        sleep(0.0001)


def allocate_lock() -> Any:
    """A lock that blocks the whole thread."""
    return original("_thread", "allocate_lock")()


def get_ident() -> int:
    """The number of the current thread, and not of the current greenlet."""
    ident: int = original("_thread", "get_ident")()
    return ident


def in_main_interpreter() -> bool:
    """Whether this is no sub-interpreter."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters: Any = import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() == interpreters.get_main())
    return True


_main = 0


def note_main() -> None:
    """Remember the current thread if it is the main one, as after a fork it always is."""
    global _main
    if original("_thread", "get_native_id")() == os.getpid():
        _main = get_ident()


def main_ident() -> int:
    """The number of the main thread; gevent's patch has `threading` know it by its greenlet's."""
    return _main or threading.main_thread().ident or 0
