"""Where manholes listen: sockets in ``manhole-<uid>/`` beside the stat files. Both sides find each other by this.

The directory is its owner's alone, and is looked at before it is used. Sockets are bound and
connected to through a descriptor of it, so that no symbolic link can come in between, and a path
may be longer than a socket's address.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

from mmstats import process

from . import native
from .errors import AttachError

PREFIX = "manhole-"
SOCKET, ARM = ".sock", ".arm"
#: How many other names are tried where something that can't be removed is in the way.
ATTEMPTS = 8
#: Clients that may wait to be taken in.
BACKLOG = 64
#: Seconds between two attempts to be one of them.
PAUSE = 0.02

_NAME = re.compile(r"([1-9][0-9]{0,9})-([0-9a-f]{8})(?:-[0-9])?\.(sock|arm)\Z")
_DIRECTORY = re.compile(r"manhole-(0|[1-9][0-9]{0,9})\Z")
_UNFINISHED = re.compile(r"\.([1-9][0-9]{0,9})-[0-9a-f]{8}\.tmp\Z")
#: The longest address of a socket, with the zero that ends it.
_LONGEST = 108 if sys.platform == "linux" else 104


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who is at the other end, as the kernel says. A `pid` of 0: in a pid namespace that can't be seen from here."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A name in a manholes' directory: of kind ``socket``, or ``arm`` if a signal has the process listen."""

    directory: str
    name: str
    pid: int
    uuid: str
    uid: int
    kind: str

    @property
    def path(self) -> str:
        return os.path.join(self.directory, self.name)


# The directory.


def directory_for(stat_dir: str, uid: int) -> str:
    """Where the sockets of a user's processes are."""
    return os.path.join(stat_dir, f"{PREFIX}{uid}")


def open_directory(path: str, uid: int) -> int:
    """A descriptor of a directory that belongs to `uid` alone. Raises `AttachError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise AttachError(f"{path} is not used: it is no directory, or a symbolic link") from error
        raise AttachError(f"{path}: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise AttachError(f"{path}: {error.strerror}") from error
    problem = ""
    if found.st_uid != uid:
        problem = f"it belongs to uid {found.st_uid}, and not to {uid}"
    elif found.st_mode & 0o077:
        problem = f"it is open to others (mode {stat.S_IMODE(found.st_mode):04o}, and 0700 is needed)"
    if problem:
        os.close(descriptor)
        raise AttachError(f"{path} is not used: {problem}")
    return descriptor


def make_directory(stat_dir: str) -> tuple[str, int]:
    """This process' own directory, made if need be, and a descriptor of it. Raises `AttachError`."""
    uid = os.geteuid()
    path = directory_for(stat_dir, uid)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise AttachError(f"{path} can't be made: {error.strerror}") from error
    return path, open_directory(path, uid)


# Names.


def name_for(pid: int, uuid: str, ending: str = SOCKET, attempt: int = 0) -> str:
    """The name of a process' socket or note; `uuid` are the first 8 digits of its stat file's."""
    return f"{pid}-{uuid}{f'-{attempt}' if attempt else ''}{ending}"


def parse_name(name: str) -> tuple[int, str] | None:
    """The pid and the uuid's first 8 digits that a name holds; None if it is no name of ours."""
    found = _NAME.match(name)
    return (int(found[1]), found[2]) if found else None


def listening(stat_dir: str) -> list[Endpoint]:
    """What is in the directories below `stat_dir` that this user may look into; root into all. Raises nothing."""
    found: list[Endpoint] = []
    me = os.geteuid()
    try:
        homes = sorted(os.listdir(stat_dir))
    except OSError:
        return found
    for home in homes:
        match = _DIRECTORY.match(home)
        if match is None or me not in (0, int(match[1])):
            continue
        uid = int(match[1])
        path = os.path.join(stat_dir, home)
        try:
            descriptor = open_directory(path, uid)
        except AttachError:
            continue
        try:
            names = sorted(os.listdir(descriptor))
        except OSError:
            names = []
        finally:
            os.close(descriptor)
        for name in names:
            parsed = parse_name(name)
            if parsed is not None:
                kind = "arm" if name.endswith(ARM) else "socket"
                found.append(Endpoint(path, name, parsed[0], parsed[1], uid, kind))
    return found


def problem(stat_dir: str, uid: int) -> str:
    """Why the directory of a user's processes is not used; empty if it is, or if there is none."""
    path = directory_for(stat_dir, uid)
    if os.geteuid() not in (0, uid) or not os.path.lexists(path):
        return ""
    try:
        os.close(open_directory(path, uid))
    except AttachError as error:
        return error.message
    return ""


# Sockets.


