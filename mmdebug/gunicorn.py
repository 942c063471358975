"""For gunicorn without ``mmdebug run``, in gunicorn.conf.py::

    from mmdebug.gunicorn import child_exit, worker_abort

The import has the arbiter, which loads that file, record how its workers end: gunicorn's hooks are
not told the exit status, so this watches the arbiter's waits. With ``mmdebug run`` none of this
is needed, and does no harm.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from . import children

# The one thing of ours that happens on import: there is no hook that runs early enough in the arbiter alone.
children.watch()


def child_exit(server: Any, worker: Any) -> None:
    """The arbiter waited for a worker: its exit status is in the worker's file by now. Noted as an event."""
    _event("gunicorn.child_exit", "info", worker)


def worker_abort(worker: Any) -> None:
    """The arbiter aborts this worker, since it did not answer within the timeout. Noted as an event."""
    _event("gunicorn.worker_abort", "error", worker)


def _event(name: str, severity: str, worker: Any) -> None:
    try:
        import_module("mmdebug").event(
            name, severity=severity, worker=getattr(worker, "pid", 0), age=getattr(worker, "age", 0)
        )
    except Exception:
        pass  # a worker's end, or the arbiter's work, must not depend on ours
