"""A client of a hostile server: whatever comes, nothing of it runs, nothing moves the cursor, memory is bounded."""

from __future__ import annotations

import base64
import json
import os
import pickle
import random
import struct
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from played import WELCOME, Played, Reply, polite, result
from support import wait_for

import mmdebug
import mmstats
from mmdebug import protocol
from mmdebug.client import connection as connections
from mmdebug.client import frames
from mmdebug.client.connection import Connection
from mmdebug.client.data import Completion, Result, all_stacks_of, completions_of, welcome_of
from mmdebug.client.frames import frame_of
from mmdebug.commands import main
from mmdebug.errors import AttachError, ProtocolError, RemoteError
from mmdebug.notebook.remote import Attached, about
from mmdebug.protocol import Decoder, Message
from mmdebug.terminal import show
from mmdebug.terminal.completing import _fits
from mmstats.errors import MmStatsError

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e<script>alert(1)</script>"

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and more").decode()


class Trap:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


@pytest.fixture
def play(home: Path) -> Iterator[Callable[..., Played]]:
    played: list[Played] = []

    def start(script: Callable[[Message], Any], **options: Any) -> Played:
        played.append(Played(home, script, **options))
        return played[-1]

    yield start
    for one in played:
        one.close()


def _frame(header: Any, body: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("!II", len(data), len(body)) + data + body


def _stacks(**other: Any) -> bytes:
    found = {
        "schema": 1, "pid": 1, "taken": 0, "seconds": 0.1, "source": "manhole", "total": {}, "problems": [],
        "stacks": [],
    }  # fmt: skip
    return json.dumps({**found, **other}).encode()


# One exchange, with each kind of nonsense in the place of the answer.

NONSENSE: dict[str, Callable[[int], bytes]] = {
    "a pickle": lambda n: pickle.dumps({"type": "result", "id": n}),
    "html": lambda n: b"<html><script>alert(1)</script></html>" * 10,
    "a huge header": lambda n: struct.pack("!II", 0xFFFFFFFF, 0) + b"x" * 1000,
    "a huge body": lambda n: struct.pack("!II", 10, 0xFFFFFFFF) + b"x" * 1000,
    "no json": lambda n: _frame(b"\xff\xfe{"),
    "a list": lambda n: _frame([1, 2]),
    "no type": lambda n: _frame({"id": n}),
    "deep": lambda n: _frame(b'{"type":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "infinite": lambda n: _frame(b'{"type":"result","id":%d,"seconds":Infinity}' % n),
    "more than a number holds": lambda n: _frame(b'{"type":"result","id":%d,"value":[1e999]}' % n),
    "an unknown type": lambda n: _frame({"type": EVIL, "id": n}),
    "another's type": lambda n: _frame({"type": "completions", "id": n}),
    "an id of nobody": lambda n: _frame({"type": "result", "id": n + 1000}),
    "an id that is none": lambda n: _frame({"type": "result", "id": "1"}),
    "a true id": lambda n: _frame({"type": "result", "id": True}),
    "no id": lambda n: _frame({"type": "result"}),
    "data of lists": lambda n: _frame({"type": "result", "id": n, "data": {"text/plain": ["x"]}}),
    "data that is text": lambda n: _frame({"type": "result", "id": n, "data": "x"}),
    "a bad image": lambda n: _frame({"type": "result", "id": n, "data": {"image/png": "é!"}}),
    "negative seconds": lambda n: _frame({"type": "result", "id": n, "seconds": -1}),
    "a stream without text": lambda n: _frame({"type": "stream", "id": n, "name": "stdout"}),
    "a stream of no name": lambda n: _frame({"type": "stream", "id": n, "name": "stdlog", "text": ""}),
    "stacks that are a pickle": lambda n: _frame({"type": "started", "id": n}, pickle.dumps(1)),
    "stacks of another shape": lambda n: _frame({"type": "started", "id": n}, b'{"schema": 1, "stacks": {}}'),
    "stacks of no number": lambda n: _frame({"type": "started", "id": n}, _stacks(seconds=float("nan"))),
    "stacks of endless seconds": lambda n: _frame({"type": "started", "id": n}, _stacks(seconds=10**400)),
    "stacks of too many": lambda n: _frame({"type": "started", "id": n}, _stacks(total={"thread": 10**30})),
    "an error of lists": lambda n: _frame({"type": "error", "id": n, "message": [], "kind": 3}),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_in_the_place_of_an_answer_ends_the_connection(play: Callable[..., Played], what: str) -> None:
    played = play(polite(lambda message: [NONSENSE[what](message["id"])]))
    with mmdebug.connect(played.target) as found:
        before = found.connection
        with pytest.raises(ProtocolError) as caught:
            found.exec("code")
        assert len(str(caught.value)) < 500
        assert before.closed


class Bytes:
    """A transport that gives what it was given, in pieces, and then ends."""

    def __init__(self, content: bytes, piece: int = 1 << 16) -> None:
        self._pieces = [content[at : at + piece] for at in range(0, len(content), piece)]
        self.closed = False

    def send(self, data: bytes) -> None:
        pass

    def receive(self, timeout: float | None, wake: int | None) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def ended(self) -> str:
        return "it ended"

    def close(self) -> None:
        self.closed = True


def _ask_everything(content: bytes, piece: int) -> None:
    """Each question to a server that says `content`: an answer or an error of ours, and nothing else."""
    questions: list[Callable[[Connection], Any]] = [
        lambda c: c.execute("x", value=True).frame,
        lambda c: c.complete("x", 1),
        lambda c: c.inspect("x", 1),
        lambda c: str(c.stacks().to_dict()),
        lambda c: dict(c.stats()),
        lambda c: list(c.events(follow=True)),
        lambda c: c.where(),
        lambda c: c.page(0),
    ]
    for question in questions:
        transport = Bytes(content, piece)
        connection = Connection(transport, welcome_of(WELCOME), Decoder())
        try:
            question(connection)
        except MmStatsError:
            pass
        finally:
            connection.close()
        assert transport.closed


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20) | st.just(EVIL),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
_KINDS = st.sampled_from(
    ["result", "error", "started", "stream", "completions", "inspection", "stacks", "stats", "box", "events", "where"]
)
_FIELDS = st.sampled_from(
    [
        "id", "type", "data", "metadata", "value", "arrow", "cut", "shown", "seconds", "output", "matches", "text",
        "name", "found", "line", "events", "more", "message", "traceback", "kind", "places", "answers", "where",
    ]
)  # fmt: skip
_BODIES = st.binary(max_size=40) | st.builds(lambda value: json.dumps(value).encode(), _JSON)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(_KINDS, st.dictionaries(_FIELDS, _JSON, max_size=6), _BODIES), min_size=1, max_size=4),
    st.sampled_from([1, 7, 1 << 16]),
)
def test_messages_of_all_shapes_give_an_answer_or_an_error_of_ours(
    messages: list[tuple[str, dict[str, Any], bytes]], piece: int
) -> None:
    _ask_everything(b"".join([_frame({"id": 1, "type": kind, **rest}, body) for kind, rest, body in messages]), piece)


