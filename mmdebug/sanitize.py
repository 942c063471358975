"""What a program hands to the recorder, made fit to be written: no secrets, plain values, bounded texts.

The hot paths take what they have seen to be harmless as it is; all else comes by here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from time import monotonic
from typing import Any

from mmstats import redact

from .capture.safetext import MARGIN, redacted
from .layout import MAX_KEY, MAX_NAME
from .records import Value

#: Keys, texts and log messages that are remembered to be harmless; beyond that all is forgotten.
REMEMBERED = 4096
#: Longer texts are not remembered.
MEMORABLE = 256

_KEY = re.compile(r"[A-Za-z_][\w.-]{0,63}\Z", re.ASCII)
_PLACEHOLDER = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[hlL]?[a-zA-Z%]")

#: What `harmless_template` puts into a message's places, and how many of these one may have.
_WORDS = ("", "aB3dE6gH9jK2", "password", "Bearer", "Basic")
_SECRETS = ("aB3dE6gH9j", "aB3dE6gH9j.aB3dE6gH9j.aB3dE6gH9")
_NUMBER = "7391"
_PLACES = 16


#: Stands for a text that nobody had the time to look at.
UNCHECKED = "[not looked at: too many texts]"
#: The part of a second that texts may be looked at for secrets: of what is urgent, and of the rest.
SHARE = 0.05


class Allowance:
    """Time that may be spent in each second."""

    def __init__(self) -> None:
        self._second = 0
        self._spent = 0.0

    def spent(self, now: float) -> bool:
        """Whether there is none left in this second."""
        if int(now) != self._second:
            self._second, self._spent = int(now), 0.0
        return self._spent >= SHARE

    def spend(self, seconds: float) -> None:
        self._spent += seconds


class Sanitizer:
    """Cleans names and fields, and remembers what needed no cleaning.

    keys, texts, templates: what the hot paths look into
    """

    def __init__(self) -> None:
        self.keys: dict[str, bool] = {}
        self.texts: dict[str, bool] = {}
        self.templates: dict[str, bool] = {}
        self._allowances = (Allowance(), Allowance())

    def event(self, name: Any, fields: Mapping[str, Any]) -> tuple[str, dict[str, Value]]:
        """A name and fields that can be packed as they are. Never raises."""
        return self.text(name), {self.key(key): self.field(key, value) for key, value in fields.items()}

    def key(self, key: str) -> str:
        """The name of a field."""
        if type(key) is not str:
            key = str.__str__(key)  # an exact one, which calls no code of the program
        if _KEY.match(key) and redact.text(key) == key:
            # What is called "severity" is never taken as it is: see `Recorder.event`.
            if key != "severity" and not secret_name(key):
                self._remember(self.keys, key)
            return key
        return self.text(key)[:MAX_KEY]

    def field(self, key: str, value: Any) -> Value:
        """The value of a field of this name."""
        kind = type(value)
        if value is None or kind is bool:
            known: Value = value
            return known
        if secret_name(key):
            return redact.REDACTED
        if kind is float:
            return float(value)
        if kind is int and -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
            return int(value)
        return self.text(value)

    def text(self, value: Any, urgent: bool = False) -> str:
        """`value` as a text without secrets; `UNCHECKED` where that would slow the program down.

        `urgent` texts, such as warnings, have an allowance of their own.
        """
        if type(value) is str and value in self.texts:
            return value
        allowance = self._allowances[urgent]
        began = monotonic()
        if allowance.spent(began):
            return UNCHECKED
        text = self.clean(value)
        allowance.spend(monotonic() - began)
        return text

    def clean(self, value: Any) -> str:
        """As `text`, however much was looked at already in this second."""
        if type(value) is not str:
            from .capture.saferepr import saferepr

            return encodable(saferepr(value))[:MAX_NAME]
        # Cut first: to look for secrets takes time in proportion. One character too many says that it was cut.
        piece = value[: MAX_NAME + 1 + MARGIN]
        clean = redacted(encodable(piece), len(value) - len(piece), MAX_NAME + 1)
        if clean == value and len(value) <= MEMORABLE:
            self._remember(self.texts, value)
        return clean

    def template(self, message: str) -> None:
        """Remember a log message if, filled in with plain values, it can't become a secret."""
        allowance = self._allowances[1]
        began = monotonic()
        if len(message) <= MEMORABLE and not allowance.spent(began):
            if harmless_template(message):
                self._remember(self.templates, message)
            allowance.spend(monotonic() - began)

    def literal(self, message: str) -> None:
        """Remember a log message without arguments that was found to hold no secret."""
        if len(message) <= MEMORABLE and "%" not in message:
            self._remember(self.templates, message)

    def _remember(self, known: dict[str, bool], text: str) -> None:
        if len(known) >= REMEMBERED:
            known.clear()
        known[text] = True


def secret_name(key: str) -> bool:
    """As `redact.secret_name`, but for ``key`` itself: of an event that is what was looked up in a cache, say."""
    return key != "key" and redact.secret_name(key)


def encodable(text: str) -> str:
    """`text` with what UTF-8 can't hold escaped."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def harmless_template(message: str) -> bool:
    """Whether no plain value, put in for ``%s``, can make a secret of this message.

    So no place may be next to a letter that it could make a token with, nor before a sign that
    would make a name of it, nor after one that follows a secret name.
    """
    parts: list[str] = []
    places: list[str] = []
    done = 0
    for match in _PLACEHOLDER.finditer(message):
        if match.group() == "%%":
            continue
        before = message[match.start() - 1 : match.start()]
        after = message[match.end() :].lstrip(" \t\"'])")[:1]
        if before.isalnum() or before in ("_", "-", "+", "/", "%") or after in ("=", ":", ">", "@"):
            return False
        following = message[match.end() : match.end() + 1]
        if following.isalnum() or following in ("_", "-", "+", "/", "%"):
            return False
        parts.append(message[done : match.start()])
        places.append(match.group()[-1])
        done = match.end()
    parts.append(message[done:])
    if len(places) > _PLACES or "//" in message or encodable(message) != message:
        return False
    harmless = "".join([part + value for part, value in zip(parts, ["ok"] * len(places) + [""], strict=True)])
    if redact.text(harmless) != harmless:
        return False  # it holds what looks like a secret itself
    if not places:
        return True
    # Every other place gets a word that makes a secret of what follows, the others what a secret can look
    # like, and what is to be a number gets one. None of these may be taken for a secret where it stands.
    for word in _WORDS:
        for turn in (0, 1):
            for secret in _SECRETS:
                values = [
                    repr(value) if kind in "ra" else value if kind == "s" else _NUMBER
                    for kind, value in zip(
                        places, [word if n % 2 == turn else secret for n in range(len(places))], strict=True
                    )
                ]
                whole = "".join([part + value for part, value in zip(parts, [*values, ""], strict=True)])
                clean = redact.text(whole)
                if any(clean.count(text) != whole.count(text) for text in (secret, _NUMBER)):
                    return False
    return True
