"""Stacks as data, text, JSON and HTML, and what is taken in a process itself."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Program, wait_for

from mmdebug import pages
from mmdebug.errors import AttachError, ProtocolError
from mmdebug.stacks import Frame, Stack, Stacks, Wait, from_dict, html, pyspy, sockets, text, walking
from mmdebug.stacks import greenlets as greenlet_stacks
from mmdebug.stacks import tasks as task_stacks
from mmdebug.stacks.take import prepare, take
from mmstats.errors import ConfigurationError

prepare()

ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)

SERVE = Frame("/srv/app.py", 31, "serve", "pool.spawn(handle, connection)")
HANDLE = Frame("/srv/app.py", 52, "handle", "row = db.fetch(key)")
FETCH = Frame("/srv/env/lib/python3.12/site-packages/db/client.py", 9, "Client.fetch", "self._lock.acquire()")
LOOP = Frame("/srv/env/lib/python3.12/site-packages/gevent/hub.py", 647, "Hub.run", "loop.run()")


def stacks(*several: Stack, **more: Any) -> Stacks:
    total: dict[str, int] = {}
    for stack in several:
        total[stack.kind] = total.get(stack.kind, 0) + stack.count
    return Stacks(4711, 1_700_000_000_000_000_000, 0.081, several, total, **more)


EXAMPLE = stacks(
    Stack("greenlet", 1, ("flusher",), (9,), (HANDLE,), spawned=(SERVE,), wait=Wait("sleep")),
    Stack(
        "greenlet", 312, ("a", "b", "c", "d"), (1, 2, 3, 4), (HANDLE, FETCH), spawned=(SERVE, LOOP),
        wait=Wait("lock", "gevent.lock.RLock at 0x7f00", "greenlet flusher (app.py:88 in flush)"),
    ),
    Stack("thread", 1, ("worker",), (5,), (HANDLE,)),
    Stack("thread", 1, ("MainThread",), (7,), (LOOP,), wait=Wait("other", "events, in its hub")),
)  # fmt: skip

SHOWN = """\
pid 4711: 2 threads, 313 greenlets; taken 2023-11-14 22:13:20 UTC in 81 ms

thread MainThread
  waits for events, in its hub
  gevent/hub.py:647 Hub.run  loop.run()

thread worker
  /srv/app.py:52 handle  row = db.fetch(key)

312 greenlets alike (a, b, c, ...), spawned at /srv/app.py:31 in serve
  waits for a lock: gevent.lock.RLock at 0x7f00
  held by greenlet flusher (app.py:88 in flush)
  /srv/app.py:52 handle  row = db.fetch(key)
  db/client.py:9 Client.fetch  self._lock.acquire()

