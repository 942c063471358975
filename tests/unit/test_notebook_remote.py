"""The magics for live processes, on a process that is none: what they ask for, show, and leave out."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from mmdebug.client import bundles
from mmdebug.client.data import Completion, RemoteValue, Result, Started, Welcome, trusted
from mmdebug.errors import ConnectionLost, ProtocolError, RemoteError
from mmdebug.notebook import Table, completer, failures, remote
from mmdebug.stacks import Stacks

pytest.importorskip("IPython")

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and more").decode()
WELCOME = Welcome(
    pid=4242, uid=0, service="web<b>", uuid="u", host="here", python="3.12.1", kind="gevent", read_only=False,
    versions={"gevent": "26.9"}, limits={"timeout": 30.0}, names=("app",),
)  # fmt: skip


class Connection:
    """Notes what it is asked, and answers with what `answers` holds for a code: a result or an error."""

    welcome = WELCOME

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def execute(self, code: str, *, on_stream: Any = None, on_started: Any = None, **how: Any) -> Result:
        self.asked.append((code, how))
        answer = self.answers.get(code, Result())
        if on_started is not None and "reason" in code:
            on_started(Started("native", "the hub\x1b[2J did not answer", Stacks(4242, 0, 0.0, ())))
        if on_stream is not None and code.startswith("print"):
            on_stream("stdout", "one\x1b[2J\ntwo\r\n")
            on_stream("stderr", "wrong\n")
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]

    def stacks(self, everything: bool = False) -> Stacks:
        self.asked.append(("stacks", {"everything": everything}))
        return Stacks(4242, 0, 0.0, ())

    def complete(self, code: str, cursor: int) -> list[Completion]:
        if "broken" in code:
            raise ProtocolError("nonsense")
        return [
            Completion("app.queue", 4, cursor, "instance"),
            Completion("app.quit\x1b[2J", 4, cursor),
            Completion("elsewhere", 0, 2),
        ]


class Process:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Shell:
    """What of IPython's shell the magics use."""

    colors = "nocolor"

    def __init__(self) -> None:
        self.magics_manager = SimpleNamespace(magics={"line": {}, "cell": {}})
        self.Completer = SimpleNamespace(custom_matchers=[])
        self.names: dict[str, Any] = {}

    def register_magic_function(self, magic: Any, kind: str, name: str) -> None:
        self.magics_manager.magics[kind][name] = magic

    def push(self, names: dict[str, Any]) -> None:
        self.names.update(names)


