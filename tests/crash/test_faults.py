"""Processes that really fault: what their files say, and that nothing is written anywhere else."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Program, wait_for

from mmdebug import fault
from mmdebug.records import Fault

START = """
    import ctypes, faulthandler, os, socket, sys, threading
    from mmdebug import fault
    PATH = os.environ["FAULT"]

    def segfault():
        ctypes.string_at(0)

    def start():
        assert fault.enable(PATH)
"""


@pytest.fixture
def path(home: Path) -> Path:
    return home / "app-1-00000000.fault"


@pytest.fixture
def die(run: Callable[..., Program], path: Path) -> Callable[..., tuple[str, str]]:
    """Run a program that faults by a signal; returns what it printed."""

    def die(body: str, number: int = signal.SIGSEGV, **env: str) -> tuple[str, str]:
        return run(START + body, env={"FAULT": str(path), **env}).finish(-number)

    return die


@pytest.fixture
def live(run: Callable[..., Program], path: Path) -> Callable[..., tuple[str, str]]:
    """Run a program that ends well; returns what it printed."""

    def live(body: str, **env: str) -> tuple[str, str]:
        return run(START + body, env={"FAULT": str(path), **env}).finish(0)

    return live


def read(path: Path) -> Fault:
    found = fault.read(str(path))
    assert found is not None
    return found


def current(found: Fault) -> list[str]:
    """The functions of the thread in which it happened, the innermost first."""
    (thread,) = [thread for thread in found.threads if thread.current]
    return [frame.function for frame in thread.frames]


def test_a_segmentation_fault_tells_its_frames(die: Callable[..., tuple[str, str]], path: Path) -> None:
    out, err = die("""
    start()
    print(threading.get_ident(), flush=True)
    segfault()
    """)
    found = read(path)
    assert found.headline == "Fatal Python error: Segmentation fault"
    assert current(found) == ["string_at", "segfault", "<module>"]
    assert [thread.ident for thread in found.threads] == [int(out)]
    assert err == ""
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("number", "headline"),
    [
        (signal.SIGABRT, "Aborted"),
        (signal.SIGBUS, "Bus error"),
        (signal.SIGFPE, "Floating point exception"),
        (signal.SIGILL, "Illegal instruction"),
    ],
)
def test_the_other_fatal_signals_tell_theirs(
    number: int, headline: str, die: Callable[..., tuple[str, str]], path: Path
) -> None:
    cause = "os.abort()" if number == signal.SIGABRT else f"os.kill(os.getpid(), {number:d})"
    die(f"""
    start()
    def work():
        {cause}
    work()
    """, number)  # fmt: skip
    # 3.12 spells one of them otherwise.
    assert read(path).headline.replace("Floating-point", "Floating point") == f"Fatal Python error: {headline}"
    assert current(read(path)) == ["work", "<module>"]


OVERFLOWS = {
    "of python calls": """
    sys.setrecursionlimit(10**9)
    def deeper(_=0):
        return list(map(deeper, [0]))
    """,
    "of c calls": """
    def deeper():
        faulthandler._stack_overflow()
    """,
}


@pytest.mark.parametrize("how", OVERFLOWS)
def test_a_stack_overflow_of_the_main_thread_is_told(how: str, die: Callable[..., tuple[str, str]], path: Path) -> None:
    if how == "of python calls" and sys.version_info >= (3, 12):
        pytest.skip("NOT TESTED: this Python stops a recursion by itself")
    die("    start()\n" + OVERFLOWS[how] + "\n    deeper()\n")
    assert read(path).headline == "Fatal Python error: Segmentation fault"
    assert set(current(read(path))) <= {"deeper", "<module>"}
    assert current(read(path))[0] == "deeper"


def test_the_thread_that_faulted_is_told_from_the_others(die: Callable[..., tuple[str, str]], path: Path) -> None:
    out, _ = die("""
    start()
    def worker():
        print(threading.get_ident(), flush=True)
        waiting.wait()
        segfault()
    def wait_for_worker():
        waiting.set()
        thread.join()
    waiting = threading.Event()
    thread = threading.Thread(target=worker)
    thread.start()
    wait_for_worker()
    """)
    found = read(path)
    assert "worker" in current(found)
    assert [thread.ident for thread in found.threads if thread.current] == [int(out)]
    (other,) = [thread for thread in found.threads if not thread.current]
    assert "wait_for_worker" in [frame.function for frame in other.frames]


@pytest.mark.parametrize("when", ["before", "after"])
def test_under_gevent_the_greenlet_that_faulted_is_told(
    when: str, die: Callable[..., tuple[str, str]], path: Path
) -> None:
    pytest.importorskip("gevent")
    patch = "    from gevent import monkey; monkey.patch_all(); import gevent\n"
    body = """
    def parked():
        gevent.sleep(1000)
    def request():
        gevent.sleep(0)
        segfault()
    gevent.spawn(parked)
    gevent.spawn(request).join()
    """
    die((patch + "    start()\n" if when == "before" else "    start()\n" + patch) + body)
    assert current(read(path))[:3] == ["string_at", "segfault", "request"]
    assert "parked" not in read(path).text


def test_sigkill_and_sigterm_leave_no_fault(run: Callable[..., Program], path: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        program = run(START + "    start()\n    print(flush=True)\n    sys.stdin.read()", env={"FAULT": str(path)})
        program.line()
        os.kill(program.pid, number)
        assert program.process.wait() == -number
        assert path.read_bytes() == b""
        assert fault.read(str(path)) is None
        path.unlink()


def test_a_clean_end_leaves_no_file(live: Callable[..., tuple[str, str]], path: Path) -> None:
    live("""
    start()
    assert os.path.exists(PATH) and faulthandler.is_enabled() and fault.check()
    fault.disable()
    assert not os.path.exists(PATH) and not faulthandler.is_enabled() and not fault.check()
    start()
    fault.disable()
    """)
    assert not path.exists()


def test_another_file_of_the_name_is_neither_written_nor_deleted(
    live: Callable[..., tuple[str, str]], path: Path
) -> None:
    path.write_text("")
    live("    assert not fault.enable(PATH) and not faulthandler.is_enabled(); fault.disable()")
    assert path.exists()
    path.unlink()
    path.symlink_to(path.parent / "elsewhere")
    live("    assert not fault.enable(PATH)")
    assert not (path.parent / "elsewhere").exists()
    path.unlink()
    live("    start(); os.unlink(PATH); open(PATH, 'w').close(); fault.disable()")
    assert path.exists()


def test_a_second_enable_keeps_the_file_and_another_path_moves_on(
    die: Callable[..., tuple[str, str]], path: Path
) -> None:
    die("""
    start()
    start()
    assert fault.enable(PATH + ".2") and not os.path.exists(PATH)
    fault.rename(PATH + ".3")
    assert fault.check()
    segfault()
    """)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name + ".3"]
    assert current(read(Path(f"{path}.3")))[0] == "string_at"


# A faulthandler that was on before us, or is switched on after us.


def test_a_faulthandler_that_is_on_is_taken_over_and_given_back(
    die: Callable[..., tuple[str, str]], path: Path
) -> None:
    _, err = die("    start(); segfault()", PYTHONFAULTHANDLER="1")
    assert err == ""
    assert current(read(path)) == ["string_at", "segfault", "<module>"]
    path.unlink()
    _, err = die("    start(); fault.disable(); segfault()", PYTHONFAULTHANDLER="1")
    assert err.startswith("Fatal Python error: Segmentation fault")
    assert not path.exists()


def test_one_that_is_on_can_be_left_as_it_is(die: Callable[..., tuple[str, str]], path: Path) -> None:
    _, err = die("""
    assert not fault.enable(PATH, take_over=False) and not fault.check()
    fault.disable()
    segfault()
    """, PYTHONFAULTHANDLER="1")  # fmt: skip
    assert err.startswith("Fatal Python error: Segmentation fault")
    assert not path.exists()


def test_one_that_the_program_switches_on_later_is_taken_over_at_the_next_check(
    die: Callable[..., tuple[str, str]], path: Path
) -> None:
    _, err = die("    start(); faulthandler.enable(); assert fault.check(); segfault()")
    assert err == ""
    assert current(read(path))[0] == "string_at"
    path.unlink()
    # It is on stderr again when we have left.
    _, err = die("    start(); faulthandler.enable(); assert fault.check(); fault.disable(); segfault()")
    assert err.startswith("Fatal Python error: Segmentation fault")


def test_one_that_was_switched_on_later_stays_if_that_is_wished(
    die: Callable[..., tuple[str, str]], path: Path
) -> None:
    _, err = die("""
    assert fault.enable(PATH, take_over=False) and fault.check()
    faulthandler.enable()
    assert not fault.check()
    fault.disable()
    segfault()
    """)
    assert err.startswith("Fatal Python error: Segmentation fault")
    assert not path.exists()


def test_one_that_the_program_switches_off_stays_off(die: Callable[..., tuple[str, str]], path: Path) -> None:
    _, err = die("    start(); faulthandler.disable(); assert not fault.check(); segfault()")
    assert err == "" and path.read_bytes() == b""


# Forked children.

FORK = """
    def fork(work):
        pid = os.fork()
        if not pid:
            work()
            os._exit(0)
        print(pid, os.waitpid(pid, 0)[1], flush=True)
