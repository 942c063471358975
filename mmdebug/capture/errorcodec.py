"""A `CapturedError` as JSON bytes within a limit, and back from bytes that may be damaged or hostile."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

from mmstats.errors import FormatError

from ..records import CapturedError, Frame
from .safetext import fitted

#: The most bytes that `encode` gives and that `decode` looks at.
LARGEST = 1 << 20
#: How deep causes and groups go at most.
_DEEPEST = 32
_LARGEST_NUMBER = (1 << 63) - 1

_Item = TypeVar("_Item")


def encode(captured: CapturedError, limit: int) -> bytes:
    """At most `limit` bytes of JSON: what does not fit is left out, what matters least first.

    512 bytes always have room for the type and the message, or their beginnings.
    Raises ValueError for a `limit` that not even an empty record fits into.
    """
    limit = min(limit, LARGEST)
    data = _dumped(captured)
    for plan in _PLANS:
        if len(data) <= limit:
            return data
        captured = _shrunk(captured, plan, 0)
        data = _dumped(captured)
    size = 128
    while len(data) > limit and size > 1:
        captured = replace(
            captured, type=fitted(captured.type, size), message=fitted(captured.message, size), frames=()
        )
        data = _dumped(captured)
        size //= 2
    if len(data) > limit:
        raise ValueError(f"an exception does not fit into {limit} bytes: give it 512 or more")
    return data


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is kept when something has to go.

    source: whether a frame's own line is
    with_locals: how many of the innermost frames keep their locals, of at most `value` bytes each
    first, last: frames of the exception itself; others keep `others`
    text: bytes of a message or a note
    depth: of causes and groups
    """

    source: bool = True
    with_locals: int = 1 << 30
    value: int = 1 << 30
    first: int = 1 << 30
    last: int = 1 << 30
    others: int = 1 << 30
    text: int = 1 << 30
    notes: int = 1 << 30
    parts: int = 1 << 30
    depth: int = _DEEPEST
    file: int = 1 << 30


#: Each is applied to what the one before it left.
_PLANS = (
    _Plan(),
    _Plan(value=200),
    _Plan(value=120, with_locals=8),
    _Plan(value=80, with_locals=3),
    _Plan(with_locals=0),
    _Plan(with_locals=0, source=False, text=1024),
    _Plan(with_locals=0, source=False, first=3, last=10, others=6, text=600, notes=4, parts=6),
    _Plan(with_locals=0, source=False, first=1, last=4, others=2, text=300, notes=2, parts=4, depth=4),
    _Plan(with_locals=0, source=False, first=0, last=2, others=1, text=160, notes=1, parts=2, depth=2, file=120),
    _Plan(with_locals=0, source=False, first=0, last=1, others=0, text=120, notes=0, parts=0, depth=1, file=80),
    _Plan(with_locals=0, source=False, first=0, last=1, others=0, text=160, notes=0, parts=0, depth=0, file=80),
)