class Attached:
    """A shell that was attached to a process which gives `answers`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any] | None = None, line: str = "") -> None:
        self.connected: list[tuple[Any, dict[str, Any]]] = []
        self.process = Process(Connection(answers or {}))
        self.shell = Shell()
        self.remote = remote.Remote(self.shell)
        self.displayed: list[Any] = []
        monkeypatch.setattr(remote, "connect", self._connect)
        monkeypatch.setattr(remote, "_display", self.displayed.append)
        self.table = self.remote.attach(f"web {line}")

    @property
    def asked(self) -> list[tuple[str, dict[str, Any]]]:
        return self.process.connection.asked

    def _connect(self, target: str, **how: Any) -> Process:
        self.connected.append((target, how))
        return self.process


def usage_error(what: str) -> contextlib.AbstractContextManager[Any]:
    from IPython.core.error import UsageError

    return pytest.raises(UsageError, match=what)


# Attaching.


def test_attach_shows_who_it_is_with_nothing_that_could_run(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = Attached(monkeypatch)
    assert attached.connected == [("web", {"path": None, "via": None, "remote": None})]
    facts = dict(attached.table)
    assert (facts["pid"], facts["host"], facts["versions"]) == ("4242", "here", "gevent 26.9")
    assert facts["cells run"].startswith("in greenlets on its hub") and facts["time limit"] == "30 s"
    assert "web&lt;b&gt; 4242" in attached.table._repr_html_()
    assert attached.remote.attach("") is not attached.table, "without a target it tells again"
    assert len(attached.connected) == 1


def test_attach_reaches_elsewhere_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = Attached(monkeypatch, line="--via 'kubectl exec -i web-0 --' --remote /srv/bin/mmdebug --path /tmp")
    via = "kubectl exec -i web-0 --"
    assert attached.connected == [("web", {"path": "/tmp", "via": via, "remote": "/srv/bin/mmdebug"})]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("web --where there", "invalid choice"),
        ("web --timeout soon", "invalid number of seconds"),
        ("web --timeout -1", "."),
        ("web other", "unrecognized arguments: other"),
        ("'web", "No closing quotation"),
        ("", "no process is attached to: %attach TARGET"),
    ],
)
def test_attach_says_in_a_line_what_is_wrong(line: str, what: str) -> None:
    with usage_error(what):
        remote.Remote(Shell()).attach(line)


def test_before_attaching_every_magic_says_how_to() -> None:
    magics = remote.Remote(Shell())
    for ask in (magics.detach, magics.stacks, lambda line: magics.pull("x"), lambda line: magics.remote(line, "1")):
        with usage_error("%attach TARGET"):
            ask("")


def test_attaching_again_leaves_the_first_and_a_failure_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = Attached(monkeypatch)
    first, attached.process = attached.process, Process(Connection({}))
    with usage_error("unrecognized"):
        attached.remote.attach("web --wrong")
    assert not first.closed
    attached.remote.attach("web")
    assert first.closed and not attached.process.closed


def test_detach_and_unload_leave_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attached = Attached(monkeypatch)
    attached.remote.detach("")
    assert attached.process.closed and capsys.readouterr().out == "detached from web<b> 4242\n"
    attached = Attached(monkeypatch)
    attached.remote.remove()
    assert attached.process.closed
    assert attached.shell.magics_manager.magics == {"line": {}, "cell": {}}
    assert attached.shell.Completer.custom_matchers == []


def test_who_is_attached_to_can_not_move_the_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Connection, "welcome", replace(WELCOME, service="web\x1b[2J"))
    attached = Attached(monkeypatch)
    attached.remote.detach("")
    assert capsys.readouterr().out == "detached from web\\x1b[2J 4242\n"
    table = Table((1,), ("\x1b[2J",), (("x",),))
    assert not [shown for shown in (repr(attached.table), repr(table), table._repr_html_()) if "\x1b" in shown]


# Cells.


def test_a_cell_runs_as_attach_was_told_unless_it_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = Attached(monkeypatch, line="--where native --timeout 5")
    attached.remote.remote("", "first")
    attached.remote.remote("--where main --timeout 0", "second")
    assert attached.asked == [
        ("first", {"mode": "cell", "where": "native", "value": False, "timeout": 5.0}),
        ("second", {"mode": "cell", "where": "main", "value": False, "timeout": None}),
    ]
    attached = Attached(monkeypatch)
    attached.remote.remote("", "third")
    assert attached.asked == [("third", {"mode": "cell", "where": "auto", "value": False})], (
        "the process' own time limit holds"
    )


def test_what_a_cell_prints_can_not_move_the_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Attached(monkeypatch).remote.remote("", "print") is None
    assert capsys.readouterr() == ("one\\x1b[2J\ntwo\n", "wrong\n")


def test_what_is_printed_after_its_cell_comes_with_the_next_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attached = Attached(monkeypatch)
    late: Any = attached.process.connection
    late.on_late("stdout", "late\x1b[2J\n")
    assert capsys.readouterr().out == ""
    attached.remote.remote("", "print")
    assert capsys.readouterr().out == "late\\x1b[2J\none\\x1b[2J\ntwo\n"


def test_why_a_cell_runs_elsewhere_comes_first_and_the_stacks_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attached = Attached(monkeypatch)
    attached.remote.remote("", "print('reason')")
    assert capsys.readouterr().out.startswith("the hub\\x1b[2J did not answer\none")
    assert [type(value) for value in attached.displayed] == [Stacks]


def test_html_is_shown_of_a_process_that_is_trusted_or_for_a_cell_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    result = Result({"text/plain": "x", "text/html": "<script>"})
    attached = Attached(monkeypatch, {"x": result})
    assert bundles.of_result(attached.remote.remote("", "x"))[0] == {"text/plain": "x"}
    assert "text/html" in bundles.of_result(attached.remote.remote("--trust", "x"))[0]
    attached = Attached(monkeypatch, {"x": result}, "--trust")
    assert "text/html" in bundles.of_result(attached.remote.remote("", "x"))[0]


def test_an_error_there_fails_the_cell_with_its_traceback_and_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["Traceback (most recent call last):", '  File "<cell 1>", line 1, in <module>', "ValueError: \x1b[2J<b>"]
    attached = Attached(monkeypatch, {"x": RemoteError("\x1b[2J<b>", "exception", "ValueError", lines)})
    with pytest.raises(failures.RemoteFailure) as caught:
        attached.remote.remote("", "x")
    assert str(caught.value) == "ValueError: \\x1b[2J<b>"
    shown = "\n".join(caught.value._render_traceback_())
    assert shown.startswith("In web<b> 4242:\nTraceback") and shown.endswith("ValueError: \\x1b[2J<b>")
    assert "\x1b" not in shown and "remote.py" not in shown


def test_a_time_limit_or_an_interruption_is_told_with_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RemoteError("stopped after 2 s", "timeout", "", ["Traceback (most recent call last):", "  somewhere"])
    with pytest.raises(failures.RemoteFailure) as caught:
        Attached(monkeypatch, {"x": error}).remote.remote("", "x")
    assert caught.value._render_traceback_()[-1] == "stopped after 2 s"
    assert caught.value.kind == "timeout"


def test_what_can_not_be_stopped_is_shown_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = Stacks(4242, 0, 0.0, ())
    error = RemoteError("it still runs", "timeout", stuck=True, stacks=stacks, advice="wait for\x1b[2J it")
    attached = Attached(monkeypatch, {"x": error})
    with pytest.raises(failures.RemoteFailure) as caught:
        attached.remote.remote("", "x")
    assert attached.displayed == [stacks]
    assert caught.value._render_traceback_()[1:] == ["it still runs", "wait for\\x1b[2J it"]


def test_colours_are_ours_alone() -> None:
    pytest.importorskip("pygments")
    lines = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "ValueError: \x1b[45mred\x1b[2J"]
    shown = "\n".join(failures.failure_of(RemoteError("red", "exception", "ValueError", lines), "w", True)._lines)
    assert "red\\x1b[2J" in shown and "\x1b[" in shown and "\x1b[45m" not in shown
    assert not failures.wants_colours(Shell()) and failures.wants_colours(SimpleNamespace(colors="linux"))


def test_the_death_of_the_process_is_told_with_its_post_mortem(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ConnectionLost("web 4242 died: SIGKILL", "the post-mortem")
    attached = Attached(monkeypatch, {"x": error})
    with pytest.raises(failures.RemoteFailure, match="SIGKILL"):
        attached.remote.remote("", "x")
    assert attached.displayed == ["the post-mortem"] and attached.process.closed
    with usage_error("%attach TARGET"):
        attached.remote.remote("", "x")


def test_nonsense_from_there_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(failures.RemoteFailure, match="no protocol") as caught:
        Attached(monkeypatch, {"x": ProtocolError("no protocol")}).remote.remote("", "x")
    assert caught.value._render_traceback_() == ["no protocol"]


def test_stacks_are_those_of_the_attached_process(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = Attached(monkeypatch)
    assert isinstance(attached.remote.stacks("--all"), Stacks)
    assert attached.asked == [("stacks", {"everything": True})]


# Values.


def test_pull_brings_values_under_their_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {
        "x": Result(value=[1, 2], has_value=True),
        "y": Result(value=None, has_value=True),
        "len(x)": Result(value=2, has_value=True),
    }
    attached = Attached(monkeypatch, answers)
    attached.remote.pull("x y")
    attached.remote.pull("'len(x)' --as count")
    assert attached.shell.names == {"x": [1, 2], "y": None, "count": 2}
    assert capsys.readouterr().out == "x: list of 2\ny: NoneType\ncount: int\n"
    assert {how["value"] for _, how in attached.asked} == {True}
    assert {how["mode"] for _, how in attached.asked} == {"eval"}


def test_pull_brings_all_or_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "x": Result(value=1, has_value=True),
        "lock": Result({"text/plain": "<lock>"}, type="_thread.lock", value_problem="JSON has no such thing"),
        "none": RemoteError("name 'none' is not defined", name="NameError"),
    }
    attached = Attached(monkeypatch, answers)
    with usage_error("lock is a _thread.lock there, and can't be brought here: JSON has no such thing"):
        attached.remote.pull("x lock")
    with usage_error("name 'none' is not defined"):
        attached.remote.pull("none")
    for line in ("a.b", "class", "x y --as z", "x --as 1z", "x --as for", ""):
        with usage_error("."):
            attached.remote.pull(line)
    assert attached.shell.names == {}


def test_a_table_is_fetched_where_it_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    text = {"text/plain": "a b"}
    answers = {
        "df": Result(text, type="pandas.DataFrame"),
        "mine": Result(text, type="app.DataFrame"),
        "_": Result(text, type="pandas.DataFrame", arrow=b"the table"),
    }
    attached = Attached(monkeypatch, answers)
    assert attached.remote.remote("", "df").arrow == b"the table"
    assert attached.asked[1:] == [("_", {"mode": "eval", "where": "native", "value": True})]
    assert attached.remote.remote("", "mine").arrow == b"" and len(attached.asked) == 3
    answers["_"] = RemoteError("it took too long", "timeout")
    assert bundles.of_result(attached.remote.remote("", "df"))[0] == text


# What is shown of a result.


def test_images_are_shown_that_are_images() -> None:
    fake = base64.b64encode(b"<svg onload=...>").decode()
    sizes = {"image/png": {"width": 10, "isolated": True}}
    assert bundles.of_result(Result({"image/png": PNG}, sizes)) == ({"image/png": PNG}, {"image/png": {"width": 10}})
    for content in (fake, "not base64", "\xff"):
        assert bundles.of_result(Result({"text/plain": "x", "image/png": content}))[0] == {"text/plain": "x"}


def test_json_is_shown_as_json_and_what_could_run_is_not_shown() -> None:
    data = {
        "text/plain": "a\x1b[2J",
        "application/json": '{"a": [1]}',
        "text/html": "<b>",
        "image/svg+xml": "<svg>",
        "application/javascript": "alert(1)",
        "text/latex": "$x$",
        "text/markdown": "<b>",
        "application/vnd.vega+json": "{}",
    }
    assert bundles.of_result(Result(data))[0] == {"text/plain": "a\\x1b[2J", "application/json": {"a": [1]}}
    assert bundles.of_result(Result({"application/json": "{", "text/plain": "x"}))[0] == {"text/plain": "x"}
    shown = bundles.of_result(trusted(Result(data, {"text/html": {"isolated": True}})))
    assert set(shown[0]) == set(data) and shown[0]["application/vnd.vega+json"] == {}
    assert shown[1] == {"text/html": {"isolated": True}}
    assert bundles.of_value(RemoteValue("app.X", "x\x07", data))[0]["text/plain"] == "a\\x1b[2J"
    assert bundles.of_value(RemoteValue("app.X", "x\x07")) == ({"text/plain": "x\\x07"}, {})


def test_a_table_is_drawn_by_the_pandas_here() -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_pandas(pandas.DataFrame({"<b>name": ["<script>", "\x1b[2J"], "n": [1, 2]}))
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream = sink.getvalue().to_pybytes()
    data, _ = bundles.of_result(Result({"text/plain": "theirs", "text/html": "<script>theirs"}, arrow=stream, cut=True))
    assert "&lt;script&gt;" in data["text/html"] and "&lt;b&gt;name" in data["text/html"]
    assert "theirs" not in data["text/html"] and "<script>" not in data["text/html"]
    assert "tex2jax_ignore" in data["text/html"], "formulas can hold links that run something"
    assert "\x1b" not in data["text/plain"] and "not all" not in data["text/plain"], "all of it came"
    broken = Result({"text/plain": "theirs"}, arrow=b"no table", cut=True)
    assert bundles.of_result(broken)[0] == {"text/plain": "theirs\n(not all of it is shown)"}


def test_what_is_left_out_of_a_result_is_counted() -> None:
    cut = Result({"text/plain": "[1, 2, ...]"}, cut=True, shown=2, total=1000)
    assert bundles.of_result(cut)[0] == {"text/plain": "[1, 2, ...]\n(2 of 1,000 are shown)"}


# Completion.


def test_the_place_in_a_remote_cell() -> None:
    assert completer.inside("%%remote\nimport os\nos.p", 2, 4) == ("import os\nos.p", 14)
    assert completer.inside("%%remote --trust\nx", 1, 1) == ("x", 1)
    for cell, line in (("%%remote", 0), ("%%remotely\nx", 1), ("x\ny", 1), ("", 0), ("\n%%remote\nx", 2)):
        assert completer.inside(cell, line, 1)[1] == -1


def test_remote_cells_are_completed_there_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = Attached(monkeypatch)
    (match,) = attached.shell.Completer.custom_matchers

    def asked(text: str) -> Any:
        lines = text.split("\n")
        return match(SimpleNamespace(full_text=text, cursor_line=len(lines) - 1, cursor_position=len(lines[-1])))

    found = asked("%%remote\nlen(app.qu")
    assert [one.text for one in found["completions"]] == ["app.queue"]
    assert (found["matched_fragment"], found["suppress"]) == ("app.qu", True)
    assert asked("len(app.qu") == asked("%%remote\nbroken") == {"completions": [], "suppress": False}
    attached.remote.detach("")
    assert asked("%%remote\nlen(app.qu")["completions"] == []
