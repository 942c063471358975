"""The prompt's parts: what is typed becomes commands, and what comes back is shown, whatever it is."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdebug import records, terminal
from mmdebug.client.data import Inspection, Result, Started, Welcome, Where
from mmdebug.errors import ConnectionLost, ProtocolError, RemoteError
from mmdebug.escape import Stream, clean
from mmdebug.stacks import Frame, Stack, Stacks
from mmdebug.terminal import cells, plain, show
from mmdebug.terminal.history import KEPT, History, default_path
from mmdebug.terminal.screen import Screen, wants_colour
from mmdebug.terminal.session import Leave, Session

WELCOME = Welcome(
    pid=4711,
    uid=1000,
    service="web",
    uuid="0" * 32,
    host="box",
    python="3.12.1 (main)",
    kind="gevent",
    read_only=False,
    versions={"gevent": "26.9"},
    limits={"timeout": 30.0, "idle": 1800.0, "output": 1 << 20, "result": 1 << 16},
)


# What comes may be anything.


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2J\x1b[1;1H", "\\x1b[2J\\x1b[1;1H"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\r\nb", "a\nb"),
        ("safe\rEVIL", "safe\\rEVIL"),
        ("a\tb\n", "a\tb\n"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b31m", "\\x9b31m"),
        ("\ud800", "\\ud800"),
        ("é ▁ 漢", "é ▁ 漢"),
    ],
)
def test_text_of_the_process_can_not_drive_the_terminal(hostile: str, shown: str) -> None:
    assert clean(hostile) == shown


def test_trusted_colours_are_kept_and_end_with_the_text_and_nothing_else_is() -> None:
    assert clean("\x1b[31mred\x1b[2J", colours=True) == "\x1b[31mred\\x1b[2J\x1b[0m"


@given(st.lists(st.sampled_from(["a", "\x1b", "[", "3", "1", "m", ";", "\r", "\n", "\t", "J"]), max_size=30), st.data())
def test_text_that_comes_in_pieces_is_escaped_as_if_it_came_at_once(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    at = data.draw(st.integers(0, len(text)))
    stream = Stream()
    assert stream.feed(text[:at]) + stream.feed(text[at:]) + stream.end() == clean(text)


# What is typed.


@pytest.mark.parametrize(
    ("text", "ready"),
    [
        ("x", True),
        ("x = (1,", False),
        ("for i in x:", False),
        ("for i in x:\n    print(i)", False),
        ("for i in x:\n    print(i)\n", True),
        ("for i in x:\n    print(i)\n    ", True),
        ("if x: y", True),
        ("if x:\n    y\nz", True),
        ('"""a', False),
        ("await f()", True),
        ("async with f():\n    g()\n", True),
        ("@f", False),
        ("a b", True),  # wrong: the process says so
        ("x = '\\d'", True),
        ("\0", True),
        ("%events -f", True),
        ("name?", True),
        ("", True),
        ("(" * 5000, True),
    ],
)
def test_enter_sends_what_is_complete_and_goes_on_with_what_is_not(text: str, ready: bool) -> None:
    assert cells.is_ready(text) is ready


def test_what_the_process_will_warn_of_is_not_warned_of_here() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert cells.is_ready("1 is 1")
    assert not told


@pytest.mark.parametrize(
    ("text", "blanks"),
    [("x", 0), ("if x:", 4), ("if x:  # why", 4), ("if x:\n    y", 4), ("def f():\n    return 1", 0), ("  a:", 6)],
)
def test_the_next_line_is_indented(text: str, blanks: int) -> None:
    assert cells.indent_after(text) == " " * blanks


def test_a_text_from_a_pipe_is_cut_into_commands() -> None:
    text = """x = 1
for i in range(3):
    print(i)

    print(2)
else:
    pass
print('z')

def f():
    return '''
a
'''

# about g
@g
class A:
    pass
%stats
x?
open("""
    assert list(cells.commands(text.splitlines(keepends=True))) == [
        "x = 1",
        "for i in range(3):\n    print(i)\n\n    print(2)\nelse:\n    pass",
        "print('z')",
        "def f():\n    return '''\na\n'''\n\n# about g",
        "@g\nclass A:\n    pass",
        "%stats",
        "x?",
        "open(",
    ]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("x?", ("x", 0)), ("?x", ("x", 0)), ("x??", ("x", 1)), ("a.b['k']?", ("a.b['k']", 0)), ("?", None),
        ("?x?", None), ("'why?'", None), ("x = 1  # why?", None), ("%stats?", None),
    ],
)  # fmt: skip
def test_a_question_mark_asks_about_a_name(text: str, asked: tuple[str, int] | None) -> None:
    assert cells.asked_about(text) == asked


