"""Where a client's code can run: in the program's hub or loop, in its main thread, or in a native thread of ours."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from .. import native
from ..mainloop import MainLoop, hub_in_frames, knows_hub, note_hub
from . import pending

#: The places as they are called in answers, and in sentences.
HUB, LOOP, MAIN, NATIVE = "hub", "loop", "main", "native"
AT = {HUB: "the hub", LOOP: "the event loop", MAIN: "the main thread", NATIVE: "a thread of its own"}


class Places:
    """The places of this process. One for each session: after a fork there are others."""

    def __init__(self) -> None:
        self._main = MainLoop()
        # Seldom: it is a call in the midst of whatever the main thread does.
        if "gevent" in sys.modules and not knows_hub():
            pending.call_in_main(note_hub)

    def kind(self) -> str:
        """``gevent``, ``asyncio`` or ``threads``: what the main thread does now."""
        return self._main.kind()

    def names(self) -> list[str]:
        """The places there are, the program's own first."""
        return [{"gevent": HUB, "asyncio": LOOP, "threads": MAIN}[self.kind()], NATIVE]

    def choose(self, where: str, usual: str = "auto") -> str:
        """The place for a request; `usual` is what `Settings.where` says.

        A main thread without hub or loop is not taken unless it is asked for: while it sits in a C call it never
        comes to the code, and between two of its instructions it may hold a lock that the code needs.
        """
        where = usual if where == "auto" else where
        if where == "native":
            return NATIVE
        kind = self.kind()
        if kind == "threads":
            return NATIVE if where == "auto" else MAIN
        return HUB if kind == "gevent" else LOOP

    def call(self, function: Callable[[], None]) -> bool:
        """Have `function` called in the hub or the loop; False if there is neither."""
        return self._main.call(function)

    def submit(self, place: str, function: Callable[[], None]) -> bool:
        """Have `function` called in a place of the program's; False if that can't be asked for."""
        return pending.call_in_main(function) if place == MAIN else self.call(function)


def call_in_hub_of(ident: int, function: Callable[[], None]) -> bool:
    """Have `function` called in the hub that a thread waits in, and can't leave; False if it waits in none."""
    hub = hub_in_frames(ident)
    try:
        if hub is not None:
            hub.loop.run_callback_threadsafe(function)
    except Exception:  # it is being taken down
        return False
    return hub is not None


def start_natively(function: Callable[..., None], *arguments: Any) -> None:
    """Call `function`, which raises nothing, in a native thread. Raises RuntimeError if there can be no more."""
    native.start_thread(_natively, function, *arguments)


def _natively(function: Callable[..., None], *arguments: Any) -> None:
    function(*arguments)
    del function, arguments
    _tidy()


def _tidy() -> None:
    """Leave nothing of a thread of ours behind that ends now, whatever code has run in it."""
    ident = native.get_ident()
    if_exists: Any = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    try:
        hub = None if if_exists is None else if_exists()
        if hub is not None:
            hub.destroy(destroy_loop=True)
    except Exception:
        pass
    known: dict[int, Any] = getattr(threading, "_active", {})
    if isinstance(known.get(ident), threading._DummyThread):
        known.pop(ident, None)
