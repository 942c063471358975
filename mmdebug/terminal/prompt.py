"""The prompt on prompt_toolkit: colours, completion, history, several lines, and an eye on the process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mmstats.errors import MmStatsError

from . import cells
from .completing import RemoteCompleter
from .history import History
from .session import Leave, Session

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.formatted_text import FormattedText
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.lexers import Lexer

_INDENT = 4
#: Seconds between two looks at whether the process is still there.
_LOOK = 0.5
_STYLE = {"who": "ansigreen bold", "state": "ansiyellow bold", "number": "ansigreen"}


def typed(session: Session, history: History) -> None:
    """Read commands from a person until they leave; raises what ends a connection."""
    prompt = Prompt(session, history)
    while True:
        try:
            session.run(prompt.read())
        except KeyboardInterrupt:
            continue
        except (EOFError, Leave):
            return


class Prompt:
    """Reads one command after the other.

    Earlier commands are not suggested while one types: in a live process a key too many must not run what was
    not meant. Ctrl-R and the arrow keys find them.
    """

    def __init__(self, session: Session, history: History) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.output import ColorDepth
        from prompt_toolkit.styles import Style

        self._session = session
        self._history = history
        completer: Any = RemoteCompleter(session)  # all of a Completer that is used
        self._completer: RemoteCompleter = completer
        colour = session.screen.colour
        self._prompt: PromptSession[str] = PromptSession(
            multiline=True,
            history=InMemoryHistory(history.earlier),
            lexer=_lexer(colour),
            style=Style.from_dict(_STYLE),
            color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
            completer=completer,
            complete_while_typing=False,
            enable_history_search=True,
            enable_suspend=True,
            enable_open_in_editor=False,
            key_bindings=_bindings(),
            prompt_continuation=self._continuation,
        )

    def read(self) -> str:
        """The next command. Raises `EOFError`, `KeyboardInterrupt`, and what ends a connection."""
        self._session.typing = True
        try:
            text = self._prompt.prompt(self._message, pre_run=self._watch)
        finally:
            self._session.typing = False
            self._session.show_late()
        self._completer.settle()
        if text.strip():
            self._history.add(text.rstrip())
        return text

    def _message(self) -> FormattedText:
        from prompt_toolkit.formatted_text import FormattedText

        who, state, number = self._session.prompt()
        return FormattedText([("class:who", who), ("class:state", state), ("class:number", number)])

    def _continuation(self, width: int, line: int, wrapped: int) -> FormattedText:
        from prompt_toolkit.formatted_text import FormattedText

        return FormattedText([("class:number", "...: ".rjust(width) if not wrapped else " " * width)])

    def _watch(self) -> None:
        from prompt_toolkit.application import get_app

        get_app().create_background_task(self._look())

    async def _look(self) -> None:
        """End the prompt when the process ends, or hangs up; show above it what comes late."""
        from prompt_toolkit.application import get_app, run_in_terminal

        while True:
            await asyncio.sleep(_LOOK)
            try:
                self._session.connection.look()
            except MmStatsError as error:
                app = get_app()
                if app.is_running and not app.is_done:
                    app.exit(exception=error)
                return
            if self._session.late:
                await run_in_terminal(self._session.show_late)


def _lexer(colour: bool) -> Lexer:
    from prompt_toolkit.lexers import PygmentsLexer, SimpleLexer

    try:
        from pygments.lexers.python import PythonLexer
    except ImportError:
        return SimpleLexer()
    if not colour:
        return SimpleLexer()
    return PygmentsLexer(PythonLexer)


def _bindings() -> KeyBindings:
    """Enter, and the keys of indented lines."""
    from prompt_toolkit.application import get_app
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import Condition, has_focus
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)

    @Condition
    def in_blanks() -> bool:
        """Whether only blanks stand before the cursor in its line."""
        return not get_app().current_buffer.document.current_line_before_cursor.strip()

    @Condition
    def indented() -> bool:
        before = get_app().current_buffer.document.current_line_before_cursor
        return bool(before) and not before.strip() and len(before) % _INDENT == 0

    @bindings.add("enter", filter=typing)
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.on_last_line and cells.is_ready(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n" + cells.indent_after(buffer.document.text_before_cursor))

    @bindings.add("tab", filter=typing & in_blanks)
    def indent(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text(" " * _INDENT)

    @bindings.add("backspace", filter=typing & indented)
    def dedent(event: KeyPressEvent) -> None:
        event.current_buffer.delete_before_cursor(_INDENT)

    return bindings
