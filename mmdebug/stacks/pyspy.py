"""The threads of a process that did not opt in, by py-spy where that is installed. It stops the process for some ms."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

from ..errors import AttachError
from . import Frame, Stack, Stacks

#: Seconds that it may take.
PATIENCE = 20.0
#: What is taken of its answer: threads, frames of each, characters of a text.
MAX_THREADS, MAX_FRAMES, MAX_TEXT = 10_000, 200, 400

MISSING = (
    "py-spy shows threads only, with no word on greenlets, tasks or waits: for these the program has to opt in, by"
    " mmdebug.manhole.install() or `mmdebug run --manhole -- COMMAND`"
)


def find() -> str | None:
    """py-spy's path: beside this Python, or else on PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy")


def dump(pid: int, patience: float = PATIENCE) -> Stacks:
    """The threads of process `pid`. Raises `AttachError`, which says what to do."""
    program = find()
    if program is None:
        raise AttachError(
            f"process {pid} has no manhole, and py-spy, which could show its threads, is not installed:"
            " pip install py-spy, or have the program opt in by mmdebug.manhole.install()"
        )
    taken, began = time.time_ns(), time.monotonic()
    command = [program, "dump", "--json", "--full-filenames", "--pid", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=patience, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise AttachError(f"py-spy has not read process {pid} within {patience:g} s: it may be stopped") from error
    except OSError as error:
        raise AttachError(f"{program} can't be run: {error.strerror or error}") from error
    if done.returncode != 0:
        raise AttachError(failure(pid, done.stderr.decode("utf-8", "replace"), os.path.exists(f"/proc/{pid}")))
    return parse(pid, done.stdout, taken, time.monotonic() - began)


def failure(pid: int, said: str, there: bool) -> str:
    """Why py-spy failed, and what to do about it."""
    lowered = said.lower()
    if not there and ("no such" in lowered or "not running" in lowered):
        return f"there is no process {pid}"
    if "permission denied" in lowered or "operation not permitted" in lowered or "os error 1)" in lowered:
        return (
            f"py-spy may not read process {pid}: be root or its user; in a container give it the capability"
            " SYS_PTRACE; where kernel.yama.ptrace_scope is 1 or more, only root may"
        )
    if "python" in lowered and ("not a python" in lowered or "failed to find" in lowered or "version" in lowered):
        return f"py-spy finds no Python that it knows in process {pid}: {_first_line(said)}"
    return f"py-spy can't read process {pid}: {_first_line(said)}"


def _first_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0].removeprefix("Error: ")[:300] if lines else "it says nothing"


def parse(pid: int, output: bytes, taken: int, seconds: float) -> Stacks:
    """What py-spy printed. Raises `AttachError` if that is of another shape. Pure."""
    try:
        found = json.loads(output.decode("utf-8", "replace"))
        if type(found) is not list:
            raise TypeError("no list of threads")
        stacks = [_thread(item) for item in found[:MAX_THREADS]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise AttachError(f"py-spy's answer can't be read; this knows that of 0.3 and 0.4: {error!r}") from error
    main = sorted(stacks, key=lambda stack: "MainThread" not in stack.names)
    return Stacks(pid, taken, seconds, tuple(main), {"thread": len(found)}, (MISSING,), "py-spy")


def _thread(item: Any) -> Stack:
    frames = [_frame(frame) for frame in item["frames"]]
    name, ident = item.get("thread_name"), item.get("thread_id")
    name = name[:MAX_TEXT] if type(name) is str else ""
    if not name and item.get("os_thread_id") == item.get("pid"):
        name = "MainThread"
    return Stack(
        "thread",
        1,
        (name,) if name else (),
        (ident,) if type(ident) is int and ident >= 0 else (),
        tuple(reversed(frames[:MAX_FRAMES])),
        max(len(frames) - MAX_FRAMES, 0),
        running=item.get("active") is True,
    )


def _frame(item: Any) -> Frame:
    file, function, line = item.get("filename"), item.get("name"), item.get("line")
    return Frame(
        file[:MAX_TEXT] if type(file) is str else "?",
        line if type(line) is int and line > 0 else None,
        function[:MAX_TEXT] if type(function) is str else "?",
    )
