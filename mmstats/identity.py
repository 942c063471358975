"""What a process says of itself: its service, and the facts that go into its file, secrets taken out."""

from __future__ import annotations

import _thread
import os
import sys

from . import cells
from .errors import ConfigurationError


def default_service() -> str:
    """The command's name: ``app`` for ``app.py``, the package for ``python -m package``."""
    name = sys.argv[0] if getattr(sys, "argv", None) else ""
    base = os.path.basename(name)
    if base == "-m":
        # At the interpreter's start, as in a sitecustomize, the module is not found yet.
        original = sys.orig_argv
        at = original.index("-m") + 1 if "-m" in original else len(original)
        base = original[at].partition(".")[0] if at < len(original) else ""
    if base == "__main__.py":
        base = os.path.basename(os.path.dirname(os.path.abspath(name)))
    if base.endswith(".py"):
        base = base[:-3]
    return safe_name(base if base not in ("", "-c", "-m") else "python")


def configured_service() -> str:
    name = os.environ.get("MMSTATS_SERVICE", "")
    return name and safe_name(name)


def safe_name(name: str) -> str:
    """`name` as part of a file name: letters, digits, dots, dashes and underscores, 64 at most."""
    safe = "".join([c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name])
    return safe.lstrip(".")[:64] or "python"


def expand(template: str) -> str:
    """Fill in mmstats 0.x's ``{CMD}``, ``{PID}`` and ``{TID}``. Raises `ConfigurationError`."""
    command = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    try:
        return template.format(CMD=command, PID=os.getpid(), TID=_thread.get_native_id())
    except (LookupError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"{template!r} is no name for a file: {{CMD}}, {{PID}} and {{TID}} are filled in, nothing else"
        ) from error


#: Environment variables that say how a process was set up. No others are recorded.
ENVIRONMENT = (
    "GUNICORN_CMD_ARGS", "HOSTNAME", "KUBERNETES_SERVICE_HOST", "LANG", "LC_ALL", "PYTHONMALLOC", "PYTHONPATH",
    "PYTHONUNBUFFERED", "TZ", "VIRTUAL_ENV", "WEB_CONCURRENCY",
)  # fmt: skip
ENVIRONMENT_PREFIXES = ("CELERY_", "GEVENT_", "MMDEBUG_", "MMSTATS_", "OTEL_")

#: Bytes that the command line and the environment may take, each.
MAX_TEXTS = 1024


def identity_texts(service: str) -> list[tuple[str, tuple[str, ...]]]:
    """What a file says of its process, secrets taken out."""
    from . import __version__, redact

    asked = tuple([name.strip() for name in os.environ.get("MMSTATS_ENVIRON", "").split(",") if name.strip()])
    variables = redact.environ(
        {
            name: value
            for name, value in sorted(os.environ.items())
            if name in ENVIRONMENT or name in asked or name.startswith(ENVIRONMENT_PREFIXES)
        }
    )
    uid = os.geteuid() if hasattr(os, "geteuid") else -1
    gid = os.getegid() if hasattr(os, "getegid") else -1
    return [
        ("service", (service,)),
        ("host", (os.uname().nodename if hasattr(os, "uname") else "",)),
        ("uid", (str(uid),)),
        ("gid", (str(gid),)),
        ("parent", (str(os.getppid()) if hasattr(os, "getppid") else "",)),
        ("python", (f"{sys.implementation.name} {sys.version.split()[0]}",)),
        ("mmstats", (__version__,)),
        ("cells", ("compiled" if cells.COMPILED else "uncompiled",)),
        ("argv", _bounded(redact.argv(getattr(sys, "orig_argv", None) or sys.argv))),
        ("environ", _bounded([f"{name}={value}" for name, value in variables.items()])),
        ("executable", (sys.executable or "",)),
    ]


def _bounded(texts: list[str]) -> tuple[str, ...]:
    """As many of `texts` as fit into `MAX_TEXTS`; what is cut is said."""
    kept, used = [], 0
    for number, text in enumerate(texts):
        size = len(text.encode("utf-8", "replace")) + 16
        if used + size > MAX_TEXTS:
            room = max(MAX_TEXTS - used - 64, 0)
            kept.append(text[:room] + f"... [{len(texts) - number} cut]")
            break
        kept.append(text)
        used += size
    return tuple(kept)
