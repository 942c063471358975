"""What could follow at a prompt, and what a name is. With the standard library only, and little of the program's code.

Names, attributes and items with constant keys are looked up; nothing is called. The attributes that are offered
are not asked for, so their properties do not run.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import keyword
import os
import re
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..capture.safetypes import type_name
from ..protocol import Message
from .texts import show

#: Matches in one answer; signatures are found only if there are few.
MAX_MATCHES = 500
MAX_SIGNATURES = 60
#: Characters before the cursor that are read, those that what is to be completed may have, and those of answers.
MAX_CODE = 20_000
MAX_PATH = 500
MAX_SIGNATURE = 400
MAX_DOC = 20_000
MAX_SOURCE = 200_000
MAX_TEXT = 4000

_KEY = r"\[\s*(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|-?\d+)\s*\]"
#: A name, its attributes and items: what may be looked up.
_PATH = rf"[^\W\d]\w*(?:\s*\.\s*[^\W\d]\w*|{_KEY})*"
_PATH_AT_END = re.compile(rf"({_PATH})\s*\.\s*(\w*)\Z")
_NAME_AT_END = re.compile(r"(?<![\w.])([^\W\d]\w*|)\Z")
_KEY_AT_END = re.compile(rf"({_PATH})\s*\[\s*(?P<key>(?:[rRuU]?(?:'[^'\n]*|\"[^\"\n]*))|-?\w*)\Z")
_CALLED = re.compile(rf"({_PATH})\s*\Z")
_IMPORT = re.compile(r"(?:^|[;\n])\s*import\s+(?:[\w.]+(?:\s+as\s+\w+)?\s*,\s*)*([\w.]*)\Z")
_FROM = re.compile(r"(?:^|[;\n])\s*from\s+([\w.]*)\Z")
_FROM_IMPORT = re.compile(r"(?:^|[;\n])\s*from\s+([\w.]+)\s+import\s+\(?\s*(?:\w+(?:\s+as\s+\w+)?\s*,\s*)*(\w*)\Z")
_WORDS = re.compile(rf"{_PATH}")

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Match:
    """Something that could stand there. kind: as editors call it, such as ``function`` or ``property``."""

    text: str
    kind: str
    signature: str = ""


def complete(code: str, cursor: int, names: dict[str, Any]) -> Message:
    """``matches`` and ``more`` for what stands before the cursor."""
    before = code[max(0, cursor - MAX_CODE) : cursor]
    start, found = _matches(before, names)
    start += max(0, cursor - MAX_CODE)
    matches = sorted({match.text: match for match in found}.values(), key=_order)
    shown = [
        {"text": match.text, "start": start, "end": cursor, "type": match.kind, "signature": match.signature}
        for match in matches[:MAX_MATCHES]
    ]
    return {"matches": shown, "more": len(matches) > MAX_MATCHES}


def _order(match: Match) -> tuple[bool, int, str]:
    hidden = 2 if match.text.startswith("__") else 1 if match.text.startswith("_") else 0
    return (match.kind != "param", hidden, match.text)


def _matches(before: str, names: dict[str, Any]) -> tuple[int, list[Match]]:
    """Where the text begins that a match takes the place of, and the matches."""
    inside = _Reader(before)
    # The patterns take a time that grows with the square of the length.
    skipped = max(0, len(before) - MAX_PATH)
    start, found = _matches_at_end(before[skipped:], None if inside.opened is None else inside.opened - skipped, names)
    if inside.opened is None and _NAME_AT_END.fullmatch(before, skipped + start):
        called = before[max(0, inside.call - MAX_PATH) : inside.call]
        found = _parameters(called, before[skipped + start :], names) + found
    return skipped + start, found


def _matches_at_end(before: str, opened: int | None, names: dict[str, Any]) -> tuple[int, list[Match]]:
    keyed = _KEY_AT_END.search(before)
    if keyed is not None and opened in (keyed.start("key"), keyed.start("key") + 1, None):
        found = _keys(_value(keyed[1], names), keyed["key"])
        if found or opened is not None:
            return keyed.start("key"), found
    if opened is not None:  # in a string or a comment
        return len(before), []
    for pattern, look in ((_IMPORT, _modules), (_FROM, _modules)):
        match = pattern.search(before)
        if match is not None:
            package, _, prefix = match[1].rpartition(".")
            return len(before) - len(prefix), look(package, prefix)
    match = _FROM_IMPORT.search(before)
    if match is not None:
        module = sys.modules.get(match[1])
        several = _modules(match[1], match[2]) + ([] if module is None else _attributes(module, match[2]))
        return match.start(2), several
    match = _PATH_AT_END.search(before)
    if match is not None:
        value = _value(match[1], names)
        return match.start(2), [] if value is _MISSING else _attributes(value, match[2])
    match = _NAME_AT_END.search(before)
    if match is None:
        return len(before), []
    return match.start(1), _names(match[1], names)


class _Reader:
    """Code up to the cursor, read roughly.

    opened: where the string or comment begins that the cursor is in, None if in none
    call: where the innermost bracket stands that is open, 0 if none is, or if it is no round one
    """

    def __init__(self, before: str) -> None:
        self.opened: int | None = None
        self.call = 0
        brackets: list[int] = []
        at, size = 0, len(before)
        while at < size:
            character = before[at]
            if character in "'\"":
                quote = before[at : at + 3] if before[at : at + 3] in ("'''", '"""') else character
                end = _end_of_string(before, at + len(quote), quote)
                if end is None:
                    self.opened = at
                    return
                at = end
                continue
            if character == "#":
                end_of_line = before.find("\n", at)
                if end_of_line < 0:
                    self.opened = at
                    return
                at = end_of_line
            elif character in "([{":
                brackets.append(at)
            elif character in ")]}" and brackets:
                brackets.pop()
            at += 1
        if brackets and before[brackets[-1]] == "(":
            self.call = brackets[-1]


