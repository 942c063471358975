"""The recorder where programs are odd: nothing of theirs fails, stops or is called because of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Program

Run = Callable[..., Program]


def test_hostile_names_severities_and_keys_reach_the_program_as_no_error(run: Run, home: Path) -> None:
    out, err = run(
        """
        import os, mmdebug
        mmdebug.install(service="web")
        class Text(str):
            pass
        class Hostile(str):
            def fail(self, *args):
                raise ValueError("called")
            __eq__ = __hash__ = __str__ = __repr__ = __len__ = fail
        for _ in range(3):
            for odd in (Hostile("a"), Text("b"), b"c", None, 5, "\\ud800", "d" * 100000):
                mmdebug.event(odd, value=odd, severity=odd)
                with mmdebug.activity(odd, value=odd):
                    pass
            mmdebug.event("e", **{Text("key"): 1, "self": 2, "name": 3, "record": 4})
            with mmdebug.activity("f", **{Text("key"): 1, "self": 2, "name": 3}):
                pass
        mmdebug.event("last", **{f"k{number}": number for number in range(10000)})
        print(mmdebug.process(os.getpid()).events[-1].name)
        """
    ).finish()
    assert (out, err) == ("last\n", "")


def test_log_calls_that_logging_forgives_are_forgiven(run: Run, home: Path) -> None:
    """Also once their message is known: arguments that don't fit, levels that are none, records of elsewhere."""
    out, err = run(
        """
        import logging, os, mmdebug
        from mmdebug import installation
        mmdebug.install(service="web")
        logging.root.setLevel(1)
        logging.raiseExceptions = False
        for _ in range(3):
            logging.info("count %d", 1)
            logging.info("count %d", "x")
            logging.info("one %s", "a", "b")
            logging.info("large %d", 10 ** 5000)
        handler = installation.installation().handler
        for fields in ({}, {"levelno": 20.5}, {"levelno": "INFO"}, {"levelno": 1 << 70}, {"msg": 5, "args": {"a": 1}}):
            handler.handle(logging.makeLogRecord(fields))
        for missing in ("msg", "args", "exc_info", "name", "filename", "funcName", "levelno", "lineno"):
            record = logging.LogRecord("a", 40, "p", 1, f"without {missing}", (), None)
            delattr(record, missing)
            handler.handle(record)
        for odd in (None, 5, object()):
            handler.handle(odd)
        logging.error("last")
        print(mmdebug.process(os.getpid()).events[-1].name)
        """
    ).finish()
    assert (out, err) == ("last\n", "")


def test_an_activity_within_itself_leaves_nothing_behind(run: Run, home: Path) -> None:
    out, _ = run(
        """
        import os, mmdebug
        mmdebug.install(service="web")
        activity = mmdebug.activity("again")
        def names():
            return [each.name for each in mmdebug.process(os.getpid()).activities]
        with activity:
            with activity:
                pass
            print(names())
            pid = os.fork()
            with activity:
                pass
            if not pid:
                os._exit(0 if names() == [] else 1)
        print(names(), os.waitpid(pid, 0)[1])
        """
    ).finish()
    assert out.splitlines() == ["['again']", "[] 0"]


def test_what_was_decorated_before_the_installation_is_recorded_after_it(run: Run, home: Path) -> None:
    out, _ = run(
        """
        import os, mmdebug
        @mmdebug.activity("decorated")
        def names():
            return [each.name for each in mmdebug.process(os.getpid()).activities]
        mmdebug.install(service="web")
        print(names())
        """
    ).finish()
    assert out == "['decorated']\n"


def test_without_threads_all_but_the_samples_is_recorded(run: Run, home: Path) -> None:
    out, err = run(
        """
        import _thread, logging, os, time, mmdebug
        def none(*args):
            raise RuntimeError("can't start new thread")
        _thread.start_new_thread = none
        print(mmdebug.install(service="web"), mmdebug.install(service="web"))
        logging.error("once")
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        print([event.name for event in mmdebug.process(os.getpid()).events if event.kind == "log"])
        """
    ).finish()
    assert out.splitlines()[0] == "True True"
    assert out.count("once") == 1
    assert err == ""


