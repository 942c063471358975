"""What a prompt offers, and what it tells of a name."""

from __future__ import annotations

import builtins
import sys
import types
from typing import Any

import pytest

from mmdebug.manhole import completion
from mmdebug.manhole.completion import complete, inspect_at


class Queue:
    """A queue.

    With a text.
    """

    kind = "fifo"
    asked: list[str] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.size = 3
        self.inner: Any = {"first key": [1, 2], "it's": 1, 5: "five"}

    @property
    def secret(self) -> int:
        self.asked.append("secret")
        return 1

    def put(self, item: int, *more: int, block: bool = True, **rest: int) -> None:
        """Put it there."""

    def _hidden(self) -> None: ...


class Shy:
    def __dir__(self) -> list[str]:
        raise RuntimeError("not telling")

    def __getattr__(self, name: str) -> Any:
        Queue.asked.append(name)
        raise AttributeError(name)


@pytest.fixture
def names() -> dict[str, Any]:
    Queue.asked.clear()
    return {"queue": Queue(), "Queue": Queue, "numbers": [1], "shy": Shy(), "sys": sys, "_private": 1}


def offered(code: str, names: dict[str, Any]) -> list[str]:
    return [match["text"] for match in complete(code, len(code), names)["matches"]]


def test_names_are_those_of_the_session_the_builtins_and_the_language(names: dict[str, Any]) -> None:
    assert offered("que", names) == ["queue"]
    assert offered("x = pri", names) == ["print"]
    assert offered("whi", names) == ["while"]
    assert "_private" not in offered("", names) and offered("_pri", names) == ["_private"]
    assert offered("numbers + que", names) == ["queue"]


