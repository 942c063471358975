"""Where manholes listen: whose directory is used, what may be in the way, and what is left of the dead."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmdebug import endpoint
from mmdebug.errors import AttachError


@pytest.fixture
def place(home: Path) -> Iterator[tuple[str, int]]:
    path, descriptor = endpoint.make_directory(str(home))
    yield path, descriptor
    os.close(descriptor)


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_directory_is_made_for_its_owner_alone(home: Path) -> None:
    path, descriptor = endpoint.make_directory(str(home))
    os.close(descriptor)
    assert path == endpoint.directory_for(str(home), os.geteuid()) == f"{home}/manhole-{os.geteuid()}"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    os.close(endpoint.make_directory(str(home))[1])


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o777, 0o750])
def test_a_directory_that_is_open_to_others_is_refused(home: Path, mode: int) -> None:
    path = Path(endpoint.directory_for(str(home), os.geteuid()))
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(AttachError, match=r"open to others .mode 0\d{3}, and 0700 is needed"):
        endpoint.make_directory(str(home))
    assert endpoint.listening(str(home)) == []


@pytest.mark.parametrize("kind", ["symlink", "dangling", "file"])
def test_what_is_no_directory_is_refused_and_not_followed(home: Path, tmp_path: Path, kind: str) -> None:
    path = Path(endpoint.directory_for(str(home), os.geteuid()))
    if kind == "file":
        path.touch()
    else:
        (tmp_path / "real").mkdir(mode=0o700)
        path.symlink_to(tmp_path / ("real" if kind == "symlink" else "nowhere"))
    with pytest.raises(AttachError, match="no directory, or a symbolic link"):
        endpoint.make_directory(str(home))


@pytest.mark.usefixtures("root")
def test_a_directory_of_somebody_else_is_refused_also_for_root(home: Path) -> None:
    path = Path(endpoint.directory_for(str(home), os.geteuid()))
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)
    with pytest.raises(AttachError, match="belongs to uid 65534, and not to 0"):
        endpoint.make_directory(str(home))
    # Nor is one taken by its name for another user's than it is.
    os.chown(path, 0, 0)
    path.rename(home / "manhole-65534")
    with pytest.raises(AttachError, match="belongs to uid 0, and not to 65534"):
        endpoint.open_directory(str(home / "manhole-65534"), 65534)


def test_a_directory_that_can_not_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(AttachError, match="can't be made: No such file"):
        endpoint.make_directory(str(tmp_path / "nowhere"))


def test_a_client_gets_through_and_both_sides_know_each_other(place: tuple[str, int]) -> None:
    path, descriptor = place
    name = endpoint.name_for(os.getpid(), "0123abcd")
    server = endpoint.bind(descriptor, name)
    assert os.listdir(path) == [name]
    assert stat.S_IMODE(os.stat(os.path.join(path, name)).st_mode) == 0o600
    client = endpoint.connect(descriptor, name)
    taken, _ = server.accept()
    me = endpoint.Credentials(os.getpid(), os.geteuid(), os.getegid())
    assert endpoint.peer(client) == endpoint.peer(taken) == me
    for each in (server, client, taken):
        each.close()


def test_a_path_beyond_what_an_address_holds_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True, mode=0o700)
    path, descriptor = endpoint.make_directory(str(deep))
    assert len(path) > 240
    server = endpoint.bind(descriptor, "1-0123abcd.sock")
    endpoint.connect(descriptor, "1-0123abcd.sock").close()
    server.close()
    os.close(descriptor)


def test_without_proc_a_path_that_fits_works_and_another_says_so(
    place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, descriptor = place
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    if len(path) < 60:
        endpoint.bind(descriptor, "1-0123abcd.sock", path).close()
    with pytest.raises(AttachError, match=r"too long for a socket's address.*MMSTATS_PATH"):
        endpoint.bind(descriptor, "1-0123abcd.sock", "/" + "long/" * 40)


@pytest.mark.parametrize("kind", ["file", "symlink", "dangling", "stale socket", "living socket", "fifo", "directory"])
def test_what_is_in_the_way_is_replaced_and_never_followed(place: tuple[str, int], tmp_path: Path, kind: str) -> None:
    path, descriptor = place
    name = "7-0123abcd.sock"
    at = Path(path) / name
    target = tmp_path / "target"
    target.write_text("precious")
    other = endpoint.new_socket()
    if kind == "file":
        at.touch()
    elif kind == "fifo":
        os.mkfifo(at)
    elif kind == "directory":
        at.mkdir()
    elif "socket" in kind:
        other.close()
        other = endpoint.bind(descriptor, name)
        if kind == "stale socket":
            other.close()
    else:
        at.symlink_to(target if kind == "symlink" else tmp_path / "nowhere")
    server = endpoint.bind(descriptor, name)
    endpoint.connect(descriptor, name).close()
    assert server.accept()[0].close() is None
    assert os.listdir(path) == [name]
    assert target.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
    server.close()
    other.close()


def test_a_directory_with_something_in_it_stays_and_is_told_of(place: tuple[str, int]) -> None:
    path, descriptor = place
    (Path(path) / "7-0123abcd.sock" / "something").mkdir(parents=True)
    with pytest.raises(OSError, match="not empty"):
        endpoint.bind(descriptor, "7-0123abcd.sock")
    assert os.listdir(path) == ["7-0123abcd.sock"]  # and nothing half-made


def test_a_socket_has_no_timeout_of_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    socket.setdefaulttimeout(3)
    try:
        made = endpoint.new_socket()
    finally:
        socket.setdefaulttimeout(None)
    assert made.gettimeout() is None
    made.close()


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("12-0123abcd.sock", (12, "0123abcd")),
        ("12-0123abcd-3.sock", (12, "0123abcd")),
        ("12-0123abcd.arm", (12, "0123abcd")),
        ("012-0123abcd.sock", None),
        ("12-0123ABCD.sock", None),
        ("12-0123abcd.sock\n", None),
        ("-12-0123abcd.sock", None),
        ("12-0123abcd.sock.tmp", None),
        ("99999999999-0123abcd.sock", None),
        ("../12-0123abcd.sock", None),
        ("", None),
    ],
)
def test_names_are_told_from_others(name: str, parsed: tuple[int, str] | None) -> None:
    assert endpoint.parse_name(name) == parsed


def test_names_that_are_made_are_read_back() -> None:
    for ending in (endpoint.SOCKET, endpoint.ARM):
        for attempt in range(endpoint.ATTEMPTS):
            assert endpoint.parse_name(endpoint.name_for(77, "89abcdef", ending, attempt)) == (77, "89abcdef")


def test_all_endpoints_of_a_user_are_listed(home: Path, place: tuple[str, int]) -> None:
    path, descriptor = place
    server = endpoint.bind(descriptor, "5-0123abcd.sock")
    endpoint.write_note(descriptor, "6-0123abcd.arm", 12)
    (Path(path) / "rubbish").touch()
    (home / "manhole-x").mkdir()
    (home / "manhole-00").mkdir(mode=0o700)
    uid = os.geteuid()
    assert endpoint.listening(str(home)) == [
        endpoint.Endpoint(path, "5-0123abcd.sock", 5, "0123abcd", uid, "socket"),
        endpoint.Endpoint(path, "6-0123abcd.arm", 6, "0123abcd", uid, "arm"),
    ]
    assert endpoint.listening(str(home))[0].path == f"{path}/5-0123abcd.sock"
    assert endpoint.listening(str(home / "nowhere")) == []
    server.close()


@pytest.mark.usefixtures("root")
def test_root_sees_all_users_and_a_user_only_itself(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    for uid in (0, 65533, 65534):
        directory = shared / f"manhole-{uid}"
        directory.mkdir(mode=0o700)
        (directory / "5-0123abcd.sock").touch()
        os.chown(directory, uid, uid)
    assert [found.uid for found in endpoint.listening(str(shared))] == [0, 65533, 65534]
    pid = os.fork()
    if not pid:
        os.chdir("/")
        os.setuid(65533)
        seen = [found.uid for found in endpoint.listening(str(shared))] if os.access(shared, os.R_OK) else [65533]
        os._exit(0 if seen == [65533] else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_what_the_dead_left_is_swept_and_what_lives_stays(place: tuple[str, int]) -> None:
    path, descriptor = place
    dead = dead_pid()
    endpoint.bind(descriptor, f"{dead}-0123abcd.sock").close()
    endpoint.write_note(descriptor, f"{dead}-0123abcd.arm", 12)
    (Path(path) / f".{dead}-01234567.tmp").touch()
    (Path(path) / f"{dead}-76543210.sock").symlink_to("/nowhere")
    kept = {f"{os.getpid()}-0123abcd.sock", f"{os.getpid()}-0123abcd.arm", "rubbish", f"{dead}-00000000.sock"}
    mine = endpoint.bind(descriptor, f"{os.getpid()}-0123abcd.sock")
    endpoint.write_note(descriptor, f"{os.getpid()}-0123abcd.arm", 12)
    (Path(path) / "rubbish").touch()
    # Its pid is unknown here, but it answers: of another pid namespace.
    other = endpoint.bind(descriptor, f"{dead}-00000000.sock")
    (Path(path) / f"{dead}-11111111.sock").mkdir()
    endpoint.sweep(descriptor)
    assert set(os.listdir(path)) == kept | {f"{dead}-11111111.sock"}
    mine.close()
    other.close()


def test_the_note_of_another_pid_namespace_is_not_swept(place: tuple[str, int]) -> None:
    path, descriptor = place
    name = f"{dead_pid()}-0123abcd.arm"
    (Path(path) / name).write_text('{"pid": 1, "start_time": 2, "signal": 12, "pid_namespace": 1}')
    endpoint.sweep(descriptor)
    assert os.listdir(path) == [name]


def test_a_note_says_who_is_armed_by_what(place: tuple[str, int]) -> None:
    path, descriptor = place
    endpoint.write_note(descriptor, "6-0123abcd.arm", 37)
    note = endpoint.read_note(descriptor, "6-0123abcd.arm")
    assert note is not None
    assert (note["pid"], note["signal"]) == (os.getpid(), 37)
    assert note["start_time"] > 0 or sys.platform != "linux"
    assert stat.S_IMODE(os.stat(os.path.join(path, "6-0123abcd.arm")).st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"pid": "1"}', '{"pid": 1, "start_time": true, "signal": 12}', "[" * 4000]
)
def test_what_is_no_note_is_none(place: tuple[str, int], text: str) -> None:
    path, descriptor = place
    (Path(path) / "6-0123abcd.arm").write_text(text)
    assert endpoint.read_note(descriptor, "6-0123abcd.arm") is None
    os.mkfifo(Path(path) / "fifo")
    (Path(path) / "link").symlink_to("6-0123abcd.arm")
    assert endpoint.read_note(descriptor, "fifo") is None
    assert endpoint.read_note(descriptor, "link") is None
    assert endpoint.read_note(descriptor, "nothing") is None
