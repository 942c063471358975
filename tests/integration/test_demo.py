"""The demo is a test as well: gunicorn, gevent, traffic, questions, a SIGKILL, and sums that must agree."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT


def test_the_counters_of_dead_and_living_workers_add_up(tmp_path: Path) -> None:
    missing = [name for name in ("gunicorn", "gevent", "manhole") if importlib.util.find_spec(name) is None]
    if missing:
        message = f"the demo needs {' and '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py")],
        capture_output=True, text=True, timeout=120, env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It adds up: 401 requests, none lost." in done.stdout
    assert "GET /report" in done.stdout
    stacks = done.stdout.partition("What are its threads")[2].partition("Now a loop")[0]
    assert "sleeps" in stacks and "respond" in stacks
    blocked = done.stdout.partition("Now a loop")[2].partition("SIGKILL")[0]
    assert blocked.index("Index.rebuild") < blocked.index("True")
    assert "SIGKILL" in done.stdout.partition("what killed it?")[2]
    assert "Traceback" not in done.stderr
