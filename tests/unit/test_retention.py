"""Files of the dead are kept in a bounded number. Nothing of a live or unknown process goes, ever."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Program, wait_for

from mmstats import layout, process, retention
from mmstats.errors import FormatError
from mmstats.retention import Dead

Run = Callable[..., Program]
Leave = Callable[..., list[Path]]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the life of most writers is unknown")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="NOT TESTED: mounts and namespaces need root")


def recording(service: str = "web", before: str = "", arguments: str = "", after: str = "sys.stdin.readline()") -> str:
    """The source of a program that makes a file, prints its name, and ends by itself when its input does."""
    return textwrap.dedent(before) + textwrap.dedent(f"""
        import sys, mmstats
        class Stats(mmstats.MmStats):
            n = mmstats.CounterField()
        stats = Stats(service={service!r}, strict=True{arguments})
        stats.n.inc()
        print(stats.filename, flush=True)
    """) + textwrap.dedent(after)  # fmt: skip


@pytest.fixture
def leave(run: Run) -> Leave:
    """Have real programs, all at once, leave files: killed, or ended cleanly. The oldest comes first."""

    def make(count: int = 1, service: str = "web", clean: bool = False) -> list[Path]:
        programs, paths = [], []
        for _ in range(count):
            programs.append(run(recording(service)))
            paths.append(Path(programs[-1].line()))
        for program in programs:
            if clean:
                program.finish()
            else:
                program.kill()
        return paths

    return make


def names(home: Path) -> list[str]:
    return sorted(os.listdir(home))


def rewrite(path: Path, **changes: Any) -> None:
    """Change words of a file's header, in place."""
    data = path.read_bytes()[: layout.HEADER_BYTES]
    with open(path, "r+b") as file:
        file.write(layout.decode_header(data)._replace(**changes).encode())


def life(path: Path) -> bool | None:
    return retention.writer_of(str(path))[1].alive


def disk_of(monkeypatch: pytest.MonkeyPatch, total: int = 1 << 50) -> None:
    """As if the file system had `total` bytes."""
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_blocks=total // 4096, f_frsize=4096))


# Which go: a pure function.

HOUR = 3600 * 10**9


def dead(*files: tuple[int, int] | int) -> list[Dead]:
    """Files a, b, c, ..., each given as its size, or as its size and its age in hours."""
    now = time.time_ns()
    found = []
    for name, file in zip("abcdefghij", files, strict=False):
        size, age = file if isinstance(file, tuple) else (file, 0)
        found.append(Dead(name, size, now - age * HOUR))
    return found


@pytest.mark.parametrize(
    ("files", "limits", "going"),
    [
        ([], {"keep": 0, "max_bytes": 0, "max_age": 0.0}, ""),
        ([1, 1, 1], {}, ""),
        ([1, 1, 1], {"keep": 3}, ""),
        ([1, 1, 1], {"keep": 4}, ""),
        ([1, 1, 1], {"keep": 2}, "c"),
        ([1, 1, 1], {"keep": 1}, "bc"),
        ([1, 1, 1], {"keep": 0}, "abc"),
        ([1, 1, 1, 1, 1, 1, 1], {"keep": 5}, "fg"),
        ([4, 4, 4], {"max_bytes": 12}, ""),
        ([4, 4, 4], {"max_bytes": 11}, "c"),
        ([4, 4, 4], {"max_bytes": 8}, "c"),
        ([4, 4, 4], {"max_bytes": 3}, "abc"),
        ([4, 4, 4], {"max_bytes": 0}, "abc"),
        ([0, 0], {"max_bytes": 0}, ""),
        ([9, 1, 1], {"max_bytes": 4}, "a"),  # what is too large by itself makes way for older ones
        ([1, 9, 1], {"max_bytes": 4}, "b"),
        ([(1, 1), (1, 2), (1, 3)], {"max_age": 2.5 * 3600}, "c"),
        ([(1, 1), (1, 2), (1, 3)], {"max_age": 1e9}, ""),
        ([(1, 1), (1, 2), (1, 3)], {"max_age": 0.0}, "abc"),
        ([(1, -5)], {"max_age": 60.0}, ""),  # made in the future: the clock was set back
        ([(1, 1), (1, 5), (1, 2)], {"keep": 2, "max_age": 3 * 3600.0}, "b"),  # what goes takes nobody's place
        ([5, 1, 1, 1], {"keep": 2, "max_bytes": 4}, "ad"),
        ([2, 2, (2, 9)], {"keep": 3, "max_bytes": 6, "max_age": 8 * 3600.0}, "c"),
    ],
)
def test_what_is_beyond_a_number_a_sum_or_an_age_goes(files: list[Any], limits: dict[str, Any], going: str) -> None:
    found = dead(*files)
    assert "".join(file.path for file in retention.surplus(found, **limits)) == going
    assert [file.path for file in found] == list("abcdefghij"[: len(files)])  # and what was given stays as it was


