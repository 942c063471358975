"""Real programs with errors that nobody catches: each is recorded, and the program behaves as it does without us."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Program

# HOOKS says whether we are there: what a program prints must not depend on it.
HOOKS = """
    import os, sys, threading, gc

    def record(error, how, fatal):
        assert isinstance(error, BaseException) and isinstance(fatal, bool)
        with open(os.environ["RECORD"], "a") as file:
            traced = error.__traceback__ is not None
            print(how, "fatal" if fatal else "-", type(error).__name__, error, traced, sep="|", file=file)

    def failing_record(error, how, fatal):
        record(error, how, fatal)
        raise RuntimeError("the recorder is broken")

    def install(record=record):
        if os.environ["HOOKS"] != "no":
            from mmdebug import hooks
            hooks.install(record)

    def refresh():
        if os.environ["HOOKS"] != "no":
            from mmdebug import hooks
            hooks.refresh()

    def uninstall():
        if os.environ["HOOKS"] != "no":
            from mmdebug import hooks
            hooks.uninstall()
"""

PATCH = """
    from gevent import monkey
    monkey.patch_all()
    import gevent
"""

INSTALL = """
    install()
"""

#: Where the hooks are installed, in regard of gevent's patches.
ORDERS = {
    "plain threads": HOOKS + INSTALL,
    "gevent patched before": PATCH + HOOKS + INSTALL,
    "gevent patched after": HOOKS + INSTALL + PATCH + "\n    refresh()\n",
}


def normal(text: str) -> str:
    """Without addresses and times."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)


@pytest.fixture
def compare(run: Callable[..., Program], tmp_path: Path) -> Callable[..., tuple[list[str], str, str]]:
    """Run a program with and without us; both must print the same. Returns the records, stdout and stderr."""

    def compare(source: str, status: int = 0) -> tuple[list[str], str, str]:
        file = tmp_path / "records"
        file.write_text("")
        env = {"RECORD": str(file)}
        with_us = run(source, env={**env, "HOOKS": "yes"}).finish(status)
        records = file.read_text().splitlines()
        without = run(source, env={**env, "HOOKS": "no"}).finish(status)
        assert normal(with_us[1]) == normal(without[1])
        assert with_us[0] == without[0]
        return records, *with_us

    return compare


Compare = Callable[..., tuple[list[str], str, str]]


def start(order: str) -> str:
    if order.startswith("gevent"):
        pytest.importorskip("gevent")
    return ORDERS[order]


@pytest.mark.parametrize("order", ORDERS)
def test_an_error_that_ends_the_main_thread_is_fatal(order: str, compare: Compare) -> None:
    records, _, err = compare(start(order) + "\n    {}['key']", 1)
    assert records == ["main thread|fatal|KeyError|'key'|True"]
    assert "KeyError: 'key'" in err


@pytest.mark.parametrize("order", ORDERS)
def test_an_error_that_ends_a_thread_is_recorded_and_not_fatal(order: str, compare: Compare) -> None:
    body = """
    def work():
        1 / 0
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    print("on")
    """
    records, out, err = compare(start(order) + body)
    assert records == ["thread|-|ZeroDivisionError|division by zero|True"]
    assert out == "on\n"
    assert "Exception in thread worker" in err


@pytest.mark.parametrize("order", ORDERS)
def test_an_error_in_a_finalizer_is_recorded(order: str, compare: Compare) -> None:
    body = """
    class Leaving:
        def __del__(self):
            raise ValueError("late")
    Leaving()
    print("on")
    """
    records, out, err = compare(start(order) + body)
    assert records == ["unraisable|-|ValueError|late|True"]
    assert out == "on\n" and "Exception ignored in" in err


def test_an_error_of_a_bare_thread_is_recorded(compare: Compare) -> None:
    body = """
    import _thread
    done = threading.Semaphore(0)
    class Leaving:
        def __del__(self):
            done.release()
    def work(leaving):
        raise ValueError("bare")
    hook = sys.unraisablehook
    def after(args):
        hook(args)
        done.release()
    sys.unraisablehook = after
    _thread.start_new_thread(work, (None,))
    done.acquire()
    """
    records, _, _ = compare(ORDERS["plain threads"] + body)
    assert records == ["unraisable|-|ValueError|bare|True"]


