"""Run a command as its parent, record how it and its children end, and tell of deaths.

All Pythons below record themselves, without a change to them. At its start it tells of deaths that
nobody was told of yet, such as that of its own previous life in a container; at the end, of a bad
end of the command or of a process below it. The exit code is the command's own, 128 and the number
of the signal that killed it, 127 if there is no such command and 126 if it can't be run.

Signals are handed on to the command; what a terminal sends reaches it by itself. As pid 1 or not,
orphans are waited for. What is still running when the command ends is left alone.

  mmdebug run -- gunicorn app:app
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import mmstats
from mmdebug import children
from mmdebug.records import Exit
from mmdebug.runner import ASKING, NOT_FOUND, RUN_VARIABLE, Ended, run_id, run_lives, supervise, tree_environment
from mmstats import identity, process
from mmstats.commands import text
from mmstats.commands.console import Console

HELP = "run a command, and tell what killed it"

#: Deaths that are told of one by one; the rest is counted.
MOST = 3
#: Seconds after which a death is no news any more, and within which an end follows from being asked to end.
OLD = 7 * 86400
SOON = 600
#: Bytes that Kubernetes takes of a termination message.
LOG_BYTES = 4096
#: Seconds that telling may take: nobody may have to wait long for a start or an exit code.
PATIENCE = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "mmdebug run [--service NAME] [--path DIR] [--manhole[=read-only]] [--no-report] -- COMMAND [ARGUMENT ...]"
    )
    parser.add_argument("--service", metavar="NAME", help="the name under which the processes are found")
    parser.add_argument("--no-report", action="store_true", help="record, but tell nothing")
    parser.add_argument(
        "--manhole", action="store_const", const="1", help="let this user, and root, attach to the processes"
    )
    # Only so: a word that follows is the command.
    parser.add_argument(
        "--manhole=read-only", dest="manhole", action="store_const", const="read-only",
        help="let them ask for stacks, stats and events, and run nothing",
    )  # fmt: skip
    parser.add_argument("command_line", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")


def run(options: argparse.Namespace, console: Console) -> int:
    command = list(options.command_line)
    if command[:1] == ["--"]:
        del command[0]
    if not command or not command[0]:
        print("mmdebug run: which command? mmdebug run -- COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    name = run_id(os.environ)
    if children.disabled():
        ended = supervise(command, os.environ, lambda: None)
    else:
        environ = tree_environment(os.environ, name, options.service, options.path, options.manhole)
        if options.path:
            os.environ["MMSTATS_PATH"] = environ["MMSTATS_PATH"]
        teller = Teller(name, options.service, {"always": True, "never": False}.get(options.color))
        told = not options.no_report
        ended = supervise(command, environ, teller.tell_previous if told else lambda: None)
        if told and not ended.problem:
            teller.tell_end(ended)
    if ended.problem:
        kind = "not found" if ended.code == NOT_FOUND else "can't be run"
        print(f"mmdebug run: {text.printable(command[0])}: {kind}: {ended.problem}", file=sys.stderr)
    return ended.code


def ended_badly(state: str, ended: Exit | None, asked: int | None = None) -> bool:
    """Whether a process' end is worth telling of. A pure function.

    state: as of `mmstats.Process`
    asked: when the whole tree was asked to end
    """
    if state not in ("died", "closed"):
        return False
    try:
        code = os.waitstatus_to_exitcode(ended.status) if ended is not None else None
    except ValueError:
        code = None  # not the status of an end: a damaged file
    if ended is None or code is None:
        return state == "died"
    requested = {sent.number for sent in ended.signals if _soon(sent.time, ended.time)}
    if asked is not None and _soon(asked, ended.time):
        requested.update(ASKING)
    if code >= 0:
        # A worker that gunicorn aborts may still leave with 0.
        return (code != 0 or signal.SIGABRT in requested) and requested.isdisjoint(ASKING)
    if -code in (*ASKING, signal.SIGHUP):
        # Python's own end by Ctrl-C closes the file and then comes by the signal.
        return not (-code in requested or state == "closed")
    return True


def _soon(asked: int, ended: int) -> bool:
    return asked - 1_000_000_000 <= ended <= asked + SOON * 1_000_000_000


class Teller:
    """Tells of deaths, on stderr and in the termination log, each once. Never raises, never takes long."""

    def __init__(self, name: str, service: str | None, colour: bool | None) -> None:
        self._name = name
        self._service = identity.safe_name(service) if service else None
        self._colour = colour

    def tell_previous(self) -> None:
        """Tell of the deaths that nobody was told of."""
        with _patience():
            unseen = [
                found for found in _dead(self._service) if ended_badly(found.process.state, children.read_exit(found))
            ]
            unseen = [found for found in unseen if not _old(found) and not _watched(found)]
            if unseen:
                lines = ["mmdebug: deaths that nobody was told of yet:", *_paragraphs(unseen)]
                log(lines)
                _print(lines)
                for found in unseen:
                    children.mark_reported(found.path)

    def tell_end(self, ended: Ended) -> None:
        """After the command's end: tell of it, if it was a bad one, and of those below it."""
        with _patience():
            mine = [found for found in _dead() if found.process.pid == ended.pid or self._of_us(found)]
            bad = [
                found
                for found in mine
                if ended_badly(found.process.state, children.read_exit(found), ended.asked) and not _old(found)
            ]
            own = [found for found in bad if found.process.pid == ended.pid]
            if bad:
                first = (own or bad)[0]
                rest = [found for found in bad if found is not first]
                short, others = _paragraphs([first]), _paragraphs(rest, MOST - 1)
                log([*short, *others])
                _print(_report(first.path, self._colour) or short)
                _print(["", "mmdebug: others ended badly, too:", *others] if others else [])
            # Also those that ended as they were asked to: the next start can't know that.
            for found in mine:
                if ended.asked is not None or found in bad:
                    children.mark_reported(found.path)

    def _of_us(self, found: mmstats.Snapshot) -> bool:
        name = found.process.environ.get(RUN_VARIABLE, "")
        return name == self._name or name.startswith(f"{self._name}/")