def _end_of_string(code: str, at: int, quote: str) -> int | None:
    """Where the code goes on behind a string; None if that does not end."""
    while at < len(code):
        if code[at] == "\\":
            at += 2
        elif code.startswith(quote, at):
            return at + len(quote)
        elif code[at] == "\n" and len(quote) == 1:
            return at  # it was no string
        else:
            at += 1
    return None


# What there is.


def _value(path: str, names: dict[str, Any]) -> Any:
    """What a path of attributes and items stands for, or `_MISSING`."""
    try:
        node = ast.parse(path.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _MISSING
    steps: list[ast.Attribute | ast.Subscript] = []
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        steps.append(node)
        node = node.value
    if not isinstance(node, ast.Name):
        return _MISSING
    try:
        value = _named(node.id, names)
        for step in reversed(steps):
            value = getattr(value, step.attr) if isinstance(step, ast.Attribute) else _item(value, step.slice)
    except Exception:  # there is none, or the program's code failed
        return _MISSING
    return value


def _item(value: Any, key: ast.expr) -> Any:
    # Only of Python's own containers: others' __getitem__ may ask a database.
    if isinstance(value, (dict, list, tuple)):
        return value[ast.literal_eval(key)]
    raise LookupError


def _builtins(names: dict[str, Any]) -> Any:
    own = names.get("__builtins__", builtins)
    return own if isinstance(own, dict) else vars(own)


def _named(name: str, names: dict[str, Any]) -> Any:
    return names[name] if name in names else _builtins(names)[name]


def _names(prefix: str, names: dict[str, Any]) -> list[Match]:
    places = [names, _builtins(names)]
    if hasattr(type(places[1]), "__missing__"):  # it has the program's own names behind it
        places.append(vars(sys.modules["__main__"]))
    found = [Match(word, "keyword") for word in (*keyword.kwlist, *keyword.softkwlist) if word.startswith(prefix)]
    for place in reversed(places):
        for name, value in list(place.items()):
            if type(name) is str and _offered(name, prefix):
                found.append(Match(name, _kind(value), _signature(value) if prefix else ""))
    return found


def _offered(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and (not name.startswith("_") or prefix.startswith("_"))


def _attributes(value: Any, prefix: str) -> list[Match]:
    try:
        several = dir(value)
    except Exception:
        several = dir(type(value))
    wanted = [name for name in several if type(name) is str and name.isidentifier() and _offered(name, prefix)]
    found = []
    for name in sorted(wanted)[: 2 * MAX_MATCHES]:
        static = inspect.getattr_static(value, name, _MISSING)
        signature = _signature(static, bound=_is_bound(value)) if len(wanted) <= MAX_SIGNATURES else ""
        found.append(Match(name, _kind(static), signature))
    return found


def _is_bound(value: Any) -> bool:
    return not isinstance(value, (type, types.ModuleType))


def _keys(value: Any, typed: str) -> list[Match]:
    if not isinstance(value, dict):
        return []
    several = list(dict.keys(value))[: 20 * MAX_MATCHES]
    if typed[:1] in ("'", '"'):
        quote, prefix = typed[0], typed[1:]
        return [Match(_quoted(key, quote), "key") for key in several if type(key) is str and key.startswith(prefix)]
    texts = [repr(key) for key in several if type(key) in (str, int, bytes, bool) and len(str(key)) < 200]
    return [Match(text, "key") for text in texts if text.startswith(typed)]


def _quoted(key: str, quote: str) -> str:
    text = repr(key)
    return text if text[0] == quote else f"{quote}{text[1:-1].replace(quote, chr(92) + quote)}{quote}"


def _parameters(before: str, prefix: str, names: dict[str, Any]) -> list[Match]:
    """Names of arguments of the call that the cursor is in; `before` ends where its bracket stands."""
    match = _CALLED.search(before)
    called = _MISSING if match is None else _value(match[1], names)
    if called is _MISSING or not callable(called):
        return []
    try:
        parameters = inspect.signature(called).parameters.values()
    except Exception:
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [Match(f"{p.name}=", "param") for p in parameters if p.kind in named and p.name.startswith(prefix)]


def _modules(package: str, prefix: str) -> list[Match]:
    """Modules that are loaded or lie beside the loaded ones; nothing is imported."""
    found: set[str] = set()
    begin = f"{package}." if package else ""
    for name in list(sys.modules):
        if type(name) is str and name.startswith(begin):
            found.add(name[len(begin) :].partition(".")[0])
    if not package:
        found.update(sys.builtin_module_names, sys.stdlib_module_names)
    found.update(_beside(sys.path if not package else getattr(sys.modules.get(package), "__path__", ())))
    return [Match(name, "module") for name in found if name.isidentifier() and _offered(name, prefix)]


def _beside(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in [path for path in paths if type(path) is str]:
        try:
            with os.scandir(path or ".") as entries:
                for entry in entries:
                    module = inspect.getmodulename(entry.name)
                    if module is not None:
                        found.add(module)
                    elif entry.name.isidentifier() and os.path.exists(os.path.join(entry.path, "__init__.py")):
                        found.add(entry.name)
        except OSError:  # there is none, or it is an archive
            pass
    return found - {"__init__"}


def _kind(value: Any) -> str:
    kind = type(value)
    if issubclass(kind, types.ModuleType):
        return "module"
    if issubclass(kind, type):
        return "class"
    if issubclass(kind, (property, types.GetSetDescriptorType, types.MemberDescriptorType)):
        return "property"
    if issubclass(kind, _FUNCTIONS):
        return "function"
    return "instance"


_FUNCTIONS = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.MethodWrapperType, types.ClassMethodDescriptorType, classmethod, staticmethod,
)  # fmt: skip


def _signature(value: Any, bound: bool = False) -> str:
    """``(a, b=1)``, of functions of Python only: others are looked up in their documentation, which takes long."""
    function = value.__func__ if isinstance(value, (classmethod, types.MethodType)) else value
    bound = (bound and type(value) is types.FunctionType) or function is not value
    if type(function) is not types.FunctionType:
        return ""
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    names = list(code.co_varnames[:count])
    optional = code.co_argcount - len(function.__defaults__ or ())
    texts = [f"{name}=..." if at >= optional else name for at, name in enumerate(names[: code.co_argcount])]
    if code.co_flags & inspect.CO_VARARGS:
        texts.append(f"*{code.co_varnames[count]}")
    elif code.co_kwonlyargcount:
        texts.append("*")
    texts += [f"{name}=..." if name in (function.__kwdefaults__ or ()) else name for name in names[code.co_argcount :]]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        texts.append(f"**{code.co_varnames[count + bool(code.co_flags & inspect.CO_VARARGS)]}")
    if bound and texts:
        del texts[0]
    return f"({', '.join(texts)})"[:MAX_SIGNATURE]


# What one of them is.


def inspect_at(code: str, cursor: int, names: dict[str, Any], detail: int = 0) -> Message:
    """What the name at the cursor stands for; ``found`` is false if it stands for nothing.

    detail: 1 for the source as well
    """
    name = _path_at(code, cursor)
    value = _value(name, names) if name else _MISSING
    about: Message = {
        "found": value is not _MISSING, "name": name, "value_type": "", "signature": "", "doc": "", "file": "",
        "line": None, "source": "", "text": "",
    }  # fmt: skip
    if value is _MISSING:
        return about
    about["value_type"] = type_name(type(value))
    about["signature"] = _full_signature(value)
    about["doc"] = _quiet(lambda: inspect.getdoc(value))[:MAX_DOC]
    about["text"] = show(value, MAX_TEXT).text
    about["file"], about["line"] = _place(value)
    if detail:
        about["source"] = _quiet(lambda: inspect.getsource(_described(value)))[:MAX_SOURCE]
    return about


def _path_at(code: str, cursor: int) -> str:
    """The path that the cursor is in or behind, up to the name it is at."""
    if not 0 <= cursor <= len(code):
        cursor = len(code)
    found = ""
    # As before: of a long code only what is near.
    begin = max(0, cursor - MAX_PATH)
    code, cursor = code[begin : cursor + MAX_PATH], cursor - begin
    for match in _WORDS.finditer(code):
        if match.start() > cursor:
            break
        if match.end() >= cursor or not code[match.end() : cursor].strip(" \t(?"):
            found = match[0]
            name = re.compile(r"\w*").match(code, cursor)
            end = name.end() if name is not None else cursor
            if match.start() < end < match.end() and end - match.start() > 0:
                shorter = code[match.start() : end]
                if re.fullmatch(_PATH, shorter):
                    found = shorter
    return found


def _full_signature(value: Any) -> str:
    return _quiet(lambda: str(inspect.signature(value)) if callable(value) else "")[:MAX_SIGNATURE]


def _described(value: Any) -> Any:
    """What has a source of its own: of an instance that is its class."""
    value = inspect.unwrap(value) if callable(value) else value
    if isinstance(value, property):
        value = value.fget
    has_one = isinstance(
        value, (type, types.ModuleType, types.FunctionType, types.MethodType, types.CodeType, types.FrameType)
    )
    return value if has_one else type(value)


def _place(value: Any) -> tuple[str, int | None]:
    """The file and the line where it is defined, as far as is known without reading any."""
    try:
        found = _described(value)
        found = getattr(found, "__func__", found)
        code = getattr(found, "__code__", None)
        if isinstance(code, types.CodeType):
            return code.co_filename, code.co_firstlineno
        module = found if isinstance(found, types.ModuleType) else sys.modules.get(getattr(found, "__module__", ""))
        file = getattr(module, "__file__", None)
        line = getattr(found, "__firstlineno__", None)  # of classes, from Python 3.13 on
        return (file, line if type(line) is int else None) if isinstance(file, str) else ("", None)
    except Exception:
        return "", None


def _quiet(ask: Any) -> str:
    try:
        return str(ask() or "")
    except Exception:
        return ""