@given(
    sizes=st.lists(st.integers(0, 100), max_size=10),
    keep=st.none() | st.integers(0, 12),
    max_bytes=st.none() | st.integers(0, 500),
)
def test_what_stays_is_within_all_limits(sizes: list[int], keep: int | None, max_bytes: int | None) -> None:
    found = dead(*sizes)
    going = retention.surplus(found, keep=keep, max_bytes=max_bytes)
    staying = [file for file in found if file not in going]
    assert keep is None or len(staying) <= keep
    assert max_bytes is None or sum(file.size for file in staying) <= max_bytes
    for file in going:
        newer = [other for other in staying if other.path < file.path]
        full = keep is not None and len(newer) >= keep
        assert full or (max_bytes is not None and sum(other.size for other in newer) + file.size > max_bytes)


# Real files of real programs.


def test_the_killed_and_the_cleanly_ended_are_dead_the_newest_first(leave: Leave, home: Path) -> None:
    paths = leave(1) + leave(1, clean=True) + leave(1)
    found = retention.dead_files([str(home / name) for name in names(home)])
    assert [Path(file.path) for file in found] == paths[::-1]
    for file in found:
        assert file.size == os.stat(file.path).st_blocks * 512 > 0


def test_a_new_process_leaves_5_dead_files_of_its_service(run: Run, home: Path) -> None:
    """However many come and die one after the other."""
    made = []
    for number in range(9):
        program = run(recording())
        made.append(os.path.basename(program.line()))
        assert len(names(home)) == min(number + 1, retention.KEEP + 1)
        program.kill()
    assert names(home) == sorted(made[-6:])