def _dead(service: str | None = None) -> list[mmstats.Snapshot]:
    """The dead whom nobody was told of, the newest first; only those whose files we may mark."""
    fleet = mmstats.read_all(service=service)
    me = os.geteuid()
    return [
        found
        for found in reversed(list(fleet.values()))
        if found.alive is False
        and not children.was_reported(found)
        and (me == 0 or found.process.uid == me)
        and os.access(found.path, os.W_OK)
    ]


def _old(found: mmstats.Snapshot) -> bool:
    """Whether it is known to have ended long ago; when it began tells nothing of that."""
    ended = children.read_exit(found)
    last = max(ended.time if ended else 0, found.closed_at or 0, found.heartbeat or 0)
    return 0 < last < time.time_ns() - OLD * 1_000_000_000


def _watched(found: mmstats.Snapshot) -> bool:
    """Whether another run, which lives, will tell of it."""
    me, who = process.myself(), found.process
    if who.boot_id != me.boot_id or who.pid_namespace != me.pid_namespace:
        return False
    return run_lives(who.environ.get(RUN_VARIABLE, ""))


# What is said.


def _paragraphs(deaths: Sequence[mmstats.Snapshot], most: int = MOST) -> list[str]:
    """A few lines for each of the first `most`, and how many more there are."""
    lines = []
    for found in deaths[:most]:
        who = found.process
        target = f"{text.printable(who.service) or '-'}, pid {who.pid}"
        lines.append(f"{target}, {_when(found)}: {text.printable(_summary(found.path))[:600]}")
        lines.append(f"  mmdebug postmortem {text.printable(found.path)}")
    if len(deaths) > most:
        lines.append(f"and {len(deaths) - most} more: mmstats ls --state died")
    return lines


def _when(found: mmstats.Snapshot) -> str:
    ended = children.read_exit(found)
    known = (ended.time if ended else 0) or found.closed_at
    word, moment = ("ended", known) if known else ("ended after", found.heartbeat or found.created or 0)
    try:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(moment / 1e9))
    except (OverflowError, ValueError, OSError):
        return "at an unknown time"  # a damaged file
    return f"{word} {stamp} ({text.age(time.time() - moment / 1e9)} ago)"


def _summary(path: str) -> str:
    try:
        from mmdebug.postmortem import load

        found: Any = load(path)
        return str((getattr(found, "verdict", None) or found.ending).summary)
    except Exception as error:
        return f"how can't be told: {type(error).__name__}: {error}"


def _report(path: str, colour: bool | None) -> list[str]:
    """The lines of the whole post-mortem; none if it can't be made."""
    try:
        from mmdebug.postmortem import load
        from mmdebug.report import print_report

        kept = _Kept(sys.stderr)
        console = Console(kept, colour=colour)
        print_report(console, load(path))
        console.flush()
        return kept.getvalue().splitlines()
    except Exception as error:
        _say(f"no full report: {type(error).__name__}: {text.printable(str(error))}")
        return []


class _Kept(io.StringIO):
    """Holds a report back until it is whole; it is as wide, and as coloured, as `stream` takes it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
    sys.stderr.flush()


def log(lines: Sequence[str]) -> None:
    """Put lines at the front of the termination log, if there is one, and cut it at a line's end."""
    path = os.environ.get("MMDEBUG_TERMINATION_LOG") or "/dev/termination-log"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # there is none, or it is not for us
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        content = "".join([f"{line}\n" for line in lines]).encode("utf-8", "replace")
        content += os.pread(descriptor, LOG_BYTES, 0)
        if len(content) > LOG_BYTES:
            content = content[: content.rfind(b"\n", 0, LOG_BYTES) + 1] or content[:LOG_BYTES]
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


class _TooLongError(BaseException):
    """No `Exception`: what is interrupted must not take it for one of its own."""


@contextmanager
def _patience() -> Iterator[None]:
    """Let what is within fail, or take `PATIENCE` seconds, without harm to the command or its exit code."""

    def late(*_: object) -> None:
        raise _TooLongError

    earlier = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    except _TooLongError:
        _say("the deaths take too long to read")
    except Exception as error:
        _say(f"deaths can't be told of: {type(error).__name__}: {text.printable(str(error))}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def _say(message: str) -> None:
    try:
        print(f"mmdebug run: {message}", file=sys.stderr)
    except (OSError, ValueError):
        pass  # there is nowhere to say it
