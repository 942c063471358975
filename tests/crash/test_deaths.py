"""Programs that really die: what they left names what ended them, and claims nothing that can't be known.

Each dies alone, so that nobody was told how, and under ``mmdebug run``, which writes it down.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import victims
from dying import PARENTS, UNTOLD, Start, causes, everything_said, first, starter

import mmdebug
from mmdebug.postmortem import PostMortem


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    yield from starter(home)


@pytest.fixture(params=victims.STYLES)
def style(request: pytest.FixtureRequest) -> str:
    if request.param == "gevent":
        pytest.importorskip("gevent", reason="NOT TESTED: gevent is not here")
    return str(request.param)


@pytest.fixture(params=PARENTS)
def parent(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def recorded_whole(found: PostMortem) -> None:
    """What each victim recorded before its death is there, and nothing is wrong with it."""
    assert found.problems == ()
    assert found.stats["requests"]["/users"].value == 3
    assert [(one.name, dict(one.fields)) for one in found.events if one.kind == "event"] == [
        ("cache.miss", {"key": "k1", "size": 12})
    ]


# From outside.


def test_sigkill_in_mid_request_leaves_what_was_in_flight(start: Start, style: str, parent: str) -> None:
    victim = start("wait", style, parent)
    victim.await_ready()
    found = victim.kill(signal.SIGKILL)
    recorded_whole(found)
    assert found.verdict.state == "died"
    if parent == "run":
        assert causes(found) == {"killed": "certain"}
        assert found.exit is not None and found.exit.status == signal.SIGKILL
    else:
        assert causes(found) == UNTOLD
        assert found.exit is None
    assert "in the middle of GET /users/<id> for" in found.verdict.summary
    assert "and in that db.query" in found.verdict.summary

    flights = [(one.name, dict(one.fields), one.depth) for one in found.activities]
    assert sorted(flights, key=str) == sorted(
        [("GET /users/<id>", {"user": user}, 0) for user in victims.USERS]
        + [("db.query", {"table": "users", "number": user}, 1) for user in victims.USERS],
        key=str,
    )
    assert [one.started for one in found.activities] == sorted([one.started for one in found.activities])
    for user in victims.USERS:
        # Each request's two are of one thread and one greenlet or task, and no other's.
        outer, inner = [one for one in found.activities if user in one.fields.values()]
        assert (outer.thread, outer.context) == (inner.thread, inner.context)
        assert outer.started <= inner.started
    assert len({(one.thread, one.context) for one in found.activities}) == len(victims.USERS)
    if style == "threads":
        assert {one.context for one in found.activities} == {0}
        assert len({one.thread for one in found.activities}) == len(victims.USERS)
    else:
        assert 0 not in {one.context for one in found.activities}
        assert len({one.thread for one in found.activities}) == 1


def test_sigterm_that_nobody_handles(start: Start, parent: str) -> None:
    victim = start("wait", "threads", parent)
    victim.await_ready()
    found = victim.kill(signal.SIGTERM)
    recorded_whole(found)
    assert causes(found) == (UNTOLD if parent == "alone" else {"terminated": "certain"})


def test_sigterm_through_the_parent_is_known_to_be_its(start: Start) -> None:
    victim = start("wait", "threads", "run")
    victim.await_ready()
    victim.process.terminate()
    victim.end(143)
    found = victim.read()
    assert causes(found) == {"terminated": "certain"}
    assert "who sent it can't be told" not in everything_said(found)
    assert "its parent sent it SIGTERM" in everything_said(found)


def test_sigterm_that_is_handled_by_leaving_is_a_clean_end(start: Start, style: str, parent: str) -> None:
    victim = start("leave_on_sigterm", style, parent)
    victim.await_ready()
    found = victim.kill(signal.SIGTERM)
    recorded_whole(found)
    assert causes(found) == {"clean_exit": "likely" if parent == "alone" else "certain"}


def test_sigterm_that_is_handled_by_an_exit_code_is_that_code(start: Start, parent: str) -> None:
    victim = start("exit_on_sigterm", "threads", parent)
    victim.await_ready()
    found = victim.kill(signal.SIGTERM)
    recorded_whole(found)
    if parent == "run":
        assert causes(found) == {"exit_code": "certain"}
        assert "143 is 128 + 15: programs use it after SIGTERM" in everything_said(found)
    else:
        assert causes(found) == {"clean_exit": "likely"}
        assert "its exit code is not known" in everything_said(found)


# Crashes: these leave faulthandler's text, whoever was told or not.


@pytest.mark.parametrize(
    ("death", "cause"), [("segfault", "segmentation_fault"), ("abort", "abort")], ids=["SIGSEGV", "SIGABRT"]
)
def test_a_crash_in_c_code_is_told_with_its_place(
    start: Start, style: str, parent: str, death: str, cause: str
) -> None:
    victim = start(death, style, parent)
    victim.end()
    found = victim.read()
    recorded_whole(found)
    assert causes(found) == {cause: "certain"}
    assert [one.name for one in found.activities] == ["GET /crash"]
    # The thread that crashed is the one that the activity is of.
    (crashed,) = [thread for thread in found.fault.threads if thread.current] if found.fault else []
    assert crashed.ident == found.activities[0].thread
    assert "request" in [frame.function for frame in crashed.frames]
    said = everything_said(found)
    assert "that thread was in GET /crash for" in said
    # A thread that lived less than a second may have no name yet.
    assert ("it happened in thread " if style == "threads" else "it happened in the main thread, at ") in said


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="NOT TESTED: this Python stops a recursion by itself")
def test_a_stack_overflow_is_told_from_other_faults(start: Start, style: str, parent: str) -> None:
    victim = start("overflow", style, parent)
    victim.end()
    found = victim.read()
    recorded_whole(found)
    assert causes(found) == {"stack_overflow": "likely", "segmentation_fault": "possible"}
    assert "frames on its stack, of deeper: recursion" in everything_said(found)


# By itself.


def test_os_exit_past_pythons_end(start: Start, style: str, parent: str) -> None:
    victim = start("leave_at_once", style, parent)
    victim.end(3)
    found = victim.read()
    recorded_whole(found)
    assert [one.name for one in found.activities] == ["POST /shutdown"]
    if parent == "run":
        assert causes(found) == {"os_exit": "certain"}
        assert "exit code 3" in found.verdict.summary
    else:
        assert causes(found) == UNTOLD


def test_an_exception_that_nobody_caught_in_the_main_thread(start: Start, style: str, parent: str) -> None:
    victim = start("raise_in_main", style, parent)
    assert "OrderError: order 7 has no price" in victim.end(1)
    found = victim.read()
    recorded_whole(found)
    assert causes(found) == {"uncaught_exception": "certain"}
    (record,) = found.exceptions
    assert (record.type, record.how, record.fatal, record.count) == ("victims.OrderError", "main thread", True, 1)
    assert record.error is not None and record.error.cause is not None
    assert record.error.message == "order 7 has no price"
    assert record.error.cause.type == "KeyError"
    assert record.error.frames[-1].function == "_order"
    assert record.error.frames[-1].locals["number"] == "7"
    assert any(["raise OrderError" in text for _, text in record.error.frames[-1].source])


HOW = {"threads": "thread", "gevent": "greenlet", "asyncio": "task"}


def test_an_exception_in_a_thread_greenlet_or_task_ends_no_process(start: Start, style: str, parent: str) -> None:
    victim = start("raise_within", style, parent)
    victim.end(0)
    found = victim.read()
    recorded_whole(found)
    record = next(one for one in found.exceptions if one.how == HOW[style])
    assert (record.type, record.fatal, record.count) == ("victims.OrderError", False, 1)
    if parent == "run":
        assert causes(found) == {"clean_exit": "certain"}
    else:
        assert causes(found) == {"clean_exit": "likely", f"uncaught_in_{HOW[style]}": "possible"}


def test_an_exception_in_a_thread_before_a_kill_is_no_more_than_possible(start: Start, style: str, parent: str) -> None:
    victim = start("raise_within_and_wait", style, parent)
    victim.await_ready()
    found = victim.kill(signal.SIGKILL)
    recorded_whole(found)
    beside = {f"uncaught_in_{HOW[style]}": "possible"}
    assert causes(found) == ({**UNTOLD, **beside} if parent == "alone" else {"killed": "certain", **beside})
    assert "does not by itself end the process" in everything_said(found)


def test_an_error_is_one_error_however_many_hooks_see_it(start: Start, style: str) -> None:
    victim = start("raise_within", style)
    victim.end(0)
    assert [(one.type, one.how) for one in victim.read().exceptions] == [("victims.OrderError", HOW[style])]


def test_sys_exit_1_is_an_exit_code_and_no_exception(start: Start, style: str, parent: str) -> None:
    victim = start("exit_1", style, parent)
    victim.end(1)
    found = victim.read()
    recorded_whole(found)
    assert found.exceptions == ()
    if parent == "run":
        assert causes(found) == {"exit_code": "certain"}
        assert "no uncaught exception was recorded" in everything_said(found)
    else:
        # The same file as after a clean end: so it must say that it may have been this.
        assert causes(found) == {"clean_exit": "likely"}
        assert "after sys.exit(1) its file looks the same" in everything_said(found)


def test_a_clean_end(start: Start, style: str, parent: str) -> None:
    victim = start("end", style, parent)
    victim.end(0)
    found = victim.read()
    recorded_whole(found)
    assert causes(found) == {"clean_exit": "likely" if parent == "alone" else "certain"}
    assert mmdebug.deaths() == []
    assert found.fault is None
    assert not Path(victim.path.removesuffix(".mmstats") + ".fault").exists()


def test_a_live_process_is_not_said_to_be_dead(start: Start) -> None:
    victim = start("wait")
    victim.await_ready()
    found = victim.read()
    assert (found.verdict.state, found.verdict.causes) == ("alive", ())
    assert len(found.activities) == 2 * len(victims.USERS)
    assert first(victim.kill(signal.SIGKILL)) == ("killed", "possible")