# History.


def test_history_is_kept_for_the_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "mmdebug" / "history"
    old = os.umask(0)
    try:
        history = History(str(path))
        history.add("first")
        history.add("for i in x:\n    print('é')")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert History(str(path)).earlier == ["first", "for i in x:\n    print('é')"]
    path.chmod(0o644)
    History(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "secret", ['login(password="hunter2")', "connect('postgres://u:pw@db/x')", "t = 'ghp_0123456789abcdefABCDEF'"]
)
def test_a_line_that_looks_like_a_secret_is_not_kept(tmp_path: Path, secret: str) -> None:
    history = History(str(tmp_path / "history"))
    history.add(secret)
    history.add("harmless")
    assert History(str(tmp_path / "history")).earlier == ["harmless"]


def test_an_old_history_is_shortened_and_a_damaged_one_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b'\xff\n{"a": 1}\n' + b"".join([b'"%d"\n' % number for number in range(2 * KEPT + 1)]) + b'"torn')
    assert History(str(path)).earlier[-1] == str(2 * KEPT)
    assert len(path.read_bytes().splitlines()) == KEPT


def test_an_odd_line_does_not_keep_the_others_from_being_found(tmp_path: Path) -> None:
    pytest.importorskip("readline")
    path = tmp_path / "history"
    path.write_bytes(b'"first"\n' + b"[" * 100_000 + b'\n"a\\u0000b"\n"\\ud800"\n"last"\n')
    history = History(str(path))
    assert history.earlier == ["first", "a\0b", "\ud800", "last"]
    plain._edit_lines(history)


def test_a_history_that_can_not_be_shortened_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history"
    path.write_bytes(b'"x"\n' * (2 * KEPT + 1))
    (tmp_path / f"history.{os.getpid()}").touch()  # left behind by another
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as context:
        context.setattr(os, "replace", full)
        history = History(str(path))
    assert (len(history.earlier), history.problem, path.read_bytes()) == (KEPT, "", before)
    assert sorted(tmp_path.glob("history*")) == [path, tmp_path / f"history.{os.getpid()}"]
    assert not History(str(path)).problem
    assert len(path.read_bytes().splitlines()) == KEPT


def test_without_a_home_no_history_is_kept_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it is if neither HOME nor the user is known
    history = History(default_path({}))
    history.add("x")
    assert "there is no home directory" in history.problem
    assert not os.path.exists("~") and not list(tmp_path.rglob("history"))


def test_a_history_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "history").symlink_to(victim)
    history = History(str(tmp_path / "history"))
    history.add("x")
    assert "no history is kept" in history.problem
    assert victim.read_text() == "precious"
    os.unlink(tmp_path / "history")
    os.mkfifo(tmp_path / "history")
    history = History(str(tmp_path / "history"))  # and does not wait for a writer
    history.add("x")
    assert "no history is kept" in history.problem


def test_without_a_directory_of_our_own_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    history = History(str(tmp_path / "file" / "history"))
    history.add("x")
    assert "no history is kept" in history.problem
    assert default_path({"XDG_STATE_HOME": "/s"}) == "/s/mmdebug/history"
    assert default_path({"XDG_STATE_HOME": "relative"}).endswith("/.local/state/mmdebug/history")


# A session with a process that answers what the test says.


class Answering:
    """A connection whose answers are given."""

    closed = False

    def __init__(self, welcome: Welcome = WELCOME) -> None:
        self.welcome = welcome
        self.asked: list[Any] = []
        self.result: Any = Result()
        self.printed: list[tuple[str, str]] = []
        self.start: Started | None = None
        self.found: Any = None

    def execute(self, code: str, *, on_stream: Any, on_started: Any, **options: Any) -> Result:
        self.asked.append((code, options))
        if self.start is not None:
            on_started(self.start)
        for name, text in self.printed:
            on_stream(name, text)
        if isinstance(self.result, BaseException):
            raise self.result
        result: Result = self.result
        return result

    def page(self, start: int) -> Result:
        self.asked.append(start)
        result: Result = self.result
        return result

    def inspect(self, name: str, cursor: int, detail: int) -> Inspection:
        self.asked.append((name, cursor, detail))
        found: Inspection = self.found
        return found

    def where(self) -> Where:
        found: Where = self.found
        return found

    def box(self) -> Any:
        return self.found

    def stacks(self, everything: bool) -> Any:
        self.asked.append(everything)
        return self.found

    def events(self, last: int, severity: str, follow: bool) -> Iterator[records.Event]:
        self.asked.append((last, severity, follow))
        yield from self.found
        if follow:
            raise KeyboardInterrupt


