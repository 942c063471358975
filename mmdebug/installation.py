"""`install`: opt in, once for each process. Everything else of the recorder is put together here."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import Any

from mmstats import registry
from mmstats.instrument import runtime

from . import cgroup, fault, hooks, logs, native, recorder, rings
from . import parked as parked_stacks
from .box import PARKED_BYTES
from .mainloop import note_hub
from .sampler import INTERVAL, Sampler
from .stacks.threads import known as known_threads

#: Samples between two looks at things that change rarely.
RARELY = 10
#: Threads whose names are kept, and characters of each.
MAX_THREADS, MAX_THREAD_NAME = 64, 40

#: Seconds that a forked child may take to become another program before it gets files of its own.
GRACE = 0.1


def _sample_parked() -> None:
    """Keep the stacks of the greenlets and tasks that wait."""
    groups = parked_stacks.sample()
    recorder.box().parked.set(time=time.time_ns(), groups=parked_stacks.encode(groups, PARKED_BYTES))


class _Installation:
    """What `install` has set up in this process."""

    def __init__(
        self,
        path: str | None,
        service: str | None,
        *,
        log_level: int | None,
        faults: bool,
        exceptions: bool,
        parked: bool,
        lag: bool,
        interval: float,
    ) -> None:
        self.faults = faults
        self.handler = logs.Handler(log_level) if log_level is not None else None
        self._idents: list[int] = []
        self._ticks = 0
        self._closed = False
        # Now, and not on the dying path or in a native thread.
        from .capture import exceptions as _exceptions

        del _exceptions
        native.note_main()
        note_hub()
        recorder.hold_reserve()
        stats = registry.registry_for(path, service=service)
        recorder.start(stats, self.facts, self.opened, self.renamed)
        closely = _sample_parked if parked else None
        self.sampler = Sampler(stats, runtime.Runtime(path), self.refresh, interval, lag, closely)
        if exceptions:
            hooks.install(recorder.record)
        self._look_for_contexts()
        if self.handler is not None:
            logs.configure()
            logs.attach(self.handler)
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._forked)
        atexit.register(self.close)
        self.sampler.start()

    def facts(self) -> dict[str, str]:
        """What is written about the surroundings of each process that gets a box."""
        return _facts(self.faults)

    def opened(self, path: str) -> None:
        """This process has got files; in a forked child, its own ones."""
        if self.faults and path:
            fault.enable(fault.beside(path))

    def renamed(self, path: str) -> None:
        """The stat file has got another name."""
        if self.faults:
            fault.rename(fault.beside(path))

    def refresh(self) -> None:
        """Called with each sample, in the sampler's thread."""
        hooks.refresh()
        if self.faults:
            fault.check()
        self._look_for_contexts()
        recorder.hold_reserve()
        self._name_threads()
        self._ticks += 1
        if self.handler is not None and self._ticks % RARELY == 1:
            logs.configure()
            logs.attach(self.handler)

    def _look_for_contexts(self) -> None:
        """Once greenlets and tasks are in use, have records say which one they are of."""
        greenlet = sys.modules.get("greenlet")
        events = sys.modules.get("asyncio.events")
        tasks = sys.modules.get("asyncio.tasks")
        rings.set_contexts(
            getattr(greenlet, "getcurrent", None),
            getattr(events, "_get_running_loop", None) if tasks is not None else None,
            getattr(tasks, "current_task", None),
        )

    def _name_threads(self) -> None:
        threads = known_threads(MAX_THREADS)
        if list(threads) == self._idents:
            return
        self._idents = list(threads)
        text = recorder.sanitizer().text
        known = {ident: text(thread.name)[:MAX_THREAD_NAME] for ident, thread in threads.items()}
        known[native.main_ident()] = "MainThread"
        recorder.box().threads.info({str(ident): name for ident, name in known.items()})

    # Python 3.12 warns of a fork while there are several threads, and rightly so: ours is not there then.

    def _before_fork(self) -> None:
        self.sampler.stop()

    def _after_fork(self) -> None:
        if not self._closed:
            self.sampler.start(self.sampler.interval)

    def _forked(self) -> None:
        native.note_main()
        self._ticks, self._idents = 0, []
        self.sampler.forked()
        self.sampler.start(GRACE)

    def close(self) -> None:
        """The clean end of the process."""
        self._closed = True
        self.sampler.stop()
        if self.faults:
            fault.disable()


