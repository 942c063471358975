"""Requests of a session: one at a time, each with one final answer, and nothing left behind."""

from __future__ import annotations

import gc
import linecache
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prompting import Prompt
from support import wait_for

from mmdebug.manhole import execution
from mmdebug.manhole.output import Router


@pytest.fixture
def prompt() -> Iterator[Prompt]:
    made = Prompt()
    yield made
    made.close()


def test_an_answer_says_what_where_how_long_and_how_much() -> None:
    with Prompt() as prompt:
        answer = prompt.ask("print('x'); 1 + 1", value=True)
        assert (answer["type"], answer["data"], answer["value"]) == ("result", {"text/plain": "2"}, 2)
        assert (answer["where"], answer["value_type"], answer["output"]) == (
            "native",
            "int",
            {"bytes": 2, "dropped": 0},
        )
        assert 0 <= answer["seconds"] < 20 and answer["stdout"] == "x\n"
        assert [message["where"] for message in answer["started"]] == ["native"]


def test_the_last_value_is_kept_and_paged(prompt: Prompt) -> None:
    prompt.ask("list(range(250))")
    assert prompt.text("len(_)") == "250"
    prompt.ask("list(range(250))")
    page = prompt.ask(kind="page", start=200)
    assert page["data"]["text/plain"].startswith("200,") and (page["shown"], page["total"]) == (50, 250)
    assert prompt.ask("None")["data"] == {} and prompt.text("len(_)") == "250"
    assert prompt.text("None", mode="eval") == "None" and "value" not in prompt.ask("None")
    assert prompt.ask("None", value=True)["value"] is None


def test_names_stay_from_one_to_the_next(prompt: Prompt) -> None:
    prompt.ask("x = 5\ndef f(): return x")
    assert prompt.text("x = 6; f()") == "6"
    assert "x" in [match["text"] for match in prompt.ask("x", kind="complete", cursor=1)["matches"]]
    assert prompt.ask("f", kind="inspect", cursor=1, detail=1)["source"] == "def f(): return x\n"


def test_what_the_program_did_to_the_streams_meanwhile_leads_no_output_to_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sys.stdout
    with Prompt() as prompt:
        sys.stdout = before  # as the end of a redirect_stdout that was there before the session
        assert prompt.ask("print('mine')")["stdout"] == "mine\n"
    assert sys.stdout is before and capsys.readouterr().out == ""


def test_only_one_runs_at_a_time(prompt: Prompt) -> None:
    first = prompt.submit("while True: pass")
    second = prompt.submit("1")
    assert prompt.final(second)["kind"] == "busy" and prompt.executor.busy
    prompt.executor.interrupt()
    assert prompt.final(first)["kind"] == "interrupted" and not prompt.executor.busy
    assert prompt.text("2") == "2"


def test_what_would_hurt_the_program_at_a_prompt_is_refused(prompt: Prompt) -> None:
    assert prompt.ask("exit()")["name"] == "Exit"
    assert prompt.ask("quit(1)")["name"] == "Exit"
    assert prompt.ask("input('? ')")["name"] == "EOFError"
    assert prompt.ask("breakpoint()")["name"] == "RuntimeError"
    assert not sys.stdin.closed


def test_output_over_the_limit_is_dropped_and_the_command_goes_on() -> None:
    prompt = Prompt(max_output=1000)
    answer = prompt.ask("for i in range(10_000): print('0123456789')\n'done'")
    prompt.close()
    assert answer["data"]["text/plain"] == "'done'"
    assert answer["output"] == {"bytes": 110_000, "dropped": 109_000} and len(answer["stdout"]) == 1000


def test_output_comes_while_it_runs_and_before_the_answer() -> None:
    with Prompt() as prompt:
        number = prompt.submit("print('early')\nwhile not go: pass\nprint('late')")
        prompt.namespace["go"] = []
        prompt.until(lambda: any(message["type"] == "stream" for message, _ in prompt.frames))
        assert prompt.executor.busy
        prompt.namespace["go"].append(1)
        prompt.final(number)
        assert [message["type"] for message, _ in prompt.frames] == ["started", "stream", "stream", "result"]


