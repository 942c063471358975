"""What crash tests need of the machine: file systems of their own, namespaces, other users."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs of a size, such as ``"1m"``, and return its path. Needs root."""
    mounted: list[Path] = []

    def make(size: str) -> Path:
        path = tmp_path / f"tmpfs{len(mounted)}"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"NOT TESTED: a tmpfs can't be mounted here: {done.stderr.strip()}")
        mounted.append(path)
        return path

    yield make
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def unshare() -> tuple[str, ...]:
    """What to put before a command so that it runs as pid 1 of a pid namespace of its own. Needs root."""
    command = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: pid namespaces can't be made here")
    return command


@pytest.fixture
def root() -> None:
    """For tests that change to another uid."""
    if os.getuid():
        pytest.skip("NOT TESTED: only root can become another user")
