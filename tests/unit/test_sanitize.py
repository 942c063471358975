"""What the recorder takes as it is holds no secret: names, fields, keys, and log messages filled in later."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdebug import _packing, layout
from mmdebug.sanitize import UNCHECKED, Sanitizer, harmless_template
from mmstats import redact


class Hostile(str):
    """A str of a program that fails wherever it is asked."""

    __slots__ = ()

    def _fail(self, *args: Any) -> Any:
        raise AssertionError("the program's code was called")

    __eq__ = __hash__ = __str__ = __repr__ = __len__ = _fail


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("login %r", ("x",)),
        ("password %r", ("hunter2",)),
        ("%s %s", ("Bearer", "aB3dE6gH9j")),
        ("%s %s", ("Basic", "dXNlcjpwd")),
        ("%s '%s'", ("password", "hunter2")),
        ("%s %r", ("password", "hunter2")),
        ('sent {\\"%s\\": \\"%s\\"}', ("password", "hunter2")),
        ("password %s'%s'", ("", "hunter2")),
        ("ya29.%s", ("abcde.fghij.klmno.pqrst",)),
        ("password=%s", ("hunter2",)),
        ("%s=%s", ("password", "hunter2")),
        ("%s:%s@db", ("user", "hunter2")),
        ("done in %d ms", (5,)),
        ("%s: %d of %s", ("a", 1, "b")),
    ],
)
def test_a_message_that_is_remembered_is_no_secret_with_any_plain_values(
    message: str, arguments: tuple[Any, ...]
) -> None:
    assert all(type(value) is not str or _packing.plain(value) for value in arguments)
    filled = message % arguments
    assert redact.text(filled) == filled or not harmless_template(message)


@pytest.mark.parametrize("message", ["done in %d ms", "user %s came", "%s, %s and %s", "100%% of %s", "nothing"])
def test_common_messages_are_remembered(message: str) -> None:
    assert harmless_template(message)


@given(st.from_regex(_packing._PLAIN, fullmatch=True))
def test_plain_texts_are_what_redaction_leaves_as_they_are(text: str) -> None:
    assert redact.text(text) == text or "ya29." in text


@pytest.mark.parametrize(
    "key", ["password=hunter2 x", "postgres://u:hunter2@host", "ghp_hunter2abcdefghijklmnop1234", "Bearer hunter2abc"]
)
def test_a_key_that_is_a_secret_itself_is_redacted(key: str) -> None:
    sanitizer = Sanitizer()
    for _ in range(2):
        _, fields = sanitizer.event("x", {key: 1})
        assert "hunter2" not in str(fields)
    assert not sanitizer.keys


def test_a_secret_across_the_cut_is_still_seen_as_one() -> None:
    for before in range(layout.MAX_NAME - 60, layout.MAX_NAME + 2):
        text = "z" * before + " postgres://user:hunter2hunter2@dbhost/x"
        assert "hunter" not in Sanitizer().text(text)


def test_a_long_text_is_bounded_and_still_longer_than_what_is_kept() -> None:
    """So that its record says that it was cut."""
    assert len(Sanitizer().text("x" * 1_000_000)) == layout.MAX_NAME + 1


def test_no_code_of_the_program_is_called() -> None:
    sanitizer = Sanitizer()
    for _ in range(2):
        name, fields = sanitizer.event(Hostile("x"), {"a": Hostile("y")})
        assert type(name) is str
        assert type(fields["a"]) is str
        assert type(sanitizer.key(Hostile("z"))) is str


@pytest.mark.parametrize("text", ["\ud800", "a\udc80b" * 3000, "\0", "é" * 5000, ""])
def test_every_text_can_be_encoded(text: str) -> None:
    sanitizer = Sanitizer()
    sanitizer.text(text).encode()
    sanitizer.key(text).encode()


def test_a_flood_of_texts_is_not_looked_at_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for secrets takes time: in a flood that must not slow the program down, nor let one through."""
    sanitizer = Sanitizer()
    clock = [100.0]

    def monotonic() -> float:
        clock[0] += 0.001  # so each look takes a millisecond
        return clock[0]

    monkeypatch.setattr("mmdebug.sanitize.monotonic", monotonic)
    shown = [sanitizer.text(f"request={number} password=hunter{number}") for number in range(300)]
    kept = [text for text in shown if text != UNCHECKED]
    assert 10 < len(kept) < 200
    assert not any("hunter" in text for text in shown)
    assert sanitizer.text("a warning: x", urgent=True) == "a warning: x", "what is urgent has time of its own"
    clock[0] += 1
    assert sanitizer.text("request=301") == "request=301", "a second later there is time again"


def test_a_message_without_arguments_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sanitizer = Sanitizer()
    sanitizer.literal("took: 5 ms")
    sanitizer.literal("password=%s")
    assert set(sanitizer.templates) == {"took: 5 ms"}