"""


def test_a_child_with_a_file_of_its_own_writes_there(live: Callable[..., tuple[str, str]], path: Path) -> None:
    out, err = live(FORK + """
    start()
    def work():
        assert not fault.check()
        assert fault.enable(PATH + ".child") and fault.check()
        segfault()
    fork(work)
    assert fault.check()
    fault.disable()
    """)  # fmt: skip
    assert int(out.split()[1]) & 0x7F == signal.SIGSEGV
    assert current(read(Path(f"{path}.child"))) == ["string_at", "segfault", "work", "fork", "<module>"]
    assert not path.exists() and err == ""


def test_the_fault_of_a_child_without_a_file_is_kept_and_not_taken_for_its_parents(
    die: Callable[..., tuple[str, str]], path: Path
) -> None:
    body = FORK + """
    start()
    fork(segfault)
    assert fault.check()
    """  # fmt: skip
    die(body + "\n    os.kill(os.getpid(), 9)", signal.SIGKILL)
    assert fault.read(str(path)) is None
    child = fault.forked(str(path))
    assert child is not None
    assert current(child) == ["string_at", "segfault", "fork", "<module>"]
    path.unlink()
    die(body + "\n    os.abort()", signal.SIGABRT)
    assert read(path).headline == "Fatal Python error: Aborted"
    assert fault.forked(str(path)) == child


def test_a_child_that_ends_or_stops_leaves_its_parents_file(die: Callable[..., tuple[str, str]], path: Path) -> None:
    die(FORK + """
    start()
    fork(fault.disable)
    fork(lambda: fault.rename(PATH + ".stolen"))
    assert os.path.exists(PATH) and fault.check()
    segfault()
    """)  # fmt: skip
    assert current(read(path))[0] == "string_at"


def test_children_of_a_process_that_gave_up_stderr_give_it_back(
    live: Callable[..., tuple[str, str]], path: Path
) -> None:
    _, err = live(FORK + """
    start()
    def work():
        assert fault.enable(PATH + ".child")
        fault.disable()
        segfault()
    fork(work)
    fault.disable()
    """, PYTHONFAULTHANDLER="1")  # fmt: skip
    assert err.startswith("Fatal Python error: Segmentation fault")
    assert list(path.parent.iterdir()) == []


def test_an_executed_program_does_not_inherit_the_descriptor(live: Callable[..., tuple[str, str]], path: Path) -> None:
    live("""
    import subprocess
    start()
    number = fault._state.descriptor
    code = f"import os; os.fstat({number})"
    done = subprocess.run([sys.executable, "-c", code], close_fds=False, capture_output=True, text=True)
    assert "Bad file descriptor" in done.stderr, done.stderr
    fault.disable()
    """)


# Programs that close all descriptors, as those do that become daemons.

DAEMON = """
    start()
    number = fault._state.descriptor
    def close_all():
        os.closerange(3, 65536)
