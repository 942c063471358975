"""What the black box costs: the part of `scripts/bench` that is about mmdebug."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

METHOD = """\
Recorder: as recording, in microseconds. The logging handler: rounds of 1,000 records to a logger
whose only handler is NullHandler, ours, or a FileHandler on tmpfs, in turn; the shortest round of
each, less NullHandler's. Idle: CPU time of a process that sleeps with the recorder on; beside it, as a
measure of how slow this machine wakes up, that of one which does 60 us of work a second. Capture: an
exception of 20 frames with 10 locals each. Post-mortem: medians of whole processes that load and
print the report of a killed one whose rings are full, less a bare interpreter's, in turn."""

#: (name, statement, target in microseconds compiled)
OPERATIONS = (
    ("activity, enter and exit", 'with activity("GET /users/<id>", user=42): pass', 0.25),
    ("event with two fields", 'event("cache.miss", key="k1", size=12)', 0.3),
)


def shortest(function: Callable[[], Any], rounds: int) -> float:
    """Seconds of the shortest of several calls."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def loop(statement: str, names: dict[str, Any], count: int) -> Callable[[], Any]:
    """A function that runs `statement` so many times."""
    source = f"def run():\n for _ in range({count}):\n  {statement}\n"
    exec(compile(source, "bench", "exec"), names)
    run: Callable[[], Any] = names["run"]
    return run


def verbs(rounds: int) -> dict[str, float]:
    """Microseconds of each operation, less an empty loop's."""
    import mmdebug

    assert mmdebug.install(service="bench", interval=3600)
    names: dict[str, Any] = {"activity": mmdebug.activity, "event": mmdebug.event}
    runs = {name: loop(statement, dict(names), 10_000) for name, statement, _ in OPERATIONS}
    runs["empty"] = loop("pass", {}, 10_000)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            best[name] = min(best[name], shortest(run, 1))
    empty = best.pop("empty")
    found = {name: (took - empty) / 10_000 * 1e6 for name, took in best.items()}
    box = mmdebug.process(os.getpid()).box
    assert box is not None
    assert box.events[-1].name == "cache.miss"
    return found


def handler(rounds: int) -> dict[str, float]:
    """Microseconds that our handler and a FileHandler add to what NullHandler costs."""
    import mmdebug
    from mmdebug.logs import Handler

    assert mmdebug.install(service="bench", interval=3600, log_level=None)
    from mmdebug import logs

    logs.configure()
    handlers: dict[str, logging.Handler] = {
        "null": logging.NullHandler(),
        "ours": Handler(),
        "file": logging.FileHandler(os.path.join(os.environ["MMSTATS_PATH"], "bench.log")),
    }
    runs = {}
    for name, found in handlers.items():
        logger = logging.getLogger(f"bench.{name}")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(found)
        runs[name] = loop('log("user %s did %d things", "bob", 3)', {"log": logger.info}, 1000)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            best[name] = min(best[name], shortest(run, 1))
    return {name: (best[name] - best["null"]) * 1e3 for name in ("ours", "file")}


def idle(seconds: float) -> float:
    """Per cent of a CPU that an idle process with the recorder on takes."""
    import mmdebug

    assert mmdebug.install(service="bench")
    time.sleep(1.5)
    start = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - start) / seconds * 100


def control(seconds: float) -> float:
    """Per cent of a CPU that an idle process takes which adds up 2,000 numbers once a second, some 60 us of work."""
    start = time.process_time()
    for _ in range(int(seconds)):
        sum(range(2000))
        time.sleep(1)
    return (time.process_time() - start) / seconds * 100


def capture(rounds: int) -> float:
    """Milliseconds to record an exception of 20 frames with locals."""
    import mmdebug
    from mmdebug import recorder

    recorder.PAUSE = 0.0  # of the same error again, within a second, only the count would be recorded
    assert mmdebug.install(service="bench", interval=3600)

    def fail(depth: int) -> None:
        number, text, listed, mapped, pair = 1, "some text", [1, 2, 3], {"a": 1, "b": [2]}, (1, "x")
        real, nothing, flag, raw = 3.5, None, True, b"raw bytes"
        if depth:
            fail(depth - 1)
        raise LookupError(number, text, listed, mapped, pair, real, nothing, flag, raw)

    try:
        fail(19)
    except LookupError as error:
        found = error
    return shortest(lambda: mmdebug.capture_exception(found), rounds) * 1e3


VICTIM = """
import sys, logging, mmdebug
mmdebug.install(service="bench")
log = logging.getLogger("app")
for number in range(4000):
    mmdebug.event("request", number=number, route="/items/<id>")
    log.warning("slow %s in %d ms", "query", number)
    log.error("failed %d", number)
def fail(depth):
    if depth:
        fail(depth - 1)
    raise LookupError(depth)
for depth in range(12):
    try:
        fail(depth)
    except LookupError:
        mmdebug.capture_exception()
with mmdebug.activity("GET /report", user=42):
    print("ready", flush=True)
    sys.stdin.read()
"""


def postmortem(environment: dict[str, str], rounds: int) -> float:
    """Milliseconds of loading and printing a post-mortem, as a whole process, beyond a bare interpreter's."""
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"ready\n"
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    commands = {"bare": ["-c", "pass"], "report": ["-m", "mmdebug", "postmortem", "bench"]}
    took: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=True)
            assert name == "bare" or b"GET /report" in done.stdout
            if number:  # the first one may have had to write .pyc files
                took[name].append((time.perf_counter() - start) * 1e3)
    median = {name: sorted(several)[len(several) // 2] for name, several in took.items()}
    return median["report"] - median["bare"]
