"""The table of contents of a bundle, as JSON: made here, and checked here since it may be anybody's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mmstats.errors import ReadError
from mmstats.process import Life

from .diagnosis import Cause, Verdict

#: The number of the manifest's shape; it rises when a field goes or changes meaning.
SCHEMA = 1
#: The manifest's own name; it is the first member.
MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 20

#: Bytes of one member, as it is in the tar and as it is made again; and of all of them together.
MAX_MEMBER = 32 << 20
MAX_TOTAL = 64 << 20
MAX_MEMBERS = 64

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,150}\.(?:mmstats|box|fault)")


class BundleError(ReadError):
    """A file is no bundle of ``mmdebug save``, or is damaged."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle.

    name: its name in the tar, without a directory
    size: its bytes in the tar; `whole` is what it had with the zeros at its end, which are left out
    path: where it was
    alive, reason: what was known of its writer when it was saved
    notes: what is to be known of the copy, for people
    """

    name: str
    size: int
    whole: int
    path: str = ""
    alive: bool | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds: `target` is the member that it is about, `saved` ns since the epoch."""

    target: str
    saved: int
    host: str
    verdict: Verdict
    members: tuple[Member, ...]

    @property
    def life(self) -> Life:
        """Whether the target's process lived when it was saved."""
        member = next(member for member in self.members if member.name == self.target)
        return Life(member.alive, f"when it was saved: {member.reason}")

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the copies of the target's own files, for people."""
        stem = self.target.removesuffix("mmstats")
        own = [member for member in self.members if member.name.startswith(stem)]
        return tuple([f"{member.name}: {note}" for member in own for note in member.notes])


def valid_name(name: str) -> bool:
    """Whether a member may be called this: no directory, no hidden file, no other kind of file."""
    return _NAME.fullmatch(name) is not None


def encode(manifest: Manifest) -> bytes:
    """As JSON, ASCII only."""
    document = {"schema": SCHEMA, "bundle": "mmdebug", **asdict(manifest)}
    return json.dumps(document, indent=1, allow_nan=False).encode("ascii")


def decode(data: bytes) -> Manifest:
    """Check and take apart. Raises `BundleError`."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError("not a bundle: its manifest is no JSON") from error
    if not isinstance(found, dict) or found.get("bundle") != "mmdebug":
        raise BundleError("not a bundle of `mmdebug save`: its manifest is another one")
    schema = found.get("schema")
    if schema != SCHEMA:
        raise BundleError(f"a bundle of schema {str(schema)[:20]}, and this is a reader of {SCHEMA}: upgrade mmstats")
    try:
        members = tuple([_member(item) for item in _list(found["members"], MAX_MEMBERS)])
        manifest = Manifest(
            _text(found["target"]), _whole(found["saved"], 1 << 64), _text(found["host"]),
            _verdict(found["verdict"]), members,
        )  # fmt: skip
    except KeyError as error:
        raise BundleError(f"damaged: the manifest lacks {error}") from error
    names = [member.name for member in members]
    if len(set(names)) < len(names) or manifest.target not in names or not manifest.target.endswith(".mmstats"):
        raise BundleError("damaged: the manifest contradicts itself")
    if sum(member.size for member in members) > MAX_TOTAL:
        raise BundleError(f"its members have more than {MAX_TOTAL} bytes together")
    return manifest


def _member(item: Any) -> Member:
    if not isinstance(item, dict):
        raise BundleError("damaged: a member's entry is of a wrong type")
    name = _text(item["name"])
    if not valid_name(name):
        raise BundleError(f"refused: {name[:200]!r} is no name for a member of a bundle")
    alive = item["alive"]
    if alive is not None and not isinstance(alive, bool):
        raise BundleError("damaged: a member's entry is of a wrong type")
    size, whole = _whole(item["size"], MAX_MEMBER), _whole(item["whole"], MAX_MEMBER)
    if whole < size:
        raise BundleError("damaged: the manifest contradicts itself")
    return Member(name, size, whole, _text(item["path"]), alive, _text(item["reason"]), _texts(item["notes"]))


def _verdict(item: Any) -> Verdict:
    if not isinstance(item, dict):
        raise BundleError("damaged: the manifest's verdict is of a wrong type")
    state = _text(item["state"])
    if state not in ("alive", "closed", "died", "unknown"):
        raise BundleError("damaged: the manifest's verdict makes no sense")
    after, before = [None if item[name] is None else _whole(item[name], 1 << 64) for name in ("after", "before")]
    causes = tuple([_cause(cause) for cause in _list(item["causes"], 64)])
    return Verdict(state, _text(item["summary"]), causes, after, before)


def _cause(item: Any) -> Cause:
    if not isinstance(item, dict):
        raise BundleError("damaged: the manifest's verdict is of a wrong type")
    texts = [_text(item[name]) for name in ("name", "summary", "confidence")]
    return Cause(texts[0], texts[1], texts[2], _texts(item["evidence"]), _texts(item["against"]))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1 << 16:
        raise BundleError("damaged: a text of the manifest is of a wrong type, or too long")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple([_text(item) for item in _list(value, 256)])


def _list(value: Any, most: int) -> Iterable[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise BundleError("damaged: a list of the manifest is of a wrong type, or too long")
    return value


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise BundleError("refused: a number of the manifest is of a wrong type, or over the limit")
    return value
