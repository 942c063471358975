"""Values as bounded texts, in pages, in the forms of notebooks, and as themselves."""

from __future__ import annotations

import collections
import json
import math
import sys
import types
from typing import Any

import pytest

from mmdebug.manhole import results, texts
from mmdebug.manhole.results import describe, exact, page
from mmdebug.manhole.tables import Inexact
from mmdebug.manhole.texts import show

LIMIT = 1 << 16


def text(value: Any, limit: int = LIMIT) -> str:
    return show(value, limit).text


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


class Words(list[Any]):
    pass


class Own(dict[Any, Any]):
    def __repr__(self) -> str:
        return "<my own>"


@pytest.mark.parametrize(
    "value",
    [
        None, True, 5, -1.5, "text", b"bytes", [], [1], (), (1,), (1, 2), {}, {1: 2}, set(), {1}, frozenset(),
        frozenset({1}), collections.deque([1, 2]), collections.OrderedDict(a=1), collections.defaultdict(int, a=1),
        Point(1, 2), Words([1]), Own(), range(3), {"a": 1}.keys(), {"a": 1}.values(), {"a": 1}.items(), len, int, ...,
        [[1, [2]], {"k": (3, {4})}], collections.Counter("aab"), types.SimpleNamespace(a=1), [float("nan")],
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_small_is_its_own_repr(value: Any) -> None:
    # Of an OrderedDict that is the one of Python 3.12.
    expected = "OrderedDict({'a': 1})" if isinstance(value, collections.OrderedDict) else repr(value)
    found = show(value, LIMIT)
    assert found.text == expected and not found.cut


def test_what_is_wide_has_a_line_for_each_pair_and_as_many_items_in_one_as_it_holds() -> None:
    value = {"numbers": list(range(60)), "rows": [(i, "x" * 50) for i in range(3)], "b": 1}
    found = text(value)
    assert found.startswith("{'numbers': [0, 1, 2, 3,") and "\n             19, 20," in found
    assert found.endswith("\n 'b': 1}") and found.count("\n          (") == 2 and eval(found) == value
    for wide in (list(range(100)), tuple(range(100)), set(range(90)), collections.deque(range(70))):
        found = text(wide)
        assert found.count("\n") < 10 and max(map(len, found.splitlines())) <= texts.WIDTH
        assert eval(found, {"deque": collections.deque}) == wide


def test_a_text_is_bounded_by_items_levels_and_bytes() -> None:
    found = show(list(range(1000)), LIMIT)
    assert (found.cut, found.count, found.total) == (True, 100, 1000) and found.text.endswith("... [900 more]]")
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert show(deep, LIMIT).text == "[[[[[[[... [1 more]]]]]]]]"
    for huge in (
        "x" * 10_000_000,
        b"\0" * 10_000_000,
        ["y" * 50_000] * 50,
        {"z" * 100_000: dict.fromkeys(range(999), "ü" * 99)},
    ):
        found = show(huge, 4096)
        assert found.cut and len(found.text.encode()) <= 4096
    assert len(text([[["w" * 500] * 100] * 100] * 100).encode()) <= LIMIT


def test_a_value_that_holds_itself_comes_to_an_end() -> None:
    value: Any = [1]
    value.append(value)
    mapping: dict[str, Any] = {"k": value}
    mapping["self"] = mapping
    assert text(value) == "[1, [1, [...]]]" or text(value) == "[1, [...]]"
    assert "{...}" in text(mapping)


class Raising:
    def __repr__(self) -> str:
        raise ValueError("no")


class Wrong:
    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]


class Huge:
    def __repr__(self) -> str:
        return "h" * 5_000_000


def test_a_repr_of_the_programs_may_fail_or_be_huge() -> None:
    assert "Raising" in text(Raising()) and "whose repr raised ValueError" in text([Raising()])
    assert "whose repr raised TypeError" in text(Wrong())
    found = show(Huge(), 1000)
    assert found.cut and len(found.text) <= 1000 and found.total == 5_000_000
    assert text(1 << 1_000_000) == "<int of 1000001 bits>"
    assert text("\ud800") == repr("\ud800")


def test_pages_follow_one_another_without_a_gap() -> None:
    for value in (list(range(1234)), {str(i): i for i in range(777)}, ["x" * 3000] * 50, set(range(500))):
        seen = show(value, LIMIT).count or 0
        while True:
            found = page(value, seen, LIMIT)
            assert len(found["data"]["text/plain"].encode()) <= LIMIT
            if not found["shown"]:
                break
            seen += found["shown"]
            assert found["cut"] == (seen < len(value)) or "more]" in found["data"]["text/plain"]
        assert seen == len(value)
    assert page(list(range(150)), 100, LIMIT)["data"]["text/plain"].startswith("100, 101, ")


def test_a_long_text_is_paged_by_characters() -> None:
    value = "".join(map(str, range(50_000)))
    got, at = "", 0
    while at < len(value):
        found = page(value, at, 4096)
        got += eval(found["data"]["text/plain"])
        at += found["shown"]
    assert got == value and not page(value, at, 4096)["cut"]


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(10**500), 1.5, -0.0, "ü\ud800", [], [1, "a", None], {"a": {"b": [1.25]}}, {}],
)
def test_a_value_that_json_holds_exactly_crosses(value: Any) -> None:
    message, body = describe(value, LIMIT, True, True)
    back = json.loads(json.dumps(message["value"]))
    assert back == value and type(back) is type(value) and repr(back) == repr(value)
    assert message["value_problem"] == "" and body == b"" and message["arrow"] is False


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ((1, 2), "JSON has no tuple"),
        ({1}, "JSON has no set"),
        (b"x", "JSON has no bytes"),
        ([math.nan], "JSON has no nan"),
        (math.inf, "JSON has no inf"),
        ({1: 2}, "keys of a JSON object are str, not int"),
        (Own(), "JSON has no test_manhole_results.Own"),
        (1 << 9000, "more digits"),
        (nested(30), "deeper than"),
        ([0] * 2_000_000, "more than 8 MiB"),
        ("x" * (9 << 20), "more than 8 MiB"),
        (object(), "JSON has no object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_out_as_something_else_does_not_cross_and_that_is_said(value: Any, why: str) -> None:
    message, _ = describe(value, LIMIT, True, True)
    assert "value" not in message and why in message["value_problem"]


def test_a_value_is_only_sent_when_it_was_asked_for() -> None:
    assert "value" not in describe([1], LIMIT, False, True)[0]


def test_what_crosses_is_a_copy() -> None:
    value = [[1]]
    copy = exact(value)
    value[0].append(2)
    assert copy == [[1]]
    with pytest.raises(Inexact):
        exact(object())


def test_tables_cross_as_arrow() -> None:
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]}, index=["i", "j", "k"])
    for value in (frame, frame["a"], pyarrow.table({"a": [1]}), pyarrow.record_batch({"a": [1]})):
        message, body = describe(value, LIMIT, True, True)
        assert message["arrow"] is True and "value" not in message, message["value_problem"]
        assert pyarrow.ipc.open_stream(body).read_all().num_columns >= 1
    _, body = describe(frame, LIMIT, True, True)
    assert pyarrow.ipc.open_stream(body).read_pandas().equals(frame)
    mixed = pandas.DataFrame({"a": [1, "x", object()]})
    message, body = describe(mixed, LIMIT, True, True)
    assert "Arrow can't hold it" in message["value_problem"] and body == b""
    large = pandas.DataFrame({"a": range(2_000_000)})
    assert "15 MiB as Arrow, and 8 may cross" in describe(large, LIMIT, True, True)[0]["value_problem"]
    assert "text/html" in describe(frame, LIMIT, False, True)[0]["data"]


