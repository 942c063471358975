"""A live exception as frozen texts: frames with source lines and locals, its causes, and its parts if it is a group.

Nothing of the program is called, see `saferepr`, and nothing of it is kept. What was left out is counted.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from ..records import CapturedError, Frame
from .errorcodec import decode, encode
from .saferepr import Budget, Texts
from .safetext import fitted, plain
from .safetypes import Kind, name_text, type_name
from .sources import Sources
from .tracebacks import render

__all__ = ["Limits", "capture", "decode", "encode", "place_of", "render", "type_name"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of an exception is recorded.

    first, last: frames at both ends of a traceback
    locals: of each frame
    value: of each local
    nodes, bytes: of all values together: the innermost frames have the first claim, then those of the causes
    source: lines around a frame's line, itself included
    message: bytes of it, and of each note
    notes: of each exception
    chain: how deep causes and groups are followed
    errors: how many exceptions in all
    parts: of each group
    """

    first: int = 10
    last: int = 30
    locals: int = 30
    value: Budget = field(default_factory=lambda: Budget(depth=3, items=10, string=160, nodes=60, bytes=512))
    nodes: int = 4000
    bytes: int = 65536
    source: int = 5
    message: int = 2048
    notes: int = 16
    chain: int = 8
    errors: int = 32
    parts: int = 10


DEFAULT = Limits()

_QUALNAME = type.__dict__["__qualname__"].__get__
_NOTHING = CapturedError("?", "[unreadable]")
_CO_OPTIMIZED = 1  # a function's frame, whose locals are no namespace; as inspect.CO_OPTIMIZED, which is slow to import


def capture(error: BaseException, *, limits: Limits = DEFAULT) -> CapturedError:
    """All that is recorded of `error`. Never raises, and keeps no reference to it."""
    try:
        return _Capture(limits).error(error, limits.chain)
    except (MemoryError, RecursionError):
        why = "[no room to read it]"
    except Exception:  # the program that is failing must not fail of us
        why = "[unreadable]"
    try:
        # At the end of the stack there may be no room for one more call of Python code.
        name = _QUALNAME(type(error))
        known = type(name) is str and len(name) < 100 and name.replace(".", "_").isidentifier()
        return CapturedError(name if known else "?", why)
    except Exception:  # as above: there may be no memory at all
        return _NOTHING


def place_of(error: BaseException) -> str:
    """``file:line function`` of the innermost frame; empty without a traceback. Never raises."""
    try:
        traceback = _TRACEBACK(error)
        if traceback is None:
            return ""
        while traceback.tb_next is not None:
            traceback = traceback.tb_next
        code = traceback.tb_frame.f_code
        return f"{_file(code.co_filename)}:{traceback.tb_lineno or 0} {_function(code.co_qualname)}"
    except Exception:  # as in `capture`
        return ""


# What CPython itself made of an exception, past what its class defines.
_OF_ERROR = vars(BaseException)
_ARGUMENTS = _OF_ERROR["args"].__get__
_TRACEBACK = _OF_ERROR["__traceback__"].__get__
_CAUSE = _OF_ERROR["__cause__"].__get__
_CONTEXT = _OF_ERROR["__context__"].__get__
_SUPPRESSED = _OF_ERROR["__suppress_context__"].__get__
_NAMESPACE = _OF_ERROR["__dict__"].__get__
_PARTS = vars(BaseExceptionGroup)["exceptions"].__get__
_MRO = type.__dict__["__mro__"].__get__
_CLASS_NAMESPACE = type.__dict__["__dict__"].__get__


