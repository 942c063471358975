"""A prompt for ``nc -U`` and ``socat``: lines of text to requests, and replies to lines of text.

It is a client like any other, which happens to live in the process. It knows no sockets.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
from collections import deque
from collections.abc import Callable

from ..capture.safetext import clean
from ..protocol import MAX_CODE, Message
from ..stacks import from_dict

PROMPT, MORE = ">>> ", "... "
#: Characters of an input of several lines: each line has all before it compiled once more.
MAX_BLOCK = 4 << 10

HELP = """\
%stacks [all]   threads, greenlets and tasks, with what they wait for
%where          where code runs, and whether the program's hub or loop comes round
%hub  %main  %native   where code is to run from now on; with code behind it, only that
%auto           where it suits this process, as at the beginning
%stats          the values of this process' stats
%events [N]     the last events and log records
exit()          close this connection, and nothing else
Ctrl-C ends nc itself; what it ran is then interrupted. The last value is _
"""
_PLACES = {"hub": "app", "loop": "app", "main": "main", "native": "native", "auto": "auto"}
_LEAVING = ("exit()", "quit()", "exit", "quit", "%exit", "%quit")
#: Events that are shown if no number is given.
EVENTS = 20

# What codeop does, without its change of the whole process' warnings for the time.
_FLAGS = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | 0x200 | 0x4000
_ESCAPES = re.compile(r"\\[^\n]")
_TOUCHING = re.compile(r"(?<![\w.])(\d[\w.]*?)(?=(?:and|else|for|if|in|is|not|or)\b)")


def complete(source: str) -> bool:
    """Whether a prompt would run this now; also if it can't be run at all. Pure."""
    if not any(line.strip() and not line.strip().startswith("#") for line in source.split("\n")):
        return True
    # An invalid escape, and a number that touches a word, would warn in the program's name.
    neutral = _TOUCHING.sub(r"\1 ", _ESCAPES.sub("__", source))
    if _problem(neutral) is None:
        return True
    problem = _problem(f"{neutral}\n")
    return problem is not None and "incomplete input" not in problem


def _problem(source: str) -> str | None:
    """Why this can't be compiled; None if it can be."""
    try:
        compile(source, "<manhole>", "single", _FLAGS)
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        return str(error)
    return None