def test_a_native_thread_does_not_import_pyarrow_for_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class DataFrame:
        pass

    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=DataFrame))
    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)
    assert "not imported" in describe(DataFrame(), LIMIT, True, False)[0]["value_problem"]


class Rich:
    def _repr_html_(self) -> str:
        return "<b>rich</b>"

    def _repr_png_(self) -> bytes:
        return b"\x89PNG"

    def _repr_markdown_(self) -> str:
        raise ValueError("not today")

    def _repr_svg_(self) -> str:
        return "s" * (5 << 20)

    def _repr_latex_(self) -> tuple[str, dict[str, Any]]:
        return "$x$", {"isolated": True}

    def _repr_json_(self) -> Any:
        return {"a": [1]}


class Bundled:
    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return {"text/html": "<i>", "image/png": b"\x01", "text/plain": "plain", 5: "x"}, {"image/png": {"width": 5}}


class Proxy:
    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **keywords: "anything"


def test_forms_for_notebooks_are_sent_along_each_bounded_and_caught() -> None:
    message, _ = describe(Rich(), LIMIT, False, True)
    assert set(message["data"]) == {"text/plain", "text/html", "image/png", "text/latex", "application/json"}
    assert message["data"]["image/png"] == "iVBORw==" and json.loads(message["data"]["application/json"]) == {"a": [1]}
    assert message["metadata"] == {"text/latex": {"isolated": True}}
    message, _ = describe(Bundled(), LIMIT, False, True)
    assert message["data"] == {"text/plain": "plain", "text/html": "<i>", "image/png": "AQ=="}
    assert message["metadata"] == {"image/png": {"width": 5}}
    assert set(describe(Proxy(), LIMIT, False, True)[0]["data"]) == {"text/plain"}
    assert set(describe(Rich, LIMIT, False, True)[0]["data"]) == {"text/plain"}


def test_a_figure_becomes_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    class Figure:
        def savefig(self, file: Any, **keywords: Any) -> None:
            file.write(b"png")

    monkeypatch.setitem(sys.modules, "matplotlib.figure", types.SimpleNamespace(Figure=Figure))
    assert describe(Figure(), LIMIT, False, True)[0]["data"]["image/png"] == "cG5n"


def test_the_type_is_told() -> None:
    assert describe(Point(1, 2), LIMIT, False, True)[0]["value_type"] == "test_manhole_results.Point"
    assert results.NOTHING["data"] == {} and texts.MAX_ITEMS == 100