greenlet flusher, spawned at /srv/app.py:31 in serve
  sleeps
  /srv/app.py:52 handle  row = db.fetch(key)"""


def test_a_person_sees_the_main_thread_first_and_then_the_largest_groups() -> None:
    assert text.render(EXAMPLE) == SHOWN
    assert str(EXAMPLE) == SHOWN


def test_colours_are_only_for_those_who_ask() -> None:
    coloured = text.render(EXAMPLE, colour=True)
    assert "\x1b[1mthread MainThread\x1b[0m" in coloured
    assert "\x1b" not in text.render(EXAMPLE)


def test_nothing_of_a_process_moves_the_cursor_or_writes_markup() -> None:
    evil = "\x1b[2J<script>alert(1)</script>\r\n\u202e\x9b"
    frame = Frame(evil, 1, evil, evil)
    found = stacks(
        Stack("task", 3, (evil,) * 3, (1, 2, 3), (frame,), spawned=(frame,), wait=Wait("lock", evil, evil)),
        Stack("thread", 1, (evil,), (1,), (frame,), wait=Wait(evil, evil)),
        problems=(evil,), source=evil,
    )  # fmt: skip
    for shown in (text.render(found), text.render(found, everything=True)):
        assert all([character == "\n" or character.isprintable() for character in shown])
    for shown in (html.fragment(found), html.page(found)):
        assert "<script" not in shown
        assert "&lt;script&gt;" in shown
        assert all([character == "\n" or character.isprintable() for character in shown])


def test_a_recursion_is_one_line_and_a_deep_stack_has_its_middle_left_out() -> None:
    deep = tuple([Frame("/srv/deep.py", line, f"call_{line}") for line in range(1, 101)])
    found = stacks(Stack("thread", 1, ("MainThread",), (1,), (SERVE, *[HANDLE] * 500, *deep), cut=300))
    shown = text.render(found)
    assert "... 300 outer calls are left out" in shown
    assert "the same 499 times more" in shown
    assert "... 72 more calls: --all shows them" in shown
    assert "call_100" in shown and "call_50" not in shown
    assert "call_50" in text.render(found, everything=True)


def test_what_is_not_shown_is_counted() -> None:
    found = stacks(*[Stack("greenlet", 2, (), (n,), (Frame("/srv/a.py", n, "f"),)) for n in range(1, 101)])
    assert text.render(found).endswith("and 120 more stacks in 60 groups: --all shows them")
    assert "/srv/a.py:100" in text.render(found, everything=True)


def test_a_greenlet_that_runs_is_not_shown_twice() -> None:
    found = stacks(
        Stack("thread", 1, ("MainThread",), (7,), (SERVE, HANDLE), running=True),
        Stack("greenlet", 1, ("busy",), (8,), (SERVE, HANDLE), running=True),
    )
    assert text.render(found).count("/srv/app.py:52") == 1
    assert "in the thread MainThread, whose calls are above" in text.render(found)


def test_a_page_needs_nothing_else_and_a_fragment_stands_in_a_notebook() -> None:
    page = html.page(EXAMPLE)
    assert page.startswith("<!DOCTYPE html>")
    assert "default-src 'none'" in page and "src=" not in page.replace("style-src", "")
    assert "312 greenlets alike" in page and "row = db.fetch(key)" in page
    assert page.count("<style>") == 1
    fragment = EXAMPLE._repr_html_()
    assert fragment.startswith('<div class="mmstacks">') and fragment.count("<style>") == 1


def test_without_jinja2_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pages._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigurationError, match=r"mmstats\[html\]"):
        html.page(EXAMPLE)
    pages._environment.cache_clear()


# As data.


def test_stacks_cross_as_json_and_come_back_as_they_were() -> None:
    assert from_dict(json.loads(json.dumps(EXAMPLE.to_dict()))) == EXAMPLE


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_no_stacks_is_refused(found: Any) -> None:
    with pytest.raises(ProtocolError):
        from_dict(found)


@pytest.mark.parametrize("name", ["pid", "taken", "seconds", "stacks", "total", "problems", "source", "schema"])
def test_stacks_that_miss_something_are_refused(name: str) -> None:
    found = EXAMPLE.to_dict()
    for wrong in ({k: v for k, v in found.items() if k != name}, {**found, name: [None]}, {**found, name: -1}):
        with pytest.raises(ProtocolError):
            from_dict(wrong)


# Taken here.


@pytest.fixture
def waiting() -> Iterator[dict[str, threading.Thread]]:
    """Threads that wait in ways that can be told."""
    lock, event, things, end = threading.RLock(), threading.Event(), queue.Queue[int](), threading.Event()
    lock.acquire()
    condition = threading.Condition()

    def waits_in_condition() -> None:
        with condition:
            condition.wait()

    targets: dict[str, Callable[[], Any]] = {"event": event.wait, "queue": things.get, "condition": waits_in_condition}
    threads = {name: threading.Thread(target=target, name=name, daemon=True) for name, target in targets.items()}
    threads["thread"] = threading.Thread(target=threads["event"].join, name="thread", daemon=True)
    for thread in threads.values():
        thread.start()
    yield threads
    event.set()
    things.put(1)
    with condition:
        condition.notify_all()
    end.set()
    for thread in threads.values():
        thread.join()


def test_threads_are_told_with_their_names_and_what_they_wait_for(waiting: dict[str, threading.Thread]) -> None:
    def found() -> dict[str, Stack]:
        return {stack.names[0]: stack for stack in take(everything=True).stacks if stack.names}

    waits = {"event": "event", "queue": "queue", "condition": "event", "thread": "thread"}
    wait_for(lambda: {n: s.wait.what for n, s in found().items() if n in waits and s.wait} == waits)
    here = found()["MainThread"]
    assert here.idents == (threading.main_thread().ident,)
    assert [frame.source for frame in here.frames if frame.function.endswith("everything") or "found" in frame.function]


def test_the_thread_that_takes_is_left_out_unless_everything_is_asked_for() -> None:
    taken: list[Stacks] = []
    for everything in (False, True):
        thread = threading.Thread(target=lambda: taken.append(take(everything)), name="taker")
        thread.start()
        thread.join()
    names = [[name for stack in found.stacks for name in stack.names] for found in taken]
    assert "taker" not in names[0] and "taker" in names[1]
    assert "MainThread" in names[0]


def test_a_secret_in_a_line_of_source_is_not_shown() -> None:
    done = threading.Event()

    def connects(password: str) -> None:
        done.wait()

    thread = threading.Thread(target=lambda: connects(password="hunter2hunter2"))
    thread.start()
    try:
        shown = wait_for(lambda: shown if "connects" in (shown := str(take(True))) else "")
    finally:
        done.set()
        thread.join()
    assert "hunter2" not in shown


class Trap:
    """Fails a test that runs code of the program."""

    armed = False
    sprung: list[str] = []  # noqa: RUF012

    def __getattribute__(self, name: str) -> Any:
        if Trap.armed:
            Trap.sprung.append(name)
        return object.__getattribute__(self, name)

    __class__ = property(lambda self: Trap.sprung.append("__class__") if Trap.armed else Trap)  # type: ignore[assignment]

    def __repr__(self) -> str:
        Trap.sprung.append("repr")
        return "trap"


def test_no_code_of_the_program_runs() -> None:
    class Hashless(type):
        def __eq__(cls, other: object) -> bool:
            Trap.sprung.append("metaclass")
            return NotImplemented

        __hash__ = None  # type: ignore[assignment]

    traps = [Trap(), Hashless("Odd", (), {})()]
    Trap.armed = True
    try:
        take(everything=True)
    finally:
        Trap.armed = False
    assert Trap.sprung == []
    assert traps


def test_no_metaclass_of_what_a_task_awaits_is_asked() -> None:
    class Counted(type):
        def __hash__(cls) -> int:
            asked.append(cls)
            return 1

    class Steps(metaclass=Counted):
        def __init__(self, future: asyncio.Future[None]) -> None:
            self.futures = [future]

        def __await__(self) -> Any:
            return self

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            if not self.futures:
                raise StopIteration
            self.futures[0]._asyncio_future_blocking = True
            return self.futures.pop()

    async def waits() -> None:
        await Steps(asyncio.get_running_loop().create_future())

    async def main() -> Stacks:
        task = asyncio.create_task(waits())
        await asyncio.sleep(0.01)
        asked.clear()
        try:
            return await asyncio.to_thread(take)
        finally:
            task.cancel()

    asked: list[type] = []
    assert asyncio.run(main()).total["task"] == 2
    assert asked == []


def test_a_property_in_the_place_of_the_attributes_is_not_run() -> None:
    class Hidden:
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("code of the program")

    hidden = Hidden()
    object.__setattr__(hidden, "name", 1)
    assert greenlet_stacks.instance_value(hidden, "name") is None
    assert greenlet_stacks.instance_value(threading.current_thread(), "_name") == "MainThread"
    assert greenlet_stacks.instance_value(1, "_name") is None


def test_what_a_method_belongs_to_is_found_in_a_stack_and_not_kept() -> None:
    class Server:
        child: Any = None

        def serve(self) -> list[Any]:
            return [walking.selves(threading.get_ident(), codes, *then) for then in ((), (attrgetter("child"),))]

    codes = {id(Server.serve.__code__)}
    assert walking.selves(threading.get_ident(), set()) == []
    server = Server()
    assert [[found() for found in several] for several in server.serve()] == [[server], []]


def test_the_collector_is_as_it_was() -> None:
    import gc

    for state in (True, False):
        (gc.enable if state else gc.disable)()
        try:
            walking.at_once(lambda: None)
            with pytest.raises(ZeroDivisionError):
                walking.at_once(lambda: 1 / 0)
            assert gc.isenabled() is state
        finally:
            gc.enable()


def test_tasks_are_told_with_their_coroutines_and_what_they_await() -> None:
    async def waits_for(what: Any) -> None:
        await what

    async def main() -> Stacks:
        lock, event, things = asyncio.Lock(), asyncio.Event(), asyncio.Queue[int]()
        await lock.acquire()
        sleeper = asyncio.create_task(waits_for(asyncio.sleep(100)), name="sleep")
        others = {"lock": lock.acquire(), "event": event.wait(), "queue": things.get(), "task": sleeper}
        tasks = [sleeper, *[asyncio.create_task(waits_for(what), name=name) for name, what in others.items()]]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(waits_for(asyncio.sleep(0)), name="new"))
        try:
            return await asyncio.to_thread(take)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    found = {stack.names[0]: stack for stack in asyncio.run(main()).stacks if stack.kind == "task"}
    for name in ("lock", "event", "queue", "sleep"):
        stack = found[name]
        assert stack.wait is not None and stack.wait.what == name
        assert stack.frames[0].function.endswith("waits_for")
    assert found["lock"].wait is not None and found["lock"].wait.detail.startswith("asyncio.locks.Lock at 0x")
    assert found["task"].wait == Wait("task", "task sleep")


def test_a_task_that_runs_is_told_as_far_in_as_it_is() -> None:
    async def main() -> Stacks:
        def takes() -> Stacks:
            found: list[Stacks] = []
            thread = threading.Thread(target=lambda: found.append(take()))
            thread.start()
            thread.join()
            return found[0]

        return takes()

    found = asyncio.run(main())
    (task,) = [stack for stack in found.stacks if stack.kind == "task"]
    assert task.running
    assert [frame.function.rpartition(".")[2] for frame in task.frames][:2] == ["main", "takes"]


def test_what_a_generator_drives_by_hand_is_seen_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    @types.coroutine
    def drives(inner: Any) -> Iterator[Any]:
        value = None
        while True:
            try:
                future = inner.send(value)
            except StopIteration:
                return
            value = yield future

    async def waits() -> None:
        await asyncio.sleep(100)

    async def outer() -> None:
        await drives(waits())

    async def main() -> list[str]:
        task = asyncio.create_task(outer(), name="driven")
        await asyncio.sleep(0.01)
        try:
            found = await asyncio.to_thread(take)
        finally:
            task.cancel()
        (stack,) = [stack for stack in found.stacks if stack.names == ("driven",)]
        return [frame.function.rpartition(".")[2] for frame in stack.frames]

    assert asyncio.run(main()) == ["outer", "drives"]
    monkeypatch.setitem(task_stacks.BEHIND, id(drives.__code__), lambda found: found.gi_frame.f_locals["inner"])
    assert asyncio.run(main()) == ["outer", "waits", "sleep"]
    monkeypatch.setitem(task_stacks.BEHIND, id(drives.__code__), lambda found: 1 / 0)
    assert asyncio.run(main()) == ["outer"]


# Sockets.


def test_both_ends_of_a_socket_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert sockets.name_of(server.fileno()) == f"listening at 127.0.0.1:{port}"
        with socket.create_connection(("127.0.0.1", port)) as client:
            here = f"127.0.0.1:{client.getsockname()[1]}"
            assert sockets.name_of(client.fileno()) == f"127.0.0.1:{port} from {here}"
    assert sockets.name_of(10**6) == "descriptor 1000000"


@pytest.mark.parametrize(
    ("raw", "bsd", "expected"),
    [
        (b"", False, ""),
        (socket.AF_INET.to_bytes(2, sys.byteorder) + bytes([0, 80, 10, 0, 0, 1]), False, "10.0.0.1:80"),
        (bytes([16, socket.AF_INET, 0, 80, 10, 0, 0, 1]), True, "10.0.0.1:80"),
        (socket.AF_INET6.to_bytes(2, sys.byteorder) + bytes([1, 0, *[0] * 19, 1]) + bytes(2), False, ""),
        (socket.AF_INET6.to_bytes(2, sys.byteorder) + bytes([1, 0, 0, 0, 0, 0, *[0] * 15, 1]), False, "[::1]:256"),
        (socket.AF_UNIX.to_bytes(2, sys.byteorder) + b"/run/db\x1b.sock\0", False, "unix:/run/db\\x1b.sock"),
        (socket.AF_UNIX.to_bytes(2, sys.byteorder) + b"\0bus", False, "unix:@bus"),
        (socket.AF_UNIX.to_bytes(2, sys.byteorder), False, "a unix socket"),
    ],
)
def test_an_address_is_put_in_words(raw: bytes, bsd: bool, expected: str) -> None:
    if expected == "" and len(raw) > 2:
        raw = raw[:20]
    assert sockets.address(raw, bsd) == expected


# By py-spy.

DUMP = [
    {"pid": 9, "thread_id": 5, "thread_name": "w\x1b", "os_thread_id": 10, "active": False,
     "frames": [{"name": "inner", "filename": "/srv/a.py", "line": 3},
                {"name": "outer", "filename": "/srv/a.py", "line": 0}]},
    {"pid": 9, "thread_id": 6, "thread_name": None, "os_thread_id": 9, "active": True, "frames": []},
]  # fmt: skip


def test_what_py_spy_prints_becomes_stacks_and_says_what_is_missing() -> None:
    found = pyspy.parse(9, json.dumps(DUMP).encode(), 1, 0.1)
    assert [stack.names for stack in found.stacks] == [("MainThread",), ("w\x1b",)]
    assert [frame.function for frame in found.stacks[1].frames] == ["outer", "inner"]
    assert found.stacks[1].frames[0].line is None
    assert found.stacks[0].running
    assert found.source == "py-spy" and "greenlets" in found.problems[0] and "install()" in found.problems[0]
    assert from_dict(found.to_dict()) == found


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_an_answer_of_another_shape_is_an_error_that_says_so(found: Any) -> None:
    if found == []:
        return
    with pytest.raises(AttachError, match="can't be read"):
        pyspy.parse(1, json.dumps(found).encode(), 1, 0.0)


@pytest.mark.parametrize(
    ("said", "there", "expected"),
    [
        ("Error: Failed\nCaused by: No such file or directory (os error 2)", False, "there is no process 7"),
        ("Error: Permission Denied: Try running again", True, "SYS_PTRACE"),
        ("Error: x\n 0: Operation not permitted (os error 1)", True, "ptrace_scope"),
        ("Error: Failed to find python version from target process", True, "no Python that it knows"),
        ("", True, "it says nothing"),
    ],
)
def test_a_failure_of_py_spy_says_what_to_do(said: str, there: bool, expected: str) -> None:
    assert expected in pyspy.failure(7, said, there)


def test_without_py_spy_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "find", lambda: None)
    with pytest.raises(AttachError, match="pip install py-spy"):
        pyspy.dump(1)


# Greenlets, in a program of their own.

GEVENT = """
import _thread, json, sys
import gevent, gevent.event, gevent.lock, gevent.queue, gevent.socket
from mmdebug.stacks.take import prepare, take
prepare()
recursive, semaphore, event = gevent.lock.RLock(), gevent.lock.Semaphore(0), gevent.event.Event()
empty, full = gevent.queue.Queue(), gevent.queue.Queue(1)
full.put(1)
here, there = gevent.socket.socketpair()
server = gevent.socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
def holds():
    with recursive:
        gevent.sleep(1000)
