"""How children end: every wait of this process can be watched, and what it tells goes into their files.

Nothing here raises, waits for anybody, or holds a lock: it runs within the program's own
`os.waitpid`, in signal handlers, and in gevent's hub.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from mmstats import directory, identity, registry, retention

from .cgroup import memory_cgroup
from .exits import SIGNALS, mark_reported, read_exit, record_exit, was_reported
from .records import Exit, SignalSent

__all__ = [
    "Ledger", "disabled", "files_of", "mark_reported", "peak_bytes", "read_exit", "record_exit", "unwatch",
    "was_reported", "watch",
]  # fmt: skip

#: Children of which signals are remembered.
CHILDREN = 256

#: Nanoseconds before an end at which the count of OOM kills is taken for the one from before:
#: several children may be killed at once, and are waited for one after another.
SETTLED = 10_000_000_000


def disabled() -> bool:
    """Whether ``MMDEBUG_DISABLE`` turns everything off."""
    return os.environ.get("MMDEBUG_DISABLE", "") not in ("", "0")


# Finding the files.


def files_of(pid: int) -> list[str]:
    """Files whose names say that the process `pid` wrote them."""
    mark, found = f"-{pid}-", []
    for home in _homes():
        try:
            names = os.listdir(home)
        except OSError:
            continue
        for name in names:
            if mark in name and name[0] != "." and retention.service_of(name) and name.rsplit("-", 2)[1] == str(pid):
                found.append(os.path.join(home, name))
    return found


def _homes() -> list[str]:
    """Directories where children's files may be; cheap, since this is asked for each child that ends."""
    own = [os.path.dirname(used.filename) for used in list(registry._registries.values()) if used.filename]
    configured = directory.configured()
    if configured:
        return list(dict.fromkeys([configured, *own]))
    defaults = directory.defaults()
    return list(dict.fromkeys([*defaults, *own, *(_of_others(defaults[0]) if os.geteuid() == 0 else ())]))


def _of_others(own: str) -> Iterator[str]:
    """The directories of other users beside `own`: root's children may have become other users."""
    base = os.path.dirname(own)
    try:
        names = os.listdir(base)
    except OSError:
        return
    for name in names:
        if name.startswith(directory.PREFIX):
            path = os.path.join(base, name)
            try:
                found = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISDIR(found.st_mode) and name == f"{directory.PREFIX}{found.st_uid}":
                yield path


# What a parent knows.