@pytest.mark.parametrize("order", ORDERS)
def test_exits_are_no_errors(order: str, compare: Compare) -> None:
    body = """
    def leave():
        sys.exit(3)
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    """
    if order.startswith("gevent"):
        body += """
    def killed():
        gevent.sleep(100)
    greenlet = gevent.spawn(killed)
    gevent.sleep(0)
    greenlet.kill()
    """
    records, _, err = compare(start(order) + body + "\n    sys.exit(3)", 3)
    assert records == [] and err == ""


def test_an_interrupt_that_ends_the_program_is_fatal(compare: Compare) -> None:
    records, _, _ = compare(ORDERS["plain threads"] + "\n    import signal; os.kill(os.getpid(), signal.SIGINT)", -2)
    assert records == ["main thread|fatal|KeyboardInterrupt||True"]


def test_at_a_prompt_an_error_ends_nothing(compare: Compare) -> None:
    records, _, _ = compare(ORDERS["plain threads"] + "\n    sys.ps1 = '> '; 1 / 0", 1)
    assert records == ["main thread|-|ZeroDivisionError|division by zero|True"]


@pytest.mark.parametrize("order", ORDERS)
def test_the_main_threads_hook_called_for_another_thread_is_not_fatal(order: str, compare: Compare) -> None:
    body = """
    def work():
        try:
            1 / 0
        except ZeroDivisionError:
            sys.excepthook(*sys.exc_info())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    """
    records, _, _ = compare(start(order) + body)
    assert records == ["thread|-|ZeroDivisionError|division by zero|True"]


# gevent


@pytest.mark.parametrize("order", [name for name in ORDERS if name.startswith("gevent")])
def test_an_error_that_ends_a_greenlet_is_recorded(order: str, compare: Compare) -> None:
    body = """
    def request(number):
        gevent.sleep(0)
        raise ValueError(number)
    gevent.joinall([gevent.spawn(request, 7)])
    def callback():
        raise ValueError("of the loop")
    gevent.get_hub().loop.run_callback(callback)
    gevent.sleep(0.01)
    print("on")
    """
    records, out, err = compare(start(order) + body)
    assert records == ["greenlet|-|ValueError|7|True", "greenlet|-|ValueError|of the loop|True"]
    assert out == "on\n" and "failed with ValueError" in err


def test_hubs_of_all_threads_are_covered(compare: Compare) -> None:
    pytest.importorskip("gevent")
    body = """
    import gevent
    def fail():
        raise ValueError("in a hub of its own")
    def work():
        gevent.spawn(fail).join()
        gevent.get_hub().destroy(destroy_loop=True)
    thread = threading.Thread(target=work)
    install()
    thread.start()
    thread.join()
    """
    records, _, _ = compare(HOOKS + body)
    assert records == ["greenlet|-|ValueError|in a hub of its own|True"]


def test_an_interrupt_in_a_greenlet_ends_the_program_as_before(compare: Compare) -> None:
    pytest.importorskip("gevent")
    body = """
    def interrupted():
        raise KeyboardInterrupt
    gevent.spawn(interrupted).join()
    """
    records, _, _ = compare(ORDERS["gevent patched before"] + body, -2)
    assert records == ["greenlet|-|KeyboardInterrupt||True", "main thread|fatal|KeyboardInterrupt||True"]


# asyncio

LOOPS = {
    "imported before": HOOKS + "\n    import asyncio\n    install()\n    run = asyncio.run\n",
    "imported after": HOOKS + "\n    install()\n    import asyncio\n    refresh()\n    run = asyncio.run\n",
    "uvloop": HOOKS + "\n    install()\n    import asyncio, uvloop\n    refresh()\n    run = uvloop.run\n",
}


def loop(name: str) -> str:
    if name == "uvloop":
        pytest.importorskip("uvloop", reason="NOT TESTED: uvloop is not here")
    return LOOPS[name]


