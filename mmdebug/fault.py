"""Faults of the interpreter: faulthandler's text goes to `<stem>.fault`, and is read back from there.

It tells of SIGSEGV, SIGABRT, SIGBUS, SIGFPE and SIGILL. SIGKILL leaves nothing. ``Py_FatalError`` of C code
goes to stderr alone: Python writes that itself, and switches faulthandler off. Under gevent each thread
shows the greenlet that it was in; parked greenlets are absent.

faulthandler has one target for each process. `enable` takes it over from whoever had it (``-X faulthandler``,
pytest, the program), since a text on stderr is lost to a post-mortem; `disable` gives it back to stderr. The
text is then in the file and not on stderr: whoever reports the death shows it. ``take_over=False`` leaves a
faulthandler that is on as it is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import stat
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .records import Fault, FaultFrame, FaultThread

faulthandler: Any
try:
    import faulthandler
except ImportError:  # in a sub-interpreter of its own: faults are the main interpreter's
    faulthandler = None

SUFFIX = ".fault"

#: How much of a file is read, from its end. faulthandler stops by itself at 100 threads of 100 frames.
MAX_BYTES = 1 << 20
#: How much of the text is kept in a `Fault`, and how many of its threads, and frames of each.
MAX_TEXT = 1 << 16
MAX_THREADS = 128
MAX_FRAMES = 128
_MAX_LINE = 2000

# A server that becomes a daemon closes all descriptors, and new files take the lowest free numbers: up
# there nobody gets ours before `check` has seen that it is gone. Not higher, since each fork copies the table.
_HIGHEST_DESCRIPTOR = 4000

_FATAL = re.compile(r"^Fatal Python error: ", re.MULTILINE)
_THREAD = re.compile(r"(Current thread|Thread) 0x([0-9a-fA-F]{1,16})(?: \[(.*)\])? \(most recent call first\):")
_STACK = "Stack (most recent call first):"
_NO_THREADS = "<Cannot show all threads while the GIL is disabled>"
_FRAME = re.compile(r'  File (?:"(.*)"|\?\?\?), line (?:([0-9]{1,9})|\?\?\?) in (.*)')


class _Target:
    """What faulthandler is given as its file. It alone holds on to it: gone means that its target is another."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def flush(self) -> None:
        """faulthandler asks for it."""


@dataclass(slots=True, eq=False)
class _State:
    """The file that this process, or the parent that forked it, writes faults to.

    earlier: whether faulthandler was on when we came, so that it is to be given back
    """

    path: str
    pid: int
    descriptor: int
    file: tuple[int, int]
    take_over: bool
    earlier: bool
    target: weakref.ref[_Target]


_state: _State | None = None
_fork_hooked = False