class Talk:
    """A session, and what it has written."""

    def __init__(self, welcome: Welcome = WELCOME, *, colour: bool = False, terminal: bool = True) -> None:
        self.connection: Any = Answering(welcome)
        self._out, self._err = io.StringIO(), io.StringIO()
        self.screen = Screen(self._out, self._err, colour=colour, terminal=terminal)
        self.session = Session(self.connection, self.screen)

    def __call__(self, text: str) -> tuple[str, str]:
        """What a command writes to stdout and stderr."""
        for stream in (self._out, self._err):
            stream.seek(0)
            stream.truncate()
        self.session.run(text)
        return self.output()

    def output(self) -> tuple[str, str]:
        return self._out.getvalue(), self._err.getvalue()


@pytest.fixture
def talk() -> Talk:
    return Talk()


def stacks(seconds: float = 0.1, function: str = "block") -> Stacks:
    frame = Frame("app.py", 3, function, "time.sleep(9)")
    return Stacks(4711, 1, seconds, (Stack("thread", 1, ("MainThread",), (1,), (frame,)),), {"thread": 1})


def test_a_value_goes_to_stdout_after_what_was_printed_and_nothing_else_does(talk: Talk) -> None:
    talk.connection.printed = [("stdout", "no line end"), ("stderr", "warned\n")]
    talk.connection.result = Result(data={"text/plain": "42"}, where="hub", seconds=0.1)
    assert talk("f()") == ("no line end\n42\n", "warned\n")
    assert talk.session.prompt() == ("web 4711", "", " [2]: ")
    assert not talk.session.failed
    talk.connection.printed, talk.connection.result = [], Result()
    assert talk("x = 1") == ("", "")


def test_what_is_printed_after_its_command_is_shown_but_not_into_what_is_typed(talk: Talk) -> None:
    talk.connection.on_late("stderr", "half \x1b[2J")
    talk.session.typing = True
    talk.connection.on_late("stdout", "held")
    assert talk.session.late
    talk.session.typing = False
    assert talk.output() == ("", "half \\x1b[2J")
    talk.session.show_late()
    assert talk.output() == ("held\n", "half \\x1b[2J\n")


def test_what_hides_in_values_names_and_errors_is_escaped(talk: Talk) -> None:
    evil = "\x1b]0;x\x07"
    talk.connection.result = Result(data={"text/plain": evil, f"image/{evil}": ""}, where=evil, seconds=2)
    assert "\x1b" not in "".join(talk("x"))
    talk.connection.result = RemoteError(evil, evil, evil, [evil], advice=evil)
    assert "\x1b" not in "".join(talk("x"))
    talk.connection.found = Inspection(True, evil, evil, evil, evil, evil, 1, evil, evil)
    assert "\x1b" not in "".join(talk("x??"))
    welcome = Welcome(1, 0, evil, evil, evil, evil, evil, False, versions={evil: evil})
    assert "\x1b" not in clean(show.banner(welcome, 1.0, "auto", 30.0))
    assert "\x1b" not in "".join(Talk(welcome).session.prompt())


def test_a_cut_result_says_how_much_there_is_and_more_shows_the_next_part(talk: Talk) -> None:
    talk.connection.result = Result(data={"text/plain": "[0, 1, ...]"}, cut=True, shown=2, total=5)
    out, err = talk("x")
    assert (out, err) == ("[0, 1, ...]\n", "(items 1 to 2 of 5: %more shows the next)\n")
    assert "items 3 to 4 of 5" in talk("%more")[1]
    talk.connection.result = Result(data={"text/plain": "[4]"}, cut=False, shown=1, total=5)
    assert talk("%more") == ("[4]\n", "")
    assert talk.connection.asked[1:] == [2, 4]
    assert "no more" in talk("%more")[1]
    assert talk.session.failed


def test_lost_output_is_counted(talk: Talk) -> None:
    talk.connection.result = Result(dropped=2 << 30)
    assert "2 GiB of output were left out" in talk("x")[1]
    talk.connection.result = RemoteError("after 30 s", "timeout", dropped=2 << 30)
    err = talk("x")[1]
    assert "Stopped at the time limit: after 30 s" in err
    assert "2 GiB of output" in err


def test_a_long_command_says_how_long_it_took_to_a_person_only() -> None:
    for person in (True, False):
        talk = Talk(terminal=person)
        talk.connection.result = Result(where="native", seconds=3.2)
        assert talk("x")[1] == ("(3.2 s, in a native thread)\n" if person else "")


