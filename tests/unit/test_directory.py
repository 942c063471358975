"""The operator's directory is trusted as it is; a default one only if nobody else can have a hand in it."""

from __future__ import annotations

import os
import stat
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import ROOT, Program

from mmstats import directory
from mmstats.errors import ConfigurationError

Run = Callable[..., Program]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm and these modes are Linux's")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="NOT TESTED: mounts and other users' files need root")

NOBODY = 54321
OWN = f"{directory.PREFIX}{os.getuid()}"

#: Mounts over what programs in this mount namespace of their own use by default.
OWN_MEMORY = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o mode=1777 none /dev/shm && exec "$0" "$@"')
READ_ONLY = ("unshare", "--mount", "sh", "-c", """
    for where in /dev/shm /tmp /var/tmp; do
        mount --bind "$where" "$where" && mount -o remount,bind,ro "$where" || exit 9
    done
    exec "$0" "$@"
""")  # fmt: skip


def recording(before: str, after: str = "") -> str:
    """The source of a program that makes a file and prints its name."""
    middle = """
        import mmstats
        class Stats(mmstats.MmStats):
            n = mmstats.CounterField()
        stats = Stats(service="web", strict=True)
        stats.n.inc()
        print(stats.filename, flush=True)
    """
    return "".join(map(textwrap.dedent, (before, middle, after)))


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory is configured."""
    monkeypatch.delenv("MMSTATS_PATH", raising=False)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unset: None) -> Path:
    """Stands in for /dev/shm."""
    base = tmp_path / "shm"
    base.mkdir()
    base.chmod(0o1777)
    monkeypatch.setattr(directory, "SHARED_MEMORY", str(base))
    return base


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for /tmp."""
    base = tmp_path / "tmp"
    base.mkdir()
    base.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(base))
    return base


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# The operator's.


@pytest.mark.parametrize("mode", [0o700, 0o777, 0o1777, 0o2775, 0o770])
def test_the_operators_directory_is_trusted_whatever_its_mode(home: Path, mode: int) -> None:
    home.chmod(mode)
    assert directory.prepare() == directory.prepare(str(home)) == str(home)
    assert directory.readable() == [str(home)]
    assert mode_of(home) == mode


@needs_root
def test_the_operators_directory_is_trusted_whoever_owns_it(home: Path) -> None:
    os.chown(home, NOBODY, NOBODY)
    assert directory.prepare() == str(home)
    assert directory.readable() == [str(home)]


def test_the_operator_may_give_a_symbolic_link(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link"
    link.symlink_to(home)
    monkeypatch.setenv("MMSTATS_PATH", str(link))
    assert directory.prepare() == str(link)
    assert directory.readable() == [str(link)]


def test_an_argument_goes_before_the_environment(tmp_path: Path, home: Path) -> None:
    other = tmp_path / "other"
    assert directory.prepare(str(other)) == str(other)
    assert other.is_dir()


def test_a_relative_directory_is_of_the_present_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMSTATS_PATH", "a/../b")
    assert directory.prepare() == str(tmp_path / "b")
    monkeypatch.chdir("/")
    assert (tmp_path / "b").is_dir()


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
@pytest.mark.parametrize(
    ("mode", "expected"), [(None, 0o700), ("600", 0o700), ("0640", 0o750), ("644", 0o755), ("604", 0o705)]
)
def test_a_missing_directory_of_the_operators_is_made_and_lets_in_who_may_read_its_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    umask: Callable[[int], int],
    mask: int,
    mode: str | None,
    expected: int,
) -> None:
    made = tmp_path / "some" / "where"
    monkeypatch.setenv("MMSTATS_PATH", str(made))
    if mode is not None:
        monkeypatch.setenv("MMSTATS_MODE", mode)
    umask(mask)
    assert directory.prepare() == str(made)
    assert mode_of(made) == expected
    assert directory.prepare() == str(made)


def test_a_made_directory_keeps_the_group_that_it_inherits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], int]
) -> None:
    tmp_path.chmod(0o2750)
    monkeypatch.setenv("MMSTATS_PATH", str(tmp_path / "made"))
    monkeypatch.setenv("MMSTATS_MODE", "0640")
    umask(0o077)
    directory.prepare()
    assert mode_of(tmp_path / "made") == 0o2750


@pytest.mark.parametrize("kind", ["file", "dangling symbolic link", "below a file"])
def test_an_operators_path_that_cannot_be_a_directory_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "path"
    if kind == "dangling symbolic link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.write_text("")
    monkeypatch.setenv("MMSTATS_PATH", str(path / "x" if kind == "below a file" else path))
    with pytest.raises(OSError, match="set MMSTATS_PATH to a directory") as caught:
        directory.prepare()
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is not None
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_that_someone_else_makes_first_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "raced"
    real = os.mkdir

    def late(name: str, mode: int = 0o777) -> None:
        real(name, mode)
        raise FileExistsError(17, "File exists", name)

    monkeypatch.setattr(os, "mkdir", late)
    assert directory.prepare(str(path)) == str(path)


