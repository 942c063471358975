"""Walk the frames that were recorded of exceptions, as in pdb. Nothing runs and nothing is evaluated."""

from __future__ import annotations

import cmd
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from mmstats.commands.text import printable

from .records import CapturedError, Frame
from .report import content

if TYPE_CHECKING:
    from .postmortem import PostMortem


class Debugger(cmd.Cmd):
    """Commands over one post-mortem's exceptions; the fatal one, or else the newest one, is chosen at first."""

    prompt = "(mmdebug) "
    ruler = ""
    doc_header = "Commands (help COMMAND tells more):"

    def __init__(self, found: PostMortem, stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
        super().__init__(stdin=stdin, stdout=stdout)
        # Piped input needs no editing of lines, and readline would write escapes for it.
        self.use_rawinput = stdin is None and sys.stdin.isatty()
        if not self.use_rawinput:
            self.prompt = ""
        self._records = content.by_weight(found.exceptions)
        self._number = 0
        self._links: list[content.Linked] = []
        self._link = 0
        self._at = 0
        self._greeting = (
            f"{found.process.service or 'process'}, pid {found.process.pid}: {len(self._records)} distinct exceptions.",
            "What you see are texts that were recorded when they happened, secrets taken out: nothing runs here.",
            "`help` lists the commands.",
        )
        self._choose(0)

    # What is chosen.

    def _choose(self, number: int) -> None:
        self._number = number
        self._links = content.chain(self._records[number].error) if self._records else []
        self._follow(0)

    def _follow(self, link: int) -> None:
        self._link = link
        self._at = max(len(self._frames) - 1, 0)

    @property
    def _error(self) -> CapturedError | None:
        return self._links[self._link].error if self._links else None

    @property
    def _frames(self) -> Sequence[Frame]:
        return self._error.frames if self._error is not None else ()

    @property
    def _frame(self) -> Frame | None:
        return self._frames[self._at] if self._frames else None

    # What is said.

    def _say(self, content: str = "") -> None:
        self.stdout.write(printable(content) + "\n")

    def preloop(self) -> None:
        for line in self._greeting:
            self._say(line)
        self._show()

    def _show(self) -> None:
        """The chosen exception and frame."""
        if self._error is None:
            self._say("No exception was recorded." if not self._records else "Its details could not be read.")
            return
        self._say(f"{self._error.type}: {self._error.message}")
        self._show_frame()

    def _show_frame(self) -> None:
        frame = self._frame
        if frame is None:
            self._say("No frame was recorded of it.")
            return
        self._say(f"> [{self._at}] {_place(frame)}")
        if content.line_of(frame):
            self._say(f"-> {content.line_of(frame)}")

    # Commands. cmd.Cmd takes their names and their help from the methods.

    def do_where(self, argument: str) -> None:
        """where: the recorded frames, the innermost last; > is where you are."""
        error = self._error
        if error is None:
            self._show()
            return
        for number, frame in enumerate(error.frames):
            self._say(f"{'>' if number == self._at else ' '} [{number}] {_place(frame)}")
            if content.line_of(frame):
                self._say(f"      {content.line_of(frame)}")
        if error.frames_cut:
            self._say(f"  ({error.frames_cut} frames in the middle were not recorded)")
        self._say(f"{error.type}: {error.message}")
        for note in error.notes:
            self._say(note)

    def do_up(self, argument: str) -> None:
        """up [N]: to the caller, N frames further out."""
        self._move(-1, argument, "This is the outermost frame.")

    def do_down(self, argument: str) -> None:
        """down [N]: to the called one, N frames further in."""
        self._move(1, argument, "This is the innermost frame.")

    def _move(self, sign: int, argument: str, end: str) -> None:
        steps = _number(argument, 1)
        if steps is None:
            self._say("A number of frames, please.")
            return
        at = min(max(self._at + sign * steps, 0), max(len(self._frames) - 1, 0))
        if at == self._at:
            self._say(end)
            return
        self._at = at
        self._show_frame()

    def do_list(self, argument: str) -> None:
        """list: the lines of source around the frame, as they were recorded."""
        frame = self._frame
        if frame is None or not frame.source:
            self._say("No source was recorded of this frame.")
            return
        for number, line in frame.source:
            self._say(f"{number:>5} {'->' if number == frame.line else '  '} {line.expandtabs(4)}")

    def do_locals(self, argument: str) -> None:
        """locals: all recorded locals of the frame."""
        frame = self._frame
        if frame is None or not frame.locals:
            self._say("No locals were recorded of this frame.")
        else:
            for name, value in frame.locals.items():
                self._say(f"{name} = {value}")
        if frame is not None and frame.cut:
            self._say(f"({frame.cut} more locals were not recorded)")

    def do_p(self, argument: str) -> None:
        """p NAME: the recorded text of a local of the frame. It looks names up and evaluates nothing."""
        frame = self._frame
        if frame is not None and argument in frame.locals:
            self._say(frame.locals[argument])
        else:
            self._say(f"No local {argument!r} was recorded of this frame; expressions can't be evaluated.")

    def do_exceptions(self, argument: str) -> None:
        """exceptions [N]: the distinct exceptions; with a number, choose that one."""
        if argument:
            number = _number(argument, 0)
            if number is None or number >= len(self._records):
                self._say(f"There is no exception {argument}.")
                return
            self._choose(number)
            self._show()
            return
        if not self._records:
            self._show()
        for number, record in enumerate(self._records):
            message = f": {record.error.message}" if record.error is not None else ""
            fatal = "fatal, " if record.fatal else ""
            mark = ">" if number == self._number else " "
            self._say(f"{mark} [{number}] {record.type}{message} ({fatal}{record.how}, {record.count}x)")

    def do_chain(self, argument: str) -> None:
        """chain [N]: the exception, what it came from, and the parts of a group; with a number, go to that one."""
        if argument:
            number = _number(argument, 0)
            if number is None or number >= len(self._links):
                self._say(f"There is no exception {argument} in this chain.")
                return
            self._follow(number)
            self._show()
            return
        if not self._links:
            self._show()
        for number, link in enumerate(self._links):
            relation = f"{link.relation} " if link.relation else ""
            mark = ">" if number == self._link else " "
            self._say(f"{mark} [{number}] {'  ' * link.depth}{relation}{link.error.type}: {link.error.message}")

    def do_quit(self, argument: str) -> bool:
        """quit: leave."""
        return True

    def do_EOF(self, argument: str) -> bool:  # noqa: N802  # cmd.Cmd calls it so
        """End of input: leave."""
        if self.use_rawinput:
            self._say()
        return True

    do_w = do_bt = do_where
    do_u, do_d, do_l, do_e, do_q = do_up, do_down, do_list, do_exceptions, do_quit

    def emptyline(self) -> bool:
        return False

    def default(self, line: str) -> None:
        self._say(f"There is no command {line.split()[0]}; `help` lists them.")


def _place(frame: Frame) -> str:
    return f"{frame.file}({frame.line}) {frame.function}"


def _number(argument: str, default: int) -> int | None:
    """A whole number; None for what is none."""
    if not argument:
        return default
    return int(argument) if argument.isascii() and argument.isdecimal() and len(argument) < 10 else None


def debug(found: PostMortem, stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
    """Walk the recorded frames until the user leaves; Ctrl-C leaves too."""
    try:
        Debugger(found, stdin, stdout).cmdloop()
    except KeyboardInterrupt:
        pass
