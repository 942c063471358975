"""Names at a prompt that would do harm as they are: the program's input is not the client's, nor is its end."""

from __future__ import annotations

from typing import Any


class Exit(BaseException):
    """exit() was called. Not `SystemExit`, which ends the program from a greenlet or task that a client has spawned."""

    __module__ = "mmdebug"


def leave(*code: object) -> None:
    """Ends this session's command, and nothing else. (Python's own closes the standard input before.)"""
    raise Exit(*code)


def no_input(prompt: object = "") -> str:
    """There is no input here."""
    raise EOFError("input() would read the standard input of the program, and hold it up")


def no_breakpoint(*arguments: Any, **keywords: Any) -> None:
    """There is no debugger here."""
    raise RuntimeError("breakpoint() would stop the program, and ask at its own terminal")


#: What a session's namespace has, unless the program gave it other things of these names.
NAMES = {"exit": leave, "quit": leave, "input": no_input, "breakpoint": no_breakpoint}
