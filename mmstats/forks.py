"""Notice that this process is a forked child, whether or not any fork hook ran.

The cells test a word of a private page that the kernel wipes in a child (Linux 4.14 and later).
Elsewhere the fork hook alone tells a child from its parent.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import Any

from . import cells

_alive: Any = None
_pid = 0
_leave: Callable[[], None] | None = None


def watch(leave: Callable[[], None]) -> bool:
    """Have `leave` called once in each forked child, before its first record; False if that is so already."""
    global _leave
    if _leave is not None:
        return False
    _revive()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=adopt)
    _leave = leave
    return True


def _revive() -> None:
    """Set the word that the kernel wipes in a forked child."""
    global _alive, _pid
    _pid = os.getpid()
    if _alive is None:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            page.madvise(getattr(mmap, "MADV_WIPEONFORK", 18))
        except (OSError, ValueError, AttributeError):
            pass  # an old kernel or another system: the hook has to do
        _alive = memoryview(page)
    _alive[:8] = b"\1" + bytes(7)
    cells.set_alive(_alive)


def forked() -> bool:
    """Whether this process is a child that has not left its parent's files yet.

    The wiped page also tells where parent and child are both pid 1, each of its own namespace.
    """
    return not _alive[0] or os.getpid() != _pid


def adopt() -> None:
    """In a forked child, leave the parent's files; nothing where that is done or not needed.

    All of them are left before the word is set again: a cell that still pointed into a parent's
    file would else take it for its own.
    """
    if forked() and _leave is not None:
        _leave()
        _revive()