def test_good_answers_with_bits_turned_give_an_answer_or_an_error_of_ours() -> None:
    good = _frame({"type": "stream", "id": 1, "name": "stdout", "text": "x"}) + _frame(
        {**result({"id": 1}, "text"), "value": [1]}, b"body"
    )
    chance = random.Random(7)
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        _ask_everything(bytes(damaged[: chance.randint(1, len(damaged))]), 1 << 16)


def test_a_greeting_of_all_shapes_is_refused(play: Callable[..., Played]) -> None:
    greetings: list[Reply] = [
        {**WELCOME, "pid": "1"},
        {**WELCOME, "pid": 1},
        {**WELCOME, "protocol": 2},
        {**WELCOME, "limits": [1]},
        {**WELCOME, "limits": {"timeout": -1}},
        {**WELCOME, "names": [1]},
        {**WELCOME, "versions": {"python": 3}},
        {"type": "result", "id": 1},
        {"type": "error", "id": None},
        pickle.dumps(WELCOME),
    ]
    greeting = iter(greetings)
    played = play(lambda message: [next(greeting)] if message["type"] == "hello" else [])
    for _ in greetings:
        with pytest.raises((AttachError, ProtocolError)):
            mmdebug.connect(played.target)


def test_half_a_frame_and_no_more_is_not_waited_for_longer_than_anything_else(
    play: Callable[..., Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER", 0.1)
    half = _frame({"type": "pong", "id": 1})[:-3]
    played = play(polite(lambda message: [half]))
    with mmdebug.connect(played.target) as found, pytest.raises(AttachError, match="no answer came in time"):
        found.connection.ping()


def test_a_flood_for_those_who_do_not_ask_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_LATE", 100)
    monkeypatch.setattr(connections, "MAX_QUEUED", 100_000)
    event = _frame({"type": "events", "id": 1, "events": [], "more": True})
    connection = Connection(Bytes(event * 1000), welcome_of(WELCOME), Decoder())
    events = connection.events(follow=True)
    with pytest.raises(ProtocolError, match="more has come than is kept"):
        next(events)
    # Three bytes of the wire are a dict here.
    nested = _frame(b'{"type":"events","id":1,"events":[' + b"{}," * 2000 + b'{}],"more":true}')
    connection = Connection(Bytes(nested * 8), welcome_of(WELCOME), Decoder())
    with pytest.raises(ProtocolError, match="more has come than is kept"):
        next(connection.events(follow=True))
    late = _frame({"type": "pong", "id": 1})
    connection = Connection(Bytes(late * 1000, len(late)), welcome_of(WELCOME), Decoder())
    connection.ping()
    with pytest.raises(ProtocolError, match="flood"):
        connection.ping()


def test_pickles_html_and_controls_are_text_and_nothing_more(
    play: Callable[..., Played], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap = tmp_path / "unpickled"
    body = pickle.dumps(Trap(trap))

    def answer(message: Message) -> list[Reply]:
        if message.get("code") == "fail":
            failed = {"type": "error", "id": message["id"], "message": EVIL, "traceback": [EVIL], "advice": EVIL}
            return [failed]
        return [
            ({"type": "started", "id": message["id"], "where": EVIL[:30], "reason": EVIL}, b""),
            {"type": "stream", "id": message["id"], "name": "stdout", "text": EVIL},
            {"type": "stream", "id": message["id"], "name": "stderr", "text": EVIL},
            (result(message, EVIL, value_type=EVIL, value_problem=EVIL, value_pickle=body.hex()), body),
        ]

    played = play(polite(answer))
    assert main(["eval", played.target, "x"]) == 0
    assert main(["eval", played.target, "fail"]) == 1
    shown = "".join(capsys.readouterr())
    assert "alert(1)" in shown, "as text"
    assert main(["eval", "--json", played.target, "x"]) == 0
    shown += "".join(capsys.readouterr())
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)
    with mmdebug.connect(played.target) as found:
        done = found.exec("x")
        assert done.arrow == b"" and done.frame is None
        assert "<script>" not in str(done._repr_mimebundle_()[0].get("text/html", ""))
        with pytest.raises(RemoteError):
            found.exec("fail")
    assert not trap.exists()


def test_a_pickle_that_claims_to_be_a_table_is_an_error(play: Callable[..., Played], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    trap = tmp_path / "unpickled"
    body = pickle.dumps(Trap(trap))
    played = play(polite(lambda message: [(result(message, "x", arrow=True), body)]))
    with mmdebug.connect(played.target) as found, pytest.raises(ProtocolError, match="a table that can't be read"):
        found.eval("frame")
    assert not trap.exists()


def test_a_server_is_told_no_secret_of_the_command_line(
    play: Callable[..., Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["mmdebug", "attach", "--token", "hunter2secret"])
    played = play(polite(lambda message: []))
    mmdebug.connect(played.target).close()
    wait_for(lambda: played.heard, "the hello")
    assert "hunter2secret" not in json.dumps(played.heard)
    assert protocol.encode(played.heard[0])


# Tables: what is small on the wire must be small here, too.


def _stream(table: Any, **options: Any) -> bytes:
    from pyarrow import BufferOutputStream, ipc

    sink = BufferOutputStream()
    with ipc.new_stream(sink, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def test_a_table_that_would_grow_here_is_refused_before_it_is_unpacked() -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    zeros = pyarrow.table({"x": pyarrow.array([0.0]).take(pyarrow.array([0] * 1_000_000))})
    words = pyarrow.table({"x": pyarrow.array(["a" * 1000] * 5).dictionary_encode()})
    for codec in ("zstd", "lz4"):
        if pyarrow.Codec.is_available(codec):
            for table in (zeros, words):
                before = pyarrow.total_allocated_bytes()
                with pytest.raises(ProtocolError, match="compressed"):
                    frame_of(_stream(table, compression=codec))
                assert pyarrow.total_allocated_bytes() - before < 1 << 20
    long = pyarrow.array(["x" * 1_000_000])
    for table in (
        pyarrow.table({str(number): long for number in range(70)}),
        pyarrow.table({"x": pyarrow.array([[None] * 3], pyarrow.list_(pyarrow.null()))}),
        pyarrow.table({"x": pyarrow.array([[1, 2]], pyarrow.list_(pyarrow.int8(), 2))}),
        pyarrow.table({"x": pyarrow.array(["x"], pyarrow.string_view())}),
        pyarrow.table({"x": pyarrow.RunEndEncodedArray.from_arrays([5], [1])}),
    ):
        with pytest.raises(ProtocolError, match="a table"):
            frame_of(_stream(table))
    frame = pandas.DataFrame(
        {
            "a": [1, None], "b": ["x", None], "c": pandas.Categorical(["u", "v"]), "d": [[1], [2, 3]],
            "e": pandas.to_datetime(["2024-01-01"] * 2, utc=True), "f": [{"k": 1}, {"k": 2}], "g": [None, None],
        }
    )  # fmt: skip
    assert frame_of(_stream(pyarrow.Table.from_pandas(frame))).shape == frame.shape
    assert frame_of(_stream(words)).shape == (5, 1)


def _of_nothing(pyarrow: Any, kind: Any, buffers: list[Any], many: int) -> Any:
    """A table of one list of so many values."""
    values = pyarrow.Array.from_buffers(kind, many, buffers)
    offsets = pyarrow.py_buffer(struct.pack("<ii", 0, many))
    return pyarrow.table({"x": pyarrow.ListArray.from_buffers(pyarrow.list_(kind), 1, [None, offsets], 0, 0, [values])})


def test_lists_of_what_has_no_bytes_are_refused_and_long_ones_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    empty = pyarrow.py_buffer(b"")
    for table in (
        _of_nothing(pyarrow, pyarrow.struct([]), [None], 8_000_000),
        _of_nothing(pyarrow, pyarrow.binary(0), [None, empty], 8_000_000),
        pyarrow.table({"x": pyarrow.array([{}], pyarrow.struct([]))}),
        pyarrow.table({"x": pyarrow.array([b""], pyarrow.binary(0))}),
    ):
        with pytest.raises(ProtocolError, match="a table with a column of"):
            frame_of(_stream(table))
    monkeypatch.setattr(frames, "MAX_CELLS", 1000)
    long = [pyarrow.array([[1] * 1000]), pyarrow.array([[{"k": 1}] * 50]), pyarrow.array([{"k": [1] * 1000}])]
    for column in long:
        with pytest.raises(ProtocolError, match="more in them than is allowed"):
            frame_of(_stream(pyarrow.table({"x": column})))
    assert frame_of(_stream(pyarrow.table({"x": [[1] * 900, None]}))).shape == (2, 1)


@pytest.mark.parametrize("name", ["((", "-" * 9000 + "1"])
def test_what_pandas_stumbles_over_is_an_error_of_ours(name: str) -> None:
    pyarrow, _ = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    index = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    column = {"name": name, "field_name": name, "pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    said = {"index_columns": [], "column_indexes": [index] * 2, "columns": [column], "creator": {}}
    table = pyarrow.table({name: pyarrow.array([1])}).replace_schema_metadata({"pandas": json.dumps(said)})
    with pytest.raises(ProtocolError, match="a table that can't be read"):
        frame_of(_stream(table))


def test_json_of_numbers_that_are_none_is_not_shown() -> None:
    for content in ("[NaN]", "-Infinity", "1e999"):
        assert Result({"text/plain": "x", "application/json": content})._repr_mimebundle_()[0] == {"text/plain": "x"}


def test_damaged_tables_are_errors_of_ours() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    good = _stream(pyarrow.table({"a": [1, 2], "b": pyarrow.array(["x", "y"]).dictionary_encode()}))
    rng = random.Random(4)
    for _ in range(300):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            frame_of(bytes(bad[: rng.randint(0, len(bad))] if rng.random() < 0.2 else bad))
        except ProtocolError:
            pass


# What people look at.


def test_a_welcome_can_neither_drive_nor_flood_the_terminal() -> None:
    flood = {f"package{number}{EVIL}": EVIL * 100 for number in range(10_000)}
    greeting = {
        **WELCOME, "service": EVIL * 20, "host": EVIL * 20, "python": EVIL * 4, "kind": EVIL[:40], "versions": flood,
        "names": [EVIL] * 1000, "stats_file": "/etc/passwd",
    }  # fmt: skip
    welcome = welcome_of(greeting)
    for shown in (show.banner(welcome, 1.0, "auto", 30.0), show.name(welcome), show.place(welcome, "auto")):
        assert not set(shown) & set("\x1b\x07\x9b\u202e") and len(shown) < 4000 and shown.count("\n") <= 3


def test_stacks_can_not_drive_the_terminal_of_who_prints_them() -> None:
    frame = {"file": EVIL, "line": 1, "function": EVIL, "source": EVIL}
    stack = {
        "kind": "greenlet", "count": 2, "names": [EVIL], "idents": [1], "frames": [frame], "spawned": [frame], "cut": 3,
        "wait": {"what": EVIL, "detail": EVIL, "holder": EVIL}, "running": False,
    }  # fmt: skip
    sent = {
        "schema": 1, "pid": 1, "taken": 0, "seconds": 0.1, "source": EVIL, "total": {EVIL: 2}, "problems": [EVIL],
        "stacks": [stack],
    }  # fmt: skip
    shown = str(all_stacks_of(json.dumps(sent).encode()))
    assert "alert(1)" in shown and not set(shown) & set("\x1b\x07\x9b\u202e")
    stack["kind"] = EVIL
    with pytest.raises(ProtocolError, match="no kind"):
        all_stacks_of(json.dumps(sent).encode())


def test_completions_are_few_readable_and_stay_code() -> None:
    from prompt_toolkit.document import Document

    def match(text: str, start: int = 4, end: int = 6) -> Any:
        return Completion(text, start, end)

    document = Document("app.jo")
    assert _fits(match("jobs"), document)
    for wrong in (
        match("jobs\n%run ~/.ssh/id_rsa"), match("jo\x1b[2J"), match("jo\u202ebs"), match("jobs", end=7),
        match("%run ~/.ssh/id_rsa", start=0), match("  %less", start=0), match("jobs", start=9, end=6),
    ):  # fmt: skip
        assert not _fits(wrong, document)
    many = {"type": "completions", "matches": [{"text": f"a{n}", "start": 0, "end": 0} for n in range(20_000)]}
    assert len(completions_of(many)) == 1000


def test_html_of_a_table_s_own_names_and_of_a_welcome_is_text_in_a_notebook() -> None:
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    evil = "<img src=x onerror=alert(1)>"
    frame = pandas.DataFrame({evil: [evil]}, index=pandas.Index([evil], name=evil))
    data, metadata = Result({"text/plain": "x"}, arrow=_stream(pyarrow.Table.from_pandas(frame)))._repr_mimebundle_()
    assert evil not in data["text/html"] and "&lt;img" in data["text/html"] and not metadata
    welcome = welcome_of({**WELCOME, "service": evil, "host": evil, "names": [evil], "versions": {evil: evil}})
    attached: Any = Attached(None, SimpleNamespace(welcome=welcome), evil, "auto", None, False, deque())  # type: ignore[arg-type]
    table = about(attached)
    assert evil not in table._repr_html_()
    sized = Result({"image/png": PNG}, {"image/png": {"width": float("inf"), "height": 5, "style": evil}})
    assert sized._repr_mimebundle_()[1] == {"image/png": {"height": 5}}


def test_ps_shows_a_spoofed_service_on_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Web(mmstats.MmStats):
        hits = mmstats.CounterField()

    web = Web(path=str(home), service=f"web\n4711  root{EVIL}")
    try:
        assert main(["ps", "--path", str(home)]) == 0
    finally:
        web.remove()
    out = capsys.readouterr().out
    assert str(os.getpid()) in out and len(out.splitlines()) == 2, out
    assert not set(out) & set("\x1b\x07\x9b\u202e")
