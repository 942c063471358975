"""A forked child records into a file of its own, from zero, and never into its parent's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import mmstats

STATS = """
    import ctypes, gc, os, signal, sys, threading, time, warnings
    import mmstats

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()
        active = mmstats.GaugeField()
        note = mmstats.StringField()
        build = mmstats.InfoField()
        sizes = mmstats.HistogramField(buckets=[1.0])
        window = mmstats.MovingAverageField(size=3)
        pair = mmstats.StructField({"a": int, "b": int})
        by_path = mmstats.CounterField(labelnames=("path",))
        flag = mmstats.BoolField()

    def record(stats, times=1, path="/"):
        for _ in range(times):
            stats.requests.inc()
            stats.active.inc()
            stats.note = f"of {os.getpid()}"
            stats.sizes.observe(0.5)
            stats.window.add(0.5)
            stats.pair.set(a=os.getpid())
            stats.pair.set(b=os.getpid())
            stats.by_path.labels(path).inc()
            stats.by_path.labels(os.getpid()).inc()
            stats.flag = True

    def fork(work, wait=True):
        "Run work() in a forked child, which ends without cleaning up."
        pid = os.fork()
        if not pid:
            try:
                work()
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if wait:
            assert os.waitpid(pid, 0)[1] == 0
        return pid