@pytest.mark.parametrize("name", LOOPS)
def test_a_task_whose_error_nobody_fetched_is_recorded(name: str, compare: Compare) -> None:
    body = """
    async def fail():
        raise ValueError("lost")
    async def main():
        asyncio.get_running_loop().call_soon(fetched.append)
        task = asyncio.create_task(fail())
        await asyncio.sleep(0.01)
        del task
        gc.collect()
        # An error that somebody fetches is none of ours.
        await asyncio.gather(asyncio.create_task(fail()), return_exceptions=True)
        print("on")
    fetched = []
    run(main())
    """
    records, out, err = compare(loop(name) + body)
    assert [line.split("|")[:3] for line in records] == [["task", "-", "TypeError"], ["task", "-", "ValueError"]]
    assert records[1] == "task|-|ValueError|lost|True"
    assert out == "on\n" and "never retrieved" in err


@pytest.mark.parametrize("name", LOOPS)
def test_a_loops_own_handler_is_called_as_before(name: str, compare: Compare) -> None:
    body = """
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: print(sorted(context), flush=True))
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        loop.call_exception_handler({"message": "without an error"})
        await asyncio.sleep(0.01)
    run(main())
    """
    records, out, _ = compare(loop(name) + body)
    assert records == ["task|-|ZeroDivisionError|division by zero|True"]
    assert "['exception', 'handle', 'message']" in out and "['message']" in out


def test_an_error_that_ends_the_main_coroutine_is_the_main_threads(compare: Compare) -> None:
    body = """
    async def main():
        raise ValueError("end")
    run(main())
    """
    records, _, _ = compare(LOOPS["imported before"] + body, 1)
    assert records == ["main thread|fatal|ValueError|end|True"]


# What must not change, whatever the recorder and others do.

EVERYTHING = """
    class Leaving:
        def __del__(self):
            raise ValueError("finalizer")
    def work():
        1 / 0
    def everything():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        Leaving()
        import asyncio
        refresh()
        loop = asyncio.new_event_loop()
        loop.call_soon(work)
        loop.call_later(0, loop.stop)
        loop.run_forever()
        loop.close()
"""
EVERYTHING_RECORDED = ["thread", "unraisable", "task", "main thread"]


def hows(records: list[str]) -> list[str]:
    return [line.split("|")[0] for line in records]


def test_a_broken_recorder_changes_nothing(compare: Compare) -> None:
    body = "\n    install(failing_record)\n    everything()\n    raise KeyError('end')"
    records, _, _ = compare(HOOKS + EVERYTHING + body, 1)
    assert hows(records) == EVERYTHING_RECORDED


def test_an_error_within_the_recording_is_not_recorded_again_and_again(compare: Compare) -> None:
    body = """
    def record_with_errors(error, how, fatal):
        record(error, how, fatal)
        class Quiet:
            def __del__(self):
                raise SystemError("within")
        Quiet()
    sys.unraisablehook = lambda args: None
    install(record_with_errors)
    everything()
    raise KeyError('end')
    """
    records, _, _ = compare(HOOKS + EVERYTHING + body, 1)
    assert hows(records) == EVERYTHING_RECORDED


def test_a_signal_handler_that_raises_in_the_recording_is_obeyed_and_the_earlier_hook_runs(
    run: Callable[..., Program], tmp_path: Path
) -> None:
    body = """
    import signal
    def stop(*args):
        raise SystemExit(5)
    signal.signal(signal.SIGTERM, stop)
    def record_and_be_stopped(error, how, fatal):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass
    sys.excepthook = lambda *args: print("earlier", flush=True)
    install(record_and_be_stopped)
    1 / 0
    """
    env = {"RECORD": str(tmp_path / "records"), "HOOKS": "yes"}
    assert run(HOOKS + body, env=env).finish(5)[0] == "earlier\n"