def test_the_oldest_dead_files_go_first(leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_of(monkeypatch)
    paths = leave(8)
    gone = retention.prune_service(str(home), "web")
    assert sorted(file.path for file in gone) == sorted(map(str, paths[:3]))
    assert names(home) == sorted(path.name for path in paths[3:])
    assert retention.prune_service(str(home), "web") == []


def test_dead_files_take_an_eighth_of_their_file_system_at_most(
    leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = leave(4)
    size = paths[0].stat().st_blocks * 512
    disk_of(monkeypatch, 8 * (2 * size + 4096))
    assert len(retention.prune_service(str(home), "web")) == 2
    assert names(home) == sorted(path.name for path in paths[2:])
    disk_of(monkeypatch, 8 * 4096)
    assert len(retention.prune_service(str(home), "web")) == 2
    assert names(home) == []


def test_a_single_dead_file_beyond_the_share_goes(leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(1)
    disk_of(monkeypatch, 8 * 4096)
    assert len(retention.prune_service(str(home), "web")) == 1
    assert names(home) == []


@pytest.mark.parametrize("answer", ["nothing", "an error"])
def test_a_file_system_of_unknown_size_keeps_5(
    leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    def refuse(path: str) -> os.statvfs_result:
        raise OSError(38, "Function not implemented")

    paths = leave(6)
    disk_of(monkeypatch, 0)
    if answer == "an error":
        monkeypatch.setattr(os, "statvfs", refuse)
    assert len(retention.prune_service(str(home), "web")) == 1
    assert names(home) == sorted(path.name for path in paths[1:])


#: Start programs in a file system of its own, kill each, and say how many files there are and what one takes.
MOUNTED = """
    import os, subprocess, sys
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", {options!r}, "none", {home!r}])
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", {source!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        child.kill()
        child.wait()
        files = list(os.scandir({home!r}))
        print(len(files), files[0].stat().st_blocks * 512, flush=True)
"""


@needs_root
@pytest.mark.parametrize(
    ("options", "share"), [("size=0", None), ("size=100m", 100 << 17), ("size=512k", 64 << 10), ("size=64k", 8 << 10)]
)
def test_on_a_real_tmpfs_the_share_is_kept_and_no_limit_is_none(
    run: Run, home: Path, options: str, share: int | None
) -> None:
    program = run(MOUNTED.format(options=options, home=str(home), source=recording()), wrap=("unshare", "--mount"))
    for number in range(1, 9):
        count, size = map(int, program.line().split())
        most = retention.KEEP if share is None else min(retention.KEEP, share // size)
        assert count == min(number, most + 1)


# What never goes.


def prune_all(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prune with no room for any dead file; returns the names of what is gone."""
    monkeypatch.setattr(retention, "KEEP", 0)
    disk_of(monkeypatch, 8 * 4096)
    gone = [os.path.basename(file.path) for file in retention.prune_service(str(home), "web")]
    assert not set(gone) & set(names(home))
    return gone


def test_nothing_of_a_live_process_goes_however_many_there_are(
    run: Run, leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [run(recording()) for _ in range(7)]
    alive = sorted(Path(program.line()).name for program in programs)
    leave(1)
    assert len(prune_all(home, monkeypatch)) == 1
    assert names(home) == alive
    for program in programs:
        program.kill()
    assert sorted(prune_all(home, monkeypatch)) == alive


def test_a_live_process_whose_descriptors_were_closed_keeps_its_file(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a starting daemon does: the lock is gone, the process is not."""
    program = run(
        recording(after="import os; os.closerange(3, 100); print('closed', flush=True); sys.stdin.readline()")
    )
    path = Path(program.line())
    program.line()
    descriptor = os.open(path, os.O_RDONLY)
    assert process.lock_held(descriptor) is False
    os.close(descriptor)
    assert prune_all(home, monkeypatch) == []
    program.kill()
    assert prune_all(home, monkeypatch) == [path.name]


def test_a_live_process_that_has_closed_its_file_already_keeps_it(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = run(recording(before="""
        import atexit, sys
        atexit.register(lambda: (print("closed", flush=True), sys.stdin.readline()))
    """))  # fmt: skip
    path = program.line()
    program.say()
    program.line()
    assert retention.writer_of(path)[0].state == layout.CLOSED
    assert prune_all(home, monkeypatch) == []


def test_a_copy_of_a_live_file_stays(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = run(recording())
    path = Path(program.line())
    shutil.copy(path, home / "web-1-0a1b2c3d.mmstats")
    assert life(home / "web-1-0a1b2c3d.mmstats") is None
    assert prune_all(home, monkeypatch) == []
    assert len(names(home)) == 2


def test_a_file_that_someone_holds_the_lock_of_stays(leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all we know it is of another container, whose processes we can't see."""
    (path,) = leave(1)
    rewrite(path, pid_namespace=1)
    descriptor = os.open(path, os.O_RDWR)
    assert process.lock(descriptor)
    assert prune_all(home, monkeypatch) == []
    os.close(descriptor)
    assert prune_all(home, monkeypatch) == [path.name]


#: Changes to the header of a dead file after which nobody can tell whether its writer lives.
UNKNOWN: dict[str, dict[str, Any]] = {
    "of another container, and without a lock": {"pid_namespace": 1, "flags": 0},
    "of an unknown container, and without a lock": {"pid_namespace": 0, "flags": 0},
    "a copy from another container": {"pid_namespace": 1, "inode": 1},
    "a copy from another machine": {"boot_id": b"x" * 16, "inode": 1},
    "of an unknown boot": {"boot_id": bytes(16)},
    "of a process whose start is unknown, and without a lock": {"pid": os.getpid(), "start_ticks": 0, "flags": 0},
    "of a pid that can be nobody's, and without a lock": {"pid": 2**32 - 1, "flags": 0},
    "of pid 0, and without a lock": {"pid": 0, "flags": 0},
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_a_file_of_a_process_that_may_live_stays(
    leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    (path,) = leave(1)
    assert life(path) is False
    rewrite(path, **UNKNOWN[what])
    assert life(path) is None
    assert prune_all(home, monkeypatch) == []
    assert names(home) == [path.name]


def squat(path: Path, what: str, victim: Path) -> None:
    """Put something odd under a file's name."""
    whole = victim.read_bytes()
    contents = {
        "nothing": b"",
        "one byte": b"\x89",
        "a header cut off": whole[: layout.HEADER_BYTES - 1],
        "zeros": bytes(65536),
        "text": b"not a stat file\n" * 100,
        "a file of mmstats 0.x": b"\x01\x07\x00sys.pid\x01\x00I\xff\xd2\x04\x00\x00\x00\x00",
        "a newer format": whole[:8] + b"\x03" + whole[9:],
        "offsets that contradict each other": whole[:16] + bytes(8) + whole[24:],
    }
    if what in contents:
        path.write_bytes(contents[what])
    elif what == "a directory":
        path.mkdir()
    elif what == "a FIFO":
        os.mkfifo(path)
    elif what == "a symbolic link to a dead file":
        path.symlink_to(victim)
    elif what == "a dangling symbolic link":
        path.symlink_to("nowhere")
    elif what == "a socket":
        listener = socket.socket(socket.AF_UNIX)
        here = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        listener.bind(f"/proc/self/fd/{here}/{path.name}")
        listener.close()
        os.close(here)
    else:
        raise AssertionError(what)


ODD = [
    "nothing", "one byte", "a header cut off", "zeros", "text", "a file of mmstats 0.x", "a newer format",
    "offsets that contradict each other", "a directory", "a FIFO", "a symbolic link to a dead file",
    "a dangling symbolic link", "a socket",
]  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_file_of_ours_stays_and_stops_nothing(
    leave: Leave, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    first, second = leave(2)
    victim = tmp_path / "victim"
    os.rename(first, victim)  # keeps its inode, so it still is the dead file that it was
    odd = home / "web-1-00000000.mmstats"
    squat(odd, what, victim)
    with pytest.raises((OSError, FormatError)):
        retention.writer_of(str(odd))
    assert prune_all(home, monkeypatch) == [second.name]
    assert names(home) == [odd.name]
    assert victim.exists()


FOREIGN = [
    "README", "web", "web.mmstats", "web-1.mmstats", "web-1-0a1b2c3d", "web-1-0a1b2c3d.mmstats.bak",
    "web-x-0a1b2c3d.mmstats", "web--0a1b2c3d.mmstats", "web-1-0a1b2c3.mmstats", "web-1-0a1b2c3d4.mmstats",
    "web-1-0a1b2c3d.box", "web-1-0a1b2c3d.tmp", "Web-1-0a1b2c3d.mmstats", "xweb-1-0a1b2c3d.mmstats",
    "-1-0a1b2c3d.mmstats", "web_-1-0a1b2c3d.mmstats", ".web-1-0a1b2c3d.mmstats", "web-api-1-0a1b2c3d.mmstats",
    "web-1-1-0a1b2c3d.mmstats", "web-web-1-0a1b2c3d.mmstats", "api-web-1-0a1b2c3d.mmstats",
]  # fmt: skip


def test_a_dead_file_under_another_name_stays(leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of another service, or the operator put it by."""
    (path,) = leave(1)
    for name in FOREIGN:
        os.link(path, home / name)
        assert life(home / name) is False
    assert prune_all(home, monkeypatch) == [path.name]
    assert names(home) == sorted(FOREIGN)


def test_services_whose_names_begin_alike_keep_their_files_apart(
    leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = ["web", "web-api", "web-1", "web-api-2", "we", "web_api"]
    paths = {service: leave(2, service) for service in services}
    for service in services:
        for path in paths[service]:
            assert retention.service_of(path.name) == service
    monkeypatch.setattr(retention, "KEEP", 0)
    disk_of(monkeypatch)
    left = {path.name for service in services for path in paths[service]}
    for service in services:
        gone = {os.path.basename(file.path) for file in retention.prune_service(str(home), service)}
        assert gone == {path.name for path in paths[service]}
        left -= gone
        assert set(names(home)) == left


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("web-1234-0a1b2c3d.mmstats", "web"),
        ("web-api-1234-0a1b2c3d.mmstats", "web-api"),
        ("web-1-1234-0a1b2c3d.mmstats", "web-1"),
        ("a.b_c-1-0a1b2c3d.mmstats", "a.b_c"),
        ("web-1234-0a1b2c3d.box", None),
        ("web-1234.mmstats", None),
        ("web-pid-0a1b2c3d.mmstats", None),
        ("web-1234-0a1b2c3.mmstats", None),
        ("web.mmstats", None),
        (".mmstats", None),
        ("", None),
    ],
)
def test_a_files_name_tells_its_service(name: str, service: str | None) -> None:
    assert retention.service_of(name) == service


# Looking again.


def test_a_name_that_a_live_process_has_taken_since_stays(run: Run, leave: Leave, home: Path) -> None:
    (path,) = leave(1)
    found = retention.dead_files([str(path)])
    assert len(found) == 1
    program = run(recording())
    os.rename(program.line(), path)
    assert retention.remove(found) == []
    assert path.exists()
    program.kill()
    assert retention.remove(found) == found
    assert not path.exists()


def test_what_others_have_removed_meanwhile_is_not_counted(leave: Leave, home: Path) -> None:
    paths = leave(2)
    found = retention.dead_files(map(str, paths))
    paths[0].unlink()
    assert [file.path for file in retention.remove(found)] == [str(paths[1])]


def test_what_may_not_be_removed_is_not_counted(leave: Leave, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    (path,) = leave(1)
    monkeypatch.setattr(os, "unlink", refuse)
    assert retention.remove(retention.dead_files([str(path)])) == []
    assert path.exists()


def test_a_directory_that_is_gone_has_nothing_to_prune(tmp_path: Path) -> None:
    assert retention.prune_service(str(tmp_path / "gone"), "web") == []


def test_many_programs_that_start_at_once_prune_without_a_failure(run: Run, leave: Leave, home: Path) -> None:
    leave(6)
    programs = [run(recording()) for _ in range(6)]
    alive = {Path(program.line()).name for program in programs}
    assert alive <= set(names(home))
    assert len(names(home)) == len(alive) + retention.KEEP


@needs_root
def test_a_forked_child_with_its_parents_pid_does_not_take_itself_for_its_parent(run: Run) -> None:
    """Pid 1 of a container makes a container whose first process is pid 1."""
    program = run(
        recording(
            after="""
            import ctypes, os
            from mmstats import retention
            path = stats.filename
            assert retention.writer_of(path)[1].alive
            assert ctypes.CDLL(None).unshare(0x20000000) == 0  # CLONE_NEWPID
            if not os.fork():
                print(os.getpid(), retention.writer_of(path)[1].alive, flush=True)
                os._exit(0)
            os.wait()
            """
        ),
        wrap=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
    )
    program.line()
    assert program.line() == "1 True"


# Files in the making.

#: Stops a program when its file is whole and not yet in its place.
STOP_BEFORE_RENAME = """
    import os, sys
    def stop(*names):
        print("making", flush=True)
        sys.stdin.readline()
        os.kill(os.getpid(), 9)
    os.rename = stop
"""


def in_the_making(run: Run, home: Path, service: str = "web") -> tuple[Program, Path]:
    before = set(names(home))
    program = run(recording(service, before=STOP_BEFORE_RENAME))
    assert program.line() == "making"
    (name,) = set(names(home)) - before
    assert name.startswith(f".{service}-")
    assert name.endswith(".mmstats.tmp")
    return program, home / name


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def test_what_a_process_left_that_was_killed_while_making_its_file_goes_when_stale(run: Run, home: Path) -> None:
    program, path = in_the_making(run, home)
    program.kill()
    retention.prune_service(str(home), "web")
    assert path.exists()  # it may be anybody's who is just making it
    age(path, retention.STALE + 1)
    retention.prune_service(str(home), "web")
    assert not path.exists()


def test_a_new_process_does_that_by_itself(run: Run, home: Path) -> None:
    program, path = in_the_making(run, home)
    program.kill()
    age(path, retention.STALE + 1)
    assert names(home) == [path.name]
    made = run(recording()).line()
    assert names(home) == [os.path.basename(made)]


def test_a_process_that_was_stopped_for_long_while_making_its_file_does_not_lose_it(run: Run, home: Path) -> None:
    _, path = in_the_making(run, home)
    age(path, 3600)
    retention.prune_service(str(home), "web")
    assert path.exists()


@pytest.mark.parametrize("seconds", [-3600, 0, retention.STALE - 30, retention.STALE + 1])
@pytest.mark.parametrize("content", [b"", bytes(65536), b"\x89MMS"])
def test_an_unfinished_file_without_a_header_goes_only_when_stale(home: Path, seconds: float, content: bytes) -> None:
    path = home / ".web-1-0a1b2c3d.mmstats.tmp"
    path.write_bytes(content)
    age(path, seconds)
    retention.prune_service(str(home), "web")
    assert path.exists() is (seconds <= retention.STALE)


@pytest.mark.parametrize(
    "name",
    [
        ".web-api-1-0a1b2c3d.mmstats.tmp",
        ".web-1-1-0a1b2c3d.mmstats.tmp",
        ".web-notes.mmstats.tmp",
        ".web-1-0a1b2c3d.tmp",
        ".web-1-0a1b2c3d.mmstats",
        "web-1-0a1b2c3d.mmstats.tmp",
        ".api-1-0a1b2c3d.mmstats.tmp",
    ],
)
def test_an_unfinished_file_of_another_service_stays(home: Path, name: str) -> None:
    (home / name).write_bytes(b"")
    age(home / name, 1e6)
    retention.prune_service(str(home), "web")
    assert names(home) == [name]


# Names that the operator gives.


def named(name: str = "web.mmstats") -> str:
    return recording(arguments=f", filename={name!r}")


def test_a_free_name_is_taken_as_it_is(home: Path) -> None:
    assert retention.free_name(str(home), "web.mmstats", 7) == "web.mmstats"


def test_the_name_of_a_dead_process_is_taken_and_that_of_a_live_one_is_not(run: Run, home: Path) -> None:
    first = run(named())
    assert Path(first.line()).name == "web.mmstats"
    second = run(named())
    assert Path(second.line()).name == f"web-{second.pid}.mmstats"
    first.kill()
    third = run(named())
    assert Path(third.line()).name == "web.mmstats"
    assert names(home) == sorted(["web.mmstats", f"web-{second.pid}.mmstats"])


def test_the_name_of_a_file_of_mmstats_0_is_taken_as_it_always_was(home: Path, tmp_path: Path) -> None:
    squat(home / "web.mmstats", "a file of mmstats 0.x", Path(os.devnull))
    assert retention.free_name(str(home), "web.mmstats", 7) == "web.mmstats"


@pytest.mark.parametrize("what", [what for what in ODD if what != "a file of mmstats 0.x"])
def test_a_name_that_is_not_ours_is_left_to_whom_it_belongs(leave: Leave, home: Path, what: str) -> None:
    """And does not stop the program: a FIFO waits for nobody."""
    (victim,) = leave(1)
    squat(home / "given.mmstats", what, victim)
    assert retention.free_name(str(home), "given.mmstats", 7) == "given-7.mmstats"


def test_a_program_that_was_killed_while_making_a_named_file_does_not_keep_others_from_it(run: Run, home: Path) -> None:
    program = run(recording(before=STOP_BEFORE_RENAME, arguments=", filename='web.mmstats'"))
    program.line()
    program.kill()
    assert names(home) == [".web.mmstats.tmp"]
    age(home / ".web.mmstats.tmp", retention.STALE + 1)
    assert Path(run(named()).line()).name == "web.mmstats"
    assert names(home) == ["web.mmstats"]


# Whatever the bytes.


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    pid=st.sampled_from([0, 1, os.getpid(), 2**22, 2**31 - 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1),
    ticks=st.sampled_from([0, 1, process.myself().start_ticks, 2**64 - 1]),
    boot=st.sampled_from([process.boot_id(), bytes(16), b"x" * 16]),
    namespace=st.sampled_from([0, 1, process.pid_namespace(), 2**64 - 1]),
    flags=st.sampled_from([0, layout.LOCKED, 2**64 - 1]),
    inode=st.sampled_from(["its own", 0, 2**64 - 1]),
    state=st.sampled_from([0, 1, 2, 2**64 - 1]),
)
def test_no_header_makes_the_verdict_raise_and_none_of_this_process_is_dead(
    pid: int, ticks: int, boot: bytes, namespace: int, flags: int, inode: Any, state: int
) -> None:
    with tempfile.NamedTemporaryFile() as file:
        header = layout.Header(
            minor=0, first_definition=layout.PAGE, committed=layout.PAGE, state=state, uuid=bytes(16), created=1,
            pid=pid, start_ticks=ticks, boot_id=boot, pid_namespace=namespace, flags=flags,
            inode=os.fstat(file.fileno()).st_ino if inode == "its own" else inode,
        )  # fmt: skip
        file.write(header.encode())
        file.flush()
        verdict = retention.writer_of(file.name)[1]
        me = process.myself()
        if (pid, ticks, boot, namespace) == (me.pid, me.start_ticks, me.boot_id, me.pid_namespace):
            assert verdict.alive is not False
        assert bool(retention.dead_files([file.name])) is (verdict.alive is False)


def test_a_process_that_dies_between_two_looks_is_seen_dead(run: Run) -> None:
    """What one look remembers of a process ends with that look."""
    program = run(recording())
    path = Path(program.line())
    assert retention.dead_files([str(path)]) == []
    program.kill()
    wait_for(lambda: life(path) is False, "the verdict")
    assert len(retention.dead_files([str(path)])) == 1
