"""What a live process answered, as frozen data. Each is made from a message that was checked.

All of it is the other side's word: escape texts before they go to a terminal, and run nothing of it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .. import protocol
from ..errors import ProtocolError, RemoteError
from ..escape import clean
from ..protocol import MAX_HEADER, Message, flag_of, number_of, text_of, whole_of
from ..records import SEVERITIES, Event, Value
from ..stacks import Stacks, from_dict

#: Those whose content crosses as base64.
BINARY = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")

TEXT = "text/plain"

#: What is more than a person looks at.
MOST_VERSIONS, MOST_MATCHES = 50, 1000
#: Of the kind of a stack.
MOST_LETTERS = 30


@dataclass(frozen=True, slots=True)
class Welcome:
    """Who answered.

    kind: ``gevent``, ``asyncio`` or ``threads``
    read_only: whether no code is run there
    stats_file: where its stat file is, as it says; never opened on its word
    limits: ``timeout`` and ``idle`` in seconds, None for none; ``output`` and ``result`` in bytes
    names: what there is in the session's namespace
    """

    pid: int
    uid: int
    service: str
    uuid: str
    host: str
    python: str
    kind: str
    read_only: bool
    stats_file: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float | None] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def who(self) -> str:
        """The process, for people; not escaped."""
        return f"{self.service or 'process'} {self.pid}" + (f" on {self.host}" if self.host else "")


@dataclass(frozen=True, slots=True)
class Started:
    """A command began to run.

    where: ``hub``, ``loop``, ``main`` or ``native``
    reason: why it runs there and not where it was meant to; empty if it does
    stacks: of the moment before it began, if there is a reason
    """

    where: str
    reason: str = ""
    stacks: Stacks | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a command gave.

    data: the value by MIME type, in texts; images as base64. Empty if there was no value
    cut: whether not all of the value is there; `shown` of `total` items are
    value: the value itself, if `has_value`: it was asked for, and JSON holds it exactly
    value_problem: why it does not, for people
    arrow: a table as an Arrow stream, empty if it is none; `frame` makes a DataFrame of it
    type: the value's type, such as ``app.Queue``
    where: ``hub``, ``loop``, ``main`` or ``native``; `reason` says why not where it was meant to run
    stdout, stderr: what was printed, if it was not handed on as it came; `dropped` bytes of it are lost
    trusted: whether HTML and the like may be shown as they are
    """

    data: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cut: bool = False
    shown: int | None = None
    total: int | None = None
    value: Any = None
    has_value: bool = False
    value_problem: str = ""
    arrow: bytes = b""
    type: str = ""
    where: str = ""
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    printed: int = 0
    dropped: int = 0
    reason: str = ""
    trusted: bool = False

    @property
    def text(self) -> str:
        """The value as text, as it came: not escaped."""
        return self.data.get(TEXT, "")

    @property
    def frame(self) -> Any:
        """The table as a pandas DataFrame; None if the value is no table, or pandas or pyarrow is not here."""
        if not self.arrow:
            return None
        from .frames import frame_of

        return frame_of(self.arrow)

    def __str__(self) -> str:
        """The value as text for a terminal: escaped."""
        return clean(self.text)

    def __repr__(self) -> str:
        return clean(f"<Result {self.type or 'without a value'}, {self.where}, {self.seconds:.3f} s>")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        from . import bundles

        return bundles.of_result(self)


@dataclass(frozen=True, slots=True)
class RemoteValue:
    """A value that stayed in the other process: its type, its text as it came, and how else it can be shown.

    problem: why it can't be brought here, for people
    """

    type: str
    text: str
    data: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    def __repr__(self) -> str:
        return clean(self.text)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        from . import bundles

        return bundles.of_value(self)


@dataclass(frozen=True, slots=True)
class Completion:
    """What can stand at ``start:end`` of the code."""

    text: str
    start: int
    end: int
    type: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of a name there; `text` is all of it, for people."""

    found: bool
    name: str = ""
    type: str = ""
    signature: str = ""
    doc: str = ""
    file: str = ""
    line: int | None = None
    source: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Where:
    """Where code runs by default; `answers` says whether that place came to its turn, and after how many seconds."""

    place: str
    kind: str
    answers: bool
    seconds: float | None = None
    places: tuple[str, ...] = ()


# From messages.


def welcome_of(message: Message) -> Welcome:
    return Welcome(
        pid=whole_of(message, "pid", high=1 << 31),
        uid=whole_of(message, "uid", high=1 << 32),
        service=text_of(message, "service", "", 1000),
        uuid=text_of(message, "uuid", "", 100),
        host=text_of(message, "host", "", 1000),
        python=text_of(message, "python", "", 200),
        kind=text_of(message, "kind", "", 40),
        read_only=flag_of(message, "read_only"),
        stats_file=_said(message, "stats_file", 5000),
        versions={name: _text(version) for name, version in list(_dict(message, "versions").items())[:MOST_VERSIONS]},
        limits={name: _number(value) for name, value in _dict(message, "limits").items()},
        names=_texts(message, "names"),
    )


def started_of(message: Message, body: bytes) -> Started:
    return Started(text_of(message, "where", "", 40), text_of(message, "reason", "", 10_000), stacks_of(body))


def stacks_of(body: bytes) -> Stacks | None:
    """The stacks that are a frame's body; None if there are none. Raises `ProtocolError`."""
    if not body:
        return None
    try:
        found = from_dict(protocol.loads(body))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"stacks that are no JSON: {error}") from error
    if not all(stack.kind.isalpha() and len(stack.kind) < MOST_LETTERS for stack in found.stacks):
        raise ProtocolError("stacks of no kind")  # it is a word of a sentence, and no text to be escaped
    return found


