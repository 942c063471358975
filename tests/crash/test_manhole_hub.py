"""Calls from native threads into gevent's hub: in a real one, as many as a sampler makes in days."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import Program

pytest.importorskip("gevent", reason="NOT TESTED: gevent is not here")


def test_calls_from_other_threads_count_nothing_in_the_loop(run: Callable[..., Program]) -> None:
    # By gevent's own way about one in a hundred thousand has the program end by LoopExit.
    out, err = run(
        """
        import gevent, gevent.event
        from mmdebug import mainloop, native
        native.note_main()
        hub, came, done = gevent.get_hub(), [0], gevent.event.Event()
        mainloop.note_hub()

        def count():
            came[0] += 1

        def call():
            main, sleep = mainloop.MainLoop(), native.original("time", "sleep")
            asked = mainloop._calls_of(hub)
            for _ in range(2000):
                assert main.call(count)
            print(asked._asked, flush=True)  # whether it was ever done so
            main.call(done.set)

        native.start_thread(call)
        gevent.spawn(gevent.sleep, 60)
        done.wait()
        print(came[0])
        """
    ).finish()
    assert (out.split(), err) == (["False", "2000"], "")


def test_what_was_asked_for_waits_for_the_hub_also_if_a_greenlet_is_the_first_to_notice_that(
    run: Callable[..., Program],
) -> None:
    out, err = run(
        """
        import gevent
        from mmdebug import mainloop, native
        native.note_main()
        hub, called = gevent.get_hub(), []
        calls = mainloop._calls_of(hub)
        calls.waiting.append(lambda: called.append(gevent.getcurrent() is hub))
        mainloop.note_hub()
        print(called)
        gevent.sleep(0.05)
        print(called)
        """
    ).finish()
    assert (out.splitlines(), err) == (["[]", "[True]"], "")


def test_what_the_parents_threads_have_asked_for_is_not_done_in_a_child(run: Callable[..., Program]) -> None:
    out, _ = run(
        """
        import gevent, os
        from mmdebug import mainloop, native
        native.note_main()
        hub, done = gevent.get_hub(), []
        mainloop.note_hub()
        mainloop._calls_of(hub).call(lambda: done.append(os.getpid()))
        pid = gevent.fork()
        gevent.sleep(0.05)
        if not pid:
            os._exit(len(done))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), done == [os.getpid()])
        """
    ).finish()
    assert out.split() == ["0", "True"]