def enable(path: str, *, take_over: bool = True) -> bool:
    """Make the file `path` (0600), and have faulthandler write faults of this process to it.

    Call it in the main thread the first time: that thread gets the stack on which a stack overflow can be
    told. Call it again in a forked child, with a path of its own; until then a fault of the child goes to the
    parent's file, where `forked` finds it and `read` does not. False if the file can't be made (also if it
    exists), or if faulthandler was on and `take_over` is False.
    """
    global _state, _fork_hooked
    if faulthandler is None:
        return False
    old = _state
    pid = os.getpid()
    if old is not None and old.pid == pid and old.path == path:
        return check()
    ours = _is_aimed(old)
    if faulthandler.is_enabled() and not ours and not take_over:
        return False
    try:
        descriptor = _raised(os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return False
    earlier = old.earlier if ours and old is not None else faulthandler.is_enabled()
    found = os.fstat(descriptor)
    state = _State(path, pid, descriptor, (found.st_dev, found.st_ino), take_over, earlier, _nothing())
    if not _aim(state):
        _let_go(state)
        return False
    _state = state
    if old is not None:
        _let_go(old)
    if not _fork_hooked:
        os.register_at_fork(after_in_child=_leave_parent)
        _fork_hooked = True
    return True


def check() -> bool:
    """See to it that faults of this process go to its file, and nowhere else; whether they do.

    To be called each second or so (about a microsecond): the program may have closed our descriptor,
    whose number can then become another's, or have pointed faulthandler elsewhere. If it switched
    faulthandler off, it stays off.
    """
    state = _state
    if state is None or not faulthandler.is_enabled():
        return False
    if _is_aimed(state):
        if _names(state.descriptor, state.file):
            return state.pid == os.getpid()
    elif not state.take_over:
        return False
    else:
        state.earlier = True
    aimed = _reopen(state) and _aim(state)
    if not aimed:
        _stand_down(state)
    elif _state is not state:
        faulthandler.disable()  # another thread called `disable` meanwhile
        return False
    return aimed and state.pid == os.getpid()


def rename(path: str) -> None:
    """Give the file of this process another name. Raises `OSError`."""
    state = _state
    if state is not None and state.pid == os.getpid() and state.path != path:
        os.rename(state.path, path)
        state.path = path


def disable() -> None:
    """Stop, give faulthandler back to stderr if it was on before, and delete the file if it is empty.

    For a clean end of the process; what calls `check` must have ended.
    """
    global _state
    state, _state = _state, None
    if state is not None:
        _stand_down(state)
        _let_go(state)


def beside(path: str) -> str:
    """The name of the fault file that belongs to a stat file or a box."""
    for suffix in (".mmstats", ".box"):
        path = path.removesuffix(suffix)
    return path + SUFFIX


_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def _nothing() -> weakref.ref[_Target]:
    return weakref.ref(_Target(-1))


def _is_aimed(state: _State | None) -> bool:
    return state is not None and faulthandler.is_enabled() and state.target() is not None


def _aim(state: _State) -> bool:
    """Point faulthandler at the file."""
    target = _Target(state.descriptor)
    try:
        # A child that shares its parent's file shows one stack without a thread's number: that marks its text.
        faulthandler.enable(file=target, all_threads=state.pid == os.getpid())
    except (OSError, RuntimeError, ValueError):
        return False
    state.target = weakref.ref(target)
    return True


def _stand_down(state: _State) -> None:
    """Point faulthandler away from the file, if that is where it points."""
    if not _is_aimed(state):
        return
    if state.earlier:
        try:
            faulthandler.enable(file=sys.stderr)
            return
        except (AttributeError, OSError, RuntimeError, ValueError):
            pass  # there is no stderr, or one without a descriptor
    faulthandler.disable()


def _let_go(state: _State) -> None:
    """Close the descriptor and delete the file if it is empty: both only if they are ours."""
    try:
        if state.pid == os.getpid():
            found = os.lstat(state.path)
            if (found.st_dev, found.st_ino) == state.file and not found.st_size:
                os.unlink(state.path)
    except OSError:
        pass  # somebody removed it, or the directory was closed to us
    if _names(state.descriptor, state.file):
        os.close(state.descriptor)


def _leave_parent() -> None:
    """In a forked child, until it has a file of its own: mark what it writes to its parent's.

    Not switched off, since a child may die before it records anything.
    """
    state = _state
    if state is not None and _is_aimed(state) and not (_names(state.descriptor, state.file) and _aim(state)):
        _stand_down(state)


def _reopen(state: _State) -> bool:
    """Have a descriptor of the file: the one there was if it still names it, or a new one."""
    if _names(state.descriptor, state.file):
        return True
    try:
        descriptor = _raised(os.open(state.path, _FLAGS))
    except OSError:
        return False
    if not _names(descriptor, state.file):
        os.close(descriptor)
        return False
    state.descriptor = descriptor
    return True


def _raised(descriptor: int) -> int:
    """Move a descriptor to a high number."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    lowest = _HIGHEST_DESCRIPTOR if soft == resource.RLIM_INFINITY else min(soft // 2, _HIGHEST_DESCRIPTOR)
    try:
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    except OSError:
        return descriptor  # none is free up there
    os.close(descriptor)
    return high


def _names(descriptor: int, file: tuple[int, int]) -> bool:
    """Whether a descriptor is open and is of this device and inode."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == file


# Reading.


def read(path: str) -> Fault | None:
    """The fault of the process whose file `path` is; None if there is none, or no regular file.

    Raises `OSError` if there is a file that can't be read.
    """
    return next((parse(section) for section in _sections(_load(path)) if not _is_forked(section)), None)


def forked(path: str) -> Fault | None:
    """The last fault of a child that was forked by the process whose file `path` is, and had no file of its own yet.

    Which child is not known. As `read` otherwise.
    """
    return next((parse(section) for section in _sections(_load(path)) if _is_forked(section)), None)


def parse(text: str) -> Fault | None:
    """The last fatal error in faulthandler's text (of Python 3.11 to 3.14); None if there is none.

    Lines that make no sense are left out. A stack without a thread's number is a current thread of ident 0.
    """
    section = next(_sections(text), None)
    if section is None:
        return None
    lines = section.split("\n")
    threads: list[tuple[int, bool, str, list[FaultFrame]]] = []
    frames: list[FaultFrame] | None = None
    for line in lines[1:]:
        line = line[:_MAX_LINE].rstrip("\r")
        if line.startswith(" "):
            frame = _FRAME.fullmatch(line)
            if frame and frames is not None and len(frames) < MAX_FRAMES:
                file, number, function = frame.groups()
                frames.append(FaultFrame(file or "???", int(number) if number else None, function))
            continue
        frames = None
        thread = _THREAD.fullmatch(line)
        if (thread or line == _STACK) and len(threads) < MAX_THREADS:
            frames = []
            if thread:
                threads.append((int(thread[2], 16), thread[1] == "Current thread", thread[3] or "", frames))
            else:
                threads.append((0, True, "", frames))
    if len(section) > MAX_TEXT:
        section = section[:MAX_TEXT] + "\n..."
    found = tuple([FaultThread(ident, current, tuple(calls), name) for ident, current, name, calls in threads])
    return Fault(lines[0][:_MAX_LINE].rstrip("\r"), found, section.rstrip())


def _sections(text: str) -> Iterator[str]:
    """The fatal errors of a text, each to the start of the next; the last one first."""
    text = text[-MAX_BYTES:]
    end = len(text)
    for start in reversed([found.start() for found in _FATAL.finditer(text)]):
        yield text[start:end]
        end = start


def _is_forked(section: str) -> bool:
    """Whether a child wrote it that had no file of its own: see `_aim`."""
    before, stack, _ = section.partition(f"\n{_STACK}\n")
    return bool(stack) and f"\n{_NO_THREADS}" not in before


def _load(path: str) -> str:
    """The end of a file as text; empty where there is no regular file."""
    try:
        # Not blocking, since a FIFO of that name would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return ""  # nothing, a symbolic link, a socket
        raise
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return ""
        file.seek(max(0, found.st_size - MAX_BYTES))
        return file.read(MAX_BYTES).decode("utf-8", "replace")