class _Capture:
    """What one capture shares: the budget, the files it read, the exceptions it met."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.texts = Texts(limits.nodes, limits.bytes)
        self.sources = Sources()
        self.seen: set[int] = set()

    def error(self, error: BaseException, depth: int) -> CapturedError:
        kind = type(error)
        if id(error) in self.seen:
            return CapturedError(type_name(kind), "[the same one again]")
        whole = depth > 0 and len(self.seen) < self.limits.errors
        self.seen.add(id(error))
        message = _readable(self._message, error)
        cause = _CAUSE(error)
        context = None if _SUPPRESSED(error) else _CONTEXT(error)
        parts = _PARTS(error) if issubclass(kind, BaseExceptionGroup) else ()
        if not whole:
            notes = ("[its causes were not recorded]",) if cause is not None or context is not None else ()
            return CapturedError(
                type_name(kind), message, frames_cut=_count(_TRACEBACK(error)), notes=notes, exceptions_cut=len(parts)
            )
        frames, cut = self._frames(_TRACEBACK(error))
        # One that is both is shown once.
        causes = [
            self.error(c, depth - 1) if c is not None else None for c in (cause, None if context is cause else context)
        ]
        return CapturedError(
            type=type_name(kind),
            message=message,
            frames=frames,
            frames_cut=cut,
            notes=self._notes(error),
            cause=causes[0],
            context=causes[1],
            exceptions=tuple([self.error(part, depth - 1) for part in parts[: self.limits.parts]]),
            exceptions_cut=max(0, len(parts) - self.limits.parts),
            cut_after=self.limits.first if cut else 0,
        )

    def _frames(self, traceback: TracebackType | None) -> tuple[tuple[Frame, ...], int]:
        first: list[tuple[FrameType, int]] = []
        last: deque[tuple[FrameType, int]] = deque(maxlen=max(0, self.limits.last))
        total = 0
        while traceback is not None:
            here = (traceback.tb_frame, traceback.tb_lineno or 0)
            if total < self.limits.first:
                first.append(here)
            else:
                last.append(here)
            total += 1
            traceback = traceback.tb_next
        # The innermost frames get their share of the budget first.
        frames = [self._frame(frame, line) for frame, line in reversed([*first, *last])]
        frames.reverse()
        return tuple(frames), total - len(frames)

    def _frame(self, frame: FrameType, line: int) -> Frame:
        code = frame.f_code
        try:
            shown, cut = self._locals(frame)
            source = self.sources.around(code, line, self.limits.source)
        except Exception:  # where it happened is worth more than what was there
            shown, cut, source = {}, code.co_nlocals, ()
        return Frame(_file(code.co_filename), _function(code.co_qualname), max(line, 0), source, shown, cut)

    def _locals(self, frame: FrameType) -> tuple[dict[str, str], int]:
        """The texts of a frame's locals, and how many were left out."""
        code = frame.f_code
        optimized = bool(code.co_flags & _CO_OPTIMIZED)
        if not optimized and code.co_cellvars and sys.version_info < (3, 13):
            return {}, len(code.co_names)  # asking would store into a namespace, which may be the program's mapping
        found: Any = frame.f_locals
        kind = type(found)
        if issubclass(kind, dict):
            items = list(islice(dict.items(found), 4096))
            total = dict.__len__(found)
        elif optimized:  # since 3.13 a view of the frame, which is CPython's
            items = found.items()
            total = len(items)
        else:
            return {}, 1  # a mapping of the program
        if optimized and kind is dict and sys.getrefcount(found) <= 3:
            # Before 3.13 a frame keeps this copy, and with it values that the function has long let go of.
            # It is the frame's, ours, and the argument's: nobody else has it.
            found.clear()
        shown: dict[str, str] = {}
        ours = 0
        for name, value in items:
            if type(name) is not str or name.startswith("."):
                ours += 1  # what a comprehension iterates over
            elif len(shown) >= self.limits.locals or self.texts.spent:
                break
            elif optimized or not _is_scenery(name, value):
                shown[name_text(name)] = self.texts.named(name, value, self.limits.value)
        return shown, total - ours - len(shown)

    def _notes(self, error: BaseException) -> tuple[str, ...]:
        notes = dict.get(_NAMESPACE(error), "__notes__")
        if notes is None:
            return ()
        if type(notes) is not list:
            return (self.texts.of(notes, self.limits.value),)
        shown = [self._text(note) for note in notes[: self.limits.notes]]
        more = len(notes) - len(shown)
        return (*shown, f"... [{more} more]") if more > 0 else tuple(shown)

    def _text(self, value: object) -> str:
        """A str as it is, anything else as its repr."""
        if issubclass(type(value), str):
            return plain(value, self.limits.message)  # type: ignore[arg-type]
        return fitted(Texts().of(value, self.limits.value), self.limits.message)

    def _message(self, error: BaseException) -> str:
        """What ``str(error)`` says, as far as that calls no code of the program."""
        for base in _MRO(type(error)):
            if "__str__" in _CLASS_NAMESPACE(base):
                parts = _SAID_BY.get(id(base))
                if parts is not None:
                    said = _said(error, base, parts)
                    return self._arguments(error) if said is None else plain(said, self.limits.message)
                break
        text = self._arguments(error)
        own = type(error)
        if text or base is BaseException:
            return text
        # It makes its text of its attributes.
        found, _ = Kind(own).attributes(error)
        texts = Texts(self.limits.value.nodes)
        shown = [f"{n}={texts.named(n, value, self.limits.value)}" for n, value in found[:16] if type(n) is str]
        return fitted(", ".join(shown), self.limits.message)

    def _arguments(self, error: BaseException) -> str:
        arguments = _ARGUMENTS(error)
        if not arguments:
            return ""
        if len(arguments) > 1 or issubclass(type(error), KeyError):
            one = arguments[0] if len(arguments) == 1 else arguments
            return fitted(Texts().of(one, self.limits.value), self.limits.message)
        return self._text(arguments[0])