"""


def _check(snapshot: mmstats.Snapshot, times: int) -> None:
    """What `record` leaves that ran `times` times in a process of its own."""
    pid = snapshot.process.pid
    assert snapshot.problems == ()
    assert snapshot["sys.pid"].value == pid
    assert snapshot["requests"].value == times
    assert snapshot["active"].value == times
    assert snapshot["note"].value == (f"of {pid}" if times else "")
    assert (snapshot["sizes"].count, snapshot["sizes"].buckets) == (times, (times, 0))
    assert (snapshot["window"].count, snapshot["window"].window_count) == (times, min(times, 3))
    assert snapshot["pair"].value == ({"a": pid, "b": pid} if times else {"a": 0, "b": 0})
    assert snapshot["flag"].value is bool(times)
    by_path = snapshot["by_path"].value
    assert by_path.get((str(pid),), 0) == times
    assert sum(by_path.values()) == 2 * times
    assert snapshot["build"].value == {"version": "7"}


def _by_pid(home: Path) -> dict[int, mmstats.Snapshot]:
    fleet = mmstats.read_all(home)
    assert not fleet.problems
    found = {snapshot.process.pid: snapshot for snapshot in fleet.values()}
    assert len(found) == len(fleet)
    return found


def test_a_storm_of_forks_gives_every_child_its_own_file(run: Callable, home: Path) -> None:
    program = run(
        STATS
        + """
    from mmstats import retention
    retention.KEEP = 10**6
    stats = Stats(service="storm")
    stats.build.info({"version": 7})
    record(stats, 3)
    for wave in range(20):
        pids = [fork(lambda: record(stats, 5), wait=False) for _ in range(15)]
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        record(stats)
        print(*pids, flush=True)
    os._exit(0)
    """
    )
    out, err = program.finish()
    assert err == ""
    children = {int(pid) for pid in out.split()}
    found = _by_pid(home)
    assert len(children) == 300
    assert set(found) == {*children, program.pid}
    for pid, snapshot in found.items():
        _check(snapshot, 5 if pid in children else 23)


def test_children_of_children_record_each_for_themselves(run: Callable, home: Path) -> None:
    program = run(
        STATS
        + """
    stats = Stats(service="nested")
    stats.build.info({"version": 7})
    record(stats, 1)

    def descend(depth):
        record(stats, depth)
        if depth < 5:
            fork(lambda: descend(depth + 1))
        record(stats, 1)
        print(os.getpid(), depth + 1, flush=True)

    from mmstats import retention
    retention.KEEP = 100
    fork(lambda: descend(2))
    record(stats, 1)
    print(os.getpid(), 2, flush=True)
    os._exit(0)
    """
    )
    out, err = program.finish()
    assert err == ""
    times = dict([map(int, line.split()) for line in out.splitlines()])
    assert sorted(times.values()) == [2, 3, 4, 5, 6]
    found = _by_pid(home)
    assert set(found) == set(times)
    for pid, count in times.items():
        _check(found[pid], count)


def test_a_child_that_records_nothing_leaves_no_file(run: Callable, home: Path) -> None:
    program = run(
        STATS
        + """
    stats = Stats(service="quiet")
    record(stats)
    for _ in range(20):
        fork(lambda: None)
    fork(lambda: os.execv("/bin/true", ["/bin/true"]))
    fork(lambda: (print(repr(stats.filename)), stats.size, stats.flush(), sys.stdout.flush()))
    os._exit(0)
    """
    )
    out, err = program.finish()
    assert (out, err) == ("''\n", "")
    assert len(list(home.iterdir())) == 1


def test_a_fork_from_a_thread_is_a_fork_like_any_other(run: Callable, home: Path) -> None:
    program = run(
        STATS
        + """
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks in programs of several threads
    stats = Stats(service="threads")
    stats.build.info({"version": 7})
    pids = []
    def work():
        record(stats, 2)
        pids.append(fork(lambda: record(stats, 4)))
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(*pids, flush=True)
    os._exit(0)
    """
    )
    out, err = program.finish()
    assert err == ""
    children = {int(pid) for pid in out.split()}
    found = _by_pid(home)
    # The newest of them swept the oldest away: only a few dead ones of a service are kept.
    assert len(children) == 8
    assert program.pid in found
    assert len(children & set(found)) >= 5
    for pid in children & set(found):
        _check(found[pid], 4)
    assert found[program.pid]["requests"].value == 16


def test_a_fork_while_another_thread_makes_labels_neither_hangs_nor_loses(run: Callable, home: Path) -> None:
    program = run(
        STATS
        + """
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.setswitchinterval(1e-6)
    os.environ["MMSTATS_MAX_BYTES"] = str(4 << 20)
    stats = Stats(service="busy")
    stats.build.info({"version": 7})
    made = 0
    stop = False
    def label():
        global made
        while not stop and made < 20000:
            stats.by_path.labels(f"thread {made}").inc()
            stats.add_field(f"late_{made}", mmstats.CounterField()).inc() if made % 100 == 0 else None
            made += 1
    thread = threading.Thread(target=label)
    thread.start()
    def child():
        signal.alarm(20)  # a lock that the other thread held would never come free here
        record(stats, 3)
        assert stats.by_path.labels(os.getpid()).value == 3
        assert stats.by_path.labels("thread 1").value == 0
        stats.by_path.labels("of the child").inc()
        late = stats.add_field("late_0", mmstats.CounterField())
        late.inc()
        assert late.value == 1, late.value
    forks = 0
    deadline = time.monotonic() + 4
    while forks < 150 and time.monotonic() < deadline:
        fork(child)
        forks += 1
    stop = True
    thread.join()
    assert sum(cell.value for cell in stats.by_path.children().values()) == made
    print(forks, made, stats.filename, flush=True)
    os._exit(0)
    """
    )
    out, err = program.finish()
    assert err == ""
    forks, made, path = out.split()
    assert int(forks) >= 20
    snapshot = mmstats.read(path)
    assert snapshot.problems == ()
    assert snapshot["requests"].value == 0
    by_path = snapshot["by_path"].value
    assert by_path == {(f"thread {number}",): 1 for number in range(int(made))}


RAW_FORK = """
    libc = ctypes.PyDLL(None)

    def raw_fork(work):
        "A fork as a C library does it: no hook runs."
        pid = libc.fork()
        if not pid:
            try:
                work()
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        return pid
"""


@pytest.mark.parametrize("how", ["record(stats, 4)", "stats.requests.inc()", "stats.by_path.labels('/').inc()"])
def test_a_fork_that_runs_no_hook_leaves_the_parents_values_alone(run: Callable, home: Path, how: str) -> None:
    program = run(
        STATS
        + RAW_FORK
        + f"""
    stats = Stats(service="raw")
    stats.build.info({{"version": 7}})
    record(stats, 3, "/")
    def child():
        {how}
        print(stats.requests.value, stats.sizes.count, stats.filename, flush=True)
    raw_fork(child)
    record(stats, 2, "/")
    print(stats.filename, flush=True)
    os._exit(0)
    """
    )
    out, err = program.finish()
    assert err == ""
    childs, path = out.splitlines()
    assert childs.split()[2] != path
    _check(mmstats.read(path), 5)
    child = mmstats.read(childs.split()[2])
    assert child.process.pid != program.pid
    assert (child["requests"].value, child["sizes"].count) == tuple([int(text) for text in childs.split()[:2]])
    assert child["requests"].value == (4 if how.startswith("record") else int("requests" in how))
    if how.startswith("record"):
        _check(child, 4)


def test_nested_forks_without_hooks_record_each_for_themselves(run: Callable, home: Path) -> None:
    program = run(
        STATS
        + RAW_FORK
        + """
    stats = Stats(service="raw")
    stats.build.info({"version": 7})
    record(stats, 1)
    def grandchild():
        record(stats, 3)
    def child():
        record(stats, 1)
        raw_fork(grandchild)
        fork(lambda: record(stats, 4))
        record(stats, 1)
    raw_fork(child)
    os._exit(0)
    """
    )
    assert program.finish() == ("", "")
    found = _by_pid(home)
    assert sorted([snapshot["requests"].value for snapshot in found.values()]) == [1, 2, 3, 4]
    for snapshot in found.values():
        _check(snapshot, snapshot["requests"].value)


@pytest.mark.parametrize("fork", ["os.fork", "libc.fork"])
def test_a_parent_that_is_killed_is_told_dead_while_its_children_live(run: Callable, home: Path, fork: str) -> None:
    program = run(
        STATS
        + RAW_FORK
        + f"""
    stats = Stats(service="family")
    record(stats, 3)
    children = []
    for number in range(2):
        pid = {fork}()
        if not pid:
            if number:  # one of them records, the other keeps everything as it was
                stats.requests.inc()
            os.write(1, b"child %d\\n" % os.getpid())
            time.sleep(60)
            os._exit(0)
    os.write(1, b"parent %s\\n" % os.fsencode(stats.filename))
    time.sleep(60)
    """
    )
    lines = [program.line().split() for _ in range(3)]
    children = [int(words[1]) for words in lines if words[0] == "child"]
    (path,) = [words[1] for words in lines if words[0] == "parent"]
    try:
        assert mmstats.read(path).alive is True
        os.kill(program.pid, 9)
        program.process.wait(20)
        for child in children:
            os.kill(child, 0)
        snapshot = mmstats.read(path)
        assert (snapshot.alive, snapshot.process.closed) == (False, False)
        assert snapshot["requests"].value == 3
        alive = mmstats.read_all(home).alive
        assert [found.process.pid in children for found in alive.values()] == [True]
    finally:
        for child in children:
            os.kill(child, 9)


def test_a_hook_that_was_registered_before_ours_records_into_the_childs_file(run: Callable, home: Path) -> None:
    program = run("""
    import os
    hooked = []
    os.register_at_fork(after_in_child=lambda: [hook() for hook in hooked])
    """ + STATS + """
    stats = Stats(service="hooked")
    stats.build.info({"version": 7})
    record(stats, 2)
    hooked.append(lambda: record(stats, 3))
    fork(lambda: record(stats, 1))
    os._exit(0)
    """)  # fmt: skip
    assert program.finish() == ("", "")
    found = _by_pid(home)
    assert len(found) == 2
    for pid, snapshot in found.items():
        _check(snapshot, 2 if pid == program.pid else 4)


def test_a_child_that_takes_its_parents_pid_in_a_new_namespace_is_still_a_child(
    run: Callable, home: Path, unshare: tuple[str, ...]
) -> None:
    # Parent and child are both pid 1, each of its own namespace: pids alone tell nothing.
    program = run(
        STATS
        + """
    stats = Stats(service="one")
    stats.build.info({"version": 7})
    assert os.getpid() == 1
    record(stats, 2)
    libc = ctypes.PyDLL(None)
    assert libc.unshare(0x20000000) == 0  # CLONE_NEWPID: of the children from now on
    fork(lambda: (record(stats, 3), print(os.getpid(), flush=True)))
    record(stats, 1)
    os._exit(0)
    """,
        wrap=unshare,
    )
    assert program.finish() == ("1\n", "")
    fleet = mmstats.read_all(home)
    assert len(fleet) == 2
    for snapshot in fleet.values():
        _check(snapshot, snapshot["requests"].value)
    assert [snapshot["requests"].value for snapshot in fleet.values()] == [3, 3]


MULTIPROCESSING = """
    import multiprocessing, os, sys
    import mmstats

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()

    def work(times):
        stats = STATS or Stats(service="worker")
        for _ in range(times):
            stats.requests.inc()

    STATS = None
    if __name__ == "__main__":
        from mmstats import retention
        retention.KEEP = 100
        method, early = sys.argv[1:]
        if early == "early":
            STATS = Stats(service="worker")
            STATS.requests.inc(100)
        context = multiprocessing.get_context(method)
        processes = [context.Process(target=work, args=(number,)) for number in (1, 2, 3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
"""


@pytest.mark.parametrize("early", ["early", "late"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_close_their_files(
    run: Callable, home: Path, tmp_path: Path, method: str, early: str
) -> None:
    import textwrap

    script = tmp_path / "app.py"
    script.write_text(textwrap.dedent(MULTIPROCESSING))
    program = run(f"""
        import runpy, sys
        sys.argv = [{str(script)!r}, {method!r}, {early!r}]
        runpy.run_path({str(script)!r}, run_name="__main__")
    """ if method == "fork" else f"""
        import subprocess, sys
        sys.exit(subprocess.call([sys.executable, {str(script)!r}, {method!r}, {early!r}]))
    """)  # fmt: skip
    _, err = program.finish()
    assert err == ""
    found = mmstats.read_all(home)
    counts = sorted([snapshot["requests"].value for snapshot in found.values()])
    assert counts == ([1, 2, 3, 100] if early == "early" else [1, 2, 3])
    for snapshot in found.values():
        assert snapshot.process.closed is True, (snapshot["requests"].value, snapshot.process)
        assert snapshot.alive is False


def test_a_forked_child_that_ends_normally_closes_its_file(run: Callable, home: Path) -> None:
    program = run("""
        import os, sys, mmstats
        class Stats(mmstats.MmStats):
            requests = mmstats.CounterField()
        stats = Stats()
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        stats.requests.inc(1 if pid else 2)
    """)
    assert program.finish() == ("", "")
    found = mmstats.read_all(home)
    assert sorted([snapshot["requests"].value for snapshot in found.values()]) == [1, 2]
    assert [snapshot.process.state for snapshot in found.values()] == ["closed", "closed"]


def test_a_model_that_a_child_removes_leaves_the_parents_file(run: Callable, home: Path) -> None:
    program = run(
        STATS
        + """
    stats = Stats(service="removing")
    stats.build.info({"version": 7})
    record(stats, 2)
    def child():
        stats.remove()
        try:
            stats.requests.inc()
        except mmstats.ClosedError:
            print("closed", flush=True)
    fork(child)
    def recorder():
        record(stats, 1)
        mine = stats.filename
        assert os.path.exists(mine)
        stats.remove()
        assert not os.path.exists(mine)
    fork(recorder)
    record(stats, 2)
    os._exit(0)
    """
    )
    assert program.finish() == ("closed\n", "")
    (snapshot,) = mmstats.read_all(home).values()
    _check(snapshot, 4)
