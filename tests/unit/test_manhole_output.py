"""What a client's code prints, and what the program prints beside it."""

from __future__ import annotations

import contextlib
import contextvars
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support import ROOT

from mmdebug.manhole import output
from mmdebug.manhole.output import Channel, Output, Router, enter, leave, route, unroute


def made(limit: int = 1000) -> Output:
    return Output(Channel(lambda: None), 1, limit)


@contextlib.contextmanager
def printing(to: Output) -> Iterator[None]:
    token = enter(to)
    try:
        yield
    finally:
        leave(to, token)


@contextlib.contextmanager
def session() -> Iterator[None]:
    route()
    try:
        yield
    finally:
        unroute()


def test_a_client_and_the_program_each_get_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    with session():
        one = made()
        print("the program's")
        with printing(one):
            print("the client's")
            sys.stderr.write("its errors")
            sys.stdout.writelines(["a", "b"])
        print("once more")
        assert one.take() == [("stdout", "the client's\n"), ("stderr", "its errors"), ("stdout", "ab")]
        assert capsys.readouterr() == ("the program's\nonce more\n", "")


def test_several_at_once_do_not_mix() -> None:
    with session():
        several = [made(1 << 20) for _ in range(4)]

        def work(number: int) -> None:
            with printing(several[number]):
                for _ in range(500):
                    print(number)

        threads = [threading.Thread(target=contextvars.Context().run, args=(work, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, found in enumerate(several):
            assert found.take() == [("stdout", f"{number}\n" * 500)]


def test_what_is_over_the_limit_is_counted_and_dropped() -> None:
    found = made(10)
    found.write("stdout", "12345")
    found.write("stdout", "67890abc")
    found.write("stderr", "more")
    assert found.take() == [("stdout", "1234567890")]
    assert found.counts() == {"bytes": 17, "dropped": 7}
    wide = made(10)
    wide.write("stdout", "äöüßé€")
    assert wide.take() == [("stdout", "äöüßé")] and wide.counts() == {"bytes": 13, "dropped": 3}
    lone = made(10)
    lone.write("stdout", "\ud800" * 10)
    assert lone.counts()["dropped"] > 0 and len(lone.take()) <= 1


def test_a_gibibyte_takes_no_memory_and_little_time() -> None:
    found = made(1 << 20)
    piece = "x" * (1 << 20)
    for _ in range(1 << 10):
        found.write("stdout", piece)
    assert sum([len(text) for _, text in found.take()]) == 1 << 20
    assert found.counts() == {"bytes": 1 << 30, "dropped": (1 << 30) - (1 << 20)}


def test_pieces_fit_into_a_frame_however_they_are_escaped() -> None:
    found = made(1 << 20)
    found.write("stdout", "\x01" * 200_000)
    pieces = found.take()
    assert all([len(text) <= output.PIECE for _, text in pieces]) and len(pieces) > 1


def test_the_session_is_woken_once_for_what_it_did_not_take_yet() -> None:
    wakes: list[int] = []
    channel = Channel(lambda: wakes.append(1))
    found = Output(channel, 1, 1000)
    for _ in range(5):
        found.write("stdout", "x")
    assert len(wakes) == 1 and list(channel.noisy) == [found]
    found.take()
    found.write("stdout", "x")
    assert len(wakes) == 2
    channel.close()
    found.take()
    found.write("stdout", "x")
    assert len(wakes) == 2 and found.take() == []


def test_only_text_can_be_written_as_on_any_stream() -> None:
    with session(), printing(made()), pytest.raises(TypeError):
        sys.stdout.write(b"bytes")  # type: ignore[arg-type]


def test_the_streams_are_the_programs_own_again_after_the_last_session() -> None:
    before = sys.stdout, sys.stderr
    route()
    route()
    assert type(sys.stdout) is Router
    unroute()
    assert type(sys.stdout) is Router
    unroute()
    assert (sys.stdout, sys.stderr) == before


def test_what_a_command_prints_after_its_session_goes_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    route()
    one = made()
    with printing(one):
        one.channel.close()
        unroute()
        print("to nobody")
    assert sys.stdout is before
    print("the program's")
    assert capsys.readouterr().out == "the program's\n" and one.take() == []


#: `print` writes three times here, and in between the last session ends.
PRINTS = """
import sys
from mmdebug.manhole.output import route, unroute

class Stream:
    def write(self, text):
        if text == "first":
            unroute()
        said.append(text)

said = []
sys.stdout = Stream()
for _ in range(3):
    route()
    print("first", "second")
sys.stdout = sys.__stdout__
print(end="".join(said))
"""


def test_a_router_outlives_a_print_that_has_borrowed_it() -> None:
    # What is freed is overwritten, so that to use it is sure to fail.
    environment = {**os.environ, "PYTHONMALLOC": "debug"}
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "first second\n" * 3, "")


def test_a_stream_that_the_program_exchanges_at_the_same_time_is_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, mine = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    output._exchange("stdout", earlier, Router("stdout", earlier))  # which was there when it was looked
    assert sys.stdout is mine
    router = Router("stdout", mine)
    output._exchange("stdout", mine, router)
    assert sys.stdout is router


def test_what_the_program_puts_there_meanwhile_stays() -> None:
    before = sys.stdout
    route()
    mine = io.StringIO()
    sys.stdout = mine
    try:
        unroute()
        assert sys.stdout is mine
    finally:
        sys.stdout = before


def test_a_router_that_the_program_kept_passes_on_and_serves_again(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    route()
    kept = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):
        unroute()
    assert sys.stdout is kept  # which redirect_stdout has put back
    print("passed on")
    route()
    assert sys.stdout is kept
    one = made()
    with printing(one):
        print("routed")
    unroute()
    assert sys.stdout is before
    assert capsys.readouterr().out == "passed on\n" and one.take() == [("stdout", "routed\n")]


def test_a_redirection_of_the_clients_own_works() -> None:
    with session():
        one, caught = made(), io.StringIO()
        with printing(one):
            with contextlib.redirect_stdout(caught):
                print("caught")
            print("routed")
        assert caught.getvalue() == "caught\n" and one.take() == [("stdout", "routed\n")]


def test_a_program_without_streams_stays_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    route()
    one = made()
    print("to nobody", flush=True)
    with printing(one):
        print("routed", flush=True)
    unroute()
    assert sys.stdout is None and one.take() == [("stdout", "routed\n")]


def test_attributes_are_the_real_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    real = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", real)
    route()
    stream: Any = sys.stdout
    stream.colour = "green"
    assert stream.encoding == "latin-1" and stream.buffer is real.buffer and real.colour == "green"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        stream.nonsense  # noqa: B018
    with printing(made()):
        assert stream.isatty() is False
    stream.write("real")
    stream.flush()
    unroute()
    assert real.buffer.getvalue() == b"real"  # type: ignore[attr-defined]


def test_the_programs_own_log_stays_its_own() -> None:
    with session():
        own = io.StringIO()
        logger = logging.getLogger("test_manhole_output")
        handler = logging.StreamHandler(own)
        logger.addHandler(handler)
        one = made()
        with printing(one):
            logger.warning("logged")
        logger.removeHandler(handler)
        assert own.getvalue() == "logged\n" and one.take() == []