class Ledger:
    """What this process knows of its children: signals that it sent, and the OOM kills of its cgroup.

    Without a lock: each step is one operation of a dict or a deque, and what two threads lose at
    worst is a remark.
    """

    def __init__(self) -> None:
        self._signals: dict[int, deque[SignalSent]] = {}
        self._kills: deque[tuple[int, str, int]] = deque(maxlen=64)
        self.count_kills()

    def count_kills(self) -> tuple[int | None, int | None, str]:
        """The cgroup's count of OOM kills: some seconds ago, and now; and which cgroup that is."""
        group = memory_cgroup()
        if group is None or group.oom_kills is None:
            return None, None, ""
        now = time.time_ns()
        seen = [entry for entry in list(self._kills) if entry[1] == group.path]
        if not seen or seen[-1][2] != group.oom_kills:
            self._kills.append((now, group.path, group.oom_kills))
        settled = [entry for entry in seen if entry[0] <= now - SETTLED]
        before = settled[-1] if settled else seen[0] if seen else None
        return before[2] if before else None, group.oom_kills, group.path

    def sent(self, pid: int, number: int) -> None:
        """Note that the process `pid` is sent a signal now."""
        if number > 0 and pid > 1:
            if len(self._signals) >= CHILDREN and pid not in self._signals:
                self._signals.pop(next(iter(self._signals)), None)
            self._signals.setdefault(pid, deque(maxlen=SIGNALS)).append(SignalSent(time.time_ns(), number))

    def not_sent(self, pid: int) -> None:
        """Take back the last note: the system refused."""
        notes = self._signals.get(pid)
        if notes:
            notes.pop()

    def ended(self, pid: int, status: int, *, max_rss: int = 0, start_ticks: int | None = None) -> bool:
        """Record the end of a child that was waited for; whether there was a file to record it in."""
        if not (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            return False  # stopped or continued
        when = time.time_ns()
        signals = tuple(self._signals.pop(pid, ()))
        paths = files_of(pid)
        if not paths:
            return False
        before, after, group = self.count_kills()
        return record_exit(
            pid,
            Exit(status, when, os.getpid(), _service(), signals, before, after, max_rss, group),
            paths,
            start_ticks=start_ticks,
        )


def _service() -> str:
    used = next(iter(list(registry._registries.values())), None)
    return used.service if used is not None else identity.configured_service() or identity.default_service()


def peak_bytes(usage: Any) -> int:
    """A peak of resident memory out of a rusage, in bytes."""
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


# Watching every wait of this process.

_ledger: Ledger | None = None
_replaced: list[tuple[Any, str, Any, Any]] = []
_fork_hooks = False


def watch() -> None:
    """Have every child that this process waits for get its exit status into its file, and signals noted.

    Wraps `os.waitpid` and its kin, `os.kill` and `os.killpg`. What bound them to names of its own
    before this keeps the originals, but for subprocess and gevent, which are seen to. Once is
    enough; further calls do nothing.
    """
    global _ledger, _fork_hooks
    if disabled() or not hasattr(os, "fork"):
        return
    try:
        if _ledger is None:
            _ledger = Ledger()
            for name, told in _WAITS.items():
                if hasattr(os, name):
                    _replace(os, name, _waiting(getattr(os, name), told))
            _replace(os, "kill", _killing(os.kill, False))
            if hasattr(os, "killpg"):
                _replace(os, "killpg", _killing(os.killpg, True))
            _see_to_subprocess()
            if not _fork_hooks:
                _fork_hooks = True
                os.register_at_fork(after_in_parent=_see_to_gevent, after_in_child=_start_over)
        _see_to_gevent()
    except Exception as error:
        _say(f"the ends of children are not recorded: {error}")


def unwatch() -> None:
    """Undo `watch`, as far as nobody has wrapped it in turn."""
    global _ledger
    _ledger = None
    for owner, name, ours, original in reversed(_replaced):
        if getattr(owner, name, None) is ours:
            setattr(owner, name, original)
    _replaced.clear()


def _replace(owner: Any, name: str, ours: Any) -> None:
    _replaced.append((owner, name, ours, getattr(owner, name)))
    setattr(owner, name, ours)


def _start_over() -> None:
    """In a forked child: the parent's children are not its own."""
    if _ledger is not None:
        _ledger._signals.clear()


def _ended(pid: int, status: int, max_rss: int = 0) -> None:
    ledger = _ledger
    if ledger is not None:
        try:
            ledger.ended(pid, status, max_rss=max_rss)
        except Exception:
            pass  # the program waited, and gets what it waited for


_End = tuple[int, int, int] | None


def _of_waitpid(result: Any, args: tuple[Any, ...]) -> _End:
    return (result[0], result[1], 0) if result[0] else None


def _of_wait4(result: Any, args: tuple[Any, ...]) -> _End:
    return (result[0], result[1], peak_bytes(result[2])) if result[0] else None


def _of_waitid(result: Any, args: tuple[Any, ...]) -> _End:
    """As a wait status; nothing where the child was only looked at."""
    if result is None or args[2] & os.WNOWAIT:
        return None
    if result.si_code == os.CLD_EXITED:
        return result.si_pid, (result.si_status & 0xFF) << 8, 0
    if result.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
        return result.si_pid, result.si_status | (0x80 if result.si_code == os.CLD_DUMPED else 0), 0
    return None


_WAITS: dict[str, Callable[[Any, tuple[Any, ...]], _End]] = {
    "wait": _of_waitpid,
    "waitpid": _of_waitpid,
    "wait3": _of_wait4,
    "wait4": _of_wait4,
    "waitid": _of_waitid,
}


def _waiting(real: Any, told: Callable[[Any, tuple[Any, ...]], _End]) -> Any:
    @functools.wraps(real)
    def waiting(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        try:
            end = told(result, args)
            if end is not None:
                _ended(*end)
        except Exception:
            pass  # a result of another shape is the program's business
        return result

    return waiting


def _killing(real: Any, group: bool) -> Any:
    """Of a group only its leader is known to be in it: a child that has the group's number as its pid."""

    @functools.wraps(real)
    def killing(*args: Any, **kwargs: Any) -> Any:
        ledger, target = _ledger, 0
        if ledger is not None and len(args) == 2:
            try:
                # Noted first: another thread may wait for the child before this call returns.
                target = int(args[0]) if group else abs(int(args[0]))
                target = 0 if target == os.getpid() else target
                ledger.sent(target, int(args[1]))
            except Exception:
                target = 0  # wrong arguments are refused below
        try:
            return real(*args, **kwargs)
        except BaseException:
            if ledger is not None and target > 1 and args[1] > 0:
                ledger.not_sent(target)
            raise

    return killing


def _see_to_subprocess() -> None:
    """`subprocess` keeps `os.waitpid` for its finalizers, if it was imported before."""
    module: Any = sys.modules.get("subprocess")
    if module is None:
        return
    original = os.waitpid.__wrapped__  # type: ignore[attr-defined]
    kept = getattr(module, "_del_safe", None)
    if getattr(kept, "waitpid", None) is original:
        _replace(kept, "waitpid", os.waitpid)
    poll = getattr(module.Popen, "_internal_poll", None)
    defaults = getattr(poll, "__defaults__", None) or ()
    if any(value is original for value in defaults):
        _replace(poll, "__defaults__", tuple([os.waitpid if value is original else value for value in defaults]))


def _see_to_gevent() -> None:
    """gevent's loop waits for children itself, in C; all that it forked come by one function of `gevent.os`.

    Asked again at each fork, since gevent may be imported at any time: it forks before it looks
    that function up.
    """
    module: Any = sys.modules.get("gevent.os")
    if _ledger is None or module is None or any(owner is module for owner, *_ in list(_replaced)):
        return
    on_child = getattr(module, "_on_child", None)
    if on_child is None:
        return

    @functools.wraps(on_child)
    def noted(watcher: Any, callback: Any) -> Any:
        _ended(watcher.pid, watcher.rstatus)
        return on_child(watcher, callback)

    ours = any(replaced is module._waitpid for _, _, replaced, _ in _replaced)
    _replace(module, "_on_child", noted)
    if not ours:  # imported before `watch`
        _replace(module, "_waitpid", _waiting(module._waitpid, _of_waitpid))


def _say(message: str) -> None:
    try:
        print(f"mmdebug: {message}", file=sys.stderr)
    except (OSError, ValueError, AttributeError):
        pass  # there is nowhere to say it
