"""The main thread's loop as native threads see it: found, asked, and neither kept nor changed by that."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from support import Program

Run = Callable[..., Program]

BEGIN = """
import asyncio, gc, os, sys, threading, time, weakref
from mmdebug import mainloop, native
native.note_main()
def aside(function):
    "What a function returns in a native thread."
    found, done = [], native.allocate_lock()
    done.acquire()
    def calls():
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)
        done.release()
    native.start_thread(calls)
    done.acquire()
    return found.pop()
class Frameless(asyncio.AbstractEventLoop):
    "Looks as uvloop's do from Python."
    def __init__(self):
        self.called = []
    def is_running(self):
        return True
    def call_soon_threadsafe(self, function, *arguments):
        self.called.append((function, *arguments))
"""


def outcome(run: Run, code: str) -> list[str]:
    out, err = run(BEGIN + code).finish()
    assert err == ""
    return out.split()


def test_the_programs_variables_are_left_alone(run: Run) -> None:
    code = """
class Thing:
    pass
def render():
    thing = Thing()
    gone = weakref.ref(thing)
    given = locals()
    given["number"] = 1
    del given["thing"]
    kind = aside(mainloop.MainLoop().kind)
    del thing
    print(kind, "number" in given, gone() is None)
render()
"""
    assert outcome(run, code) == ["threads", "True", "True"]


def test_a_loop_that_has_ended_is_not_kept(run: Run) -> None:
    code = """
main = mainloop.MainLoop()
async def serve():
    called = asyncio.Event()
    print(aside(main.kind), aside(main.lag), aside(lambda: main.call(called.set)))
    await asyncio.wait_for(called.wait(), 30)
loop = asyncio.new_event_loop()
loop.run_until_complete(serve())
loop.close()
gone = weakref.ref(loop)
del loop
gc.collect()
print(gone() is None, aside(main.kind), aside(main.lag))
"""
    assert outcome(run, code) == ["asyncio", "0.0", "True", "True", "threads", "None"]


def test_a_hub_that_was_destroyed_is_not_kept(run: Run) -> None:
    pytest.importorskip("gevent", reason="NOT TESTED: gevent is not here")
    code = """
import gevent
hub, main = gevent.get_hub(), mainloop.MainLoop()
print(aside(main.kind))
gone = weakref.ref(hub)
hub.destroy(destroy_loop=True)
mainloop._calls = None
del hub
gc.collect()
print(gone() is None, aside(main.kind))
"""
    assert outcome(run, code) == ["gevent", "True", "threads"]


def test_a_loop_without_frames_is_found_by_its_type(run: Run) -> None:
    code = """
main, loop = mainloop.MainLoop(), Frameless()
print(aside(main.kind), aside(lambda: main.call(print)), len(loop.called))
gone = weakref.ref(loop)
del loop
print(gone() is None)
"""
    assert outcome(run, code) == ["asyncio", "True", "1", "True"]


def test_a_loop_without_frames_is_found_by_its_tasks_in_a_large_process(run: Run) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("NOT TESTED: there tasks stand in no set")
    code = """
mainloop.MAX_BLOCKS = 0
class Tasked(Frameless):
    def get_debug(self):
        return False
    def call_soon(self, *arguments, **more):
        pass
async def work():
    pass
loop, outer = Tasked(), work()
task = asyncio.Task(outer, loop=loop)
print(aside(mainloop.MainLoop().kind))
os._exit(sys.stdout.flush() or 0)
"""
    assert outcome(run, code) == ["asyncio"]


def test_a_loop_of_another_thread_is_asked_once(run: Run) -> None:
    code = """
main, loop = mainloop.MainLoop(), Frameless()
print(aside(lambda: main.call(lambda: print("never"))))
(function, *arguments) = loop.called.pop()
aside(lambda: function(*arguments))
print(aside(main.kind), aside(main.lag), loop.called)
"""
    assert outcome(run, code) == ["True", "threads", "None", "[]"]


def test_a_child_does_not_take_its_parents_loop_for_its_own(run: Run) -> None:
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks in programs of several threads
async def look():
    return aside(mainloop.MainLoop().kind)
def forks():
    pid = os.fork()
    if not pid:
        print(aside(mainloop.MainLoop().kind), end=" ")
        asyncio.events._set_running_loop(None)
        print(asyncio.run(look()), end=" ")
        print(aside(mainloop.MainLoop().kind), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
async def serve():
    done = asyncio.Event()
    asyncio.get_running_loop().call_soon(forks)
    asyncio.get_running_loop().call_soon(done.set)
    await done.wait()
    print(await look())
asyncio.run(serve())
"""
    assert outcome(run, code) == ["threads", "asyncio", "threads", "asyncio"]


def test_samples_are_written_also_where_nobody_may_look_at_frames(run: Run) -> None:
    code = """
import mmdebug
from mmdebug.installation import installation
def refuses(event, arguments):
    if event == "sys._current_frames":
        raise RuntimeError("not here")
async def serve():
    await asyncio.sleep(0)
    mmdebug.install(interval=0.05)
    sampler = installation().sampler
    before, looks = sampler._runtime.look, []
    sampler._runtime.look = lambda lag: (looks.append(lag), before(lag))[1]
    sys.addaudithook(refuses)
    deadline = time.monotonic() + 30
    sampler._main = mainloop.MainLoop()
    while len(looks) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    print(len(looks) >= 3)
asyncio.run(serve())
"""
    assert outcome(run, code) == ["True"]


def test_handlers_are_attached_while_somebody_holds_loggings_lock(run: Run) -> None:
    code = """
import logging
from mmdebug import logs
handler, logger = logs.Handler(), logging.getLogger("server")
logger.propagate = False
logger.addHandler(logging.NullHandler())
done = threading.Event()
with logging._lock:
    native.start_thread(lambda: (logs.attach(handler), done.set()))
    print(done.wait(30))
beside = logger.handlers[-1]
print(type(beside) is logs._Beside, beside.level, beside.filters, beside.formatter)
beside.addFilter(lambda record: False)
logger.warning("")
logger.removeHandler(beside)
beside.close()
logs.detach(handler)
print(repr(beside) != "")
"""
    assert outcome(run, code) == ["True", "True", "0", "[]", "None", "True"]


def test_threads_are_not_looked_at_where_other_interpreters_run_beside_them(run: Run) -> None:
    if sys.version_info < (3, 12):
        pytest.skip("NOT TESTED: there all interpreters share one lock")
    pytest.importorskip("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
    code = """
try:
    import _interpreters
except ImportError:
    import _xxsubinterpreters as _interpreters
from mmdebug.stacks import walking
from mmdebug.stacks.take import prepare, take
prepare()
main = native.main_ident()
print(bool(walking.of_thread(main)), len(walking.threads()) > 0, take().problems)
other = _interpreters.create()
print(walking.of_thread(main), walking.threads(), walking.selves(main, {1}), take().problems == (walking.SEVERAL,))
ends = time.monotonic() + 2
busy = f'''
import time
def down(n):
    return down(n - 1) + 1 if n else 0
while time.monotonic() < {ends}:
    down(20)
'''
thread = threading.Thread(target=lambda: _interpreters.run_string(other, busy))
thread.start()
main = mainloop.MainLoop()
while thread.is_alive():
    take()
    main.kind()
thread.join()
_interpreters.destroy(other)
print(len(walking.threads()) > 0)
"""
    assert outcome(run, code) == ["True", "True", "()", "[]", "[]", "[]", "True", "True"]