def all_stacks_of(body: bytes) -> Stacks:
    """The stacks that were asked for."""
    found = stacks_of(body)
    if found is None:
        raise ProtocolError("stacks without stacks")
    return found


def error_of(message: Message, body: bytes, stdout: str = "", stderr: str = "") -> RemoteError:
    """An error of the other side, to be raised."""
    name = _said(message, "name")
    return RemoteError(
        text_of(message, "message", "") or name or "it failed without a message",
        text_of(message, "kind", "exception", 40),
        name,
        _texts(message, "traceback"),
        where=_said(message, "where", 40),
        seconds=number_of(message, "seconds"),
        advice=_said(message, "advice"),
        stuck=flag_of(message, "stuck"),
        stacks=stacks_of(body),
        stdout=stdout,
        stderr=stderr,
        dropped=int(_number(_dict(message, "output").get("dropped")) or 0),
    )


def result_of(message: Message, body: bytes) -> Result:
    """A result as it came; what was printed before it is added by who collected that."""
    data = _dict(message, "data")
    for mime, content in data.items():
        if type(content) is not str:
            raise ProtocolError(f"result: {mime[:100]!r} is no text")
        if mime in BINARY:
            _check_base64(mime, content)
    output = _dict(message, "output")
    return Result(
        data=data,
        metadata=_dict(message, "metadata"),
        cut=flag_of(message, "cut"),
        shown=_count(message, "shown"),
        total=_count(message, "total"),
        value=message.get("value"),
        has_value="value" in message,
        value_problem=_said(message, "value_problem"),
        arrow=body if flag_of(message, "arrow") else b"",
        type=text_of(message, "value_type", "", 10_000),
        where=text_of(message, "where", "", 40),
        seconds=number_of(message, "seconds") or 0.0,
        printed=int(_number(output.get("bytes")) or 0),
        dropped=int(_number(output.get("dropped")) or 0),
    )


def completions_of(message: Message) -> list[Completion]:
    return [
        Completion(
            text_of(item, "text"),
            whole_of(item, "start"),
            whole_of(item, "end"),
            text_of(item, "type", "", 100),
            text_of(item, "signature", "", 10_000),
        )
        for item in _objects(message, "matches")[:MOST_MATCHES]
    ]


def inspection_of(message: Message) -> Inspection:
    texts = {name: _said(message, name) for name in ("name", "signature", "doc", "file", "source", "text")}
    kind = _said(message, "value_type")
    return Inspection(found=flag_of(message, "found"), type=kind, line=_count(message, "line"), **texts)


def where_of(message: Message) -> Where:
    return Where(
        text_of(message, "place", "", 200),
        text_of(message, "kind", "", 40),
        flag_of(message, "answers"),
        number_of(message, "seconds"),
        _texts(message, "places"),
    )


def events_of(message: Message) -> list[Event]:
    return [_event(item) for item in _objects(message, "events")]


def _event(item: Message) -> Event:
    severity = text_of(item, "severity", "info", 20)
    fields: dict[str, Value] = {}
    for name, value in _dict(item, "fields").items():
        if value is not None and type(value) not in (str, int, float, bool):
            raise ProtocolError("events: a field that is no plain value")
        fields[name] = value
    return Event(
        time=whole_of(item, "time", 0, high=1 << 63),
        severity=severity if severity in SEVERITIES else "info",
        kind=text_of(item, "kind", "event", 20),
        name=text_of(item, "name", ""),
        fields=fields,
        logger=text_of(item, "logger", ""),
        place=text_of(item, "place", ""),
        thread=whole_of(item, "thread", 0, high=1 << 64),
        context=whole_of(item, "context", 0, high=1 << 64),
        cut=flag_of(item, "cut"),
    )


def trusted(result: Result) -> Result:
    """The same, with HTML and the like shown as they are."""
    return replace(result, trusted=True)


def _check_base64(mime: str, content: str) -> None:
    try:
        base64.b64decode(content.encode("ascii"), validate=False)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ProtocolError(f"result: {mime} is no base64") from error


def _dict(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise ProtocolError(f"{name} is no object")
    return value


def _objects(message: Message, name: str) -> list[Message]:
    """A list of objects, each with a type for the messages of errors."""
    value = message.get(name, [])
    if type(value) is not list or not all(type(item) is dict for item in value):
        raise ProtocolError(f"{message['type']}: {name} is no list of objects")
    return [{"type": message["type"], **item} for item in value]


def _texts(message: Message, name: str) -> tuple[str, ...]:
    value = message.get(name, [])
    if type(value) is not list:
        raise ProtocolError(f"{message['type']}: {name} is no list")
    return tuple([_text(item) for item in value])


def _said(message: Message, name: str, limit: int = MAX_HEADER) -> str:
    """A text that may be missing, or null: empty then."""
    return text_of(message, name, "", limit) if message.get(name) is not None else ""


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ProtocolError("a text is none")
    return value


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 1 << 53:
        raise ProtocolError("a number is none")
    return float(value)


def _count(message: Message, name: str) -> int | None:
    return None if message.get(name) is None else whole_of(message, name)