holder = gevent.spawn(holds)
holder.name = "holder"
gevent.sleep(0)
many = {
    "recursive": recursive.acquire, "semaphore": semaphore.acquire, "event": event.wait, "empty": empty.get,
    "full": lambda: full.put(2), "sleep": lambda: gevent.sleep(1000), "socket": server.accept,
    "several": lambda: gevent.joinall([holder, holder]),
}
def runs(function):
    function()
for name, function in many.items():
    gevent.spawn(runs, function).name = name
def crowd():
    event.wait()
for _ in range(300):
    gevent.spawn(crowd)
gevent.sleep(0.05)
found = []
def native():
    found.append(take())
class Named(gevent.Greenlet):
    @property
    def gr_frame(self):
        raise RuntimeError("code of the program")
    dead = name = gr_frame
mine = Named(event.wait)
mine.start()
def busy():
    gevent.spawn(crowd).name = "new"
    _thread.start_new_thread(native, ())
    while not found:
        sum(range(1000))
runner = gevent.spawn(busy)
runner.name = "runner"
runner.join()
print(json.dumps([found[0].to_dict(), server.getsockname()[1]]))
"""


@pytest.fixture(scope="module")
def greenlets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stacks, int]:
    pytest.importorskip("gevent")
    program = Program(GEVENT, tmp_path_factory.mktemp("stats"))
    out, _ = program.finish()
    found, port = json.loads(out)
    return from_dict(found), port


@pytest.mark.parametrize(
    ("name", "what", "detail", "holder"),
    [
        ("recursive", "lock", "gevent.lock.Semaphore at 0x", "greenlet holder ("),
        ("semaphore", "lock", "gevent.lock.Semaphore at 0x", ""),
        ("event", "event", "gevent.event.Event at 0x", ""),
        ("empty", "queue", "empty, 1 wait for it", ""),
        ("full", "queue", "full, 1 wait for it", ""),
        ("sleep", "sleep", "", ""),
        ("socket", "socket", "listening at 127.0.0.1:", ""),
        ("several", "greenlet", "greenlets or events", ""),
        ("new", "other", "its first turn, to run crowd", ""),
    ],
)
def test_what_a_greenlet_waits_for_is_told(
    greenlets: tuple[Stacks, int], name: str, what: str, detail: str, holder: str
) -> None:
    (stack,) = [stack for stack in greenlets[0].stacks if name in stack.names]
    assert stack.wait is not None
    assert (stack.wait.what, detail in stack.wait.detail) == (what, True), stack.wait
    assert stack.wait.holder.startswith(holder) and bool(stack.wait.holder) is bool(holder)


def test_alike_greenlets_are_one_group_with_where_they_were_spawned(greenlets: tuple[Stacks, int]) -> None:
    found = greenlets[0]
    (group,) = [stack for stack in found.stacks if stack.count == 300]
    assert [frame.function for frame in group.frames] == ["crowd"]
    assert group.spawned and group.wait is not None and group.wait.what == "event"
    assert "302 wait for it" in group.wait.detail
    assert found.total["greenlet"] == 300 + 12 + 1  # the named ones, Named, and the thread's own


def test_a_greenlet_that_runs_has_its_threads_calls(greenlets: tuple[Stacks, int]) -> None:
    (runner,) = [stack for stack in greenlets[0].stacks if "runner" in stack.names]
    assert runner.running and runner.frames[0].function == "busy"
    main = greenlets[0].stacks[0]
    assert main.names == ("MainThread",) and main.running and main.frames[0].function == "busy"
    assert greenlets[0].problems == ()
