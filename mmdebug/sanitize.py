"""What a program hands to the recorder, made fit to be written: no secrets, plain values, bounded texts.

The hot paths take what they have seen to be harmless as it is; all else comes by here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmstats import redact

from .layout import MAX_NAME
from .records import Value

#: Keys, texts and log messages that are remembered to be harmless; beyond that all is forgotten.
REMEMBERED = 4096
#: Longer texts are not remembered.
MEMORABLE = 256

_KEY = re.compile(r"[A-Za-z_][\w.-]{0,63}\Z", re.ASCII)
_PLACEHOLDER = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[hlL]?[a-zA-Z%]")


class Sanitizer:
    """Cleans names and fields, and remembers what needed no cleaning.

    keys, texts, templates: what the hot paths look into
    """

    def __init__(self) -> None:
        self.keys: dict[str, bool] = {}
        self.texts: dict[str, bool] = {}
        self.templates: dict[str, bool] = {}

    def event(self, name: Any, fields: Mapping[str, Any]) -> tuple[str, dict[str, Value]]:
        """A name and fields that can be packed as they are. Never raises."""
        return self.text(name), {self.key(key): self.field(key, value) for key, value in fields.items()}

    def key(self, key: str) -> str:
        """The name of a field."""
        if _KEY.match(key):
            # What is called "severity" is never taken as it is: see `Recorder.event`.
            if key != "severity" and not secret_name(key):
                self._remember(self.keys, key)
            return key
        return encodable(key)[:64]

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

    def text(self, value: Any) -> str:
        """`value` as a text without secrets."""
        if type(value) is not str:
            from .saferepr import saferepr

            return encodable(saferepr(value))[:MAX_NAME]
        # Cut first: to look for secrets takes time in proportion.
        clean = redact.text(encodable(value[:MAX_NAME]))
        if clean == value and len(value) <= MEMORABLE:
            self._remember(self.texts, value)
        return clean

    def template(self, message: str) -> None:
        """Remember a log message if, filled in with plain values, it can't become a secret."""
        if len(message) <= MEMORABLE and harmless_template(message):
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
    filled, done = [], 0
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
        filled += [message[done : match.start()], "aB3dE6gH9jK2"]
        done = match.end()
    whole = "".join(filled) + message[done:]
    return redact.text(whole) == whole and encodable(whole) == whole and "//" not in whole
