"""The frames on the wire between a manhole and its clients, as bytes and back. Pure: no sockets here.

docs/protocol.md tells what the messages mean. Everything that comes is hostile until it was checked:
sizes before memory is taken, shapes before values are used.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

from .errors import ProtocolError

VERSION = 1
#: What either side sends first. The zero tells it from a person's text.
PREAMBLE = b"\x00mmdebug 1\n"
#: A server's preamble may stand behind what ssh or a shell prints at its start, up to so many bytes.
MAX_PRELUDE = 64 << 10

#: Bytes of a frame's JSON object, and of what may follow it.
MAX_HEADER = 16 << 20
MAX_BODY = 16 << 20
#: Bytes of a request's JSON object, which a manhole takes at most; requests have no body.
MAX_REQUEST = 4 << 20
#: Bytes of a value that crosses, as JSON in a result's header or as Arrow in its body.
MAX_VALUE = 8 << 20
#: Characters of code that one command may have.
MAX_CODE = 256 << 10
#: What nests deeper is refused.
MAX_DEPTH = 20

_SIZES = struct.Struct("!II")

Message = dict[str, Any]
#: A message and its body, which is empty for most.
Frame = tuple[Message, bytes]


def encode(message: Mapping[str, Any], body: bytes = b"") -> bytes:
    """One frame. Raises `ProtocolError` if it is too large, or no JSON."""
    try:
        header = json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"a message that is no JSON: {error}") from error
    if len(header) > MAX_HEADER or len(body) > MAX_BODY:
        raise ProtocolError(f"a message of {len(header)} + {len(body)} bytes: more than the protocol allows")
    return _SIZES.pack(len(header), len(body)) + header + body


class Decoder:
    """Bytes as they come, to frames as they are whole.

    max_body: the most that is taken; a manhole takes none from its clients
    """

    def __init__(self, max_header: int = MAX_HEADER, max_body: int = MAX_BODY) -> None:
        self._max_header = max_header
        self._max_body = max_body
        self._buffer = bytearray()

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises `ProtocolError`; nothing can follow that."""
        self._buffer += data
        frames: list[Frame] = []
        at = 0
        while len(self._buffer) - at >= _SIZES.size:
            header_size, body_size = _SIZES.unpack_from(self._buffer, at)
            if header_size > self._max_header or body_size > self._max_body:
                raise ProtocolError(f"a frame of {header_size} + {body_size} bytes: more than is allowed")
            begin = at + _SIZES.size
            end = begin + header_size + body_size
            if len(self._buffer) < end:
                break
            header = bytes(self._buffer[begin : begin + header_size])
            frames.append((_message(header), bytes(self._buffer[begin + header_size : end])))
            at = end
        del self._buffer[:at]
        return frames


def loads(text: str | bytes) -> Any:
    """A value of JSON, all of whose numbers are finite. Raises `ValueError` and `RecursionError`."""
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def _message(header: bytes) -> Message:
    try:
        message = loads(header.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a frame that is no JSON: {error}") from error
    if type(message) is not dict or type(message.get("type")) is not str:
        raise ProtocolError("a frame without a type")
    if _depth(message) > MAX_DEPTH:
        raise ProtocolError(f"a message that nests deeper than {MAX_DEPTH}")
    return message


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is more than a number holds")
    return number


def _depth(value: Any) -> int:
    """How deep a value of JSON nests; not by recursion, which it could exhaust."""
    level: list[Any] = [value]
    depth = 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            item for one in level if type(one) in (dict, list) for item in (one.values() if type(one) is dict else one)
        ]
    return depth


def text_of(message: Message, name: str, default: str | None = None, limit: int = MAX_HEADER) -> str:
    """A text of a message. Raises `ProtocolError` if it is none, missing without a default, or too long."""
    value = message.get(name, default)
    if type(value) is not str:
        raise ProtocolError(f"{message['type']}: {name} is no text")
    if len(value) > limit:
        raise ProtocolError(f"{message['type']}: {name} has {len(value)} characters, and {limit} are allowed")
    return value


def whole_of(message: Message, name: str, default: int | None = None, low: int = 0, high: int = 1 << 53) -> int:
    """A whole number of a message within bounds. Raises `ProtocolError`."""
    value = message.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ProtocolError(f"{message['type']}: {name} is no whole number from {low} to {high}")
    return value


def number_of(message: Message, name: str, default: float | None = None, high: float = 1e9) -> float | None:
    """A number of a message from 0 on, or None. Raises `ProtocolError`."""
    value = message.get(name, default)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= high:
        raise ProtocolError(f"{message['type']}: {name} is no number from 0 to {high:g}")
    return float(value)


def flag_of(message: Message, name: str, default: bool = False) -> bool:
    """A truth of a message. Raises `ProtocolError`."""
    value = message.get(name, default)
    if type(value) is not bool:
        raise ProtocolError(f"{message['type']}: {name} is neither true nor false")
    return value


def choice_of(message: Message, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
    """One of several texts. Raises `ProtocolError`."""
    value = message.get(name, default)
    if type(value) is not str or value not in choices:
        raise ProtocolError(f"{message['type']}: {name} is none of {', '.join(choices)}")
    return value