def test_an_interrupt_in_the_program_s_repr_ends_it_too(prompt: Prompt) -> None:
    code = "class A:\n  def __repr__(self):\n    while True: pass\n\nA()"
    assert prompt.ask(code, timeout=0.1)["kind"] == "timeout"
    assert (
        prompt.ask("class E(Exception):\n  def __str__(self):\n    while True: pass\n\nraise E", timeout=0.1)["kind"]
        == "timeout"
    )


def test_code_that_can_not_be_stopped_is_answered_for_and_the_next_runs_beside_it(prompt: Prompt) -> None:
    lock = threading.Lock()
    lock.acquire()
    prompt.namespace["lock"] = lock
    answer = prompt.ask("lock.acquire()", timeout=0.1)
    assert (answer["kind"], answer["stuck"]) == ("timeout", True) and b'"schema"' in answer["body"]
    assert prompt.text("'goes on'") == "'goes on'"
    assert "1 earlier commands" in prompt.executor.interrupt()
    lock.release()
    wait_for(lambda: prompt.executor._stuck[0].over)
    prompt.step()
    assert [message["type"] for message, _ in prompt.frames if message["id"] == 1] == ["started", "error"]


def test_too_many_that_can_not_be_stopped_are_refused(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "MAX_STUCK", 0)
    assert prompt.ask("1")["kind"] == "refused"


def test_no_thread_to_be_had_is_said(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(function: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(execution, "start_natively", fail)
    answer = prompt.ask("1")
    assert answer["kind"] == "refused" and "can't start new thread" in answer["message"]


def test_code_that_could_not_be_stopped_is_told_again_when_its_client_goes() -> None:
    prompt = Prompt()
    code = "x = 0\nwhile x < 4:\n  try:\n    y = 0\n    while True: y += 1\n  except BaseException: x += 1"
    assert prompt.ask(code, timeout=0.05)["stuck"]
    [command] = prompt.executor._stuck
    assert not command.over and prompt.namespace["x"] < 4
    prompt.close()
    wait_for(lambda: command.over)


def test_the_value_has_its_name_before_its_answer_can_be_sent() -> None:
    class Watching(Prompt):
        def _wake(self) -> None:
            seen.append((self.namespace.get("_"), len(self.executor._outbox)))

    seen: list[tuple[Any, int]] = []
    prompt = Watching()
    assert prompt.ask("6 * 7")["data"]["text/plain"] == "42"
    prompt.close()
    assert [value for value, waiting in seen if waiting] == [None, 42], "as it begins, and with its answer"


def test_the_end_of_a_session_ends_its_code_and_gives_the_streams_back() -> None:
    before = sys.stdout
    prompt = Prompt()
    assert type(sys.stdout) is Router
    prompt.submit(
        "go.append(1)\nx = 0\nwhile True:\n  try:\n    x = 1\n    while True: x += 1\n  except BaseException: go.pop()"
    )
    go = prompt.namespace["go"] = [2]
    prompt.until(lambda: go == [2, 1])
    command = prompt.executor._current
    prompt.close()
    prompt.close()
    wait_for(lambda: command is not None and command.over)
    wait_for(lambda: sys.stdout is before)
    assert prompt.executor.outgoing() is not None
    prompt.executor.submit(execution.Request(99, "exec", "1"))
    assert prompt.executor.outgoing()[-1][0]["kind"] == "closing"


def test_ten_thousand_commands_leave_nothing_behind(prompt: Prompt) -> None:
    def left() -> tuple[int, int, int]:
        gc.collect()
        ours = [name for name in linecache.cache if name.startswith("<mmdebug")]
        return len(prompt.namespace), len(ours), threading.active_count()

    def ask_many(count: int) -> None:
        for number in range(count):
            prompt.submit(("x = 5", "x", "1 / 0", "print(x)")[number % 4])
            prompt.until(lambda: not prompt.executor.busy)
            prompt.frames.clear()

    ask_many(400)
    before, blocks, threads = left(), sys.getallocatedblocks(), len(os.listdir("/proc/self/task"))
    ask_many(9600)
    assert left() == before
    assert sys.getallocatedblocks() - blocks < 5000
    # Other tests of this process may have left some, and the last command's own may not be gone yet.
    wait_for(lambda: len(os.listdir("/proc/self/task")) <= threads)
