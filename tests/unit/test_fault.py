"""faulthandler's text as data: every form that Python 3.11 to 3.14 write, and whatever else a file may hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdebug import fault
from mmdebug.records import Fault, FaultFrame, FaultThread

TWO_THREADS = """\
Fatal Python error: Segmentation fault

Thread 0x00007fcd8f8cf6c0 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "app.py", line 3 in work

Current thread 0x00007fcd90660b80 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "app.py", line 7 in <module>

Extension modules: greenlet._greenlet, gevent.libev.corecext (total: 2)
"""

# The forms of 3.14: names of threads, and the stack of C.
NAMED = """\
Fatal Python error: Aborted

Thread 0x00007fcd8f8cf6c0 [pool [a] 1] (most recent call first):
  File "app.py", line 3 in work

Current thread 0x00007fcd90660b80 [python] (most recent call first):
  File "app.py", line 7 in <module>

Current thread's C stack trace (most recent call first):
  Binary file "/opt/python/python", at _Py_DumpStack+0x42 [0x5b27f7d7147e]
  Binary file "/usr/lib/libc.so.6", at +0x3def0 [0x77b73226bef0]
  <truncated rest of calls>
"""


def fatal(*lines: str, headline: str = "Segmentation fault") -> str:
    return "\n".join([f"Fatal Python error: {headline}", "", *lines, ""])


def section(function: str, stack: str = "Current thread 0x0000000000000001 (most recent call first):") -> str:
    return fatal(stack, f'  File "app.py", line 1 in {function}')


def functions(found: Fault | None) -> list[list[str]]:
    assert found is not None
    return [[frame.function for frame in thread.frames] for thread in found.threads]


def test_the_headline_the_threads_and_their_frames_are_read() -> None:
    assert fault.parse(TWO_THREADS) == Fault(
        headline="Fatal Python error: Segmentation fault",
        threads=(
            FaultThread(
                ident=0x7FCD8F8CF6C0,
                current=False,
                frames=(
                    FaultFrame("/usr/lib/python3.11/threading.py", 327, "wait"),
                    FaultFrame("app.py", 3, "work"),
                ),
            ),
            FaultThread(
                ident=0x7FCD90660B80,
                current=True,
                frames=(
                    FaultFrame("/usr/lib/python3.11/ctypes/__init__.py", 519, "string_at"),
                    FaultFrame("app.py", 7, "<module>"),
                ),
            ),
        ),
        text=TWO_THREADS.rstrip(),
    )


def test_names_of_threads_are_read_and_c_stacks_are_not_taken_for_frames() -> None:
    found = fault.parse(NAMED)
    assert found is not None
    assert [(thread.name, thread.current, len(thread.frames)) for thread in found.threads] == [
        ("pool [a] 1", False, 1),
        ("python", True, 1),
    ]
    assert "_Py_DumpStack+0x42" in found.text


def test_a_stack_without_a_number_is_the_current_thread() -> None:
    text = fatal("<Cannot show all threads while the GIL is disabled>", fault._STACK, '  File "app.py", line 1 in work')
    found = fault.parse(text)
    assert found is not None
    assert found.threads == (FaultThread(0, True, (FaultFrame("app.py", 1, "work"),)),)


@pytest.mark.parametrize("line", ["  <no Python frame>", "  Garbage-collecting", "  ...", "  <invalid frame>"])
def test_remarks_in_a_stack_are_no_frames(line: str) -> None:
    found = fault.parse(fatal("Current thread 0x01 (most recent call first):", line, '  File "a", line 1 in f'))
    assert functions(found) == [["f"]]


def test_frames_of_unknown_place_are_kept() -> None:
    found = fault.parse(
        fatal(
            "Thread 0x01 (most recent call first):", "  File ???, line ??? in ???", '  File "a"b", line 9 in <lambda>'
        )
    )
    assert found is not None
    assert found.threads[0].frames == (FaultFrame("???", None, "???"), FaultFrame('a"b', 9, "<lambda>"))


def test_a_fault_outside_of_python_has_no_current_thread() -> None:
    found = fault.parse(fatal("Thread 0x01 (most recent call first):", '  File "a", line 1 in f'))
    assert found is not None
    assert [thread.current for thread in found.threads] == [False]


def test_of_several_dumps_the_last_fatal_one_counts() -> None:
    asked = 'Timeout (0:00:01)!\nThread 0x01 (most recent call first):\n  File "a", line 1 in asked\n'
    assert functions(fault.parse(asked + section("first") + asked + section("last"))) == [["last"]]
    assert fault.parse(asked) is None


@pytest.mark.parametrize("text", ["", "\n", "Segmentation fault\n", "x Fatal Python error: no\n"])
def test_without_a_fatal_error_there_is_no_fault(text: str) -> None:
    assert fault.parse(text) is None


def test_a_text_cut_short_gives_what_is_whole() -> None:
    for length in range(len("Fatal Python error: "), len(TWO_THREADS)):
        found = fault.parse(TWO_THREADS[:length])
        assert found is not None
        names = [name for thread in functions(found) for name in thread]
        # The last one may have lost its end: there is no telling that from a short name.
        assert names[:-1] == ["wait", "work", "string_at", "<module>"][: len(names[:-1])]


@given(st.text(max_size=200) | st.sampled_from([TWO_THREADS, NAMED]), st.integers(0, 500), st.text(max_size=50))
def test_no_text_makes_it_fail(text: str, at: int, inserted: str) -> None:
    found = fault.parse("Fatal Python error: x\n" + text[:at] + inserted + text[at:])
    assert found is not None
    assert all(thread.ident < 1 << 64 for thread in found.threads)


@pytest.mark.parametrize(
    "text",
    [
        "Thread 0x01 (most recent call first):\n" * 50_000,
        "Current thread 0x01 (most recent call first):\n" + '  File "a", line 1 in f\n' * 50_000,
        "Current thread 0x01 (most recent call first):\n" + '  File "' + '", line 1' * 200_000,
        "Thread 0x" + "f" * 1_000_000 + " (most recent call first):",
        '  File "a", line ' + "9" * 1_000_000 + " in f",
        "Fatal Python error: x\n" * 50_000,
        "x" * 3_000_000,
    ],
    ids=["threads", "frames", "a long line", "a long ident", "a long number", "headlines", "one line"],
)
def test_a_huge_text_makes_a_small_fault(text: str) -> None:
    found = fault.parse("Fatal Python error: x\n" + text + "\nFatal Python error: last\n" + text[: 1 << 19])
    assert found is not None
    assert len(found.threads) <= fault.MAX_THREADS
    assert all(len(thread.frames) <= fault.MAX_FRAMES for thread in found.threads)
    assert len(found.text) <= fault.MAX_TEXT + 10
    assert len(found.headline) <= 2000


def test_a_file_gives_its_own_fault_and_not_that_of_a_child_that_shared_it(tmp_path: Path) -> None:
    path = tmp_path / "web-1-00000000.fault"
    path.write_text(section("child", fault._STACK))
    assert fault.read(str(path)) is None
    assert functions(fault.forked(str(path))) == [["child"]]
    path.write_text(section("own") + section("child", fault._STACK))
    assert functions(fault.read(str(path))) == [["own"]]
    assert functions(fault.forked(str(path))) == [["child"]]


def test_without_a_gil_one_stack_is_all_that_a_process_shows_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "web-1-00000000.fault"
    path.write_text(fatal(fault._NO_THREADS, fault._STACK, '  File "a", line 1 in own'))
    assert functions(fault.read(str(path))) == [["own"]]
    assert fault.forked(str(path)) is None


def test_the_end_of_a_huge_file_is_read_and_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "web-1-00000000.fault"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b"\n\xff\xfe\n" + section("last").encode())
    assert functions(fault.read(str(path))) == [["last"]]


def test_what_is_no_regular_file_holds_no_fault(tmp_path: Path) -> None:
    assert fault.read(str(tmp_path / "missing")) is None
    os.mkfifo(tmp_path / "fifo")
    assert fault.read(str(tmp_path / "fifo")) is None
    (tmp_path / "file").write_text(section("own"))
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert fault.read(str(tmp_path / "link")) is None
    assert fault.forked(str(tmp_path / "link")) is None


def test_the_name_is_the_stem_of_the_stat_file() -> None:
    assert fault.beside("/run/x/web-1-00000000.mmstats") == "/run/x/web-1-00000000.fault"
    assert fault.beside("/run/x/web-1-00000000.box") == "/run/x/web-1-00000000.fault"