def new_socket(descriptor: int | None = None) -> Any:
    """A socket of the operating system's, also under gevent's patch; or the one of this descriptor.

    It never has a timeout, whatever the program gives to its own ones.
    """
    made = native.original("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
    made.setblocking(True)
    return made


def bind(descriptor: int, name: str, directory: str = "") -> Any:
    """A listening socket, closed to others, under `name` in the directory of this descriptor.

    It is there under its name only when it listens, so what can't be connected to is left from one
    that is dead. What was there is replaced, and never followed. Raises `OSError`, with `EISDIR` or
    `ENOTEMPTY` if a directory that can't be removed is in the way, and `AttachError`.
    """
    made = new_socket()
    unfinished = f".{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        made.bind(_address(descriptor, unfinished, directory))
        os.chmod(unfinished, 0o600, dir_fd=descriptor)
        made.listen(BACKLOG)
        put_in_place(descriptor, unfinished, name)
    except BaseException:
        made.close()
        unlink(descriptor, unfinished)
        raise
    return made


def put_in_place(descriptor: int, unfinished: str, name: str) -> None:
    """Give what was made its name, in the place of whatever has it. Raises `OSError`."""
    try:
        os.rename(unfinished, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            raise
        os.rmdir(name, dir_fd=descriptor)
        os.rename(unfinished, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)


def connect(descriptor: int, name: str, directory: str = "", timeout: float | None = None) -> Any:
    """A socket connected to `name` in the directory of this descriptor.

    timeout: seconds to wait while more clients wait to be taken in than there is room for; None for no limit

    Raises `OSError`, of which `BlockingIOError` is that time's end, and `AttachError`.
    """
    made = new_socket()
    try:
        address = _address(descriptor, name, directory)
        if timeout is not None:
            made.setblocking(False)
            _connect_within(made, address, time.monotonic() + timeout)
            made.setblocking(True)
        else:
            made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def _connect_within(made: Any, address: str, deadline: float) -> None:
    while True:
        try:
            made.connect(address)
            return
        except BlockingIOError:  # nothing tells when there is room
            if time.monotonic() >= deadline:
                raise
        native.original("time", "sleep")(PAUSE)


def _address(descriptor: int, name: str, directory: str) -> str:
    through = f"/proc/self/fd/{descriptor}"
    if os.path.isdir(through):
        return f"{through}/{name}"
    path = os.path.join(directory or _path_of(descriptor), name)
    if len(os.fsencode(path)) >= _LONGEST:
        raise AttachError(
            f"{path} is too long for a socket's address, and there is no /proc to shorten it: choose a shorter"
            " directory by MMSTATS_PATH"
        )
    return path


def _path_of(descriptor: int) -> str:
    """What macOS says that a directory's path is."""
    import fcntl

    get_path = getattr(fcntl, "F_GETPATH", None)
    if get_path is None:
        raise AttachError("sockets can't be reached here: there is no /proc")
    return os.fsdecode(fcntl.fcntl(descriptor, get_path, bytes(1024)).rstrip(b"\0"))


def peer(connected: Any) -> Credentials:
    """Who is at the other end: for a client, who listens. Raises `OSError`."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is not None:
        return Credentials(*struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, option, 12)))
    # macOS: LOCAL_PEERCRED and LOCAL_PEERPID, of the level SOL_LOCAL.
    _, uid, _, gid = struct.unpack_from("IIhxxI", connected.getsockopt(0, 1, 76))
    return Credentials(connected.getsockopt(0, 2), uid, gid)


# Notes of what a signal arms.


def write_note(descriptor: int, name: str, number: int) -> None:
    """Say in a file of this name that signal `number` has this process listen. Raises `OSError`."""
    me = process.myself()
    note = {"pid": me.pid, "start_time": me.start_ticks, "signal": number, "pid_namespace": me.pid_namespace}
    unfinished = f".{me.pid}-{os.urandom(4).hex()}.tmp"
    made = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=descriptor)
    try:
        try:
            os.write(made, json.dumps(note).encode("ascii"))
        finally:
            os.close(made)
        put_in_place(descriptor, unfinished, name)
    except BaseException:
        unlink(descriptor, unfinished)
        raise


def read_note(descriptor: int, name: str) -> dict[str, int] | None:
    """What `write_note` wrote: its whole numbers by name; None if there is nothing of that shape."""
    try:
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            note = json.loads(os.read(found, 4096)) if stat.S_ISREG(os.fstat(found).st_mode) else None
        finally:
            os.close(found)
    except (OSError, ValueError, RecursionError):
        return None
    if type(note) is not dict or not all(type(note.get(key)) is int for key in ("pid", "start_time", "signal")):
        return None
    return {key: value for key, value in note.items() if type(value) is int}


# What is left of the dead.


def unlink(descriptor: int, name: str) -> None:
    """Remove a name from the directory of this descriptor, if it is there and can be."""
    try:
        os.unlink(name, dir_fd=descriptor)
    except OSError:
        pass


def sweep(descriptor: int, directory: str = "") -> None:
    """Remove what dead processes have left in the directory of this descriptor. Raises nothing."""
    try:
        names = os.listdir(descriptor)
    except OSError:
        return
    for name in names:
        unfinished = _UNFINISHED.match(name)
        parsed = parse_name(name)
        pid = int(unfinished[1]) if unfinished else parsed[0] if parsed else 0
        # One of another pid namespace may only seem dead: its socket answers then.
        if pid and process.start_ticks(pid) is None and not (parsed and _answers(descriptor, name, directory)):
            unlink(descriptor, name)


def _answers(descriptor: int, name: str, directory: str) -> bool:
    """Whether somebody listens there, or waits for its signal; True also if that can't be told."""
    if name.endswith(ARM):
        note = read_note(descriptor, name)
        return note is not None and note.get("pid_namespace") != process.pid_namespace()
    made = new_socket()
    try:
        made.setblocking(False)
        made.connect(_address(descriptor, name, directory))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except (OSError, AttachError):
        return True
    finally:
        made.close()
    return True
