"""The parent of a program: starts it, hands signals on to it, waits for it and for its orphans, ends as it ended.

One thread, no handlers: the signals are blocked and taken one by one, so none is lost before the
program is there, and none interrupts anything. What the program inherits is what we were given:
streams, signal mask, ignored signals, process group.

The program stays in our process group, so a terminal signals it directly. What comes from the
terminal's driver is therefore not handed on; what a process sent to us is.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mmstats import process

from .children import Ledger, disabled, peak_bytes

#: Exit codes of shells: the command is not there; it is, and can't be run.
NOT_FOUND = 127
NOT_EXECUTABLE = 126

#: In the environment of all processes of a tree: which runs they belong to, the innermost last.
RUN_VARIABLE = "MMDEBUG_RUN"

#: Has each of them let clients in: ``1``, or ``read-only``. It is `mmdebug.manhole`'s, which is not imported for it.
MANHOLE_VARIABLE = "MMDEBUG_MANHOLE"

#: Where the `sitecustomize` is that opts a process in.
SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_site")

#: Not handed on: what can't be caught, what our own faults raise, what the kernel counts for us, and our own business.
_OWN = (
    "SIGKILL", "SIGSTOP", "SIGCHLD", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGPIPE",
    "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGXFSZ",
)  # fmt: skip

#: Signals by which somebody asks a program to end.
ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
#: What a terminal's driver sends to a whole process group.
_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH, *_STOPPING)
_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    code: our own exit code: its code, or 128 and the number of the signal
    pid: its pid; 0 if it could not be started, and then `problem` says why
    asked: when it was last asked to end, by a signal to us, ns since the epoch; None if it was not
    """

    code: int
    pid: int = 0
    asked: int | None = None
    problem: str = ""


def run_id(environ: Mapping[str, str]) -> str:
    """A name for this run, behind those of the runs that it stands in."""
    me = process.myself()
    own = f"{me.pid}.{me.start_ticks}.{time.time_ns()}"
    outer = environ.get(RUN_VARIABLE, "")
    return f"{outer[-200:]}/{own}" if outer else own


def run_lives(name: str) -> bool:
    """Whether the innermost run of this name lives; only for names of our own boot and pid namespace."""
    pid, _, rest = name.rpartition("/")[2].partition(".")
    ticks = rest.partition(".")[0]
    numbers = pid.isdecimal() and ticks.isdecimal() and len(pid) < 11 and len(ticks) < 20
    return bool(numbers and int(pid) != os.getpid() and process.witness(int(pid), int(ticks)))


def tree_environment(
    environ: Mapping[str, str],
    name: str,
    service: str | None = None,
    path: str | None = None,
    manhole: str | None = None,
) -> dict[str, str]:
    """The environment of a tree whose Pythons record themselves; `manhole` is what `MANHOLE_VARIABLE` gets."""
    changed = dict(environ)
    others = [part for part in environ.get("PYTHONPATH", "").split(os.pathsep) if part != SITE]
    # An empty part would mean the current directory, which nobody asked for where there was no PYTHONPATH.
    changed["PYTHONPATH"] = os.pathsep.join([SITE, *others] if environ.get("PYTHONPATH") else [SITE])
    changed[RUN_VARIABLE] = name
    if service:
        changed["MMSTATS_SERVICE"] = service
    if path:
        changed["MMSTATS_PATH"] = os.path.abspath(path)
    if manhole:
        changed[MANHOLE_VARIABLE] = manhole
    return changed


def supervise(command: Sequence[str], environ: Mapping[str, str], before: Callable[[], None]) -> Ended:
    """Run a command to its end. The signals stay blocked, also afterwards: an exit code must not be lost to them.

    before: called before the command is started, with signals held back
    """
    _adopt_orphans()
    handed_on = _signals()
    original = signal.pthread_sigmask(signal.SIG_BLOCK, handed_on | {signal.SIGCHLD})
    # Ignored, the kernel would not tell us how children end.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ledger = None if disabled() else Ledger()
    before()
    try:
        # Python ignores these for itself.
        pid = os.posix_spawnp(
            command[0], list(command), dict(environ), setsigmask=original, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ]
        )
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return Ended(NOT_FOUND if missing else NOT_EXECUTABLE, problem=_problem(command[0], error))
    except ValueError as error:
        return Ended(NOT_EXECUTABLE, problem=str(error))
    return _Parent(pid, ledger, handed_on).wait()


