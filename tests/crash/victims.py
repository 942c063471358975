"""Programs that record themselves, and die: of each death one, under plain threads, gevent or asyncio.

Started as ``victims.main("segfault", "gevent")`` in a process of their own. Each first prints its pid
and the path of its stat file; those that wait for their end from outside print ``ready`` when it may come.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

STYLES = ("threads", "gevent", "asyncio")
#: Requests in flight where there are several.
USERS = (42, 43, 44)


def main(name: str, style: str) -> None:
    """Be a victim: prepare as a program of that style would, and die."""
    if style == "gevent":
        from gevent import monkey

        monkey.patch_all()
    elif style == "asyncio":
        import asyncio

        del asyncio
    import mmdebug
    import mmstats

    mmdebug.install()

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField(labelnames=("path",))

    stats = Stats()
    for _ in range(3):
        stats.requests.labels("/users").inc()
    mmdebug.event("cache.miss", key="k1", size=12)
    print(os.getpid(), stats.filename, flush=True)
    DEATHS[name](style)


def ready() -> None:
    print("ready", flush=True)


def seen(style: str) -> bool:
    """Whether the recorder knows gevent or asyncio by now: where they came after it, from its next sample on."""
    from mmdebug import rings

    return style == "threads" or rings.here()[1] != 0


def run_within(style: str, work: Callable[[], object]) -> None:
    """Run `work` in a thread, greenlet or task, and go on when that has ended, whatever it raised."""
    if style == "threads":
        import threading

        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
    elif style == "gevent":
        import gevent

        def greenlet() -> None:
            while not seen(style):
                gevent.sleep(0.01)
            work()

        gevent.joinall([gevent.spawn(greenlet)])
    else:
        import asyncio
        import gc

        async def task() -> None:
            while not seen(style):
                await asyncio.sleep(0.01)
            work()

        async def run() -> None:
            pending = asyncio.create_task(task())
            await asyncio.wait([pending])
            del pending
            gc.collect()  # a task tells of an error that nobody fetched when it goes

        asyncio.run(run())


def requests_in_flight(style: str, started: Callable[[], None]) -> None:
    """Serve `USERS` all at once, each in an activity within an activity, for ever; call `started` once all are."""
    import mmdebug

    waiting: set[int] = set()

    def request(user: int) -> None:
        while not seen(style):
            time.sleep(0.01)
        with mmdebug.activity("GET /users/<id>", user=user), mmdebug.activity("db.query", table="users", number=user):
            waiting.add(user)
            while True:
                time.sleep(0.01)
                if len(waiting) == len(USERS) and user == USERS[0]:
                    waiting.clear()
                    started()

    async def request_async(user: int) -> None:
        import asyncio

        while not seen(style):
            await asyncio.sleep(0.01)
        with mmdebug.activity("GET /users/<id>", user=user), mmdebug.activity("db.query", table="users", number=user):
            waiting.add(user)
            while True:
                await asyncio.sleep(0.01)
                if len(waiting) == len(USERS) and user == USERS[0]:
                    waiting.clear()
                    started()

    if style == "asyncio":
        import asyncio

        async def serve() -> None:
            await asyncio.gather(*[request_async(user) for user in USERS])

        asyncio.run(serve())
    else:
        import threading

        threads = [threading.Thread(target=request, args=(user,), name=f"request {user}") for user in USERS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


# From outside.


def wait(style: str) -> None:
    """Be in the middle of requests until killed."""
    requests_in_flight(style, ready)


def leave_on_sigterm(style: str) -> None:
    """Handle SIGTERM, as servers do, by leaving."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    ready()
    while not stop:
        time.sleep(0.01)


def exit_on_sigterm(style: str) -> None:
    """Handle SIGTERM by sys.exit(143), as some do."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ready()
    while True:
        time.sleep(0.01)


def hang(style: str) -> None:
    """Block in a request, and with it the whole loop where there is one."""
    import mmdebug

    native_sleep = time.sleep
    if style == "gevent":
        from gevent import monkey

        native_sleep = monkey.get_original("time", "sleep")

    def request() -> None:
        with mmdebug.activity("GET /report", customer=7):
            ready()
            while True:
                native_sleep(1)

    run_within(style, request)


# By itself.


def segfault(style: str) -> None:
    import ctypes

    import mmdebug

    def request() -> None:
        with mmdebug.activity("GET /crash", user=42):
            ctypes.string_at(0)

    run_within(style, request)


def abort(style: str) -> None:
    import mmdebug

    def request() -> None:
        with mmdebug.activity("GET /crash", user=42):
            os.abort()

    run_within(style, request)


def overflow(style: str) -> None:
    """Recurse through C in the main thread; gevent's greenlets and asyncio's tasks run on its stack."""
    sys.setrecursionlimit(10**9)

    def deeper(_: int = 0) -> Any:
        return list(map(deeper, [0]))

    if style == "threads":
        deeper()
    else:
        run_within(style, deeper)


def leave_at_once(style: str) -> None:
    import mmdebug

    def request() -> None:
        with mmdebug.activity("POST /shutdown"):
            os._exit(3)

    run_within(style, request)


class OrderError(Exception):
    pass


def _order(number: int) -> None:
    try:
        {}["price"]
    except KeyError as error:
        raise OrderError(f"order {number} has no price") from error


def raise_in_main(style: str) -> None:
    """Nobody catches an error in the main thread, main greenlet or main coroutine."""
    if style == "asyncio":
        import asyncio

        async def run() -> None:
            _order(7)

        asyncio.run(run())
    _order(7)


def raise_within(style: str) -> None:
    """Nobody catches an error of a request; the process goes on, and leaves cleanly."""
    run_within(style, lambda: _order(7))


def raise_within_and_wait(style: str) -> None:
    """The same, and the process waits to be killed."""
    run_within(style, lambda: _order(7))
    ready()
    while True:
        time.sleep(1)


def exit_1(style: str) -> None:
    if style == "asyncio":
        import asyncio

        async def run() -> None:
            sys.exit(1)

        asyncio.run(run())
    sys.exit(1)


def end(style: str) -> None:
    """A clean end."""
    run_within(style, lambda: None)


def exhaust(style: str) -> None:
    """Keep allocating what is never given back, small and large, until nothing is left."""
    import mmdebug

    with mmdebug.activity("import", rows=10**9):
        size = 1 << 22
        while True:
            try:
                _kept.append(bytearray(size))
            except MemoryError:
                if size < 64:
                    raise
                size //= 2


_kept: list[bytearray] = []


def ask_for_too_much(style: str) -> None:
    """One allocation that can't be had, as of a table that is read whole; the rest of memory is free."""
    import mmdebug

    with mmdebug.activity("import", rows=10**9):
        _kept.append(bytearray(1 << 50))


def grow(style: str) -> None:
    """Take ever more memory, slowly enough for a few samples to see it; somebody else sets the limit."""
    import mmdebug

    with mmdebug.activity("load everything"):
        while True:
            _kept.append(bytearray(os.urandom(1) * (1 << 20)))
            time.sleep(0.02)


DEATHS: dict[str, Callable[[str], None]] = {
    function.__name__: function
    for function in (
        wait, leave_on_sigterm, exit_on_sigterm, hang, segfault, abort, overflow, leave_at_once, raise_in_main,
        raise_within, raise_within_and_wait, exit_1, end, exhaust, ask_for_too_much, grow,
    )
}  # fmt: skip
