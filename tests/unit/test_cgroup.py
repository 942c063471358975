"""A process' memory cgroup is found under v1, v2, both at once and in containers, and never invented."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import wait_for

from mmdebug.cgroup import MemoryCgroup, memory_cgroup

V1 = {
    "memory.limit_in_bytes": "1000\n",
    "memory.usage_in_bytes": "500\n",
    "memory.oom_control": "under_oom 0\noom_kill 3\n",
}
V2 = {
    "memory.max": "2000\n",
    "memory.current": "700\n",
    "memory.events": "low 0\noom 9\noom_kill 4\noom_group_kill 1\n",
}


def _tree(root: Path, files: dict[str, str], **changed: str) -> str:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, **{name.replace("__", "."): content for name, content in changed.items()}}.items():
        (root / name).write_text(content)
    return str(root)


@pytest.fixture
def look(tmp_path: Path) -> object:
    """`look(text of /proc/self/cgroup)` finds the cgroup in the made-up tree."""

    def look(text: str) -> MemoryCgroup | None:
        (tmp_path / "proc" / "self").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(text)
        return memory_cgroup("self", str(tmp_path / "fs"), str(tmp_path / "proc"))

    return look


def test_v1_is_read(tmp_path, look):
    home = _tree(tmp_path / "fs/memory/a/b", V1)
    assert look("5:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n") == MemoryCgroup(home, 3, 1000, 500)


def test_v2_is_read(tmp_path, look):
    home = _tree(tmp_path / "fs/a/b", V2)
    assert look("0::/a/b\n") == MemoryCgroup(home, 4, 2000, 700)


def test_where_both_are_mounted_the_memory_is_v1s_if_v1_has_it(tmp_path, look):
    _tree(tmp_path / "fs/unified/b", V2)
    home = _tree(tmp_path / "fs/memory/a", V1)
    assert look("3:memory:/a\n0::/b\n") == MemoryCgroup(home, 3, 1000, 500)


def test_where_both_are_mounted_the_memory_may_be_v2s(tmp_path, look):
    home = _tree(tmp_path / "fs/unified/b", V2)
    assert look("3:cpu:/a\n0::/b\n") == MemoryCgroup(home, 4, 2000, 700)


@pytest.mark.parametrize("path", ["/docker/0123", "/", "/../other"])
def test_in_a_container_a_path_of_the_hosts_means_the_mounts_root(tmp_path, look, path):
    home = _tree(tmp_path / "fs/memory", V1)
    assert look(f"3:memory:{path}\n").path == home
    home = _tree(tmp_path / "fs", V2)
    assert look(f"0::{path}\n") == MemoryCgroup(home, 4, 2000, 700)


def test_a_limit_above_counts_if_it_is_smaller(tmp_path, look):
    _tree(tmp_path / "fs/a", V2, memory__max="1500\n")
    _tree(tmp_path / "fs/a/b", V2)
    assert look("0::/a/b\n").limit == 1500


@pytest.mark.parametrize(("files", "line"), [(V1, "3:memory:/a\n"), (V2, "0::/a\n")])
def test_no_limit_is_none(tmp_path, look, files, line):
    unlimited = {"memory.max": "max\n", "memory.limit_in_bytes": "9223372036854771712\n"}
    home = "fs/memory/a" if files is V1 else "fs/a"
    _tree(tmp_path / home, {**files, **unlimited})
    assert look(line).limit is None


def test_without_a_controller_of_its_own_the_one_above_counts(tmp_path, look):
    home = _tree(tmp_path / "fs/a", V2)
    (tmp_path / "fs/a/b/c").mkdir(parents=True)
    assert look("0::/a/b/c\n").path == home


@pytest.mark.parametrize("text", ["", "nonsense\n", "::\n", "0::\n", "1:cpu:/\n", "0::/a\n", "\0\xff\n"])
def test_without_a_memory_cgroup_there_is_none(look, text):
    assert look(text) is None


def test_without_proc_there_is_none(tmp_path):
    assert memory_cgroup("self", str(tmp_path), str(tmp_path)) is None


@pytest.mark.parametrize("number", ["", "-1\n", "x\n", "9" * 5000, "²"])
def test_what_is_no_number_is_not_known(tmp_path, look, number):
    home = _tree(tmp_path / "fs/a", V2, memory__events=f"oom_kill {number}", memory__max=number, memory__current=number)
    assert look("0::/a\n") == MemoryCgroup(home, None, None, None)


@pytest.fixture
def real(root: None) -> Iterator[Path]:
    """A real cgroup, v1 or v2, below this process' own."""
    mine = memory_cgroup()
    if mine is None:
        pytest.skip("NOT TESTED: no memory cgroup here")
    made = Path(mine.path) / f"mmdebug-test-{os.getpid()}"
    try:
        made.mkdir()
        for name in ("memory.limit_in_bytes", "memory.max"):
            if (made / name).exists():
                (made / name).write_text(str(32 << 20))
                break
        else:
            raise OSError("it has no limit to set")
    except OSError as error:
        if made.exists():
            made.rmdir()
        pytest.skip(f"NOT TESTED: a cgroup can't be made here: {error}")
    yield made
    # The kernel takes a moment to see that its last process is gone.
    wait_for(lambda: _gone(made), "the cgroup's end")


def _gone(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True


def test_a_process_that_is_really_killed_for_lack_of_memory_is_counted(real: Path):
    hungry = f"""
import os
open({str(real / "cgroup.procs")!r}, "w").write(str(os.getpid()))
import sys
sys.path[:0] = {sys.path!r}
from mmdebug.cgroup import memory_cgroup
found = memory_cgroup()
print(found.path, found.limit, found.oom_kills, flush=True)
eaten = [bytearray(os.urandom(1 << 20)) for _ in range(256)]
"""
    done = subprocess.run([sys.executable, "-c", hungry], capture_output=True, text=True)
    assert done.stdout == f"{real} {32 << 20} 0\n", done.stderr
    assert done.returncode == -9
    control = next(path for path in (real / "memory.oom_control", real / "memory.events") if path.exists())
    assert "oom_kill 1" in control.read_text()