def _problem(name: str, error: OSError) -> str:
    if error.errno == errno.ENOENT and os.path.exists(name):
        return "the program that its first line names is not there"
    if error.errno == errno.ENOENT:
        return "command not found"
    if error.errno == errno.ENOEXEC:
        return "not a program: a script needs a first line such as #!/bin/sh"
    return error.strerror or str(error)


class _Parent:
    def __init__(self, pid: int, ledger: Ledger | None, handed_on: set[int]) -> None:
        self._pid = pid
        self._ledger = ledger
        self._handed_on = handed_on
        self._status: int | None = None
        self._asked: int | None = None

    def wait(self) -> Ended:
        # It may be over before the first signal tells.
        self._reap()
        while self._status is None:
            number, from_terminal = _next_signal(self._handed_on | {signal.SIGCHLD})
            if number == signal.SIGCHLD:
                self._reap()
            else:
                self._hand_on(number, from_terminal)
        code = os.waitstatus_to_exitcode(self._status)
        return Ended(code if code >= 0 else 128 - code, self._pid, self._asked)

    def _hand_on(self, number: int, from_terminal: bool) -> None:
        if number in ASKING:
            self._asked = time.time_ns()
        if not (from_terminal and self._shares_terminal(number)):
            self._send(number)
            if number in (signal.SIGTTIN, signal.SIGTTOU):
                return  # sent by a process, these are messages: gunicorn adds and removes workers
        if number in _STOPPING:
            # The shell looks at us: it shall see the job stopped, as the program is. By the same
            # signal, since the kernel stops nobody by it where nobody could go on with it.
            os.kill(os.getpid(), number)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
            signal.pthread_sigmask(signal.SIG_BLOCK, [number])

    def _shares_terminal(self, number: int) -> bool:
        """Whether the terminal sent the program the same signal."""
        if number == signal.SIGHUP and os.getsid(0) == os.getpid():
            return False  # a hangup is told to the leader of the session alone
        try:
            return os.getpgid(self._pid) == os.getpgrp()
        except OSError:
            return False

    def _send(self, number: int) -> None:
        # It was not waited for yet, so its pid is its own, also if it is dead.
        if self._ledger is not None:
            self._ledger.sent(self._pid, number)
        try:
            os.kill(self._pid, number)
        except OSError:
            # Such as for a program that runs as another user.
            if self._ledger is not None:
                self._ledger.not_sent(self._pid)

    def _reap(self) -> None:
        """Wait for all that have ended: the program, and orphans of its tree."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    return
                pid = ended.si_pid
                # A zombie still has its start time, by which its file is known for sure.
                started = _start_of(pid)
                _, status, usage = os.wait4(pid, 0)
            except ChildProcessError:
                return
            if self._ledger is not None:
                try:
                    self._ledger.ended(pid, status, max_rss=peak_bytes(usage), start_ticks=started)
                except Exception:
                    pass  # what can't be recorded must not keep the others from being waited for
            if pid == self._pid:
                self._status = status


def _next_signal(numbers: set[int]) -> tuple[int, bool]:
    """Wait for a signal: its number, and whether the terminal's driver sent it."""
    if hasattr(signal, "sigwaitinfo"):
        found = signal.sigwaitinfo(numbers)
        return found.si_signo, found.si_code > 0 and found.si_signo in _TERMINAL
    number = int(signal.sigwait(numbers))
    return number, number in _TERMINAL and os.isatty(0)


def _signals() -> set[int]:
    """All that are handed on: those that can be caught and that we were not started to ignore."""
    own = [getattr(signal, name, None) for name in _OWN]
    return {
        int(number)
        for number in signal.valid_signals()
        if number not in own and signal.getsignal(number) != signal.SIG_IGN
    }


def _start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot, also of one that has ended; None for not known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _adopt_orphans() -> None:
    """Have those whose parents die become our children, as they do of pid 1. Linux alone can."""
    if sys.platform == "linux" and os.getpid() != 1:
        try:
            import ctypes

            zero = ctypes.c_ulong(0)
            ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), zero, zero, zero)
        except (ImportError, OSError, AttributeError):
            pass  # their ends are recorded by nobody then
