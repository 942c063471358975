"""The public verbs: what is recorded of errors, how often, and what it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import Program

import mmdebug
from mmdebug.records import ExceptionRecord

HEAD = """
import logging, os, sys, mmdebug
mmdebug.install(service="web")
"""


def exceptions(run: Callable[..., Program], home: Path, source: str, status: int = 0) -> list[ExceptionRecord]:
    run(HEAD + source).finish(status)
    return list(mmdebug.load(next(home.glob("web-*.mmstats"))).exceptions)


def test_errors_are_told_apart_by_type_place_and_way_and_counted(run: Callable[..., Program], home: Path) -> None:
    found = exceptions(
        run,
        home,
        """
def fail(value):
    return {"a": 1}[value] if value else 1 / 0
for value in ("x", 0, "y", 0, 0):
    try:
        fail(value)
    except Exception:
        mmdebug.capture_exception()
try:
    fail(0)
except Exception as error:
    logging.exception("again")
""",
    )
    assert {(error.type, error.how): error.count for error in found} == {
        ("KeyError", "captured"): 2,
        ("ZeroDivisionError", "captured"): 3,
        ("ZeroDivisionError", "logged"): 1,
    }
    assert all(error.first <= error.last for error in found)
    assert all(error.error is not None and error.error.frames for error in found)


def test_a_flood_of_one_error_is_counted_and_captured_once_a_second(run: Callable[..., Program], home: Path) -> None:
    found = exceptions(
        run,
        home,
        """
from mmdebug.capture import exceptions as capture
taken, real = [], capture.capture
capture.capture = lambda error: (taken.append(1), real(error))[1]
for number in range(500):
    try:
        1 / 0
    except Exception:
        mmdebug.capture_exception()
print(len(taken))
assert len(taken) < 20
""",
    )
    assert [error.count for error in found] == [500]


def test_an_error_that_asyncio_logs_as_well_is_one(run: Callable[..., Program], home: Path) -> None:
    found = exceptions(
        run,
        home,
        """
import asyncio
async def fail():
    raise LookupError("gone")
async def main():
    task = asyncio.create_task(fail())
    await asyncio.sleep(0.01)
    del task
mmdebug.installation.installation().refresh()
asyncio.run(main())
""",
    )
    assert [(error.type, error.how, error.count) for error in found] == [("LookupError", "task", 1)]


def test_the_error_that_ends_the_process_is_kept_apart(run: Callable[..., Program], home: Path) -> None:
    found = exceptions(run, home, "raise LookupError('gone', os.getpid())", 1)
    assert [(error.type, error.fatal, error.how) for error in found] == [("LookupError", True, "main thread")]


@pytest.mark.parametrize("call", ["mmdebug.capture_exception()", "mmdebug.capture_exception(None)"])
def test_where_nothing_was_raised_nothing_is_recorded(run: Callable[..., Program], home: Path, call: str) -> None:
    assert exceptions(run, home, call) == []


def test_before_install_the_verbs_do_nothing(run: Callable[..., Program], home: Path) -> None:
    run(
        """
        import mmdebug
        mmdebug.event("x", a=1)
        with mmdebug.activity("y"):
            mmdebug.capture_exception(ValueError())
        """
    ).finish()
    assert list(home.iterdir()) == []


def test_switched_off_by_the_environment_nothing_is_installed(run: Callable[..., Program], home: Path) -> None:
    out, _ = run(
        "import sys, mmdebug; before = sys.excepthook; print(mmdebug.install(), sys.excepthook is before)",
        env={"MMDEBUG_DISABLE": "1"},
    ).finish()
    assert out.split() == ["False", "True"]
    assert list(home.iterdir()) == []


def test_a_second_call_changes_nothing(run: Callable[..., Program], home: Path) -> None:
    out, _ = run(
        HEAD
        + """
hooks = sys.excepthook, list(logging.root.handlers)
print(mmdebug.install(service="other"), (sys.excepthook, logging.root.handlers) == hooks)
"""
    ).finish()
    assert out.split() == ["True", "True"]
    assert [path.name.split("-")[0] for path in home.glob("*.mmstats")] == ["web"]
