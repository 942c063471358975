"""A recorded exception as the lines that Python would print. They are not escaped for a terminal or a page."""

from __future__ import annotations

from collections.abc import Iterable

from ..records import CapturedError

_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"
_RULE = "+------------------------------------"


def render(captured: CapturedError, *, locals: bool = False) -> list[str]:
    """The lines of its traceback, causes before it; with `locals` those of each frame below its source line."""
    page = _Page(locals)
    page.chain(captured)
    return page.lines


class _Page:
    """Lines, and how deep in groups they stand. Groups are drawn as Python draws them."""

    def __init__(self, locals: bool) -> None:
        self.lines: list[str] = []
        self._locals = locals
        self._depth = 0
        self._open = False

    def chain(self, error: CapturedError) -> None:
        for earlier, why in ((error.context, _CONTEXT), (error.cause, _CAUSE)):
            if earlier is not None:
                self.chain(earlier)
                self._add(["", why, ""])
        if error.exceptions or error.exceptions_cut:
            self._group(error)
        else:
            self._add(_stack(error, "Traceback", self._locals))
            self._add(_last(error))

    def _group(self, error: CapturedError) -> None:
        top = self._depth == 0
        self._depth += top
        stack = _stack(error, "Exception Group Traceback", self._locals)
        self._add(stack[:1], "+" if top else "|")
        self._add(stack[1:])
        self._add(_last(error))
        self._open = False
        count = len(error.exceptions) + bool(error.exceptions_cut)
        for index in range(count):
            more = index == len(error.exceptions)
            title = "..." if more else str(index + 1)
            self.lines.append(
                f"{'  ' * self._depth}{'+-' if index == 0 else '  '}+---------------- {title} ----------------"
            )
            self._open = self._open or index == count - 1
            self._depth += 1
            if more:
                self._add([f"[{error.exceptions_cut} more not recorded]"])
            else:
                self.chain(error.exceptions[index])
            if index == count - 1 and self._open:
                self.lines.append("  " * self._depth + _RULE)
                self._open = False
            self._depth -= 1
        self._depth -= top

    def _add(self, lines: Iterable[str], margin: str = "|") -> None:
        before = f"{'  ' * self._depth}{margin} " if self._depth else ""
        self.lines += [(before + line).rstrip() for line in lines]


def _stack(error: CapturedError, title: str, locals: bool) -> list[str]:
    """The frames' lines, none if there are no frames."""
    if not error.frames and not error.frames_cut:
        return []
    lines = [f"{title} (most recent call last):"]
    for index, frame in enumerate(error.frames):
        if error.frames_cut and index == error.cut_after:
            lines.append(_left_out(error.frames_cut))
        lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.function}')
        lines += [f"    {text.strip()}" for number, text in frame.source if number == frame.line and text.strip()]
        if locals:
            lines += [f"    {name} = {text}" for name, text in frame.locals.items()]
            lines += [f"    [{frame.cut} more locals]"] if frame.cut else []
    if error.frames_cut and error.cut_after >= len(error.frames):
        lines.append(_left_out(error.frames_cut))
    return lines


def _left_out(count: int) -> str:
    return f"  [{count} frame{'s' if count != 1 else ''} not recorded]"


def _last(error: CapturedError) -> list[str]:
    text = f"{error.type}: {error.message}" if error.message else error.type
    return [line for part in (text, *error.notes) for line in part.split("\n")]
