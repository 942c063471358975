"""Who did what: notes in the black box before it is done, and lines in the program's log when that can be safely done.

A native thread that logged would wait for a lock that a greenlet holds. So under gevent and asyncio the
program's own hub or loop logs, and elsewhere a thread that nobody waits for.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from typing import Any

from .. import native, recorder
from ..capture.safetext import clean, first_bytes
from ..layout import MAX_NAME, MAX_TEXT
from .access import Peer
from .places import Places, start_natively
from .threads import PATIENCE

logger = logging.getLogger("mmdebug.manhole")
# A program that has not set up any logging gets nothing on its stderr.
logger.addHandler(logging.NullHandler())

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
#: Lines that wait to be logged; beyond that they are only in the box.
WAITING = 200
#: Bytes of one field of a record: longer texts go on in others.
PIECE = MAX_TEXT - 1


class Audit:
    """The audit of one client."""

    def __init__(self, number: int, peer: Peer, places: Places) -> None:
        self._number = number
        self.peer = peer
        self._places = places

    def connected(self, how: str) -> None:
        """It got in. `how`: in frames or in plain text."""
        peer = self.peer
        facts: dict[str, Any] = {"tty": peer.tty, "command": peer.command, "how": how}
        if peer.login is not None:
            facts["login"] = peer.login
        facts.update({f"claimed.{key}": value for key, value in peer.origin.items()})
        self._note("connected", "info", facts)
        self._log("info", f"{peer} connected")

    def run(self, request: int, where: str, code: str) -> None:
        """It is about to run code."""
        kept = self._note("run", "warning", {"request": request, "where": where, "size": len(code)}, code)
        self._log("warning", f"{self._short} runs: {kept}")

    def ended(self, request: int, how: str, where: str, seconds: float) -> None:
        """What it ran has ended, or was given up."""
        facts = {"request": request, "how": how, "where": where, "seconds": round(seconds, 3)}
        self._note("ended", "warning", facts)
        self._log("info", f"{self._short}: {how} after {seconds:.3f} s")

    def asked(self, request: int, what: str, about: str = "") -> None:
        """It asked what runs nothing. Only into the box: completion asks at each key."""
        self._note("asked", "debug", {"request": request, "what": what}, about)

    def refused(self, what: str, why: str, code: str = "") -> None:
        """It did not get what it asked for."""
        kept = self._note("refused", "warning", {"what": what, "why": why, "command": self.peer.command}, code)
        self._log("warning", f"{self.peer} was refused: {what}: {why}{f': {kept}' if kept else ''}")

    def disconnected(self, why: str, seconds: float) -> None:
        self._note("disconnected", "info", {"why": why, "seconds": round(seconds, 1)})
        self._log("info", f"{self._short} disconnected: {why}")

    @property
    def _short(self) -> str:
        return f"pid {self.peer.pid} (uid {self.peer.uid})"

    def _note(self, what: str, severity: str, facts: dict[str, Any], code: str = "") -> str:
        """Into the ring; returns the code without secrets, as much of it as is kept."""
        facts = {"client": self._number, "pid": self.peer.pid, "uid": self.peer.uid, **facts}
        note(what, severity, facts, code)
        return recorder.sanitizer().clean(code) if code else ""

    def _log(self, severity: str, text: str) -> None:
        log(self._places, severity, text)


def note(what: str, severity: str, facts: dict[str, Any], code: str = "") -> None:
    """A note ``manhole.<what>``. Its texts are looked at for secrets however many others were in this second."""
    sanitizer = recorder.sanitizer()
    fields = {
        key: sanitizer.clean(value) if type(value) is str else value for key, value in facts.items() if value != ""
    }
    rest = sanitizer.clean(code)[:MAX_NAME] if code else ""
    for number in range(1, 9):
        if not rest:
            break
        piece = first_bytes(rest, PIECE)
        rest = rest[len(piece) :]
        fields["code" if number == 1 else f"code.{number}"] = piece
    # Known to be harmless for as long as this takes.
    texts = [value for value in fields.values() if type(value) is str and value not in sanitizer.texts]
    for text in texts:
        sanitizer.texts[text] = True
    recorder.note(f"manhole.{what}", severity, **fields)
    for text in texts:
        sanitizer.texts.pop(text, None)


def failed(error: BaseException) -> None:
    """Something of ours went wrong where nobody can be told."""
    note("failed", "error", {"problem": f"{type(error).__name__}: {error}"})


# The program's log.

_waiting: deque[tuple[int, str]] = deque()
_helpers: list[bool] = []
_paused: list[bool] = []


def log(places: Places, severity: str, text: str) -> None:
    """Log a line, soon; not here, and not where the program's loop or hub does not come round."""
    if len(_waiting) >= WAITING:
        return
    # On one line, whatever a client has sent: it must not look like others.
    line = " ".join([clean(part) for part in recorder.sanitizer().clean(text).split("\n")])
    _waiting.append((LEVELS[severity], line.replace("\t", " ")))
    kind = places.kind()
    if kind == "threads":
        _log_in_thread()
    else:
        places.call(_log_in_hub if kind == "gevent" else _log_all)


def _log_in_hub() -> None:
    """A handler may have to wait for its lock, which a greenlet can and the hub can't."""
    sys.modules["gevent"].spawn(_log_all)


def _log_in_thread() -> None:
    if _helpers or _paused:
        return
    _helpers.append(True)
    try:
        start_natively(_help)
    except RuntimeError:  # no more threads
        _helpers.clear()


def _help() -> None:
    while True:
        _log_all()
        _helpers.clear()
        if not _waiting or _paused:
            return
        _helpers.append(True)  # some came in between


def finish(patience: float) -> None:
    """At the end: wait for the thread that logs. One that is cut off while it writes keeps the lock of its stream."""
    deadline = time.monotonic() + patience
    sleep = native.original("time", "sleep")
    while _helpers and time.monotonic() < deadline:
        sleep(0.002)


def pause() -> None:
    """Before a fork: a child would find the locks that the thread holds which logs, and never get them."""
    _paused.append(True)
    finish(PATIENCE)


def resume() -> None:
    """After it, in the parent."""
    del _paused[:1]
    if _waiting and not _paused:
        _log_in_thread()


def _log_all() -> None:
    while _waiting and not (_paused and native.get_ident() != native.main_ident()):
        try:
            level, text = _waiting.popleft()
            logger.log(level, "%s", text)
        except Exception:  # another one took it; or a handler of the program's failed, which is its own affair
            pass


def forked() -> None:
    """In a child: the lines are the parent's."""
    _waiting.clear()
    _helpers.clear()
    _paused.clear()
