"""A daemon's start closes all descriptors; their numbers then belong to somebody else, and stay so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import mmstats

DAEMON = """
    import os, socket, sys, warnings, mmstats
    warnings.simplefilter("error", RuntimeWarning)

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()
        by_path = mmstats.CounterField(labelnames=("path",))
        sizes = mmstats.HistogramField(labelnames=("path",))

    stats = Stats(service="daemon")
    stats.requests.inc()
    path = stats.filename

    def close_all():
        os.closerange(3, 256)

    def occupy(directory):
        "Have files and sockets take all low numbers, and put bytes into each that must stay as they are."
        taken = []
        for number in range(20):
            file = open(f"{directory}/theirs-{number}", "w+b")
            file.write(b"theirs %d" % number)  # in the buffer still, and written when it is closed
            taken.append(file)
            taken.append(socket.socketpair())
        assert taken[0].fileno() == 3, taken[0].fileno()
        return taken

    def check(taken):
        for item in taken:
            if isinstance(item, tuple):
                item[0].sendall(b"ping")
                assert item[1].recv(4) == b"ping"
            else:
                os.fstat(item.fileno())
                item.flush()
                assert os.pread(item.fileno(), 100, 0) == b"theirs %s" % item.name.rpartition("-")[2].encode()

    theirs = os.environ["THEIRS"]
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    path = tmp_path / "theirs"
    path.mkdir()
    return path


def _check(theirs: Path) -> None:
    """The files of the program hold what it wrote to them, and nothing else."""
    files = sorted(theirs.iterdir())
    assert len(files) == 20
    for file in files:
        assert file.read_bytes() == b"theirs " + file.name.rpartition("-")[2].encode()


def test_growth_goes_on_and_writes_to_no_foreign_descriptor(run: Callable, theirs: Path) -> None:
    program = run(
        DAEMON
        + """
    close_all()
    taken = occupy(theirs)
    for number in range(1000):
        stats.by_path.labels(number).inc()
    stats.add_field("late", mmstats.CounterField()).inc()
    stats.flush()
    check(taken)
    print(path)
    sys.stdin.readline()
    check(taken)
    """,
        env={"THEIRS": str(theirs)},
    )
    path = program.line()
    snapshot = mmstats.read(path)
    assert snapshot.alive is True
    assert snapshot.process.reason == "its file is locked", "growing took the lock again"
    assert snapshot["by_path"].value == {(str(number),): 1 for number in range(1000)}
    assert snapshot["late"].value == 1
    program.say()
    assert program.finish() == ("", "")
    _check(theirs)
    snapshot = mmstats.read(path)
    assert snapshot.process.state == "closed"
    assert snapshot.problems == ()


def test_the_end_of_the_program_closes_no_foreign_descriptor(run: Callable, theirs: Path) -> None:
    # What a program has not flushed is written at its very end; by then the number must be its own.
    program = run(
        DAEMON
        + """
    close_all()
    taken = occupy(theirs)
    stats.requests.inc()
    """,
        env={"THEIRS": str(theirs)},
    )
    assert program.finish() == ("", "")
    _check(theirs)


def test_the_end_closes_no_foreign_descriptor_whatever_goes_first(run: Callable, theirs: Path) -> None:
    program = run(
        DAEMON
        + """
    close_all()
    taken = occupy(theirs)
    # Now all that is ours goes at the end while the files of the program are still there.
    sys.last_of_all = taken
    for item in taken:
        if not isinstance(item, tuple):
            item.write(b"!")
    del taken, item
    """,
        env={"THEIRS": str(theirs)},
    )
    assert program.finish() == ("", "")
    for file in theirs.iterdir():
        assert file.read_bytes() == b"theirs " + file.name.rpartition("-")[2].encode() + b"!"


def test_remove_closes_no_foreign_descriptor(run: Callable, theirs: Path, home: Path) -> None:
    program = run(
        DAEMON
        + """
    import gc
    close_all()
    taken = occupy(theirs)
    stats.remove()
    assert not os.path.exists(path)
    gc.collect()
    check(taken)
    stats = Stats(service="daemon")
    stats.requests.inc(5)
    stats.by_path.labels("/").inc()
    check(taken)
    stats.remove()
    gc.collect()
    check(taken)
    stats = Stats(service="daemon")
    stats.requests.inc(6)
    """,
        env={"THEIRS": str(theirs)},
    )
    assert program.finish() == ("", "")
    _check(theirs)
    (snapshot,) = mmstats.read_all(home).values()
    assert snapshot["requests"].value == 6


def test_a_forked_daemon_closes_no_foreign_descriptor(run: Callable, theirs: Path, home: Path) -> None:
    # As daemons do it: fork, close everything, and go to work; our hook ran before the closing.
    program = run(
        DAEMON
        + """
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        os._exit(0)
    close_all()
    taken = occupy(theirs)
    stats.requests.inc(3)
    for number in range(300):
        stats.by_path.labels(number).inc()
    check(taken)
    """,
        env={"THEIRS": str(theirs)},
    )
    assert program.finish() == ("", "")
    _check(theirs)
    found = mmstats.read_all(home)
    assert sorted([snapshot["requests"].value for snapshot in found.values()]) == [1, 3]


def test_a_hookless_fork_of_a_daemon_closes_no_foreign_descriptor(run: Callable, theirs: Path, home: Path) -> None:
    program = run(
        DAEMON
        + """
    import ctypes
    pid = ctypes.PyDLL(None).fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        os._exit(0)
    close_all()
    taken = occupy(theirs)
    stats.requests.inc(3)
    for number in range(300):
        stats.by_path.labels(number).inc()
    check(taken)
    """,
        env={"THEIRS": str(theirs)},
    )
    assert program.finish() == ("", "")
    _check(theirs)
    found = mmstats.read_all(home)
    assert sorted([snapshot["requests"].value for snapshot in found.values()]) == [1, 3]


def test_a_daemon_without_its_descriptors_is_told_alive_and_then_dead(run: Callable, home: Path) -> None:
    program = run(
        DAEMON
        + """
    close_all()
    stats.requests.inc()
    print(path)
    sys.stdin.readline()
    """,
        env={"THEIRS": "unused"},
    )
    path = program.line()
    snapshot = mmstats.read(path)
    assert (snapshot.alive, snapshot.process.state) == (True, "alive")
    # A start of the same service judges as a reader does, and leaves what belongs to the living.
    run("""
        import mmstats
        from mmstats import retention
        retention.KEEP = 0
        mmstats.MmStats(service="daemon")
    """).finish()
    assert mmstats.read(path)["requests"].value == 2
    program.kill()
    snapshot = mmstats.read(path)
    assert (snapshot.alive, snapshot.process.state, snapshot["requests"].value) == (False, "died", 2)


def test_a_file_that_was_replaced_is_never_written_to(run: Callable, home: Path) -> None:
    program = run(
        DAEMON.replace('simplefilter("error"', 'simplefilter("ignore"')
        + """
    close_all()
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(b"somebody else's")
    for number in range(1000):
        stats.by_path.labels(number).inc()
        stats.requests.inc()
    assert stats.requests.value == 1001
    with open(path, "rb") as file:
        assert file.read() == b"somebody else's"
    stats.remove()
    assert os.path.exists(path)
    """,
        env={"THEIRS": "unused"},
    )
    assert program.finish() == ("", "")
