"""Stacks of live programs: while the hub is blocked, while everything switches, of thousands, and from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, Program

from mmdebug.stacks import Stacks, from_dict, pyspy

pytest.importorskip("gevent")

#: Greenlets that do nothing but switch, with deep stacks, while a native thread takes stacks again and again.
TORTURE = """
import _thread, gc, os, sys, time
import gevent, gevent.lock, gevent.queue
from mmdebug import parked
from mmdebug.stacks.take import prepare, take
prepare()
seconds, many = float(sys.stdin.readline()), int(sys.stdin.readline())
sys.setswitchinterval(1e-5)
gc.set_threshold(50, 3, 3)
lock, queue = gevent.lock.RLock(), gevent.queue.Queue(5)
end = time.monotonic() + seconds
taken = []
class Payload:
    pass
def deep(depth, function, payload):
    if depth:
        return deep(depth - 1, function, Payload())
    return function()
def locked():
    with lock:
        gevent.sleep(0)
def work(number):
    while time.monotonic() < end:
        deep(number % 80, lambda: gevent.sleep(0), Payload())
        deep(number % 7, locked, Payload())
        gevent.spawn(deep, 3, lambda: gevent.sleep(0), Payload())
        if number % 3:
            deep(2, lambda: queue.get(timeout=0.01), Payload()) if not queue.empty() else queue.put(Payload())
def guarded(number):
    while time.monotonic() < end:
        try:
            work(number)
        except gevent.queue.Empty:
            pass
def native():
    try:
        while time.monotonic() < end:
            found = take()
            parked.sample()
            assert found.stacks, found
            taken.append(found.total.get("greenlet", 0))
    except BaseException as error:
        taken.append(repr(error))
        raise
    finally:
        done.append(True)
done = []
_thread.start_new_thread(native, ())
for number in range(many):
    gevent.spawn(guarded, number)
while not done:
    gevent.sleep(0.01)
print(len(taken), [found for found in taken if type(found) is str], max(taken))
sys.stdout.flush()
os._exit(0)
"""


def tortured(run: Callable[..., Program], seconds: float, many: int) -> None:
    program = run(TORTURE, env={"PYTHONFAULTHANDLER": "1"})
    program.say(str(seconds))
    program.say(str(many))
    count, rest = program.line().split(" ", 1)
    assert int(count) >= 1
    assert rest.startswith("[] ")
    program.finish()


def test_stacks_taken_while_hundreds_of_greenlets_switch_crash_nothing(run: Callable[..., Program]) -> None:
    tortured(run, 1, 300)


@pytest.mark.torture
@pytest.mark.parametrize("many", [50, 3000])
def test_stacks_taken_for_a_long_time_crash_nothing(run: Callable[..., Program], many: int) -> None:
    tortured(run, 60, many)


BLOCKED = """
import _thread, json, os, sys, time
from gevent import monkey; monkey.patch_all()
import gevent, logging
from mmdebug import native
from mmdebug.stacks.take import prepare, take
prepare()
def waits():
    gevent.sleep(1000)
for _ in range(5000):
    gevent.spawn(waits)
gevent.sleep(0)
gevent.sleep(0)
def answers():
    found = take()
    os.write(1, json.dumps(found.to_dict()).encode() + b"\\n")
    os._exit(0)
def blocks_by_cpu():
    while True:
        pass
def blocks_by_native_sleep():
    native.original("time", "sleep")(1000)
def blocks_by_lock():
    held = native.allocate_lock()
    held.acquire()
    held.acquire()
def holds_logging():
    logging.getLogger().addHandler(handler)
    handler.acquire()
    gevent.sleep(1000)
handler = logging.StreamHandler()
gevent.spawn(holds_logging)
gevent.sleep(0)
start_thread = native.original("_thread", "start_new_thread")
def begin():
    start_thread(answers, ())
    globals()[name]()
