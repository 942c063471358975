"""Who a client is, and whether the application lets it do what it asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmstats import redact

from ..endpoint import Credentials
from .places import start_natively

#: Seconds that `authorize` may take.
PATIENCE = 1.0
#: Calls of `authorize` that may hang before no more are made.
HANGING = 8
#: Characters of a text that tells of a client.
LENGTH = 300
#: What a client says of itself.
ORIGIN = ("user", "host", "tty", "command", "via")

_PTS_MAJOR, _TTY_MAJOR, _FIRST_SERIAL = 136, 4, 64
_NOBODY = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Peer:
    """A client: what the kernel says of its process at the time it came.

    pid: 0 if it is in a pid namespace that can't be seen from here
    login: the user who logged in, whoever that has become since; None if not known
    tty: its terminal, such as ``pts/3``; empty if it has none
    command: its command line without secrets
    origin: what it says itself, which nobody has checked
    """

    pid: int
    uid: int
    gid: int
    login: int | None = None
    tty: str = ""
    command: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        who = self.origin.get("user", "")
        if who and self.origin.get("host"):
            who = f"{who}@{self.origin['host']}"
        told = [f"uid {self.uid}", f"says it is {who}" if who else "", self.tty, self.command]
        return f"pid {self.pid} ({', '.join([text for text in told if text])})"


@dataclass(frozen=True, slots=True)
class Access:
    """What `authorize` is asked about.

    action: ``connect``, or the type of the request, such as ``exec`` or ``stacks``
    code: what is to run, of ``exec``; what the question is about, of ``complete`` and ``inspect``
    where: where it is to run, of ``exec``
    """

    action: str
    peer: Peer
    code: str = ""
    where: str = ""


def look_at(credentials: Credentials) -> Peer:
    """What can be told of a client's process; it may have ended by now."""
    pid = credentials.pid
    return Peer(pid, credentials.uid, credentials.gid, _login(pid), _terminal(pid), _command(pid))


def origin_of(claimed: Any) -> dict[str, str]:
    """What a client says of itself: short texts, whatever it sent."""
    if type(claimed) is not dict:
        return {}
    return {key: claimed[key][:LENGTH] for key in ORIGIN if type(claimed.get(key)) is str and claimed[key]}


def _read(pid: int, name: str) -> bytes:
    if pid <= 0:
        return b""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(1 << 14)
    except OSError:
        return b""


def _command(pid: int) -> str:
    words = _read(pid, "cmdline").rstrip(b"\0").split(b"\0")
    return " ".join(redact.argv([word.decode("utf-8", "backslashreplace") for word in words]))[:LENGTH]


def _login(pid: int) -> int | None:
    text = _read(pid, "loginuid").strip()
    return int(text) if text.isdigit() and int(text) != _NOBODY else None


def _terminal(pid: int) -> str:
    """The name of a process' terminal, by its number: field 7 of ``stat``."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    try:
        number = int(fields[4])
    except (IndexError, ValueError):
        return ""
    if number <= 0:
        return ""
    major, minor = number >> 8 & 0xFFF, (number & 0xFF) | (number >> 12 & 0xFFF00)
    if _PTS_MAJOR <= major < _PTS_MAJOR + 8:
        return f"pts/{minor + (major - _PTS_MAJOR) * 256}"
    if major == _TTY_MAJOR:
        return f"tty{minor}" if minor < _FIRST_SERIAL else f"ttyS{minor - _FIRST_SERIAL}"
    return f"{major}:{minor}"


class Vetting:
    """One question to `authorize`, which answers in a native thread of its own.

    denial: why not; empty if it is allowed, None as long as there is no answer
    """

    def __init__(self, authorize: Callable[[Any], Any] | None, access: Access, wake: Callable[[], None]) -> None:
        self.denial: str | None = None
        self.deadline = time.monotonic() + PATIENCE
        if authorize is None:
            self.denial = ""
            return
        if len(_asking) >= HANGING:
            self.denial = "the application's authorize does not return"
            return
        _asking.append(self)
        try:
            start_natively(self._ask, authorize, access, wake)
        except RuntimeError as error:
            self._answered()
            self.denial = f"the application can't be asked: {error}"

    def _ask(self, authorize: Callable[[Any], Any], access: Access, wake: Callable[[], None]) -> None:
        try:
            answer = authorize(access)
            # No other truth than this one: it may be an unfinished coroutine, or code of the program.
            denial = "" if answer is True else "the application's authorize said no"
        except BaseException as error:  # it is the program's code
            denial = f"the application's authorize failed: {type(error).__name__}"
        self._answered()
        if self.denial is None:
            self.denial = denial
        wake()

    def _answered(self) -> None:
        try:
            _asking.remove(self)
        except ValueError:
            pass  # this is a forked child

    def answer(self, now: float) -> str | None:
        """The denial as it stands now; after `PATIENCE` it is one."""
        if self.denial is None and now >= self.deadline:
            self.denial = f"the application's authorize did not answer in {PATIENCE:.0f} s"
        return self.denial


_asking: list[Vetting] = []


def forked() -> None:
    """In a child nobody is being asked."""
    _asking.clear()
