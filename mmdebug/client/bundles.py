"""What another process answered, by MIME type, for notebooks: only what can't run anything here, unless trusted."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from mmstats.errors import MmStatsError

from .. import protocol
from ..escape import clean

if TYPE_CHECKING:
    from .data import RemoteValue, Result

#: What an image begins with that is one.
_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
_JSON = "application/json"
#: Of an image, in each direction.
MOST_PIXELS = 100_000

Bundle = tuple[dict[str, Any], dict[str, Any]]


def of_result(result: Result) -> Bundle:
    """A result by MIME type, and metadata. A table is drawn by the pandas here."""
    data, metadata = _chosen(result.data, result.metadata, result.trusted)
    try:
        frame = result.frame
    except MmStatsError:
        frame = None  # the text that came with it is shown
    if frame is not None:
        data.update(_table(frame))
    elif result.cut:
        data["text/plain"] = data.get("text/plain", "") + _left_out(result)
    return data, metadata


def of_value(value: RemoteValue) -> Bundle:
    """A value that stayed there; nobody said that it is trusted."""
    data, metadata = _chosen(value.data, {}, False)
    return {"text/plain": clean(value.text), **data}, metadata


def _chosen(data: Any, metadata: Any, trusted: bool) -> Bundle:
    chosen: dict[str, Any] = {}
    for mime, content in data.items():
        if mime == "text/plain":
            chosen[mime] = clean(content)
        elif mime in _MAGIC:
            if _is_image(mime, content):
                chosen[mime] = content
        elif mime == _JSON or trusted:
            try:
                chosen[mime] = protocol.loads(content) if mime.endswith(("/json", "+json")) else content
            except (ValueError, RecursionError):
                pass  # the text says what it is
    return chosen, {mime: metadata[mime] if trusted else _size(metadata[mime]) for mime in chosen if mime in metadata}


def _is_image(mime: str, content: str) -> bool:
    try:
        return base64.b64decode(content).startswith(_MAGIC[mime])
    except (binascii.Error, ValueError):
        return False


def _size(metadata: Any) -> dict[str, float]:
    """The width and height of an image, of what is said of it."""
    found = metadata if isinstance(metadata, dict) else {}
    return {name: found[name] for name in ("width", "height") if _is_size(found.get(name))}


def _is_size(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < MOST_PIXELS


def _table(frame: Any) -> dict[str, str]:
    import pandas

    # A formula could hold a link that runs something.
    with pandas.option_context("display.html.use_mathjax", False):
        drawn = frame._repr_html_()
    shown = {"text/plain": clean(repr(frame))}
    return shown if drawn is None else {**shown, "text/html": drawn}


def _left_out(result: Result) -> str:
    if result.shown is None or result.total is None:
        return "\n(not all of it is shown)"
    return f"\n({result.shown:,} of {result.total:,} are shown)"