def _shrunk(error: CapturedError, plan: _Plan, level: int) -> CapturedError:
    """`error` as `plan` wants it; `level` counts the exceptions above it."""
    count = len(error.frames)
    first, last = (plan.first, plan.last) if level == 0 else (0, plan.others)
    frames, cut_after = error.frames, error.cut_after
    if first + last < count:
        # Those that were left out before stand in the gap as well.
        first = min(first, cut_after) if error.frames_cut else first
        last = min(last, count - cut_after) if error.frames_cut else last
        frames, cut_after = frames[:first] + frames[count - last :], first
    deeper = level < plan.depth
    parts = error.exceptions[: plan.parts] if deeper else ()
    return CapturedError(
        type=fitted(error.type, max(plan.text // 2, 60)),
        message=fitted(error.message, plan.text),
        frames=tuple([_frame(f, plan, plan.with_locals > len(frames) - 1 - i) for i, f in enumerate(frames)]),
        frames_cut=error.frames_cut + count - len(frames),
        notes=tuple([fitted(note, plan.text) for note in error.notes[: plan.notes]]),
        cause=_shrunk(error.cause, plan, level + 1) if deeper and error.cause is not None else None,
        context=_shrunk(error.context, plan, level + 1) if deeper and error.context is not None else None,
        exceptions=tuple([_shrunk(part, plan, level + 1) for part in parts]),
        exceptions_cut=error.exceptions_cut + len(error.exceptions) - len(parts),
        cut_after=cut_after,
    )


def _frame(frame: Frame, plan: _Plan, with_locals: bool) -> Frame:
    kept = {name: fitted(text, plan.value) for name, text in frame.locals.items()} if with_locals else {}
    return Frame(
        file=frame.file if len(frame.file) <= plan.file else "..." + frame.file[-plan.file :],
        function=fitted(frame.function, max(60, plan.file)),
        line=frame.line,
        source=tuple([s for s in frame.source if s[0] == frame.line]) if plan.source else (),
        locals=kept,
        cut=frame.cut + len(frame.locals) - len(kept),
    )


def _dumped(error: CapturedError) -> bytes:
    text = json.dumps(_packed(error, 0), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _packed(error: CapturedError, level: int) -> dict[str, Any]:
    """What JSON holds: keys whose value says nothing are left out."""
    deeper = level < _DEEPEST
    whole = {
        "type": error.type,
        "message": error.message,
        "frames": [[f.file, f.function, f.line, f.source, dict(f.locals), f.cut] for f in error.frames],
        "frames_cut": error.frames_cut,
        "cut_after": error.cut_after,
        "notes": error.notes,
        "cause": _packed(error.cause, level + 1) if deeper and error.cause is not None else None,
        "context": _packed(error.context, level + 1) if deeper and error.context is not None else None,
        "exceptions": [_packed(part, level + 1) for part in error.exceptions] if deeper else [],
        "exceptions_cut": error.exceptions_cut + (0 if deeper else len(error.exceptions)),
    }
    return {key: value for key, value in whole.items() if value or key == "type"}


def decode(data: bytes) -> CapturedError:
    """What `encode` wrote. Raises `FormatError` for anything else."""
    if len(data) > LARGEST:
        raise FormatError(f"the record of an exception has {len(data)} bytes, more than {LARGEST}")
    try:
        return _error(json.loads(data.decode("utf-8"), parse_constant=_no_number), 0)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError("the record of an exception is no JSON that could be read") from error


def _no_number(name: str) -> NoReturn:
    raise FormatError(f"the record of an exception holds {name}")


def _error(found: Any, level: int) -> CapturedError:
    if type(found) is not dict or level > _DEEPEST:
        raise FormatError("the record of an exception is not built as one")
    cause, context = found.get("cause"), found.get("context")
    return CapturedError(
        type=_text(found.get("type")),
        message=_text(found.get("message", "")),
        frames=_each(found.get("frames", []), _read_frame),
        frames_cut=_number(found.get("frames_cut", 0)),
        notes=_each(found.get("notes", []), _text),
        cause=None if cause is None else _error(cause, level + 1),
        context=None if context is None else _error(context, level + 1),
        exceptions=_each(found.get("exceptions", []), lambda part: _error(part, level + 1)),
        exceptions_cut=_number(found.get("exceptions_cut", 0)),
        cut_after=_number(found.get("cut_after", 0)),
    )


def _read_frame(found: Any) -> Frame:
    if type(found) is not list or len(found) != 6 or type(found[4]) is not dict:
        raise FormatError("a frame in the record of an exception is not built as one")
    file, function, line, source, values, cut = found
    return Frame(
        file=_text(file),
        function=_text(function),
        line=_number(line),
        source=_each(source, _read_line),
        locals={_text(name): _text(text) for name, text in values.items()},
        cut=_number(cut),
    )


def _read_line(found: Any) -> tuple[int, str]:
    if type(found) is not list or len(found) != 2:
        raise FormatError("a source line in the record of an exception is not built as one")
    return _number(found[0]), _text(found[1])


def _each(found: Any, read: Callable[[Any], _Item]) -> tuple[_Item, ...]:
    if type(found) is not list:
        raise FormatError("the record of an exception has something else where it should have a list")
    return tuple([read(item) for item in found])


def _text(found: Any) -> str:
    if type(found) is not str or not (found.isascii() or _encodable(found)):
        raise FormatError("the record of an exception has something else where it should have a text")
    return found


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone half of a surrogate pair
        return False
    return True


def _number(found: Any) -> int:
    if type(found) is not int or not 0 <= found <= _LARGEST_NUMBER:
        raise FormatError("the record of an exception has something else where it should have a count")
    return found