# The default ones.


def test_without_configuration_each_user_has_a_directory_of_its_own(shared: Path, temporary: Path) -> None:
    assert directory.defaults() == [str(shared / OWN), str(temporary / OWN)]
    assert directory.prepare() == str(shared / OWN)
    assert mode_of(shared / OWN) == 0o700
    assert (shared / OWN).stat().st_uid == os.getuid()
    assert not (temporary / OWN).exists()
    assert directory.prepare() == str(shared / OWN)


def test_a_default_directory_is_closed_whatever_the_umask(
    shared: Path, temporary: Path, umask: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSTATS_MODE", "0644")
    umask(0)
    assert mode_of(Path(directory.prepare())) == 0o700


def test_an_empty_setting_is_none(shared: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_PATH", "")
    monkeypatch.setenv("MMSTATS_MODE", "")
    assert directory.prepare() == str(shared / OWN)
    assert directory.file_mode() == 0o600


def test_without_shared_memory_the_temporary_directory_is_used(
    tmp_path: Path, shared: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "SHARED_MEMORY", str(tmp_path / "none"))
    assert directory.prepare() == str(temporary / OWN)
    assert mode_of(temporary / OWN) == 0o700


def test_the_temporary_directory_is_the_first_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setenv("TEMP", str(tmp_path / "b"))
    monkeypatch.setenv("TMP", "/")
    assert directory.temporary() == str(tmp_path / "b")
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name)
    assert directory.temporary() == "/tmp"


def symlink(path: Path) -> None:
    (path.parent / "target").mkdir(mode=0o700)
    path.symlink_to(path.parent / "target")


def open_to(mode: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        path.chmod(mode)

    return make


def of_another(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, NOBODY)


SPOOFS = {
    "a symbolic link": (symlink, "symbolic link"),
    "a dangling symbolic link": (lambda path: path.symlink_to(path.parent / "nowhere"), "symbolic link"),
    "a symbolic link to itself": (lambda path: path.symlink_to(path), "symbolic link"),
    "a file": (lambda path: path.write_text(""), "not a directory"),
    "a FIFO": (lambda path: os.mkfifo(path), "not a directory"),
    "writable by all": (open_to(0o777), "open to others (mode 0777)"),
    "writable by all and sticky": (open_to(0o1777), "open to others (mode 1777)"),
    "readable by the group": (open_to(0o750), "open to others (mode 0750)"),
    "searchable by others": (open_to(0o701), "open to others (mode 0701)"),
}


@pytest.mark.parametrize("what", SPOOFS)
def test_a_default_directory_that_others_have_a_hand_in_is_refused_and_the_next_is_used(
    shared: Path, temporary: Path, what: str
) -> None:
    make, reason = SPOOFS[what]
    make(shared / OWN)
    before = os.lstat(shared / OWN)
    assert reason in str(directory.refuse(str(shared / OWN)))
    assert directory.prepare() == str(temporary / OWN)
    after = os.lstat(shared / OWN)
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    assert not (shared / "nowhere").exists()
    if (shared / "target").exists():
        assert not os.listdir(shared / "target")


@needs_root
def test_a_default_directory_of_another_user_is_refused_and_the_next_is_used(shared: Path, temporary: Path) -> None:
    of_another(shared / OWN)
    assert directory.refuse(str(shared / OWN)) == f"{shared / OWN} belongs to uid {NOBODY}"
    assert directory.prepare() == str(temporary / OWN)


@pytest.mark.parametrize("what", SPOOFS)
def test_with_no_default_directory_left_the_error_says_why_and_what_to_do(
    shared: Path, temporary: Path, what: str
) -> None:
    make, reason = SPOOFS[what]
    make(shared / OWN)
    make(temporary / OWN)
    with pytest.raises(OSError, match="set MMSTATS_PATH to one") as caught:
        directory.prepare()
    assert str(caught.value).count(reason) == 2
    assert str(shared / OWN) in str(caught.value)
    assert str(temporary / OWN) in str(caught.value)


@needs_root
def test_a_user_without_a_name_or_a_home_can_record(run: Run) -> None:
    program = run(
        recording(f"""
        import os, pwd
        import mmstats.model, mmstats.redact, mmstats.registry  # the library may be closed to that user
        os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
        os.chdir("/")
        for name in ("HOME", "USER", "LOGNAME", "MMSTATS_PATH"):
            os.environ.pop(name, None)
        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            print("nameless", flush=True)
        """),
        wrap=OWN_MEMORY,
    )
    assert program.line() == "nameless"
    assert os.path.dirname(program.line()) == f"/dev/shm/{directory.PREFIX}{NOBODY}"
    program.finish()


@needs_root
def test_on_a_read_only_system_the_error_says_what_to_do(run: Run) -> None:
    program = run(
        """
        from mmstats import directory
        try:
            directory.prepare()
        except OSError as error:
            print(error)
        """,
        env={"MMSTATS_PATH": "", "TMPDIR": "/tmp", "PYTHONPATH": str(ROOT)},
        wrap=READ_ONLY,
    )
    out, _ = program.finish()
    # Where the directory is there already, it is not that it can't be made, but that it can't be written to.
    assert f"/dev/shm/{OWN}" in out
    assert f"/tmp/{OWN}" in out
    assert "set MMSTATS_PATH to one" in out


@needs_root
def test_on_a_read_only_system_the_operators_directory_fails_with_what_to_do(run: Run) -> None:
    program = run(
        """
        from mmstats import directory
        try:
            directory.prepare()
        except OSError as error:
            print(error)
        """,
        env={"MMSTATS_PATH": "/var/tmp/stats", "PYTHONPATH": str(ROOT)},
        wrap=READ_ONLY,
    )
    out, _ = program.finish()
    assert "Read-only file system: make it, or set MMSTATS_PATH to a directory that can be written to" in out
    assert "/var/tmp/stats" in out


@needs_root
def test_on_a_read_only_system_a_program_runs_on_and_says_so_once(run: Run) -> None:
    program = run(
        """
        import mmstats
        class Stats(mmstats.MmStats):
            n = mmstats.CounterField()
        stats = Stats()
        stats.n.inc(3)
        print(stats.n.value, repr(stats.filename))
        """,
        env={"MMSTATS_PATH": "", "TMPDIR": "/tmp", "PYTHONPATH": str(ROOT)},
        wrap=READ_ONLY,
    )
    out, err = program.finish()
    assert out == "3 ''\n"
    assert err.count("set MMSTATS_PATH to one") == 1


@needs_root
def test_a_default_directory_made_read_only_later_is_refused(run: Run) -> None:
    program = run(
        """
        import subprocess
        from mmstats import directory
        subprocess.check_call(["mount", "-t", "tmpfs", "none", "/dev/shm"])
        path = directory.prepare()
        subprocess.check_call(["mount", "-o", "remount,ro", "/dev/shm"])
        print(directory.refuse(path))
        """,
        env={"MMSTATS_PATH": ""},
        wrap=("unshare", "--mount"),
    )
    assert program.line() == f"/dev/shm/{OWN} can't be written to"


@needs_root
def test_a_program_that_lowered_its_rights_uses_the_directory_of_its_new_user(run: Run) -> None:
    """And leaves none in root's name that isn't root's."""
    program = run(
        f"""
        import os
        from mmstats import directory
        os.setegid({NOBODY}); os.seteuid({NOBODY})
        print(directory.prepare(), directory.readable())
        print(sorted(os.listdir("/dev/shm")))
        """,
        env={"MMSTATS_PATH": ""},
        wrap=OWN_MEMORY,
    )
    expected = f"/dev/shm/{directory.PREFIX}{NOBODY}"
    assert program.line() == f"{expected} ['{expected}']"
    assert program.line() == f"['{directory.PREFIX}{NOBODY}']"


# The mode of files.


@pytest.mark.parametrize(
    ("text", "mode"),
    [("", 0o600), ("600", 0o600), ("0600", 0o600), ("0o640", 0o640), ("640", 0o640), ("0644", 0o644), ("604", 0o604)],
)
def test_the_mode_is_read_as_octal(monkeypatch: pytest.MonkeyPatch, text: str, mode: int) -> None:
    monkeypatch.setenv("MMSTATS_MODE", text)
    assert directory.file_mode() == mode


def test_without_a_mode_only_the_owner_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMSTATS_MODE", raising=False)
    assert directory.file_mode() == 0o600


@pytest.mark.parametrize(
    "text",
    ["rw", "u=rw", "0x1a0", "8", "680", "-600", "400", "200", "040", "0", "660", "662", "646", "700", "755", "1600"]
    + ["2640", "77777777777", "6 0 0", "6.0"],
)  # fmt: skip
def test_a_mode_that_is_none_for_a_stat_file_is_refused_with_one_that_is(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MMSTATS_MODE", text)
    with pytest.raises(ConfigurationError, match="use 0600, 0640 or 0644") as caught:
        directory.file_mode()
    assert f"MMSTATS_MODE={text} " in str(caught.value)


def test_each_mode_that_the_error_recommends_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_MODE", "nonsense")
    with pytest.raises(ConfigurationError) as caught:
        directory.file_mode()
    advice = str(caught.value).partition(": use ")[2]
    recommended = [word.strip(",") for word in advice.split() if word[0].isdigit()]
    assert len(recommended) == 3
    for text in recommended:
        monkeypatch.setenv("MMSTATS_MODE", text)
        assert directory.file_mode() == int(text, 8)


def test_a_bad_mode_leaves_no_directory_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_MODE", "0666")
    with pytest.raises(ConfigurationError):
        directory.prepare(str(tmp_path / "a" / "b"))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_file_has_the_mode_that_was_asked_for_whatever_the_umask(run: Run, mode: int) -> None:
    program = run(recording("import os; os.umask(0o077)", "input()"), env={"MMSTATS_MODE": f"{mode:o}"})
    assert mode_of(Path(program.line())) == mode


@needs_root
def test_a_group_that_files_are_opened_to_can_read_them(run: Run) -> None:
    """In a directory that is made for it, below one that anybody may pass."""
    program = run(
        recording(
            f"import os; os.umask(0o077); os.setgid({NOBODY})",
            f"""
            path = stats.filename
            if not os.fork():
                os.setgroups([]); os.setuid({NOBODY + 1})
                print(os.listdir("/dev/shm/made") == [os.path.basename(path)], flush=True)
                print(open(path, "rb").read(4) == b"\\x89MMS", os.access(path, os.W_OK), flush=True)
                os._exit(0)
            os.wait()
            """,
        ),
        env={"MMSTATS_PATH": "/dev/shm/made", "MMSTATS_MODE": "0640"},
        wrap=OWN_MEMORY,
    )
    assert program.line().startswith("/dev/shm/made/web-")
    assert program.line() == "True"
    assert program.line() == "True False"


# What a reader sees.


def test_a_reader_looks_into_all_of_its_own_directories_that_exist(shared: Path, temporary: Path) -> None:
    assert directory.readable() == []
    (temporary / OWN).mkdir(mode=0o700)
    assert directory.readable() == [str(temporary / OWN)]
    (shared / OWN).mkdir(mode=0o700)
    assert directory.readable() == [str(shared / OWN), str(temporary / OWN)]


def test_a_reader_makes_nothing(shared: Path, temporary: Path) -> None:
    directory.readable()
    assert not os.listdir(shared)
    assert not os.listdir(temporary)


@needs_root
def test_root_sees_the_directories_of_all_users_and_none_that_is_spoofed(shared: Path, temporary: Path) -> None:
    def make(base: Path, name: str, uid: int) -> Path:
        path = base / f"{directory.PREFIX}{name}"
        path.mkdir(mode=0o700)
        os.chown(path, uid, uid)
        return path

    real = [make(shared, "0", 0), make(shared, "1000", 1000), make(shared, "54321", NOBODY), make(temporary, "7", 7)]
    make(shared, "1001", 1002)
    make(shared, "1003", 0)
    make(shared, "01000", 1000)
    make(shared, "1000 ", 1000)
    make(shared, "", 0)
    make(shared, "web", 1000)
    (shared / f"{directory.PREFIX}1004").symlink_to(real[1])
    os.lchown(shared / f"{directory.PREFIX}1004", 1004, 1004)
    (shared / f"{directory.PREFIX}1005").write_text("")
    os.chown(shared / f"{directory.PREFIX}1005", 1005, 1005)
    (shared / f"{directory.PREFIX}1006").symlink_to("nowhere")
    (shared / "other-1000").mkdir()
    assert sorted(directory.readable()) == sorted(map(str, real))


@needs_root
def test_an_ordinary_user_sees_only_its_own(run: Run) -> None:
    program = run(
        f"""
        import os
        from mmstats import directory
        for uid in (0, 1000, {NOBODY}):
            os.mkdir(f"/dev/shm/mmstats-{{uid}}", 0o700)
            os.chown(f"/dev/shm/mmstats-{{uid}}", uid, uid)
        print(len(directory.readable()))
        os.setgid({NOBODY}); os.setuid({NOBODY})
        print(directory.readable())
        """,
        env={"MMSTATS_PATH": "", "TMPDIR": "/dev/shm"},
        wrap=OWN_MEMORY,
    )
    assert program.line() == "3"
    assert program.line() == f"['/dev/shm/mmstats-{NOBODY}']"


def test_a_file_takes_what_it_takes_of_the_disk_and_not_its_length(tmp_path: Path) -> None:
    path = tmp_path / "hole"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    assert directory.disk_bytes(path.stat()) < 1 << 20
    path.write_bytes(b"x" * 8192)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    assert 8192 <= directory.disk_bytes(path.stat()) < 1 << 20