def _readable(read: Any, error: BaseException) -> str:
    try:
        text: str = read(error)
        return text
    except Exception:  # a message is not worth the rest
        return "[unreadable]"


def _count(traceback: TracebackType | None) -> int:
    count = 0
    while traceback is not None:
        count += 1
        traceback = traceback.tb_next
    return count


def _file(file: str) -> str:
    """A file's name as text; of a very long one the end."""
    return _file_text(file) if type(file) is str else "?"


@lru_cache(1024)
def _file_text(file: str) -> str:
    return plain(file if len(file) <= 400 else "..." + file[-400:], 600)


def _function(name: str) -> str:
    return _function_text(name) if type(name) is str else "?"


@lru_cache(1024)
def _function_text(name: str) -> str:
    return plain(name, 200)


_OF_IPYTHON = re.compile(r"(?:_(?:i{1,3}|i?\d+|ih|oh|dh|_{0,2})?|In|Out|get_ipython|exit|quit)\Z").match


def _is_scenery(name: str, value: object) -> bool:
    """Whether something in a module is no data: imports, functions, classes, names with two underscores.

    Nor is IPython's memory of what was typed and shown, which may hold anything.
    """
    kind = type(value)
    if _OF_IPYTHON(name):
        return True
    return name.startswith("__") or kind is FunctionType or issubclass(kind, (ModuleType, type))


# Messages that C code makes, and of what: if all of that are plain values, it calls nothing of the program.
_UNICODE = ("encoding", "reason")
_SAYS: list[tuple[type[BaseException], tuple[str, ...]]] = [
    (OSError, ("errno", "strerror", "filename", "filename2", "args")),
    (SyntaxError, ("msg", "filename", "lineno")),
    (ImportError, ("msg", "args")),
    (UnicodeEncodeError, _UNICODE),
    (UnicodeDecodeError, _UNICODE),
    (UnicodeTranslateError, ("reason",)),
    (BaseExceptionGroup, ("message",)),
]
_SAID_BY = {id(base): names for base, names in _SAYS}


def _said(error: BaseException, base: type[BaseException], names: Iterable[str]) -> str | None:
    """What `base` says of `error`; None if a value of the program's own type takes part in it."""
    for name in names:
        value = vars(base).get(name, _OF_ERROR.get(name)).__get__(error)
        for part in value if type(value) is tuple else (value,):
            kind = type(part)
            if not (part is None or kind is str or kind is bytes or (kind is int and part.bit_length() < 1024)):
                return None
            if kind is not int and part is not None and len(part) > 1 << 16:
                return None
    text: Any = base.__str__(error)
    return text if type(text) is str else None
