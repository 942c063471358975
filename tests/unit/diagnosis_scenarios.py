"""`SCENARIOS`: ends of processes, and what the diagnosis has to say of each. The docs show them too."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from mmdebug.diagnosis.verdict import Evidence
from mmdebug.records import (
    Activity,
    CapturedError,
    Event,
    ExceptionRecord,
    Exit,
    Fault,
    FaultFrame,
    FaultThread,
    Sample,
    SignalSent,
)

#: When all of them ended, ns since the epoch.
END = 1_800_000_000_000_000_000
MIB = 1 << 20
MAIN = 0x7F00


@dataclass(frozen=True)
class Scenario:
    """What is known of an end, and what is to be made of it.

    cause, confidence: of the first cause; empty for none
    also: other causes that must be there; never: that must not
    says: what the summary must hold; unsaid: words that stand nowhere in the verdict
    """

    id: str
    story: str
    evidence: Evidence
    cause: str
    confidence: str
    also: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ("memory",)


def ago(seconds: float) -> int:
    return END - int(seconds * 1e9)


def sent(*signals: tuple[int, float]) -> tuple[SignalSent, ...]:
    """Signals, each with how many s before the end it was sent."""
    return tuple([SignalSent(ago(seconds), number) for number, seconds in signals])


def by(number: int, **more: Any) -> Exit:
    """The note of a parent whose child was ended by a signal."""
    return Exit(**{"status": number, "time": END, "parent": 10, **more})


def code(number: int, **more: Any) -> Exit:
    return by(number << 8, **more)


def died(**more: Any) -> Evidence:
    return Evidence(**{"state": "died", "boxed": True, "created": ago(3600), "found": END + 60 * 10**9,
                       "main_thread": MAIN, **more})  # fmt: skip


def closed(**more: Any) -> Evidence:
    return died(**{"state": "closed", "closed": END, **more})


def busy(seconds: float, name: str = "GET /report", **more: Any) -> Activity:
    return Activity(name, ago(seconds), **{"thread": MAIN, **more})


def samples(rss: float = 0, lag: float = 0, cpu: float = 0, moved: tuple[str, ...] = ()) -> tuple[Sample, ...]:
    """One each second to half a second before the end; `cpu` is the share of one."""
    values = {"rss": rss, "lag": lag} if rss else {"lag": lag}
    return tuple([Sample(ago(at + 0.5), {**values, "cpu": (100 - at) * cpu}, moved) for at in range(30, -1, -1)])


def error(kind: str, how: str = "main thread", seconds: float = 0.2, message: str = "no such page") -> ExceptionRecord:
    fatal = how == "main thread"
    return ExceptionRecord(
        kind, "app.py:7 view", how, 1, ago(seconds), ago(seconds), MAIN, fatal=fatal, error=CapturedError(kind, message)
    )


def fault(headline: str, frames: int = 2, functions: int = 2, thread: int = MAIN) -> Fault:
    stack = tuple([FaultFrame("app.py", at, f"call{at % functions}") for at in range(frames)])
    headline = f"Fatal Python error: {headline}"
    return Fault(headline, (FaultThread(0x7F99, False), FaultThread(thread, True, stack)), headline)


def said(name: str, seconds: float, kind: str = "event") -> Event:
    return Event(ago(seconds), "error", kind, name)


KILL, TERM, ABRT, SEGV, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGSEGV, signal.SIGINT
UNTOLD = ("killed", "terminated", "os_exit", "crashed")
GUNICORN = {"parent_service": "gunicorn", "signals": sent((ABRT, 1), (KILL, 0.1))}

SCENARIOS = (
    # Ends by itself.
    Scenario("clean", "Python ended, and its parent was told 0.", closed(exit=code(0)), "clean_exit", "certain"),
    Scenario("clean-by-own-account", "It closed its file; nobody noted the exit code.", closed(), "clean_exit",
             "likely"),
    Scenario(
        "clean-unrecorded", "The same without a recorder.", closed(boxed=False), "clean_exit", "likely",
        never=("uncaught_exception",),
    ),
    Scenario(
        "sigterm-handled", "SIGTERM from the parent, which the program handled by leaving.",
        closed(exit=code(0, signals=sent((TERM, 2))), events=(said("got SIGTERM", 2, "log"),)),
        "clean_exit", "certain", never=("terminated",),
    ),
    Scenario(
        "clean-with-a-failed-thread", "A thread had failed; the process ended cleanly later.",
        closed(exit=code(0), exceptions=(error("ValueError", "thread"),)), "clean_exit", "certain",
        never=("uncaught_in_thread", "uncaught_exception"),
    ),
    Scenario("sys-exit-1", "sys.exit(1).", closed(exit=code(1)), "exit_code", "certain", says=("exit code 1",)),
    Scenario(
        "sys-exit-1-recorded", "sys.exit(1), seen as SystemExit.",
        closed(exit=code(1), exceptions=(error("SystemExit"),)),
        "exit_code", "certain", never=("uncaught_exception",),
    ),
    Scenario(
        "exit-1-unrecorded", "Exit code 1 of a process without a recorder.", closed(exit=code(1), boxed=False),
        "exit_code", "certain", also=("uncaught_exception",),
    ),
    Scenario("exit-143", "A SIGTERM handler that leaves with 128 + 15.", closed(exit=code(143)), "exit_code",
             "certain"),
    Scenario(
        "os-exit-3", "os._exit(3).", died(exit=code(3)), "os_exit", "certain", says=("exit code 3",),
        never=("exit_code",)
    ),
    Scenario("os-exit-0", "os._exit(0), as Celery's children do.", died(exit=code(0)), "os_exit", "certain",
             never=("clean_exit",)),
    Scenario(
        "os-exit-busy", "os._exit(1) within a request.", died(exit=code(1), activities=(busy(0.3),)), "os_exit",
        "certain",
        says=("in the middle of GET /report for 0.3 s",),
    ),
    # Exceptions.
    Scenario(
        "uncaught", "An exception that nobody caught in the main thread.",
        closed(exit=code(1), exceptions=(error("ValueError"),)), "uncaught_exception", "certain",
        says=("ValueError: no such page", "main thread"), never=("exit_code", "clean_exit"),
    ),
    Scenario(
        "uncaught-unwaited", "The same, and nobody noted the exit code.", closed(exceptions=(error("app.Boom"),)),
        "uncaught_exception", "certain", never=("clean_exit",),
    ),
    Scenario(
        "uncaught-in-child", "The same in a child of multiprocessing, which leaves by os._exit(1).",
        died(exit=code(1), exceptions=(error("ValueError"),)), "uncaught_exception", "certain", never=UNTOLD,
    ),
    Scenario(
        "uncaught-then-nothing", "Uncaught, then dead without closing its file.",
        died(exceptions=(error("ValueError"),)),
        "uncaught_exception", "likely", also=("killed",), never=("crashed", "terminated"),
    ),
    Scenario(
        "uncaught-then-killed", "Uncaught in the main thread while others kept it alive, then killed.",
        died(exit=by(KILL), exceptions=(error("ValueError", seconds=40),)), "killed", "certain",
        also=("uncaught_exception",),
    ),
    Scenario(
        "uncaught-own-code", "Uncaught, with an excepthook that leaves with 70.",
        died(exit=code(70), exceptions=(error("ValueError"),)), "uncaught_exception", "likely", also=("os_exit",),
    ),
    Scenario(
        "ctrl-c", "Ctrl-C.", closed(exit=by(INT), exceptions=(error("KeyboardInterrupt", message=""),)), "interrupted",
        "certain", never=("uncaught_exception", "signal"),
    ),
    Scenario("sigint", "SIGINT with its default action.", died(exit=by(INT)), "interrupted", "certain"),
    Scenario(
        "failed-thread", "A thread failed, and the process was killed right after.",
        died(exit=by(KILL), exceptions=(error("KeyError", "thread"),)), "killed", "certain",
        also=("uncaught_in_thread",),
        never=("uncaught_exception",),
    ),
    Scenario(
        "failed-greenlet", "A greenlet failed; then sys.exit(2).",
        closed(exit=code(2), exceptions=(error("KeyError", "greenlet"),)), "exit_code", "certain",
        also=("uncaught_in_greenlet",),
    ),
    Scenario(
        "failed-task-long-ago", "A task failed an hour before the end.",
        died(exit=by(KILL), exceptions=(error("KeyError", "task", 3600),)), "killed", "certain",
        never=("uncaught_in_task",),
    ),
    # Out of memory.
    Scenario(
        "rlimit-as", "A MemoryError under RLIMIT_AS that nobody caught.",
        closed(exit=code(1), exceptions=(error("MemoryError", message=""),), address_limit=512 * MIB), "out_of_memory",
        "certain", never=("oom_killed", "uncaught_exception"), says=("MemoryError",), unsaid=("cgroup", "kernel"),
    ),
    Scenario(
        "memory-error-caught", "A MemoryError was caught; then it died without a trace.",
        died(exceptions=(error("MemoryError", "captured"),), address_limit=512 * MIB), "killed", "possible",
        also=("out_of_memory",), never=("oom_killed",), unsaid=("cgroup",),
    ),
    Scenario(
        "oom-certain", "SIGKILL, the cgroup's count rose, and it held most of the limit.",
        died(exit=by(KILL, oom_kills_before=2, oom_kills_after=3, max_rss=500 * MIB), memory_limit=512 * MIB,
             samples=samples(rss=490 * MIB), activities=(busy(2),)),
        "oom_killed", "certain", says=("out of memory", "GET /report for 2.0 s"), never=("killed", "hang"), unsaid=(),
    ),
    Scenario(
        "oom-of-some", "SIGKILL, the count rose, but it held a tenth of the limit: it may have been another's.",
        died(exit=by(KILL, oom_kills_before=2, oom_kills_after=3, max_rss=50 * MIB), memory_limit=512 * MIB),
        "oom_killed", "likely", also=("killed",), unsaid=(),
    ),
    Scenario(
        "oom-no-limit-known", "SIGKILL and a count that rose, with nothing known of sizes.",
        died(exit=by(KILL, oom_kills_before=0, oom_kills_after=1)), "oom_killed", "likely", also=("killed",), unsaid=(),
    ),
    Scenario(
        "oom-unwaited", "No exit status; the count rose between its start and now.",
        died(oom_kills_start=0, oom_kills_found=1), "oom_killed", "likely", also=("killed",), never=("crashed",),
        unsaid=(),
    ),
    Scenario(
        "oom-near", "No exit status and no counts; 95 % of the limit in the last sample.",
        died(samples=samples(rss=486.4 * MIB), memory_limit=512 * MIB), "oom_killed", "possible", also=UNTOLD,
        unsaid=(),
    ),
    Scenario(
        "oom-excluded", "SIGKILL near the limit, but the count stood still.",
        died(exit=by(KILL, oom_kills_before=3, oom_kills_after=3), samples=samples(rss=500 * MIB),
             memory_limit=512 * MIB),
        "killed", "certain", never=("oom_killed",), unsaid=(),
    ),
    Scenario(
        "oom-of-another", "The count rose, but it left with an exit code.",
        died(exit=code(3, oom_kills_before=0, oom_kills_after=1)), "os_exit", "certain", never=("oom_killed",),
    ),
    Scenario(
        "oom-or-parent", "The count rose, but its parent itself sent SIGKILL.",
        died(exit=by(KILL, oom_kills_before=0, oom_kills_after=1, signals=sent((KILL, 0.1)))), "killed_by_parent",
        "certain", also=("oom_killed",), unsaid=(),
    ),
    Scenario("oom-far-from", "No exit status and no counts; half of the limit in the last sample.",
             died(samples=samples(rss=256 * MIB), memory_limit=512 * MIB), "killed", "possible", also=UNTOLD,
             never=("oom_killed",)),
    # Killed.
    Scenario(
        "kill-9", "kill -9 in the middle of a request, by somebody unknown.",
        died(exit=by(KILL), activities=(busy(1.5),)), "killed", "certain",
        says=("SIGKILL", "who sent it can't be told", "GET /report for 1.5 s"),
        never=("hang", "killed_by_parent", "oom_killed"),
    ),
    Scenario(
        "kill-9-idle", "kill -9 of a server that waited for requests all the time.",
        died(exit=by(KILL), heartbeat=ago(0.5), samples=samples()), "killed", "certain", never=("hang",),
    ),
    Scenario(
        "kill-9-status-alone", "The parent noted the status and nothing else.", died(exit=Exit(status=9, time=0)),
        "killed",
        "certain", unsaid=("memory", "noted no"),
    ),
    Scenario(
        "kill-9-nested", "kill -9 in a query within a job.",
        died(exit=by(KILL), activities=(busy(3, "job"), busy(0.4, "query", depth=1))), "killed", "certain",
        says=("in the middle of job for 3.0 s, and in that query for 0.4 s",),
    ),
    Scenario(
        "killed-by-parent", "Its parent sent SIGKILL.", died(exit=by(KILL, signals=sent((KILL, 0.1)))),
        "killed_by_parent",
        "certain", never=("killed", "worker_timeout"), says=("Its parent (pid 10)",),
    ),
    Scenario(
        "killed-after-sigterm", "Its parent sent SIGTERM, waited, and sent SIGKILL.",
        died(exit=by(KILL, parent_service="web", signals=sent((TERM, 30.1), (KILL, 0.1)))), "killed_by_parent",
        "certain",
        says=("Its parent web (pid 10)", "30 s after a SIGTERM"),
    ),
    Scenario("sigterm", "SIGTERM that nobody handled.", died(exit=by(TERM)), "terminated", "certain",
             never=("killed",)),
    Scenario(
        "sigterm-by-parent", "The same, sent by its parent.", died(exit=by(TERM, signals=sent((TERM, 0.1)))),
        "terminated",
        "certain", says=("parent",),
    ),
    Scenario(
        "sigterm-in-long-work", "SIGTERM in a job of an hour, as of a deployment.",
        died(exit=by(TERM), activities=(busy(3000, "import"),)), "terminated", "certain", also=("hang",),
    ),
    Scenario("sigusr2", "SIGUSR2, which gunicorn sets back.", died(exit=by(signal.SIGUSR2)), "signal", "certain",
             says=("SIGUSR2",)),
    Scenario("sigrt", "A real-time signal.", died(exit=by(40)), "signal", "certain", says=("signal 40",)),
    Scenario("closed-then-killed", "Killed while the interpreter shut down.", closed(closed=ago(5), exit=by(KILL)),
             "killed",
             "certain", never=("clean_exit",)),
    # Timeouts and hangs.
    Scenario(
        "gunicorn-timeout", "gunicorn's timeout: SIGABRT, which did not help, then SIGKILL.",
        died(exit=by(KILL, **GUNICORN), activities=(busy(31),), heartbeat=ago(0.5)), "worker_timeout", "certain",
        also=("hang",), never=("killed",),
        says=("its parent gunicorn (pid 10) because of a timeout", "in the middle of GET /report for 31 s"),
    ),
    Scenario(
        "gunicorn-timeout-exit-1", "The same, and the worker left by itself after SIGABRT.",
        closed(exit=code(1, parent_service="gunicorn", signals=sent((ABRT, 0.5))),
             events=(said("gunicorn.worker_abort", 0.4),)),
        "worker_timeout", "certain", never=("exit_code", "clean_exit"),
    ),
    Scenario(
        "gunicorn-timeout-aborted", "The same, with faulthandler taking SIGABRT.",
        died(exit=by(ABRT, parent_service="gunicorn", signals=sent((ABRT, 0.1))), fault=fault("Aborted")),
        "worker_timeout",
        "certain", never=("abort",),
    ),
    Scenario(
        "gunicorn-timeout-hooks", "gunicorn's hooks alone: an event, and no signals noted.",
        died(exit=code(1), events=(said("gunicorn.worker_abort", 0.2),)), "worker_timeout", "likely", also=("os_exit",),
    ),
    Scenario(
        "gunicorn-timeout-log", "A log record of WORKER TIMEOUT, and no parent's note.",
        died(events=(said("WORKER TIMEOUT (pid:11)", 1, "log"),)), "worker_timeout", "likely", also=("killed",),
    ),
    Scenario(
        "gunicorn-shutdown", "gunicorn stopped it: no timeout.",
        died(exit=by(KILL, parent_service="gunicorn", signals=sent((TERM, 30), (KILL, 0.1)))), "killed_by_parent",
        "certain",
        never=("worker_timeout",),
    ),
    Scenario(
        "gunicorn-timeout-survived", "SIGABRT of gunicorn's minutes before it left with 1.",
        closed(exit=code(1, parent_service="gunicorn", signals=sent((ABRT, 300)))), "worker_timeout", "likely",
        also=("exit_code",),
    ),
    Scenario(
        "aborted-by-parent", "SIGABRT from a parent that is no gunicorn.",
        died(exit=by(ABRT, signals=sent((ABRT, 0.1))), fault=fault("Aborted")), "killed_by_parent", "certain",
        never=("worker_timeout", "abort"),
    ),
    Scenario(
        "hang-killed", "kill -9 of a process that did nothing for long in one request.",
        died(exit=by(KILL), activities=(busy(31),), heartbeat=ago(0.5), samples=samples()), "hang", "likely",
        also=("killed",), says=("SIGKILL", "while it hung", "GET /report for 31 s"),
    ),
    Scenario(
        "hang-killed-by-parent", "The same by its parent.",
        died(exit=by(KILL, signals=sent((TERM, 20), (KILL, 0.1))), activities=(busy(31),), heartbeat=ago(0.5)), "hang",
        "likely", also=("killed_by_parent",), says=("its parent",),
    ),
    Scenario(
        "hang-of-the-loop", "The event loop was blocked, while others' requests kept coming in.",
        died(exit=by(KILL), activities=(busy(31), busy(2, "GET /", context=2)), samples=samples(lag=25, cpu=1)), "hang",
        "likely", also=("killed",),
    ),
    Scenario(
        "hang-of-all", "C code held the GIL: not even the sampler ran.",
        died(exit=by(KILL), activities=(busy(31),), heartbeat=ago(30)), "hang", "likely", also=("killed",),
    ),
    Scenario(
        "hang-untold", "A hang, then a death without a trace.", died(activities=(busy(31),), heartbeat=ago(0.5)),
        "hang",
        "likely", also=("killed",), never=("crashed",), says=("at least 30 s", "without a trace"),
    ),
    Scenario(
        "long-work", "kill -9 of a job of an hour whose stats moved until the end.",
        died(exit=by(KILL), activities=(busy(3000, "import"),), samples=samples(moved=("rows",))), "killed", "certain",
        also=("hang",),
    ),
    Scenario(
        "short-in-long", "kill -9 in a short request of a worker whose loop is an activity too.",
        died(exit=by(KILL), activities=(busy(3000, "worker"), busy(0.1, depth=1))), "killed", "certain",
        never=("hang",),
    ),
    # Crashes.
    Scenario(
        "segfault", "SIGSEGV with faulthandler's text.",
        died(exit=by(SEGV | 0x80), fault=fault("Segmentation fault"), activities=(busy(9, "other", thread=5), busy(1))),
        "segmentation_fault", "certain", says=("SIGSEGV", "in the middle of GET /report for 1.0 s"), never=("signal",),
    ),
    Scenario("segfault-untold", "SIGSEGV by the text alone.", died(fault=fault("Segmentation fault")),
             "segmentation_fault",
             "certain", never=UNTOLD),
    Scenario("segfault-no-text", "SIGSEGV by the status alone.", died(exit=by(SEGV), fault_handler=False),
             "segmentation_fault", "certain"),
    Scenario(
        "segfault-of-a-child", "Text of a fault, but it ended cleanly: a forked child's.",
        closed(exit=code(0), fault=fault("Segmentation fault")), "clean_exit", "certain", also=("segmentation_fault",),
    ),
    Scenario(
        "segfault-then-killed", "A crash whose core dump took so long that it was killed.",
        died(exit=by(KILL), fault=fault("Segmentation fault"), activities=(busy(31),)), "segmentation_fault", "likely",
        also=("killed",), never=("hang",),
    ),
    Scenario("segfault-unknown", "Text of a fault in a copied file.",
             died(state="unknown", fault=fault("Segmentation fault")),
             "segmentation_fault", "likely"),
    Scenario("abort", "abort() in C code.", died(exit=by(ABRT), fault=fault("Aborted")), "abort", "certain",
             never=("hang", "worker_timeout")),
    Scenario("abort-after-long-work", "SIGABRT by somebody unknown or of its own, in long work.",
             died(exit=by(ABRT), activities=(busy(31),)), "abort", "certain", also=("hang",)),
    Scenario("abort-no-text", "SIGABRT and no text.", died(exit=by(ABRT), fault_handler=True), "abort", "certain"),
    Scenario("fatal-error", "The interpreter gave up.", died(exit=by(ABRT), fault=fault("deallocating None")), "abort",
             "certain"),
    Scenario("bus-error", "SIGBUS.", died(exit=by(signal.SIGBUS), fault=fault("Bus error")), "bus_error", "certain"),
    Scenario("fpe", "SIGFPE, in the words of 3.11.", died(fault=fault("Floating point exception")),
             "floating_point_exception", "certain"),
    Scenario("fpe-3.14", "SIGFPE, in the words of 3.14.", died(fault=fault("Floating-point exception")),
             "floating_point_exception", "certain"),
    Scenario("illegal", "SIGILL.", died(exit=by(signal.SIGILL)), "illegal_instruction", "certain"),
    Scenario(
        "stack-overflow", "Endless recursion of C calls.",
        died(exit=by(SEGV), fault=fault("Segmentation fault", frames=100)), "stack_overflow", "likely",
        also=("segmentation_fault",), says=("recursion",),
    ),
    Scenario(
        "stack-overflow-told", "Python itself says so.",
        died(exit=by(ABRT), fault=fault("Cannot recover from stack overflow.")),
        "stack_overflow", "certain", never=("abort",),
    ),
    Scenario(
        "deep-but-no-recursion", "A deep stack of many functions.",
        died(exit=by(SEGV), fault=fault("Segmentation fault", frames=100, functions=50)), "segmentation_fault",
        "certain",
        never=("stack_overflow",),
    ),
    # What can't be told.
    Scenario("no-trace", "Dead, and nothing more is known.", died(), "killed", "possible", also=UNTOLD,
             says=("can't be told",),
             never=("oom_killed", "hang", "uncaught_exception", "out_of_memory")),
    Scenario("no-trace-handler", "The same with a fault handler on.", died(fault_handler=True), "killed", "possible",
             also=UNTOLD),
    Scenario("no-trace-unrecorded", "The same without a recorder.", died(boxed=False), "killed", "possible",
             also=UNTOLD),
    Scenario("bad-status", "A wait status that means no end.", died(exit=by(0x137F)), "killed", "possible",
             also=UNTOLD),
    Scenario("machine-stopped", "A file of an earlier boot.", died(truncated_boot=True), "machine_stopped", "likely",
             also=("killed",), never=("crashed",)),
    Scenario("closed-before-boot", "Of an earlier boot, but closed.", closed(truncated_boot=True), "clean_exit",
             "likely",
             never=("machine_stopped",)),
    Scenario("alive", "It lives.", died(state="alive", reason="pid 7 holds its lock", activities=(busy(60),)), "", "",
             says=("alive", "pid 7 holds its lock")),
    Scenario("unknown", "A copied file.",
             died(state="unknown", reason="a copy", exceptions=(error("KeyError", "thread"),)),
             "", "", says=("can't be told", "a copy")),
    Scenario("unknown-but-waited", "A copied file, with a parent's note.", died(state="unknown", exit=by(KILL)),
             "killed",
             "certain"),
)  # fmt: skip
