"""The prompt line by line, with nothing but the standard library: on any terminal, and in pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mmstats.errors import ConfigurationError, MmStatsError

from . import cells
from .history import History
from .session import Leave, Session

_NO_TEXT = "What comes in is no text of this terminal's encoding."


def typed(session: Session, history: History) -> None:
    """Read commands from a person until they leave; raises what ends a connection."""
    _edit_lines(history)
    while True:
        try:
            text = _read(session)
            if text.strip():
                history.add(text.rstrip())
            session.run(text)
        except KeyboardInterrupt:
            session.screen.quiet("\n(Ctrl-D leaves)")
        except UnicodeDecodeError:
            session.screen.error(_NO_TEXT)
        except EOFError:
            session.screen.answer("")
            return
        except Leave:
            return


def piped(session: Session) -> None:
    """Run what comes by a pipe, command after command; raises what ends a connection.

    Ctrl-C ends it: whoever presses that means the whole script.
    """
    for text in cells.commands(_lines()):
        try:
            session.run(text)
        except Leave:
            return
        if session.interrupted:
            return
    try:
        session.look()
    except MmStatsError:
        pass  # all that was asked was answered


def _lines() -> Iterator[str]:
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise ConfigurationError(_NO_TEXT) from error


def _read(session: Session) -> str:
    """One command, of as many lines as it needs."""
    session.look()
    prompt = "".join(session.prompt())
    text = _ask(prompt)
    while not cells.is_ready(text):
        text += "\n" + _ask("...: ".rjust(len(prompt)))
    return text


def _ask(prompt: str) -> str:
    if sys.stdout.isatty():
        return input(prompt)
    # The prompt is not for whoever reads the results.
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _edit_lines(history: History) -> None:
    """Arrow keys and earlier commands, where Python has readline."""
    try:
        import readline
    except ImportError:
        return
    readline.set_completer(lambda text, state: None)
    readline.clear_history()
    for command in history.earlier:
        if "\n" not in command:
            try:
                readline.add_history(command)
            except ValueError:
                pass  # a NUL, or half a character