def _facts(faults: bool) -> dict[str, str]:
    facts = {"main_thread": str(native.main_ident()), "faulthandler": "on" if faults else "off"}
    group = cgroup.memory_cgroup()
    if group is not None:
        facts["cgroup"] = group.path
        if group.oom_kills is not None:
            facts["oom_kills"] = str(group.oom_kills)
        if group.limit is not None:
            facts["memory_limit"] = str(group.limit)
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            facts["address_limit"] = str(limit)
    except (ImportError, OSError, ValueError):
        pass  # a fact less
    return facts


def open_box(path: str | None = None, service: str | None = None) -> Any:
    """The recorder's box without the rest of `install`, which may come later; for what has to note something."""
    native.note_main()
    recorder.start(registry.registry_for(path, service=service), lambda: _facts(False))
    return recorder.box()


def say(message: str, level: int = 3) -> None:
    """Warn at the line that many calls up, or where that can't be done, say it on stderr. Never raises."""
    import warnings

    try:
        warnings.warn(message, RuntimeWarning, stacklevel=level)
    except Exception:  # warnings are errors, or stderr is closed
        registry.complain(message)


_installation: _Installation | None = None
_lock = threading.RLock()


def disabled() -> bool:
    """Whether `MMDEBUG_DISABLE` switches everything off."""
    return _is_set("MMDEBUG_DISABLE")


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


def install(
    *,
    service: str | None = None,
    log_level: int | None = 0,
    faults: bool = True,
    exceptions: bool = True,
    parked: bool | None = None,
    lag: bool = True,
    path: str | None = None,
    interval: float = INTERVAL,
) -> bool:
    """Opt in: record what this process does, so that its death can be explained. Never raises.

    service: the name under which the process is found; by default `MMSTATS_SERVICE`, or the command
    log_level: the least level of log records that are kept; None keeps none
    faults: have faulthandler write to a file beside the stat file
    exceptions: record exceptions that nobody caught; the hooks that were there before still run
    parked: sample the stacks of waiting greenlets and tasks, every ten seconds or more rarely; by default
        if `MMDEBUG_PARKED` is set
    lag: measure how late the main thread's event loop or hub is
    path: the directory of the files; by default that of the program's own stats, as `mmstats.directory` tells
    interval: seconds between two samples of the runtime

    Forked children record into files of their own. A second call changes nothing. False if
    `MMDEBUG_DISABLE` is set, in a sub-interpreter such as mod_wsgi's (its end would find the sampler's thread
    and abort the process), or if it could not be done: then a warning says why.
    """
    global _installation
    if disabled() or not native.in_main_interpreter():
        return False
    with _lock:
        if _installation is not None:
            return True
        try:
            _installation = _Installation(
                path,
                service,
                log_level=log_level,
                faults=faults,
                exceptions=exceptions,
                parked=_is_set("MMDEBUG_PARKED") if parked is None else parked,
                lag=lag,
                interval=max(float(interval), 0.05),
            )
        except Exception as error:  # whatever it is: the program is worth more than its recorder
            say(f"mmdebug records nothing: {error}")
            return False
    return True


def installation() -> Any:
    """What was installed; None before."""
    return _installation


def stats_file() -> str | None:
    """The path of this process' stat file, beside which its box lies; None where there is none."""
    found = recorder.box()
    return found.stats.filename if found is not None else registry.registry_for().filename
