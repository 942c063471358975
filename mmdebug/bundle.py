"""Everything about one process in one tar, to keep or to send: `save` makes it, `opened` reads it.

A copy's writer can't be judged, so whether it lived, and the verdict, are noted when the tar is
made. A tar is anybody's: nothing in it is trusted but plain files that its manifest names, within
limits, and nothing of it is written anywhere but into a private directory that goes again.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import socket
import stat
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from mmstats.process import Life

from . import manifest as contents
from .manifest import BundleError, Manifest, Member
from .outfile import private_file

if TYPE_CHECKING:
    from .postmortem import PostMortem

#: What there may be beside ``<stem>.mmstats``.
SIDECARS = (".box", ".fault")
#: Siblings whose stat files go along.
MAX_SIBLINGS = 20
#: How often a file is read again that changes while it is copied.
TRIES = 5

_GZIP = b"\x1f\x8b"
_ENDINGS = (".tar", ".tar.gz", ".tgz")
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle, unpacked: `path` is the target's stat file, `life` what was known of its writer."""

    path: str
    manifest: Manifest

    @property
    def life(self) -> Life:
        return self.manifest.life

    @property
    def lives(self) -> dict[str, Life]:
        """What was known of the writer of each unpacked file, by its path."""
        home = os.path.dirname(self.path)
        return {os.path.join(home, m.name): Life(m.alive, f"when it was saved: {m.reason}")
                for m in self.manifest.members}  # fmt: skip


# Making one.


def save(found: PostMortem, out: str, *, force: bool = False) -> Manifest:
    """Write all that is there about a process into the tar `out`, gzipped if its name says so.

    Sidecars and siblings that can't be read are left out. Raises `BundleError` if the stat file
    itself can't be, and `mmdebug.outfile.OutputError` if `out` can't be written or is there already.
    """
    who = found.process
    name = _safe_stem(found.path)
    copies = [_copied(found.path, f"{name}.mmstats", Life(who.alive, who.reason))]
    stem = found.path.removesuffix(".mmstats")
    wanted = [(stem + ending, name + ending, Life(who.alive, who.reason)) for ending in SIDECARS]
    taken = {name}
    for number, sibling in enumerate(found.siblings[:MAX_SIBLINGS]):
        other, stem = sibling.process, _safe_stem(sibling.path)
        stem = f"{stem}-{number}" if stem in taken else stem
        taken.add(stem)
        wanted.append((sibling.path, f"{stem}.mmstats", Life(other.alive, other.reason)))
    room = contents.MAX_TOTAL - len(copies[0][1])
    for path, member, life in wanted:
        try:
            copy = _copied(path, member, life)
        except BundleError:
            continue
        if len(copy[1]) <= room:
            room -= len(copy[1])
            copies.append(copy)
    manifest = Manifest(
        copies[0][0].name, time.time_ns(), socket.gethostname(), found.verdict, tuple([copy[0] for copy in copies])
    )
    with private_file(out, force=force) as file:
        _write(file, out, manifest, [copy[1] for copy in copies])
    return manifest


def _safe_stem(path: str) -> str:
    stem = os.path.basename(path).removesuffix(".mmstats")
    return re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip(".-")[:100] or "process"


def _copied(path: str, name: str, life: Life) -> tuple[Member, bytes]:
    """A file's entry and its bytes, the zeros at its end left out: a stat file reserves room that it does not use."""
    notes = []
    try:
        data, cut = _read(path)
        for _ in range(TRIES):
            # One that lives writes on: a copy whose parts are of different moments may be torn.
            again, cut = _read(path)
            if again == data:
                break
            data = again
        else:
            notes.append("it changed while it was saved: values of several words may be of different moments")
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}") from error
    if cut:
        notes.append(f"cut off after {contents.MAX_MEMBER} bytes")
    kept = data.rstrip(b"\0")
    return Member(name, len(kept), len(data), path, life.alive, life.reason, tuple(notes)), kept


def _read(path: str) -> tuple[bytes, bool]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        data = file.read(contents.MAX_MEMBER)
        return data, bool(file.read(1))


def _write(file: IO[bytes], out: str, manifest: Manifest, datas: list[bytes]) -> None:
    if out.endswith((".gz", ".tgz")):
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6) as packed:
            _write_members(packed, manifest, datas)
    else:
        _write_members(file, manifest, datas)


def _write_members(file: IO[bytes] | gzip.GzipFile, manifest: Manifest, datas: list[bytes]) -> None:
    encoded = contents.encode(manifest)
    names = [contents.MANIFEST, *[member.name for member in manifest.members]]
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in zip(names, [encoded, *datas], strict=True):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o600, manifest.saved // 10**9
            tar.addfile(info, io.BytesIO(data))


# Opening one.


def is_bundle(path: str) -> bool:
    """Whether `path` is a file that is a tar, by its name or by its first bytes."""
    if not os.path.isfile(path):
        return False
    if path.endswith(_ENDINGS):
        return True
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError:
        return False
    return head.startswith(_GZIP) or head[257:262] == b"ustar"


@contextmanager
def opened(path: str) -> Iterator[Opened]:
    """Unpack a bundle into a private directory that is gone at the end of the block.

    Raises `BundleError` for whatever is no bundle; nothing of it is left then either.
    """
    home = tempfile.mkdtemp(prefix="mmdebug-")
    try:
        try:
            with open(path, "rb") as file:
                manifest = _unpack(file, home)
        except (OSError, EOFError, zlib.error) as error:
            raise BundleError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error
        yield Opened(os.path.join(home, manifest.target), manifest)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _unpack(file: IO[bytes], home: str) -> Manifest:
    """Unpack all members. Only what the manifest, the first of them, announces."""
    packed = file.read(2) == _GZIP
    file.seek(0)
    stream = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
    first = _next(stream)
    if first is None or first[0] != contents.MANIFEST or first[1] > contents.MAX_MANIFEST:
        raise BundleError("not a bundle of `mmdebug save`: it does not begin with a manifest")
    manifest = contents.decode(b"".join(_data(stream, first[1])))
    missing = {member.name: member for member in manifest.members}
    while missing and (found := _next(stream)) is not None:
        name, size = found
        member = missing.pop(name, None)
        if member is None or member.size != size:
            raise BundleError(f"refused: the manifest does not announce {name[:200]!r} like this")
        target = os.path.join(home, name)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
            for chunk in _data(stream, size):
                out.write(chunk)
            out.truncate(member.whole)
    if missing:
        raise BundleError(f"cut off: {', '.join(missing)} can't be found in it")
    return manifest


def _next(stream: IO[bytes] | gzip.GzipFile) -> tuple[str, int] | None:
    """The name and the size of the next member; None at the end.

    Headers are taken one by one: those that announce long names, links or holes, and would have to
    be followed, are not in a bundle.
    """
    block = stream.read(tarfile.BLOCKSIZE)
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError as error:
        if not block.strip(b"\0"):
            return None
        raise BundleError("not a tar, or damaged") from error
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise BundleError(f"refused: {info.name[:200]!r} is not a plain file")
    if not 0 <= info.size <= contents.MAX_MEMBER:
        raise BundleError(f"refused: {info.name[:200]!r} is over the limit of {contents.MAX_MEMBER} bytes")
    return info.name, info.size


def _data(stream: IO[bytes] | gzip.GzipFile, size: int) -> Iterator[bytes]:
    """The bytes of a member; what fills its last block is skipped."""
    left = size
    while left:
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            raise BundleError("cut off in the middle of a member")
        left -= len(chunk)
        yield chunk
    stream.read(-size % tarfile.BLOCKSIZE)
