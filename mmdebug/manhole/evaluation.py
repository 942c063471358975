"""A client's code: compiled as cells of a session, run, and what it raised as lines of text."""

from __future__ import annotations
import __future__ as future

import ast
import inspect
import itertools
import linecache
import opcode
import os
import signal
import traceback
import unicodedata  # noqa: F401 (traceback imports it when it meets a wide character, which may be in a bad moment)
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from . import output, pending, prompting
from .awaiting import Apart

try:
    import _suggestions  # type: ignore[import-not-found] # noqa: F401 (likewise, from Python 3.13 on)
except ImportError:
    pass

#: Cells of a session whose lines are kept for tracebacks, and characters of them all.
KEPT = 100
KEPT_CHARACTERS = 1 << 20

#: Of a traceback as text: its frames, lines, characters of a line and of all.
MAX_FRAMES = 1000
MAX_LINES = 400
MAX_LINE = 4096
MAX_TEXT = 64 << 10
#: Characters of an error's own text.
MAX_MESSAGE = 4096

_FEATURES = [getattr(future, name).compiler_flag for name in future.all_feature_names]
_OURS = os.path.dirname(__file__) + os.sep
_RAISERS = (output.__file__, pending.__file__, prompting.__file__)
#: Numbers of cells: `linecache` is the whole process's.
_numbers = itertools.count(1)


class NoLoop(RuntimeError):
    """There is an ``await`` in the code, and no loop where it runs."""

    __module__ = "mmdebug"


@dataclass(frozen=True, slots=True)
class Compiled:
    """Steps to run one after the other; the last one's value is the code's if `valued`."""

    steps: tuple[CodeType, ...]
    valued: bool


def _awaits(step: CodeType) -> bool:
    return bool(step.co_flags & inspect.CO_COROUTINE)


class Cells:
    """The code of one session: remembers the lines for tracebacks, and ``from __future__ import`` as a prompt does."""

    def __init__(self) -> None:
        self._flags = 0
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def compile(self, code: str, mode: str = "cell") -> Compiled:
        """Code in the mode ``cell`` (has its last expression's value), ``eval`` (is one) or ``exec`` (has none).

        Raises what Python does of code that is none.
        """
        name = f"<mmdebug {next(_numbers)}>"
        self._remember(name, code)
        if mode == "eval":
            return Compiled((self._compiled(code.strip(), name, "eval"),), True)
        if mode == "exec":
            return Compiled((self._compiled(code, name, "exec"),), False)
        tree = compile(code, name, "exec", self._flags | ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        steps = [self._compiled(tree, name, "exec")] if tree.body else []
        if last is not None:
            steps.append(self._compiled(ast.Expression(last.value), name, "eval"))
        return Compiled(tuple(steps), last is not None)

    def _compiled(self, source: Any, name: str, mode: str) -> CodeType:
        code: CodeType = compile(source, name, mode, self._flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
        for feature in _FEATURES:
            self._flags |= code.co_flags & feature
        return code

    def _remember(self, name: str, code: str) -> None:
        self._sizes[name] = len(code)
        # Without a time, so that nobody looks for a file of this name.
        linecache.cache[name] = (len(code), None, [line + "\n" for line in code.splitlines()], name)
        while len(self._sizes) > KEPT or (len(self._sizes) > 1 and sum(self._sizes.values()) > KEPT_CHARACTERS):
            oldest, _ = self._sizes.popitem(last=False)
            linecache.cache.pop(oldest, None)

    def close(self) -> None:
        """Forget the lines."""
        while self._sizes:
            name, _ = self._sizes.popitem()
            linecache.cache.pop(name, None)


async def evaluate(compiled: Compiled, namespace: dict[str, Any], apart: Apart | None, why_no_loop: str = "") -> Any:
    """Run the code and return its value, or None. Raises `NoLoop` if it awaits something, and there is no `apart`."""
    if apart is None and any(_awaits(step) for step in compiled.steps):
        raise NoLoop(f"there is no event loop to await on: {why_no_loop}")
    value = None
    for step in compiled.steps:
        value = eval(step, namespace)
        if apart is not None and _awaits(step):
            value = await apart.run(value)
    return value if compiled.valued else None


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as texts: the type's name, what it says, and lines as Python prints them."""

    name: str
    message: str
    traceback: list[str]


def failure_of(error: BaseException) -> Failure:
    """What `error` says, with the frames of the client's code and what it called. Calls the program's code."""
    _cut_out_ours(error)
    message = _message(error)
    try:
        shown = traceback.TracebackException.from_exception(error, limit=-MAX_FRAMES)
        lines = _bounded("".join(shown.format()))
    except Exception as why:  # such as of an exception's own __str__ or __notes__
        lines = [f"{type(error).__name__}: {message}", f"(its traceback can't be shown: {type(why).__name__})"]
    return Failure(type(error).__qualname__, message, lines)


def _message(error: BaseException) -> str:
    try:
        return str.__str__(str(error))[:MAX_MESSAGE]
    except Exception as why:
        return f"<its text can't be had: {type(why).__name__}>"


def _bounded(text: str) -> list[str]:
    lines = [
        line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}... [{len(line) - MAX_LINE} more]"
        for line in text.splitlines()
    ]
    if len(lines) > MAX_LINES:
        head, tail = MAX_LINES // 4, MAX_LINES * 3 // 4
        lines = [*lines[:head], f"  ... [{len(lines) - head - tail} lines more]", *lines[-tail:]]
    kept: list[str] = []
    room = MAX_TEXT
    for line in reversed(lines):  # the last ones say most
        room -= len(line) + 1
        if room < 0:
            kept.append("  ... [what came before is left out]")
            break
        kept.append(line)
    return kept[::-1]


def _cut_out_ours(error: BaseException) -> None:
    """Drop our frames at both ends of a traceback: those that called the code, and what interrupted or refused it."""
    first = error.__traceback__
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OURS):
        first = first.tb_next
    error.__traceback__ = first
    while first is not None:
        following = first.tb_next
        if following is not None and following.tb_frame.f_code.co_filename in _RAISERS:
            first.tb_next = following = None
        first = following


def by_signal(error: BaseException) -> bool:
    """Whether a signal's handler raised this, in the midst of the client's code: then it is meant for the program."""
    if isinstance(error, Exception):
        return False
    handlers = signal_handlers()
    found = error.__traceback__
    last = None
    while found is not None:
        if found.tb_frame.f_code in handlers:
            return True
        last, found = found, found.tb_next
    if type(error) is not KeyboardInterrupt or last is None:
        return False
    # Python's own handler has no frame: then no statement of the code raised it.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or last.tb_lasti < 0:
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] not in _RAISING


def signal_handlers() -> set[CodeType]:
    """The code of the handlers of all signals."""
    found: set[CodeType] = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        if type(handler) is partial:
            handler = handler.func
        if type(handler) is MethodType:
            handler = handler.__func__
        if type(handler) is FunctionType:
            found.add(handler.__code__)
    return found


_RAISING = frozenset([number for name, number in opcode.opmap.items() if name in ("RAISE_VARARGS", "RERAISE")])
