"""Source lines for recorded frames, without secrets, read in a way that suits a program that is failing.

A plain file is read directly, and only its beginning if it is huge; sources without a file, such as a notebook's cells,
are taken from where `linecache` already holds them. `linecache` itself is not called: it may ask a loader of the
program, search ``sys.path``, and keep whole files.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from types import CodeType

from mmstats import redact

from .safetext import is_secret, plain

_LARGEST_FILE = 2 << 20
_LONGEST_LINE = 240
#: How far back a secret over several lines is looked for.
_LOOKBACK = 40
_MOST_CACHED = 1024

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
#: ``name = """`` and ``name = call(`` with nothing behind it.
_TRIPLE = re.compile(r"([\w.-]++)[\"']?\]?\s*+(?::[^=]{0,80})??[=:]\s*+\w{0,2}(\"\"\"|''')")
_OPEN = re.compile(r"([\w.-]++)[\"']?\]?\s*+(?::[^=]{0,80})??(?:[=:]\s*+[\w.]{0,64}[(\[{]|=\s*\\?)\s*(?:#.*)?\Z")
#: ``"name", "value"``, as in pairs, ``setdefault``, ``add_header`` and lists of arguments.
_PAIR = re.compile(
    r"([\"'])([\w.-]{1,64}+)\1\s*+,\s*+\w{0,2}(\"(?:[^\"\\]|\\.)*+\"?+|'(?:[^'\\]|\\.)*+'?+)",
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}

_cached: dict[tuple[str, int, str, int, int], tuple[tuple[int, str], ...]] = {}


class Sources:
    """Reads each file once for one capture."""

    def __init__(self) -> None:
        self._files: dict[str, list[bytes] | list[str]] = {}

    def around(self, code: CodeType, line: int, count: int) -> tuple[tuple[int, str], ...]:
        """`count` lines around `line` as ``(number, text)``; none if they can't be had, or are not of `code`."""
        file = code.co_filename
        if count <= 0 or line <= 0 or type(file) is not str:
            return ()
        key = (file, code.co_firstlineno, str.__str__(code.co_name), line, count)
        found = _cached.get(key)
        if found is None:
            lines = self._lines(file)
            found = _window(lines, line, count) if _is_of(code, lines) else ()
            if found:
                if len(_cached) >= _MOST_CACHED:
                    _cached.clear()
                _cached[key] = found
        return found

    def _lines(self, file: str) -> list[bytes] | list[str]:
        lines = self._files.get(file)
        if lines is None:
            lines = self._files[file] = _from_linecache(file) or _from_file(file)
        return lines


def _from_linecache(file: str) -> list[str]:
    """What `linecache` already has of something that is no file."""
    if os.path.isabs(file) and os.path.exists(file):
        return []
    cache = getattr(sys.modules.get("linecache"), "cache", None)
    entry = cache.get(file) if type(cache) is dict else None
    if type(entry) is not tuple or len(entry) != 4 or type(entry[2]) is not list:  # one with a loader has one part
        return []
    return [line if type(line) is str else "" for line in entry[2][:100_000]]


def _from_file(file: str) -> list[bytes]:
    """The lines of a regular file; a name such as ``<string>`` is none."""
    if file.startswith("<"):
        return []
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):  # opening a device or a pipe may do something
            return []
        number = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return []
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return []
        data = os.read(number, _LARGEST_FILE)
    except OSError:
        return []
    finally:
        os.close(number)
    lines = data.splitlines()
    return lines[:-1] if len(data) == _LARGEST_FILE else lines


def _text(line: bytes | str) -> str:
    return line.decode("utf-8", "replace") if isinstance(line, bytes) else line.rstrip("\r\n")


def _is_of(code: CodeType, lines: list[bytes] | list[str]) -> bool:
    """Whether the file is still what `code` was compiled from, as far as the beginning of a function tells."""
    name, first = code.co_name, code.co_firstlineno
    if not name.isidentifier():
        return True  # a module, a lambda, a comprehension, a template
    if not 0 < first <= len(lines):
        return False
    start = _text(lines[first - 1]).lstrip()
    return start.startswith("@") or name in start


def _window(lines: list[bytes] | list[str], line: int, count: int) -> tuple[tuple[int, str], ...]:
    if line > len(lines):
        return ()
    start = max(1, line - count // 2)
    end = min(len(lines), start + count - 1)
    before = max(1, start - _LOOKBACK)
    texts = without_secrets([_text(lines[number - 1])[:4096] for number in range(before, end + 1)], start - before)
    return tuple(zip(range(start, end + 1), texts, strict=True))


def without_secrets(lines: list[str], skip: int) -> list[str]:
    """Source lines, redacted and bounded, but for the first `skip`, which are only looked at for secrets over lines."""
    texts = []
    until = ""  # what ends a secret that goes on; a line's end if it is the next line as a whole
    for number, line in enumerate(lines):
        shown = redact.REDACTED
        if until:
            if until == "\n" or until in line:
                until = ""
        else:
            until, kept = _goes_on(line)
            if number >= skip:
                shown = _one(line) if kept < 0 else _one(line[:kept]) + redact.REDACTED
        if number >= skip:
            texts.append(shown)
    return texts


def _one(line: str) -> str:
    return plain(_PAIR.sub(_without_second, line) if '",' in line or "'," in line else line, _LONGEST_LINE)


def _without_second(match: re.Match[str]) -> str:
    if not is_secret(match[2]):
        return match[0]
    return match[0][: match.start(3) - match.start()] + redact.REDACTED


def _goes_on(line: str) -> tuple[str, int]:
    """What ends the secret that begins in this line and goes on in the next, and how much of this one may be shown."""
    if '"""' in line or "'''" in line:
        for match in _TRIPLE.finditer(line):
            if is_secret(match[1]):
                closed = match[2] in line[match.end() :]
                return "" if closed else match[2], match.end()
    if "-----BEGIN" in line and _PEM.search(line) and "-----END" not in line:
        return "-----END", -1
    bare = line.rstrip()
    if bare.endswith(("(", "[", "{", "=", "\\")) or "#" in bare:
        opened = _OPEN.search(line)
        if opened and is_secret(opened[1]):
            bracket = opened[0].partition("#")[0].rstrip()[-1:]
            return _CLOSING.get(bracket, "\n"), -1
    return "", -1