name = sys.stdin.readline().strip()
gevent.spawn(begin).join()
"""


@pytest.mark.parametrize("name", ["blocks_by_cpu", "blocks_by_native_sleep", "blocks_by_lock"])
def test_a_blocked_hub_is_told_with_all_that_waits_behind_it(run: Callable[..., Program], name: str) -> None:
    program = run(BLOCKED)
    program.say(name)
    found = from_dict(json.loads(program.line()))
    main = found.stacks[0]
    assert main.names == ("MainThread",)
    assert name in [frame.function for frame in main.frames]
    assert main.running is (name == "blocks_by_cpu")
    (group,) = [stack for stack in found.stacks if stack.count == 5000]
    assert group.frames[0].function == "waits"
    assert found.problems == ()


def test_stacks_of_ten_thousand_greenlets_in_ten_thousand_places_fit_into_a_message(
    run: Callable[..., Program],
) -> None:
    program = run(
        """
        import json, gevent
        from mmdebug.protocol import MAX_BODY
        from mmdebug.stacks.take import prepare, take
        prepare()
        deep = "def f{0}(n):\\n return f{0}(n-1) if n else gevent.sleep(1000)\\ngevent.spawn(f{0}, 60)"
        for number in range(10_000):
            exec(compile(deep.format(number), f"/a/rather/long/path/of/a/program/module{number}.py", "exec"))
        gevent.sleep(0)
        gevent.sleep(0)
        found = take(everything=True)
        print(len(json.dumps(found.to_dict())) < MAX_BODY, len(found.stacks), found.total["greenlet"], found.problems)
        """
    )
    out, _ = program.finish()
    fits, count, total, problems = out.split(" ", 3)
    assert fits == "True"
    assert 100 < int(count) <= 2000
    assert int(total) >= 10_000
    assert "left out" in problems


def test_a_process_that_is_too_large_is_not_held_up(run: Callable[..., Program]) -> None:
    program = run(
        """
        import gevent
        from mmdebug.stacks import greenlets
        from mmdebug.stacks.take import prepare, take
        prepare()
        greenlets.MAX_BLOCKS = 1000
        gevent.spawn(gevent.sleep, 1000)
        gevent.sleep(0)
        for everything in (False, True):
            found = take(everything)
            print(found.total, "--all does it" in str(found.problems))
        """
    )
    out, _ = program.finish()
    first, second = out.splitlines()
    assert first == "{} True"  # the thread that takes is none of them
    assert "'greenlet'" in second and second.endswith("False")


# By the command line.


def stacks(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmdebug", "stacks", "--path", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


IDLE = """
import sys, threading
def serves_nobody():
    sys.stdin.read()
print("ready", flush=True)
serves_nobody()
"""


@pytest.fixture
def spied(run: Callable[..., Program]) -> Program:
    """A program that knows nothing of mmdebug, where py-spy can read it."""
    if pyspy.find() is None:
        pytest.skip("NOT TESTED: py-spy is not installed")
    program = run(IDLE)
    program.line()
    return program


def test_a_process_that_did_not_opt_in_is_read_by_py_spy(spied: Program, home: Path) -> None:
    done = stacks("--json", str(spied.pid), home=home)
    if "may not read" in done.stderr:
        pytest.skip(f"NOT TESTED: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["command"] == "stacks"
    found: Stacks = from_dict(document["stacks"])
    assert (found.pid, found.source) == (spied.pid, "py-spy")
    assert "serves_nobody" in [frame.function for frame in found.stacks[0].frames]
    page = home / "stacks.html"
    done = stacks("--html", str(page), str(spied.pid), home=home)
    assert "serves_nobody" in done.stdout and "py-spy shows threads only" in done.stdout
    assert "serves_nobody" in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600


def test_a_pid_that_nobody_has_and_a_name_that_nobody_knows_are_said(home: Path) -> None:
    if pyspy.find() is not None:
        done = stacks("4194304", home=home)
        assert (done.returncode, "there is no process 4194304" in done.stderr) == (1, True), done.stderr
    done = stacks("no-such-service", home=home)
    assert done.returncode == 1 and "nothing is known of 'no-such-service'" in done.stderr


FRAMELESS = """
import functools, json, sys
import gevent, gevent.event, gevent.lock
from mmdebug import native
from mmdebug.stacks.take import prepare, take
prepare()
found = []

class Callable:
    def __call__(self):
        look()

class Own(gevent.Greenlet):
    def _run(self):
        look()

def look():
    # In a thread of its own, while the greenlet that calls this goes on to wait for it in C.
    lock = native.allocate_lock()
    lock.acquire()
    def see():
        found.append(take())
        lock.release()
    native.start_thread(see)
    lock.acquire()

locked = gevent.lock.Semaphore(0)
waiting = [locked.acquire, gevent.event.Event().wait, functools.partial(locked.acquire)]
parked = [gevent.spawn(one) for one in waiting]
ours = {id(one) for one in parked}
gevent.sleep(0)
runs = [gevent.spawn(look), gevent.spawn(functools.partial(look)), gevent.spawn(Callable()), Own()]
runs[-1].start()
gevent.joinall(runs)
look()
known = {id(one): number for number, one in enumerate(runs)}
for stacks in found:
    several = [one for one in stacks.stacks if one.kind == "greenlet"]
    running = [known.get(ident, -1) for one in several for ident in one.idents if one.running]
    waits = sorted(one.wait.what if one.wait else "" for one in several for ident in one.idents if ident in ours)
    print(json.dumps([running, waits]))
"""


def test_a_greenlet_that_waits_in_c_is_not_taken_for_one_that_runs(run: Callable[..., Program]) -> None:
    program = run(FRAMELESS)
    parked = ["event", "lock", "lock"]
    told = [json.loads(program.line()) for _ in range(5)]
    assert [waits for _, waits in told] == [parked] * 5
    # The last look was in the main greenlet's turn, whose calls are its thread's.
    assert [running for running, _ in told] == [[0], [1], [2], [3], []]
    program.finish()
