"""A value as what is sent of it: a bounded text, what a notebook shows, and the value itself if it crosses exactly.

Called where the code ran: to show a value calls the program's code.
"""

from __future__ import annotations

import base64
import io
import json
import math
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

from ..capture.safetypes import type_name
from ..protocol import MAX_VALUE, Message
from . import tables
from .tables import Inexact
from .texts import Shown, show

#: Bytes of what all the forms of a value beside its text may have.
MAX_BUNDLE = 4 << 20
#: Levels of a value that crosses as JSON, and digits of its whole numbers: any Python takes as many.
MAX_LEVELS = 16
MAX_BITS = 2000

#: What code without a value comes to.
NOTHING: Message = {
    "data": {}, "metadata": {}, "cut": False, "shown": None, "total": None, "arrow": False, "value_type": "",
    "value_problem": "",
}  # fmt: skip

#: A method of a value, and the form that it gives.
_FORMS = (
    ("_repr_html_", "text/html"),
    ("_repr_markdown_", "text/markdown"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_png_", "image/png"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
)


def describe(value: Any, limit: int, wanted: bool, may_import: bool) -> tuple[Message, bytes]:
    """What there is to say of `value`, and the body of the frame.

    limit: bytes of text
    wanted: whether the value itself is to cross
    may_import: whether this is a place that may wait for an import
    """
    shown = show(value, limit)
    message = {**NOTHING, **_message(shown), "value_type": type_name(type(value))}
    data, metadata = _bundle(value)
    text = data.get("text/plain")
    if text is not None and len(text) > limit:
        del data["text/plain"]
    message["data"] = {"text/plain": shown.text, **data}
    message["metadata"] = metadata
    body = b""
    if wanted:
        try:
            if tables.is_table(value):
                body = tables.stream_of(value, may_import)
                message["arrow"] = True
            else:
                message["value"] = exact(value)
        except Inexact as why:
            message["value_problem"] = str(why)
    return message, body


def page(value: Any, start: int, limit: int) -> Message:
    """The items of `value` from `start` on, or the characters of its text."""
    return {**NOTHING, **_message(show(value, limit, start)), "value_type": type_name(type(value))}


def _message(shown: Shown) -> Message:
    return {"data": {"text/plain": shown.text}, "cut": shown.cut, "shown": shown.count, "total": shown.total}


def exact(value: Any) -> Any:
    """A copy of `value` if it is the same after JSON. Raises `Inexact`, which says why not."""
    return _Copier().copy(value, 0)


class _Copier:
    def __init__(self) -> None:
        self._room = MAX_VALUE

    def copy(self, value: Any, level: int) -> Any:
        kind = type(value)
        self._room -= 6
        if kind is str:
            # The longest way to write a character in JSON has six bytes; beyond U+FFFF it is twelve.
            self._room -= len(value) if value.isascii() else 12 * len(value)
        elif kind is int:
            if value.bit_length() > MAX_BITS:
                raise Inexact("a whole number of it has more digits than every Python reads")
            self._room -= value.bit_length() // 3
        elif kind is float:
            if not math.isfinite(value):
                raise Inexact(f"JSON has no {value}")
            self._room -= 18
        elif value is not None and kind is not bool and kind is not list and kind is not dict:
            raise Inexact(f"JSON has no {type_name(kind)}")
        if self._room < 0:
            raise Inexact(f"it has more than {MAX_VALUE >> 20} MiB as JSON")
        if kind is not list and kind is not dict:
            return value
        if level >= MAX_LEVELS:
            raise Inexact(f"it nests deeper than {MAX_LEVELS} levels")
        if kind is list:
            return [self.copy(item, level + 1) for item in value[: self._room]]
        found = {}
        for key, item in list(islice(value.items(), self._room)):
            if type(key) is not str:
                raise Inexact(f"the keys of a JSON object are str, not {type_name(type(key))}")
            self._room -= len(key) if key.isascii() else 12 * len(key)
            found[key] = self.copy(item, level + 1)
        return found


def _bundle(value: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """What a value gives for a notebook: forms as texts, the binary ones in base64; and what it says of these."""
    data: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    room = MAX_BUNDLE

    def add(form: str, content: Any) -> None:
        nonlocal room
        if type(content) is tuple and len(content) == 2:
            content, about = content
            if _is_small_json(about):
                metadata[form] = about
        text = _content(form, content)
        if text is not None and len(text) <= room:
            room -= len(text)
            data[form] = text

    method = _method(value, "_repr_mimebundle_")
    found = None if method is None else _called(method, include=None, exclude=None)
    if type(found) is tuple and len(found) == 2:
        found, about = found
        if _is_small_json(about) and type(about) is dict:
            metadata.update(about)
    if isinstance(found, dict):
        for form, content in list(islice(found.items(), 20)):
            if type(form) is str and len(form) < 100:
                add(form, content)
    for name, form in _FORMS:
        method = _method(value, name)
        if method is not None and form not in data:
            add(form, _called(method))
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    if figure is not None and issubclass(type(value), figure) and "image/png" not in data:
        add("image/png", _called(lambda: _png(value)))
    return data, metadata


def _method(value: Any, name: str) -> Callable[..., Any] | None:
    """A method of the value's type. Not asked of the value itself: a proxy has anything that one asks for."""
    for kind in type.__dict__["__mro__"].__get__(type(value)):
        if name in kind.__dict__:
            try:
                found = getattr(value, name)
            except Exception:
                return None
            return found if callable(found) else None
    return None


def _called(method: Callable[..., Any], **keywords: Any) -> Any:
    try:
        return method(**keywords)
    except Exception:  # it is the value's own, and the text is there without it
        return None


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()


def _content(form: str, content: Any) -> str | None:
    if type(content) is bytes:
        return base64.b64encode(content).decode("ascii") if len(content) <= MAX_BUNDLE else None
    if isinstance(content, str):
        return str.__getitem__(content, slice(None)) if str.__len__(content) <= MAX_BUNDLE else None
    if content is not None and (form == "application/json" or form.endswith("+json")):
        try:
            return json.dumps(exact(content))
        except Inexact:
            return None
    return None


def _is_small_json(about: Any) -> bool:
    try:
        return len(json.dumps(exact(about))) <= 4096
    except Inexact:
        return False