def test_a_fallback_shows_the_stacks_first_then_why_and_what_does_not_work_there(talk: Talk) -> None:
    talk.connection.start = Started("native", "The hub has not answered for 0.5 s.", stacks())
    talk.connection.printed = [("stderr", "printed\n")]
    err = talk("x")[1]
    assert err.index("block") < err.index("not answered for 0.5 s") < err.index("subprocess does not")
    assert err.endswith("printed\n")


def test_a_second_fallback_shows_only_stacks_that_have_changed(talk: Talk) -> None:
    talk.connection.start = Started("native", "The hub has not answered for 0.5 s.", stacks())
    talk("x")
    talk.connection.start = Started("native", "The hub has not answered for 0.5 s.", stacks(0.2))
    assert "the same as before" in talk("x")[1]
    talk.connection.start = Started("native", "The hub has not answered for 0.5 s.", stacks(0.2, "elsewhere"))
    assert "elsewhere" in talk("x")[1]


def test_an_error_shows_its_traceback_and_is_a_failure(talk: Talk) -> None:
    lines = ["Traceback (most recent call last):", '  File "<1>", line 1, in <module>', "ZeroDivisionError: no"]
    talk.connection.result = RemoteError("no", "exception", "ZeroDivisionError", lines)
    assert talk("1/0") == ("", "\n".join(lines) + "\n")
    assert talk.session.failed
    talk.connection.result = RemoteError("no", "exception", "ZeroDivisionError")
    assert talk("1/0") == ("", "ZeroDivisionError: no\n")
    talk.connection.result = Result()
    talk("x")
    assert not talk.session.failed


def test_what_can_not_be_stopped_is_told_with_its_stacks(talk: Talk) -> None:
    talk.connection.result = RemoteError("by Ctrl-C", "interrupted", stuck=True, stacks=stacks())
    err = talk("x")[1]
    assert err.index("block") < err.index("Not stopped: by Ctrl-C") < err.index("still runs there")
    talk.connection.result = RemoteError("interrupted", "interrupted", stuck=True, advice="interrupt once more")
    assert talk("x")[1].endswith("Not stopped.\nInterrupt once more.\n")
    assert talk.session.interrupted


def test_a_second_ctrl_c_stops_waiting_and_the_session_goes_on(talk: Talk) -> None:
    talk.connection.result = KeyboardInterrupt()
    assert "Not waited for any longer" in talk("x")[1]
    assert talk.session.failed


def test_what_ends_a_connection_ends_the_session(talk: Talk) -> None:
    talk.connection.printed = [("stdout", "half")]
    talk.connection.result = ConnectionLost("web 4711 has died")
    with pytest.raises(ConnectionLost):
        talk("x")
    talk.connection.result = ProtocolError("too long")
    assert "too long" in talk("x")[1]
    talk.connection.closed = True
    with pytest.raises(ProtocolError):
        talk("x")


@pytest.mark.parametrize("word", ["exit", "quit", "exit()", " quit() ", "%exit"])
def test_exit_leaves_and_asks_the_process_nothing(talk: Talk, word: str) -> None:
    with pytest.raises(Leave):
        talk(word)
    assert talk.connection.asked == []


def test_a_read_only_process_is_asked_no_code_and_says_why() -> None:
    talk = Talk(Welcome(1, 0, "web", "", "", "3.12.1", "gevent", True))
    for text in ("x", "x?", "%native x", "%native", "%where main", "%run f", "%timeout 5", "%more"):
        assert "read-only" in talk(text)[1], text
        assert talk.session.failed
    assert talk.connection.asked == []
    assert talk.session.prompt()[1] == " (read-only)"
    assert "%native" not in talk("%help")[0]
    assert "runs no code" in show.banner(talk.connection.welcome, None, "auto", None)
    talk.connection.found = stacks()
    assert "block" in talk("%stacks")[0]


def test_where_commands_run_is_said_and_chosen(talk: Talk) -> None:
    talk.connection.found = Where("the hub of the main thread", "gevent", True, 0.0004, ("auto", "app", "native"))
    out = talk("%where")[0]
    assert "Commands run on the hub" in out
    assert "it answered after 400 us" in out
    talk.connection.found = Where("the hub of the main thread", "gevent", False, 0.5, ())
    assert "it has not answered for 500 ms" in talk("%where")[0]
    assert "in a native thread" in talk("%native")[0]
    assert talk.session.prompt()[1] == " (native)"
    talk("x")
    talk("%hub y")
    talk("%where auto")
    talk("z")
    assert [options["where"] for code, options in talk.connection.asked] == ["native", "app", "auto"]
    assert "it is one of" in talk("%where nowhere")[1]