"""


def test_after_all_descriptors_are_closed_the_next_files_do_not_get_the_text(
    die: Callable[..., tuple[str, str]], path: Path
) -> None:
    out, err = die(DAEMON + """
    close_all()
    pairs = [socket.socketpair() for _ in range(50)]
    assert number not in [end.fileno() for pair in pairs for end in pair], number
    pid = os.fork()
    if pid:
        for pair in pairs:
            pair[1].close()
        os.waitpid(pid, 0)
        print([pair[0].recv(100) for pair in pairs if pair[0].recv(100)], flush=True)
    segfault()
    """)  # fmt: skip
    assert out == "[]\n" and err == ""
    assert path.read_bytes() == b""


def test_a_socket_that_took_over_our_number_gets_nothing_once_it_was_checked(
    die: Callable[..., tuple[str, str]], path: Path
) -> None:
    out, err = die(DAEMON + """
    close_all()
    ours, theirs = socket.socketpair()
    os.dup2(theirs.fileno(), number)
    pid = os.fork()
    if pid:
        theirs.close()
        os.close(number)
        os.waitpid(pid, 0)
        print(ours.recv(100), flush=True)
        assert fault.check()
    else:
        # Not checked: to fork is enough to stop it from being written to.
        assert not faulthandler.is_enabled()
    segfault()
    """)  # fmt: skip
    assert out == "b''\n" and err == ""
    assert current(read(path)) == ["string_at", "segfault", "<module>"]


def test_a_check_finds_the_file_again_and_leaves_the_stranger_his_number(
    die: Callable[..., tuple[str, str]], path: Path
) -> None:
    out, err = die(DAEMON + """
    close_all()
    ours, theirs = socket.socketpair()
    os.dup2(theirs.fileno(), number)
    assert fault.check() and fault._state.descriptor != number
    os.write(number, b"theirs")
    assert ours.recv(100) == b"theirs"
    ours.setblocking(False)
    if not os.fork():
        segfault()
    os.wait()
    try:
        print(ours.recv(100), flush=True)
    except BlockingIOError:
        print("nothing", flush=True)
    segfault()
    """)  # fmt: skip
    assert out == "nothing\n" and err == ""
    assert current(read(path)) == ["string_at", "segfault", "<module>"]
    assert fault.forked(str(path)) is not None


def test_a_file_that_is_gone_is_not_made_again_and_nobody_elses_is_written(
    die: Callable[..., tuple[str, str]], path: Path
) -> None:
    _, err = die(DAEMON + """
    close_all()
    open(PATH + ".new", "w").close()
    os.rename(PATH + ".new", PATH)
    assert not fault.check() and not faulthandler.is_enabled()
    segfault()
    """)  # fmt: skip
    assert err == "" and path.read_bytes() == b""


def test_few_descriptors_are_enough(die: Callable[..., tuple[str, str]], path: Path) -> None:
    die("""
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    start()
    segfault()
    """)
    assert current(read(path))[0] == "string_at"


def test_a_fault_on_a_full_disk_ends_the_process_as_before(
    die: Callable[..., tuple[str, str]], mount: Callable[[str], Path]
) -> None:
    directory = mount("64k")
    die(f"""
    PATH = {str(directory / "app-1-00000000.fault")!r}
    start()
    try:
        with open({str(directory / "rest")!r}, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
    segfault()
    """)
    assert fault.read(str(directory / "app-1-00000000.fault")) is None


def test_a_live_process_is_read_while_its_child_faults(run: Callable[..., Program], path: Path) -> None:
    program = run(START + """
    start()
    if not os.fork():
        segfault()
    os.wait()
    print(flush=True)
    sys.stdin.read()
    """, env={"FAULT": str(path)})  # fmt: skip
    wait_for(lambda: path.exists() and fault.forked(str(path)), "the child's fault")
    program.line()
    program.finish()