def test_hooks_of_the_program_run_before_and_after_ours(compare: Compare) -> None:
    body = """
    def note(name, hook):
        def noting(*args):
            print(name, flush=True)
            return hook(*args)
        return noting
    def wrap(name):
        sys.excepthook = note(name, sys.excepthook)
        sys.unraisablehook = note(name, sys.unraisablehook)
        threading.excepthook = note(name, threading.excepthook)
    wrap("earlier")
    install()
    wrap("later")
    everything()
    raise KeyError('end')
    """
    records, out, _ = compare(HOOKS + EVERYTHING + body, 1)
    assert hows(records) == EVERYTHING_RECORDED
    assert out.split() == ["later", "earlier"] * 3


def test_an_exit_raised_by_an_earlier_hook_is_obeyed(compare: Compare) -> None:
    body = """
    def leave(*args):
        sys.exit(7)
    sys.excepthook = leave
    install()
    1 / 0
    """
    records, _, _ = compare(HOOKS + body, 7)
    assert hows(records) == ["main thread"]


def test_uninstall_puts_everything_back(compare: Compare) -> None:
    body = """
    import asyncio
    loop = asyncio.BaseEventLoop
    def all_hooks():
        return [sys.excepthook, threading.excepthook, sys.unraisablehook, vars(loop)["call_exception_handler"]]
    before = all_hooks()
    install()
    assert os.environ["HOOKS"] == "no" or not [hook for hook in before if hook in all_hooks()]
    uninstall()
    refresh()
    assert all_hooks() == before
    everything()
    """
    assert compare(HOOKS + EVERYTHING + body)[0] == []


def test_a_hook_that_somebody_wrapped_passes_on_after_uninstall_and_nothing_is_recorded_twice(
    compare: Compare,
) -> None:
    body = """
    install()
    ours = threading.excepthook
    def later(args):
        print("later", flush=True)
        return ours(args)
    threading.excepthook = later
    uninstall()
    assert threading.excepthook is later
    everything()
    install()
    install()
    refresh()
    everything()
    uninstall()
    everything()
    """
    records, out, _ = compare(HOOKS + EVERYTHING + body)
    assert hows(records) == EVERYTHING_RECORDED[:-1]
    assert out.split() == ["later"] * 3


def test_nothing_is_imported_for_the_sake_of_its_hook(run: Callable[..., Program], tmp_path: Path) -> None:
    body = """
    install()
    refresh()
    print([name for name in ("gevent", "asyncio", "uvloop") if name in sys.modules])
    """
    env = {"RECORD": str(tmp_path / "records"), "HOOKS": "yes"}
    assert run(HOOKS + body, env=env).finish()[0] == "[]\n"


@pytest.mark.parametrize("order", ORDERS)
def test_finalizers_that_fail_at_the_interpreters_end_do_no_harm(order: str, compare: Compare) -> None:
    body = """
    class Leaving:
        def __del__(self):
            raise ValueError("at the end")
    leaving = [Leaving() for _ in range(3)]
    threading.leaving = Leaving()
    os.leaving = Leaving()
    sys.leaving = Leaving()
    """
    records, _, err = compare(start(order) + body)
    assert set(hows(records)) <= {"unraisable"}  # the module that our record is of may be gone
    assert "ValueError: at the end" in err


def test_a_forked_child_records_also_if_its_parent_was_recording_in_another_thread(compare: Compare) -> None:
    body = """
    entered, leave = threading.Event(), threading.Event()
    def slow_record(error, how, fatal):
        record(error, how, fatal)
        if str(error) == "slow":
            entered.set()
            leave.wait()
    def work(text):
        raise ValueError(text)
    install(slow_record)
    slow = threading.Thread(target=work, args=("slow",))
    slow.start()
    os.environ["HOOKS"] == "no" or entered.wait()
    pid = os.fork()
    if not pid:
        for _ in range(3):
            thread = threading.Thread(target=work, args=("child",))
            thread.start()
            thread.join()
        os._exit(0)
    os.waitpid(pid, 0)
    leave.set()
    slow.join()
    """
    records = compare_records(compare, HOOKS + body)
    assert records == ["thread|-|ValueError|slow|True"] + ["thread|-|ValueError|child|True"] * 3


def compare_records(compare: Compare, source: str) -> list[str]:
    """The records alone, of a program whose threads print in no certain order."""
    return compare("\n    import sys; sys.stderr = open('/dev/null', 'w')\n" + source)[0]
