"""The % commands of a session: questions to the process that need no code, and what is chosen for the session."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmstats.errors import MmStatsError

from ..commands.events import line_of
from ..protocol import MAX_CODE
from ..records import SEVERITIES, Box
from ..report.content import by_weight
from . import show

if TYPE_CHECKING:
    from .session import Session

#: Events that are shown if nothing else is asked for.
LAST = 20
WHERE = {"auto": "auto", "app": "app", "hub": "app", "loop": "app", "main": "main", "native": "native"}


class Misuse(MmStatsError):
    """A % command was used in another way than it can be."""


@dataclass(frozen=True, slots=True)
class Special:
    """A % command. `code`: whether it is about code, of which a read-only process runs none."""

    usage: str
    help: str
    run: Callable[[Session, str], None]
    code: bool = False


def run(session: Session, line: str) -> None:
    """Run a line that begins with %."""
    name, _, argument = line[1:].strip().partition(" ")
    special = SPECIALS.get(name.lower())
    if special is None:
        raise Misuse(f"%{name} is none of the % commands: %help lists them.")
    if special.code and session.read_only:
        raise Misuse(show.READ_ONLY)
    special.run(session, argument.strip())


def completions(before: str) -> Iterator[tuple[str, int, str]]:
    """What can stand at the end of a line that begins with %: the text, how much of the line it replaces, and help."""
    name, blank, argument = before.partition(" ")
    if not blank:
        for known, special in SPECIALS.items():
            if f"%{known}".startswith(name):
                yield f"%{known}", len(name), special.help
        return
    words = {"%where": tuple(WHERE), "%events": ("-f", *SEVERITIES), "%stacks": ("all",), "%timeout": ("none",)}
    for word in words.get(name, ()):
        if word.startswith(argument.rpartition(" ")[2]):
            yield word, len(argument.rpartition(" ")[2]), ""
    if name == "%run":
        yield from _files(argument)


def _files(begun: str) -> Iterator[tuple[str, int, str]]:
    home, part = os.path.split(begun)
    try:
        names = sorted(os.listdir(os.path.expanduser(home) or "."))
    except OSError:
        return
    for name in names:
        if name.startswith(part) and name.isprintable() and (part or not name.startswith(".")):
            folder = os.path.isdir(os.path.join(os.path.expanduser(home), name))
            yield (name + "/" if folder else name), len(part), ""


# Each of them.


def _help(session: Session, argument: str) -> None:
    rows = [
        (special.usage, special.help) for special in dict.fromkeys(SPECIALS.values())
        if not (special.code and session.read_only)
    ]  # fmt: skip
    if session.read_only:
        rows.append(("Ctrl-D, exit", "leave; the process goes on"))
        session.screen.answer(f"{show.READ_ONLY}\n\n{show.table(rows)}")
        return
    rows += [
        ("name?  name??", "what a name is; with its source"),
        ("_", "the last value"),
        ("Ctrl-C", "clear the line; stop the command that runs, and a second one stops waiting for it"),
        ("Ctrl-D, exit", "leave; the process goes on"),
    ]
    session.screen.answer(show.table(rows))


def _where(session: Session, argument: str) -> None:
    if argument:
        if argument not in WHERE:
            raise Misuse(f"%where {argument}: it is one of {', '.join(WHERE)}.")
        if session.read_only:
            raise Misuse(show.READ_ONLY)
        session.where = WHERE[argument]
        session.screen.answer(f"Commands run {show.place(session.connection.welcome, session.where)} from now on.")
        return
    session.screen.answer(show.whereabouts(session.connection.where(), session.where, session.connection.welcome))


def _at(where: str) -> Callable[[Session, str], None]:
    """Run code at a place, or choose it for all that follow."""

    def run(session: Session, argument: str) -> None:
        if argument:
            session.execute(argument, where=WHERE[where])
        else:
            _where(session, where)

    return run


def _timeout(session: Session, argument: str) -> None:
    if argument:
        try:
            seconds = 0.0 if argument in ("none", "off") else float(argument)
        except ValueError:
            seconds = -1
        if not 0 <= seconds <= 1e6:
            raise Misuse(f"%timeout {argument}: it is a number of seconds, or none.")
        session.timeout = seconds or None
    session.screen.answer(f"A command may take: {show.limits(session.connection.welcome, session.timeout)}.")


def _stacks(session: Session, argument: str) -> None:
    if argument not in ("", "all"):
        raise Misuse(f"%stacks {argument}: it is %stacks, or %stacks all.")
    session.show_stacks(argument == "all")


def _stats(session: Session, argument: str) -> None:
    session.screen.answer(show.stats(session.connection.stats(), argument or None, session.screen.ascii_only))


def _events(session: Session, argument: str) -> None:
    last, severity, follow = LAST, "debug", False
    for word in argument.split():
        if word == "-f":
            follow = True
        elif word in SEVERITIES:
            severity = word
        elif (number := _number(word)) >= 0:
            last = number
        else:
            raise Misuse(f"%events {word}: it is -f, a number, or one of {', '.join(SEVERITIES)}.")
    found = session.connection.events(last, severity, follow)
    if not follow:
        lines = [line_of(event) for event in found]
        session.screen.answer("\n".join(lines) or "There are none.")
        return
    session.screen.quiet("(Ctrl-C ends this)")
    try:
        with closing(found):  # type: ignore[type-var]  # it is a generator, and ends what it follows
            for event in found:
                session.screen.answer(line_of(event))
    except KeyboardInterrupt:
        session.screen.interrupted()


def _activities(session: Session, argument: str) -> None:
    session.screen.answer(show.activities(_box(session)))


def _exceptions(session: Session, argument: str) -> None:
    box = _box(session)
    if not argument:
        session.screen.answer(show.exceptions(box))
        return
    records = by_weight(box.exceptions)
    if not 1 <= _number(argument) <= len(records):
        raise Misuse(f"%exceptions {argument}: it is a number from 1 to {len(records)}.")
    session.screen.answer(show.exception(records[_number(argument) - 1]))


def _number(word: str) -> int:
    """A number of at most nine digits; -1 if it is none."""
    return int(word) if word.isdecimal() and len(word) < 10 else -1


def _box(session: Session) -> Box:
    box = session.connection.box()
    if box is None:
        raise Misuse("Nothing is recorded there: `mmdebug run` or mmdebug.install() in the program switches that on.")
    return box


def _more(session: Session, argument: str) -> None:
    session.more()


def _less(session: Session, argument: str) -> None:
    if not session.screen.terminal:
        raise Misuse("%less needs a terminal.")
    if not session.screen.shown:
        raise Misuse("Nothing was shown yet.")
    try:
        wanted = shlex.split(os.environ.get("PAGER", "")) or ["less"]
    except ValueError as error:
        raise Misuse(f"PAGER is no command: {error}") from error
    program = shutil.which(wanted[0]) or shutil.which("more")
    if program is None:
        raise Misuse(f"{wanted[0]} is not there: set PAGER.")
    # Ctrl-C is the pager's. A handler, since what is ignored here it would ignore, too.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        subprocess.run([program, *wanted[1:]], input=session.screen.shown.encode(errors="backslashreplace"))
    except OSError as error:
        raise Misuse(f"{wanted[0]}: {error.strerror or error}") from error
    finally:
        signal.signal(signal.SIGINT, before)


def _run(session: Session, argument: str) -> None:
    if not argument:
        raise Misuse("%run needs the name of a file of yours.")
    try:
        with open(os.path.expanduser(argument), encoding="utf-8") as file:
            code = file.read(MAX_CODE + 1)
    except (OSError, ValueError) as error:
        raise Misuse(f"{argument} can't be read: {getattr(error, 'strerror', None) or error}") from error
    session.execute(code, mode="exec")


_APP = Special("%hub [CODE]", "the same on the hub, or the event loop; also %app, %loop", _at("app"), code=True)

SPECIALS = {
    "help": Special("%help", "this list", _help),
    "stacks": Special("%stacks [all]", "what its threads, greenlets and tasks are doing", _stacks),
    "stats": Special("%stats [TEXT]", "its stats; only those with TEXT in their name", _stats),
    "events": Special("%events [-f] [N] [SEVERITY]", "its last events and log records; -f waits for more", _events),
    "activities": Special("%activities", "what it is in the middle of", _activities),
    "exceptions": Special("%exceptions [N]", "its errors; the one of a number in full", _exceptions),
    "where": Special("%where [PLACE]", "where commands run, and whether that place answers; choose another", _where),
    "native": Special("%native [CODE]", "run CODE, or all from now on, in a native thread", _at("native"), code=True),
    "hub": _APP,
    "app": _APP,
    "loop": _APP,
    "main": Special("%main [CODE]", "the same in the main thread, amid what it does", _at("main"), code=True),
    "timeout": Special("%timeout [SECONDS]", "how long a command may take; none for no limit", _timeout, code=True),
    "more": Special("%more", "the next part of a result that was cut", _more, code=True),
    "less": Special("%less", "what was shown last, in $PAGER", _less),
    "run": Special("%run FILE", "run a file of yours there", _run, code=True),
}