def test_the_time_limit_is_the_process_own_until_another_is_chosen(talk: Talk) -> None:
    talk("x")
    assert "5 s at most" in talk("%timeout 5")[0]
    talk("x")
    assert "no time limit" in talk("%timeout none")[0]
    talk("x")
    assert [options["timeout"] for code, options in talk.connection.asked] == [30.0, 5.0, None]
    for wrong in ("soon", "-1", "nan", "inf"):
        assert "a number of seconds" in talk(f"%timeout {wrong}")[1]


def test_run_sends_a_file_of_the_client(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "a b.py").write_text("print('é')\n", encoding="utf-8")
    talk(f"%run {tmp_path}/a b.py")
    assert talk.connection.asked[0][0] == "print('é')\n"
    assert "can't be read" in talk("%run /nowhere")[1]
    (tmp_path / "binary").write_bytes(b"\xff")
    assert "can't be read" in talk(f"%run {tmp_path}/binary")[1]


def test_events_are_shown_and_followed_until_ctrl_c(talk: Talk) -> None:
    talk.connection.found = [records.Event(10**18, "error", "log", "it \x1b broke", logger="app")]
    assert "it \\x1b broke" in talk("%events error 5")[0]
    assert "it \\x1b broke" in talk("%events -f")[0]
    assert not talk.session.failed
    assert talk.connection.asked == [(5, "error", False), (20, "debug", True)]
    for wrong in ("soon", "9" * 5000):
        assert "it is -f, a number" in talk(f"%events {wrong}")[1]


def test_a_pager_that_can_not_be_understood_is_said(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "less 'x")
    talk("%help")
    assert "PAGER is no command" in talk("%less")[1]


def test_activities_and_exceptions_come_from_what_is_recorded(talk: Talk) -> None:
    assert "Nothing is recorded there" in talk("%activities")[1]
    error = records.CapturedError(
        "KeyError", "a\nb", (records.Frame("app.py", "get", 7, ((7, "return x[k]"),), {"k": "'a'"}),)
    )
    talk.connection.found = records.Box(
        "",
        activities=(records.Activity("request", 1, {"path": "/"}, thread=5),),
        exceptions=(records.ExceptionRecord("KeyError", "app.py:7 get", "logged", 3, 1, 10**18, error=error),),
        threads={5: "MainThread"},
    )
    assert "MainThread  request path=/" in talk("%activities")[0]
    out = talk("%exceptions")[0]
    assert "1. KeyError: a\\nb" in out
    assert "3x" in out
    out = talk("%exceptions 1")[0]
    assert "return x[k]" in out
    assert "k = 'a'" in out
    for wrong in ("2", "9" * 5000):
        assert "from 1 to 1" in talk(f"%exceptions {wrong}")[1]


def test_a_name_is_explained_and_its_source_shown(talk: Talk) -> None:
    talk.connection.found = Inspection(True, "f", "function", "f(x)", "Does it.", "app.py", 3, "def f(x): ...", "<f>")
    assert "Signature: f(x)" in talk("f?")[0]
    assert "def f(x): ..." in talk("f??")[0]
    assert talk.connection.asked == [("f", 1, 0), ("f", 1, 1)]
    talk.connection.found = Inspection(False, "g")
    assert "g is not known" in talk("g?")[0]
    assert talk.session.failed


def test_an_unknown_special_is_a_failure_that_names_help(talk: Talk) -> None:
    assert "%help" in talk("%nothing")[1]
    assert talk.session.failed


def test_without_a_wish_colours_are_for_terminals_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal: Any = SimpleNamespace(isatty=lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(None, terminal)
    assert not wants_colour(None, io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(None, terminal)
    assert wants_colour(True, terminal)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(None, terminal)


def test_colours_are_ours_alone() -> None:
    talk = Talk(colour=True)
    talk.connection.result = RemoteError("x", "exception", "E", ["Traceback (most recent call last):", "E: \x1b[7mx"])
    err = talk("x")[1]
    assert "\x1b[" in err
    assert "\x1b[7m" not in err
    assert Talk(colour=False)("%help")[0].count("\x1b") == 0


def test_without_prompt_toolkit_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    err = io.StringIO()
    assert not terminal._has_toolkit(Screen(err, err))
    assert err.getvalue() == "Completion, history and colours need prompt_toolkit: pip install 'mmstats[attach]'\n"