@pytest.mark.parametrize("before", ["sys.stderr.close()", "sys.stderr = None", "warnings.simplefilter('error')"])
def test_a_warning_that_cannot_be_shown_is_no_error(run: Run, home: Path, before: str) -> None:
    out, _ = run(
        f"""
        import os, sys, warnings, mmdebug
        {before}
        mmdebug.install(service="web")
        mmdebug.event("x")
        print("went on", flush=True)
        os._exit(0)
        """,
        env={"MMSTATS_PATH": "/proc/none"},
    ).finish()
    assert out == "went on\n"


def test_what_a_program_does_to_its_threads_names_does_not_stop_the_heartbeat(run: Run, home: Path) -> None:
    out, _ = run(
        """
        import os, threading, mmdebug
        from mmstats import registry
        mmdebug.install(service="web", interval=0.05)
        class Odd(threading.Thread):
            name = property(lambda self: 1 / 0, lambda self, value: None)
        done = threading.Event()
        Odd(target=done.wait).start()
        threading.Thread(target=done.wait, name="for postgres://user:hunter2@host/x").start()
        beats = threading.Semaphore(0)
        own = registry.registry_for()
        beat = own.beat
        own.beat = lambda now: (beat(now), beats.release())
        for _ in range(4):
            assert beats.acquire(timeout=20)
        done.set()
        """
    ).finish()
    assert out == ""
    (box,) = home.glob("*.box")
    assert b"hunter2@" not in box.read_bytes().replace(b'user:hunter2@host/x")', b"")


def test_the_sampler_calls_no_code_of_the_programs_objects(run: Run, home: Path) -> None:
    """Lazy objects and proxies have a property ``__class__``, which fetches what they stand for."""
    pytest.importorskip("greenlet")
    out, _ = run(
        """
        import greenlet
        from mmstats.instrument import runtime
        class Lazy:
            @property
            def __class__(self):
                print("called")
                return str
        kept = [Lazy()]
        assert runtime.greenlet_count() >= 0
        """
    ).finish()
    assert out == ""


def test_no_other_greenlet_runs_in_the_midst_of_a_fork(run: Run, home: Path) -> None:
    pytest.importorskip("gevent")
    out, err = run(
        """
        from gevent import monkey; monkey.patch_all()
        import gevent, os, mmdebug
        from mmdebug import native
        mmdebug.install(service="web", interval=0.05)
        ran = []
        def other():
            while True:
                ran.append(1)
                gevent.sleep(0)
        gevent.spawn(other)
        gevent.sleep(0.05)
        before = len(ran)
        native.wait_for_end(os.getpid(), 0.01)  # a thread that does not end: it has to wait
        print(len(ran) - before)
        """
    ).finish()
    assert (out, err) == ("0\n", "")


def test_destructors_at_the_interpreters_end_may_record(run: Run, home: Path) -> None:
    _, err = run(
        """
        import builtins, mmdebug
        mmdebug.install(service="web", interval=0.05)
        class Late:
            def __del__(self, mmdebug=mmdebug):
                mmdebug.event("password=x", values=[1])
                mmdebug.capture_exception(ValueError("x"))
                with mmdebug.activity("a=b", values=[1]):
                    pass
        builtins.late = Late()
        """
    ).finish()
    assert err == ""


def test_a_box_half_made_by_one_that_was_killed_goes_with_the_next_start(run: Run, home: Path) -> None:
    left = home / ".web-1-0123abcd.box.tmp"
    left.write_bytes(b"")
    os.utime(left, (1, 1))
    run("import mmdebug; mmdebug.install(service='web')").finish()
    assert not left.exists()


def test_in_a_sub_interpreter_there_are_stats_and_no_recorder(run: Callable[..., Program], home: Path) -> None:
    """As under mod_wsgi: extensions, and faulthandler, may refuse to be loaded there."""
    out, err = run(
        """
        import os, sys
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        told = os.open("told", os.O_RDWR | os.O_CREAT)
        code = f'''if True:
            import os, sys
            sys.path[:] = {sys.path!r}
            import mmdebug, mmstats
            class S(mmstats.MmStats):
                jobs = mmstats.CounterField()
            stats = S()
            stats.jobs.inc(2)
            done = mmdebug.install()
            mmdebug.event("x")
            os.write({told}, f"{{stats.jobs.value}} {{done}}".encode())
        '''
        failed = interpreters.run_string(interpreters.create(), code)
        assert not failed, failed
        print(open("told").read())
        """,
        wrap=("env", "-C", str(home)),
    ).finish()
    assert out.split() == ["2", "False"], err
