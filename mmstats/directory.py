"""Where stat files live: which directory a writer uses, and which ones a reader looks into."""

from __future__ import annotations

import os
import stat
import sys

from .errors import ConfigurationError

#: Memory-backed: a map on a disk-backed file system can stall its writer for seconds when the
#: kernel writes it back.
SHARED_MEMORY = "/dev/shm"
PREFIX = "mmstats-"


def temporary() -> str:
    """The system's directory for temporary files, found without writing to it."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        path = os.environ.get(name)
        if path and os.path.isdir(path):
            return os.path.abspath(path)
    return "/tmp" if os.path.isdir("/tmp") else "/var/tmp"


def configured() -> str | None:
    """`MMSTATS_PATH`, or None."""
    path = os.environ.get("MMSTATS_PATH")
    return os.path.abspath(path) if path else None


def defaults() -> list[str]:
    """This user's own directories in order of preference; they need not exist."""
    uid = os.geteuid() if hasattr(os, "geteuid") else 0
    bases = [SHARED_MEMORY] if sys.platform == "linux" else []
    return [os.path.join(base, f"{PREFIX}{uid}") for base in [*bases, temporary()]]


def file_mode() -> int:
    """`MMSTATS_MODE`: the mode of stat files, 0600 unless the operator opens them to a group."""
    text = os.environ.get("MMSTATS_MODE")
    if not text:
        return 0o600
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777 or mode & 0o600 != 0o600 or mode & 0o133:
        raise ConfigurationError(f"MMSTATS_MODE={text} is no mode for a stat file: use 0600, 0640 or 0644")
    return mode


def prepare(path: str | None = None) -> str:
    """The directory to write into, made if need be. Raises `OSError` with the reason if there is none.

    An explicit one, from the argument or from `MMSTATS_PATH`, is trusted as it is, symbolic link or
    not. Of the default ones only a real directory that is ours and closed to others is used.
    """
    explicit = os.path.abspath(path) if path else configured()
    if explicit:
        if not os.path.isdir(explicit):
            _make(explicit)
        return explicit
    reasons = []
    for candidate in defaults():
        try:
            try:
                os.mkdir(candidate, 0o700)
            except FileExistsError:
                pass
            refusal = refuse(candidate)
        except OSError as error:
            refusal = f"{candidate}: {error.strerror}"
        if refusal is None:
            return candidate
        reasons.append(refusal)
    raise OSError(f"no directory for stat files: {'; '.join(reasons)}; set MMSTATS_PATH to one")


def _make(path: str) -> None:
    """Make the directory that the operator named, and let in those who may read its files."""
    readers = file_mode()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
        if readers & 0o044:
            # The umask would keep them out. What the directory inherited, such as setgid, stays.
            mode = stat.S_IMODE(os.stat(path).st_mode)
            os.chmod(path, mode | (0o050 if readers & 0o040 else 0) | (0o005 if readers & 0o004 else 0))
    except OSError as error:
        if not os.path.isdir(path):
            raise OSError(
                error.errno,
                f"{error.strerror}: make it, or set MMSTATS_PATH to a directory that can be written to",
                path,
            ) from error


def refuse(path: str) -> str | None:
    """Why a default directory is not to be used; None if it may be."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return f"{path} is not a directory"
    if found.st_uid != os.geteuid():
        return f"{path} belongs to uid {found.st_uid}"
    if found.st_mode & 0o077:
        return f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return f"{path} can't be written to"
    return None


def readable() -> list[str]:
    """The directories that a reader looks into: the configured one, or the defaults that exist.

    Root also sees the default directories of all other users.
    """
    explicit = configured()
    if explicit:
        return [explicit]
    own = defaults()
    candidates = list(own)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        for base in dict.fromkeys(os.path.dirname(path) for path in own):
            try:
                names = sorted(os.listdir(base))
            except OSError:
                continue
            candidates += [os.path.join(base, name) for name in names if name.startswith(PREFIX)]
    return [path for path in dict.fromkeys(candidates) if _belongs(path)]


def _belongs(path: str) -> bool:
    """Whether `path` is a real directory of the user whose number its name ends with."""
    uid = os.path.basename(path)[len(PREFIX) :]
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and uid == str(found.st_uid)


def disk_bytes(found: os.stat_result) -> int:
    """What a file takes of its file system; its length says nothing, since it has holes."""
    return found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size
