"""Walking recorded frames, driven as by a user and over a pipe."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from examples import bare, rich

from mmdebug.debugger import debug


def said(commands: str, found: Any = None) -> str:
    out = io.StringIO()
    debug(found or rich(), io.StringIO(commands), out)
    return out.getvalue()


def answer(commands: str, found: Any = None) -> str:
    """What is said after the greeting."""
    greeting = said("", found)
    whole = said(commands, found)
    assert whole.startswith(greeting)
    return whole[len(greeting) :]


def test_it_begins_at_the_innermost_frame_of_the_fatal_exception_and_says_what_this_is() -> None:
    shown = said("")
    assert "web, pid 4242: 3 distinct exceptions" in shown
    assert "texts that were recorded" in shown and "nothing runs here" in shown
    assert "ZeroDivisionError: division by zero\n> [4] /srv/shop/mean.py(14) mean\n-> return value / count\n" in shown


def test_it_walks_up_and_down_and_stops_at_the_ends() -> None:
    assert answer("up\n").startswith("> [3] /srv/shop/total.py(13) total")
    assert answer("u 9\nu\n").endswith("This is the outermost frame.\n")
    assert "[0] /srv/shop/serve.py" in answer("u 9\n")
    assert answer("u\nd\n").count("mean.py(14)") == 1
    assert answer("down\n") == "This is the innermost frame.\n"
    assert answer("up x\n") == "A number of frames, please.\n"


@pytest.mark.parametrize("command", ["where", "w", "bt"])
def test_where_shows_all_frames_and_the_one_that_is_chosen(command: str) -> None:
    shown = answer(f"u\n{command}\n")
    assert shown.count("/srv/shop/") == 6
    assert "> [3] /srv/shop/total.py(13) total" in shown and "  [4] /srv/shop/mean.py(14) mean" in shown
    assert "7 frames in the middle were not recorded" in shown


def test_it_lists_source_and_locals() -> None:
    assert "   14 ->         return value / count" in answer("list\n")
    assert answer("locals\n") == "count = 0\nvalue = [1, 2, 3] (and 997 more)\n(2 more locals were not recorded)\n"


def test_p_looks_names_up_and_evaluates_nothing() -> None:
    assert answer("p count\n") == "0\n"
    for expression in ("count + 1", "__import__('os').system('true')", "count.real", ""):
        assert "expressions can't be evaluated" in answer(f"p {expression}\n")


def test_another_exception_can_be_chosen() -> None:
    shown = answer("exceptions\nexceptions 1\np count\nexceptions 9\ne x\n")
    assert "> [0] ZeroDivisionError: division by zero (fatal, main thread, 1x)" in shown
    assert "[1] TimeoutError: 'price' (captured, 1234x)" in shown
    assert "> [1] /srv/shop/handle.py(11) handle" in shown
    assert shown.endswith("There is no exception 9.\nThere is no exception x.\n")


def test_the_chain_leads_to_causes_and_to_parts_of_groups() -> None:
    shown = answer("chain\nchain 1\nwhere\n")
    assert "  [1] caused by KeyError: 'price'" in shown and "[4]   part 1 of it shop.Refused" in shown
    assert "KeyError: 'price'\n> [1] /srv/shop/handle.py(11) handle" in shown
    assert answer("chain 99\n") == "There is no exception 99 in this chain.\n"


@pytest.mark.parametrize("end", ["quit\n", "q\n", "EOF\n", ""])
def test_it_ends(end: str) -> None:
    assert answer(f"{end}where\n" if end else "") == ""


def test_an_unknown_command_is_said_to_be_one_and_help_lists_those_there_are() -> None:
    assert "There is no command frobnicate; `help` lists them." in answer("frobnicate x\n")
    shown = answer("help\nhelp p\n")
    assert "where" in shown and "exceptions" in shown and "evaluates nothing" in shown
    assert answer("\n\n") == "", "an empty line does not repeat the last command"


def test_an_exception_without_details_is_said_to_have_none() -> None:
    shown = answer("exceptions 2\nwhere\nup\nlist\nlocals\np x\nchain\n")
    assert shown.count("Its details could not be read.") == 3
    assert "This is the outermost frame." in shown


def test_a_process_without_exceptions_has_nothing_to_walk() -> None:
    assert "No exception was recorded." in said("where\nexceptions\nchain\nup\nlist\n", bare())


def test_nothing_recorded_reaches_the_terminal_unescaped() -> None:
    found = rich(lambda text: f"{text}\x1b[2J\r\x07\u202e\ud800")
    commands = "where\nlist\nlocals\nu\nexceptions\nchain\nchain 1\nexceptions 1\nwhere\nhelp\n"
    shown = said(commands, found)
    assert "\\x1b[2J" in shown
    assert all([c.isprintable() or c == "\n" for c in shown])


def test_a_frame_without_source_has_none_to_list() -> None:
    found = rich()
    assert found.box is not None
    record = found.box.exceptions[0]
    assert record.error is not None
    frames = tuple([dataclasses.replace(frame, source=(), locals={}, cut=0) for frame in record.error.frames])
    record = dataclasses.replace(record, error=dataclasses.replace(record.error, frames=frames))
    found = dataclasses.replace(found, box=dataclasses.replace(found.box, exceptions=(record,)))
    assert (
        answer("list\nlocals\n", found)
        == "No source was recorded of this frame.\nNo locals were recorded of this frame.\n"
    )
