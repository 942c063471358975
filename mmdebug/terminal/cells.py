"""What was typed, as commands: whether one is complete, how its next line begins, where one ends. Pure.

The grammar is the client's Python. What that does not know is sent as it is: the process decides.
"""

from __future__ import annotations

import ast
import codeop
import re
import warnings
from collections.abc import Iterable, Iterator

_INDENT = 4
_LEAVES_BLOCK = re.compile(r"\s*(?:return|raise|pass|break|continue)\b")
#: What belongs to the block before it although it is not indented.
_GOES_ON = re.compile(r"(?:else|elif|except|finally)\b")

#: Words that leave, whatever they mean in the process.
LEAVING = ("exit", "quit", "exit()", "quit()", "%exit", "%quit")


def is_special(text: str) -> bool:
    """Whether this is a line for the client and no Python: ``%stats``, ``name?``, ``exit``."""
    line = text.strip()
    return "\n" not in line and (line.startswith("%") or line in LEAVING or asked_about(line) is not None)


def asked_about(text: str) -> tuple[str, int] | None:
    """The name and the detail that ``name?``, ``?name`` or ``name??`` asks for."""
    found = re.fullmatch(r"(\?{0,2})\s*([^\s?#'\"%][^?#\n]*?)\s*(\?{0,2})", text.strip())
    if found is None or bool(found[1]) == bool(found[3]):
        return None
    return found[2], len(found[1] or found[3]) - 1


def needs_more(text: str) -> bool:
    """Whether more has to come: a bracket, a string or a block is open."""
    if not text.strip() or is_special(text):
        return False
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the process compiles it, and may warn
            return compiler(text, "<input>", "exec") is None
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        return False


def may_go_on(text: str) -> bool:
    """Whether `text` ends in a block of several lines, which only an empty line or another statement ends."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as above
            body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    last = body[-1] if body else None
    inside = getattr(last, "body", None) or getattr(last, "cases", None)
    return last is not None and isinstance(inside, list) and (last.end_lineno or 0) > last.lineno


def is_ready(text: str) -> bool:
    """Whether Enter at its end sends it: it is complete, and a block at its end has an empty line after it."""
    if needs_more(text):
        return False
    return is_special(text) or not text.rpartition("\n")[2].strip() or not may_go_on(text)


def indent_after(text: str) -> str:
    """The blanks that the next line begins with."""
    line = text.rpartition("\n")[2]
    blanks = line[: len(line) - len(line.lstrip())]
    code = line.partition("#")[0].rstrip()
    if code.endswith(":"):
        return blanks + " " * _INDENT
    if _LEAVES_BLOCK.match(code):
        return blanks[:-_INDENT]
    return blanks


def commands(lines: Iterable[str]) -> Iterator[str]:
    """The commands in a text that is not typed, as from a pipe.

    Unlike at a prompt an empty line ends no block: the next line that is not indented does.
    """
    text = ""
    for line in lines:
        line = line.rstrip("\r\n")
        if text and not needs_more(text) and not (line[:1] in ("", " ", "\t", "#") or _GOES_ON.match(line)):
            yield text
            text = ""
        text = f"{text}\n{line}" if text else line
        if not text.strip():
            text = ""
        elif not needs_more(text) and not may_go_on(text):
            yield text
            text = ""
    if text.strip():
        yield text
