"""Texts of values: they run nothing of the program, show no secret, and stay within their budget."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import pathlib
import threading
import types
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdebug.capture import safetext
from mmdebug.capture.saferepr import Budget, Texts, named, saferepr
from mmdebug.capture.safetypes import type_name
from mmstats import redact

calls: list[str] = []


def trap(name: str) -> Any:
    def called(*_args: Any, **_kwargs: Any) -> Any:
        calls.append(name)
        raise SystemExit(f"{name} was called")

    return called


HOOKS = [
    "__repr__", "__str__", "__len__", "__iter__", "__next__", "__getitem__", "__getattribute__", "__getattr__",
    "__format__", "__bytes__", "__eq__", "__bool__", "__contains__", "__reversed__", "__index__", "__int__",
    "__float__", "__dir__", "__call__", "__missing__", "__sizeof__", "__length_hint__", "__reduce_ex__", "keys",
    "items", "values", "isoformat", "tzinfo",
]  # fmt: skip


class Meta(type):
    def __repr__(cls) -> str:
        return trap("Meta.__repr__")()

    def __hash__(cls) -> int:
        return trap("Meta.__hash__")()

    def __eq__(cls, other: object) -> bool:
        return trap("Meta.__eq__")()

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__class__", "__new__", "__init__"):  # how instances are made
            return super().__getattribute__(name)
        return trap(f"Meta.{name}")()

    def __instancecheck__(cls, instance: object) -> bool:
        return trap("Meta.__instancecheck__")()

    def __subclasscheck__(cls, subclass: type) -> bool:
        return trap("Meta.__subclasscheck__")()


class Raisable(Meta):
    """The interpreter itself asks this of a class whose instance is raised."""

    __subclasscheck__ = type.__subclasscheck__


def hostile(*bases: type, meta: type = Meta) -> Any:
    """A class whose every hook raises and is counted; also ``__class__`` and ``__dict__`` are properties."""
    namespace: dict[str, Any] = {name: trap(name) for name in HOOKS}
    namespace["__class__"] = property(trap("__class__"))
    namespace["__dict__"] = property(trap("__dict__"))
    namespace["trapped"] = property(trap("property"))
    namespace["__module__"] = "shop"
    return meta("Hostile", bases, namespace)


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    calls.clear()


BASES: list[tuple[type, tuple[Any, ...], str]] = [
    (int, (7,), "shop.Hostile(7)"),
    (float, (1.5,), "shop.Hostile(1.5)"),
    (complex, (1j,), "shop.Hostile(1j)"),
    (str, ("abc",), "shop.Hostile('abc')"),
    (bytes, (b"abc",), "shop.Hostile(b'abc')"),
    (bytearray, (b"abc",), "shop.Hostile(b'abc')"),
    (list, ([1, 2],), "shop.Hostile([1, 2])"),
    (tuple, ([1, 2],), "shop.Hostile((1, 2))"),
    (dict, ({1: 2},), "shop.Hostile({1: 2})"),
    (set, ([1],), "shop.Hostile({1})"),
    (frozenset, ([1],), "shop.Hostile({1})"),
    (collections.deque, ([1, 2],), "shop.Hostile([1, 2])"),
    (collections.OrderedDict, ({1: 2},), "shop.Hostile({1: 2})"),
    (collections.defaultdict, (None, {1: 2}), "shop.Hostile({1: 2})"),
    (datetime.datetime, (2020, 1, 2, 3, 4, 5), "shop.Hostile(2020-01-02 03:04:05)"),
    (datetime.date, (2020, 1, 2), "shop.Hostile(2020-01-02)"),
    (datetime.timedelta, (1,), "shop.Hostile(+24:00:00)"),
    (decimal.Decimal, ("1.5",), "shop.Hostile('1.5')"),
    (ValueError, ("x",), "shop.Hostile('x')"),
    (types.ModuleType, ("m",), "<module 'm'>"),
]


@pytest.mark.parametrize(("base", "arguments", "text"), BASES, ids=[b.__name__ for b, _, _ in BASES])
def test_subclasses_are_read_by_their_base_without_a_call(base: type, arguments: tuple[Any, ...], text: str) -> None:
    kind = hostile(base)
    value = base.__new__(kind, *arguments)
    base.__init__(value, *arguments) if base.__init__ is not object.__init__ else None
    calls.clear()
    found = saferepr(value)
    assert calls == []
    assert found == text
    assert saferepr([value, {"k": value}]) == f"[{text}, {{'k': {text}}}]"
    assert calls == []


def test_an_object_that_lies_in_every_way_is_only_named() -> None:
    kind = hostile()
    value = object.__new__(kind)
    calls.clear()
    assert saferepr(value).startswith("<shop.Hostile object at 0x")
    assert saferepr(kind) == "<class 'shop.Hostile'>"
    assert type_name(kind) == "shop.Hostile"
    assert saferepr({"x": value, "y": (kind,)}).startswith("{'x': <shop.Hostile object at 0x")
    assert calls == []


def test_a_time_zone_of_the_program_is_not_asked() -> None:
    class Zone(datetime.tzinfo):
        utcoffset = tzname = dst = __repr__ = __str__ = trap("zone")

    when = datetime.datetime(2020, 1, 2, tzinfo=Zone())
    assert saferepr(when).startswith("datetime.datetime(2020-01-02 00:00:00 ")
    assert saferepr(datetime.time(1, tzinfo=Zone())).startswith("time(01:00:00 ")
    assert calls == []


def test_names_of_another_type_are_not_asked() -> None:
    class Name(str):
        __str__ = __repr__ = __format__ = __hash__ = trap("name")

    def function() -> None: ...

    function.__qualname__ = Name("f")
    function.__module__ = Name("m")
    assert saferepr(function) == "<function f>"

    class Thing:
        pass

    Thing.__qualname__ = Name("T")
    Thing.__module__ = 5  # type: ignore[assignment]
    assert saferepr(Thing) == "<class 'T'>"
    assert calls == []


class Color(enum.Enum):
    RED = 1
    PASSWORD = "hunter2"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


class Login(NamedTuple):
    user: str
    password: str


@dataclasses.dataclass
class Account:
    name: str
    api_key: str = "hunter2"
    seen: str = dataclasses.field(default="hunter2", repr=False)


@dataclasses.dataclass(slots=True)
class Point:
    x: int
    y: int


class Slotted(Point):
    __slots__ = ("never_set", "z")

    def __init__(self) -> None:
        super().__init__(1, 2)
        self.z = 3


class Plain:
    def __init__(self) -> None:
        self.x = 1
        self.me = self
        self.token = "hunter2"

    def method(self) -> None: ...


async def coroutine() -> None: ...


HERE = __name__

TEXTS: list[tuple[Any, str]] = [
    (None, "None"), (True, "True"), (1.5, "1.5"), (-3, "-3"), (2j, "2j"), ("a'b", '"a\'b"'),
    (b"\xff", r"b'\xff'"), (bytearray(b"x"), "bytearray(b'x')"),
    ([], "[]"), ((), "()"), ((1,), "(1,)"), ({}, "{}"), (set(), "set()"), (frozenset(), "frozenset()"),
    (frozenset([1]), "frozenset({1})"), ({"a": [1]}, "{'a': [1]}"),
    (collections.deque([1]), "collections.deque([1])"), (collections.Counter("a"), "collections.Counter({'a': 1})"),
    (range(3), "range(0, 3, 1)"), (slice(1, None), "slice(1, None, None)"),
    (datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.UTC),
     "datetime.datetime(2020-01-02 03:04:05.000006 +0:00:00)"),
    (datetime.date(2020, 1, 2), "date(2020-01-02)"), (datetime.timedelta(days=-1), "timedelta(-24:00:00)"),
    (decimal.Decimal("1.50"), "Decimal('1.50')"), (fractions.Fraction(1, 3), "Fraction(1, 3)"),
    (uuid.UUID(int=5), "UUID('00000000-0000-0000-0000-000000000005')"),
    (pathlib.PurePosixPath("/a/b"), "PurePosixPath('/a/b')"),
    (pathlib.PurePosixPath("a") / "b", "PurePosixPath('a/b')"),
    (Color.RED, f"<{HERE}.Color.RED: 1>"), (Access.READ | Access.WRITE, f"<{HERE}.Access.READ|WRITE: 3>"),
    (len, "<built-in function len>"), (Plain, f"<class '{HERE}.Plain'>"), (int, "<class 'int'>"),
    (coroutine, f"<function {HERE}.coroutine>"), (Plain().method, f"<bound method Plain.method of {HERE}.Plain>"),
    (json, "<module 'json'>"), (ValueError("x", 1), "ValueError('x', 1)"), (KeyError(), "KeyError()"),
    (Point(1, 2), f"<{HERE}.Point x=1, y=2>"), (Slotted(), f"<{HERE}.Slotted z=3, x=1, y=2>"),
    (Plain(), f"<{HERE}.Plain x=1, me=<cycle>, token=[redacted]>"),
    (Account("ann"), f"<{HERE}.Account name='ann', api_key=[redacted], seen=[redacted]>"),
    (Login("ann", "hunter2"), f"{HERE}.Login(user='ann', password=[redacted])"),
    (Color.PASSWORD, f"<{HERE}.Color.PASSWORD: [redacted]>"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=[text[:30] for _, text in TEXTS])
def test_values_read_as_their_type_says(value: object, text: str) -> None:
    assert saferepr(value) == text


@pytest.mark.parametrize(
    "value",
    [
        {"password": "hunter2"},
        {b"authorization": b"hunter2"},
        {"nested": {"api_key": ["hunter2"]}},
        {("db", "password"): "hunter2"},
        {Color.PASSWORD: "hunter2"},
        ("password", "hunter2"),
        [("x-api-key", "hunter2")],
        [[b"cookie", b"hunter2"]],
        ["run", "--password", "hunter2"],
        "postgres://ann:hunter2@db/x",
        b"password=hunter2",
        "x" * 250 + " password=hunter2" + "y" * 1000,
        ValueError("password=hunter2"),
        Plain(),
        types.SimpleNamespace(secret="hunter2"),
        {"hunter2hunter2Ab1hunter2hunter2Ab1": 1},
        pathlib.PurePosixPath("/x/password=hunter2"),
    ],
)
def test_secrets_are_not_shown(value: object) -> None:
    assert "hunter2" not in saferepr(value)
    assert redact.REDACTED in saferepr(value, Budget(string=300))


def test_a_name_that_is_secret_hides_any_value_but_none() -> None:
    assert named("password", ["hunter2"]) == redact.REDACTED
    assert named("password", None) == "None"
    assert named("user", "ann") == "'ann'"


def test_a_secret_across_a_cut_is_seen_as_one() -> None:
    token = "ghp_" + "a1B2c3D4e5" * 4
    for before in range(60):
        text = saferepr("-" * before + " " + token + "z" * 5000, Budget(string=60))
        assert "a1B2" not in text


HARMLESS = st.text(alphabet=st.sampled_from("abAB01_-./+= :'\"@>é\n"), max_size=60) | st.text(max_size=60)


@settings(deadline=None, database=None, max_examples=500)
@given(HARMLESS)
def test_the_quick_way_past_redaction_changes_nothing(text: str) -> None:
    assert safetext.without_secrets(text) == redact.text(text)


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE", "xoxb-12345678", "xapp-12345678", "Bearer abcdef", "basic abcdeF==", "sk_live_12345678",
        "eyJabcdefgh.a", "hvs.1234567890123456", "SG.1234567890123456.1234567890123456", "hooks.slack.com/services/T0",
        "discord.com/api/webhooks/1", "12345678:" + "a" * 35, "password 'x'", "--password x", "//a:b@c", "a:b@tcp(",
        "pwd=x", "ya29.1234567890123456", "-----BEGIN PRIVATE KEY-----", "npm_" + "=" * 16,
    ],
)  # fmt: skip
def test_the_quick_way_lets_no_kind_of_secret_past(secret: str) -> None:
    for text in (secret, f"a {secret} b"):
        assert redact.text(text) != text
        assert safetext.without_secrets(text) == redact.text(text)


def test_what_was_cut_is_counted() -> None:
    budget = Budget(items=3, string=10)
    assert saferepr(list(range(10)), budget) == "[0, 1, 2, ... [7 more]]"
    assert saferepr({i: i for i in range(5)}, budget) == "{0: 0, 1: 1, 2: 2, ... [2 more]}"
    assert saferepr("x" * 1_000_000, budget) == f"'{'x' * 10}'... [999990 more]"
    assert saferepr(b"x" * 1_000_000, budget) == f"b'{'x' * 10}'... [999990 more]"
    assert saferepr("é" * 20, budget) == f"'{'é' * 5}'... [15 more]"
    assert saferepr([[[[1]]]], Budget(depth=2)) == "[[[... [1 more]]]]"
    assert saferepr({"a": {"b": 1}}, Budget(depth=1)) == "{'a': {... [1 more]}}"
    assert saferepr(Plain(), Budget(depth=0)).startswith(f"<{HERE}.Plain object at 0x")
    long = saferepr(["y" * 50] * 10, Budget(bytes=120))
    assert long.endswith("more]") and len(long) <= 120


def test_a_container_of_a_million_is_only_looked_at_at_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = Texts(nodes=100_000)
    million = range(1_000_000)
    before = texts.nodes
    for value in (dict.fromkeys(million), set(million), list(million), tuple(million), collections.deque(million)):
        assert "[999984 more]" in texts.of(value)
    assert before - texts.nodes < 5 * 40


def test_many_nested_values_take_no_more_nodes_than_were_given() -> None:
    texts = Texts(nodes=1000)
    value: Any = 0
    for _ in range(12):
        value = [value] * 10
    for _ in range(50):
        texts.of(value, Budget(depth=20, nodes=100, bytes=1 << 20))
    assert texts.nodes > -50
    assert texts.spent


def test_huge_ints_are_not_written_out() -> None:
    assert saferepr(1 << 100_000) == "<int of 100001 bits>"
    assert saferepr(-(10**5000)) == "<int of 16610 bits>"
    assert saferepr(range(10**5000)).startswith("range(0, <int of")
    assert saferepr(decimal.Decimal(10**5000)).startswith("Decimal(<")
    assert saferepr(fractions.Fraction(10**5000)).startswith("<fractions.Fraction")


def test_cycles_end() -> None:
    a: list[Any] = [1]
    a.append(a)
    d: dict[str, Any] = {}
    d["d"] = (d,)
    assert saferepr(a) == "[1, <cycle>]"
    assert saferepr(d) == "{'d': (<cycle>,)}"
    assert saferepr([a[0], a[0]]) == "[1, 1]"


def test_texts_can_be_encoded_and_hold_no_controls() -> None:
    nasty = "a\ud800\x1b[31m\x00\u202e\x9b\r\n"
    thing = type(nasty.replace("\x00", "").replace("\ud800", ""), (), {"__module__": nasty})
    for value in (
        nasty,
        {nasty: nasty},
        thing,
        thing(),
        [nasty],
        ValueError(nasty),
        types.SimpleNamespace(**{nasty: 1}),
    ):
        text = saferepr(value)
        text.encode()
        assert text.isprintable()


def test_a_container_that_others_change_meanwhile_is_survived() -> None:
    shared: dict[int, int] = {}
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number += 1
            shared[number] = number
            if number % 50 == 0:
                shared.clear()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(2000):
            assert saferepr(shared).startswith("{")
    finally:
        done.set()
        thread.join()


def test_no_stack_and_no_memory_are_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    value: Any = 0
    for _ in range(3000):
        value = [value]
    assert saferepr(value, Budget(depth=10_000, nodes=10_000, bytes=100_000)) == "<no room to read it>"

    def no_memory(_text: str) -> str:
        raise MemoryError

    monkeypatch.setattr(safetext, "without_secrets", no_memory)
    assert saferepr("x") == "<no room to read it>"


def test_a_type_that_cannot_be_read_is_a_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_text: str) -> str:
        raise ValueError

    monkeypatch.setattr(safetext, "without_secrets", broken)
    assert saferepr(["x"]) == "<unreadable>"


def test_a_module_that_answers_for_itself_is_not_asked() -> None:
    module = types.ModuleType("m")
    module.__getattr__ = trap("__getattr__")  # type: ignore[method-assign]
    del module.__dict__["__name__"]
    assert saferepr(module) == "<module '?'>"
    assert calls == []


def test_keys_of_an_instance_that_are_no_strings_are_not_asked() -> None:
    class Key:
        armed = False

        def __hash__(self) -> int:
            return trap("hash")() if Key.armed else 1

        def __eq__(self, other: object) -> bool:
            return trap("eq")()

    class Odd(enum.Enum):
        A = 1

    thing = types.SimpleNamespace(a=1)
    thing.__dict__[Key()] = 2  # type: ignore[index]
    Odd.A.__dict__[Key()] = 2  # type: ignore[index]
    Key.armed = True
    assert saferepr(thing) == "<types.SimpleNamespace a=1, ?=2>"
    assert saferepr(Odd.A).endswith("Odd.A: 1>")
    assert calls == []


def test_a_value_that_many_share_is_written_once() -> None:
    shared = Plain()
    texts = Texts(nodes=1000)
    budget = Budget()
    first = texts.of(shared, budget)
    nodes = texts.nodes
    assert texts.of(shared, budget) == first
    assert texts.nodes == nodes


KEYS = st.text(max_size=8) | st.integers() | st.binary(max_size=4) | st.none() | st.booleans()
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
    | st.decimals() | st.fractions() | st.datetimes() | st.timedeltas() | st.uuids() | st.characters()
)  # fmt: skip


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner)
        | st.dictionaries(KEYS, inner)
        | st.tuples(inner, inner)
        | st.lists(inner).map(collections.deque)
        | st.frozensets(KEYS)
        | st.builds(ValueError, inner)
        | st.builds(lambda v: types.SimpleNamespace(v=v), inner)
    )


VALUES = st.recursive(SCALARS, nested, max_leaves=40)
BUDGETS = st.builds(
    Budget,
    depth=st.integers(0, 6),
    items=st.integers(0, 8),
    string=st.integers(0, 50),
    nodes=st.integers(0, 60),
    bytes=st.integers(0, 300),
)


@settings(deadline=None, database=None, max_examples=300)
@given(VALUES, BUDGETS)
def test_any_value_gives_a_text_within_the_budget(value: object, budget: Budget) -> None:
    text = saferepr(value, budget)
    assert len(text.encode()) <= budget.bytes
    assert text.isprintable()
    assert "<unreadable>" not in text


@settings(deadline=None, database=None, max_examples=200)
@given(VALUES, st.integers(0, 5))
def test_a_planted_secret_is_in_no_text(value: object, depth: int) -> None:
    for _ in range(depth):
        value = {"password": "hunter2", "x": [value, ("token", "hunter2")], "url": "http://a:hunter2@b/"}
    assert "hunter2" not in saferepr(value, Budget(depth=30, items=30, nodes=10_000, bytes=1 << 20))