def test_names_behind_the_builtins_are_offered_too(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Builtins(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            return vars(sys.modules["__main__"])[name]

    main = types.ModuleType("__main__")
    main.application = Queue()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    names["__builtins__"] = Builtins(vars(builtins))
    assert offered("applic", names) == ["application"]
    assert "put" in offered("application.", names)


def test_attributes_are_offered_without_being_asked_for(names: dict[str, Any]) -> None:
    found = {match["text"]: match for match in complete("queue.", 6, names)["matches"]}
    assert {"put", "kind", "size", "secret", "inner"} <= set(found) and "_hidden" not in found
    assert found["put"]["type"] == "function" and found["secret"]["type"] == "property"
    assert found["put"]["signature"] == "(item, *more, block=..., **rest)"
    assert (found["put"]["start"], found["put"]["end"]) == (6, 6)
    assert Queue.asked == []
    assert offered("queue._hid", names) == ["_hidden"]
    assert "__init__" in offered("queue.__i", names)


def test_matches_stand_where_the_word_begins(names: dict[str, Any]) -> None:
    code = "x = queue.pu + 1"
    found = complete(code, 12, names)["matches"]
    assert [(match["text"], match["start"], match["end"]) for match in found] == [("put", 10, 12)]


def test_attributes_of_items_and_of_attributes(names: dict[str, Any]) -> None:
    assert "append" in offered("queue.inner['first key'].app", names)
    assert "bit_length" in offered("numbers[0].bit_l", names)
    assert offered("queue.inner['no such key'].app", names) == []
    assert offered("queue.nothing.app", names) == []


def test_nothing_is_called_to_complete(names: dict[str, Any]) -> None:
    names["bang"] = lambda: Queue.asked.append("bang")
    assert offered("bang().", names) == [] and offered("(bang() or queue).", names) == []
    assert offered("shy.", names) != [None] and "bang" not in Queue.asked


def test_keys_of_dicts(names: dict[str, Any]) -> None:
    assert offered("queue.inner['fi", names) == ["'first key'"]
    assert offered('queue.inner["fi', names) == ['"first key"']
    assert offered('queue.inner["it', names) == ['"it\'s"']
    assert offered("queue.inner['it", names) == ["'it\\'s'"]
    assert sorted(offered("queue.inner[", names)) == ['"it\'s"', "'first key'", "5"]
    start = complete("queue.inner['fi", 15, names)["matches"][0]["start"]
    assert start == len("queue.inner[")


def test_names_of_arguments_come_first(names: dict[str, Any]) -> None:
    assert offered("queue.put(bl", names)[0] == "block="
    assert offered("queue.put(1, ", names)[:2] == ["block=", "item="]
    assert "block=" not in offered("queue.put([", names) and "block=" not in offered("queue.put(1)", names)
    assert "block=" not in offered("queue.put(queue.", names)
    assert "block=" in offered("queue.put(f(1, 2), [3], bl", names)


def test_modules(names: dict[str, Any]) -> None:
    assert "json" in offered("import js", names) and "json" in offered("import os, js", names)
    assert "json" in offered("from js", names)
    assert "decoder" in offered("from json import dec", names)
    assert "dumps" in offered("from json import JSONDecoder, du", names)
    assert "path" in offered("import os.pa", names)
    assert "wsgiref" in offered("import wsgi", names) and "wsgiref" not in sys.modules


@pytest.mark.parametrize("code", ["'que", "f('que", "# que", "'''a\nque", "5.", "x = '\\'que"])
def test_there_is_nothing_to_offer_in_texts_comments_and_numbers(code: str, names: dict[str, Any]) -> None:
    assert offered(code, names) == []


def test_answers_are_bounded(names: dict[str, Any]) -> None:
    names["wide"] = types.SimpleNamespace(**{f"name{i}": i for i in range(3000)})
    names["keys"] = {f"key{i}": i for i in range(3000)}
    for code in ("wide.", "keys['"):
        found = complete(code, len(code), names)
        assert len(found["matches"]) == completion.MAX_MATCHES and found["more"] is True
    assert complete("que" * 100_000, 300_000, names)["matches"] == []
    assert complete("que", 2, names)["matches"][0]["end"] == 2 and complete("que", 50, names) is not None


@pytest.mark.parametrize("code", ["(" * 5000, "a." * 5000, "a['" * 3000, '"' * 5001, "\x00\ud800.", "[" * 9000 + "a."])
def test_odd_code_is_no_trouble(code: str, names: dict[str, Any]) -> None:
    assert complete(code, len(code), names)["matches"] is not None
    assert inspect_at(code, len(code), names)["found"] in (True, False)


def test_a_name_is_told_with_what_is_known_of_it(names: dict[str, Any]) -> None:
    found = inspect_at("x = queue.put(1)", 12, names)
    assert found["found"] and found["name"] == "queue.put" and found["value_type"] == "method"
    assert found["signature"] == "(item: 'int', *more: 'int', block: 'bool' = True, **rest: 'int') -> 'None'"
    assert found["doc"] == "Put it there." and found["file"] == __file__ and found["line"] > 10
    assert found["source"] == ""
    assert inspect_at("queue.put", 9, names, 1)["source"].lstrip().startswith("def put(self")
    found = inspect_at("Queue", 3, names, 1)
    assert found["doc"] == "A queue.\n\nWith a text." and found["source"].startswith("class Queue:")
    assert found["file"] == __file__
    assert inspect_at("queue?", 5, names)["value_type"] == "test_manhole_completion.Queue"
    assert inspect_at("queue.put", 2, names)["name"] == "queue"
    assert inspect_at("numbers", 7, names)["text"] == "[1]"


def test_what_is_not_there_is_not_found(names: dict[str, Any]) -> None:
    assert inspect_at("nothing", 3, names)["found"] is False
    assert inspect_at("", 0, names)["found"] is False
    assert inspect_at("queue.nothing", 13, names)["found"] is False


def test_what_is_told_of_hostile_objects_is_bounded_and_caught(names: dict[str, Any]) -> None:
    class Hostile:
        __doc__ = "d" * 1_000_000
        __signature__ = "no signature"

        def __call__(self) -> None: ...

        def __repr__(self) -> str:
            raise ValueError

    names["hostile"] = Hostile()
    found = inspect_at("hostile", 7, names, 1)
    assert found["found"] and len(found["doc"]) <= completion.MAX_DOC and "whose repr raised" in found["text"]
    assert inspect_at("shy", 3, names, 1)["found"]
