"""What people and programs read: numbers, tables, JSON."""

from __future__ import annotations

import io
import json

import pytest

from mmstats.commands import text
from mmstats.commands.console import Console


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0, "", "0"),
        (1234567, "", "1,234,567"),
        (0.25, "", "0.25"),
        (3.0, "", "3"),
        (None, "seconds", "-"),
        (0.0123, "seconds", "12.3 ms"),
        (0.0, "seconds", "0 s"),
        (4.5e-7, "seconds", "450 ns"),
        (90.0, "seconds", "90 s"),
        (24576, "bytes", "24 KiB"),
        (float("nan"), "bytes", "nan bytes"),
        (float("inf"), "", "inf"),
        (True, "", "yes"),
        (7, "items", "7 items"),
        ("", "", "-"),
        ({"a": 1}, "", "a=1"),
    ],
)
def test_numbers_are_shown_with_a_fitting_unit(value: object, unit: str, shown: str) -> None:
    assert text.number(value, unit) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (59.9, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (90061, "1d 1h"), (None, "-")]
)
def test_ages_are_shown_in_two_units(seconds: float | None, shown: str) -> None:
    assert text.age(seconds) == shown


def test_a_bar_has_a_block_for_each_bucket_that_counts() -> None:
    assert text.bar([0, 1, 8, 0, 0]) == " ▂█"
    assert text.bar([0, 0]) == ""
    assert text.bar([1, 1000]).isprintable()
    assert text.bar([0, 1, 8], ascii_only=True).isascii()
    assert len(text.bar([1, 10**9])) == 2, "a single sample is seen beside a billion"


def test_what_would_move_the_cursor_is_escaped() -> None:
    assert text.printable("a\x1b[31mb\r\n\u202e") == "a\\x1b[31mb\\r\\n\\u202e"
    assert text.printable("héllo ❤") == "héllo ❤"


def test_a_pipe_gets_plain_text_and_whole_lines() -> None:
    stream = io.StringIO()
    Console(stream).table(("NAME", "VALUE"), [("x" * 200, "1"), ("y", "22")], numeric=(1,))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1] == "x" * 200 + "      1"
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_colours_unless_it_is_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    Console(coloured).heading("web: died", "died")
    Console(plain, colour=False).heading("web: died", "died")
    assert "\x1b[" in coloured.getvalue()
    assert "\x1b[" not in plain.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    unasked = Terminal()
    Console(unasked).heading("web: died", "died")
    assert "\x1b[" not in unasked.getvalue()


def test_json_is_ascii_and_says_its_schema() -> None:
    stream = io.StringIO()
    Console(stream).json("ls", {"name": "hé\x1b"})
    assert stream.getvalue().isascii()
    assert json.loads(stream.getvalue()) == {"schema": 1, "command": "ls", "name": "hé\x1b"}


def test_a_stream_that_is_not_utf8_gets_an_ascii_bar() -> None:
    class Latin(io.StringIO):
        encoding = "ascii"  # type: ignore[assignment]

    assert Console(Latin()).ascii_only
    assert not Console(Terminal(), colour=False).ascii_only