class Plain:
    """
    say: sends text to the person
    ask: takes a request
    stats: the values of the process' stats as lines
    """

    def __init__(self, say: Callable[[str], None], ask: Callable[[Message], None], stats: Callable[[], str]) -> None:
        self._say_raw = say
        self._ask = ask
        self._stats = stats
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._lines: deque[str] = deque()
        self._source: list[str] = []
        self._where = "auto"
        self._number = 0
        self._waiting = False
        self._ended = False
        #: Whether there is nothing more to do for the person.
        self.finished = False

    def begin(self, banner: str) -> None:
        self._say(banner)
        self._prompt()

    def received(self, data: bytes, end: bool = False) -> None:
        """What the person typed; `end` if nothing more will come."""
        self._text += self._decoder.decode(data, end)
        *lines, self._text = self._text.split("\n")
        self._lines.extend(lines)
        if end:
            self._ended = True
            if self._text:
                self._lines.append(self._text)
                self._text = ""
        if len(self._text) > MAX_CODE or any(len(line) > MAX_CODE for line in lines):
            self._say(f"\na line of more than {MAX_CODE} characters: that is too long\n")
            self.finished = True
            return
        self._go_on()

    @property
    def crowded(self) -> bool:
        """Whether no more is to be taken from the person now."""
        return len(self._lines) > 100

    def _go_on(self) -> None:
        """Take lines until one has to be waited for."""
        while self._lines and not self._waiting and not self.finished:
            self._line(self._lines.popleft().rstrip("\r"))
        if self._ended and not self._lines and not self._waiting and not self.finished:
            if any(line.strip() for line in self._source):
                self._run("\n".join(self._source), self._where)
            else:
                self.finished = True

    def _line(self, line: str) -> None:
        if not self._source:
            stripped = line.strip()
            if stripped in _LEAVING:
                self.finished = True
                return
            if not stripped or stripped.startswith("#"):
                self._prompt()
                return
            if stripped.startswith("%"):
                self._magic(stripped[1:])
                return
        self._source.append(line)
        source = "\n".join(self._source)
        if len(self._source) > 1 and len(source) > MAX_BLOCK:
            # What follows is a part of it, and not to be run alone.
            self._source.clear()
            self._say(f"\n{MAX_BLOCK} characters in several lines, and more: that is too long\n")
            self.finished = True
        elif complete(source):
            self._run(source, self._where)
        else:
            self._say(MORE)

    def _magic(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        rest = rest.strip()
        if name in _PLACES and rest:
            self._run(rest, _PLACES[name])
            return
        if name in _PLACES:
            self._where = _PLACES[name]
            self._request({"type": "where"})
        elif name == "where":
            self._request({"type": "where"})
        elif name == "stacks":
            self._request({"type": "stacks", "all": rest == "all"})
        elif name == "events":
            last = int(rest) if rest.isdecimal() and len(rest) < 6 else EVENTS
            self._request({"type": "events", "last": last})
        elif name == "stats":
            self._request({"type": "stats"})
        else:
            self._say(HELP if name in ("help", "") else f"%{name} is not known\n{HELP}")
            self._prompt()

    def _run(self, source: str, where: str) -> None:
        self._source.clear()
        self._request({"type": "exec", "code": source, "mode": "cell", "where": where})

    def _request(self, message: Message) -> None:
        self._number += 1
        self._waiting = True
        self._ask({**message, "id": self._number})

    # Replies.

    def reply(self, message: Message, body: bytes) -> None:
        """Show a message that came for this person."""
        kind = message["type"]
        if kind == "started":
            if message["reason"]:
                self._say(_stacks(body) + f"# {message['reason']}\n")
            return
        if kind == "stream":
            self._say(message["text"])
            return
        show = _SHOWN.get(kind)
        if kind == "stats":
            self._say(self._stats())
        elif show is not None:
            self._say(show(message, body))
        if message.get("id") is None and kind == "error":
            return  # the last words of the session
        if not message.get("more"):
            self._waiting = False
            if not self._ended:
                self._prompt()
            self._go_on()

    def _prompt(self) -> None:
        if not self._ended:
            self._say(PROMPT)

    def _say(self, text: str) -> None:
        self._say_raw(clean(text))


def _stacks(body: bytes) -> str:
    return f"{from_dict(json.loads(body))}\n" if body else ""


def _result(message: Message, _: bytes) -> str:
    text = message["data"].get("text/plain", "")
    cut = "# not all of it is shown\n" if message["cut"] else ""
    return f"{text}\n{cut}{_output(message)}" if text else cut + _output(message)


def _output(message: Message) -> str:
    dropped = message["output"]["dropped"]
    return f"# {dropped} bytes more were printed\n" if dropped else ""


def _error(message: Message, body: bytes) -> str:
    lines = list(message["traceback"]) or [f"# {message['kind']}: {message['message']}"]
    if message["kind"] in ("timeout", "interrupted") and message["traceback"]:
        lines.append(f"# {message['kind']}: {message['message']}")
    if message["advice"]:
        lines.append(f"# {message['advice']}")
    return _stacks(body) + "\n".join(lines) + "\n" + _output(message)


def _where(message: Message, _: bytes) -> str:
    answers = "" if message["kind"] == "threads" else f", which answered in {message['seconds'] * 1000:.1f} ms"
    if not message["answers"]:
        answers = f", which has not answered for {message['seconds']:.1f} s"
    return f"{message['place']}{answers}; there are: {', '.join(message['places'])}\n"


def _events(message: Message, _: bytes) -> str:
    lines = []
    for event in message["events"]:
        fields = " ".join([f"{key}={value}" for key, value in event["fields"].items()])
        told = [event["severity"].upper(), event["logger"] or event["kind"], event["name"], fields]
        lines.append(" ".join([_moment(event["time"]), *[text for text in told if text]]))
    return "".join([f"{line}\n" for line in lines])


def _moment(nanoseconds: int) -> str:
    """The time of a day in UTC; by hand, since to ask for the local one may read files."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest // 1_000_000:03d}Z"


_SHOWN: dict[str, Callable[[Message, bytes], str]] = {
    "result": _result,
    "error": _error,
    "stacks": lambda _, body: _stacks(body),
    "where": _where,
    "events": _events,
}
